"""SegResNet (Myronenko, BrainLes 2018, arXiv 1810.11654), by MONAI.

A residual encoder with group norm and a slim decoder of one block per level; the paper's
variational branch, which only regularises its training, is left out (MONAI's SegResNetVAE).
"""

from segbench_models.hyperparameters import check_at_least, check_multiple, check_sizes
from segbench_models.library_network import LibraryNetwork

GROUPS = 8


def build(
    *,
    in_channels: int,
    num_classes: int,
    spatial_dims: int = 2,
    width: int = 32,
    dropout: float = 0.0,
) -> LibraryNetwork:
    """SegResNet with `width` channels at full resolution, doubled at each of three halvings.

    Images (B, C, *spatial) in [0, 1] -> logits (B, K, *spatial). For one channel and two classes
    the default has 6,298,530 parameters.

    Raises ValueError for a width that is no multiple of its 8 norm groups, sizes below 1, and
    dimensions other than 2 and 3.
    """
    from monai.networks.nets import SegResNet

    check_sizes(in_channels=in_channels, num_classes=num_classes, spatial_dims=spatial_dims)
    check_at_least(1, width=width)
    check_multiple(GROUPS, width=width)
    network = SegResNet(
        spatial_dims,
        init_filters=width,
        in_channels=in_channels,
        out_channels=num_classes,
        dropout_prob=dropout or None,
    )
    return LibraryNetwork(network, in_channels=in_channels, spatial_dims=spatial_dims, stride=8)
