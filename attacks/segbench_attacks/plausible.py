"""`worst/NAME`: the worst that a plausible change of an image can do, within stated limits.

A corruption draws its parameters; here the gradient looks for the worst of them. The change has few
parameters u in [-1, 1], the limits being at the ends and no change at 0, so that the worst of it is
found by gradient steps in that box: from no change, and from the worst of two opposite ends, of
corners that are drawn, and of what was found so far. What counts is the worst image by the score,
the unchanged one included.

The limits are nested, and so is the search: at a severity it is the whole search of each smaller
one, step for step, and then two climbs more within its own limits. So more severity never leaves
more, whichever severities are asked for. It takes ``2 * steps * severity`` gradients a case: 20 to
100 by default, half with ``restarts=1``, and a few forwards beside them within the limits of each.
(Intensity and bias: after Chen et al., MICCAI 2020, arXiv 2006.13322; geometry: Engstrom et al.,
ICML 2019, arXiv 1712.02779.)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, Protocol

import torch
from torch import Tensor

from segbench.api import Budget, BudgetKind, Feedback, Goal, Noise
from segbench.engine.ball import per_case
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
        restarts: where climbs may begin: no change, one end, the other, then corners drawn. One
            climb is from no change, and another from that of the rest which leaves least.
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

    def reach(self, budget: Budget) -> Sequence[float]:
        """How far the change may go, in its own unit, at each severity up to that of the budget."""
        return self.levels[: int(budget.value)]

    def worst(
        self, changes: Sequence[Change], count: int, noise: Noise, like: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The worst parameters (B, count) found for images like ``like``, and of which change (B,).

        ``changes`` are the same within ever wider limits; what is done within some of them does
        not depend on how many follow.
        """
        clean = like.new_zeros(len(like), count)
        found = _Found(clean, changes[0].left(clean))
        for place, change in enumerate(changes):
            starts, others = [clean], range(1, self.restarts)
            if others:
                far = [self._start(restart, clean, noise) for restart in others]
                starts.append(found.judge(change, place, [found.u, *far]))
            for start in starts:
                for u in self._climb(change, start, like):
                    found.judge(change, place, [u])
        return found.u, found.of

    @staticmethod
    def end(like: Tensor) -> Tensor:
        """A far end of the box (B, P); the other is opposite."""
        return torch.ones_like(like)

    def _start(self, restart: int, like: Tensor, noise: Noise) -> Tensor:
        """Where a climb may begin (B, P)."""
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


class _Found:
    """Of every case the worst so far.

    Attributes:
        u: its parameters (B, P).
        left: what they leave to do (B,).
        of: the place of the change (B,) that they are parameters of.
    """

    def __init__(self, u: Tensor, left: Tensor) -> None:
        self.u, self.left = u, left
        self.of = torch.zeros(len(u), dtype=torch.int64, device=u.device)

    def judge(self, change: Change, place: int, candidates: Sequence[Tensor]) -> Tensor:
        """Take what is worse than all so far; of every case the worst candidate (B, P)."""
        worst, least = candidates[0], torch.full_like(self.left, torch.inf)
        for u in candidates:
            left = change.left(u)
            worst = torch.where((left < least)[:, None], u, worst)
            least = torch.minimum(left, least)
        better = least < self.left
        self.u = torch.where(better[:, None], worst, self.u)
        self.of = torch.where(better, place, self.of)
        self.left = torch.minimum(self.left, least)
        return worst


def chosen(made: Sequence[Tensor], of: Tensor) -> Tensor:
    """Of every case that one of several (B, ...) whose place ``of`` (B,) says."""
    found = made[0]
    for place, each in enumerate(made):
        found = torch.where(per_case(of == place, each), each, found)
    return found


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
