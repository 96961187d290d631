"""What losses ask of single pixels: margins, which count, and which are still to be changed.

``goal.labels`` (B, *spatial) may hold the ignore index; logits are (B, K, *spatial).
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from segbench.api import Goal


def pixel_margin(logits: Tensor, goal: Goal) -> Tensor:
    """The strongest other logit minus the label's (B, *spatial); ignored pixels as class 0."""
    wrong = logits.masked_fill(one_hot(logits, goal).bool(), -torch.inf).amax(1)
    return wrong - of_label(logits, goal)


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


def per_case_sum(pixels: Tensor) -> Tensor:
    """The sum over each case's pixels: (B, *spatial) to (B,)."""
    return torch.sum(pixels.flatten(1), dim=1)


def one_hot(logits: Tensor, goal: Goal) -> Tensor:
    """(B, K, *spatial) of 0 and 1; ignored pixels as class 0, so mask them."""
    labels = goal.labels * valid_pixels(goal)
    return F.one_hot(labels, logits.shape[1]).movedim(-1, 1)


def of_label(values: Tensor, goal: Goal) -> Tensor:
    """(B, *spatial): the label's own entry of ``values`` (B, K, *spatial)."""
    labels = goal.labels * valid_pixels(goal)
    return values.gather(1, labels[:, None])[:, 0]
