"""The same layer for images (2-D) and volumes (3-D), chosen once when a network is built."""

from torch import nn

CONV: dict[int, type[nn.Conv2d] | type[nn.Conv3d]] = {2: nn.Conv2d, 3: nn.Conv3d}
UP_CONV: dict[int, type[nn.ConvTranspose2d] | type[nn.ConvTranspose3d]] = {
    2: nn.ConvTranspose2d,
    3: nn.ConvTranspose3d,
}
BATCH_NORM: dict[int, type[nn.BatchNorm2d] | type[nn.BatchNorm3d]] = {
    2: nn.BatchNorm2d,
    3: nn.BatchNorm3d,
}
MAX_POOL: dict[int, type[nn.MaxPool2d] | type[nn.MaxPool3d]] = {2: nn.MaxPool2d, 3: nn.MaxPool3d}
LINEAR_UPSAMPLING = {2: "bilinear", 3: "trilinear"}


def conv_norm_relu(
    spatial_dims: int, in_channels: int, out_channels: int, kernel_size: int
) -> nn.Sequential:
    """Size-preserving convolution without bias, batch norm, ReLU: foldable into one layer."""
    return nn.Sequential(
        CONV[spatial_dims](
            in_channels, out_channels, kernel_size, padding=kernel_size // 2, bias=False
        ),
        BATCH_NORM[spatial_dims](out_channels),
        nn.ReLU(inplace=True),
    )
