"""SegPGD: PGD that turns correct pixels first (Gu et al., ECCV 2022, arXiv 2207.12391)."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from segbench.api import Goal
from segbench_attacks.ascent import ProjectedAscent
from segbench_attacks.losses import balanced_cross_entropy


@dataclass(frozen=True)
class SegPGD(ProjectedAscent):
    """PGD whose cross-entropy weighs correct pixels by 1 - λ and wrong ones by λ, up to λ = 1/2.

    λ = t / 2T with t from 0, as the public code has it (the paper's formula counts from 1). The
    mask carries no gradient. A targeted goal weighs pixels not yet at their target by 1 - λ.
    """

    def loss(self, logits: Tensor, goal: Goal, progress: float) -> Tensor:
        """The weighted cross-entropy per case (B,)."""
        return balanced_cross_entropy(logits, goal, progress)
