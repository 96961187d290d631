"""FGSM: one signed step of the whole budget (Goodfellow et al., ICLR 2015, arXiv 1412.6572)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Tensor

from segbench.api import Budget, BudgetKind, Context, Feedback, Goal, Labels, Plan, State
from segbench_attacks.losses import cross_entropy


@dataclass(frozen=True)
class FGSM:
    """One step ``x + eps * sign(gradient)`` from the clean image; L-infinity.

    Attributes:
        labels: whether the loss sees the truth or the network's own clean prediction.
    """

    labels: Labels = "truth"

    needs: ClassVar[Literal["gradients"]] = "gradients"

    @property
    def budget_kind(self) -> BudgetKind:
        """L-infinity."""
        return "linf"

    def plan(self, budget: Budget) -> Plan:
        """A single step."""
        return Plan(steps=1, labels=self.labels)

    def init(self, context: Context) -> State:
        """The clean image."""
        return State(context.images)

    def loss(self, logits: Tensor, goal: Goal, progress: float) -> Tensor:
        """Cross-entropy per case (B,)."""
        return cross_entropy(logits, goal)

    def step(self, context: Context, state: State, feedback: Feedback) -> State:
        """The whole budget in the direction of the sign."""
        return State(state.images + context.budget.eps * feedback.gradient.sign())
