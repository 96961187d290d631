"""UAP: one perturbation for all images.

Moosavi-Dezfooli et al., "Universal adversarial perturbations", CVPR 2017 (the threat); Shafahi et
al., "Universal adversarial training", AAAI 2020 (the optimiser: gradient steps on the mean loss of
mini-batches). Signed steps for L-infinity, normalised ones for L2, of a length that falls to zero.
Shafahi clips the loss of each image; the losses here are not clipped.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from segbench.api import Budget, BudgetKind, Context, Feedback, Goal, Schedule
from segbench.engine.ball import flat_norm, per_case
from segbench.errors import UserError
from segbench_attacks.goals import check_lasting_target
from segbench_attacks.losses import cross_entropy
from segbench_attacks.steps import ascend


@dataclass(frozen=True)
class UAP:
    """A perturbation trained on the train split; a test image only has it added.

    Attributes:
        epochs: passes over the training cases.
        batch: cases whose mean loss one step ascends.
        cases: at most so many training cases, evenly spread over the split.
        rel_step: length of the first step as a share of eps.
        norm: the ball's.
        target: ``empty``, ``shift`` or ``class:k`` leads there instead of away from the truth.
    """

    epochs: int = 20
    batch: int = 16
    cases: int = 256
    rel_step: float = 0.25
    norm: Literal["linf", "l2"] = "linf"
    target: str | None = None

    needs: ClassVar[Literal["gradients"]] = "gradients"

    def __post_init__(self) -> None:
        check_lasting_target(self.target)
        for name in ("epochs", "batch", "cases", "rel_step"):
            if not getattr(self, name) > 0:
                raise UserError(f"uap: {name}={getattr(self, name)} must be positive")

    @property
    def budget_kind(self) -> BudgetKind:
        """The norm."""
        return self.norm

    def schedule(self) -> Schedule:
        """The passes and their batches."""
        return Schedule(self.epochs, self.batch, self.cases)

    def start(self, shape: tuple[int, ...], budget: Budget) -> dict[str, Tensor]:
        """No perturbation."""
        return {"delta": torch.zeros(shape)}

    def apply(self, fitted: Mapping[str, Tensor], context: Context) -> Tensor:
        """The images with the perturbation added, within the box."""
        return (context.images + fitted["delta"]).clamp(0, 1)

    def loss(self, logits: Tensor, goal: Goal, progress: float) -> Tensor:
        """Cross-entropy per case (B,)."""
        return cross_entropy(logits, goal)

    def learn(
        self, fitted: Mapping[str, Tensor], context: Context, feedback: Feedback, progress: float
    ) -> dict[str, Tensor]:
        """One step along the mean gradient; pixels that the box stopped have no say."""
        delta, eps = fitted["delta"], context.budget.eps
        moved = context.images + delta
        free = (moved >= 0) & (moved <= 1)
        mean = (feedback.gradient * free).double().mean(0, keepdim=True).float()
        length = self.rel_step * eps * (1 - progress)
        return {"delta": self._into_ball(ascend(delta[None], mean, length, self.norm), eps)[0]}

    def _into_ball(self, delta: Tensor, eps: float) -> Tensor:
        if self.norm == "linf":
            return delta.clamp(-eps, eps)
        length = flat_norm(delta, 2).clamp_min(torch.finfo(delta.dtype).tiny)
        return delta * per_case((eps / length).clamp_max(1), delta)
