"""NWCN: network-wise training of convolutional networks (Hwang, Park, MICCAI workshop DLMIA 2017,
arXiv 1708.00710).

    images                        -> network 1 -> p1
    images and softmax p1         -> network 2 -> p2
    images and softmax p2         -> network 3 -> logits

Each network is a small residual network with atrous convolutions. They are trained one after the
other: while one trains, those before it are frozen and those after it are not there.

The paper fixes the atrous residual networks, their few parameters, and the training by networks.
Not known here and chosen: three stages; half resolution inside (a 3x3 convolution of stride 2, and
linear upsampling of the logits); eight residual blocks of two 3x3 convolutions with dilations 1,
1, 2, 2, 4, 4, 8, 8; 32 channels.
"""

from collections.abc import Sequence
from typing import Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from segbench_models.dimensions import BATCH_NORM, CONV, LINEAR_UPSAMPLING
from segbench_models.hyperparameters import check_at_least, check_sizes
from segbench_models.nlce import NLCE
from segbench_models.normalization import Normalize
from segbench_models.padding import crop_to, pad_to_multiple

torch.fx.wrap("pad_to_multiple")
torch.fx.wrap("crop_to")

DILATIONS = (1, 1, 2, 2, 4, 4, 8, 8)


def build(
    *,
    in_channels: int,
    num_classes: int,
    spatial_dims: int = 2,
    width: int = 32,
    networks: int = 3,
    nlce: bool = False,
) -> "NWCN":
    """NWCN of `networks` networks with `width` channels each.

    With `nlce`, an NLCE refines the last features of every network; they are at half the image's
    resolution, so its non-local half is costly on large images. For one channel and two classes
    the default has 447,846 parameters.

    Raises ValueError for sizes below 1 and for dimensions other than 2 and 3.
    """
    check_sizes(in_channels=in_channels, num_classes=num_classes, spatial_dims=spatial_dims)
    check_at_least(1, width=width, networks=networks)
    return NWCN(in_channels, num_classes, spatial_dims, width, networks, nlce)


class NWCN(nn.Module):
    """Images (B, C, *spatial) in [0, 1] -> logits (B, K, *spatial) of the last network.

    It brings its training stages (`segbench.api.BringsStages`). Until a stage is entered all
    networks are there and trainable, so a loaded checkpoint is complete.
    """

    stride = 2

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        spatial_dims: int,
        width: int,
        networks: int,
        nlce: bool,
    ) -> None:
        super().__init__()
        self.normalize = Normalize(in_channels, spatial_dims)
        self.networks = nn.ModuleList(
            AtrousNetwork(
                in_channels + (num_classes if number else 0),
                num_classes,
                spatial_dims,
                width,
                nlce,
            )
            for number in range(networks)
        )
        self._last = networks
        self._frozen = 0

    def forward(self, images: Tensor) -> Tensor:
        """Each network sees the image and the probabilities of the one before."""
        x = pad_to_multiple(self.normalize(images), self.stride)
        logits = self.networks[0](x)
        for network in self.networks[1 : self._last]:
            logits = network(torch.cat([x, _probabilities(logits)], dim=1))
        return crop_to(logits, images)

    def stages(self) -> Sequence[str]:
        """One stage per network."""
        return [f"network {number + 1}" for number in range(len(self.networks))]

    def enter_stage(self, stage: str) -> None:
        """Train that network alone, after the ones before it and without the ones behind it."""
        number = list(self.stages()).index(stage)
        self._last, self._frozen = number + 1, number
        for other, network in enumerate(self.networks):
            network.requires_grad_(other == number)
        self.train(self.training)

    def train(self, mode: bool = True) -> Self:
        """As of any module, but that frozen networks stay in evaluation mode."""
        super().train(mode)
        for network in self.networks[: self._frozen]:
            network.eval()
        return self


class AtrousNetwork(nn.Module):
    """(B, C or C + K, *spatial), even sizes -> logits (B, K, *spatial)."""

    def __init__(
        self, in_channels: int, num_classes: int, spatial_dims: int, width: int, nlce: bool
    ) -> None:
        super().__init__()
        conv = CONV[spatial_dims]
        self.upsampling = LINEAR_UPSAMPLING[spatial_dims]
        self.stem = nn.Sequential(
            conv(in_channels, width, 3, 2, padding=1, bias=False),
            BATCH_NORM[spatial_dims](width),
            nn.ReLU(inplace=True),
        )
        self.blocks = nn.Sequential(
            *(AtrousBlock(width, dilation, spatial_dims) for dilation in DILATIONS)
        )
        self.refine = NLCE(width, spatial_dims=spatial_dims) if nlce else nn.Identity()
        self.head = conv(width, num_classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        """At half resolution, upsampled in the end."""
        scores = self.head(self.refine(self.blocks(self.stem(x))))
        return F.interpolate(scores, scale_factor=2.0, mode=self.upsampling, align_corners=False)


class AtrousBlock(nn.Module):
    """(B, width, *spatial) -> the same: two dilated 3x3 convolutions and a shortcut."""

    def __init__(self, width: int, dilation: int, spatial_dims: int) -> None:
        super().__init__()
        conv, norm = CONV[spatial_dims], BATCH_NORM[spatial_dims]
        self.residual = nn.Sequential(
            conv(width, width, 3, padding=dilation, dilation=dilation, bias=False),
            norm(width),
            nn.ReLU(inplace=True),
            conv(width, width, 3, padding=dilation, dilation=dilation, bias=False),
            norm(width),
        )

    def forward(self, x: Tensor) -> Tensor:
        """The ReLU of x plus its residual."""
        return F.relu(x + self.residual(x))


def _probabilities(logits: Tensor) -> Tensor:
    """Softmax over K classes; the sigmoid of a single channel."""
    return logits.sigmoid() if logits.shape[1] == 1 else logits.softmax(1)


torch.fx.wrap("_probabilities")
