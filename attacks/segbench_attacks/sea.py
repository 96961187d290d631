"""SEA: the worst of several losses, each through shrinking balls (Croce, Singh & Hein, ECCV 2024).

arXiv 2306.12941.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import ClassVar, Literal

import torch
from torch import Tensor

from segbench.api import Budget, BudgetKind, Context, Feedback, Goal, Plan, State
from segbench.engine.ball import per_case, project, scaled
from segbench.errors import UserError
from segbench_attacks.apgd_search import APGDState, begin, halved, learn, move, risen
from segbench_attacks.goals import check_goal
from segbench_attacks.losses import LossName, named_loss, tracked_loss
from segbench_attacks.pixels import is_one_sigmoid, open_pixels
from segbench_attacks.steps import random_point

LOSSES: dict[str, tuple[LossName, ...]] = {
    "arxiv": ("masked-ce", "balanced-ce", "jsd", "logit-norm"),
    "eccv2024": ("weighted-ce", "masked-ce", "jsd"),
}
RADII = (2.0, 1.5, 1.0)
SHARES = (0.3, 0.3)  # of the steps, in the first two balls; the rest in the last


@dataclass(frozen=True, eq=False)
class SEAState(APGDState):
    """APGD within one ball, and where the next ball is to start.

    Attributes:
        least: the iterate of this ball with the fewest open pixels; of equals, the one with the
            highest loss (B, C, *spatial).
        least_open, least_loss: its open pixels and tracked loss (B,).
        highest: of the last balls of all runs so far, the iterate with the highest loss.
        highest_loss: its tracked loss (B,).
        asked: iterates answered so far, over all losses and balls.
    """

    least: Tensor
    least_open: Tensor
    least_loss: Tensor
    highest: Tensor
    highest_loss: Tensor
    asked: int


@dataclass(frozen=True)
class SEA:
    """A run of APGD per loss, each in balls of 2, 1.5 and 1 eps; the worst counts.

    The balls get 30, 30 and 40 % of the steps. A run
    starts at a random point of its largest ball, and each further ball from the iterate of the
    previous one with the lowest accuracy, projected. Unmasked cross-entropy steers the step size,
    as in the released code. The paper selects the worst case by accuracy; here the scored metric
    does, the case's Jaccard, over all iterates in the last balls of the runs; of equals, the
    one with the highest cross-entropy.

    Attributes:
        steps: gradient steps per loss, so that a case costs three or four times as many.
        norm: ``linf`` or ``l2``.
        target: ``empty``, ``shift``, ``class:k`` or ``file:FOLDER`` leads there, and not away
            from the truth.
        preset: the losses. ``arxiv``, as the paper's first version has them: masked and balanced
            cross-entropy, Jensen-Shannon divergence and the masked label's component of the
            normalised logits; on a network with one sigmoid, where the last has no gradient, the
            margin takes its place. ``eccv2024``, as the released code has them: masked
            cross-entropy weighted by class, masked cross-entropy, Jensen-Shannon divergence. Its
            weights are a data set's; here they are the case's own.
    """

    steps: int = 300
    norm: Literal["linf", "l2"] = "linf"
    target: str | None = None
    preset: Literal["arxiv", "eccv2024"] = "arxiv"

    needs: ClassVar[Literal["gradients"]] = "gradients"

    def __post_init__(self) -> None:
        check_goal(self.target, "truth")
        if self.steps < 4:
            raise UserError(f"sea: steps={self.steps} must be at least 4, for three balls")

    @property
    def budget_kind(self) -> BudgetKind:
        """The norm."""
        return self.norm

    @property
    def losses(self) -> tuple[LossName, ...]:
        """What is ascended, one run each."""
        return LOSSES[self.preset]

    def plan(self, budget: Budget) -> Plan:
        """The losses one after another; the worst iterate within the budget counts."""
        radii = self._radii() * len(self.losses)
        return Plan(len(radii), stop_early=True, keep="best", radii=radii)

    def init(self, context: Context) -> State:
        """A random point of the first loss's largest ball."""
        nothing = torch.full_like(context.images.flatten(1)[:, 0], -torch.inf)
        return self._start(context, 0, context.images, nothing)

    def loss(self, logits: Tensor, goal: Goal, progress: float) -> Tensor:
        """The loss whose turn it is, per case (B,)."""
        run, step = divmod(round(progress * self.steps * len(self.losses)), self.steps)
        name = self.losses[run]
        if name == "logit-norm" and is_one_sigmoid(logits):
            name = "margin"
        return named_loss(name, logits, goal, step / self.steps)

    def step(self, context: Context, state: State, feedback: Feedback) -> State:
        """APGD's step within a ball; between balls, on from the least accurate iterate."""
        assert isinstance(state, SEAState)
        radii, asked = self._radii(), state.asked + 1
        run, at = divmod(asked, self.steps)
        radius = radii[at - 1]  # of the ball that was asked about; -1 is the last
        loss = tracked_loss("ce", feedback.logits, context.goal)
        check = partial(halved, steps=radii.count(radius))
        state = _compared(state, feedback, loss, context.goal)
        state, gradient = learn(state, feedback, loss, check)
        if at == 0:
            state = _ended(state)
            if run == len(self.losses):
                return replace(state, images=state.highest)
            return self._start(context, run, state.highest, state.highest_loss)
        if radii[at] != radius:
            return self._begin(context, state.least, at, asked, state.highest, state.highest_loss)
        ball = replace(context, budget=scaled(context.budget, radius))
        return replace(move(ball, state, gradient, self.norm), asked=asked)

    def _start(self, context: Context, run: int, highest: Tensor, loss: Tensor) -> SEAState:
        """A run, from a random point; with the highest loss of those before."""
        wide = replace(context, budget=scaled(context.budget, RADII[0]))
        start = random_point(replace(wide, restart=context.restart + run), self.norm)
        return self._begin(context, start, 0, run * self.steps, highest, loss)

    def _begin(
        self, context: Context, start: Tensor, at: int, asked: int, highest: Tensor, loss: Tensor
    ) -> SEAState:
        """At the first step of a ball, which is step ``at`` of its run; nothing is known there."""
        radii = self._radii()
        budget = scaled(context.budget, radii[at])
        start = project(start, context.images, budget)
        unknown = torch.full_like(loss, torch.inf)
        return SEAState(
            **vars(begin(start, budget, radii.count(radii[at]))),
            least=start,
            least_open=unknown,
            least_loss=-unknown,
            highest=highest,
            highest_loss=loss,
            asked=asked,
        )

    def _radii(self) -> tuple[float, ...]:
        """The ball at each step of a run, as a share of the budget."""
        first, second = (int(share * self.steps) for share in SHARES)
        lengths = first, second, self.steps - first - second
        return tuple(r for r, n in zip(RADII, lengths, strict=True) for _ in range(n))


def _compared(state: SEAState, feedback: Feedback, loss: Tensor, goal: Goal) -> SEAState:
    """The state with the lesser, per case, of the least accurate iterate and this one."""
    count = open_pixels(feedback.logits, goal).flatten(1).sum(1).to(loss)
    less = (count < state.least_open) | (
        (count == state.least_open) & risen(loss, state.least_loss)
    )
    return replace(
        state,
        least=torch.where(per_case(less, state.images), state.images, state.least),
        least_open=torch.where(less, count, state.least_open),
        least_loss=torch.where(less, loss, state.least_loss),
    )


def _ended(state: SEAState) -> SEAState:
    """The state at the end of a run, whose last ball's best may be the highest of all."""
    higher = state.best_loss > state.highest_loss
    return replace(
        state,
        highest=torch.where(per_case(higher, state.images), state.best, state.highest),
        highest_loss=torch.where(higher, state.best_loss, state.highest_loss),
    )
