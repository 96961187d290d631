"""InvertedNet (Novikov et al., "Fully Convolutional Architectures for Multiclass Segmentation in
Chest Radiographs", IEEE TMI 2018, arXiv 1701.08816).

A U-Net upside down: MANY feature maps at full resolution and half as many after every halving, so
that it has a tenth of U-Net's parameters. The first pooling keeps the resolution (stride 1,
"delayed subsampling"); ELU instead of ReLU; dropout after every convolution; no batch norm.

The paper starts with 256 maps; the default here is 128, since cost at full resolution grows with
the square (`width=256` is the paper's). Not known here and chosen: Gaussian dropout of rate 0.1;
that the delayed pooling is 3x3 with stride 1; upsampling by a 3x3 convolution after nearest
interpolation. The paper trains with losses of its own study, of which Dice did best: ours has it.
"""

import torch
from torch import Tensor, nn

from segbench_models.dimensions import CONV, MAX_POOL
from segbench_models.hyperparameters import check_at_least, check_sizes
from segbench_models.nlce import NLCE
from segbench_models.normalization import Normalize
from segbench_models.padding import crop_to, pad_to_multiple

torch.fx.wrap("pad_to_multiple")
torch.fx.wrap("crop_to")

LEVELS = 5


def build(
    *,
    in_channels: int,
    num_classes: int,
    spatial_dims: int = 2,
    width: int = 128,
    dropout: float = 0.1,
    nlce: bool = False,
) -> "InvertedNet":
    """InvertedNet with `width` feature maps in its first level, halved in each of the four below.

    `dropout` is the rate p of Gaussian dropout: features times 1 + noise of variance p / (1 - p).
    With `nlce`, an NLCE refines the two deepest levels, where positions are fewest. For one
    channel and two classes the default has 982,402 parameters.

    Raises ValueError for a width below 16, a dropout outside [0, 1), and dimensions other than 2
    and 3.
    """
    check_sizes(in_channels=in_channels, num_classes=num_classes, spatial_dims=spatial_dims)
    check_at_least(2 ** (LEVELS - 1), width=width)
    if not 0 <= dropout < 1:
        raise ValueError(f"dropout is {dropout}, expected a rate in [0, 1)")
    return InvertedNet(in_channels, num_classes, spatial_dims, width, dropout, nlce)


class InvertedNet(nn.Module):
    """Images (B, C, *spatial) in [0, 1] -> logits (B, K, *spatial)."""

    stride = 2 ** (LEVELS - 2)  # one of its four poolings keeps the resolution

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        spatial_dims: int,
        width: int,
        dropout: float,
        nlce: bool,
    ) -> None:
        super().__init__()
        widths = [width // 2**level for level in range(LEVELS)]
        pool = MAX_POOL[spatial_dims]
        self.normalize = Normalize(in_channels, spatial_dims)
        self.pool = nn.ModuleList(
            [nn.Identity(), pool(3, 1, padding=1), *(pool(2) for _ in range(LEVELS - 2))]
        )
        self.down = nn.ModuleList(
            _two_convolutions(spatial_dims, i, o, dropout)
            for i, o in zip([in_channels, *widths[:-1]], widths, strict=True)
        )
        self.refine = nn.ModuleList(
            NLCE(w, spatial_dims=spatial_dims) if nlce and level >= LEVELS - 2 else nn.Identity()
            for level, w in enumerate(widths)
        )
        self.up = nn.ModuleList(
            nn.Sequential(
                nn.Upsample(scale_factor=2 if level else 1, mode="nearest"),
                *_convolution(spatial_dims, widths[level + 1], widths[level], dropout),
            )
            for level in range(LEVELS - 1)
        )
        self.merge = nn.ModuleList(
            _two_convolutions(spatial_dims, 2 * w, w, dropout) for w in widths[:-1]
        )
        self.head = CONV[spatial_dims](width, num_classes, 1)

    def forward(self, images: Tensor) -> Tensor:
        """Down, then up, one level after the other."""
        x = pad_to_multiple(self.normalize(images), self.stride)
        levels = []
        for pool, down, refine in zip(self.pool, self.down, self.refine, strict=True):
            x = down(pool(x))
            levels.append(refine(x))
        x = levels.pop()
        for up, merge in reversed(list(zip(self.up, self.merge, strict=True))):
            x = merge(torch.cat([levels.pop(), up(x)], dim=1))
        return crop_to(self.head(x), images)


class GaussianDropout(nn.Module):
    """Features times 1 + noise of variance p / (1 - p) in training (Srivastava et al. 2014)."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.deviation = (rate / (1 - rate)) ** 0.5

    def forward(self, features: Tensor) -> Tensor:
        """The features themselves in evaluation."""
        if not self.training or self.deviation == 0:
            return features
        noisy: Tensor = features * (1 + self.deviation * torch.randn_like(features))
        return noisy


def _convolution(
    spatial_dims: int, in_channels: int, out_channels: int, dropout: float
) -> nn.Sequential:
    """3x3 convolution, ELU, Gaussian dropout; variance-preserving at the start."""
    conv = CONV[spatial_dims](in_channels, out_channels, 3, padding=1)
    nn.init.kaiming_normal_(conv.weight, nonlinearity="relu")
    return nn.Sequential(conv, nn.ELU(inplace=True), GaussianDropout(dropout))


def _two_convolutions(
    spatial_dims: int, in_channels: int, out_channels: int, dropout: float
) -> nn.Sequential:
    return nn.Sequential(
        *_convolution(spatial_dims, in_channels, out_channels, dropout),
        *_convolution(spatial_dims, out_channels, out_channels, dropout),
    )
