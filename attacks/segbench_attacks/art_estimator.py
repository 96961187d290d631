"""What ART's attacks are given inside segbench: an estimator that asks the engine's objective."""

from __future__ import annotations

from typing import Any

import numpy as np
from art.attacks.evasion import ProjectedGradientDescentNumpy, SquareAttack
from numpy.typing import NDArray
from torch import Tensor

from segbench.api import Goal, Objective
from segbench.art import DenseEstimator
from segbench_attacks.losses import cross_entropy, tracked_loss


class ObjectiveEstimator(DenseEstimator):
    """Answers for one batch, whose cases and goal it knows; losses are cross-entropy.

    For a targeted goal loss and gradient are negated, so that ART always ascends.
    """

    def __init__(self, objective: Objective, goal: Goal, images: Tensor) -> None:
        super().__init__(objective, tuple(images.shape[1:]), images.device)
        self._objective, self._goal = objective, goal

    def logits(self, images: Tensor) -> Tensor:
        """Logits of the original network in fp32."""
        return self._objective.scores(images)

    def gradient(self, images: Tensor, labels: Tensor) -> Tensor:
        """The gradient of cross-entropy, counted."""
        return self._objective.value_and_grad(images, cross_entropy, self._goal).gradient

    def losses(self, images: Tensor, labels: Tensor) -> Tensor:
        """Cross-entropy of each case (B,), from logits alone."""
        return tracked_loss("ce", self.logits(images), self._goal)

    def _labels(self, x: NDArray[Any], y: NDArray[Any]) -> Tensor:
        """The goal's own: ART hands them through, and structures have planes of labels."""
        return self._goal.labels


class StartedPGD(ProjectedGradientDescentNumpy):  # type: ignore[misc]
    """ART's PGD from given images, which it draws itself for classifiers only."""

    start: NDArray[Any]

    def _compute(self, x: NDArray[Any], *args: Any, **kwargs: Any) -> NDArray[Any]:
        first = self._i_max_iter == 0
        found: NDArray[Any] = super()._compute(self.start if first else x, *args, **kwargs)
        return found


def run_square(
    estimator: ObjectiveEstimator, x: NDArray[Any], y: NDArray[Any], seed: int, **parameters: Any
) -> NDArray[Any]:
    """ART's Square Attack on one case, through all its iterations.

    It draws from numpy's global state, which is seeded and then put back.
    """

    def unfooled(y_pred: NDArray[Any], y: NDArray[Any]) -> NDArray[np.bool_]:
        return np.zeros(len(y), dtype=bool)

    def loss(x: NDArray[Any], y: NDArray[Any]) -> NDArray[Any]:  # it descends
        return -estimator.compute_loss(x, y)

    attack = SquareAttack(
        estimator, adv_criterion=unfooled, loss=loss, batch_size=len(x), verbose=False, **parameters
    )
    before = np.random.get_state()
    np.random.seed(seed)
    try:
        found: NDArray[Any] = attack.generate(x=x, y=y)
    finally:
        np.random.set_state(before)
    return found
