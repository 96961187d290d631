"""DAG: pixels that are still right are pushed over (Xie et al., ICCV 2017, arXiv 1703.08603)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from segbench.api import Context, Feedback, Goal, State
from segbench.errors import UserError
from segbench_attacks.losses import masked_margin
from segbench_attacks.steps import ascend
from segbench_attacks.threshold import ThresholdAttack, length_of


@dataclass(frozen=True)
class DAG(ThresholdAttack):
    """Steps along the gradient of the margins of open pixels, until the case has fallen.

    The paper divides the gradient by its largest entry, a direction that makes neither norm small;
    here a step is the steepest of its norm. It stops at a share of fooled pixels, this at a
    Jaccard.

    Attributes:
        norm: ``linf`` takes sign steps, ``l2`` steps along the normalised gradient.
        step_size: how far a step moves a pixel (``l2``: the root mean square over pixels); the
            paper's is half a gray level.
    """

    norm: Literal["linf", "l2"] = "linf"
    step_size: float = 0.5 / 255

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.step_size > 0:
            raise UserError(f"dag: step_size={self.step_size} must be positive")

    def loss(self, logits: Tensor, goal: Goal, progress: float) -> Tensor:
        """The margins of the open pixels, per case (B,)."""
        return masked_margin(logits, goal)

    def step(self, context: Context, state: State, feedback: Feedback) -> State:
        """One step of ``step_size``; the engine clips."""
        length = length_of(self.step_size, state.images, self.norm)
        return State(ascend(state.images, feedback.gradient, length, self.norm))
