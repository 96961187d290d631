"""The cases of a race of attacks, and by what two images of one are compared."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from segbench.api import Budget, Context, Goal, Noise, Objective
from segbench_attacks.apgd_search import risen
from segbench_attacks.losses import tracked_loss
from segbench_attacks.steps import Norm
from segbench_attacks.threshold import left_to_do


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

    @property
    def context(self) -> Context:
        """What an attack by steps is told."""
        return Context(self.clean, self.goal, self.budget, self.noise)

    def answered(self, logits: Tensor) -> Standing:
        """How images stand by these logits themselves."""
        left = left_to_do(logits, self.goal, structures=self.goal.structures)
        return Standing(left, tracked_loss("ce", logits, self.goal))

    def judged(self, images: Tensor) -> Standing:
        """How images (B, C, *spatial) stand by the original network."""
        left = self.objective.remaining(images, self.goal)
        return Standing(left, tracked_loss("ce", self.objective.scores(images), self.goal))
