"""FSPGD: PGD on a network's features, for images that fool other networks too (Park et al. 2025).

Park, Park, Park & Shin, "FSPGD: Rethinking Black-box Attacks on Semantic Segmentation", arXiv
2502.01262. The loss sees no label and no answer, but what a layer in the middle of the network
makes of the image: from early steps to late ones it goes from tearing apart what looks alike within
the image to leading every place away from what it was.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from segbench.api import Budget, BudgetKind, Context, Feedback, Goal, Plan, State
from segbench.errors import UserError
from segbench_attacks.steps import Norm, ascend, random_point

_PLACES = 1024  # of a feature map; a larger one is averaged down, since pairs of them are taken


@dataclass(frozen=True)
class FSPGD:
    """Steps on the features of a layer; made for ``transfer:source=...,attack=fspgd``.

    Attributes:
        steps: gradient steps; all are taken, since what has fooled the source may not yet fool
            others.
        rel_step: step size as a share of eps; the released code's 0.01 at 0.03.
        norm: the ball's.
        layer: a layer's name, or the end of it; ``deepest`` is the last convolution with the
            fewest places. (The paper takes the third stage of a ResNet.)
        angle: in degrees: places whose clean features lie closer than that look alike; the
            released code's.
    """

    steps: int = 20
    rel_step: float = 1 / 3
    norm: Norm = "linf"
    layer: str = "deepest"
    angle: float = 60.0

    needs: ClassVar[Literal["gradients"]] = "gradients"

    def __post_init__(self) -> None:
        for name in ("steps", "rel_step"):
            if not getattr(self, name) > 0:
                raise UserError(f"fspgd: {name}={getattr(self, name)} must be positive")
        if not 0 < self.angle < 180:
            raise UserError(f"fspgd: angle={self.angle:g} must lie between 0 and 180 degrees")

    @property
    def budget_kind(self) -> BudgetKind:
        """The norm."""
        return self.norm

    def plan(self, budget: Budget) -> Plan:
        """The last iterate, whatever the source makes of it."""
        return Plan(self.steps)

    def init(self, context: Context) -> State:
        """A random point of the ball: at the clean image the features have nowhere to go."""
        return State(random_point(context, self.norm))

    def loss(self, logits: Tensor, goal: Goal, progress: float) -> Tensor:
        """The feature similarity, negated, per case (B,)."""
        assert goal.features is not None
        assert goal.clean_features is not None
        return feature_dissimilarity(goal.features, goal.clean_features, progress, self.angle)

    def step(self, context: Context, state: State, feedback: Feedback) -> State:
        """One step along the norm's steepest ascent; the engine projects."""
        length = self.rel_step * context.budget.eps
        return State(ascend(state.images, feedback.gradient, length, self.norm))


def feature_dissimilarity(
    features: Tensor, clean: Tensor, progress: float, angle: float = 60.0
) -> Tensor:
    """Minus ``progress`` times S plus (1 - progress) times C, per case (B,).

    S is the mean over places of the cosine between a place's features and its clean ones. C is half
    the mean product of the features of two places whose clean features lie within ``angle`` degrees
    of one another; 0 where there are none.

    Args:
        features: (B, F, *places), as are ``clean``.
        progress: from 0 at the first step to 1.
        angle: in degrees.
    """
    now, before = (_places(x) for x in (features, clean))
    direction = F.normalize(before, dim=1)
    same = F.cosine_similarity(now, before, dim=1).mean(1)
    alike = (direction.transpose(1, 2) @ direction) > math.cos(math.radians(angle))
    alike &= ~torch.eye(alike.shape[1], dtype=torch.bool, device=alike.device)
    pairs = (now.transpose(1, 2) @ now) * alike
    together = pairs.flatten(1).sum(1) / alike.flatten(1).sum(1).clamp_min(1) / 2
    return -progress * same - (1 - progress) * together


def _places(features: Tensor) -> Tensor:
    """(B, F, N) with N places, averaged down where there are too many."""
    spatial = features.shape[2:]
    ratio = (math.prod(spatial) / _PLACES) ** (1 / len(spatial))
    if ratio > 1:
        sizes = [max(1, int(length / ratio)) for length in spatial]
        features = F.interpolate(features, sizes, mode="area")
    return features.flatten(2)
