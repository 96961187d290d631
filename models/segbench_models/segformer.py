"""SegFormer (Xie, Wang, Yu, Anandkumar, Alvarez, Luo, NeurIPS 2021, arXiv 2105.15203).

    images -> Mix Transformer: four stages at strides 4, 8, 16 and 32, each
              overlapping patch embedding -> (efficient self-attention, mix-FFN) x depth -> norm
    stages -> 1x1 to `width` each -> upsampled to stride 4, concatenated -> 1x1 -> x4 -> logits

Of the paper: the encoders MiT-B0, -B1 and -B2, no position embedding (the 3x3 depthwise
convolution of the mix-FFN sees positions), keys and values from a map reduced R = 8, 4, 2 and 1
times a side, stochastic depth rising to 0.1, dropout of 0.1 before the classes. Chosen here:
torch's epsilon of 1e-5 in every layer norm, cubic kernels and reductions for volumes. Weights start
at random; the paper's start from ImageNet.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from segbench_models.dimensions import CONV, LINEAR_UPSAMPLING, conv_norm_relu
from segbench_models.hyperparameters import check_at_least, check_sizes
from segbench_models.normalization import Normalize
from segbench_models.padding import crop_to, pad_to_multiple

torch.fx.wrap("pad_to_multiple")
torch.fx.wrap("crop_to")

# Channels and depth of each stage, and the width of the paper's decoder.
ENCODERS: dict[str, tuple[tuple[int, ...], tuple[int, ...], int]] = {
    "mit_b0": ((32, 64, 160, 256), (2, 2, 2, 2), 256),
    "mit_b1": ((64, 128, 320, 512), (2, 2, 2, 2), 256),
    "mit_b2": ((64, 128, 320, 512), (3, 4, 6, 3), 768),
}
HEADS = (1, 2, 5, 8)
REDUCTIONS = (8, 4, 2, 1)
EXPANSION = 4
STOCHASTIC_DEPTH = 0.1


def build(
    *,
    in_channels: int,
    num_classes: int,
    spatial_dims: int = 2,
    encoder: str = "mit_b0",
    width: int | None = None,
) -> "SegFormer":
    """SegFormer on a Mix Transformer `encoder`, `width` channels in its decoder.

    The width is the paper's unless given: 256 for mit_b0 and mit_b1, 768 for mit_b2. For one
    channel and two classes the default has 3,711,522 parameters.

    Raises ValueError for an unknown encoder and sizes too small.
    """
    check_sizes(in_channels=in_channels, num_classes=num_classes, spatial_dims=spatial_dims)
    if encoder not in ENCODERS:
        raise ValueError(f"unknown encoder '{encoder}', expected one of {', '.join(ENCODERS)}")
    channels, depths, papers = ENCODERS[encoder]
    width = papers if width is None else width
    check_at_least(1, width=width)
    mit = MixTransformer(channels, depths, in_channels=in_channels, spatial_dims=spatial_dims)
    return SegFormer(mit, in_channels, num_classes, spatial_dims, width)


class SegFormer(nn.Module):
    """Images (B, C, *spatial) in [0, 1] -> logits (B, K, *spatial)."""

    stride = 32

    def __init__(
        self,
        encoder: "MixTransformer",
        in_channels: int,
        num_classes: int,
        spatial_dims: int,
        width: int,
    ) -> None:
        super().__init__()
        conv = CONV[spatial_dims]
        self.upsampling = LINEAR_UPSAMPLING[spatial_dims]
        self.normalize = Normalize(in_channels, spatial_dims)
        self.encoder = encoder
        self.unify = nn.ModuleList(conv(channels, width, 1) for channels in encoder.channels)
        self.fuse = conv_norm_relu(spatial_dims, len(self.unify) * width, width, 1)
        self.classify = nn.Sequential(nn.Dropout(0.1), conv(width, num_classes, 1))

    def forward(self, images: Tensor) -> Tensor:
        """Encode, bring all stages to stride 4, mix."""
        padded = pad_to_multiple(self.normalize(images), self.stride)
        stages = [unify(c) for unify, c in zip(self.unify, self.encoder(padded), strict=True)]
        finest = stages[0].shape[2:]
        # From the coarsest to the finest, as in the authors' code.
        views = [self._resize(stage, finest) for stage in stages[:0:-1]]
        logits = self.classify(self.fuse(torch.cat([*views, stages[0]], dim=1)))
        return crop_to(self._resize(logits, padded.shape[2:]), images)

    def _resize(self, x: Tensor, size: torch.Size) -> Tensor:
        return F.interpolate(x, size=size, mode=self.upsampling, align_corners=False)


class MixTransformer(nn.Module):
    """Images (B, C, *spatial) -> four maps (B, C_i, *spatial / stride) at strides 4, 8, 16, 32.

    `channels` names the C_i. Sizes must be multiples of 32.
    """

    def __init__(
        self,
        channels: tuple[int, ...],
        depths: tuple[int, ...],
        *,
        in_channels: int,
        spatial_dims: int = 2,
    ) -> None:
        super().__init__()
        self.channels = channels
        drops = [STOCHASTIC_DEPTH * i / (sum(depths) - 1) for i in range(sum(depths))]
        self.stages = nn.ModuleList(
            Stage(
                spatial_dims,
                inputs,
                channels[i],
                heads=HEADS[i],
                reduction=REDUCTIONS[i],
                first=i == 0,
                drops=[drops.pop(0) for _ in range(depths[i])],
            )
            for i, inputs in enumerate([in_channels, *channels[:-1]])
        )
        self.apply(_initialise)

    def forward(self, images: Tensor) -> list[Tensor]:
        """The maps of all stages, the finest first."""
        maps = []
        for stage in self.stages:
            images = stage(images)
            maps.append(images)
        return maps


class Stage(nn.Module):
    """(B, C_in, *spatial) -> (B, C, *spatial / 2), of the first / 4."""

    def __init__(
        self,
        spatial_dims: int,
        in_channels: int,
        channels: int,
        *,
        heads: int,
        reduction: int,
        first: bool,
        drops: list[float],
    ) -> None:
        super().__init__()
        kernel, stride = (7, 4) if first else (3, 2)  # larger than the stride: patches overlap
        self.embed = CONV[spatial_dims](in_channels, channels, kernel, stride, kernel // 2)
        self.embed_norm = nn.LayerNorm(channels)
        self.blocks = nn.Sequential(
            *(Block(spatial_dims, channels, heads, reduction, drop) for drop in drops)
        )
        self.norm = nn.LayerNorm(channels)

    def forward(self, x: Tensor) -> Tensor:
        """Embed patches, transform, with channels last in between."""
        tokens = self.embed_norm(self.embed(x).movedim(1, -1))
        out: Tensor = self.norm(self.blocks(tokens)).movedim(-1, 1)
        return out


class Block(nn.Module):
    """Tokens (B, *spatial, C) -> the same: attention, then mix-FFN, each added to its input."""

    def __init__(
        self, spatial_dims: int, channels: int, heads: int, reduction: int, drop: float
    ) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(channels)
        self.attention = EfficientAttention(spatial_dims, channels, heads, reduction)
        self.norm2 = nn.LayerNorm(channels)
        self.ffn = MixFFN(spatial_dims, channels)
        self.drop = StochasticDepth(drop) if drop else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """x + attention(norm(x)), then x + ffn(norm(x))."""
        x = x + self.drop(self.attention(self.norm1(x)))
        out: Tensor = x + self.drop(self.ffn(self.norm2(x)))
        return out


class EfficientAttention(nn.Module):
    """Self-attention whose keys and values are a map R times smaller a side.

    Tokens (B, *spatial, C) -> the same. Of N positions the affinity is N x N / R^dims, and never
    in memory.
    """

    def __init__(self, spatial_dims: int, channels: int, heads: int, reduction: int) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(channels, channels)
        self.key = nn.Linear(channels, channels)
        self.value = nn.Linear(channels, channels)
        self.project = nn.Linear(channels, channels)
        self.reduce: nn.Module = (
            Reduction(spatial_dims, channels, reduction) if reduction > 1 else nn.Identity()
        )

    def forward(self, x: Tensor) -> Tensor:
        """softmax(Q K' / sqrt(C / heads)) V of every head, joined and projected."""
        context = self.reduce(x)
        y = F.scaled_dot_product_attention(
            self._heads(self.query(x)),
            self._heads(self.key(context)),
            self._heads(self.value(context)),
        )  # (B, heads, N, C / heads)
        out: Tensor = self.project(y.transpose(1, 2).reshape(x.shape))
        return out

    def _heads(self, tokens: Tensor) -> Tensor:
        """(B, *spatial, C) -> (B, heads, N, C / heads)."""
        sequence = tokens.reshape(tokens.shape[0], -1, self.heads, tokens.shape[-1] // self.heads)
        return sequence.transpose(1, 2)


class Reduction(nn.Module):
    """Tokens (B, *spatial, C) -> (B, *spatial / R, C) by a convolution of kernel and stride R."""

    def __init__(self, spatial_dims: int, channels: int, factor: int) -> None:
        super().__init__()
        self.conv = CONV[spatial_dims](channels, channels, factor, factor)
        self.norm = nn.LayerNorm(channels)

    def forward(self, tokens: Tensor) -> Tensor:
        """Convolve, norm."""
        out: Tensor = self.norm(self.conv(tokens.movedim(-1, 1)).movedim(1, -1))
        return out


class MixFFN(nn.Module):
    """Tokens (B, *spatial, C) -> the same: linear to 4 C, 3x3 depthwise, GELU, linear back."""

    def __init__(self, spatial_dims: int, channels: int) -> None:
        super().__init__()
        inner = EXPANSION * channels
        self.expand = nn.Linear(channels, inner)
        self.mix = CONV[spatial_dims](inner, inner, 3, padding=1, groups=inner)
        self.contract = nn.Linear(inner, channels)

    def forward(self, tokens: Tensor) -> Tensor:
        """A feed-forward network that sees its neighbours."""
        mixed = self.mix(self.expand(tokens).movedim(-1, 1)).movedim(1, -1)
        out: Tensor = self.contract(F.gelu(mixed))
        return out


class StochasticDepth(nn.Module):
    """In training, a residual (B, ...) times 0 for a share of the cases, else over what is kept.

    Huang et al., "Deep Networks with Stochastic Depth", ECCV 2016, arXiv 1603.09382.
    """

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.keep = 1 - rate

    def forward(self, residual: Tensor) -> Tensor:
        """Each case on its own; the mean stays."""
        if not self.training:
            return residual
        cases = residual.new_empty(residual.shape[0], *[1] * (residual.dim() - 1))
        return residual * cases.bernoulli_(self.keep) / self.keep


def _initialise(module: nn.Module) -> None:
    """The authors': normal, 0.02 wide for linear layers, by fan-out for convolutions."""
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        nn.init.zeros_(module.bias)
    elif isinstance(module, nn.Conv2d | nn.Conv3d):
        fan_out = module.weight[0, 0].numel() * module.out_channels // module.groups
        nn.init.normal_(module.weight, std=math.sqrt(2 / fan_out))
        if module.bias is not None:
            nn.init.zeros_(module.bias)
