"""A U-Net as nnU-Net configures it (Isensee et al., Nature Methods 2021, arXiv 1904.08128), by
MONAI's DynUNet.

Two convolutions per level, strided ones for the halvings, instance norm, leaky ReLU, at most 512
channels for images and 320 for volumes, deep supervision in training. What nnU-Net derives from a
data set (patch size, spacing, depth) is chosen here: five levels below full resolution.
"""

from segbench_models.hyperparameters import check_at_least, check_sizes
from segbench_models.library_network import LibraryNetwork

MOST_CHANNELS = {2: 512, 3: 320}


def build(
    *,
    in_channels: int,
    num_classes: int,
    spatial_dims: int = 2,
    width: int = 32,
    depth: int = 5,
    supervision: bool = True,
) -> LibraryNetwork:
    """nnU-Net's U-Net, `width` channels at full resolution, doubled at each of `depth` halvings.

    Images (B, C, *spatial) in [0, 1] -> logits (B, K, *spatial); in training mode and with
    `supervision` (logits, [those of the levels below but the two coarsest]). For one channel and
    two classes the default has 20,612,072 parameters.

    Raises ValueError for a depth below 2, sizes below 1, and dimensions other than 2 and 3.
    """
    from monai.networks.nets import DynUNet

    check_sizes(in_channels=in_channels, num_classes=num_classes, spatial_dims=spatial_dims)
    check_at_least(1, width=width)
    check_at_least(2, depth=depth)
    most = MOST_CHANNELS[spatial_dims]
    network = DynUNet(
        spatial_dims,
        in_channels,
        num_classes,
        kernel_size=[3] * (depth + 1),
        strides=[1] + [2] * depth,
        upsample_kernel_size=[2] * depth,
        filters=[min(width * 2**level, most) for level in range(depth + 1)],
        deep_supervision=supervision and depth > 2,
        deep_supr_num=max(1, depth - 2),
    )
    return LibraryNetwork(
        network, in_channels=in_channels, spatial_dims=spatial_dims, stride=2**depth
    )
