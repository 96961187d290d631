"""CosPGD: PGD weighted by alignment (Agnihotri et al., ICML 2024, arXiv 2302.02213)."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from segbench.api import Goal
from segbench_attacks.ascent import ProjectedAscent
from segbench_attacks.losses import cosine_weighted_cross_entropy


@dataclass(frozen=True)
class CosPGD(ProjectedAscent):
    """PGD whose cross-entropy is weighted, per pixel, by how well prediction and label agree.

    The weight is the cosine between the softmax vector and the one-hot label, without gradient;
    for a targeted goal, one minus it.
    """

    def loss(self, logits: Tensor, goal: Goal, progress: float) -> Tensor:
        """The weighted cross-entropy per case (B,)."""
        return cosine_weighted_cross_entropy(logits, goal)
