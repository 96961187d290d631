"""The networks that benchmarks attack, with random weights: the same in every process.

Each is a factory as `segbench attack -m benchmarks/networks.py:unet32` takes it.
"""

import torch
from torch import nn

from segbench.plugins import registry


def unet32(in_channels: int, num_classes: int, spatial_dims: int) -> nn.Module:
    """The registered U-Net of width 32."""
    return _registered("unet", in_channels, num_classes, spatial_dims, width=32)


def unet16(in_channels: int, num_classes: int, spatial_dims: int) -> nn.Module:
    """The registered U-Net of width 16."""
    return _registered("unet", in_channels, num_classes, spatial_dims, width=16)


def nlcen(in_channels: int, num_classes: int, spatial_dims: int) -> nn.Module:
    """The registered NLCEN, on a ResNet-50."""
    return _registered("nlcen", in_channels, num_classes, spatial_dims)


def segresnet(in_channels: int, num_classes: int, spatial_dims: int) -> nn.Module:
    """MONAI's SegResNet. Its group norms fold into nothing: it shows what remains without."""
    from monai.networks.nets import SegResNet

    with torch.random.fork_rng():
        torch.manual_seed(0)
        return SegResNet(
            spatial_dims=spatial_dims,
            init_filters=16,
            in_channels=in_channels,
            out_channels=num_classes,
        )


def pixel(in_channels: int, num_classes: int, spatial_dims: int) -> nn.Module:
    """One 1x1 convolution: forward and backward cost next to nothing, so all the rest shows."""
    kind = nn.Conv2d if spatial_dims == 2 else nn.Conv3d
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return kind(in_channels, num_classes, 1)


def _registered(
    name: str, in_channels: int, num_classes: int, spatial_dims: int, **parameters: int
) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = registry.load("models", name).factory(
            in_channels=in_channels,
            num_classes=num_classes,
            spatial_dims=spatial_dims,
            **parameters,
        )
    assert isinstance(network, nn.Module)
    return network
