"""U-Net++ (Zhou et al., DLMIA 2018, arXiv 1807.10165), by MONAI.

Between encoder and decoder lie nested convolutions, so that skips arrive at the decoder's own
level of meaning; every node at full resolution predicts, deeply supervised in training. MONAI's
has four halvings, instance norm and leaky ReLU; its default widths are 32, 32, 64, 128, 256, 32.
"""

from segbench_models.hyperparameters import check_at_least, check_sizes
from segbench_models.library_network import LibraryNetwork


def build(
    *, in_channels: int, num_classes: int, spatial_dims: int = 2, width: int = 32
) -> LibraryNetwork:
    """U-Net++ with `width` channels at full and half resolution, then doubled at each halving.

    Images (B, C, *spatial) in [0, 1] -> logits (B, K, *spatial) of the deepest node; in training
    mode (logits, [those of the three others]). For one channel and two classes the default has
    2,410,312 parameters.

    Raises ValueError for sizes below 1 and for dimensions other than 2 and 3.
    """
    from monai.networks.nets import BasicUNetPlusPlus

    check_sizes(in_channels=in_channels, num_classes=num_classes, spatial_dims=spatial_dims)
    check_at_least(1, width=width)
    network = BasicUNetPlusPlus(
        spatial_dims,
        in_channels,
        num_classes,
        features=(width, width, 2 * width, 4 * width, 8 * width, width),
        deep_supervision=True,
    )
    return LibraryNetwork(
        network, in_channels=in_channels, spatial_dims=spatial_dims, stride=16, main=-1
    )
