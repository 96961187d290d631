"""Spline interpolation as scikit-image's ``resize`` does it, as matrices: it has a gradient.

Resizing by splines is linear and goes axis by axis: what it does to unit vectors along one axis is
all there is to know. What ``resize`` clips to the range of its input is clipped here too.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

ANISOTROPIC = 3.0
"""nnU-Net's: from this ratio of spacings on, the coarse axis is resampled on its own."""


def resize(images: Tensor, shape: Sequence[int], order: int) -> Tensor:
    """(C, *spatial) at another shape, by splines of that order, every channel in its own range."""
    if tuple(images.shape[1:]) == tuple(shape):
        return images
    resized = images
    for axis, size in enumerate(shape):
        resized = _along(resized, axis + 1, size, order)
    if order == 0:
        return resized
    axes = tuple(range(1, images.dim()))
    return resized.clamp(images.amin(axes, keepdim=True), images.amax(axes, keepdim=True))


def new_shape(
    shape: Sequence[int], spacing: Sequence[float], new_spacing: Sequence[float]
) -> list[int]:
    """That of an image at another spacing, as nnU-Net's ``compute_new_shape``.

    The ratio comes first, as there: in another order 26 voxels of 0.3 mm are 20 of 0.4 and not 19.
    """
    return [round(a / b * n) for n, a, b in zip(shape, spacing, new_spacing, strict=True)]


def resample(
    images: Tensor,
    shape: Sequence[int],
    spacing: Sequence[float],
    new_spacing: Sequence[float],
    order: int,
    order_z: int = 0,
    separate: bool | None = None,
) -> Tensor:
    """(C, *spatial) at another shape, as nnU-Net's ``resample_data_or_seg_to_shape``.

    Args:
        separate: whether the axis of the coarsest spacing is resampled on its own, with
            ``order_z``; None where the spacings decide.
    """
    if tuple(images.shape[1:]) == tuple(shape):
        return images
    axis = coarse_axis(spacing, new_spacing, separate)
    if axis is None:
        return resize(images, shape, order)
    planes = images.movedim(axis + 1, 0)
    flat = [size for at, size in enumerate(shape) if at != axis]
    planes = torch.stack([resize(plane, flat, order) for plane in planes]).movedim(0, axis + 1)
    return _along(planes, axis + 1, shape[axis], order_z)


def coarse_axis(
    spacing: Sequence[float], new_spacing: Sequence[float], separate: bool | None
) -> int | None:
    """The one axis that is resampled on its own, if there is one."""
    if separate is False:
        return None
    for found in (spacing, new_spacing):
        if separate or max(found) / min(found) > ANISOTROPIC:
            coarse = [at for at, size in enumerate(found) if size == max(found)]
            # Of two coarse axes neither is; nor is any where all are alike.
            return coarse[0] if len(coarse) == 1 else None
    return None


def _along(images: Tensor, axis: int, size: int, order: int) -> Tensor:
    """One axis at another size."""
    if images.shape[axis] == size:
        return images
    matrix = torch.from_numpy(_matrix(images.shape[axis], size, order)).to(images)
    resized: Tensor = torch.tensordot(images, matrix, dims=([axis], [1])).movedim(-1, axis)
    return resized


@lru_cache(maxsize=64)
def _matrix(old: int, new: int, order: int) -> NDArray[np.float32]:
    """(new, old): what resizing makes of each unit vector."""
    from scipy import ndimage

    columns = [
        ndimage.zoom(unit, new / old, order=order, mode="nearest", grid_mode=True)
        for unit in np.eye(old)
    ]
    return np.stack(columns, 1).astype(np.float32)
