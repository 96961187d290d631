"""The running moments of Adam (Kingma & Ba, ICLR 2015, arXiv 1412.6980), for attacks that step by
them.

The second moment is kept as its root, so that the square of a faint gradient cannot vanish in fp32:
a step is the same whatever the scale of the loss, and no constant is added to the root.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

MEAN, SQUARES = 0.9, 0.999  # what remains of each at a step: beta 1 and beta 2


def next_mean(mean: Tensor, gradient: Tensor) -> Tensor:
    """The running mean of gradients (B, C, *spatial)."""
    return MEAN * mean + (1 - MEAN) * gradient


def next_root(root: Tensor, gradient: Tensor) -> Tensor:
    """The root of the running mean of squared gradients (B, C, *spatial)."""
    return torch.hypot(math.sqrt(SQUARES) * root, math.sqrt(1 - SQUARES) * gradient)


def unbiased(mean: Tensor, root: Tensor, taken: int) -> tuple[Tensor, Tensor]:
    """Both, after ``taken`` gradients, without what their start at 0 takes from them.

    Where no gradient has been, the root is tiny and the mean 0: their ratio is 0.
    """
    root = root / math.sqrt(1 - SQUARES**taken)
    return mean / (1 - MEAN**taken), root.clamp_min(torch.finfo(root.dtype).tiny)
