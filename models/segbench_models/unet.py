"""U-Net (Ronneberger, Fischer, Brox, MICCAI 2015, arXiv 1505.04597).

Two departures from the paper, both usual today: convolutions are padded, so logits cover the whole
image, and each is followed by batch norm. The paper's width is 64, and its depth 4.
"""

import torch
from torch import Tensor, nn

from segbench_models.dimensions import CONV, MAX_POOL, UP_CONV, conv_norm_relu
from segbench_models.hyperparameters import check_at_least, check_sizes
from segbench_models.nlce import NLCE
from segbench_models.normalization import Normalize
from segbench_models.padding import crop_to, pad_to_multiple

torch.fx.wrap("pad_to_multiple")
torch.fx.wrap("crop_to")


def build(
    *,
    in_channels: int,
    num_classes: int,
    spatial_dims: int = 2,
    width: int = 32,
    depth: int = 4,
    nlce: bool = False,
) -> "UNet":
    """U-Net with `width` channels at full resolution, doubled at each of `depth` halvings.

    With `nlce`, an NLCE refines the bottleneck and another the deepest skip connection: the two
    places with the most context per position, and few enough positions for the non-local block
    to stay cheap; the shallow skips keep the texture that NLCE is not about.

    For one channel and two classes the default has 7,762,498 parameters, 8,363,522 with NLCE.

    Raises ValueError for sizes below 1 and for dimensions other than 2 and 3.
    """
    check_sizes(in_channels=in_channels, num_classes=num_classes, spatial_dims=spatial_dims)
    check_at_least(1, width=width, depth=depth)
    return UNet(in_channels, num_classes, spatial_dims, width, depth, nlce)


class UNet(nn.Module):
    """Images (B, C, *spatial) in [0, 1] -> logits (B, K, *spatial)."""

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        spatial_dims: int,
        width: int,
        depth: int,
        nlce: bool,
    ) -> None:
        super().__init__()
        widths = [width * 2**level for level in range(depth + 1)]
        self.stride = 2**depth
        self.normalize = Normalize(in_channels, spatial_dims)
        self.pool = MAX_POOL[spatial_dims](2)
        self.down = nn.ModuleList(
            _two_convolutions(spatial_dims, i, o)
            for i, o in zip([in_channels, *widths[:-1]], widths, strict=True)
        )
        self.up = nn.ModuleList(
            UP_CONV[spatial_dims](widths[level + 1], widths[level], 2, 2) for level in range(depth)
        )
        self.merge = nn.ModuleList(_two_convolutions(spatial_dims, 2 * w, w) for w in widths[:-1])
        # One refinement per level; only the two deepest ever do anything.
        self.refine = nn.ModuleList(
            NLCE(w, spatial_dims=spatial_dims) if nlce and level >= depth - 1 else nn.Identity()
            for level, w in enumerate(widths)
        )
        self.head = CONV[spatial_dims](width, num_classes, 1)

    def forward(self, images: Tensor) -> Tensor:
        """Down, then up, one level after the other."""
        x = pad_to_multiple(self.normalize(images), self.stride)
        levels = []
        for level, (down, refine) in enumerate(zip(self.down, self.refine, strict=True)):
            x = down(self.pool(x) if level else x)
            levels.append(refine(x))
        x = levels.pop()
        for up, merge in reversed(list(zip(self.up, self.merge, strict=True))):
            x = merge(torch.cat([levels.pop(), up(x)], dim=1))
        return crop_to(self.head(x), images)


def _two_convolutions(spatial_dims: int, in_channels: int, out_channels: int) -> nn.Sequential:
    return nn.Sequential(
        *conv_norm_relu(spatial_dims, in_channels, out_channels, 3),
        *conv_norm_relu(spatial_dims, out_channels, out_channels, 3),
    )
