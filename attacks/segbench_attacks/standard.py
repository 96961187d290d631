"""The standard attack: the number to report, without a parameter to choose (after AutoAttack)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Tensor

from segbench.api import Budget, BudgetKind, Goal, Noise, Objective
from segbench_attacks.goals import check_goal
from segbench_attacks.race import Field, Member, Race

REACH = Member("reach", radii=(1.25, 1.0))
LOVASZ, HINGE, JSD, CE = Member("lovasz"), Member("metric-hinge"), Member("jsd"), Member("ce")
SEARCH = Member(None)


@dataclass(frozen=True)
class Programme:
    """What a case's steps are spent on.

    Attributes:
        openings: who climbs from the clean image, and for how many steps.
        rungs: the steps of each further climb, from the case's worst image, by its leader.
    """

    openings: tuple[tuple[Member, int], ...]
    rungs: tuple[int, ...]


PROGRAMMES = {
    "quick": Programme(((REACH, 30),), ()),
    "standard": Programme(((REACH, 85), (LOVASZ, 15), (SEARCH, 10)), ()),
    "thorough": Programme(
        tuple((member, 50) for member in (REACH, LOVASZ, HINGE, JSD, CE, SEARCH)), (75,) * 10
    ),
}


@dataclass(frozen=True)
class Standard:
    """One long climb by ``reach``, and others that stand in where it fails; about 100 gradients.

    A climb is worth more than its parts: cut in two, or begun anew from its worst image, it ends
    higher. So the default spends most of its gradients on one, and only what would be needed to
    notice that it failed on Lovász's extension and on a search that needs no gradient. The
    measurements are in ``docs/strength.md``.

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
        members, lengths = zip(*programme.openings, strict=True)
        race = Race(Field(objective, images, goal, budget, noise, self.norm), members)
        race.open(lengths)
        for steps in programme.rungs:
            race.go_on(steps)
        race.give_credit()
        return race.images
