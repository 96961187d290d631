"""Logits and labels as the probabilities and truths that a network's own loss is made of."""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

IGNORED = -100
"""The label of pixels that are not trained on (see `segbench.api.BringsLoss`)."""


def main_logits(outputs: Any) -> Tensor:
    """The logits of a training-mode answer, as float32 (B, K, *spatial), K at least 2."""
    logits: Tensor = (outputs[0] if isinstance(outputs, tuple) else outputs).float()
    if logits.shape[1] == 1:
        return torch.cat([torch.zeros_like(logits), logits], 1)
    return logits


def foreground(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Probabilities p and truths y (B, K - 1, *spatial) of all classes but the background.

    The third tensor, (B, 1, *spatial), is 1 where the label counts; p and y are 0 elsewhere.
    """
    valid = (labels != IGNORED).unsqueeze(1)
    p = logits.softmax(1)[:, 1:] * valid
    classes = F.one_hot(labels.where(valid[:, 0], 0), logits.shape[1]).movedim(-1, 1)
    return p, classes[:, 1:] * valid.to(p.dtype), valid.to(p.dtype)
