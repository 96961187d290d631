"""A volume's own values, those beyond its window too, and an attack's change added to them.

The window of a volume ends at percentiles, so its brightest and darkest voxels are clipped in the
image. What an attack changes there is added to the value of the file, not to the end of the window:
so the written file differs from its source by no more than the attack's own change, everywhere. A
reader with that very window clips those voxels again and does not see their change.

That is for changes that a ball keeps small. What is moved, blurred or covered by a patch is not the
file's own value with the difference on top: where the image has changed its own values are written,
within the window, and elsewhere the file's.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import DTypeLike, NDArray

from segbench.api import Case
from segbench.data.endings import TIFF_SUFFIXES, is_volume, suffix_of
from segbench.data.quantize import from_units
from segbench.data.volume_cache import VOLUMES
from segbench.data.volumes import read_voxels

_FP32 = 2.0**-22  # as in quantize.py


def of_volume(case: Case) -> bool:
    """Whether its source is a volume's file: by its name, or a TIFF whose pages are planes."""
    if case.source is None:
        return False
    stacked = suffix_of(case.source) in TIFF_SUFFIXES and case.affine is not None
    return stacked or is_volume(case.source)


def own_values(case: Case) -> NDArray[np.float64] | None:
    """The file's values (C, *spatial) of which the case's image is the window.

    None where it is not, voxel by voxel: a picture, a generated case, or a resized volume.

    Raises:
        BadFileError: the file cannot be read.
    """
    source = case.source
    if source is None or not of_volume(case):
        return None
    voxels, _ = VOLUMES.get(source, "voxels", lambda: (read_voxels(source), None))
    values = voxels if case.depth is None else voxels[..., case.depth]
    if values.shape != case.image.shape or case.intensity is None:
        return None
    values = values.astype(np.float64)
    same = np.abs(from_units(values, case.intensity) - case.image).max() <= _FP32
    return values if same else None


def move_values(
    own: NDArray[np.float64], image: NDArray[np.float32], case: Case, dtype: DTypeLike
) -> NDArray[np.float64]:
    """The file's values moved as an image (C, *spatial) in [0, 1] differs from the clean one.

    They are values of ``dtype``, rounded towards ``own``.
    """
    spans = _spans(case)
    change = (image.astype(np.float64) - case.image) * spans
    if np.dtype(dtype).kind != "f":
        level = np.rint(change)
        return own + np.where(
            np.abs(change - level) <= _FP32 * np.abs(spans), level, np.trunc(change)
        )
    moved = (own + change).astype(dtype)
    too_far = np.abs(moved.astype(np.float64) - own) > np.abs(change)
    return np.where(too_far, np.nextafter(moved, own.astype(dtype)), moved).astype(np.float64)


def replace_values(
    own: NDArray[np.float64], image: NDArray[np.float32], values: NDArray[np.float64], case: Case
) -> NDArray[np.float64]:
    """The file's values where an image (C, *spatial) is the clean one, and else its own values."""
    return np.where(image == case.image, own, values)


def change_of_values(
    found: NDArray[np.float64], own: NDArray[np.float64], case: Case
) -> NDArray[np.float64]:
    """By how much values (C, *spatial) differ from the file's own, as fractions of the window."""
    change: NDArray[np.float64] = (found - own) / _spans(case)
    return change


def count_outside(own: NDArray[np.float64], case: Case) -> int:
    """How many of the file's values the window clips."""
    inside = [
        (values >= min(scale.low, scale.high)) & (values <= max(scale.low, scale.high))
        for values, scale in zip(own, case.intensity or (), strict=True)
    ]
    return int(own.size - np.count_nonzero(inside))


def _spans(case: Case) -> NDArray[np.float64]:
    """How many of the file's units each channel's window spans (C, 1, ...)."""
    spans = np.array([scale.high - scale.low for scale in case.intensity or ()])
    return spans.reshape(-1, *[1] * (case.image.ndim - 1))
