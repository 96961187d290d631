"""The standard attack: the number to report, without a parameter to choose (after AutoAttack)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Tensor

from segbench.api import Budget, BudgetKind, Goal, Noise, Objective
from segbench_attacks.field import Field
from segbench_attacks.goals import check_goal
from segbench_attacks.race import Member, Race
from segbench_attacks.sea import SEA
from segbench_attacks.steps import Norm

REACH = Member("reach", radii=(1.25, 1.0))
LOVASZ, SEARCH = Member("lovasz"), Member(None)
# What only `thorough` can afford: other basins, by other losses, starts and balls.
AGAIN = Member("reach", radii=(1.5, 1.25, 1.0, 1.0), start="random")
SCORED = Member("scored-reach", radii=(1.25, 1.0))
HINGE = Member("metric-hinge", radii=(1.25, 1.0))


def released(norm: Norm, steps: int) -> SEA:
    """SEA by its released losses, which share the steps."""
    assert norm != "l1"
    return SEA(steps // 3, norm, preset="eccv2024")


RELEASED = Member("weighted-ce", attack=("sea", released))


@dataclass(frozen=True)
class Programme:
    """What a case's steps are spent on.

    Attributes:
        openings: who climbs, and for how many steps.
        rungs: the steps of each further climb, from the case's worst image, by its leader.
    """

    openings: tuple[tuple[Member, int], ...]
    rungs: tuple[int, ...]


Cost = Literal["standard", "quick", "thorough"]
Version = Literal[1, 2]

_QUICK = Programme(((REACH, 30),), ())
# What stands in a version stays: its numbers are cited.
PROGRAMMES: dict[Version, dict[Cost, Programme]] = {
    1: {
        "quick": _QUICK,
        "standard": Programme(((REACH, 85), (LOVASZ, 15), (SEARCH, 10)), ()),
        "thorough": Programme(
            (
                (REACH, 250),
                (AGAIN, 150),
                (SCORED, 150),
                (HINGE, 100),
                (LOVASZ, 100),
                (RELEASED, 150),
                (SEARCH, 200),
            ),
            (50, 50),
        ),
    },
    2: {
        "quick": _QUICK,
        "standard": Programme(((REACH, 185), (LOVASZ, 15), (SEARCH, 10)), ()),
        "thorough": Programme(
            (
                (REACH, 450),
                (AGAIN, 100),
                (SCORED, 100),
                (HINGE, 50),
                (LOVASZ, 50),
                (RELEASED, 150),
                (SEARCH, 200),
            ),
            (50, 50),
        ),
    },
}


@dataclass(frozen=True)
class Standard:
    """One long climb by ``reach``, and others that stand in where it fails; about 200 gradients.

    A climb is worth more than its parts: cut in two, or begun anew from its worst image, it ends
    higher. So the default spends most of its gradients on one, and only what would be needed to
    notice that it failed on Lovász's extension and on a search that needs no gradient. Version 1
    took 100 gradients; where a score is about to break down the second hundred is worth up to
    0.07. The measurements are in ``docs/strength.md``.

    Attributes:
        cost: ``standard``, ``quick`` (about 30 gradients a case, all in that climb) or ``thorough``
            (about 1000: further losses, a random start, the released SEA and a longer search; no
            transfer, which takes a source, and which reports join to it in the worst of all).
        norm: ``linf`` or ``l2``.
        target: ``empty``, ``shift``, ``class:k`` or ``file:FOLDER`` leads there, and not away
            from the truth.
        version: what a version's number means never changes; rows record it. The latest, unless
            another is asked for (``standard@1``).
    """

    cost: Cost = "standard"
    norm: Literal["linf", "l2"] = "linf"
    target: str | None = None
    version: Version = 2

    needs: ClassVar[Literal["gradients"]] = "gradients"

    def __post_init__(self) -> None:
        check_goal(self.target, "truth")

    @property
    def budget_kind(self) -> BudgetKind:
        """The norm."""
        return self.norm

    @property
    def programme(self) -> Programme:
        """Of this version at this cost."""
        return PROGRAMMES[self.version][self.cost]

    @property
    def gradients(self) -> int:
        """Of a case at most."""
        programme = self.programme
        climbs = [n for member, n in programme.openings if member is not SEARCH]
        return sum(climbs) + sum(programme.rungs)

    def run(
        self, objective: Objective, images: Tensor, goal: Goal, budget: Budget, noise: Noise
    ) -> Tensor:
        """The worst image found of each case, (B, C, *spatial)."""
        programme = self.programme
        members, lengths = zip(*programme.openings, strict=True)
        race = Race(Field(objective, images, goal, budget, noise, self.norm), members)
        race.open(lengths)
        for steps in programme.rungs:
            race.go_on(steps)
        race.give_credit()
        return race.images
