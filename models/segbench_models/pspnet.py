"""PSPNet (Zhao et al., "Pyramid Scene Parsing Network", CVPR 2017, arXiv 1612.01105).

    images -> ResNet, output stride 8 -> pyramid pooling -> dropout -> 1x1 -> x8 -> logits
    C4 -> 3x3 -> dropout -> 1x1 -> x8 -> auxiliary logits, in training

As in the paper: dropout of 0.1, the auxiliary head on C4 (its weight 0.4 is the recipe's
`aux_weight`). Chosen here: torchvision's ResNet without the deeper stem of the authors' code.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from segbench_models.dimensions import CONV, LINEAR_UPSAMPLING, conv_norm_relu
from segbench_models.encoder_weights import normalized_encoder
from segbench_models.hyperparameters import check_at_least, check_sizes
from segbench_models.nlce import NLCE
from segbench_models.normalization import Normalize
from segbench_models.padding import crop_to, pad_to_multiple
from segbench_models.pyramid_pooling import PyramidPooling
from segbench_models.resnet import ResNetEncoder

torch.fx.wrap("pad_to_multiple")
torch.fx.wrap("crop_to")


def build(
    *,
    in_channels: int,
    num_classes: int,
    spatial_dims: int = 2,
    encoder: str = "resnet50",
    encoder_weights: str = "",
    width: int = 512,
    nlce: bool = False,
) -> "PSPNet":
    """PSPNet on a ResNet `encoder`, `width` channels after its pyramid pooling.

    With `nlce`, an NLCE refines C5 before it is pooled. `encoder_weights` is a file of
    torchvision's ImageNet weights. For one channel and two classes the default has
    48,934,852 parameters.

    Raises ValueError for an unknown encoder, sizes too small, and weights that do not fit.
    """
    check_sizes(in_channels=in_channels, num_classes=num_classes, spatial_dims=spatial_dims)
    check_at_least(2, width=width)
    normalize, backbone = normalized_encoder(
        encoder, encoder_weights, in_channels, spatial_dims, output_stride=8
    )
    return PSPNet(normalize, backbone, num_classes, spatial_dims, width, nlce)


class PSPNet(nn.Module):
    """Images (B, C, *spatial) in [0, 1] -> logits (B, K, *spatial).

    In training mode: (logits, [auxiliary logits]).
    """

    stride = 8

    def __init__(
        self,
        normalize: Normalize,
        encoder: ResNetEncoder,
        num_classes: int,
        spatial_dims: int,
        width: int,
        nlce: bool,
    ) -> None:
        super().__init__()
        _, _, c4, c5 = encoder.channels
        conv = CONV[spatial_dims]
        self.upsampling = LINEAR_UPSAMPLING[spatial_dims]
        self.normalize = normalize
        self.encoder = encoder
        self.refine = NLCE(c5, spatial_dims=spatial_dims) if nlce else nn.Identity()
        self.pooling = PyramidPooling(c5, width, spatial_dims)
        self.head = nn.Sequential(nn.Dropout(0.1), conv(width, num_classes, 1))
        self.auxiliary = nn.Sequential(
            *conv_norm_relu(spatial_dims, c4, width // 2, 3),
            nn.Dropout(0.1),
            conv(width // 2, num_classes, 1),
        )

    def forward(self, images: Tensor) -> Tensor | tuple[Tensor, list[Tensor]]:
        """Logits, and in training the auxiliary ones."""
        padded = pad_to_multiple(self.normalize(images), self.stride)
        _, _, c4, c5 = self.encoder(padded)
        logits = crop_to(self._up(self.head(self.pooling(self.refine(c5)))), images)
        if not self.training:
            return logits
        return logits, [crop_to(self._up(self.auxiliary(c4)), images)]

    def _up(self, x: Tensor) -> Tensor:
        return F.interpolate(x, scale_factor=8.0, mode=self.upsampling, align_corners=False)
