"""CDNN: the convolutional-deconvolutional network for skin lesions (Yuan, arXiv 1703.05165, ISBI
challenge 2017), with its loss and its post-processing (Yuan, Chao, Lo, IEEE TMI 2017).

    images -> 3x3 convolutions, four halvings -> 3x3 deconvolutions, four doublings -> logits

An encoder and a decoder without skip connections. Counted as the paper counts, with poolings and
upsamplings, it has 29 layers: 10 convolutions, 4 poolings, 4 upsamplings, 10 deconvolutions and the
output. The paper fixes the depth, the Jaccard distance as loss and the two thresholds, 0.8 and 0.5.
Not known here and chosen: how the layers are spread (two convolutions per resolution on either
side, batch norm and ReLU after each), the channels (16 doubled per halving), the constant 1 in
the loss. Left out: the paper's extra input channels (hue, saturation, value, lightness), since
gray images have none and the gradient of hue is undefined on gray pixels, which would hide
attacks rather than withstand them.
"""

from typing import Any, Literal

import torch
from torch import Tensor, nn

from segbench_models.dimensions import BATCH_NORM, CONV, MAX_POOL, UP_CONV, conv_norm_relu
from segbench_models.dual_threshold import keep_confident_regions
from segbench_models.hyperparameters import check_at_least, check_sizes
from segbench_models.nlce import NLCE
from segbench_models.normalization import Normalize
from segbench_models.padding import crop_to, pad_to_multiple
from segbench_models.targets import foreground, main_logits

torch.fx.wrap("pad_to_multiple")
torch.fx.wrap("crop_to")

LEVELS = 5


def build(
    *,
    in_channels: int,
    num_classes: int,
    spatial_dims: int = 2,
    width: int = 16,
    regions: Literal["every", "largest"] = "every",
    nlce: bool = False,
) -> "CDNN":
    """CDNN with `width` channels at full resolution, doubled at each of four halvings.

    `regions` says what post-processing keeps of a class: `largest`, the paper's, one region an
    image, right for a lesion; `every`, all regions that pass the high threshold, right for two
    lungs. With `nlce`, an NLCE refines the last features of the encoder and another the first of
    the decoder. For one channel and two classes the default has 2,360,914 parameters.

    Raises ValueError for sizes below 1 and for dimensions other than 2 and 3.
    """
    check_sizes(in_channels=in_channels, num_classes=num_classes, spatial_dims=spatial_dims)
    check_at_least(1, width=width)
    return CDNN(in_channels, num_classes, spatial_dims, width, regions, nlce)


class CDNN(nn.Module):
    """Images (B, C, *spatial) in [0, 1] -> logits (B, K, *spatial)."""

    stride = 2 ** (LEVELS - 1)

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        spatial_dims: int,
        width: int,
        regions: Literal["every", "largest"],
        nlce: bool,
    ) -> None:
        super().__init__()
        widths = [width * 2**level for level in range(LEVELS)]
        self.regions: Literal["every", "largest"] = regions
        self.normalize = Normalize(in_channels, spatial_dims)
        self.pool = MAX_POOL[spatial_dims](2)
        self.convolve = nn.ModuleList(
            nn.Sequential(
                *conv_norm_relu(spatial_dims, i, o, 3), *conv_norm_relu(spatial_dims, o, o, 3)
            )
            for i, o in zip([in_channels, *widths[:-1]], widths, strict=True)
        )
        self.deconvolve = nn.ModuleList(
            nn.Sequential(*_deconv(spatial_dims, i, i), *_deconv(spatial_dims, i, o))
            for i, o in zip(reversed(widths), [*reversed(widths[:-1]), width], strict=True)
        )
        self.refine_encoder = NLCE(widths[-1], spatial_dims=spatial_dims) if nlce else nn.Identity()
        self.refine_decoder = NLCE(widths[-2], spatial_dims=spatial_dims) if nlce else nn.Identity()
        self.upsample = nn.Upsample(scale_factor=2, mode="nearest")
        self.head = CONV[spatial_dims](width, num_classes, 3, padding=1)

    def forward(self, images: Tensor) -> Tensor:
        """Down, then up."""
        x = pad_to_multiple(self.normalize(images), self.stride)
        for level, stage in enumerate(self.convolve):
            x = stage(self.pool(x) if level else x)
        x = self.refine_encoder(x)
        for level, stage in enumerate(self.deconvolve):
            x = stage(self.upsample(x) if level else x)
            if level == 0:
                x = self.refine_decoder(x)
        return crop_to(self.head(x), images)

    def loss(self, outputs: Any, labels: Tensor) -> Tensor:
        """The Jaccard distance, averaged over cases and foreground classes."""
        return jaccard_distance(main_logits(outputs), labels).mean()

    def postprocess(self, logits: Tensor) -> Tensor:
        """Labels (B, *spatial) by the two thresholds; see `dual_threshold.py`."""
        return keep_confident_regions(logits.softmax(1), self.regions)


def jaccard_distance(logits: Tensor, labels: Tensor) -> Tensor:
    """1 - (y.p + 1) / (|y|^2 + |p|^2 - y.p + 1) per case and foreground class, (B, K - 1).

    The 1s, which the paper does not have, keep a slope where the class is absent.
    """
    p, y, _ = foreground(logits, labels)
    p, y = p.flatten(2), y.flatten(2)
    overlap = (p * y).sum(2)
    union = y.square().sum(2) + p.square().sum(2) - overlap
    return 1 - (overlap + 1) / (union + 1)


def _deconv(spatial_dims: int, in_channels: int, out_channels: int) -> nn.Sequential:
    """A 3x3 transposed convolution of stride 1, batch norm, ReLU."""
    return nn.Sequential(
        UP_CONV[spatial_dims](in_channels, out_channels, 3, padding=1, bias=False),
        BATCH_NORM[spatial_dims](out_channels),
        nn.ReLU(inplace=True),
    )
