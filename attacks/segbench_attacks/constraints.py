"""One constraint per pixel, "no longer its label": its size, and which pixels are held to it.

What the minimum-norm attacks share that know constraints: ``alma_prox.py`` and ``pdpgd.py``.
"""

from __future__ import annotations

import torch
from torch import Tensor

from segbench.api import Goal
from segbench.engine.ball import flat_norm, per_case
from segbench_attacks.pixels import pixel_margin, valid_pixels

SHARE_STEP = 0.02


def constraints(logits: Tensor, goal: Goal) -> Tensor:
    """Margins (B, *spatial) of what is to change; above 0 where it has not; 0 where ignored."""
    margin = pixel_margin(logits, goal)
    return (margin if goal.targeted else -margin) * valid_pixels(goal)


def next_share(share: Tensor, y: Tensor, pushed: Tensor, fallen: Tensor) -> Tensor:
    """The share (B,) of valid pixels that is constrained, after an answer with constraints y.

    It falls where the case has fallen, and rises where all ``pushed`` pixels (bool, as y) have
    turned and the case has not.
    """
    still_right = (pushed & (y > 0)).flatten(1).any(1)
    factor = torch.where(fallen, 1 - SHARE_STEP, torch.where(still_right, 1.0, 1 + SHARE_STEP))
    return (share * factor).clamp_max(1)


def easiest(y: Tensor, share: Tensor, goal: Goal) -> Tensor:
    """bool (B, *spatial): that share of a case's valid pixels with the least y; one at least."""
    valid = valid_pixels(goal)
    ordered = y.masked_fill(~valid, torch.inf).flatten(1).sort(1).values
    count = (share * valid.flatten(1).sum(1)).ceil().long().clamp_min(1)
    limit = ordered.gather(1, count[:, None] - 1)[:, 0]
    return valid & (y <= per_case(limit, y))


def nearest_linf(point: Tensor, metric: Tensor) -> Tensor:
    """argmin over u of |u|_inf + |u - point|^2 / 2 in a diagonal metric; both (B, C, *spatial).

    It is ``point`` cut off at the radius at which the metric's sum of what is cut off is 1. Over
    the k largest entries alone that sum is no more than over all, so the radius is the largest of
    the solutions for k = 1, 2, ...
    """
    size, order = point.abs().flatten(1).double().sort(1, descending=True)
    weight = metric.flatten(1).double().gather(1, order)
    radii = ((weight * size).cumsum(1) - 1) / weight.cumsum(1)
    radius = per_case(radii.amax(1).clamp_min(0).to(point), point)
    return torch.minimum(torch.maximum(point, -radius), radius)


def nearest_l2(point: Tensor, metric: Tensor) -> Tensor:
    """The same for the L2 norm, in a metric that is one number per case."""
    length, scale = flat_norm(point, 2), metric.flatten(1)[:, 0]
    share = (1 - 1 / (scale * length).clamp_min(1e-30)).clamp_min(0)
    return point * per_case(share.to(point), point)
