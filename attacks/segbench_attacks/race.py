"""A race of losses for each case: short climbs, the rest of the steps to whoever still gains.

No loss is the strongest at every budget and on every network: what turns a whole organ at 8/255
moves nothing at 1/255. So each member of a race climbs a little from the clean image, and from then
on each case's climbs go to the member whose last one brought that case most, from the case's worst
image so far. A case at the worst score leaves. Choices are the original network's, in fp32.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from segbench.api import Budget, Context, Feedback, Goal, Noise, Objective
from segbench.engine.ball import per_case, project, scaled
from segbench_attacks.apgd_search import risen
from segbench_attacks.losses import LossName, named_loss, tracked_loss
from segbench_attacks.pgd import cosine, gathered
from segbench_attacks.square import Search, Square
from segbench_attacks.steps import Norm, ascend
from segbench_attacks.threshold import left_to_do

FIRST, AGAIN, LAST = 1.0, 0.5, 0.05  # steps as shares of eps: of a first climb, of later ones
QUERIES = 1000  # over which the squares of a search shrink


@dataclass(frozen=True)
class Member:
    """One way to climb, known by its loss.

    Attributes:
        loss: what is ascended; None searches by squares and asks for no gradient.
        radii: the balls of its first climb, equal parts of the steps, as shares of the budget.
    """

    loss: LossName | None
    radii: tuple[float, ...] = (1.0,)

    @property
    def name(self) -> str:
        """What rows call it."""
        return self.loss or "search"


@dataclass(frozen=True, eq=False)
class Standing:
    """By what two images of a case are compared.

    Attributes:
        left: what is left to do (B,), in [0, 1].
        loss: cross-entropy (B,), higher is worse for the network; it decides between equals.
    """

    left: Tensor
    loss: Tensor

    def beats(self, other: Standing) -> Tensor:
        """bool (B,)."""
        equal = self.left == other.left
        return (self.left < other.left) | (equal & risen(self.loss, other.loss))

    def where(self, chosen: Tensor, other: Standing) -> Standing:
        """This one for the chosen cases (B,), the other for the rest."""
        left = torch.where(chosen, self.left, other.left)
        return Standing(left, torch.where(chosen, self.loss, other.loss))

    def put(self, index: Tensor, whole: Standing) -> Standing:
        """``whole`` with these in the places ``index`` (int64, one axis)."""
        left = whole.left.index_copy(0, index, self.left)
        return Standing(left, whole.loss.index_copy(0, index, self.loss))

    def select(self, index: Tensor) -> Standing:
        """Those of the cases at ``index`` (int64, one axis)."""
        return Standing(self.left[index], self.loss[index])


@dataclass(frozen=True, eq=False)
class Field:
    """The cases of a race, or some of them: what stays the same.

    Attributes:
        clean: the clean images (B, C, *spatial).
    """

    objective: Objective
    clean: Tensor
    goal: Goal
    budget: Budget
    noise: Noise
    norm: Norm

    def select(self, index: Tensor) -> Field:
        """The cases at ``index`` (int64, one axis)."""
        goal = replace(self.goal, labels=self.goal.labels[index], truth=self.goal.truth[index])
        return replace(
            self,
            objective=self.objective.select(index),
            clean=self.clean[index],
            goal=goal,
            noise=self.noise.select(index),
        )

    def answered(self, logits: Tensor) -> Standing:
        """How images stand by these logits themselves."""
        left = left_to_do(logits, self.goal, structures=self.goal.structures)
        return Standing(left, tracked_loss("ce", logits, self.goal))

    def judged(self, images: Tensor) -> Standing:
        """How images (B, C, *spatial) stand by the original network."""
        left = self.objective.remaining(images, self.goal)
        return Standing(left, tracked_loss("ce", self.objective.scores(images), self.goal))


class Race:
    """Each case's worst image so far, and what each member's last climb brought it.

    Attributes:
        found_by: int64 (B,), the member that found it; -1 for the clean image.
        images, standing: the worst image (B, C, *spatial) and how it stands.
        gains: (B, M), the fall of the score by each member's last climb; infinite before it.
    """

    def __init__(self, field: Field, members: Sequence[Member]) -> None:
        self.field, self.members = field, members
        self.images = field.clean.clone()
        self.standing = field.judged(field.clean)
        self.gains = self.standing.left.new_full((len(field.clean), len(members)), torch.inf)
        self.found_by = torch.full_like(self.standing.left, -1, dtype=torch.int64)
        self.taken = 0  # steps of all rungs so far: the draws that a search may have used

    def open(self, lengths: Sequence[int]) -> None:
        """A climb of each member from the clean image, of so many steps each."""
        clean = self.standing.left
        for m, steps in enumerate(lengths):
            going = (self.standing.left > 0).nonzero()[:, 0]
            self._climb(m, going, self.field.clean[going], clean[going], steps, FIRST)
            self.taken += steps

    def give_credit(self) -> None:
        """Tell the engine who found each case's image."""
        names = [member.name for member in self.members]
        found = self.found_by.tolist()
        self.field.objective.credit([names[m] if m >= 0 else "clean" for m in found])

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
        if member.loss is None:
            found: tuple[Tensor, ...] = (search(field, start, self.taken, steps),)
        else:
            radii = member.radii if first == FIRST else (1.0,)
            found = climb(field, start, member.loss, radii, steps, first)
        lowest = before
        for images in found:
            here, known = field.judged(images), self.standing.select(cases)
            lowest = torch.minimum(lowest, here.left)
            better = here.beats(known)
            self.images[cases[better]], self.found_by[cases[better]] = images[better], m
            self.standing = here.where(better, known).put(cases, self.standing)
        self.gains[cases, m] = before - lowest


def climb(
    field: Field,
    start: Tensor,
    loss: LossName,
    radii: tuple[float, ...],
    steps: int,
    first: float,
) -> tuple[Tensor, Tensor]:
    """The iterate with the lowest score by its own logits, and the last one (B, C, *spatial).

    Steps fall along half a cosine and follow the gathered gradients. Only what lies within the
    budget counts.
    """
    images, velocity, goal = start, torch.zeros_like(start), field.goal
    lowest, standing = start, None
    for step in range(steps):
        radius = radii[step * len(radii) // steps]
        progress = step / steps

        def value(logits: Tensor, goal: Goal, progress: float = progress) -> Tensor:
            return named_loss(loss, logits, goal, progress)

        feedback = field.objective.value_and_grad(images, value, goal)
        if step == 0:
            goal = replace(goal, start=feedback.logits)
        if radius <= 1:
            here = field.answered(feedback.logits)
            if standing is None:
                lowest, standing = images, here
            better = here.beats(standing)
            lowest = torch.where(per_case(better, images), images, lowest)
            standing = here.where(better, standing)
        velocity = gathered(velocity, feedback.gradient)
        length = cosine(progress, first, LAST) * field.budget.eps
        images = ascend(images, velocity, length, field.norm)
        after = radii[min((step + 1) * len(radii) // steps, len(radii) - 1)]
        images = project(images, field.clean, scaled(field.budget, after))
    return project(lowest, field.clean, field.budget), images


def search(field: Field, start: Tensor, asked: int, queries: int) -> Tensor:
    """The best of so many squares (Andriushchenko et al., ECCV 2020) put on ``start``.

    ``asked`` queries have gone before; a start of the clean images opens with stripes.
    """
    square = Square(
        steps=QUERIES, norm="l2" if field.norm == "l2" else "linf", loss_="soft-jaccard"
    )
    context = Context(field.clean, field.goal, field.budget, field.noise)
    loss = torch.full_like(start.flatten(1)[:, 0], -torch.inf)
    untouched = (start == field.clean).flatten(1).all(1)
    opened = torch.where(per_case(untouched, start), square.init(context).images, start)
    state = Search(opened, start, loss, asked)
    for _ in range(queries):
        images = project(state.images, field.clean, field.budget)
        logits = field.objective.scores(images)
        value = square.loss(logits, field.goal, 0.0)
        value = -value if field.goal.targeted else value
        feedback = Feedback(value, torch.zeros_like(images), logits)
        moved = square.step(context, replace(state, images=images), feedback)
        assert isinstance(moved, Search)
        state = moved
    return project(state.best, field.clean, field.budget)
