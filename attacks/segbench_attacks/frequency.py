"""Low-frequency PGD (Sharma et al., IJCAI 2019, arXiv 1903.00073; Guo et al., UAI 2019).

Guo et al., arXiv 1809.08758, name the subspace: the first r·n coefficients of the discrete cosine
transform (DCT-II) along each spatial axis of n pixels, of each channel by itself.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar

import torch
from torch import Tensor

from segbench.api import Context, State
from segbench.engine.ball import flat_norm, per_case
from segbench.errors import UserError
from segbench_attacks.pgd import PGD, Moving
from segbench_attacks.steps import ascend, random_point

_TURNS = 3  # against a linear program's optimum, 0 turns lose 18 %, 3 turns 5 %, 10 turns 5 %


@dataclass(frozen=True)
class Frequency(PGD):
    """PGD whose perturbation is smooth: only the lowest frequencies of each axis are used.

    Every step follows the gradient's low-frequency part. What is then projected onto the subspace
    is the whole perturbation, in turns with the ball; the last turn scales it into the ball, which
    keeps it in the subspace, where clipping would not. Only the engine's last word, the box
    [0, 1], may add higher frequencies, where a perturbed pixel lies outside it.

    Attributes:
        share: the share of the coefficients along each axis, rounded up; 1 leaves all of them.
    """

    share: float = 0.125

    whole_image: ClassVar[str] = "what ends at the edge of a region is of every frequency"

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.share <= 1:
            raise UserError(f"frequency: share={self.share} must be above 0 and at most 1")
        if self.norm == "l1":
            raise UserError("frequency: norm=l1 moves single pixels; choose linf or l2")

    def init(self, context: Context) -> State:
        """The low frequencies of a random point of the ball, or the clean image."""
        start = context.images
        if self.random_start:
            start = self._smooth(random_point(context, self.norm), context)
        return Moving(start, start, torch.zeros_like(start))

    def moved(self, context: Context, images: Tensor, direction: Tensor, length: float) -> Tensor:
        """One step along the low frequencies, back in the subspace and scaled into the ball."""
        ahead = ascend(images, low_frequencies(direction, self.share), length, self.norm)
        return self._smooth(ahead, context)

    def _smooth(self, images: Tensor, context: Context) -> Tensor:
        """The perturbation in ball and subspace, by alternating projections."""
        eps, delta = context.budget.eps, images - context.images
        if self.norm == "linf":
            for _ in range(_TURNS):
                delta = low_frequencies(delta, self.share).clamp(-eps, eps)
        delta = low_frequencies(delta, self.share)
        norms = flat_norm(delta, torch.inf if self.norm == "linf" else 2)
        scale = eps / norms.clamp_min(torch.finfo(delta.dtype).tiny)
        return context.images + per_case(scale.clamp_max(1), delta) * delta


def low_frequencies(values: Tensor, share: float) -> Tensor:
    """The orthogonal projection of (B, C, *spatial) onto the lowest DCT-II frequencies."""
    if share == 1:
        return values
    for axis in range(2, values.dim()):
        length = values.shape[axis]
        projector = _projector(length, math.ceil(share * length), values.device)
        values = (values.movedim(axis, -1) @ projector).movedim(-1, axis)
    return values


@lru_cache(maxsize=16)
def _projector(length: int, kept: int, device: torch.device) -> Tensor:
    """(n, n): onto the span of the first ``kept`` cosines."""
    from scipy.fft import dct

    basis = dct(torch.eye(length, dtype=torch.float64).numpy(), axis=0, norm="ortho")[:kept]
    return torch.from_numpy(basis.T @ basis).float().to(device)
