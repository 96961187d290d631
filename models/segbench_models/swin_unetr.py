"""Swin UNETR (Hatamizadeh et al., BrainLes 2021, arXiv 2201.01266), by MONAI.

A Swin transformer as the encoder of a U-Net with residual convolutions; attention inside shifted
windows of 7 positions a side. Depths and heads are MONAI's and the paper's.
"""

from segbench_models.hyperparameters import check_at_least, check_multiple, check_sizes
from segbench_models.library_network import LibraryNetwork

SMALLEST = 12  # the first stage has three heads, and its width a part for each


def build(
    *, in_channels: int, num_classes: int, spatial_dims: int = 2, width: int = 24
) -> LibraryNetwork:
    """Swin UNETR with `width` channels (MONAI's feature_size; the paper's is 48).

    Images (B, C, *spatial) in [0, 1] -> logits (B, K, *spatial). For one channel and two classes
    the default has 6,302,228 parameters.

    Raises ValueError for a width that is no multiple of 12, sizes below 1, and dimensions other
    than 2 and 3.
    """
    from monai.networks.nets import SwinUNETR

    check_sizes(in_channels=in_channels, num_classes=num_classes, spatial_dims=spatial_dims)
    check_at_least(1, width=width)
    check_multiple(SMALLEST, width=width)
    network = SwinUNETR(
        in_channels=in_channels,
        out_channels=num_classes,
        feature_size=width,
        spatial_dims=spatial_dims,
    )
    return LibraryNetwork(network, in_channels=in_channels, spatial_dims=spatial_dims, stride=32)
