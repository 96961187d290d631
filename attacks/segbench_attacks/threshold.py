"""What the minimum-norm attacks share: a Jaccard to fall below, and the distance to make small."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import ClassVar, Literal

from torch import Tensor

from segbench.api import Budget, BudgetKind, Context, Goal, Plan, State
from segbench.errors import UserError
from segbench.metrics import regions
from segbench_attacks.goals import check_goal


@dataclass(frozen=True)
class ThresholdAttack:
    """From the clean image until the case's Jaccard lies below a threshold; nearer is better.

    The nearest image that falls counts, by the original network in fp32, and a search along the
    line between it and the clean one moves it nearer yet. A case that never falls keeps its clean
    image, as does one that lies below the threshold from the start.

    Attributes:
        below: what the Jaccard has to fall below, in (0, 1); for a target, 1 minus the agreement.
        steps: gradient steps at most.
        target: ``empty``, ``shift`` or ``class:k`` leads there instead of away from the truth.
    """

    below: float = 0.5
    steps: int = 200
    target: str | None = None

    needs: ClassVar[Literal["gradients"]] = "gradients"
    budget_kind: ClassVar[BudgetKind] = "min-norm"

    def __post_init__(self) -> None:
        check_goal(self.target, "truth")
        if not 0 < self.below < 1:
            raise UserError(f"below={self.below} must lie between 0 and 1, such as 0.5")
        if self.steps < 1:
            raise UserError(f"steps={self.steps} must be at least 1")

    @property
    def budgets(self) -> Sequence[Budget]:
        """The one threshold."""
        return [Budget("min-norm", Fraction(str(self.below)))]

    def plan(self, budget: Budget) -> Plan:
        """A case that has fallen is done."""
        return Plan(self.steps, stop_early=True, keep="nearest")

    def init(self, context: Context) -> State:
        """The clean image."""
        return State(context.images)


def left_to_do(logits: Tensor, goal: Goal, *, structures: bool) -> Tensor:
    """What an attack with these logits has left to do (B,), as ``Objective.remaining`` has it."""
    predicted, classes, ignore = logits.argmax(1), logits.shape[1], goal.ignore_index
    if goal.targeted and structures:
        return 1 - regions.agree_structures(predicted, goal.labels, goal.truth, ignore)
    if goal.targeted:
        return 1 - regions.agree_classes(predicted, goal.labels, goal.truth, classes, ignore)
    if structures:
        return regions.case_score(regions.score_structures(predicted, goal.truth, ignore))
    return regions.case_score(regions.score_regions(predicted, goal.truth, classes, ignore))


def length_of(rms: float | Tensor, images: Tensor, norm: Literal["linf", "l2"]) -> float | Tensor:
    """The length in its norm of a step by ``rms`` in every pixel of images (B, C, *spatial)."""
    return rms if norm == "linf" else rms * images[0].numel() ** 0.5
