"""Substitute: a network learnt from the attacked one's answers, and attacked in its place.

Papernot, McDaniel, Goodfellow, Jha, Celik & Swami, "Practical Black-Box Attacks against Machine
Learning", ASIA CCS 2017, arXiv 1602.02697. There one substitute of a classifier is trained for all
images, on labels. Here a case has its own, trained on logits near its image: an answer is a number
for each pixel, of which a few dozen say much. What fools the substitute is shown to the network,
whose answer is learnt next, so that the substitute is best where it is used (their augmentation).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from segbench.api import Budget, BudgetKind, Feedback, Goal, Loss, Noise, Objective
from segbench.engine.ball import confined, project
from segbench.errors import UserError
from segbench_attacks.answer_model import AnswerModel, finer
from segbench_attacks.climbs import climb
from segbench_attacks.field import Field
from segbench_attacks.goals import check_goal
from segbench_attacks.pixels import valid_pixels

EXPLORING = 0.4  # of the queries: blocks of signs at random, from which the first lesson is learnt
SIDES = (1, 2, 4, 8, 16)  # of those blocks, in places of the grid that is learnt on
LESSON, FURTHER = 120, 20  # steps of learning before the first climb, and before each other
CLIMB = 10  # steps on the substitute, for each query
_BLOCKS, _A_RUN = 2**23, 2**24  # draws of their own


@dataclass(frozen=True)
class Substitute:
    """A black-box attack by transfer that needs no second network: it learns its own.

    Logits are asked for and no gradient. After 40 % of the queries have asked about random blocks,
    each costs a lesson, of twenty steps on a grid of at most 4096 places whatever the image's size,
    and a climb of ten steps on the substitute, whose loss is of the whole image. What that brings
    beside `square` and `rays` is in ``docs/strength.md``.

    Attributes:
        steps: queries of a case.
        norm: ``linf`` or ``l2``.
        target: ``empty``, ``shift``, ``class:k`` or ``file:FOLDER`` leads there, and not away
            from the truth.
    """

    steps: int = 100
    norm: Literal["linf", "l2"] = "linf"
    target: str | None = None

    needs: ClassVar[Literal["scores"]] = "scores"

    def __post_init__(self) -> None:
        check_goal(self.target, "truth")
        if self.steps < 1:
            raise UserError(f"substitute: steps={self.steps} must be at least 1")

    @property
    def budget_kind(self) -> BudgetKind:
        """The norm."""
        return self.norm

    def run(
        self, objective: Objective, images: Tensor, goal: Goal, budget: Budget, noise: Noise
    ) -> Tensor:
        """The worst image that was asked about, (B, C, *spatial)."""
        field = Field(objective, images, goal, budget, noise, self.norm)
        return by_substitute(field, images, self.steps)


def by_substitute(field: Field, start: Tensor, queries: int, number: int = 0) -> Tensor:
    """Of each case the worst image that was asked about, (B, C, *spatial).

    Cases learn one by one, so that none depends on the others of its batch.

    Args:
        field: the batch.
        start: (B, C, *spatial), which is asked about after the clean images.
        queries: so many.
        number: that of the run, which has draws of its own.
    """
    found = start.clone()
    for case in range(len(start)):
        at = torch.tensor([case], device=start.device)
        found[at] = _Case(field.select(at), start[at], number).run(queries)
    return found


class _Case:
    """One case, what was asked about it, and its substitute.

    Attributes:
        worst: the image (1, C, *spatial) that stands lowest of those.
        draws: where this run's begin.
    """

    def __init__(self, field: Field, start: Tensor, number: int) -> None:
        self.field, self.region = field, field.objective.region
        self.asked, self.draws = 0, number * _A_RUN
        logits, eps = self._answer(field.clean), field.budget.eps or 1.0
        unit = eps if field.norm == "linf" else eps / field.clean[0].numel() ** 0.5
        self.model = AnswerModel(field.clean, logits, unit, field.noise, self.draws)
        self.worst, self.standing = field.clean, field.answered(logits)
        if not torch.equal(start, field.clean):
            self._ask(start)

    def run(self, queries: int) -> Tensor:
        """The worst image after so many, fewer where the case is at the worst score before."""
        exploring = max(2, 1 + int(EXPLORING * queries))
        while self.asked < min(queries, exploring) and self.standing.left > 0:
            self._ask(self._blocks())
        lesson = LESSON
        while self.asked < queries and self.standing.left > 0:
            self.model.fit(lesson)
            lesson = FURTHER
            self._ask(self._climbed())
        return self.worst

    def _ask(self, images: Tensor) -> None:
        """The network about an image, brought into ball, box and region."""
        images = project(images, self.field.clean, self.field.budget, self.region)
        logits = self._answer(images)
        here = self.field.answered(logits)
        if here.beats(self.standing):
            self.worst, self.standing = images, here
        self.model.tell(images, logits)

    def _answer(self, images: Tensor) -> Tensor:
        """The network's logits, and zeros for pixels that are not scored, which teach nothing."""
        self.asked += 1
        valid = valid_pixels(self.field.goal)[:, None]
        return self.field.objective.scores(images).where(valid, 0)

    def _blocks(self) -> Tensor:
        """The clean image plus or minus the budget in blocks, a sign at random for each."""
        clean, block = self.field.clean, self.model.block * SIDES[self.asked % len(SIDES)]
        grid = [-(-length // block) for length in clean.shape[2:]]
        drawn = self.field.noise.uniform(self.draws + _BLOCKS + self.asked, (clean.shape[1], *grid))
        signs = torch.where(drawn < 0.5, -1.0, 1.0)
        return clean + self.field.budget.eps * finer(signs, block, clean.shape[2:])

    def _climbed(self) -> Tensor:
        """Where a climb on the substitute ends: by turns from the clean image and the worst one."""
        fresh = self.asked % 2 == 0
        start = self.field.clean if fresh else self.worst
        first = 1.0 if fresh else 0.5
        return climb(self.field, start, "reach", (1.0,), CLIMB, first, self._in_place).last

    def _in_place(self, images: Tensor, loss: Loss, goal: Goal) -> Feedback:
        """What ``Objective.value_and_grad`` is, of the substitute in place of the network."""
        leaf = images.detach().requires_grad_()
        with torch.enable_grad():
            logits = self.model(confined(leaf, self.field.clean, self.region))
            value = loss(logits, goal)
            value = -value if goal.targeted else value
            (gradient,) = torch.autograd.grad(value.sum(), leaf)
        return Feedback(value.detach(), gradient, logits.detach())
