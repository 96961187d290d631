"""Boundary metrics per case and class, on request: they cost more than an attack step.

``hd95``: the 95th percentile of the symmetric surface distance; the image diagonal where the
prediction lost the class. ``nsd``: the normalised surface Dice at a tolerance; 0 where the
prediction lost it. Both NaN where the label lacks the class. By MONAI's definitions and of its
edges; the distances are measured once for both, and stream (``surface_distances``).
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

_CHUNK = 1 << 20  # voxels looked at in one piece
_DENSE = 16  # asking a tree about one voxel takes as long as transforming so many
_HEAVY = 3  # and a tree takes as much memory for one as the transform for so many

Mask = NDArray[np.bool_]
Distances = NDArray[np.float32]


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
    classes = zip(predicted, truth, valid, strict=True)
    return [_one(mask & known, own & known, spacing, tolerance) for mask, own, known in classes]


def _one(
    mask: Tensor, truth: Tensor, spacing: tuple[float, ...] | None, tolerance: float
) -> dict[str, float]:
    """Both metrics of one class; boolean (*spatial)."""
    from monai.metrics.utils import get_mask_edges

    if not truth.any():
        return {"hd95": float("nan"), "nsd": float("nan")}
    step = spacing or (1.0,) * truth.dim()
    if not mask.any():
        diagonal = math.sqrt(sum((n * d) ** 2 for n, d in zip(truth.shape, step, strict=True)))
        return {"hd95": diagonal, "nsd": 0.0}
    ours, theirs = (edges.numpy() for edges in get_mask_edges(mask.cpu(), truth.cpu()))
    both = surface_distances(ours, theirs, step), surface_distances(theirs, ours, step)
    near = sum(int((distances <= np.float32(tolerance)).sum()) for distances in both)
    return {
        "hd95": float(max(np.quantile(distances, 0.95) for distances in both)),
        "nsd": near / sum(map(len, both)),
    }


def surface_distances(points: Mask, surface: Mask, step: tuple[float, ...]) -> Distances:
    """How far each voxel of ``points`` is from the nearest of ``surface``, to float32, exactly.

    Few points ask a tree of the surface's voxels, whatever lies between; many, such as those of a
    prediction that is noise, look up the nearest voxel where a transform has found it for all.
    Memory beside the masks and the answer: 13 bytes a voxel at most, 40 a voxel of the surface.

    Args:
        points: bool (*spatial).
        surface: bool (*spatial), not empty.
        step: length of a voxel along each axis.
    """
    many = np.count_nonzero(points) * _DENSE > points.size
    heavy = np.count_nonzero(surface) * _HEAVY > surface.size
    return (_by_transform if many or heavy else _by_tree)(points, surface, step)


def _by_tree(points: Mask, surface: Mask, step: tuple[float, ...]) -> Distances:
    from scipy.spatial import KDTree

    scale = np.asarray(step)[:, None]
    located = np.concatenate([(places * scale).T for places in _places(surface)])
    tree = KDTree(located, leafsize=32, balanced_tree=False)
    asked = (tree.query((places * scale).T)[0] for places in _places(points))
    return np.concatenate([lengths.astype(np.float32) for lengths in asked])


def _by_transform(points: Mask, surface: Mask, step: tuple[float, ...]) -> Distances:
    from scipy.ndimage import distance_transform_edt

    nearest = distance_transform_edt(
        ~surface, sampling=step, return_distances=False, return_indices=True
    )  # (dims, *spatial): the place of the nearest of the surface
    scale, found = np.asarray(step)[:, None], []
    for places in _places(points):
        away = (places - nearest[(slice(None), *places)]) * scale
        found.append(np.sqrt((away**2).sum(0)).astype(np.float32))
    return np.concatenate(found)


def _places(mask: Mask) -> Iterator[NDArray[np.intp]]:
    """Where a mask holds, (dims, some), a piece at a time."""
    flat = mask.reshape(-1)
    for start in range(0, len(flat), _CHUNK):
        inside = np.flatnonzero(flat[start : start + _CHUNK]) + start
        yield np.stack(np.unravel_index(inside, mask.shape))
