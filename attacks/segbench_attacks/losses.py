"""Losses an attack ascends: logits (B, K, *spatial) and a goal to one number per case (B,).

Every loss is a sum over the valid pixels of a case, not a mean: that keeps small gradients away
from the underflow of fp32, and no attack here depends on the scale. All hold for two classes and
many, in 2-D and 3-D. For a targeted goal the labels are the target and the objective flips the
sign, so each loss measures the distance from ``goal.labels`` whichever way it is walked.

A pixel is *open* while the attack still wants it changed: predicted as its label, or, for a
targeted goal, not yet predicted as its target. Masks and weights carry no gradient.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from segbench.api import Goal
from segbench.errors import UserError

LossName = Literal["ce", "dice", "masked-ce", "balanced-ce", "jsd", "logit-norm", "margin"]


def named_loss(name: LossName, logits: Tensor, goal: Goal, progress: float = 0.0) -> Tensor:
    """The loss of that name; ``progress`` in [0, 1) is what ``balanced-ce`` shifts its weight by.

    Raises:
        UserError: the loss means nothing for these logits (``logit-norm`` on one sigmoid).
    """
    if name == "balanced-ce":
        return balanced_cross_entropy(logits, goal, progress)
    simple = {
        "ce": cross_entropy,
        "dice": soft_dice,
        "masked-ce": masked_cross_entropy,
        "jsd": jensen_shannon,
        "logit-norm": normalised_logit,
        "margin": margin,
    }
    return simple[name](logits, goal)


def cross_entropy(logits: Tensor, goal: Goal) -> Tensor:
    """Cross-entropy of every valid pixel."""
    return _per_case(pixel_cross_entropy(logits, goal))


def masked_cross_entropy(logits: Tensor, goal: Goal) -> Tensor:
    """Cross-entropy of the open pixels only (Croce, Singh & Hein, ECCV 2024, arXiv 2306.12941).

    It falls when a pixel flips: never compare two images by it.
    """
    return _per_case(pixel_cross_entropy(logits, goal) * open_pixels(logits, goal))


def balanced_cross_entropy(logits: Tensor, goal: Goal, progress: float) -> Tensor:
    """Open pixels weigh 1 - λ, the others λ, with λ = progress / 2 (SegPGD, ECCV 2022).

    With ``progress = t / T`` and t from 0, as the public code has it; the paper counts from 1.
    """
    share = progress / 2
    weight = torch.where(open_pixels(logits, goal), 1 - share, share)
    return _per_case(weight * pixel_cross_entropy(logits, goal))


def cosine_weighted_cross_entropy(logits: Tensor, goal: Goal) -> Tensor:
    """Cross-entropy times the cosine of softmax and one-hot label (CosPGD, ICML 2024).

    The cosine is p_y / |p|, per pixel, and carries no gradient; a targeted goal takes 1 - cosine.
    """
    probabilities = logits.detach().softmax(1)
    cosine = _of_label(probabilities, goal) / probabilities.norm(dim=1)
    weight = 1 - cosine if goal.targeted else cosine
    return _per_case(weight * pixel_cross_entropy(logits, goal))


def soft_dice(logits: Tensor, goal: Goal) -> Tensor:
    """1 - soft Dice, averaged over the classes the case's labels have, background included.

    Times the number of valid pixels, so that its scale is that of the other losses.
    """
    valid = valid_pixels(goal)[:, None]
    truth = _one_hot(logits, goal) * valid
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
    log_p = _of_label(logits.log_softmax(1), goal)
    p = log_p.exp()
    divergence = math.log(2) + (p * log_p - (1 + p) * p.log1p()) / 2
    return _per_case(divergence * valid_pixels(goal))


def normalised_logit(logits: Tensor, goal: Goal) -> Tensor:
    """Minus the label's component of the L2-normalised logits, on open pixels (SEA's fourth loss).

    Raises:
        UserError: the logits are one sigmoid's, [0, z]: normalised, they are constant and their
            gradient vanishes.
    """
    if is_one_sigmoid(logits):
        raise UserError(
            "loss logit-norm has no gradient on a network with one sigmoid output; "
            "choose another, for example ce"
        )
    size = logits.norm(dim=1).clamp_min(1e-12)
    component = _of_label(logits, goal) / size
    return _per_case(-component * open_pixels(logits, goal))


def margin(logits: Tensor, goal: Goal) -> Tensor:
    """The strongest other logit minus the label's, per valid pixel; positive where it is wrong.

    The plain margin, not the ratio of AutoAttack, which takes three classes to define.
    """
    return _per_case(pixel_margin(logits, goal) * valid_pixels(goal))


def masked_margin(logits: Tensor, goal: Goal) -> Tensor:
    """The margin of the open pixels only (DAG, ICCV 2017, arXiv 1703.08603)."""
    return _per_case(pixel_margin(logits, goal) * open_pixels(logits, goal))


def masked_logit(logits: Tensor, goal: Goal) -> Tensor:
    """Minus the label's logit, on open pixels (ASMA, MICCAI 2019, arXiv 1907.13124).

    On the logits [0, z] of one sigmoid, class 0 has no gradient: take the margin there.
    """
    return _per_case(-_of_label(logits, goal) * open_pixels(logits, goal))


def pixel_margin(logits: Tensor, goal: Goal) -> Tensor:
    """The strongest other logit minus the label's (B, *spatial); ignored pixels as class 0."""
    wrong = logits.masked_fill(_one_hot(logits, goal).bool(), -torch.inf).amax(1)
    return wrong - _of_label(logits, goal)


def tracked_loss(name: LossName, logits: Tensor, goal: Goal) -> Tensor:
    """What two images are compared by, signed to rise with the attack's success.

    Masked and balanced losses fall as pixels flip, so that cross-entropy stands in for them.
    """
    whole: LossName = "ce" if name in ("masked-ce", "balanced-ce", "logit-norm") else name
    loss = named_loss(whole, logits, goal)
    return -loss if goal.targeted else loss


def pixel_cross_entropy(logits: Tensor, goal: Goal) -> Tensor:
    """Cross-entropy (B, *spatial), 0 where ignored."""
    ignore = -100 if goal.ignore_index is None else goal.ignore_index
    return F.cross_entropy(logits, goal.labels, ignore_index=ignore, reduction="none")


def valid_pixels(goal: Goal) -> Tensor:
    """bool (B, *spatial): not ignored."""
    if goal.ignore_index is None:
        return torch.ones_like(goal.labels, dtype=torch.bool)
    return goal.labels != goal.ignore_index


def open_pixels(logits: Tensor, goal: Goal) -> Tensor:
    """bool (B, *spatial): valid, and not yet as the attack wants it."""
    reached = logits.argmax(1) == goal.labels
    return (~reached if goal.targeted else reached) & valid_pixels(goal)


def is_one_sigmoid(logits: Tensor) -> bool:
    """Whether these are the two-class logits [0, z] of a single sigmoid."""
    return logits.shape[1] == 2 and not bool(logits[:, 0].any())


def _per_case(pixels: Tensor) -> Tensor:
    """The sum over each case's pixels: (B, *spatial) to (B,)."""
    return torch.sum(pixels.flatten(1), dim=1)


def _one_hot(logits: Tensor, goal: Goal) -> Tensor:
    """(B, K, *spatial) of 0 and 1; ignored pixels as class 0, so mask them."""
    labels = goal.labels * valid_pixels(goal)
    return F.one_hot(labels, logits.shape[1]).movedim(-1, 1)


def _of_label(values: Tensor, goal: Goal) -> Tensor:
    """(B, *spatial): the label's own entry of ``values`` (B, K, *spatial)."""
    labels = goal.labels * valid_pixels(goal)
    return values.gather(1, labels[:, None])[:, 0]
