"""MI-FGSM: steps along gathered gradients (Dong et al., CVPR 2018, arXiv 1710.06081)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from segbench.api import Budget, BudgetKind, Context, Feedback, Goal, Labels, Plan, State
from segbench.engine.ball import flat_norm, per_case
from segbench.errors import UserError
from segbench_attacks.goals import check_goal
from segbench_attacks.losses import LossName, named_loss
from segbench_attacks.steps import Norm, ascend


@dataclass(frozen=True, eq=False)
class Momentum(State):
    """An iterate and the gradients accumulated so far (B, C, *spatial)."""

    velocity: Tensor


@dataclass(frozen=True)
class MIFGSM:
    """From the clean image, each gradient divided by its mean size and added to the decayed past.

    Attributes:
        steps: number of steps; the last iterate counts.
        decay: what remains of the past at each step; the paper's value is 1.
        rel_step: step size as a share of eps. The default in L-infinity is 1 / steps, the paper's
            rule; in L2 and L1, where the box takes from a step's length, it is 2.5 / steps.
        norm: ``linf`` takes the sign of the gathered gradients, ``l2`` their direction, ``l1``
            moves the hundredth of the pixels where they are largest.
        loss_: what is ascended (``loss=dice`` in a spec); see ``losses.py``.
        labels: whether the loss sees the truth or the network's own clean prediction.
        target: ``empty``, ``shift``, ``class:k`` or ``file:FOLDER`` leads there, and not away
            from the truth.
    """

    steps: int = 10
    decay: float = 1.0
    rel_step: float | None = None
    norm: Norm = "linf"
    loss_: LossName = "ce"
    labels: Labels = "truth"
    target: str | None = None

    needs: ClassVar[Literal["gradients"]] = "gradients"

    def __post_init__(self) -> None:
        check_goal(self.target, self.labels)
        if self.steps < 1:
            raise UserError(f"mifgsm: steps={self.steps} must be at least 1")
        if self.decay < 0:
            raise UserError(f"mifgsm: decay={self.decay} must not be negative")
        if self.rel_step is not None and not self.rel_step > 0:
            raise UserError(f"mifgsm: rel_step={self.rel_step} must be positive")

    @property
    def budget_kind(self) -> BudgetKind:
        """The norm."""
        return self.norm

    def plan(self, budget: Budget) -> Plan:
        """One run; the last iterate counts."""
        return Plan(self.steps, labels=self.labels)

    def init(self, context: Context) -> State:
        """The clean image, at rest."""
        return Momentum(context.images, torch.zeros_like(context.images))

    def loss(self, logits: Tensor, goal: Goal, progress: float) -> Tensor:
        """The chosen loss per case (B,)."""
        return named_loss(self.loss_, logits, goal, progress)

    def step(self, context: Context, state: State, feedback: Feedback) -> State:
        """One step along the accumulated gradient; the engine projects."""
        assert isinstance(state, Momentum)
        gradient = feedback.gradient
        size = flat_norm(gradient, 1) / gradient[0].numel()
        # A zero gradient adds nothing; it must not become NaN.
        fresh = gradient / per_case(size.clamp_min(torch.finfo(size.dtype).tiny), gradient)
        velocity = self.decay * state.velocity + fresh
        share = self.rel_step or (1.0 if self.norm == "linf" else 2.5) / self.steps
        length = share * context.budget.eps
        return Momentum(ascend(state.images, velocity, length, self.norm), velocity)
