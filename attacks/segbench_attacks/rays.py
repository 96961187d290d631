"""RayS: a search over signs that sees labels only (Chen & Gu, KDD 2020, arXiv 2006.12792).

Published for classifiers, where it shortens the ray along a sign vector to the boundary of one
label. A dense prediction has no one boundary; here the ray ends on the ball, at the corner
``x + eps * signs``, and a flip is kept if the case has less left to do there: a lower Jaccard, or
more agreement with the target.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from segbench.api import Budget, BudgetKind, Context, Feedback, Goal, Plan, State
from segbench.engine.ball import per_case
from segbench.errors import UserError
from segbench_attacks.goals import check_goal
from segbench_attacks.losses import cross_entropy


@dataclass(frozen=True, eq=False)
class SignSearch(State):
    """The candidate's signs, the best ones so far (B, C, *spatial), and their success (B,)."""

    signs: Tensor
    best: Tensor
    success: Tensor
    asked: int


@dataclass(frozen=True)
class RayS:
    """The best of a few corners of the ball, then flips of ever smaller blocks of its signs.

    Blocks are consecutive values of the flattened image, as published: halves, quarters and so on
    down to single values, which are gone through again while queries last.

    Attributes:
        steps: queries in all.
        starts: corners tried first: all up, all down, then random ones.
        target: ``empty``, ``shift``, ``class:k`` or ``file:FOLDER`` leads there, and not away
            from the truth.
    """

    steps: int = 1000
    starts: int = 10
    target: str | None = None

    needs: ClassVar[Literal["labels"]] = "labels"

    def __post_init__(self) -> None:
        check_goal(self.target, "truth")
        for name in ("steps", "starts"):
            if getattr(self, name) < 1:
                raise UserError(f"rays: {name}={getattr(self, name)} must be at least 1")

    @property
    def budget_kind(self) -> BudgetKind:
        """L-infinity."""
        return "linf"

    def plan(self, budget: Budget) -> Plan:
        """The worst image that was asked about counts; a case at the worst score is done."""
        return Plan(self.steps, stop_early=True, keep="best")

    def init(self, context: Context) -> State:
        """Every pixel up."""
        signs = torch.ones_like(context.images)
        worst = context.images.new_full(context.images.shape[:1], -torch.inf)
        return SignSearch(_corner(context, signs), signs, signs, worst, 0)

    def loss(self, logits: Tensor, goal: Goal, progress: float) -> Tensor:
        """Cross-entropy per case (B,); never asked for."""
        return cross_entropy(logits, goal)

    def step(self, context: Context, state: State, feedback: Feedback) -> State:
        """The better signs, and the next to try; at the end the best ones."""
        assert isinstance(state, SignSearch)
        better = feedback.loss > state.success
        best = torch.where(per_case(better, state.best), state.signs, state.best)
        success, asked = torch.where(better, feedback.loss, state.success), state.asked + 1
        if asked == self.steps:
            signs = best
        elif asked < self.starts:
            signs = _start(context, asked)
        else:
            signs = best.flatten(1).clone()
            signs[:, sign_block(asked - self.starts, signs.shape[1])] *= -1
            signs = signs.view_as(best)
        return SignSearch(_corner(context, signs), signs, best, success, asked)


def sign_block(turn: int, size: int) -> slice:
    """Which of ``size`` values a turn flips: halves, then quarters, ..., then single values."""
    blocks = min(2, size)
    while turn >= blocks:
        turn -= blocks
        blocks = min(2 * blocks, size)
    return slice(size * turn // blocks, size * (turn + 1) // blocks)


def _start(context: Context, number: int) -> Tensor:
    """Signs (B, C, *spatial) of one corner of the ball: all down, or drawn."""
    if number == 1:
        return -torch.ones_like(context.images)
    numbers = context.noise.uniform(number, context.images.shape[1:])
    return torch.where(numbers < 0.5, -1.0, 1.0)


def _corner(context: Context, signs: Tensor) -> Tensor:
    return context.images + context.budget.eps * signs
