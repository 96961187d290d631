"""Square: random search by squares (Andriushchenko et al., ECCV 2020, arXiv 1912.00049).

Published for classifiers of square images. Here the squares are cubes in volumes, their side is
clamped to the image's shortest edge, and what is raised is a loss summed over the case's pixels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from segbench.api import Budget, BudgetKind, Context, Feedback, Goal, Plan, State
from segbench.engine.ball import per_case
from segbench.errors import UserError
from segbench_attacks.goals import check_goal
from segbench_attacks.losses import named_loss
from segbench_attacks.square_l2 import moved_norm, side_in_l2, tile_side, tiled_start

# From which share of the queries on the share of the image that a square covers is halved again.
_HALVINGS = (0.001, 0.005, 0.02, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8)


@dataclass(frozen=True, eq=False)
class Search(State):
    """A candidate, the best image so far (B, C, *spatial) and its loss (B,)."""

    best: Tensor
    loss: Tensor
    asked: int


@dataclass(frozen=True)
class Square:
    """Vertical stripes of ±eps, then squares of ±eps at random places, kept where the loss rises.

    Only logits are asked for. Each query changes one square (per channel one sign), whose area
    shrinks by the published schedule; a square that would change nothing takes the other signs.
    In L2 squares hold bumps, and take their norm from elsewhere: see ``square_l2.py``.

    Attributes:
        steps: queries per restart.
        restarts: independent searches; the best per case is chosen by the scored metric.
        p_init: share of the image that the first squares cover.
        loss_: what is raised (``loss=margin`` in a spec); losses that fall as pixels flip are none
            to compare images by.
        norm: ``linf`` or ``l2``.
        target: ``empty``, ``shift``, ``class:k`` or ``file:FOLDER`` leads there, and not away
            from the truth.
    """

    steps: int = 1000
    restarts: int = 1
    p_init: float = 0.8
    loss_: Literal["ce", "margin", "dice", "jsd", "lovasz", "soft-jaccard"] = "ce"
    norm: Literal["linf", "l2"] = "linf"
    target: str | None = None

    needs: ClassVar[Literal["scores"]] = "scores"

    def __post_init__(self) -> None:
        check_goal(self.target, "truth")
        for name in ("steps", "restarts"):
            if getattr(self, name) < 1:
                raise UserError(f"square: {name}={getattr(self, name)} must be at least 1")
        if not 0 < self.p_init <= 1:
            raise UserError(f"square: p_init={self.p_init} must be above 0 and at most 1")

    @property
    def budget_kind(self) -> BudgetKind:
        """The norm."""
        return self.norm

    def plan(self, budget: Budget) -> Plan:
        """The worst image that was asked about counts; a case at the worst score is done."""
        return Plan(self.steps, self.restarts, stop_early=True, keep="best")

    def init(self, context: Context) -> State:
        """The first candidate, of which nothing is known."""
        start = self._tiles(context) if self.norm == "l2" else self._stripes(context)
        return Search(start, start, start.new_full(start.shape[:1], -torch.inf), 0)

    def loss(self, logits: Tensor, goal: Goal, progress: float) -> Tensor:
        """The chosen loss per case (B,)."""
        return named_loss(self.loss_, logits, goal, progress)

    def step(self, context: Context, state: State, feedback: Feedback) -> State:
        """The better of candidate and best, and a new candidate; at the end the best itself."""
        assert isinstance(state, Search)
        better = feedback.loss > state.loss
        best = torch.where(per_case(better, state.best), state.images, state.best)
        loss, asked = torch.where(better, feedback.loss, state.loss), state.asked + 1
        if asked == self.steps:
            candidate = best
        elif self.norm == "l2":
            candidate = self._moved_norm(context, best, asked)
        else:
            candidate = self._square(context, best, asked)
        return Search(candidate, best, loss, asked)

    def _stripes(self, context: Context) -> Tensor:
        """The clean image plus or minus eps, one sign per channel and place on the last axis."""
        images, draw = context.images, context.restart * self.steps
        numbers = context.noise.uniform(draw, (images.shape[1], images.shape[-1]))
        signs = _signs(numbers).view(*images.shape[:2], *[1] * (images.dim() - 3), -1)
        return images + context.budget.eps * signs

    def _tiles(self, context: Context) -> Tensor:
        """A grid of bumps, one sign per channel and tile."""
        channels, *spatial = context.images.shape[1:]
        tiles = [length // tile_side(spatial) for length in spatial]
        draw = context.restart * self.steps
        return tiled_start(context, context.noise.uniform(draw, (channels, *tiles)))

    def _moved_norm(self, context: Context, best: Tensor, asked: int) -> Tensor:
        """The best image with the L2 norm of one square moved into another."""
        channels, *spatial = best.shape[1:]
        side = side_in_l2(square_side(spatial, self.p_init, asked / self.steps), spatial)
        shape = (2 * len(spatial) + 1 + channels,)
        numbers = context.noise.uniform(context.restart * self.steps + asked, shape)
        return moved_norm(context, best, aimed(context, numbers, side, squares=2), side)

    def _square(self, context: Context, best: Tensor, asked: int) -> Tensor:
        """The best image, moved across the ball in one square per case."""
        channels, *spatial = best.shape[1:]
        side = square_side(spatial, self.p_init, asked / self.steps)
        draw = context.restart * self.steps + asked
        numbers = context.noise.uniform(draw, (len(spatial) + channels,))
        numbers = aimed(context, numbers, side)
        inside = torch.ones_like(best[:, :1], dtype=torch.bool)
        for axis, length in enumerate(spatial):
            start = (numbers[:, axis] * (length - side + 1)).floor()
            shape = [1] * best.dim()
            shape[axis + 2] = length
            position = torch.arange(length, device=best.device).view(shape)
            start = per_case(start, best)
            inside = inside & (position >= start) & (position < start + side)
        signs = _signs(numbers[:, len(spatial) :]).reshape(-1, channels, *[1] * len(spatial))
        low, high = ball_ends(context)
        moved = torch.where(inside, torch.where(signs > 0, high, low), best)
        idle = per_case((moved == best).flatten(1).all(1), best)
        return torch.where(idle & inside, torch.where(signs > 0, low, high), moved)


def aimed(context: Context, numbers: Tensor, side: int, squares: int = 1) -> Tensor:
    """Numbers (B, squares * dims + ...) of which the first place squares, each on its region.

    Where a case may change in a part only, each square's middle is one of that part's pixels, drawn
    by the first of its numbers, or as near to it as the edge allows.
    """
    if context.region is None:
        return numbers
    spatial, flat = context.images.shape[2:], context.region.flatten(1)
    dims, part = len(spatial), ~flat.all(1) & flat.any(1)
    room = torch.tensor(spatial, device=numbers.device) - side
    found = numbers.clone()
    for square in range(squares):
        rank = (numbers[:, square * dims] * flat.sum(1)).long()  # which of its pixels
        place = (flat.cumsum(1) > rank[:, None]).long().argmax(1)
        middle = torch.stack(torch.unravel_index(place, spatial), 1)
        corner = (middle - side // 2).clamp_min(0).minimum(room)
        at = slice(square * dims, (square + 1) * dims)
        found[:, at] = torch.where(part[:, None], (corner + 0.5) / (room + 1), numbers[:, at])
    return found


def square_side(spatial: list[int], p_init: float, progress: float) -> int:
    """The side of a square (or cube) at a share ``progress`` of the queries, in pixels.

    It covers the share of the image that the schedule allows, but is at least a pixel and no
    longer than the image's shortest edge.
    """
    share = p_init / 2 ** sum(progress > bound for bound in _HALVINGS)
    side: float = (share * math.prod(spatial)) ** (1 / len(spatial))
    return min(max(1, round(side)), min(spatial))


def ball_ends(context: Context) -> tuple[Tensor, Tensor]:
    """The lowest and highest image (B, C, *spatial) of ball and box."""
    eps = context.budget.eps
    return (context.images - eps).clamp_min(0), (context.images + eps).clamp_max(1)


def _signs(numbers: Tensor) -> Tensor:
    """Uniform numbers of [0, 1) as -1 and 1."""
    return torch.where(numbers < 0.5, -1.0, 1.0)
