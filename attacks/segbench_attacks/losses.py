"""Losses an attack ascends: logits (B, K, *spatial) and a goal to one number per case (B,).

Every loss is a sum over the valid pixels of a case, not a mean: that keeps small gradients away
from the underflow of fp32, and no attack here depends on the scale. All hold for two classes and
many, in 2-D and 3-D. For a targeted goal the labels are the target and the objective flips the
sign, so each loss measures the distance from ``goal.labels`` whichever way it is walked.

A pixel is *open* while the attack still wants it changed: predicted as its label, or, for a
targeted goal, not yet predicted as its target. Masks and weights carry no gradient. The losses
that know the score are in ``score_losses.py``.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

from segbench.api import Goal
from segbench.errors import UserError
from segbench_attacks import score_losses
from segbench_attacks.pixels import (
    is_one_sigmoid,
    of_label,
    one_hot,
    open_pixels,
    per_case_sum,
    pixel_cross_entropy,
    pixel_margin,
    valid_pixels,
)

LossName = Literal[
    "ce",
    "dice",
    "masked-ce",
    "balanced-ce",
    "weighted-ce",
    "jsd",
    "logit-norm",
    "margin",
    "scored-hinge",
    "soft-hinge",
    "lovasz",
    "soft-jaccard",
    "metric-ce",
    "metric-hinge",
    "metric-jsd",
    "metric-logit-norm",
    "reach",
    "scored-reach",
]

# What two images are compared by where the loss itself falls as pixels turn.
_STAND_INS: dict[LossName, LossName] = {
    "masked-ce": "ce",
    "balanced-ce": "ce",
    "weighted-ce": "ce",
    "logit-norm": "ce",
    "scored-hinge": "soft-jaccard",
    "soft-hinge": "soft-jaccard",
    "metric-ce": "soft-jaccard",
    "metric-hinge": "soft-jaccard",
    "metric-jsd": "soft-jaccard",
    "metric-logit-norm": "soft-jaccard",
    "reach": "soft-jaccard",
    "scored-reach": "soft-jaccard",
}


def named_loss(name: LossName, logits: Tensor, goal: Goal, progress: float = 0.0) -> Tensor:
    """The loss of that name; ``progress`` in [0, 1) is what ``balanced-ce``, ``reach``
    and ``scored-reach`` change with.

    Raises:
        UserError: the loss means nothing for these logits (the normalised logit on one sigmoid).
    """
    if name == "balanced-ce":
        return balanced_cross_entropy(logits, goal, progress)
    if name == "reach":
        return score_losses.reach(logits, goal, progress)
    if name == "scored-reach":
        return score_losses.scored_reach(logits, goal, progress)
    simple = {
        "ce": cross_entropy,
        "dice": soft_dice,
        "masked-ce": masked_cross_entropy,
        "weighted-ce": score_losses.weighted_cross_entropy,
        "jsd": jensen_shannon,
        "logit-norm": normalised_logit,
        "margin": margin,
        "scored-hinge": score_losses.scored_hinge,
        "soft-hinge": score_losses.soft_hinge,
        "lovasz": score_losses.lovasz,
        "soft-jaccard": score_losses.soft_jaccard,
    }
    if name in simple:
        return simple[name](logits, goal)
    return metric_weighted(name.removeprefix("metric-"), logits, goal)


def cross_entropy(logits: Tensor, goal: Goal) -> Tensor:
    """Cross-entropy of every valid pixel."""
    return per_case_sum(pixel_cross_entropy(logits, goal))


def masked_cross_entropy(logits: Tensor, goal: Goal) -> Tensor:
    """Cross-entropy of the open pixels only (Croce, Singh & Hein, ECCV 2024, arXiv 2306.12941).

    It falls when a pixel flips: never compare two images by it.
    """
    return per_case_sum(pixel_cross_entropy(logits, goal) * open_pixels(logits, goal))


def balanced_cross_entropy(logits: Tensor, goal: Goal, progress: float) -> Tensor:
    """Open pixels weigh 1 - λ, the others λ, with λ = progress / 2 (SegPGD, ECCV 2022).

    With ``progress = t / T`` and t from 0, as the public code has it; the paper counts from 1.
    """
    share = progress / 2
    weight = torch.where(open_pixels(logits, goal), 1 - share, share)
    return per_case_sum(weight * pixel_cross_entropy(logits, goal))


def cosine_weighted_cross_entropy(logits: Tensor, goal: Goal) -> Tensor:
    """Cross-entropy times the cosine of softmax and one-hot label (CosPGD, ICML 2024).

    The cosine is p_y / |p|, per pixel, and carries no gradient; a targeted goal takes 1 - cosine.
    """
    probabilities = logits.detach().softmax(1)
    cosine = of_label(probabilities, goal) / probabilities.norm(dim=1)
    weight = 1 - cosine if goal.targeted else cosine
    return per_case_sum(weight * pixel_cross_entropy(logits, goal))


def soft_dice(logits: Tensor, goal: Goal) -> Tensor:
    """1 - soft Dice, averaged over the classes the case's labels have, background included.

    Times the number of valid pixels, so that its scale is that of the other losses.
    """
    valid = valid_pixels(goal)[:, None]
    truth = one_hot(logits, goal) * valid
    probabilities = logits.softmax(1) * valid
    shared = (probabilities * truth).flatten(2).sum(2)  # (B, K)
    sizes = probabilities.flatten(2).sum(2) + truth.flatten(2).sum(2)
    present = truth.flatten(2).any(2)
    lost: Tensor = (1 - 2 * shared / sizes.clamp_min(1e-30)) * present
    mean = lost.sum(1) / present.sum(1).clamp_min(1)
    return mean * valid.flatten(1).sum(1)


def jensen_shannon(logits: Tensor, goal: Goal) -> Tensor:
    """Jensen-Shannon divergence between softmax and one-hot label, in [0, ln 2] per pixel.

    Against a one-hot label it depends on the label's own probability p alone:
    ``ln 2 + (p ln p - (1 + p) ln(1 + p)) / 2``.
    """
    return per_case_sum(_pixel_jensen_shannon(logits, goal) * valid_pixels(goal))


def _pixel_jensen_shannon(logits: Tensor, goal: Goal) -> Tensor:
    log_p = of_label(logits.log_softmax(1), goal)
    p = log_p.exp()
    return math.log(2) + (p * log_p - (1 + p) * p.log1p()) / 2


def normalised_logit(logits: Tensor, goal: Goal) -> Tensor:
    """Minus the label's component of the L2-normalised logits, on open pixels (SEA's fourth loss).

    Raises:
        UserError: the logits are one sigmoid's, [0, z]: normalised, they are constant and their
            gradient vanishes.
    """
    return per_case_sum(_pixel_normalised_logit(logits, goal) * open_pixels(logits, goal))


def _pixel_normalised_logit(logits: Tensor, goal: Goal) -> Tensor:
    if is_one_sigmoid(logits):
        raise UserError(
            "loss logit-norm has no gradient on a network with one sigmoid output; "
            "choose another, for example ce"
        )
    size = logits.norm(dim=1).clamp_min(1e-12)
    component: Tensor = of_label(logits, goal) / size
    return -component


_OF_A_PIXEL = {
    "ce": pixel_cross_entropy,
    "hinge": pixel_margin,
    "jsd": _pixel_jensen_shannon,
    "logit-norm": _pixel_normalised_logit,
}


def metric_weighted(of_a_pixel: str, logits: Tensor, goal: Goal) -> Tensor:
    """A loss of single pixels, of those that are open, each times its ``metric_weight``.

    While the score is high a false pixel is worth nearly as much as a missing one; as it falls,
    J/U vanishes beside 1/U and only pixels of the scored classes count.
    """
    wanted = score_losses.metric_weight(logits, goal) * open_pixels(logits, goal)
    return per_case_sum(wanted * _OF_A_PIXEL[of_a_pixel](logits, goal))


def cosine_distance(logits: Tensor, goal: Goal) -> Tensor:
    """1 minus the cosine between logits and one-hot label (PAdam-Cos, arXiv 2407.09150), in [0, 2].

    The cosine is z_y / |z|, per valid pixel. On one sigmoid's logits, [0, z], it has no gradient.
    """
    size = logits.norm(dim=1).clamp_min(1e-12)
    return per_case_sum((1 - of_label(logits, goal) / size) * valid_pixels(goal))


def margin(logits: Tensor, goal: Goal) -> Tensor:
    """The strongest other logit minus the label's, per valid pixel; positive where it is wrong.

    The plain margin, not the ratio of AutoAttack, which takes three classes to define.
    """
    return per_case_sum(pixel_margin(logits, goal) * valid_pixels(goal))


def masked_margin(logits: Tensor, goal: Goal) -> Tensor:
    """The margin of the open pixels only (DAG, ICCV 2017, arXiv 1703.08603)."""
    return per_case_sum(pixel_margin(logits, goal) * open_pixels(logits, goal))


def masked_logit(logits: Tensor, goal: Goal) -> Tensor:
    """Minus the label's logit, on open pixels (ASMA, MICCAI 2019, arXiv 1907.13124).

    On the logits [0, z] of one sigmoid, class 0 has no gradient: take the margin there.
    """
    return per_case_sum(-of_label(logits, goal) * open_pixels(logits, goal))


def tracked_loss(name: LossName, logits: Tensor, goal: Goal) -> Tensor:
    """What two images are compared by, signed to rise with the attack's success.

    Losses that leave alone what has turned fall as pixels flip: cross-entropy stands in for them,
    or soft Jaccard for those that know the score.
    """
    loss = named_loss(_STAND_INS.get(name, name), logits, goal)
    return -loss if goal.targeted else loss
