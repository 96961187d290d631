"""APGD: PGD that sets its own step size (Croce & Hein, ICML 2020, arXiv 2003.01690)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, Literal, TypeVar

import torch
from torch import Tensor

from segbench.api import Budget, BudgetKind, Context, Feedback, Goal, Labels, Plan, State
from segbench.engine.ball import per_case, project
from segbench.errors import UserError
from segbench_attacks.goals import check_goal
from segbench_attacks.losses import LossName, named_loss, tracked_loss
from segbench_attacks.steps import ascend, random_point

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


@dataclass(frozen=True)
class APGD:
    """Steps from 2 eps on, with momentum; halved per case, back at the best, when progress stalls.

    At checkpoints (22 % of the steps, then intervals shorter by 3 % down to 6 %, all rounded down
    as the public code does) the step is halved where fewer than 75 % of the steps raised the loss,
    or where neither step nor best loss changed since the last one. The loss that is watched is
    never a masked one (cross-entropy stands in): that would rewind to the less fooled image. Of
    all iterates the one with the worst score counts; of equals, the one with the highest loss.

    Attributes:
        steps: gradient steps per restart.
        restarts: independent starts; the best per case is chosen by the scored metric.
        norm: ``linf`` or ``l2``.
        loss_: what is ascended (``loss=dice`` in a spec); see ``losses.py``.
        random_start: uniform in the ball's volume; False starts from the clean image.
        labels: whether the loss sees the truth or the network's own clean prediction.
        target: ``empty``, ``shift``, ``class:k`` or ``file:FOLDER`` leads there, and not away
            from the truth.
    """

    steps: int = 40
    restarts: int = 1
    norm: Literal["linf", "l2"] = "linf"
    loss_: LossName = "ce"
    random_start: bool = True
    labels: Labels = "truth"
    target: str | None = None

    needs: ClassVar[Literal["gradients"]] = "gradients"

    def __post_init__(self) -> None:
        check_goal(self.target, self.labels)
        for name in ("steps", "restarts"):
            if not getattr(self, name) > 0:
                raise UserError(f"apgd: {name}={getattr(self, name)} must be positive")

    @property
    def budget_kind(self) -> BudgetKind:
        """The norm."""
        return self.norm

    def plan(self, budget: Budget) -> Plan:
        """The worst iterate counts, and a case at the worst possible score is done.

        An attack that may not know the truth may not choose by it: there the loss alone decides.
        """
        keep: Literal["last", "best"] = "best" if self.labels == "truth" else "last"
        return Plan(self.steps, self.restarts, stop_early=True, labels=self.labels, keep=keep)

    def init(self, context: Context) -> State:
        """A random point of the ball, or the clean image; nothing is known yet."""
        start = random_point(context, self.norm) if self.random_start else context.images
        return begin(project(start, context.images, context.budget), context.budget, self.steps)

    def loss(self, logits: Tensor, goal: Goal, progress: float) -> Tensor:
        """The chosen loss per case (B,)."""
        return named_loss(self.loss_, logits, goal, progress)

    def step(self, context: Context, state: State, feedback: Feedback) -> State:
        """Learn from the answer, perhaps rewind, then move; the last answer is the best by loss."""
        assert isinstance(state, APGDState)
        state, gradient = learn(state, feedback, self._tracked(feedback, context.goal), self.steps)
        if state.taken == self.steps - 1 > 0:
            return replace(state, images=state.best)
        return move(context, state, gradient, self.norm)

    def _tracked(self, feedback: Feedback, goal: Goal) -> Tensor:
        return tracked_loss(self.loss_, feedback.logits, goal)


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


def learn(state: SomeAPGD, feedback: Feedback, loss: Tensor, steps: int) -> tuple[SomeAPGD, Tensor]:
    """The state after an answer whose tracked loss is ``loss`` (B,), and the gradient to follow."""
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
    return _checked(state, feedback.gradient, steps)


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


def _checked(state: SomeAPGD, gradient: Tensor, steps: int) -> tuple[SomeAPGD, Tensor]:
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
