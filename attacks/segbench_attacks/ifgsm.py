"""Iterative FGSM (Kurakin et al. 2017, arXiv 1607.02533), as He et al. (AAAI 2019) attack NLCEN."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import ClassVar, Literal

from torch import Tensor

from segbench.api import Budget, BudgetKind, Context, Feedback, Goal, Labels, Plan, State
from segbench.errors import UserError
from segbench_attacks.losses import cross_entropy


@dataclass(frozen=True)
class IFGSM:
    """Signed steps from the clean image, projected onto the ball and [0, 1]; the last one counts.

    Attributes:
        preset: ``paper`` is Kurakin's rule on the 0-255 scale: steps of 1/255, their number
            ``max(1, ceil(min(eps + 4, 1.25 eps)))``, from an exact fraction (rounding down would
            make eps = 0.5/255 a silent no-op). ``free`` takes ``steps`` and ``step`` instead.
        labels: what the loss sees. ``truth`` is the default here; the code of Arnab et al. (2018)
            attacks the network's own clean ``prediction``.
        steps: number of steps of the ``free`` preset (default 10).
        step_size: step size of the ``free`` preset in [0, 1] units (default eps / steps).
    """

    preset: Literal["paper", "free"] = "paper"
    labels: Labels = "truth"
    steps: int | None = None
    step_size: float | None = None

    needs: ClassVar[Literal["gradients"]] = "gradients"

    def __post_init__(self) -> None:
        if self.preset == "paper" and (self.steps, self.step_size) != (None, None):
            raise UserError("ifgsm: preset=paper fixes steps and step_size; use preset=free")
        if self.steps is not None and self.steps < 1:
            raise UserError(f"ifgsm: steps={self.steps} must be at least 1")
        if self.step_size is not None and not self.step_size > 0:
            raise UserError(f"ifgsm: step_size={self.step_size} must be positive")

    @property
    def budget_kind(self) -> BudgetKind:
        """L-infinity."""
        return "linf"

    def plan(self, budget: Budget) -> Plan:
        """Kurakin's step count, or the free one; one run, the last iterate counts."""
        steps = paper_steps(budget.value) if self.preset == "paper" else (self.steps or 10)
        return Plan(steps=steps, labels=self.labels)

    def init(self, context: Context) -> State:
        """The clean image."""
        return State(context.images)

    def loss(self, logits: Tensor, goal: Goal, progress: float) -> Tensor:
        """Cross-entropy per case (B,)."""
        return cross_entropy(logits, goal)

    def step(self, context: Context, state: State, feedback: Feedback) -> State:
        """One signed step; the engine projects."""
        return State(state.images + self._step_size(context.budget) * feedback.gradient.sign())

    def _step_size(self, budget: Budget) -> float:
        if self.preset == "paper":
            return 1 / 255
        return self.step_size or budget.eps / self.plan(budget).steps


def paper_steps(eps: Fraction) -> int:
    """Kurakin's number of iterations for eps on the [0, 1] scale, from the exact fraction.

    >>> [paper_steps(Fraction(n, 255)) for n in (1, 2, 4, 8, 16, 32)]
    [2, 3, 5, 10, 20, 36]
    """
    scaled = eps * 255
    return max(1, math.ceil(min(scaled + 4, scaled * Fraction(5, 4))))
