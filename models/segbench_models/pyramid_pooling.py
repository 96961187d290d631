"""Pyramid pooling (Zhao et al., "Pyramid Scene Parsing Network", CVPR 2017, arXiv 1612.01105)."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from segbench_models.dimensions import CONV, LINEAR_UPSAMPLING, conv_norm_relu

AVERAGE_POOL: dict[int, type[nn.AdaptiveAvgPool2d] | type[nn.AdaptiveAvgPool3d]] = {
    2: nn.AdaptiveAvgPool2d,
    3: nn.AdaptiveAvgPool3d,
}
BINS = (1, 2, 3, 6)


class PyramidPooling(nn.Module):
    """Features (B, C, *spatial) -> (B, out, *spatial) that know the whole image.

    Averages over a grid of 1, 2, 3 and 6 bins per axis, each narrowed to C / 4 channels and
    upsampled, are joined to the features and mixed by a 3x3 convolution. The paper has batch norm
    after each narrowing; here a bias takes its place, since the 1-bin average is ONE value per
    image, and the statistics of a small batch of them are noise (and do not exist for a batch of
    one).
    """

    def __init__(self, channels: int, out_channels: int, spatial_dims: int) -> None:
        super().__init__()
        narrow = max(1, channels // len(BINS))
        self.upsampling = LINEAR_UPSAMPLING[spatial_dims]
        self.levels = nn.ModuleList(
            nn.Sequential(
                AVERAGE_POOL[spatial_dims](bins),
                CONV[spatial_dims](channels, narrow, 1),
                nn.ReLU(inplace=True),
            )
            for bins in BINS
        )
        self.mix = conv_norm_relu(spatial_dims, channels + len(BINS) * narrow, out_channels, 3)

    def forward(self, features: Tensor) -> Tensor:
        """Pool, narrow, upsample, join, mix."""
        size = features.shape[2:]
        pooled = [
            F.interpolate(level(features), size=size, mode=self.upsampling, align_corners=False)
            for level in self.levels
        ]
        mixed: Tensor = self.mix(torch.cat([features, *pooled], dim=1))
        return mixed
