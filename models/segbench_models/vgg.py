"""The convolutions of VGG-16 (Simonyan, Zisserman, ICLR 2015, arXiv 1409.1556), with batch norm.

Five stages of 3x3 convolutions, a halving between one and the next; FCN and SegNet start from it.
The widths are `width` times 1, 2, 4, 8, 8; the paper's `width` is 64.
"""

from torch import nn

from segbench_models.dimensions import conv_norm_relu

DEPTHS = (2, 2, 3, 3, 3)
FACTORS = (1, 2, 4, 8, 8)


def vgg16_stages(spatial_dims: int, in_channels: int, width: int) -> list[nn.Sequential]:
    """Stage i: (B, channels before, *spatial) -> (B, width * FACTORS[i], *spatial)."""
    stages = []
    channels = in_channels
    for depth, factor in zip(DEPTHS, FACTORS, strict=True):
        layers: list[nn.Module] = []
        for _ in range(depth):
            layers += conv_norm_relu(spatial_dims, channels, width * factor, 3)
            channels = width * factor
        stages.append(nn.Sequential(*layers))
    return stages
