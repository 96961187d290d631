"""The ways to climb that a race is run among beside other attacks: by a loss, by squares."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from segbench.api import Feedback, Goal, Loss
from segbench.engine.ball import per_case, project, scaled
from segbench.engine.late_gain import LateGain
from segbench_attacks.field import Field
from segbench_attacks.losses import LossName, named_loss
from segbench_attacks.pgd import cosine, gathered
from segbench_attacks.square import Search, Square
from segbench_attacks.steps import ascend

Ask = Callable[[Tensor, Loss, Goal], Feedback]
LAST = 0.05  # the last step of a climb as a share of eps
TOLD = 12  # steps within the budget, from which on rows say what the last half gained
QUERIES = 1000  # over which the squares of the searches of early versions shrink


@dataclass(frozen=True, eq=False)
class Climbed:
    """What came of a climb.

    Attributes:
        lowest: the iterate with the lowest score by its own logits (B, C, *spatial).
        last: the last one, likewise.
        late_gain: (B,), the fall of that score in the last half of the steps within the budget,
            NaN of fewer than 12.
        within: how many those were.
    """

    lowest: Tensor
    last: Tensor
    late_gain: Tensor
    within: int


def climb(
    field: Field,
    start: Tensor,
    loss: LossName,
    radii: tuple[float, ...],
    steps: int,
    first: float,
    ask: Ask | None = None,
) -> Climbed:
    """A climb from ``start`` (B, C, *spatial).

    Steps fall along half a cosine, from ``first`` as a share of eps, and follow the gathered
    gradients. Only what lies within the budget counts. Whoever stands in for the field's network
    is given as ``ask``.
    """
    ask = ask or field.objective.value_and_grad
    images, velocity, goal = start, torch.zeros_like(start), field.goal
    lowest, standing = start, None
    within = [step for step in range(steps) if radii[step * len(radii) // steps] <= 1]
    late, cases = LateGain(len(start), len(within), start.device), torch.arange(len(start))
    for step in range(steps):
        radius = radii[step * len(radii) // steps]
        progress = step / steps

        def value(logits: Tensor, goal: Goal, progress: float = progress) -> Tensor:
            return named_loss(loss, logits, goal, progress)

        feedback = ask(images, value, goal)
        if step == 0:
            goal = replace(goal, start=feedback.logits)
        if radius <= 1:
            here = field.answered(feedback.logits)
            if len(within) >= TOLD:
                late.note(step - within[0], cases, here.left)
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
    return Climbed(project(lowest, field.clean, field.budget), images, late.gain(), len(within))


def search(
    field: Field, start: Tensor, queries: int, asked: int | None = None, number: int = 0
) -> Tensor:
    """The best of so many squares (Andriushchenko et al., ECCV 2020) put on ``start``.

    A start of the clean images opens with stripes. Squares shrink over its own queries.

    Args:
        field: the batch.
        start: (B, C, *spatial).
        queries: so many.
        asked: as the first versions of the standard attack searched: with squares as small as after
            so many queries of a thousand.
        number: that of the search, which has draws of its own.
    """
    square = Square(
        steps=queries if asked is None else QUERIES,
        norm="l2" if field.norm == "l2" else "linf",
        loss_="soft-jaccard",
    )
    context = replace(field.context, restart=0 if asked is not None else number)
    loss = torch.full_like(start.flatten(1)[:, 0], -torch.inf)
    untouched = (start == field.clean).flatten(1).all(1)
    opened = torch.where(per_case(untouched, start), square.init(context).images, start)
    state = Search(opened, start, loss, asked or 0)
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
