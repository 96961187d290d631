"""`worst/NAME`: the worst that a plausible change of an image can do, within stated limits.

A corruption draws its parameters; here the gradient looks for the worst of them. The change has few
parameters u in [-1, 1], the limits being at the ends and no change at 0, so that the worst of it is
found by gradient steps in that box: from no change, from two opposite ends, and from corners that
are drawn. What counts is the worst image by the score, the unchanged one included: more
severity never leaves more but for the search's own luck. (Intensity and bias: after Chen et al.,
MICCAI 2020, arXiv 2006.13322; geometry: Engstrom et al., ICML 2019, arXiv 1712.02779.)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, Protocol

import torch
from torch import Tensor

from segbench.api import Budget, BudgetKind, Feedback, Goal, Noise
from segbench.errors import UserError
from segbench_attacks.pgd import cosine
from segbench_attacks.severities import SEVERITIES, check_severities, severity_budgets
from segbench_attacks.threshold import left_to_do

FIRST, LAST = 1.0, 0.05  # steps, in a box whose half is 1


class Change(Protocol):
    """A change of images, at one severity, that can be asked about at parameters u (B, P)."""

    def gradient(self, u: Tensor) -> tuple[Tensor, Feedback, Goal]:
        """The loss's gradient by u, the network's answer there, and the goal there."""
        ...

    def left(self, u: Tensor) -> Tensor:
        """What is left to do there (B,), by the original network."""
        ...


@dataclass(frozen=True)
class Plausible:
    """What all share; a subclass says what changes.

    Attributes:
        steps: gradients of each climb.
        restarts: climbs: from no change, from one end, from the other, then from corners drawn.
        severities: which of 1 to 5 to run.
    """

    steps: int = 10
    restarts: int = 3
    severities: tuple[int, ...] = SEVERITIES

    needs: ClassVar[Literal["gradients"]] = "gradients"
    budget_kind: ClassVar[BudgetKind] = "severity"
    levels: ClassVar[tuple[float, ...]]

    def __post_init__(self) -> None:
        check_severities(self.severities)
        for name in ("steps", "restarts"):
            if getattr(self, name) < 1:
                raise UserError(f"{name}={getattr(self, name)} must be at least 1")

    @property
    def budgets(self) -> Sequence[Budget]:
        """One per severity."""
        return severity_budgets(self.severities)

    def level(self, budget: Budget) -> float:
        """How far the change may go at that severity, in its own unit."""
        return self.levels[int(budget.value) - 1]

    def worst(self, change: Change, count: int, noise: Noise, like: Tensor) -> Tensor:
        """The worst parameters (B, count) that were found for images like ``like``."""
        best = like.new_zeros(len(like), count)
        least = change.left(best)
        for restart in range(self.restarts):
            for u in self._climb(change, self._start(restart, best, noise), like):
                left = change.left(u)
                better = left < least
                best = torch.where(better[:, None], u, best)
                least = torch.where(better, left, least)
        return best

    @staticmethod
    def end(like: Tensor) -> Tensor:
        """A far end of the box (B, P): the second climb begins here, the third opposite."""
        return torch.ones_like(like)

    def _start(self, restart: int, like: Tensor, noise: Noise) -> Tensor:
        """Where a climb begins (B, P)."""
        if restart == 0:
            return torch.zeros_like(like)
        if restart <= 2:
            return self.end(like) if restart == 1 else -self.end(like)
        drawn = noise.uniform(restart, like.shape[1:])
        return torch.where(drawn < 0.5, -1.0, 1.0)

    def _climb(self, change: Change, u: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
        """The point with the lowest score by its own logits, and the last."""
        lowest, least = u, like.new_full((len(like),), torch.inf).double()
        for step in range(self.steps):
            gradient, feedback, goal = change.gradient(u)
            here = left_to_do(feedback.logits, goal, structures=goal.structures)
            lowest = torch.where((here < least)[:, None], u, lowest)
            least = torch.minimum(here, least)
            length = cosine(step / self.steps, FIRST, LAST)
            u = (u + length * gradient / _largest(gradient)).clamp(-1, 1)
        return lowest, u


def _largest(gradient: Tensor) -> Tensor:
    """Each case's steepest parameter (B, 1): that one moves by the whole step, others in measure.

    Signs would move a parameter whose gradient is but rounding as far.
    """
    return gradient.abs().amax(1, keepdim=True).clamp_min(torch.finfo(gradient.dtype).tiny)


def pulled_back(images: Tensor, feedback: Feedback, u: Tensor, more: Tensor | None) -> Tensor:
    """The gradient by u of a loss whose gradient by ``images``, made of u, is known.

    ``more`` is what the loss (B,) has of u besides, if anything.
    """
    value = (images * feedback.gradient).sum()
    if more is not None:
        value = value + more.sum()
    (gradient,) = torch.autograd.grad(value, u)
    return torch.where(gradient.isfinite(), gradient, 0.0)
