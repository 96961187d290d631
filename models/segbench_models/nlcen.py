"""NLCEN: a pyramid of NLCE-refined ResNet features (He et al., AAAI 2019, arXiv 1904.12181).

    images -> ResNet -> C2..C5 -> NLCE each -> 1x1 lateral -> top-down sum -> 3x3 -> P2..P5
    P2..P5 -> a side prediction each, deeply supervised
    P2..P5 -> bottleneck each -> upsampled to P2, concatenated -> final prediction

The paper leaves open, and this file chooses: batch norm after lateral and smoothing convolutions;
the bottleneck (1x1, 3x3, 1x1 with a shortcut, half the width inside, as in the cascaded pyramid
network); the head (1x1 to `width`, then 3x3 to the classes); align_corners=False; the width of NLCE
on encoders slimmer than ResNet-50 (see `nlce.py`). Its weights of the side losses, learning rate
and schedule are not known here: whoever trains chooses them by validation.
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
from segbench_models.resnet import STRIDE, ResNetEncoder

torch.fx.wrap("pad_to_multiple")
torch.fx.wrap("crop_to")


def build(
    *,
    in_channels: int,
    num_classes: int,
    spatial_dims: int = 2,
    encoder: str = "resnet50",
    encoder_weights: str = "",
    width: int = 256,
    nonlocal_: bool = True,
    encoding: bool = True,
    supervision: bool = True,
) -> "NLCEN":
    """NLCEN on a ResNet `encoder`, with `width` channels at every level of the pyramid.

    The ablations: `nonlocal` and `encoding` are the halves of NLCE, and `supervision` the side
    predictions. `encoder_weights` is a file of torchvision's ImageNet weights (see
    `encoder_weights.py`); the normalisation is then ImageNet's. For one channel and two classes
    the default has 30,949,706 parameters.

    Raises ValueError for an unknown encoder, sizes too small, and weights that do not fit.
    """
    check_sizes(in_channels=in_channels, num_classes=num_classes, spatial_dims=spatial_dims)
    check_at_least(2, width=width)
    normalize, backbone = normalized_encoder(encoder, encoder_weights, in_channels, spatial_dims)
    refine = [
        NLCE(channels, spatial_dims=spatial_dims, nonlocal_=nonlocal_, encoding=encoding)
        for channels in backbone.channels
    ]
    pyramid = Pyramid(backbone.channels, width, spatial_dims)
    return NLCEN(normalize, backbone, refine, pyramid, num_classes, width, supervision)


class NLCEN(nn.Module):
    """Images (B, C, *spatial) in [0, 1] -> logits (B, K, *spatial).

    In training mode and with side predictions: (logits, [side logits of P2, P3, P4, P5]), all
    (B, K, *spatial).
    """

    def __init__(
        self,
        normalize: Normalize,
        encoder: ResNetEncoder,
        refine: list[NLCE],
        pyramid: "Pyramid",
        num_classes: int,
        width: int,
        supervision: bool,
    ) -> None:
        super().__init__()
        spatial_dims = pyramid.spatial_dims
        self.stride = STRIDE
        self.upsampling = LINEAR_UPSAMPLING[spatial_dims]
        self.normalize = normalize
        self.encoder = encoder
        self.refine = nn.ModuleList(refine)
        self.pyramid = pyramid
        self.side = nn.ModuleList(
            CONV[spatial_dims](width, num_classes, 1) for _ in refine if supervision
        )
        self.bottleneck = nn.ModuleList(Bottleneck(width, spatial_dims) for _ in refine)
        self.head = nn.Sequential(
            *conv_norm_relu(spatial_dims, len(refine) * width, width, 1),
            CONV[spatial_dims](width, num_classes, 3, padding=1),
        )

    def forward(self, images: Tensor) -> Tensor | tuple[Tensor, list[Tensor]]:
        """Logits, and in training the side logits."""
        padded = pad_to_multiple(self.normalize(images), self.stride)
        features = self.encoder(padded)  # C2..C5
        levels = self.pyramid([nlce(c) for nlce, c in zip(self.refine, features, strict=True)])
        mixed = [bottleneck(p) for bottleneck, p in zip(self.bottleneck, levels, strict=True)]
        finest = mixed[0].shape[2:]
        mixed = [mixed[0], *(self._resize(m, finest) for m in mixed[1:])]
        size = padded.shape[2:]
        logits = crop_to(self._resize(self.head(torch.cat(mixed, dim=1)), size), images)
        if not self.training or not self.side:
            return logits
        sides = [side(p) for side, p in zip(self.side, levels, strict=True)]
        return logits, [crop_to(self._resize(s, size), images) for s in sides]

    def _resize(self, x: Tensor, size: torch.Size) -> Tensor:
        return F.interpolate(x, size=size, mode=self.upsampling, align_corners=False)


class Pyramid(nn.Module):
    """The top-down path: [C2, C3, C4, C5] -> [P2, P3, P4, P5], each of `width` channels."""

    def __init__(self, channels: list[int], width: int, spatial_dims: int) -> None:
        super().__init__()
        self.spatial_dims = spatial_dims
        self.upsampling = LINEAR_UPSAMPLING[spatial_dims]
        conv, norm = CONV[spatial_dims], BATCH_NORM[spatial_dims]
        self.lateral = nn.ModuleList(
            nn.Sequential(conv(c, width, 1, bias=False), norm(width)) for c in channels
        )
        self.smooth = nn.ModuleList(conv_norm_relu(spatial_dims, width, width, 3) for _ in channels)

    def forward(self, features: list[Tensor]) -> list[Tensor]:
        """From the coarsest level down: upsample, add, smooth."""
        laterals = [lateral(c) for lateral, c in zip(self.lateral, features, strict=True)]
        merged = [laterals.pop()]
        while laterals:
            finer = laterals.pop()
            above = F.interpolate(
                merged[0], size=finer.shape[2:], mode=self.upsampling, align_corners=False
            )
            merged.insert(0, finer + above)
        return [smooth(p) for smooth, p in zip(self.smooth, merged, strict=True)]


class Bottleneck(nn.Module):
    """(B, width, *spatial) -> the same: 1x1, 3x3, 1x1 convolutions and a shortcut."""

    def __init__(self, width: int, spatial_dims: int) -> None:
        super().__init__()
        self.residual = nn.Sequential(
            *conv_norm_relu(spatial_dims, width, width // 2, 1),
            *conv_norm_relu(spatial_dims, width // 2, width // 2, 3),
            CONV[spatial_dims](width // 2, width, 1, bias=False),
            BATCH_NORM[spatial_dims](width),
        )

    def forward(self, x: Tensor) -> Tensor:
        """The ReLU of x plus its residual."""
        return F.relu(x + self.residual(x))
