"""Random noise of the same norm: the floor that an attack must beat to be one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Tensor

from segbench.api import Budget, BudgetKind, Context, Feedback, Goal, Plan, State
from segbench.errors import UserError
from segbench_attacks.losses import cross_entropy
from segbench_attacks.steps import Norm, random_point


@dataclass(frozen=True)
class Noise:
    """A point drawn from the ball, uniformly in its volume; no gradient is asked for.

    Attributes:
        restarts: draws; the worst per case is chosen by the scored metric.
        norm: the ball's.
    """

    restarts: int = 1
    norm: Norm = "linf"

    needs: ClassVar[Literal["labels"]] = "labels"

    def __post_init__(self) -> None:
        if self.restarts < 1:
            raise UserError(f"noise: restarts={self.restarts} must be at least 1")

    @property
    def budget_kind(self) -> BudgetKind:
        """The norm."""
        return self.norm

    def plan(self, budget: Budget) -> Plan:
        """Draws without a single step."""
        return Plan(steps=0, restarts=self.restarts, stop_early=True)

    def init(self, context: Context) -> State:
        """A random point of the ball."""
        return State(random_point(context, self.norm))

    def loss(self, logits: Tensor, goal: Goal, progress: float) -> Tensor:
        """Cross-entropy per case (B,); never asked for."""
        return cross_entropy(logits, goal)

    def step(self, context: Context, state: State, feedback: Feedback) -> State:
        """The draw itself; never asked for."""
        return state
