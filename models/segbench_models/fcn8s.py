"""FCN-8s (Long, Shelhamer, Darrell, CVPR 2015, arXiv 1411.4038).

    images -> VGG-16 -> pool3, pool4, pool5 -> fc6 (7x7), fc7 (1x1) as convolutions -> score
    score x2 + score of pool4, x2 + score of pool3, x8 -> logits

As in the paper: dropout of 1/2 after fc6 and fc7, learned x2 upsampling that starts as linear
interpolation, and a fixed last x8. Chosen here: batch norm in VGG (this network starts from random
weights, the paper's from ImageNet's); zero padding of half a kernel instead of 100 pixels around
the image and a crop; 8s at once instead of 32s, 16s, 8s one after the other; and 1024 channels in
fc6 and fc7, which lose nothing against the paper's 4096 in DeepLab-LargeFOV (Chen et al.,
arXiv 1412.7062) and save 93 million parameters.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from segbench_models.dimensions import CONV, LINEAR_UPSAMPLING, MAX_POOL, UP_CONV
from segbench_models.hyperparameters import check_at_least, check_sizes
from segbench_models.nlce import NLCE
from segbench_models.normalization import Normalize
from segbench_models.padding import crop_to, pad_to_multiple
from segbench_models.vgg import vgg16_stages

torch.fx.wrap("pad_to_multiple")
torch.fx.wrap("crop_to")


def build(
    *,
    in_channels: int,
    num_classes: int,
    spatial_dims: int = 2,
    width: int = 64,
    classifier: int = 1024,
    nlce: bool = False,
) -> "FCN8s":
    """FCN-8s on a VGG-16 of `width` channels, with `classifier` channels in fc6 and fc7.

    With `nlce`, an NLCE refines what the two coarsest scores are made of: fc7 and pool4. For one
    channel and two classes the default has 41,462,214 parameters.

    Raises ValueError for sizes below 1 and for dimensions other than 2 and 3.
    """
    check_sizes(in_channels=in_channels, num_classes=num_classes, spatial_dims=spatial_dims)
    check_at_least(1, width=width, classifier=classifier)
    return FCN8s(in_channels, num_classes, spatial_dims, width, classifier, nlce)


class FCN8s(nn.Module):
    """Images (B, C, *spatial) in [0, 1] -> logits (B, K, *spatial)."""

    stride = 32

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        spatial_dims: int,
        width: int,
        classifier: int,
        nlce: bool,
    ) -> None:
        super().__init__()
        conv = CONV[spatial_dims]
        self.upsampling = LINEAR_UPSAMPLING[spatial_dims]
        self.normalize = Normalize(in_channels, spatial_dims)
        self.stages = nn.ModuleList(vgg16_stages(spatial_dims, in_channels, width))
        self.pool = MAX_POOL[spatial_dims](2)
        self.classifier = nn.Sequential(
            conv(8 * width, classifier, 7, padding=3),
            nn.ReLU(inplace=True),
            nn.Dropout(0.5),
            conv(classifier, classifier, 1),
            nn.ReLU(inplace=True),
            nn.Dropout(0.5),
        )
        self.refine7 = NLCE(classifier, spatial_dims=spatial_dims) if nlce else nn.Identity()
        self.refine4 = NLCE(8 * width, spatial_dims=spatial_dims) if nlce else nn.Identity()
        self.score7 = conv(classifier, num_classes, 1)
        self.score4 = conv(8 * width, num_classes, 1)
        self.score3 = conv(4 * width, num_classes, 1)
        self.up7 = linear_doubling(num_classes, spatial_dims)
        self.up4 = linear_doubling(num_classes, spatial_dims)

    def forward(self, images: Tensor) -> Tensor:
        """Scores of three strides, summed from the coarsest up."""
        x = pad_to_multiple(self.normalize(images), self.stride)
        pools = []
        for stage in self.stages:
            x = self.pool(stage(x))
            pools.append(x)
        scores = self.score7(self.refine7(self.classifier(pools[4])))  # stride 32
        scores = self.up7(scores) + self.score4(self.refine4(pools[3]))  # stride 16
        scores = self.up4(scores) + self.score3(pools[2])  # stride 8
        logits = F.interpolate(scores, scale_factor=8.0, mode=self.upsampling, align_corners=False)
        return crop_to(logits, images)


def linear_doubling(channels: int, spatial_dims: int) -> nn.Module:
    """A learned x2 upsampling (B, channels, *spatial), started as linear interpolation."""
    layer = UP_CONV[spatial_dims](channels, channels, 4, stride=2, padding=1, bias=False)
    line = torch.tensor([0.25, 0.75, 0.75, 0.25])
    kernel = line
    for _ in range(spatial_dims - 1):
        kernel = kernel.unsqueeze(-1) * line
    with torch.no_grad():
        layer.weight.zero_()
        for channel in range(channels):
            layer.weight[channel, channel] = kernel
    return layer
