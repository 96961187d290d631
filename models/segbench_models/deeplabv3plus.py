"""DeepLabv3+ (Chen, Zhu, Papandreou, Schroff, Adam, ECCV 2018, arXiv 1802.02611).

    images -> ResNet, output stride 16 -> atrous spatial pyramid pooling (1x1; 3x3 at rates 6, 12,
    18; the image's average) -> x4, joined by C2 narrowed to 48 channels -> two 3x3 -> x4 -> logits

Of the paper's encoders this is the ResNet one; its convolutions are plain, not depthwise
separable. Chosen here: ResNet-50 for the paper's 101; no batch norm after the image's average
(see `pyramid_pooling.py`).
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from segbench_models.dimensions import BATCH_NORM, CONV, LINEAR_UPSAMPLING, conv_norm_relu
from segbench_models.encoder_weights import normalized_encoder
from segbench_models.hyperparameters import check_at_least, check_sizes
from segbench_models.nlce import NLCE
from segbench_models.normalization import Normalize
from segbench_models.padding import crop_to, pad_to_multiple
from segbench_models.pyramid_pooling import AVERAGE_POOL
from segbench_models.resnet import ResNetEncoder

torch.fx.wrap("pad_to_multiple")
torch.fx.wrap("crop_to")

RATES = (6, 12, 18)
SKIP_CHANNELS = 48


def build(
    *,
    in_channels: int,
    num_classes: int,
    spatial_dims: int = 2,
    encoder: str = "resnet50",
    encoder_weights: str = "",
    width: int = 256,
    nlce: bool = False,
) -> "DeepLabV3Plus":
    """DeepLabv3+ on a ResNet `encoder`, `width` channels in its pyramid and decoder.

    With `nlce`, an NLCE refines C5 before the pyramid and another C2, its skip.
    `encoder_weights` is a file of torchvision's ImageNet weights. For one channel and two classes
    the default has 40,340,770 parameters.

    Raises ValueError for an unknown encoder, sizes too small, and weights that do not fit.
    """
    check_sizes(in_channels=in_channels, num_classes=num_classes, spatial_dims=spatial_dims)
    check_at_least(1, width=width)
    normalize, backbone = normalized_encoder(
        encoder, encoder_weights, in_channels, spatial_dims, output_stride=16
    )
    return DeepLabV3Plus(normalize, backbone, num_classes, spatial_dims, width, nlce)


class DeepLabV3Plus(nn.Module):
    """Images (B, C, *spatial) in [0, 1] -> logits (B, K, *spatial)."""

    stride = 16

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
        c2, _, _, c5 = encoder.channels
        self.upsampling = LINEAR_UPSAMPLING[spatial_dims]
        self.normalize = normalize
        self.encoder = encoder
        self.refine5 = NLCE(c5, spatial_dims=spatial_dims) if nlce else nn.Identity()
        self.refine2 = NLCE(c2, spatial_dims=spatial_dims) if nlce else nn.Identity()
        self.pyramid = AtrousPyramid(c5, width, spatial_dims)
        self.skip = conv_norm_relu(spatial_dims, c2, SKIP_CHANNELS, 1)
        self.decoder = nn.Sequential(
            *conv_norm_relu(spatial_dims, width + SKIP_CHANNELS, width, 3),
            *conv_norm_relu(spatial_dims, width, width, 3),
            CONV[spatial_dims](width, num_classes, 1),
        )

    def forward(self, images: Tensor) -> Tensor:
        """Encode, pool at every rate, decode with the skip."""
        padded = pad_to_multiple(self.normalize(images), self.stride)
        c2, _, _, c5 = self.encoder(padded)
        x = self._quadruple(self.pyramid(self.refine5(c5)))
        x = torch.cat([x, self.skip(self.refine2(c2))], dim=1)
        return crop_to(self._quadruple(self.decoder(x)), images)

    def _quadruple(self, x: Tensor) -> Tensor:
        return F.interpolate(x, scale_factor=4.0, mode=self.upsampling, align_corners=False)


class AtrousPyramid(nn.Module):
    """Features (B, C, *spatial) -> (B, width, *spatial): five views of them, mixed; dropout 0.1."""

    def __init__(self, channels: int, width: int, spatial_dims: int) -> None:
        super().__init__()
        self.views = nn.ModuleList(
            [
                conv_norm_relu(spatial_dims, channels, width, 1),
                *(_atrous(spatial_dims, channels, width, rate) for rate in RATES),
            ]
        )
        self.average = nn.Sequential(
            AVERAGE_POOL[spatial_dims](1),
            CONV[spatial_dims](channels, width, 1),
            nn.ReLU(inplace=True),
        )
        self.mix = nn.Sequential(
            *conv_norm_relu(spatial_dims, (len(RATES) + 2) * width, width, 1), nn.Dropout(0.1)
        )

    def forward(self, features: Tensor) -> Tensor:
        """All views side by side, then one 1x1 convolution over them."""
        views = [view(features) for view in self.views]
        average = self.average(features).expand_as(views[0])
        mixed: Tensor = self.mix(torch.cat([*views, average], dim=1))
        return mixed


def _atrous(spatial_dims: int, in_channels: int, out_channels: int, rate: int) -> nn.Sequential:
    """A dilated 3x3 convolution, batch norm, ReLU."""
    conv = CONV[spatial_dims]
    return nn.Sequential(
        conv(in_channels, out_channels, 3, padding=rate, dilation=rate, bias=False),
        BATCH_NORM[spatial_dims](out_channels),
        nn.ReLU(inplace=True),
    )
