"""Whether a step attack still got anywhere in the last half of its steps."""

from __future__ import annotations

import torch
from torch import Tensor

LONG = 16
"""Steps, from which on a last half without gain says something."""


class LateGain:
    """How far each case's lowest score (B,) fell in the last half of one run.

    By the scores that the gradients' own logits have: whether a search goes on, not how it ended.
    """

    def __init__(self, cases: int, steps: int, device: torch.device) -> None:
        self.steps = steps
        self.half = torch.full((cases,), torch.inf, dtype=torch.float64, device=device)
        self.whole, self.later = self.half.clone(), torch.zeros_like(self.half).bool()

    def note(self, step: int, cases: Tensor, scores: Tensor) -> None:
        """The scores at a step of some of the cases."""
        self.whole[cases] = torch.minimum(self.whole[cases], scores.double())
        if 2 * step < self.steps:
            self.half[cases] = self.whole[cases]
        else:
            self.later[cases] = True

    def gain(self) -> Tensor:
        """In the scores' unit; NaN of a case that was not there in the last half."""
        return torch.where(self.later & self.half.isfinite(), self.half - self.whole, torch.nan)
