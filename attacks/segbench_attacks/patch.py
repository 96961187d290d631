"""Adversarial patch: a visible square, trained over the set (Brown et al., arXiv 1712.09665).

Brown turns and scales the patch as well, so that a printed one works in the world; here it is
pasted into the image at its own size, at a place that is stated or drawn anew for every case.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import ClassVar, Literal

import torch
from torch import Tensor

from segbench.api import Budget, BudgetKind, Context, Feedback, Goal, Schedule
from segbench.errors import UserError
from segbench_attacks.goals import check_lasting_target
from segbench_attacks.losses import cross_entropy


@dataclass(frozen=True)
class Patch:
    """A square (a cube in volumes) that covers a stated share of the image, the same in all.

    What it covers is scored like the rest, so part of the damage is that the anatomy is hidden.

    Attributes:
        area: shares of the image, each a budget with a patch of its own.
        position: ``random`` for every case (trained so as well), ``centre`` or ``corner``.
        epochs: passes over the training cases.
        batch: cases whose mean loss one step ascends.
        cases: at most so many training cases, evenly spread over the split.
        step: the first signed step, in [0, 1]; steps fall to zero.
        target: ``empty``, ``shift`` or ``class:k`` leads there instead of away from the truth.
    """

    area: tuple[float, ...] = (0.05,)
    position: Literal["random", "centre", "corner"] = "random"
    epochs: int = 20
    batch: int = 16
    cases: int = 256
    step: float = 0.1
    target: str | None = None

    needs: ClassVar[Literal["gradients"]] = "gradients"
    budget_kind: ClassVar[BudgetKind] = "area"

    def __post_init__(self) -> None:
        check_lasting_target(self.target)
        for name in ("epochs", "batch", "cases", "step"):
            if not getattr(self, name) > 0:
                raise UserError(f"patch: {name}={getattr(self, name)} must be positive")
        for area in self.area:
            if not 0 < area < 1:
                raise UserError(f"patch: area={area:g} is no share of an image between 0 and 1")

    @property
    def budgets(self) -> list[Budget]:
        """One per area, in ascending order."""
        return [Budget("area", Fraction(str(area))) for area in sorted(set(self.area))]

    def schedule(self) -> Schedule:
        """The passes and their batches."""
        return Schedule(self.epochs, self.batch, self.cases)

    def start(self, shape: tuple[int, ...], budget: Budget) -> dict[str, Tensor]:
        """A gray square, as large as the area allows.

        Raises:
            UserError: the area is less than one pixel.
        """
        channels, *spatial = shape
        pixels = budget.eps * math.prod(spatial) * (1 + 1e-9)  # 64 ** (1 / 3) is 3.99…
        side = min(*spatial, int(pixels ** (1 / len(spatial))))
        if side < 1:
            raise UserError(f"patch: area={budget.eps:g} is less than a pixel of {spatial}")
        return {"patch": torch.full((channels, *[side] * len(spatial)), 0.5)}

    def apply(self, fitted: Mapping[str, Tensor], context: Context) -> Tensor:
        """The images with the patch in its place."""
        images = context.images.clone()
        for b, place in self._places(fitted["patch"], context):
            images[b][place] = fitted["patch"]
        return images

    def loss(self, logits: Tensor, goal: Goal, progress: float) -> Tensor:
        """Cross-entropy per case (B,)."""
        return cross_entropy(logits, goal)

    def learn(
        self, fitted: Mapping[str, Tensor], context: Context, feedback: Feedback, progress: float
    ) -> dict[str, Tensor]:
        """One signed step along the mean gradient under the patch."""
        patch = fitted["patch"]
        under = [feedback.gradient[b][place] for b, place in self._places(patch, context)]
        mean = torch.stack(under).double().mean(0).float()
        return {"patch": (patch + self.step * (1 - progress) * mean.sign()).clamp(0, 1)}

    def _places(self, patch: Tensor, context: Context) -> Iterator[tuple[int, tuple[slice, ...]]]:
        """For every case of the batch, where in its image the patch lies."""
        side, spatial = patch.shape[-1], context.images.shape[2:]
        room = torch.tensor([length - side for length in spatial])
        if self.position == "random":
            draws = context.noise.uniform(context.restart, (len(spatial),)).cpu()
            first = (draws * (room + 1)).long().minimum(room)
        else:
            first = (room // 2 if self.position == "centre" else 0 * room).expand(
                len(context.images), -1
            )
        for b, corner in enumerate(first.tolist()):
            yield b, (slice(None), *(slice(at, at + side) for at in corner))
