"""UNETR (Hatamizadeh et al., WACV 2022, arXiv 2103.10504), by MONAI.

A vision transformer over 16-pixel patches as the encoder of a U-Net. Its position embedding has one
vector per patch, so the network is built for ONE image size: smaller images are padded to it by
repeating their edge, larger ones refused.
"""

from segbench_models.hyperparameters import check_at_least, check_multiple, check_sizes
from segbench_models.library_network import LibraryNetwork

PATCH = 16


def build(
    *,
    in_channels: int,
    num_classes: int,
    spatial_dims: int = 2,
    img_size: int = 256,
    width: int = 16,
    hidden: int = 768,
    heads: int = 12,
) -> LibraryNetwork:
    """UNETR for images of at most `img_size` a side, `width` channels in its decoder.

    Images (B, C, *spatial) in [0, 1] -> logits (B, K, *spatial). The transformer's 12 layers have
    `hidden` channels, four times as many in between, and `heads` attention heads. For one channel
    and two classes the default has 87,333,826 parameters.

    Raises ValueError for an image size that is no multiple of 16, `hidden` that is none of
    `heads`, sizes below 1, and dimensions other than 2 and 3.
    """
    from monai.networks.nets import UNETR

    check_sizes(in_channels=in_channels, num_classes=num_classes, spatial_dims=spatial_dims)
    check_at_least(1, width=width, hidden=hidden, heads=heads, img_size=img_size)
    check_multiple(PATCH, img_size=img_size)
    check_multiple(heads, hidden=hidden)
    network = UNETR(
        in_channels, num_classes, img_size, spatial_dims=spatial_dims,
        feature_size=width, hidden_size=hidden, mlp_dim=4 * hidden, num_heads=heads,
    )  # fmt: skip
    return LibraryNetwork(
        network,
        in_channels=in_channels,
        spatial_dims=spatial_dims,
        stride=PATCH,
        fixed_size=img_size,
    )
