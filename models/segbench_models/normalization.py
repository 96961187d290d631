"""The first operation of every network here: [0, 1] pixels to roughly zero mean, unit variance."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class Normalize(nn.Module):
    """(images - mean) / std, with one value for all channels or one per channel.

    Mean and std are saved with the weights: a checkpoint keeps the normalisation that it was
    trained with, also where the file that its encoder was initialised from is no longer at hand.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        channels: int,
        spatial_dims: int,
        mean: Sequence[float] = (0.5,),
        std: Sequence[float] = (0.25,),
    ) -> None:
        super().__init__()
        shape = (1, channels, *[1] * spatial_dims)
        column = (1, -1, *[1] * spatial_dims)
        self.register_buffer("mean", torch.tensor(mean).reshape(column).expand(shape).clone())
        self.register_buffer("std", torch.tensor(std).reshape(column).expand(shape).clone())

    def forward(self, images: Tensor) -> Tensor:
        """(B, C, *spatial) -> the same shape."""
        return (images - self.mean) / self.std
