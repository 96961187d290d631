"""The search of APGD: each case its own step size (Croce & Hein, ICML 2020, arXiv 2003.01690)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal, TypeVar

import torch
from torch import Tensor

from segbench.api import Budget, Context, Feedback, State
from segbench.engine.ball import per_case, project
from segbench_attacks.steps import ascend

MOMENTUM = 0.25  # share of the previous move; the paper's alpha is 1 - this
ROUNDING = 1e-6  # a rise of the loss by a smaller share is noise, which must not steer
PROGRESS = 0.75  # share of steps that must raise the loss between two checkpoints


@dataclass(frozen=True, eq=False)
class APGDState(State):
    """An iterate, what is best so far by the tracked loss, and when to look next.

    Attributes:
        previous: the iterate before this one (B, C, *spatial).
        best: the iterate of the highest loss, with its gradient and loss.
        loss: of the last iterate asked (B,).
        best_at_check: the best loss at the last checkpoint (B,).
        length: step size (B,).
        rises: steps since the last checkpoint that raised the loss (B,).
        halved: whether the last checkpoint halved the step (B,).
        taken, since, interval: steps in all, since the last checkpoint, and between checkpoints.
    """

    previous: Tensor
    best: Tensor
    best_gradient: Tensor
    best_loss: Tensor
    loss: Tensor
    best_at_check: Tensor
    length: Tensor
    rises: Tensor
    halved: Tensor
    taken: int
    since: int
    interval: int


SomeAPGD = TypeVar("SomeAPGD", bound=APGDState)
Check = Callable[[SomeAPGD, Tensor], tuple[SomeAPGD, Tensor]]
"""(state, gradient) at a checkpoint -> both as the search goes on."""


def begin(start: Tensor, budget: Budget, steps: int) -> APGDState:
    """A run of so many steps from ``start`` (B, C, *spatial), with steps of 2 eps."""
    zeros = torch.zeros_like(start[:, 0].flatten(1)[:, 0])
    return APGDState(
        images=start,
        previous=start,
        best=start,
        best_gradient=torch.zeros_like(start),
        best_loss=zeros - torch.inf,
        loss=zeros,
        best_at_check=zeros,
        length=zeros + 2 * budget.eps,
        rises=zeros,
        halved=torch.ones_like(zeros, dtype=torch.bool),
        taken=0,
        since=0,
        interval=max(int(0.22 * steps), 1),
    )


def learn(
    state: SomeAPGD, feedback: Feedback, loss: Tensor, check: Check[SomeAPGD]
) -> tuple[SomeAPGD, Tensor]:
    """The state after an answer whose tracked loss is ``loss`` (B,), and the gradient to follow.

    At checkpoints that is what ``check`` makes of both.
    """
    better = risen(loss, state.best_loss)
    wide = per_case(better, state.images)
    rises, since = state.rises + risen(loss, state.loss), state.since + 1
    state = replace(
        state,
        best=torch.where(wide, state.images, state.best),
        best_gradient=torch.where(wide, feedback.gradient, state.best_gradient),
        best_loss=torch.where(better, loss, state.best_loss),
        loss=loss,
    )
    if state.taken == 0:
        return replace(state, best_at_check=loss), feedback.gradient
    state = replace(state, rises=rises, since=since)
    if since < state.interval:
        return state, feedback.gradient
    return check(state, feedback.gradient)


def risen(loss: Tensor, before: Tensor) -> Tensor:
    """Where the loss (B,) rose by more than rounding; anything is a rise from minus infinity."""
    return (loss - before > ROUNDING * before.abs()) | before.isinf()


def move(
    context: Context, state: SomeAPGD, gradient: Tensor, norm: Literal["linf", "l2"]
) -> SomeAPGD:
    """One step with momentum (none on the first); both of its points lie in ball and box."""
    clean, budget, here = context.images, context.budget, state.images
    aim = project(ascend(here, gradient, state.length, norm), clean, budget)
    if state.taken:
        aim = here + (1 - MOMENTUM) * (aim - here) + MOMENTUM * (here - state.previous)
        aim = project(aim, clean, budget)
    return replace(state, images=aim, previous=here, taken=state.taken + 1)


def halved(state: SomeAPGD, gradient: Tensor, steps: int) -> tuple[SomeAPGD, Tensor]:
    """A checkpoint: where the search stalls, half the step, and back to the best."""
    stalled = state.rises <= PROGRESS * state.interval
    stalled |= ~state.halved & ~risen(state.best_loss, state.best_at_check)
    wide = per_case(stalled, state.images)
    checked = replace(
        state,
        images=torch.where(wide, state.best, state.images),
        best_at_check=state.best_loss,
        length=torch.where(stalled, state.length / 2, state.length),
        rises=torch.zeros_like(state.rises),
        halved=stalled,
        since=0,
        interval=max(state.interval - max(int(0.03 * steps), 1), max(int(0.06 * steps), 1)),
    )
    return checked, torch.where(wide, state.best_gradient, gradient)
