"""A user's own network with what it needs around it: scale, padding, choice of the answer, size."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from segbench.errors import UserError
from segbench.networks.answers import Found, channels_second, pick
from segbench.networks.channels import convert_channels
from segbench.networks.fitting import pad
from segbench.networks.normalize import Normalization
from segbench.networks.probabilities import Kind, invert
from segbench.networks.wishes import Resize


class OwnNetwork(nn.Module):
    """Images (B, C, *spatial) in [0, 1] -> the network's logits (B, K, *spatial)."""

    def __init__(
        self,
        network: nn.Module,
        scale: nn.Module,
        stride: int,
        found: Found,
        alone: bool = False,
        probabilities: Kind | None = None,
        resize: Resize = "bilinear",
    ) -> None:
        super().__init__()
        self.network = network
        self.scale = scale
        self.stride = stride
        self.place, self.layout, self.share = found.place, found.layout, found.share
        self.alone = alone
        self.probabilities = probabilities
        self.resize = resize

    def forward(self, images: Tensor) -> Tensor:
        """Scale, pad, ask, pick, invert, enlarge, crop."""
        padded = self.given(images)
        logits = self.prediction(padded)
        if self.probabilities is not None:
            logits = invert(logits, self.probabilities)
        if self.share > 1:
            logits = enlarge(logits, padded, self.resize)
        return crop(logits, images)

    def given(self, images: Tensor) -> Tensor:
        """Images as the network is shown them: on its own scale, padded."""
        return pad(self.scale(images), self.stride)

    def prediction(self, padded: Tensor) -> Tensor:
        """What it answers about padded images on its own scale, (B, K, *spatial) or smaller."""
        if not self.alone or len(padded) == 1:
            return channels_second(pick(self.network(padded), self.place), self.layout)
        parts = [pick(self.network(image), self.place) for image in torch.split(padded, 1)]
        return channels_second(torch.cat(parts), self.layout)


class Scale(nn.Module):
    """[0, 1] images (B, C, *spatial) on the scale that a network was made for."""

    mean: Tensor
    std: Tensor

    def __init__(self, normalization: Normalization, dims: int) -> None:
        super().__init__()
        column = (1, -1, *[1] * (dims - 2))
        self.channels = normalization.channels
        self.per_image = normalization.per_image
        self.axes = tuple(range(1, dims))
        self.register_buffer("mean", torch.tensor(normalization.mean).reshape(column))
        self.register_buffer("std", torch.tensor(normalization.std).reshape(column))

    def forward(self, images: Tensor) -> Tensor:
        """The same shape, but for the channels where ``--channels`` was given."""
        images = convert_channels(images, self.channels)
        if self.per_image:
            centred = images - images.mean(self.axes, keepdim=True)
            variance = centred.square().mean(self.axes, keepdim=True)
            return centred / (variance + 1e-12).sqrt()
        return (images - self.mean) / self.std


def enlarge(logits: Tensor, images: Tensor, resize: Resize) -> Tensor:
    """Logits (B, K, *smaller) at the size of the images (B, C, *spatial), as is usual."""
    size = images.shape[2:]
    if resize == "nearest":
        return F.interpolate(logits, size)
    volumes = images.dim() == 5
    if volumes and resize == "bicubic":
        raise UserError("--resize-logits bicubic is for images; for volumes give bilinear")
    return F.interpolate(logits, size, mode="trilinear" if volumes else resize, align_corners=False)


def crop(logits: Tensor, images: Tensor) -> Tensor:
    """The part of logits (B, K, *padded) that lies over the images (B, C, *spatial)."""
    for axis in range(2, images.dim()):
        logits = logits.narrow(axis, 0, images.shape[axis])
    return logits


# They branch on shapes: symbolic tracing keeps them as one step.
for _step in ("pad", "crop", "enlarge", "convert_channels"):
    torch.fx.wrap(_step)
