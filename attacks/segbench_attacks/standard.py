"""The standard attack: the number to report, without a parameter to choose (after AutoAttack)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, Literal

from torch import Tensor

from segbench.api import Budget, BudgetKind, Goal, Noise, Objective
from segbench.errors import UserError
from segbench_attacks.field import Field
from segbench_attacks.goals import check_goal
from segbench_attacks.race import Member, Race
from segbench_attacks.sea import SEA
from segbench_attacks.steps import Norm

REACH = Member("reach", radii=(1.25, 1.0))
LOVASZ, SEARCH = Member("lovasz"), Member(None)
LATE_SEARCH = Member(None, late=True)  # of versions 1 to 4: its squares are too small to find much
# Of some networks it is the best where `reach` has come to its end, and needs a climb to show it.
LOVASZ_TOO = Member("lovasz", radii=(1.25, 1.0))
# Pushes a class's own pixels and nothing else: on some cases that break down it is far ahead.
BREAK = Member("scored-hinge", radii=(1.25, 1.0, 1.0))
# What only `thorough` can afford: other basins, by other losses, starts and balls.
AGAIN = Member("reach", radii=(1.5, 1.25, 1.0, 1.0), start="random")
SCORED = Member("scored-reach", radii=(1.25, 1.0))
HINGE = Member("metric-hinge", radii=(1.25, 1.0))
SMALLER = Member("reach", radii=(0.5, 1.0, 1.0))
UNIVERSAL = Member("reach", radii=(1.25, 1.0), start="universal")
LEARNT = Member(None, learns=True)  # by transfer from a network that learns this one's answers


def released(norm: Norm, steps: int) -> SEA:
    """SEA by its released losses, which share the steps."""
    assert norm != "l1"
    return SEA(steps // 3, norm, preset="eccv2024")


RELEASED = Member("weighted-ce", attack=("sea", released))


@dataclass(frozen=True)
class Sequel:
    """A climb, begun anew, of those cases that their best one was still lowering at its end.

    Attributes:
        members: of whom the one that stands lowest for the case climbs.
        steps: of that climb.
        radii: its balls. A third in the wider one: longer climbs need no more to get past what
            stops them at the start, and by ``reach`` it is another climb than the first.
    """

    members: tuple[Member, ...]
    steps: int
    radii: tuple[float, ...] = (1.25, 1.0, 1.0)


@dataclass(frozen=True)
class Programme:
    """What a case's steps are spent on.

    Attributes:
        openings: who climbs, and for how many steps.
        rungs: the steps of each further climb, from the case's worst image, by its leader.
        queries: then, of a search, for cases that gradients do not lead.
        sequels: what comes before the rungs, for cases that are not done.
        onward: the whole programme of cases that are then not done, or that gradients do not lead.
        further: the whole programme of all cases that are then not at the worst score.
    """

    openings: tuple[tuple[Member, int], ...]
    rungs: tuple[int, ...] = ()
    sequels: tuple[Sequel, ...] = ()
    onward: Programme | None = None
    queries: int = 0
    further: Programme | None = None

    @property
    def members(self) -> list[Member]:
        """Each once, those of the openings first."""
        own = [member for member, _ in self.openings]
        later = [member for sequel in self.sequels for member in sequel.members]
        after = [member for other in self._after for member in other.members]
        return list(dict.fromkeys([*own, *later, *after]))

    @property
    def gradients(self) -> int:
        """Of a case at most."""
        steps = [steps for member, steps in self.openings if not member.searches]
        steps += [sequel.steps for sequel in self.sequels] + [*self.rungs]
        return sum(steps) + sum(other.gradients for other in self._after)

    @property
    def _after(self) -> list[Programme]:
        return [other for other in (self.onward, self.further) if other]

    def run(self, race: Race, gain: float | None = None) -> None:
        """All of it, in order.

        Args:
            race: of these members at least.
            gain: with one it is for those cases alone that gradients do not lead, or whose best
                climb still gained more than that at its end.
        """
        race.open([(race.members.index(member), steps) for member, steps in self.openings], gain)
        if self.queries:
            race.search_again(race.members.index(SEARCH), self.queries)
        for sequel in self.sequels:
            choices = [race.members.index(member) for member in sequel.members]
            race.climb_again(choices, sequel.steps, sequel.radii, STILL)
        for steps in self.rungs:
            race.go_on(steps)
        if self.onward:
            self.onward.run(race, STILL)
        if self.further:
            self.further.run(race)


Cost = Literal["standard", "quick", "thorough"]
Version = Literal[1, 2, 3, 4, 5, 6, 7]

STILL = 0.005
"""Of a case's score: a long climb whose last half brought more has not come to its end."""

_QUICK = Programme(((REACH, 30),), ())
_STANDARD_4 = Programme(
    ((REACH, 185), (LOVASZ_TOO, 60), (LATE_SEARCH, 10)),
    sequels=(Sequel((BREAK,), 300), Sequel((REACH, LOVASZ_TOO, BREAK), 600)),
)
_THOROUGH_4 = Programme(
    (
        (REACH, 300),
        (BREAK, 250),
        (AGAIN, 100),
        (LOVASZ_TOO, 100),
        (RELEASED, 150),
        (LATE_SEARCH, 200),
    ),
    sequels=(Sequel((REACH, LOVASZ_TOO, BREAK), 900),),
    rungs=(50, 50),
)
_STANDARD = Programme(
    ((REACH, 185), (LOVASZ_TOO, 60), (SEARCH, 10)),
    sequels=(Sequel((BREAK,), 300), Sequel((REACH, LOVASZ_TOO, BREAK), 600)),
    queries=300,
)
_THOROUGH_5 = Programme(
    (
        (REACH, 300),
        (BREAK, 250),
        (AGAIN, 100),
        (LOVASZ_TOO, 100),
        (RELEASED, 150),
        (SEARCH, 200),
    ),
    sequels=(Sequel((REACH, LOVASZ_TOO, BREAK), 900),),
    rungs=(50, 50),
    queries=1000,
)
# The default's, and then more for every case: so it is nowhere above it.
_THOROUGH_6 = replace(
    _STANDARD,
    further=Programme(
        ((BREAK, 250), (AGAIN, 200), (RELEASED, 150), (SEARCH, 200)),
        sequels=(Sequel((REACH, LOVASZ_TOO, BREAK), 900),),
        rungs=(50, 50),
        queries=1000,
    ),
)
_THOROUGH = replace(
    _STANDARD,
    further=Programme(
        (
            (BREAK, 200),
            (AGAIN, 150),
            (UNIVERSAL, 80),
            (SMALLER, 80),
            (RELEASED, 150),
            (SEARCH, 200),
            (LEARNT, 60),
        ),
        sequels=(Sequel((REACH, LOVASZ_TOO, BREAK), 900),),
        rungs=(50, 50),
        queries=1000,
    ),
)
# What stands in a version stays: its numbers are cited.
PROGRAMMES: dict[Version, dict[Cost, Programme]] = {
    1: {
        "quick": _QUICK,
        "standard": Programme(((REACH, 85), (LOVASZ, 15), (LATE_SEARCH, 10)), ()),
        "thorough": Programme(
            (
                (REACH, 250),
                (AGAIN, 150),
                (SCORED, 150),
                (HINGE, 100),
                (LOVASZ, 100),
                (RELEASED, 150),
                (LATE_SEARCH, 200),
            ),
            (50, 50),
        ),
    },
    2: {
        "quick": _QUICK,
        "standard": Programme(((REACH, 185), (LOVASZ, 15), (LATE_SEARCH, 10)), ()),
        "thorough": Programme(
            (
                (REACH, 450),
                (AGAIN, 100),
                (SCORED, 100),
                (HINGE, 50),
                (LOVASZ, 50),
                (RELEASED, 150),
                (LATE_SEARCH, 200),
            ),
            (50, 50),
        ),
    },
    3: {
        "quick": _QUICK,
        "standard": Programme(
            ((REACH, 185), (LOVASZ, 15), (LATE_SEARCH, 10)),
            sequels=(Sequel((BREAK,), 300), Sequel((REACH, BREAK), 600)),
        ),
        "thorough": Programme(
            (
                (REACH, 300),
                (BREAK, 250),
                (AGAIN, 100),
                (SCORED, 50),
                (LOVASZ, 50),
                (RELEASED, 150),
                (LATE_SEARCH, 200),
            ),
            sequels=(Sequel((REACH, BREAK), 900),),
            rungs=(50, 50),
        ),
    },
    4: {"quick": _QUICK, "standard": _STANDARD_4, "thorough": _THOROUGH_4},
    5: {
        "quick": Programme(((REACH, 32), (SEARCH, 10)), onward=_STANDARD),
        "standard": _STANDARD,
        "thorough": _THOROUGH_5,
    },
    6: {"thorough": _THOROUGH_6},
    7: {"thorough": _THOROUGH},
}
LATEST: dict[Cost, Version] = {
    cost: max(version for version, costs in PROGRAMMES.items() if cost in costs)
    for cost in ("quick", "standard", "thorough")
}
"""The version in which each last changed, so that a number keeps its name while it is the same."""


@dataclass(frozen=True)
class Standard:
    """One long climb by ``reach``, others that stand in where it fails, and more where it gains.

    A climb is worth more than its parts: cut in two, or begun anew from its worst image, it ends
    higher. So most of the first 245 gradients are one climb; sixty are one by Lovász's extension,
    which is the stronger where ``reach`` ends early; and ten queries are a search that needs no
    gradient. Where that brings a quarter of what the climbs bring, or nothing brings anything,
    gradients do not lead, and 300 queries follow.

    There most cases are done: at the worst score, or hardly lower for the last half of their best
    climb. Where it gained more than 0.005 to its end a score is about to break down, no loss is
    known to be the best, and more gradients are worth much: such a case has a climb of 300 by the
    scored hinge and, while its best climb still gains, one of 600 by the loss that stands lowest.
    What a case took is in its row. The measurements are in ``docs/strength.md``.

    ``quick`` is a short climb, whose end tells where that was enough, and a search of ten queries.
    A case that the climb was still lowering by more than 0.005, or that gradients do not lead, then
    has what the default has. So where scores stand it takes an eighth of the default's gradients,
    and where they break down no fewer.

    Version 1 took 100 gradients, version 2 the first 200 of version 3, which leaves no case more;
    version 3 took version 4's but for 15 by Lovász's extension instead of 60, too few for a climb.
    In the first four ``quick`` was 30 gradients and no more, which left up to 0.24 more than the
    default where a score broke down, and searches were short and of small squares; all else of
    version 5 is version 4's. Up to version 5 ``thorough`` was another portfolio than the default's,
    which could end above it; since version 6 it is the default's, and then more, and version 7 has
    the climbs from a smaller ball and from a universal direction, and the substitute.

    Attributes:
        cost: ``standard`` (245 gradients a case, and up to 1145 where they are needed), ``quick``
            (32, and the default's after them where they are needed) or ``thorough`` (the default's,
            then 760 for every case that is not at the worst score, and 900 where they are needed:
            climbs by another loss and from a random point, a universal direction and the end of
            one in half the ball, the released SEA, a longer search, and transfer from a network
            that learns this one's answers; from those of a workspace, which no two have alike,
            it is the attack `transfer`, which reports join to it in the worst of all).
        norm: ``linf`` or ``l2``.
        target: ``empty``, ``shift``, ``class:k`` or ``file:FOLDER`` leads there, and not away
            from the truth.
        version: what a version's number means never changes; rows record it. The last in which
            that cost changed, unless another is asked for (``standard@1``).
    """

    cost: Cost = "standard"
    norm: Literal["linf", "l2"] = "linf"
    target: str | None = None
    version: Version | None = None

    needs: ClassVar[Literal["gradients"]] = "gradients"

    def __post_init__(self) -> None:
        check_goal(self.target, "truth")
        if self.version is None:
            object.__setattr__(self, "version", LATEST[self.cost])
        if self.cost not in PROGRAMMES[self._version]:
            raise UserError(
                f"version {self.version} changed other costs than {self.cost}, which is as in "
                f"version {LATEST[self.cost]}"
            )

    @property
    def _version(self) -> Version:
        assert self.version is not None  # it is filled in
        return self.version

    @property
    def budget_kind(self) -> BudgetKind:
        """The norm."""
        return self.norm

    @property
    def programme(self) -> Programme:
        """Of this version at this cost."""
        return PROGRAMMES[self._version][self.cost]

    @property
    def gradients(self) -> int:
        """Of a case at most."""
        return self.programme.gradients

    def run(
        self, objective: Objective, images: Tensor, goal: Goal, budget: Budget, noise: Noise
    ) -> Tensor:
        """The worst image found of each case, (B, C, *spatial)."""
        field = Field(objective, images, goal, budget, noise, self.norm)
        race = Race(field, self.programme.members)
        self.programme.run(race)
        race.give_credit()
        return race.images
