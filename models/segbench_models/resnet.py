"""ResNet encoders (He et al., "Deep Residual Learning", CVPR 2016, arXiv 1512.03385).

The variant is torchvision's: stride in the 3x3 convolution of a bottleneck ("v1.5"), and its
state-dict names, so that published ImageNet weights load. Volumes get the same network with cubic
kernels. With an output stride of 16 or 8 the last one or two stages keep their resolution and
dilate their 3x3 convolutions instead: they compute the same features, at more positions.
"""

from torch import Tensor, nn

from segbench_models.dimensions import BATCH_NORM, CONV, MAX_POOL

STRIDE = 32


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut: ResNet-18 and -34."""

    expansion = 1

    def __init__(
        self,
        spatial_dims: int,
        in_channels: int,
        channels: int,
        stride: int,
        dilations: tuple[int, int] = (1, 1),
    ) -> None:
        super().__init__()
        conv, norm = CONV[spatial_dims], BATCH_NORM[spatial_dims]
        first, second = dilations
        self.conv1 = conv(in_channels, channels, 3, stride, first, first, bias=False)
        self.bn1 = norm(channels)
        self.conv2 = conv(channels, channels, 3, 1, second, second, bias=False)
        self.bn2 = norm(channels)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = _shortcut(spatial_dims, in_channels, channels, stride)

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_channels, *spatial) -> (B, channels * expansion, *spatial / stride)."""
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        summed: Tensor = self.relu(out + self.downsample(x))
        return summed


class Bottleneck(nn.Module):
    """1x1, 3x3, 1x1 convolutions and a shortcut: ResNet-50 and -101."""

    expansion = 4

    def __init__(
        self,
        spatial_dims: int,
        in_channels: int,
        channels: int,
        stride: int,
        dilations: tuple[int, int] = (1, 1),
    ) -> None:
        super().__init__()
        conv, norm = CONV[spatial_dims], BATCH_NORM[spatial_dims]
        out_channels = channels * self.expansion
        first = dilations[0]  # it has one convolution that can dilate
        self.conv1 = conv(in_channels, channels, 1, bias=False)
        self.bn1 = norm(channels)
        self.conv2 = conv(channels, channels, 3, stride, first, first, bias=False)
        self.bn2 = norm(channels)
        self.conv3 = conv(channels, out_channels, 1, bias=False)
        self.bn3 = norm(out_channels)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = _shortcut(spatial_dims, in_channels, out_channels, stride)

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_channels, *spatial) -> (B, channels * expansion, *spatial / stride)."""
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.relu(self.bn2(self.conv2(out)))
        out = self.bn3(self.conv3(out))
        summed: Tensor = self.relu(out + self.downsample(x))
        return summed


def _shortcut(spatial_dims: int, in_channels: int, out_channels: int, stride: int) -> nn.Module:
    """The identity where shapes agree, else torchvision's downsample.0 (conv) and .1 (norm)."""
    if stride == 1 and in_channels == out_channels:
        return nn.Identity()
    return nn.Sequential(
        CONV[spatial_dims](in_channels, out_channels, 1, stride, bias=False),
        BATCH_NORM[spatial_dims](out_channels),
    )


Block = type[BasicBlock] | type[Bottleneck]

ENCODERS: dict[str, tuple[Block, tuple[int, int, int, int]]] = {
    "resnet18": (BasicBlock, (2, 2, 2, 2)),
    "resnet34": (BasicBlock, (3, 4, 6, 3)),
    "resnet50": (Bottleneck, (3, 4, 6, 3)),
    "resnet101": (Bottleneck, (3, 4, 23, 3)),
}


class ResNetEncoder(nn.Module):
    """Images (B, C, *spatial) -> [C2, C3, C4, C5], at strides 4, 8, 16 and 32, at most
    `output_stride`.

    `channels` names their channel counts: 64 to 512 for ResNet-18 and -34, 256 to 2048 for the
    others. Without its classifier a 3-channel ResNet-50 has 23,508,032 parameters.
    """

    def __init__(
        self, name: str, *, in_channels: int, spatial_dims: int = 2, output_stride: int = STRIDE
    ) -> None:
        super().__init__()
        if output_stride not in (8, 16, 32):
            raise ValueError(f"output_stride is {output_stride}, expected 8, 16 or 32")
        if name not in ENCODERS:
            raise ValueError(f"unknown encoder '{name}', expected one of {', '.join(ENCODERS)}")
        block, depths = ENCODERS[name]
        self.conv1 = CONV[spatial_dims](in_channels, 64, 7, 2, padding=3, bias=False)
        self.bn1 = BATCH_NORM[spatial_dims](64)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = MAX_POOL[spatial_dims](3, 2, padding=1)
        widths = [64 * 2**level for level in range(4)]
        self.channels = [width * block.expansion for width in widths]
        inputs = [64, *self.channels[:-1]]
        self.layer1, self.layer2, self.layer3, self.layer4 = (
            _stage(
                block,
                spatial_dims,
                inputs[i],
                widths[i],
                depths[i],
                stride=1 if i == 0 or 4 * 2**i > output_stride else 2,
                dilation=max(1, 4 * 2**i // output_stride),
            )
            for i in range(4)
        )
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Conv3d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, images: Tensor) -> list[Tensor]:
        """[C2, C3, C4, C5] of the images."""
        stem = self.maxpool(self.relu(self.bn1(self.conv1(images))))
        c2 = self.layer1(stem)
        c3 = self.layer2(c2)
        c4 = self.layer3(c3)
        return [c2, c3, c4, self.layer4(c4)]


def _stage(
    block: Block,
    spatial_dims: int,
    in_channels: int,
    width: int,
    depth: int,
    *,
    stride: int,
    dilation: int,
) -> nn.Sequential:
    """`depth` blocks, the first of which changes resolution and channels.

    The convolution that would have strided sees its input as the stage before did: it still has
    that one's dilation, the ones after it have their own.
    """
    out_channels = width * block.expansion
    first = block(spatial_dims, in_channels, width, stride, (max(1, dilation // 2), dilation))
    rest = [
        block(spatial_dims, out_channels, width, 1, (dilation, dilation)) for _ in range(depth - 1)
    ]
    return nn.Sequential(first, *rest)
