"""A direction of the network itself, whatever the image: what moves its answer to noise the most.

Khrulkov & Oseledets, "Art of Singular Vectors and Universal Adversarial Perturbations", CVPR 2018,
arXiv 1709.03582: the first singular vector of the Jacobian in the ball's norm, by the power method.
There it is a layer's, over a batch of images; here the answer's, at one image of noise, the same
for all cases, so that what a case meets does not depend on which others there are.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from segbench.api import Goal
from segbench.engine.ball import project
from segbench.engine.memory import is_out_of_memory
from segbench.engine.trust import AllMisledError
from segbench_attacks.field import Field
from segbench_attacks.steps import ascend

_DARKEST, _BRIGHTEST, _SEED = 0.25, 0.75, 0  # of the noise
_LOUDEST = 1e4  # logits beyond are all alike: squares of larger ones leave no room for others


def universal_starts(field: Field, gradients: int) -> tuple[Tensor, Tensor]:
    """Where each case starts (B, C, *spatial), and which (B,) have a direction to start along.

    It is the ball's end along the direction or against it, whichever leaves less. There is none
    where the network's gradient at the noise is zero, or where it does not answer to it: noise is
    no image, and that costs no case its score.
    """
    starts = field.clean.clone()
    led = torch.zeros(len(starts), dtype=torch.bool, device=starts.device)
    for case in range(len(starts)):
        one = field.select(torch.tensor([case], device=starts.device))
        try:
            direction = _direction(one, gradients)
        except AllMisledError:
            raise
        except Exception as error:  # whatever a stranger's network makes of noise
            if is_out_of_memory(error):
                raise
            continue
        if direction is not None:
            starts[case], led[case] = _lower_end(one, direction)[0], True
    return starts, led


def _direction(field: Field, gradients: int) -> Tensor | None:
    """A change (1, C, *spatial) of the budget's size; None where the gradient is zero."""
    draw = torch.Generator().manual_seed(_SEED)
    noise = torch.rand(field.clean.shape, generator=draw).to(field.clean)
    noise = _DARKEST + (_BRIGHTEST - _DARKEST) * noise
    images, goal, direction = noise, field.goal, None
    for step in range(gradients):
        feedback = field.objective.value_and_grad(images, _moved, goal)
        if step == 0:
            goal = replace(goal, start=feedback.logits)
        if not feedback.gradient.any():
            break
        nothing = torch.zeros_like(noise)
        direction = ascend(nothing, feedback.gradient, field.budget.eps, field.norm)
        images = project(noise + direction, noise, field.budget)
    return direction


def _lower_end(field: Field, direction: Tensor) -> Tensor:
    ends = [project(field.clean + way * direction, field.clean, field.budget) for way in (1, -1)]
    ahead, back = map(field.judged, ends)
    return ends[0] if ahead.beats(back) else ends[1]


def _moved(logits: Tensor, goal: Goal) -> Tensor:
    """Half the square of how far the answer is from its first, per case (B,); first, from zero."""
    logits = logits.clamp(-_LOUDEST, _LOUDEST)
    first = 0 if goal.start is None else goal.start.clamp(-_LOUDEST, _LOUDEST)
    far = (logits - first).square().flatten(1).sum(1) / 2
    return -far if goal.targeted else far  # the engine turns it round
