"""Attention U-Net (Oktay et al., MIDL 2018, arXiv 1804.03999), by MONAI.

A U-Net whose skip connections pass a gate: what comes from below weighs every position of a skip
by a number in (0, 1). MONAI's has batch norm and ReLU; depth and width are U-Net's.
"""

from segbench_models.hyperparameters import check_at_least, check_sizes
from segbench_models.library_network import LibraryNetwork


def build(
    *,
    in_channels: int,
    num_classes: int,
    spatial_dims: int = 2,
    width: int = 32,
    depth: int = 4,
    dropout: float = 0.0,
) -> LibraryNetwork:
    """Attention U-Net, `width` channels at full resolution, doubled at each of `depth` halvings.

    Images (B, C, *spatial) in [0, 1] -> logits (B, K, *spatial). For one channel and two classes
    the default has 7,939,778 parameters.

    Raises ValueError for sizes below 1 and for dimensions other than 2 and 3.
    """
    from monai.networks.nets import AttentionUnet

    check_sizes(in_channels=in_channels, num_classes=num_classes, spatial_dims=spatial_dims)
    check_at_least(2, width=width)
    check_at_least(1, depth=depth)
    network = AttentionUnet(
        spatial_dims,
        in_channels,
        num_classes,
        channels=[width * 2**level for level in range(depth + 1)],
        strides=[2] * depth,
        dropout=dropout,
    )
    return LibraryNetwork(
        network, in_channels=in_channels, spatial_dims=spatial_dims, stride=2**depth
    )
