"""ASMA: the adaptive segmentation mask attack (Ozbulak et al., MICCAI 2019, arXiv 1907.13124)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from segbench.api import Context, Feedback, Goal, State
from segbench.errors import UserError
from segbench_attacks.losses import masked_logit, masked_margin
from segbench_attacks.pixels import is_one_sigmoid
from segbench_attacks.steps import ascend
from segbench_attacks.threshold import ThresholdAttack, left_to_do, length_of


@dataclass(frozen=True)
class ASMA(ThresholdAttack):
    """Steps that raise the target's logit where it is not yet predicted, longer the nearer it is.

    The step is beta times the intersection over union with the target plus tau. The paper scales
    the raw gradient by it, so that its size is the network's; here it is a length. The paper always
    has a target, so give one (``target=shift``); without, the truth's logit falls where it is
    still predicted, and 1 minus the Jaccard stands for the intersection over union. On a network
    with one sigmoid, whose background has no logit of its own, the margin takes the logit's place.

    Attributes:
        norm: ``linf`` takes sign steps, ``l2`` steps along the normalised gradient.
        beta, tau: of the step, as shares of the pixel range (``l2``: the root mean square over
            pixels).
    """

    norm: Literal["linf", "l2"] = "l2"
    beta: float = 0.5 / 255
    tau: float = 0.05 / 255

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.beta < 0 or not self.tau > 0:
            raise UserError(
                f"asma: beta={self.beta} must not be negative, and tau={self.tau} be positive"
            )

    def loss(self, logits: Tensor, goal: Goal, progress: float) -> Tensor:
        """Minus the labels' logits on open pixels, per case (B,)."""
        open_loss = masked_margin if is_one_sigmoid(logits) else masked_logit
        return open_loss(logits, goal)

    def step(self, context: Context, state: State, feedback: Feedback) -> State:
        """One step of beta * IoU + tau; the engine clips."""
        structures = feedback.logits.dim() > state.images.dim()
        gained = 1 - left_to_do(feedback.logits, context.goal, structures=structures)
        rms = (self.beta * gained + self.tau).to(state.images)
        length = length_of(rms, state.images, self.norm)
        return State(ascend(state.images, feedback.gradient, length, self.norm))
