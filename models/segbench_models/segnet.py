"""SegNet (Badrinarayanan, Kendall, Cipolla, TPAMI 2017, arXiv 1511.00561).

    images -> VGG-16 with batch norm, remembering where each maximum was pooled from
    -> its mirror image: every halving is undone by putting the values back there, zeros elsewhere,
    followed by as many 3x3 convolutions as the encoder had -> logits

The paper's network without change, but that it starts from random weights, not ImageNet's.
"""

import torch
from torch import Tensor, nn

from segbench_models.dimensions import CONV, MAX_POOL, conv_norm_relu
from segbench_models.hyperparameters import check_at_least, check_sizes
from segbench_models.nlce import NLCE
from segbench_models.normalization import Normalize
from segbench_models.padding import crop_to, pad_to_multiple
from segbench_models.vgg import DEPTHS, FACTORS, vgg16_stages

torch.fx.wrap("pad_to_multiple")
torch.fx.wrap("crop_to")

_UNPOOL: dict[int, type[nn.MaxUnpool2d] | type[nn.MaxUnpool3d]] = {
    2: nn.MaxUnpool2d,
    3: nn.MaxUnpool3d,
}


def build(
    *,
    in_channels: int,
    num_classes: int,
    spatial_dims: int = 2,
    width: int = 64,
    nlce: bool = False,
) -> "SegNet":
    """SegNet on a VGG-16 of `width` channels at full resolution.

    With `nlce`, an NLCE refines the encoder's last features and another the decoder's first: the
    two places of U-Net's, for a network without skip connections. For one channel and two classes
    the default has 29,435,074 parameters.

    Raises ValueError for sizes below 1 and for dimensions other than 2 and 3.
    """
    check_sizes(in_channels=in_channels, num_classes=num_classes, spatial_dims=spatial_dims)
    check_at_least(1, width=width)
    return SegNet(in_channels, num_classes, spatial_dims, width, nlce)


class SegNet(nn.Module):
    """Images (B, C, *spatial) in [0, 1] -> logits (B, K, *spatial)."""

    stride = 32

    def __init__(
        self, in_channels: int, num_classes: int, spatial_dims: int, width: int, nlce: bool
    ) -> None:
        super().__init__()
        self.normalize = Normalize(in_channels, spatial_dims)
        self.pool = MAX_POOL[spatial_dims](2, return_indices=True)
        self.unpool = _UNPOOL[spatial_dims](2)
        self.encoder = nn.ModuleList(vgg16_stages(spatial_dims, in_channels, width))
        self.decoder = nn.ModuleList(
            _mirror(spatial_dims, stage, width) for stage in reversed(range(len(DEPTHS)))
        )
        deepest = width * FACTORS[-1]
        self.refine_encoder = NLCE(deepest, spatial_dims=spatial_dims) if nlce else nn.Identity()
        self.refine_decoder = NLCE(deepest, spatial_dims=spatial_dims) if nlce else nn.Identity()
        self.head = CONV[spatial_dims](width, num_classes, 3, padding=1)

    def forward(self, images: Tensor) -> Tensor:
        """Down, remembering the places of the maxima; then up, putting values back there."""
        x = pad_to_multiple(self.normalize(images), self.stride)
        places = []
        for stage in self.encoder:
            x, indices = self.pool(stage(x))
            places.append(indices)
        x = self.refine_encoder(x)
        for number, stage in enumerate(self.decoder):
            x = stage(self.unpool(x, places.pop()))
            if number == 0:
                x = self.refine_decoder(x)
        return crop_to(self.head(x), images)


def _mirror(spatial_dims: int, stage: int, width: int) -> nn.Sequential:
    """The decoder's counterpart of an encoder stage; its last convolution narrows for the next.

    The last counterpart lacks one convolution, which the head takes the place of.
    """
    channels, narrowed = width * FACTORS[stage], width * FACTORS[max(stage - 1, 0)]
    layers: list[nn.Module] = []
    for _ in range(DEPTHS[stage] - 1):
        layers += conv_norm_relu(spatial_dims, channels, channels, 3)
    if stage > 0:
        layers += conv_norm_relu(spatial_dims, channels, narrowed, 3)
    return nn.Sequential(*layers)
