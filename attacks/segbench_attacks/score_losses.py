"""Losses that know the score: the mean over classes of each case's Jaccard index.

Cross-entropy spends a budget on pixels that are cheap in loss and worth nothing in the score. Here
only what the score counts is moved: classes above 0 that the case's labels have, each by its own
intersection and union, and of overlapping structures each one by itself. A case whose labels have
none of them is scored by its accuracy, and so all its pixels count alike.

Shapes and signs are those of ``losses.py``: logits (B, K, *spatial), or (B, 2, S, *spatial) for a
goal of structures, to one number per case (B,), on the scale of a sum over its valid pixels.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from segbench.api import Goal
from segbench_attacks.pixels import (
    of_label,
    one_hot,
    open_pixels,
    per_case_sum,
    pixel_cross_entropy,
    pixel_margin,
    valid_pixels,
)

_TINY = 1e-30
_JOIN = 0.25  # the progress at which `scored-reach` counts false pixels in full
_WIDE, _NARROW = 30.0, 0.3  # what `reach` reaches at first and at last, in moves of the margin


@dataclass(frozen=True, eq=False)
class Planes:
    """Each scored class of each case as a yes and no of its own.

    Attributes:
        truth: bool (B, R, N), the R scored classes (or structures) at N pixels; no where ignored.
        valid: bool (B, R or 1, N), not ignored.
        share: (B, R), what a class is worth in the case's score: 1 over the number of classes that
            the labels have, 0 for one that they lack.
    """

    truth: Tensor
    valid: Tensor
    share: Tensor


def planes(logits: Tensor, goal: Goal) -> Planes:
    """What is scored, seen against ``goal.labels``."""
    valid = valid_pixels(goal)
    if goal.structures:
        valid = valid.flatten(2)  # (B, S, N)
        truth = (goal.labels == 1).flatten(2)
    else:
        valid = valid.flatten(1)[:, None]
        truth = one_hot(logits, goal)[:, 1:].bool().flatten(2) & valid
    present = truth.any(2)
    share = present / present.sum(1, keepdim=True).clamp_min(1)
    return Planes(truth, valid, share.to(logits.dtype))


def of_classes(values: Tensor, goal: Goal) -> Tensor:
    """(B, R, N): a value per class (B, K, *spatial) as one per scored class."""
    return (values[:, 1] if goal.structures else values[:, 1:]).flatten(2)


def counts(logits: Tensor, goal: Goal) -> tuple[Tensor, Tensor]:
    """Each scored class's pixels in intersection and union (B, R), by the predicted labels."""
    seen = planes(logits, goal)
    predicted = of_classes(_predicted(logits), goal) & seen.valid
    shared, union = (predicted & seen.truth).sum(2), (predicted | seen.truth).sum(2)
    return shared.to(logits.dtype), union.to(logits.dtype)


def metric_weight(logits: Tensor, goal: Goal) -> Tensor:
    """How much the case's score falls if a pixel turns, to first order: (B, *spatial), no gradient.

    With intersection I and union U of a class, J = I / U. A pixel of the class that is lost takes
    1/U from it; one that joins it falsely takes I/U - I/(U + 1), about J/U. So a pixel weighs 1/U
    of its own class and J/U of the class it would join (its strongest other), where those are
    scored, and a wrong pixel what its return would restore. Times the number of valid pixels, so
    that weights are of the order of 1 and an accuracy's are 1.
    """
    logits = logits.detach()
    seen, valid = planes(logits, goal), valid_pixels(goal)
    shared, union = counts(logits, goal)
    own = seen.share / union.clamp_min(1)  # (B, R)
    joined = own * shared / union.clamp_min(1)
    if goal.structures:
        truth = goal.labels.flatten(2) == 1
        weight = torch.where(truth, own[:, :, None], joined[:, :, None]).view_as(valid)
    else:
        zero = torch.zeros_like(own[:, :1])
        others = logits.masked_fill(one_hot(logits, goal).bool(), -torch.inf).argmax(1)
        weight = _looked_up(torch.cat([zero, own], 1), goal.labels * valid)
        weight = weight + _looked_up(torch.cat([zero, joined], 1), others)
    number = valid.flatten(1).sum(1).to(weight)
    weight = weight * _wide(number, weight)
    unscored = seen.share.sum(1) == 0
    return torch.where(_wide(unscored, weight), 1.0, weight) * valid


def scored_pixels(goal: Goal) -> Tensor:
    """bool (B, *spatial): pixels whose label is a scored class; all, where the case has none."""
    valid = valid_pixels(goal)
    scored = valid & (goal.labels > 0)
    return torch.where(_wide(scored.flatten(1).any(1), scored), scored, valid)


def scored_hinge(logits: Tensor, goal: Goal) -> Tensor:
    """The margin of those pixels of the scored classes that are still right.

    A class's Jaccard falls fastest with its true pixels, and is 0 without them. For a target, all
    pixels that are not there yet: a false one keeps the agreement down as much as a missing one.
    """
    wanted = open_pixels(logits, goal)
    if not goal.targeted:
        wanted = wanted & scored_pixels(goal)
    return per_case_sum(pixel_margin(logits, goal) * wanted)


def soft_hinge(logits: Tensor, goal: Goal) -> Tensor:
    """The scored hinge with a soft stop: pixels that have just turned are pushed a little on.

    A pixel's pull falls from 1 to 0 as a sigmoid of its margin, in units of a tenth of the mean
    size of the case's margins.
    """
    margin, wanted = pixel_margin(logits, goal), valid_pixels(goal)
    if not goal.targeted:
        wanted = scored_pixels(goal)
    unit = 0.1 * _mean_size(margin.detach(), wanted)
    sign = -1.0 if goal.targeted else 1.0
    pull = torch.sigmoid(-sign * margin.detach() / _wide(unit, margin))
    return per_case_sum(pull * margin * wanted)


def lovasz(logits: Tensor, goal: Goal) -> Tensor:
    """The Lovász extension of 1 - Jaccard at the softmax errors (Berman et al., CVPR 2018).

    arXiv 1705.08790. The mean over the scored classes, times the number of valid pixels.
    """
    seen = planes(logits, goal)
    probability = of_classes(logits.softmax(1), goal)
    error = torch.where(seen.truth, 1 - probability, probability) * seen.valid
    sums = (error * slopes(error, seen)).sum(2)
    return _mean_of_scored(sums, seen, logits, goal)


def slopes(error: Tensor, seen: Planes) -> Tensor:
    """What each pixel adds to 1 - Jaccard of its class if pixels turn in the order of ``error``.

    The gradient of the Lovász extension, (B, R, N) as ``error``; 0 where ignored.
    """
    last = error.detach().masked_fill(~seen.valid, -torch.inf)  # ignored: after all others
    order = last.argsort(dim=2, descending=True, stable=True)
    truth = seen.truth.gather(2, order).to(error.dtype)
    total = truth.sum(2, keepdim=True)
    lost = 1 - (total - truth.cumsum(2)) / (total + (1 - truth).cumsum(2)).clamp_min(1)
    slope = torch.cat([lost[:, :, :1], lost.diff(dim=2)], 2)
    return torch.zeros_like(slope).scatter(2, order, slope) * seen.valid


def soft_jaccard(logits: Tensor, goal: Goal) -> Tensor:
    """1 - soft Jaccard, the mean over the scored classes, times the number of valid pixels.

    Intersection and union of probabilities p and labels y: sums of ``p y`` and ``p + y - p y``
    (Rahman & Wang, ISVC 2016).
    """
    seen = planes(logits, goal)
    probability = of_classes(logits.softmax(1), goal) * seen.valid
    shared = (probability * seen.truth).sum(2)
    union = (probability + seen.truth).sum(2) - shared
    return _mean_of_scored(1 - shared / union.clamp_min(_TINY), seen, logits, goal)


def weighted_cross_entropy(logits: Tensor, goal: Goal) -> Tensor:
    """Masked cross-entropy weighted by class: the strongest loss of the released SEA.

    (Croce, Singh & Hein, ECCV 2024, arXiv 2306.12941.) The released weights are a data set's; here
    a class weighs the inverse of its share of the case's own valid pixels.
    """
    valid = valid_pixels(goal)
    pixels = one_hot(logits, goal).to(logits.dtype) * valid[:, None]
    sizes = pixels.flatten(2).sum(2)
    present = (sizes > 0).sum(1, keepdim=True).clamp_min(1)
    weight = sizes.sum(1, keepdim=True) / (present * sizes.clamp_min(1))  # (B, K)
    each = _looked_up(weight, goal.labels * valid)
    return per_case_sum(each * pixel_cross_entropy(logits, goal) * open_pixels(logits, goal))


def reach(logits: Tensor, goal: Goal, progress: float = 0.0) -> Tensor:
    """Margins, weighted by what turning a pixel is worth and by whether it can still be turned.

    Of each scored class the margins m of all pixels, times their :func:`slopes` (which of two ways
    to break a class is worth more shows only where pixels count in the order they turn in) and
    times ``exp(-|m| / c s)``. s is how far the attack has moved the case's margins in the mean
    since ``goal.start``; without a start, the mean size of the margins. c falls from 30 to 0.3
    with ``progress``: at first every pixel is pushed, for an organ turns as a whole, and at last
    those at the border, which the steps that are left can still decide. Pixels that have turned
    are held with a c of 0.3, lest they turn back.
    """
    return _reach(logits, goal, progress, joining=1.0)


def scored_reach(logits: Tensor, goal: Goal, progress: float = 0.0) -> Tensor:
    """:func:`reach` that first takes a class's own pixels from it.

    Pixels that would join a class falsely count in full from a quarter of ``progress`` on, before
    that in proportion: a budget that can empty a class has no use for them, and as the score falls
    their slopes fall too. For a target it is :func:`reach`.
    """
    joining = 1.0 if goal.targeted else min(1.0, progress / _JOIN)
    return _reach(logits, goal, progress, joining)


def _reach(logits: Tensor, goal: Goal, progress: float, joining: float) -> Tensor:
    seen, ahead = planes(logits, goal), _WIDE * (_NARROW / _WIDE) ** progress
    margin = _class_margin(logits, goal, seen)
    here, turned = margin.detach(), margin.detach() > 0
    before = torch.zeros_like(here)
    if goal.start is not None:
        before = _class_margin(goal.start, goal, seen)
    counted = seen.valid & (seen.share > 0)[:, :, None]
    scale = _wide(_mean_size(here - before, counted), here)
    far = torch.where(turned != goal.targeted, _NARROW, ahead)
    weight = slopes(margin, seen) * torch.exp(-here.abs() / (far * scale))
    weight = torch.where(seen.truth | turned, weight, joining * weight)
    return _mean_of_scored((weight * margin).sum(2), seen, logits, goal)


def _class_margin(logits: Tensor, goal: Goal, seen: Planes) -> Tensor:
    """(B, R, N), in logits: a pixel's margin, and of pixels of other classes what a class lacks.

    Of each scored class its own pixels have the strongest other logit minus their label's, all
    others its logit minus their label's: positive where it is preferred to what is true.
    """
    joins = of_classes(logits - of_label(logits, goal)[:, None], goal)
    leaves = pixel_margin(logits, goal)
    leaves = leaves.flatten(2) if goal.structures else leaves.flatten(1)[:, None]
    return torch.where(seen.truth, leaves, joins)


def _mean_of_scored(values: Tensor, seen: Planes, logits: Tensor, goal: Goal) -> Tensor:
    """Values per scored class (B, R) as one per case; where none is, the summed soft errors."""
    valid = valid_pixels(goal)
    number = valid.flatten(1).sum(1).to(values)
    errors = per_case_sum((1 - of_label(logits.softmax(1), goal)) * valid)
    mean = (values * seen.share).sum(1) * number
    return torch.where(seen.share.sum(1) == 0, errors, mean)


def _predicted(logits: Tensor) -> Tensor:
    """bool (B, K, *spatial), true for the argmax."""
    return F.one_hot(logits.argmax(1), logits.shape[1]).movedim(-1, 1).bool()


def _mean_size(values: Tensor, where: Tensor) -> Tensor:
    """The mean absolute value (B,) of (B, *spatial) at some pixels; above 0."""
    number = where.flatten(1).sum(1).clamp_min(1)
    return (per_case_sum(values.abs() * where) / number).clamp_min(_TINY)


def _looked_up(table: Tensor, labels: Tensor) -> Tensor:
    """Each pixel's entry (B, *spatial) of its case's ``table`` (B, K)."""
    return table.gather(1, labels.flatten(1)).view(labels.shape)


def _wide(values: Tensor, like: Tensor) -> Tensor:
    """(B,) as (B, 1, ..., 1), to multiply ``like`` (B, ...)."""
    return values.reshape(-1, *[1] * (like.dim() - 1))
