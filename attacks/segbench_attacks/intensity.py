"""Plausible changes of intensity: bias field, gamma, contrast, and all three at once."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from segbench.api import Budget, Feedback, Goal, Noise, Objective
from segbench.engine.ball import per_case
from segbench_attacks.losses import named_loss
from segbench_attacks.plausible import Plausible, chosen, pulled_back

DEGREE = 3
_DARK = 1e-6  # of a case's range: below it the slope of a power is not followed

Brightness = Callable[[Tensor, Tensor, float], Tensor]
"""(images (B, C, *spatial), u (B, P) in [-1, 1], level) -> changed images, not yet clipped."""


@dataclass(frozen=True, eq=False)
class Brightened:
    """A change of intensity on a batch; see ``plausible.Change``."""

    objective: Objective
    clean: Tensor
    goal: Goal
    change: Brightness
    level: float

    def images(self, u: Tensor) -> Tensor:
        """The changed images (B, C, *spatial), in [0, 1]."""
        return self.change(self.clean, u, self.level).clamp(0, 1)

    def gradient(self, u: Tensor) -> tuple[Tensor, Feedback, Goal]:
        """Of the soft Jaccard."""
        with torch.enable_grad():
            leaf = u.detach().requires_grad_()
            images = self.images(leaf)
        feedback = self.objective.value_and_grad(images.detach(), _loss, self.goal)
        return pulled_back(images, feedback, leaf, None), feedback, self.goal

    def left(self, u: Tensor) -> Tensor:
        """By the original network."""
        return self.objective.remaining(self.images(u), self.goal)


@dataclass(frozen=True)
class Intensity(Plausible):
    """What the changes of intensity share: the image changes, the truth does not."""

    change: ClassVar[Brightness]

    @staticmethod
    def count(dims: int) -> int:
        """How many parameters it has."""
        return 1

    def run(
        self, objective: Objective, images: Tensor, goal: Goal, budget: Budget, noise: Noise
    ) -> Tensor:
        """The worst images (B, C, *spatial) that were found."""
        change = type(self).change
        changed = [
            Brightened(objective, images, goal, change, level) for level in self.reach(budget)
        ]
        u, of = self.worst(changed, self.count(images.dim() - 2), noise, images)
        return chosen([each.images(u) for each in changed], of)


def _loss(logits: Tensor, goal: Goal) -> Tensor:
    return named_loss("soft-jaccard", logits, goal, 0.0)


def bias_field(images: Tensor, u: Tensor, level: float) -> Tensor:
    """Times exp of a cubic of place that nowhere exceeds ``level``, one for all channels.

    The cubic is a sum of products of Legendre polynomials, as MONAI's; where the sum would exceed 1
    it is scaled to it, so that no pixel changes by more than the factor exp(level).
    """
    basis = _legendre(tuple(images.shape[2:])).to(images)
    cubic = torch.einsum("bp,p...->b...", u, basis)
    cubic = cubic / per_case(cubic.abs().flatten(1).amax(1).clamp_min(1), cubic)
    return images * (level * cubic)[:, None].exp()


def gamma(images: Tensor, u: Tensor, level: float) -> Tensor:
    """An exponent from 1 / level to level, between a case's darkest and brightest pixel."""
    low, span = _range(images)
    share = ((images - low) / span).clamp(_DARK, 1)
    power = share ** per_case(level ** u[:, 0], images)
    return torch.where(images > low + _DARK * span, low + span * power, images)


def contrast(images: Tensor, u: Tensor, level: float) -> Tensor:
    """Every pixel's distance from its case's mean, times a factor from 1 / level to level."""
    mean = images.mean(dim=tuple(range(1, images.dim())), keepdim=True)
    return mean + per_case(level ** u[:, 0], images) * (images - mean)


@dataclass(frozen=True)
class BiasField(Intensity):
    """A smooth field of brightness (coil, heel effect): the worst cubic within the level.

    Sensitivity of a receiver, or an anode's heel: a factor that varies slowly over the image.
    """

    change: ClassVar[Brightness] = staticmethod(bias_field)
    levels: ClassVar[tuple[float, ...]] = (0.1, 0.2, 0.3, 0.4, 0.5)

    @staticmethod
    def count(dims: int) -> int:
        """The polynomials of a degree up to three."""
        return len(_exponents(dims))

    @staticmethod
    def end(like: Tensor) -> Tensor:
        """The whole image brighter: the first polynomial is the constant."""
        end = torch.zeros_like(like)
        end[:, 0] = 1
        return end


@dataclass(frozen=True)
class Gamma(Intensity):
    """The worst exponent of brightness, from one over the level to the level."""

    change: ClassVar[Brightness] = staticmethod(gamma)
    levels: ClassVar[tuple[float, ...]] = (1.25, 1.5, 2, 2.5, 3.5)


@dataclass(frozen=True)
class Contrast(Intensity):
    """The worst factor of contrast, from one over the level to the level."""

    change: ClassVar[Brightness] = staticmethod(contrast)
    levels: ClassVar[tuple[float, ...]] = (1.2, 1.4, 1.7, 2, 2.5)


def _range(images: Tensor) -> tuple[Tensor, Tensor]:
    """The darkest value of each case and the span to its brightest, (B, 1, ..., 1)."""
    flat = images.flatten(1)
    low, high = flat.amin(1), flat.amax(1)
    tiny = torch.finfo(images.dtype).tiny
    return per_case(low, images), per_case((high - low).clamp_min(tiny), images)


def _exponents(dims: int) -> list[tuple[int, ...]]:
    powers = itertools.product(range(DEGREE + 1), repeat=dims)
    return [each for each in powers if sum(each) <= DEGREE]


@lru_cache(maxsize=8)
def _legendre(spatial: tuple[int, ...]) -> Tensor:
    """float64 (P, *spatial): products of Legendre polynomials over [-1, 1] along each axis."""
    axes = [
        np.polynomial.legendre.legvander(np.linspace(-1, 1, length), DEGREE) for length in spatial
    ]
    fields = []
    for powers in _exponents(len(spatial)):
        field = np.ones(())
        for axis, power in zip(axes, powers, strict=True):
            field = np.multiply.outer(field, axis[:, power])
        fields.append(field)
    return torch.from_numpy(np.stack(fields))
