"""Boundary metrics per case and class, on request: they cost more than an attack step.

``hd95``: the 95th percentile of the symmetric surface distance; the image diagonal where the
prediction lost the class. ``nsd``: the normalised surface Dice at a tolerance; 0 where the
prediction lost it. Both NaN where the label lacks the class. Computed by MONAI.
"""

from __future__ import annotations

import math
import warnings

import numpy as np
from torch import Tensor


def default_tolerance(spacing: tuple[float, ...] | None) -> float:
    """The larger of 1 mm and the longest edge of a pixel; one pixel where the spacing is unknown.

    Below the size of a pixel the surface Dice would count only what agrees to the pixel.
    """
    return max(1.0, *spacing) if spacing else 1.0


def boundary_scores(
    predicted: Tensor,
    truth: Tensor,
    valid: Tensor,
    spacing: tuple[float, ...] | None,
    tolerance: float,
) -> list[dict[str, float]]:
    """hd95 and nsd of each class of one case.

    Args:
        predicted: bool (K - 1, *spatial), a mask per class, background left out.
        truth: bool (K - 1, *spatial).
        valid: bool (K - 1, *spatial): where the truth is known.
        spacing: millimetres per pixel along each spatial axis; None counts in pixels.
        tolerance: of nsd, in the unit of the spacing.
    """
    pairs = zip(predicted & valid, truth & valid, strict=True)
    return [_one(mask, label, spacing, tolerance) for mask, label in pairs]


def _one(
    mask: Tensor, truth: Tensor, spacing: tuple[float, ...] | None, tolerance: float
) -> dict[str, float]:
    """Both metrics of one class; boolean (*spatial)."""
    from monai.metrics import compute_hausdorff_distance, compute_surface_dice

    if not truth.any():
        return {"hd95": float("nan"), "nsd": float("nan")}
    step = spacing or (1.0,) * truth.dim()
    if not mask.any():
        diagonal = math.sqrt(sum((n * d) ** 2 for n, d in zip(truth.shape, step, strict=True)))
        return {"hd95": diagonal, "nsd": 0.0}
    pair = mask[None, None].float().cpu(), truth[None, None].float().cpu()
    with warnings.catch_warnings():
        # MONAI 1.6 warns of an argument that only MONAI itself passes.
        warnings.filterwarnings("ignore", "monai.metrics", FutureWarning)
        distance = compute_hausdorff_distance(
            *pair, include_background=True, percentile=95, spacing=list(step)
        )
        dice = compute_surface_dice(
            *pair, class_thresholds=[tolerance], include_background=True, spacing=list(step)
        )
    return {"hd95": float(np.asarray(distance).item()), "nsd": float(np.asarray(dice).item())}
