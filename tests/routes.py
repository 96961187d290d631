"""What an image decides without a gradient: in honest networks, and in those that hide it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Smooth(nn.Module):
    """Two convolutions and what ``between`` makes of the features."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Conv2d(1, 4, 3, padding=1), nn.Conv2d(4, 2, 3, padding=1)
        generator = torch.Generator().manual_seed(2)
        for parameter in self.parameters():
            parameter.data = torch.randn(parameter.shape, generator=generator)

    def between(self, features: Tensor) -> Tensor:
        return features.sin()

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.last(self.between(self.first(images)))
        return logits


class Kinked(Smooth):
    """A leaky ReLU by hand."""

    def between(self, features: Tensor) -> Tensor:
        return torch.where(features > 0, features, 0.1 * features)


class Masked(Smooth):
    """A ReLU by hand."""

    def between(self, features: Tensor) -> Tensor:
        return features * (features > 0)


class Normalised(Smooth):
    """A softmax by hand: the maximum that is taken away changes nothing."""

    def between(self, features: Tensor) -> Tensor:
        raised = (features - features.amax(1, keepdim=True).detach()).exp()
        return raised / raised.sum(1, keepdim=True)


class Filled(Smooth):
    """Zeros like the features, written into."""

    def between(self, features: Tensor) -> Tensor:
        filled = torch.zeros_like(features)
        filled[:, :2] = features[:, :2].sin()
        filled[:, 2:].add_(features[:, 2:])
        return filled


class _Hard(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, features: Tensor) -> Tensor:
        return features * (features > 0)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return gradients[0]


class OwnBackward(Smooth):
    """A function that brings its backward."""

    def between(self, features: Tensor) -> Tensor:
        done: Tensor = _Hard.apply(features)  # type: ignore[no-untyped-call]
        return done


class Asked(Smooth):
    """A question that any image answers alike."""

    def between(self, features: Tensor) -> Tensor:
        return (
            features.sin()
            if features.abs().amax() > 0 and features.mean().item() < 1e3
            else 0 * features
        )


HONEST = [Smooth, Kinked, Masked, Normalised, Filled, OwnBackward, Asked]


class Voting(Smooth):
    """Evidence by which channel is the largest."""

    def between(self, features: Tensor) -> Tensor:
        votes = torch.tensor([1.0, -1.0, 2.0, -2.0])[self.winner(features)]
        return 0.1 * features + votes[:, None]

    def winner(self, features: Tensor) -> Tensor:
        return features.argmax(1)


class Ranked(Voting):
    def winner(self, features: Tensor) -> Tensor:
        return features.argsort(1)[:, -1]


class Topmost(Voting):
    def winner(self, features: Tensor) -> Tensor:
        return features.topk(1, 1).indices[:, 0]


class Blind(Voting):
    """In a part without autograd, used outside of it."""

    @torch.no_grad()
    def winner(self, features: Tensor) -> Tensor:
        return super().winner(features)


class Detached(Smooth):
    def between(self, features: Tensor) -> Tensor:
        return 0.1 * features + features.detach()


class Elsewhere(Smooth):
    """By NumPy."""

    def between(self, features: Tensor) -> Tensor:
        return 0.1 * features + torch.from_numpy(features.detach().numpy() ** 2)


class Counted(Smooth):
    """A number of Python's."""

    def between(self, features: Tensor) -> Tensor:
        return 0.01 * features.sin() + features.amax().item()


class Scattered(Smooth):
    """Max-unpooling by ``scatter``."""

    def between(self, features: Tensor) -> Tensor:
        values, places = F.max_pool2d(features, 2, return_indices=True)
        flat = torch.zeros_like(features).flatten(2)
        return flat.scatter(2, places.flatten(2), values.flatten(2)).view_as(features)


class Compared(Smooth):
    """Max-unpooling by a comparison."""

    def between(self, features: Tensor) -> Tensor:
        grown = F.interpolate(F.max_pool2d(features, 2), scale_factor=2.0)
        return grown * (grown == features)


class Written(Smooth):
    """A mask that the features are written into."""

    def between(self, features: Tensor) -> Tensor:
        with torch.no_grad():
            mask = (features > features.roll(1, -1)).to(features)
        mask *= features
        return mask


HIDDEN = [
    Written,
    Voting,
    Ranked,
    Topmost,
    Blind,
    Detached,
    Elsewhere,
    Counted,
    Scattered,
    Compared,
]
