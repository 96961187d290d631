"""A race for each case: some ways to climb, and the rest of the steps to whoever brought most.

No loss is the strongest at every budget and on every network: what turns a whole organ at 8/255
moves nothing at 1/255. Each member of a race climbs from where it starts, and each further climb of
a case goes to the member whose last one brought that case most, from the case's worst image so far.
A case at the worst score leaves. Choices are the original network's, in fp32.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from segbench.engine.ball import project
from segbench_attacks.climbs import climb, search
from segbench_attacks.field import Field
from segbench_attacks.losses import LossName
from segbench_attacks.runs import BySteps, by_steps
from segbench_attacks.steps import Norm, random_point

FIRST, AGAIN = 1.0, 0.5  # the first step as a share of eps: of a first climb, of later ones


@dataclass(frozen=True)
class Member:
    """One way to climb.

    Attributes:
        loss: what is ascended; None searches by squares and asks for no gradient. Of an attack,
            what its further climbs are made by.
        radii: the balls of its first climb, equal parts of the steps, as shares of the budget.
        start: where its first climb starts: the ``clean`` image, or a ``random`` point of the ball.
        attack: an attack by steps that takes the place of its first climb, and its name.
        leaving: whether a case that is at the worst score midway through that attack leaves it.
    """

    loss: LossName | None
    radii: tuple[float, ...] = (1.0,)
    start: Literal["clean", "random"] = "clean"
    attack: tuple[str, Callable[[Norm, int], BySteps]] | None = None
    leaving: bool = False

    @property
    def name(self) -> str:
        """What rows call it."""
        if self.attack:
            return self.attack[0]
        name = self.loss or "search"
        return name if self.start == "clean" else f"{name} from a random start"


class Race:
    """Each case's worst image so far, and what each member's last climb brought it.

    Attributes:
        found_by: int64 (B,), the member that found it; -1 for the clean image.
        images, standing: the worst image (B, C, *spatial) and how it stands.
        gains: (B, M), the fall of the score by each member's last climb; infinite before it.
        late_gain: (B,), of the climb that found it, or of the last one while none did; NaN where
            that was another attack, or a search.
    """

    def __init__(self, field: Field, members: Sequence[Member]) -> None:
        self.field, self.members = field, members
        self.images = field.clean.clone()
        self.standing = field.judged(field.clean)
        self.gains = self.standing.left.new_full((len(field.clean), len(members)), torch.inf)
        self.found_by = torch.full_like(self.standing.left, -1, dtype=torch.int64)
        self.late_gain = torch.full_like(self.standing.left, torch.nan, dtype=torch.float64)
        self.taken = 0  # steps of all rungs so far: the draws that a search may have used

    def open(self, lengths: Sequence[int]) -> None:
        """A climb of each member from where it starts, of so many steps each."""
        clean, field = self.standing.left, self.field
        for m, steps in enumerate(lengths):
            going, start = (self.standing.left > 0).nonzero()[:, 0], field.clean
            if self.members[m].start == "random":
                start = random_point(field.context, field.norm)
                start = project(start, field.clean, field.budget)
            self._climb(m, going, start[going], clean[going], steps, FIRST)
            self.taken += steps

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
            self._climb(m, cases, self.images[cases], left[cases], steps, AGAIN)
        self.taken += steps

    def _climb(
        self, m: int, cases: Tensor, start: Tensor, before: Tensor, steps: int, first: float
    ) -> None:
        """A climb of member m; ``before`` is what its start (B, C, *spatial) leaves to do."""
        if not len(cases):
            return
        member, field = self.members[m], self.field.select(cases)
        found: Sequence[Tensor]
        late = torch.full_like(self.late_gain[cases], torch.nan)
        if member.attack and first == FIRST:
            attack = member.attack[1](field.norm, steps)
            found = by_steps(field, attack, leaving=member.leaving)
        elif member.loss is None:
            found = (search(field, start, self.taken, steps),)
        else:
            radii = member.radii if first == FIRST else (1.0,)
            climbed = climb(field, start, member.loss, radii, steps, first)
            found, late = (climbed.lowest, climbed.last), climbed.late_gain
        lowest = before
        for images in found:
            here, known = field.judged(images), self.standing.select(cases)
            lowest = torch.minimum(lowest, here.left)
            better = here.beats(known)
            self.images[cases[better]], self.found_by[cases[better]] = images[better], m
            self.standing = here.where(better, known).put(cases, self.standing)
        nowhere = self.found_by[cases] < 0
        own = (self.found_by[cases] == m) | (nowhere & ~late.isnan())
        self.late_gain[cases] = torch.where(own, late, self.late_gain[cases])
        self.gains[cases, m] = before - lowest
