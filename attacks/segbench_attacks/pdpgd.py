"""PDPGD: primal-dual proximal gradient descent (Matyasko & Chau 2021, arXiv 2106.01538).

A game over the Lagrangian: the perturbation makes the distance and the weighted penalties small,
the dual variables, which are those weights, make them large. The paper attacks classifiers, with
one constraint per image; here there is one per pixel, as Rony et al. (CVPR 2023, arXiv 2206.07179)
have it in their comparison.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from segbench.api import Budget, Context, Feedback, Goal, Plan, State, WeightedState
from segbench.engine.ball import flat_norm, per_case
from segbench.errors import UserError
from segbench_attacks.adam import next_mean, next_root, unbiased
from segbench_attacks.constraints import (
    constraints,
    easiest,
    nearest_l2,
    nearest_linf,
    next_share,
)
from segbench_attacks.pixels import valid_pixels
from segbench_attacks.threshold import ThresholdAttack, left_to_do

LAST_STEP = 0.01  # the last step as a share of the first
DUAL_STEPS = (0.1, 0.01)  # of the logarithm of a dual variable: the first, and the last
SMOOTHING = 0.9  # what remains of the running mean of the dual variables
LEAST = 1e-12  # of a dual variable over the distance's; the most is its inverse


@dataclass(frozen=True, eq=False)
class Game(WeightedState):
    """An iterate and both players' memories.

    ``weights`` (B, 1, *spatial) are what each pixel's penalty weighs in the loss; their sum is 1.

    Attributes:
        duals: float64 (B, *spatial), the logarithm of a pixel's dual variable over the distance's.
        average: float64 (B, *spatial), running mean of a pixel's share of all dual variables, the
            distance's included.
        share: of the valid pixels that are constrained (B,).
        mean, root: Adam's moments of the gradients (B, C, *spatial).
        taken: steps so far.
    """

    duals: Tensor
    average: Tensor
    share: Tensor
    mean: Tensor
    root: Tensor
    taken: int


@dataclass(frozen=True)
class PDPGD(ThresholdAttack):
    """Adam on the weighted penalties of the pixels, a proximal step for the distance, to the end.

    A pixel's penalty is the softplus of its label's margin. Its dual variable grows by a factor of
    at most e^0.1 a step while the pixel is right, and shrinks so once it is wrong; what the
    distance weighs falls and grows with their sum. The proximal step is exact, in the metric of
    Adam's root. The paper holds every constraint to the end; here the share of the pixels that are
    held to theirs follows the threshold, as in ``alma-prox``.

    Attributes:
        norm: ``linf``; ``l2`` takes one metric for the whole case.
        step_size: the primal rate, as a share of the pixel range: how far a pixel moves in the
            first step. It falls to a hundredth.
    """

    norm: Literal["linf", "l2"] = "linf"
    steps: int = 500
    step_size: float = 0.01

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.step_size > 0:
            raise UserError(f"pdpgd: step_size={self.step_size} must be positive")

    def plan(self, budget: Budget) -> Plan:
        """All steps: it goes on to come nearer."""
        return replace(super().plan(budget), stop_early=False)

    def init(self, context: Context) -> State:
        """The clean image; the distance has half of the weight, the pixels share the rest."""
        valid, images = valid_pixels(context.goal), context.images
        count = valid.flatten(1).sum(1).clamp_min(1).double()
        duals = per_case(-count.log(), valid).expand(valid.shape).masked_fill(~valid, -torch.inf)
        average = shares(duals)
        nothing = torch.zeros_like(images)
        return Game(
            images,
            weights=weighing(average, valid).to(images),
            duals=duals,
            average=average,
            share=torch.full_like(count, 1 - self.below).to(images),
            mean=nothing,
            root=nothing,
            taken=0,
        )

    def loss(self, logits: Tensor, goal: Goal, progress: float) -> Tensor:
        """Minus the weighted penalties of a case (B,), for the engine to ascend."""
        assert goal.weights is not None
        penalty = F.softplus(constraints(logits, goal)) * goal.weights[:, 0]
        total = penalty.flatten(1).sum(1)
        return total if goal.targeted else -total  # the engine turns a targeted loss round

    def step(self, context: Context, state: State, feedback: Feedback) -> State:
        """A step of the perturbation, then one of the dual variables; the engine clips."""
        assert isinstance(state, Game)
        y = constraints(feedback.logits, context.goal)
        structures = feedback.logits.dim() > state.images.dim()
        fallen = left_to_do(feedback.logits, context.goal, structures=structures) < self.below
        moved = self._moved(context, state, feedback.gradient)
        return self._weighed(moved, y, fallen, context.goal)

    def _moved(self, context: Context, state: Game, gradient: Tensor) -> Game:
        """The perturbation after Adam's step and the distance's proximal one."""
        mean, root = next_mean(state.mean, gradient), next_root(state.root, gradient)
        along, scale = unbiased(mean, root, state.taken + 1)
        if self.norm == "l2":
            rms = flat_norm(scale, 2) / scale[0].numel() ** 0.5
            scale = per_case(rms, scale).expand_as(scale)
        rate = self.step_size * LAST_STEP ** (state.taken / self.steps)
        ahead = state.images - context.images + rate * along / scale
        low, high = -context.images, 1 - context.images
        held = state.weights[:, 0] > 0
        penalties = (state.average * held).flatten(1).sum(1).clamp_min(LEAST)
        distance = ((1 - penalties) / penalties).clamp_min(LEAST)
        metric = scale / (rate * per_case(distance, scale))
        near = nearest_linf if self.norm == "linf" else nearest_l2
        images = context.images + near(ahead.clamp(low, high), metric)
        return replace(state, images=images, mean=mean, root=root, taken=state.taken + 1)

    def _weighed(self, state: Game, y: Tensor, fallen: Tensor, goal: Goal) -> Game:
        """The dual variables after an answer with constraints y, and who is held to them next."""
        left = 1 - (state.taken - 1) / max(self.steps - 1, 1)
        rate = DUAL_STEPS[1] + (DUAL_STEPS[0] - DUAL_STEPS[1]) * left
        held = state.weights[:, 0] > 0
        duals = (state.duals + rate * y.sign()).clamp(math.log(LEAST), -math.log(LEAST))
        duals = duals.masked_fill(~valid_pixels(goal), -torch.inf)
        share = next_share(state.share, y, held, fallen)
        chosen = easiest(y, share, goal)
        fresh = shares(duals.masked_fill(~chosen, -torch.inf))
        average = SMOOTHING * state.average + (1 - SMOOTHING) * fresh
        weights = weighing(average, chosen).to(state.weights)
        return replace(state, weights=weights, duals=duals, average=average, share=share)


def shares(duals: Tensor) -> Tensor:
    """Each pixel's share (B, *spatial) of all dual variables, where the distance's is 1."""
    flat = F.pad(duals.flatten(1), (1, 0))
    return flat.softmax(1)[:, 1:].view_as(duals)


def weighing(average: Tensor, held: Tensor) -> Tensor:
    """Weights (B, 1, *spatial) in those proportions, 0 where not ``held``, with a sum of 1."""
    average = average * held
    total = average.flatten(1).sum(1).clamp_min(torch.finfo(average.dtype).tiny)
    return (average / per_case(total, average))[:, None]
