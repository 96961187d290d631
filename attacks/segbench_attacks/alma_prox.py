"""ALMA-prox: augmented Lagrangian and proximal splitting (Rony et al., CVPR 2023).

arXiv 2206.07179. One constraint per pixel, "no longer its label", under the distance itself.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from segbench.api import Budget, Context, Feedback, Goal, Plan, State, WeightedState
from segbench.engine.ball import per_case
from segbench.errors import UserError
from segbench_attacks.constraints import (
    constraints,
    easiest,
    nearest_l2,
    nearest_linf,
    next_share,
)
from segbench_attacks.pixels import valid_pixels
from segbench_attacks.threshold import ThresholdAttack, left_to_do

SMOOTHING = 0.8  # alpha: what remains of a multiplier
FIRST_MULTIPLIER, MULTIPLIERS = 1e-4, (1e-12, 1.0)
FIRST_PENALTY, GROWTH, IMPROVED, CHECK_EVERY = 0.01, 2.0, 0.95, 10
METRIC_DECAY = 0.99
LAST_STEP = 0.1  # the last step as a share of the first


@dataclass(frozen=True, eq=False)
class Lagrangian(WeightedState):
    """An iterate, its multipliers and its metric.

    ``weights`` (B, 4, *spatial) are the multiplier, the penalty, 1 where the pixel is constrained
    and the inverse of the case's unit.

    Attributes:
        squares: running mean of squared gradients (B, C, *spatial).
        share: of the valid pixels that are constrained (B,).
        checked: the constraints at the last check (B, *spatial).
        taken: steps so far.
    """

    squares: Tensor
    share: Tensor
    checked: Tensor
    taken: int


@dataclass(frozen=True)
class ALMAProx(ThresholdAttack):
    """Minimises distance plus penalties on the pixels that are still right, to the last step.

    Each pixel's constraint is its label's margin, over the mean absolute margin of the clean image;
    plain, since the ratio of the paper takes three classes to define. Multipliers and penalties
    follow the paper's rules. The distance enters by its proximal operator, in a diagonal metric of
    running mean squares of the gradient. The paper constrains all but the hardest hundredth of the
    pixels; here their share follows the threshold: it falls where the case has fallen and rises
    where the constrained pixels are wrong and the case has not.

    Attributes:
        norm: ``linf`` as in the paper; ``l2`` takes one metric for the whole case.
        step_size: of the first step, as a share of the pixel range. All steps together reach
            0.39 times ``steps * step_size`` (50/255 by default); a case that is further away keeps
            its clean image.
    """

    norm: Literal["linf", "l2"] = "linf"
    steps: int = 500
    step_size: float = 0.001

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.step_size > 0:
            raise UserError(f"alma-prox: step_size={self.step_size} must be positive")

    def plan(self, budget: Budget) -> Plan:
        """All steps: it goes on to come nearer."""
        return replace(super().plan(budget), stop_early=False)

    def init(self, context: Context) -> State:
        """The clean image, whose unit is not known yet: the first answer only measures."""
        labels, ones = context.goal.labels, torch.ones_like(context.images.flatten(1)[:, 0])
        weights = [FIRST_MULTIPLIER, FIRST_PENALTY, 1.0, 0.0]
        return Lagrangian(
            context.images,
            weights=torch.stack([torch.full_like(labels, w, dtype=ones.dtype) for w in weights], 1),
            squares=torch.zeros_like(context.images),
            share=(1 - self.below) * ones,
            checked=torch.full_like(labels, torch.inf, dtype=ones.dtype),
            taken=0,
        )

    def loss(self, logits: Tensor, goal: Goal, progress: float) -> Tensor:
        """Minus the penalties of a case (B,), for the engine to ascend."""
        assert goal.weights is not None
        multiplier, penalty, chosen, inverse = goal.weights.unbind(1)
        y = constraints(logits, goal) * inverse
        multiplier = renewed(multiplier, penalty, y.detach())
        total = (penalised(y, multiplier, penalty) * chosen).flatten(1).sum(1)
        return total if goal.targeted else -total  # the engine turns a targeted loss round

    def step(self, context: Context, state: State, feedback: Feedback) -> State:
        """Renew the multipliers, then one proximal gradient step; the engine clips."""
        assert isinstance(state, Lagrangian)
        y = constraints(feedback.logits, context.goal)
        if state.taken == 0:
            return _measured(state, y, context.goal)
        structures = feedback.logits.dim() > state.images.dim()
        fallen = left_to_do(feedback.logits, context.goal, structures=structures) < self.below
        state = _renewed(state, y * state.weights[:, 3], fallen, context.goal)
        return self._moved(context, state, feedback.gradient)

    def _moved(self, context: Context, state: Lagrangian, gradient: Tensor) -> Lagrangian:
        length = self.step_size * LAST_STEP ** (state.taken / self.steps)
        squares = METRIC_DECAY * state.squares + (1 - METRIC_DECAY) * gradient.square()
        mean = squares / (1 - METRIC_DECAY**state.taken)
        if self.norm == "l2":
            mean = per_case(mean.flatten(1).mean(1), mean).expand_as(mean)
        metric = mean.sqrt().clamp_min(torch.finfo(mean.dtype).tiny ** 0.5)
        ahead = state.images - context.images + length * gradient / metric
        low, high = -context.images, 1 - context.images
        near = nearest_linf if self.norm == "linf" else nearest_l2
        images = context.images + near(ahead.clamp(low, high), metric / length)
        return replace(state, images=images, squares=squares, taken=state.taken + 1)


def penalised(y: Tensor, multiplier: Tensor, penalty: Tensor) -> Tensor:
    """The paper's penalty P2: its slope at 0 is the multiplier, and it bends upwards above."""
    above, under = y.clamp_min(0), y.clamp_max(0)
    rising = multiplier * above + multiplier * penalty * above**2 + penalty**2 * above**3 / 6
    return rising + multiplier * under / (1 - penalty * under)


def renewed(multiplier: Tensor, penalty: Tensor, y: Tensor) -> Tensor:
    """The multipliers, moved towards the penalty's slope at y."""
    above, under = y.clamp_min(0), y.clamp_max(0)
    rising = multiplier + 2 * multiplier * penalty * above + penalty**2 * above**2 / 2
    slope = torch.where(y > 0, rising, multiplier / (1 - penalty * under) ** 2)
    return (SMOOTHING * multiplier + (1 - SMOOTHING) * slope).clamp(*MULTIPLIERS)


def _measured(state: Lagrangian, y: Tensor, goal: Goal) -> Lagrangian:
    """The state that knows the case's unit; the iterate stays."""
    valid = valid_pixels(goal).flatten(1).sum(1).clamp_min(1)
    unit = y.abs().flatten(1).sum(1) / valid
    weights = state.weights.clone()
    weights[:, 3] = per_case(1 / unit.clamp_min(1e-12), y)
    return replace(state, weights=weights, taken=1)


def _renewed(state: Lagrangian, y: Tensor, fallen: Tensor, goal: Goal) -> Lagrangian:
    """Multipliers after an answer with constraints y; penalties at every tenth; pixels chosen."""
    multiplier, penalty, chosen, inverse = state.weights.unbind(1)
    pushed, checked = chosen > 0, state.checked
    multiplier = torch.where(pushed, renewed(multiplier, penalty, y), multiplier)
    if state.taken % CHECK_EVERY == 0:
        stuck = pushed & (y > 0) & (checked > 0) & (y > IMPROVED * checked)
        penalty, checked = torch.where(stuck, GROWTH * penalty, penalty), y
    share = next_share(state.share, y, pushed, fallen)
    weights = torch.stack([multiplier, penalty, easiest(y, share, goal).to(y), inverse], 1)
    return replace(state, weights=weights, share=share, checked=checked)
