"""Severities by what can be seen of them: the level at which an image has lost so much similarity.

A fixed level is mild on one image and severe on another, and between kinds of corruption levels
cannot be compared at all. The structural similarity (SSIM: Wang et al., IEEE TIP 2004, in MONAI's
implementation) of the corrupted image with the clean one is the same for all.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from segbench.api import Noise
from segbench.engine.ball import confined
from segbench.errors import UserError

Change = Callable[[Tensor, float, Noise], Tensor]
"""(images (B, C, *spatial), level, noise) -> corrupted images; the engine clips them to [0, 1]."""

SIMILARITIES = (0.95, 0.9, 0.8, 0.7, 0.6)
"""SSIM at severities 1 to 5."""

_HALVINGS = 14
_OFF = 0.03  # what a level that is a whole number, or a search, may miss
_WINDOW, _SIGMA = 11, 1.5  # pixels, as in the paper


def calibrate(
    change: Change,
    span: tuple[float, float],
    images: Tensor,
    noise: Noise,
    similarity: float,
    region: Tensor | None = None,
) -> Tensor:
    """Images (B, C, *spatial), each corrupted to that similarity with itself.

    Args:
        change: the corruption.
        span: the level that changes nothing, and one beyond any that is looked for.
        region: bool (B, 1, *spatial), where images may change; None for everywhere. What is
            measured is the whole image, clean outside it, as it is scored.

    Raises:
        UserError: no level of it comes near.
    """
    cases = []
    for b in range(len(images)):
        own = images[b : b + 1], noise.select(torch.tensor([b]))
        cases.append(_one(change, span, *own, similarity, region if region is None else region[b]))
    return torch.cat(cases)


def _one(
    change: Change,
    span: tuple[float, float],
    image: Tensor,
    noise: Noise,
    similarity: float,
    region: Tensor | None,
) -> Tensor:
    """By halving the span, what is seen falling along it."""
    none, most = span
    low, high = 0.0, 1.0
    tried: list[tuple[float, Tensor]] = []
    for step in range(_HALVINGS):
        share = 1.0 if step == 0 else (low + high) / 2
        made = change(image.clone(), none + share * (most - none), noise).clamp(0, 1)
        made = confined(made, image, region)
        seen = structural_similarity(made, image)
        tried.append((abs(seen - similarity), made))
        if seen > similarity:
            low = share
        else:
            high = share
        if low == 1:
            break
    off, best = min(tried, key=lambda one: one[0])
    if off > _OFF:
        raise UserError(
            f"this corruption comes no nearer than {off:.2f} to an SSIM of {similarity:g} here; "
            "leave out that severity, or calibrated=ssim"
        )
    return best


def structural_similarity(images: Tensor, clean: Tensor) -> float:
    """Mean SSIM of one image (1, C, *spatial) in [0, 1] with another, over a Gaussian window."""
    from monai.metrics.regression import compute_ssim_and_cs

    shortest = min(images.shape[2:])
    side = min(_WINDOW, shortest - (shortest + 1) % 2)  # odd
    dims = images.dim() - 2
    ssim, _ = compute_ssim_and_cs(
        images.cpu(), clean.cpu(), dims, [side] * dims, [_SIGMA] * dims, 1.0, "gaussian"
    )
    return float(ssim.mean())
