"""A direction of the network itself, whatever the image: what moves its answer to none the most.

Khrulkov & Oseledets, "Art of Singular Vectors and Universal Adversarial Perturbations", CVPR 2018,
arXiv 1709.03582: the first singular vector of the Jacobian in the ball's norm, by the power method.
There it is a layer's, over a batch of images; here the answer's, at a flat image, so that what a
case meets does not depend on which others there are.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from segbench.api import Goal
from segbench.engine.ball import per_case, project
from segbench_attacks.field import Field
from segbench_attacks.steps import ascend

_FLAT = 0.5


def universal_start(field: Field, gradients: int) -> Tensor:
    """The ball's end along that direction or against it, whichever leaves less: (B, C, *spatial).

    Where the gradient is zero it is the clean image.
    """
    flat, goal = torch.full_like(field.clean, _FLAT), field.goal
    images = flat
    for step in range(gradients):
        feedback = field.objective.value_and_grad(images, _moved, goal)
        if step == 0:
            goal = replace(goal, start=feedback.logits)
        images = ascend(flat, feedback.gradient, field.budget.eps, field.norm)
        images = project(images, flat, field.budget)
    ahead, back = (
        project(field.clean + way * (images - flat), field.clean, field.budget) for way in (1, -1)
    )
    first = field.judged(ahead).beats(field.judged(back))
    return torch.where(per_case(first, flat), ahead, back)


def _moved(logits: Tensor, goal: Goal) -> Tensor:
    """Half the square of how far the answer is from its first, per case (B,); first, from zero."""
    change = logits if goal.start is None else logits - goal.start
    far = change.square().flatten(1).sum(1) / 2
    return -far if goal.targeted else far  # the engine turns it round
