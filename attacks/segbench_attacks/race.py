"""A race for each case: some ways to climb, and the rest of the steps to whoever brought most.

No loss is the strongest at every budget and on every network: what turns a whole organ at 8/255
moves nothing at 1/255. Each member of a race climbs from where it starts. A case that its best
climb was still lowering at the end may have another, begun anew; a rung goes to the member whose
last climb brought that case most, from the case's worst image so far. A case at the worst score
leaves. Choices are the original network's, in fp32.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from segbench.api.objective import SEARCH, SUBSTITUTE
from segbench.engine.ball import project
from segbench_attacks.climbs import climb, search
from segbench_attacks.field import Field
from segbench_attacks.losses import LossName
from segbench_attacks.runs import BySteps, by_steps
from segbench_attacks.steps import Norm, random_point
from segbench_attacks.substitute import by_substitute
from segbench_attacks.universal import universal_starts

DECISIVE = 16  # steps within the budget, of which the last half decides whether a case goes on
LED = 0.25  # of a case's fall: where a search brings as much, gradients do not lead
DIRECTION = 10  # gradients that the universal direction takes of its climb
FIRST, AGAIN = 1.0, 0.5  # the first step as a share of eps: of a first climb, of later ones


@dataclass(frozen=True)
class Member:
    """One way to climb.

    Attributes:
        loss: what is ascended; None searches by squares and asks for no gradient. Of an attack,
            what its further climbs are made by.
        radii: the balls of its first climb, equal parts of the steps, as shares of the budget.
        start: where its first climb starts: the ``clean`` image, a ``random`` point of the ball, or
            its end along the network's ``universal`` direction, which takes some of the steps.
        learns: of a search: by a substitute that learns the network's answers, not by squares.
        attack: an attack by steps that takes the place of its first climb, and its name.
        leaving: whether a case that is at the worst score midway through that attack leaves it.
        late: of a search: its squares are as small as if all steps before had been its queries.
    """

    loss: LossName | None
    radii: tuple[float, ...] = (1.0,)
    start: Literal["clean", "random", "universal"] = "clean"
    attack: tuple[str, Callable[[Norm, int], BySteps]] | None = None
    leaving: bool = False
    late: bool = False
    learns: bool = False

    @property
    def searches(self) -> bool:
        """Whether it asks for no gradient."""
        return self.loss is None and self.attack is None

    @property
    def name(self) -> str:
        """What rows call it."""
        if self.attack:
            return self.attack[0]
        if not self.loss:
            return SUBSTITUTE if self.learns else SEARCH
        if self.radii[0] < 1:
            return f"{self.loss} from a smaller ball"
        return f"{self.loss}{_FROM[self.start]}"


_FROM = {
    "clean": "",
    "random": " from a random start",
    "universal": " from a universal direction",
}


class Race:
    """Each case's worst image so far, and what each member's last climb brought it.

    Attributes:
        found_by: int64 (B,), the member that found it; -1 for the clean image.
        images, standing: the worst image (B, C, *spatial) and how it stands.
        clean: what the clean images leave to do (B,).
        gains: (B, M), the fall of the score by each member's last climb; infinite before it.
        lowest: (B, M), what each member's best climb left to do; infinite before it.
        ends: (B, M), the late gain of that climb; NaN of a short one, a search, another attack.
        late_gain: (B,), of the climb that found it, or of the last one while none did. Where that
            was a search or another attack, of which there is none, of the climb that had found the
            image before: that a search lowers it a little more is no end of what climbs gain. NaN
            where no climb says.
    """

    def __init__(self, field: Field, members: Sequence[Member]) -> None:
        self.field, self.members = field, members
        self.images = field.clean.clone()
        self.standing = field.judged(field.clean)
        self.clean = self.standing.left
        self.gains = self.standing.left.new_full((len(field.clean), len(members)), torch.inf)
        self.lowest = torch.full_like(self.gains, torch.inf)
        self.ends = torch.full_like(self.gains, torch.nan, dtype=torch.float64)
        self.found_by = torch.full_like(self.standing.left, -1, dtype=torch.int64)
        self.late_gain = torch.full_like(self.standing.left, torch.nan, dtype=torch.float64)
        self.taken = 0  # steps and queries of all stages so far, whoever took part: no draw twice

    def open(self, climbs: Sequence[tuple[int, int]], gain: float | None = None) -> None:
        """Climbs of members from where they start: (member, steps) of each.

        With a ``gain`` of those cases alone that gradients do not lead, or whose best climb still
        gained more than that at its end.
        """
        going = torch.ones_like(self.found_by, dtype=torch.bool)
        if gain is not None:
            going = self._unled() | self._goes_on(gain)
        for m, steps in climbs:
            self._begin(m, going & (self.standing.left > 0), steps, self.members[m].radii)
            self.taken += steps

    def climb_again(
        self, choices: Sequence[int], steps: int, radii: tuple[float, ...], gain: float
    ) -> None:
        """A climb, begun anew, of each case whose best one still gained more than that at its end.

        It is by whoever of the members ``choices`` stands lowest there, through the balls
        ``radii``.
        """
        going, leaders = self._goes_on(gain), self.lowest[:, choices].argmin(1)
        for k, m in enumerate(choices):
            self._begin(m, going & (leaders == k), steps, radii)
        self.taken += steps

    def search_again(self, m: int, queries: int) -> None:
        """A search by member m, begun anew, of each case that gradients do not lead."""
        self._begin(m, self._unled(), queries, self.members[m].radii)
        self.taken += queries

    def give_credit(self) -> None:
        """Tell the engine who found each case's image."""
        names = [member.name for member in self.members]
        found = self.found_by.tolist()
        credited = [names[m] if m >= 0 else "clean" for m in found]
        self.field.objective.credit(credited, self.late_gain.tolist())

    def go_on(self, steps: int) -> None:
        """A climb of each case's leader from the case's worst image."""
        leaders, left = self.gains.argmax(1), self.standing.left
        for m in range(len(self.members)):
            cases = ((left > 0) & (leaders == m)).nonzero()[:, 0]
            self._climb(m, cases, self.images[cases], left[cases], steps, None)
        self.taken += steps

    def _unled(self) -> Tensor:
        """Which cases (B,) gradients do not lead: nothing made them worse, or a search nearly did.

        A search of a few squares brings next to nothing where a gradient shows the way.
        """
        others = [m for m, member in enumerate(self.members) if not member.learns]
        fallen = self.clean - self.lowest[:, others].amin(1)
        searches = [m for m in others if self.members[m].searches]
        by_search = self.clean - self.lowest[:, searches].amin(1) if searches else -fallen
        return (self.standing.left > 0) & ((fallen <= 0) | (by_search >= LED * fallen))

    def _goes_on(self, gain: float) -> Tensor:
        """Which cases (B,) are not at the worst score, and far from the end of their best climb.

        Of climbs that have a late gain, since a short one or a search says nothing of it.
        """
        best = self.lowest.masked_fill(self.ends.isnan(), torch.inf).argmin(1, keepdim=True)
        return (self.standing.left > 0) & (self.ends.gather(1, best)[:, 0] > gain)

    def _begin(self, m: int, which: Tensor, steps: int, radii: tuple[float, ...]) -> None:
        """A climb of member m from where it starts, of some cases, bool (B,)."""
        field, cases, way = self.field, which.nonzero()[:, 0], self.members[m].start
        start = field.clean[cases]
        if way == "random":
            start = project(random_point(field.context, field.norm), field.clean, field.budget)
            start = start[cases]
        elif way == "universal":
            start, led = universal_starts(field.select(cases), DIRECTION)
            start, cases, steps = start[led], cases[led], steps - DIRECTION
        self._climb(m, cases, start, self.clean[cases], steps, radii)

    def _climb(
        self,
        m: int,
        cases: Tensor,
        start: Tensor,
        before: Tensor,
        steps: int,
        radii: tuple[float, ...] | None,
    ) -> None:
        """A climb of member m; ``before`` is what its start (B, C, *spatial) leaves to do.

        Through the balls ``radii``; None is a rung, within the budget and by smaller steps.
        """
        if not len(cases):
            return
        member, field = self.members[m], self.field.select(cases)
        found: Sequence[Tensor]
        late = end = torch.full_like(self.late_gain[cases], torch.nan)
        if member.attack and radii:
            attack = member.attack[1](field.norm, steps)
            found = by_steps(field, attack, leaving=member.leaving)
        elif member.learns:
            found = (by_substitute(field, start, steps, self.taken),)
        elif member.loss is None:  # a search by squares
            asked = self.taken if member.late else None
            found = (search(field, start, steps, asked, self.taken),)
        else:
            first = FIRST if radii else AGAIN
            climbed = climb(field, start, member.loss, radii or (1.0,), steps, first)
            found, late = (climbed.lowest, climbed.last), climbed.late_gain
            end = late if climbed.within >= DECISIVE else end
        lowest, lowered = self._judge(m, cases, field, found, before)
        told = (lowered | (self.found_by[cases] < 0)) & ~late.isnan()
        self.late_gain[cases] = torch.where(told, late, self.late_gain[cases])
        self.gains[cases, m] = before - lowest
        known = self.lowest[cases, m]
        self.lowest[cases, m] = torch.minimum(lowest, known)
        self.ends[cases, m] = torch.where(lowest < known, end, self.ends[cases, m])

    def _judge(
        self, m: int, cases: Tensor, field: Field, found: Sequence[Tensor], before: Tensor
    ) -> tuple[Tensor, Tensor]:
        """What member m's images leave to do at least (B,), and which cases they made worse."""
        lowest, lowered = before, torch.zeros_like(before, dtype=torch.bool)
        for images in found:
            here, known = field.judged(images), self.standing.select(cases)
            lowest = torch.minimum(lowest, here.left)
            better = here.beats(known)
            if self.members[m].searches and not self.members[m].late:
                better &= here.left < known.left  # it is no sign of anything that a loss is higher
            self.images[cases[better]], self.found_by[cases[better]] = images[better], m
            self.standing = here.where(better, known).put(cases, self.standing)
            lowered |= better
        return lowest, lowered
