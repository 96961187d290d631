"""SLSDeep (Sarker et al., MICCAI 2018, arXiv 1805.10241), with its loss.

    images -> dilated ResNet, C2 (stride 4) ... C5 (stride 8) -> pyramid pooling
    -> upsampled, joined by C3, then by C2 -> logits

The paper fixes the dilated residual encoder, the pyramid pooling block, the skip connections into
the decoder, and the loss: negative log-likelihood plus end-point error. Not known here and chosen:
ResNet-50; pooling to 1, 2, 3 and 6 bins as in PSPNet; the skips of C3 and C2, narrowed to 64
channels; the weight 0.5 of the end-point error.
"""

from collections.abc import Iterable
from typing import Any

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
from segbench_models.targets import IGNORED, foreground, main_logits

torch.fx.wrap("pad_to_multiple")
torch.fx.wrap("crop_to")

SKIP_CHANNELS = 64


def build(
    *,
    in_channels: int,
    num_classes: int,
    spatial_dims: int = 2,
    encoder: str = "resnet50",
    encoder_weights: str = "",
    width: int = 256,
    edge_weight: float = 0.5,
    nlce: bool = False,
) -> "SLSDeep":
    """SLSDeep on a ResNet `encoder`, its decoder `width` channels wide.

    `edge_weight` is that of the end-point error in the loss. With `nlce`, an NLCE refines C5 and
    another C3, the deepest skip. `encoder_weights` is a file of torchvision's ImageNet weights.
    For one channel and two classes the default has 38,661,314 parameters.

    Raises ValueError for an unknown encoder, sizes too small, and weights that do not fit.
    """
    check_sizes(in_channels=in_channels, num_classes=num_classes, spatial_dims=spatial_dims)
    check_at_least(1, width=width)
    if edge_weight < 0:
        raise ValueError(f"edge_weight is {edge_weight:g}, expected 0 or more")
    normalize, backbone = normalized_encoder(
        encoder, encoder_weights, in_channels, spatial_dims, output_stride=8
    )
    return SLSDeep(normalize, backbone, num_classes, spatial_dims, width, edge_weight, nlce)


class SLSDeep(nn.Module):
    """Images (B, C, *spatial) in [0, 1] -> logits (B, K, *spatial)."""

    stride = 8

    def __init__(
        self,
        normalize: Normalize,
        encoder: ResNetEncoder,
        num_classes: int,
        spatial_dims: int,
        width: int,
        edge_weight: float,
        nlce: bool,
    ) -> None:
        super().__init__()
        c2, c3, _, c5 = encoder.channels
        self.edge_weight = edge_weight
        self.upsampling = LINEAR_UPSAMPLING[spatial_dims]
        self.normalize = normalize
        self.encoder = encoder
        self.refine5 = NLCE(c5, spatial_dims=spatial_dims) if nlce else nn.Identity()
        self.refine3 = NLCE(c3, spatial_dims=spatial_dims) if nlce else nn.Identity()
        self.pooling = PyramidPooling(c5, width, spatial_dims)
        self.skip3 = conv_norm_relu(spatial_dims, c3, SKIP_CHANNELS, 1)
        self.skip2 = conv_norm_relu(spatial_dims, c2, SKIP_CHANNELS, 1)
        self.merge3 = conv_norm_relu(spatial_dims, width + SKIP_CHANNELS, width, 3)
        self.merge2 = conv_norm_relu(spatial_dims, width + SKIP_CHANNELS, width, 3)
        self.head = CONV[spatial_dims](width, num_classes, 1)

    def forward(self, images: Tensor) -> Tensor:
        """Encode, pool, decode."""
        padded = pad_to_multiple(self.normalize(images), self.stride)
        c2, c3, _, c5 = self.encoder(padded)
        x = self.pooling(self.refine5(c5))  # stride 8, as is C3
        x = self.merge3(torch.cat([x, self.skip3(self.refine3(c3))], dim=1))
        x = self._double(x)
        x = self.merge2(torch.cat([x, self.skip2(c2)], dim=1))
        return crop_to(self._double(self._double(self.head(x))), images)

    def loss(self, outputs: Any, labels: Tensor) -> Tensor:
        """Negative log-likelihood + edge_weight * end-point error, over pixels that count."""
        logits = main_logits(outputs)
        valid = (labels != IGNORED).sum().clamp(min=1)
        likelihood = F.cross_entropy(logits, labels, ignore_index=IGNORED, reduction="sum") / valid
        return likelihood + self.edge_weight * end_point_error(logits, labels)

    def _double(self, x: Tensor) -> Tensor:
        return F.interpolate(x, scale_factor=2.0, mode=self.upsampling, align_corners=False)


def end_point_error(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean length of the difference between the spatial gradients of prediction and truth.

    |grad p - grad y| over foreground probabilities p (B, K - 1, *spatial) and truths y, gradients
    by forward differences: it grows where edges are missing, blurred or misplaced. A difference
    counts where both of its pixels do.
    """
    p, y, valid = foreground(logits, labels)
    wrong, spatial = p - y, range(2, p.dim())
    inside = _without_last(valid, spatial)
    squared = torch.zeros_like(_without_last(wrong, spatial))
    for axis in spatial:
        if wrong.shape[axis] > 1:
            counts = valid.narrow(axis, 1, valid.shape[axis] - 1)
            change = _without_last(wrong.diff(dim=axis) * counts, [a for a in spatial if a != axis])
            squared = squared + (change * inside) ** 2
    # The root's slope is infinite at 0, where nothing is wrong.
    length = (squared + 1e-12).sqrt() - 1e-6
    return length.sum() / (inside.sum() * p.shape[1]).clamp(min=1)


def _without_last(x: Tensor, axes: Iterable[int]) -> Tensor:
    """x without its last pixel along each axis, where no forward difference is; one stays."""
    for axis in axes:
        x = x.narrow(axis, 0, max(1, x.shape[axis] - 1))
    return x
