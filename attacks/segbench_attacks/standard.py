"""The standard attack: the number to report, without a parameter to choose (after AutoAttack)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Tensor

from segbench.api import Budget, BudgetKind, Goal, Noise, Objective
from segbench_attacks.goals import check_goal
from segbench_attacks.race import Field, Member, Race

REACH, HINGE = Member("reach"), Member("metric-hinge")
WIDE = Member("reach", (1.5, 1.0))
LOVASZ, JSD, CE = Member("lovasz"), Member("jsd"), Member("ce")
SEARCH = Member(None)


@dataclass(frozen=True)
class Programme:
    """What a case's steps are spent on.

    Attributes:
        members: each climbs ``opening`` steps from the clean image.
        rungs: climbs of ``steps`` more from the case's worst image, each by its leader.
    """

    members: tuple[Member, ...]
    opening: int
    rungs: int
    steps: int


PROGRAMMES = {
    "quick": Programme((HINGE, LOVASZ, REACH), 6, 1, 12),
    "standard": Programme((HINGE, LOVASZ, REACH, SEARCH), 15, 3, 18),
    "thorough": Programme((HINGE, LOVASZ, REACH, WIDE, JSD, CE, SEARCH), 40, 19, 40),
}


@dataclass(frozen=True)
class Standard:
    """A race of complementary losses per case; about 100 gradients a case.

    Attributes:
        cost: ``standard``, ``quick`` (about 30 gradients a case) or ``thorough`` (about 1000).
        norm: ``linf`` or ``l2``.
        target: ``empty``, ``shift``, ``class:k`` or ``file:FOLDER`` leads there, and not away
            from the truth.
        version: what a version's number means never changes; rows record it.
    """

    cost: Literal["standard", "quick", "thorough"] = "standard"
    norm: Literal["linf", "l2"] = "linf"
    target: str | None = None
    version: Literal[1] = 1

    needs: ClassVar[Literal["gradients"]] = "gradients"

    def __post_init__(self) -> None:
        check_goal(self.target, "truth")

    @property
    def budget_kind(self) -> BudgetKind:
        """The norm."""
        return self.norm

    def run(
        self, objective: Objective, images: Tensor, goal: Goal, budget: Budget, noise: Noise
    ) -> Tensor:
        """The worst image found of each case, (B, C, *spatial)."""
        programme = PROGRAMMES[self.cost]
        race = Race(Field(objective, images, goal, budget, noise, self.norm), programme.members)
        race.open(programme.opening)
        for _ in range(programme.rungs):
            race.go_on(programme.steps)
        return race.images
