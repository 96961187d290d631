"""Losses an attack ascends: logits (B, K, *spatial) and a goal to one number per case (B,)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from segbench.api import Goal


def cross_entropy(logits: Tensor, goal: Goal) -> Tensor:
    """Cross-entropy summed over the valid pixels of each case.

    The sum, not the mean: it keeps small gradients away from the underflow of fp32, and no attack
    here depends on the scale.
    """
    ignore = -100 if goal.ignore_index is None else goal.ignore_index
    pixels = F.cross_entropy(logits, goal.labels, ignore_index=ignore, reduction="none")
    return torch.sum(pixels.flatten(1), dim=1)
