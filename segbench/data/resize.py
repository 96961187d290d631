"""Resizing to a stated grid: anti-aliased (tri)linear for images, nearest for labels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from segbench.errors import UserError

MAX_SIDE = 8192

Integers = TypeVar("Integers", bound=np.integer)


def check_size(size: int) -> None:
    """Refuse a ``size`` option that is neither 0 (leave as it is) nor a sensible side.

    Raises:
        UserError: it is neither.
    """
    if size != 0 and not 8 <= size <= MAX_SIDE:
        raise UserError(f"size={size} is not a side in pixels; expected 8 to {MAX_SIDE}, or 0")


def resize_image(image: NDArray[np.float32], shape: Sequence[int]) -> NDArray[np.float32]:
    """(C, *spatial) in [0, 1] -> (C, *shape) in [0, 1], linear with an anti-aliasing triangle.

    The filter is separable, so each spatial axis is resampled on its own.
    """
    for axis, length in enumerate(shape, start=1):
        if image.shape[axis] != length:
            image = _resample(image, axis, length)
    return np.ascontiguousarray(image)


def resize_labels(labels: NDArray[Integers], shape: Sequence[int]) -> NDArray[Integers]:
    """(*spatial) -> (*shape), each new pixel taking the value its centre falls on."""
    for axis, (old, new) in enumerate(zip(labels.shape, shape, strict=True)):
        if old != new:
            centres = (2 * np.arange(new) + 1) * old // (2 * new)
            labels = labels.take(centres, axis=axis)
    return np.ascontiguousarray(labels)


def _resample(image: NDArray[np.float32], axis: int, length: int) -> NDArray[np.float32]:
    columns = np.moveaxis(image, axis, 0)  # (old length, *rest)
    flat = Image.fromarray(np.ascontiguousarray(columns.reshape(columns.shape[0], -1)))
    resampled = flat.resize((flat.width, length), Image.Resampling.BILINEAR)
    out = np.asarray(resampled, dtype=np.float32).reshape(length, *columns.shape[1:])
    return np.moveaxis(np.clip(out, 0.0, 1.0), 0, axis)
