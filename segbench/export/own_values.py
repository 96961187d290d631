"""What the files of a case hold, beyond its window too, and an attack's change added to that.

The window of a volume ends at percentiles, and a picture's at ``range=``, so the brightest and
darkest values are clipped in the image. What an attack changes there is added to the value of the
file, not to the end of the window: so the written file differs from its source by no more than the
attack's own change, everywhere. A reader with that very window clips those values again and does
not see their change.

That is for changes that a ball keeps small. What is moved, blurred or covered by a patch is not the
file's own value with the difference on top: where the image has changed its own values are written,
within the window, and elsewhere the file's.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from segbench.api import Case
from segbench.data.endings import TIFF_SUFFIXES, is_volume, suffix_of
from segbench.data.faults import BadFileError
from segbench.data.quantize import from_units, to_levels, to_units
from segbench.data.raster_file import opened
from segbench.data.raster_header import header_of
from segbench.data.rasters import samples
from segbench.data.volume_cache import VOLUMES
from segbench.data.volume_files import open_volume
from segbench.data.volumes import inspect_volume, read_voxels

_FP32 = 2.0**-22  # as in quantize.py


def of_volume(case: Case) -> bool:
    """Whether its source is a volume's file: by its name, or a TIFF whose pages are planes.

    JSRT's radiographs are called .IMG as NIfTI's volumes are; pictures have no place in the world.
    """
    if case.source is None or (case.affine is None and case.depth is None and case.image.ndim == 3):
        return False
    stacked = suffix_of(case.source) in TIFF_SUFFIXES and case.affine is not None
    return stacked or is_volume(case.source)


def file_values(case: Case, files: Sequence[Path]) -> NDArray[Any] | None:
    """What the files of a case's image hold, channels first, on their own grid, in their units.

    Of a slice, of its slice alone. None where they are not all there or of no kind that is known.

    Raises:
        BadFileError: a volume cannot be read.
    """
    if of_volume(case):
        voxels = [_voxels(path) for path in files]
        read = voxels if case.depth is None else [some[..., case.depth] for some in voxels]
    else:
        try:
            channels = len(case.image) if len(files) == 1 else 1
            read = [_picture_values(path, channels) for path in files]
        except BadFileError:
            return None  # a data set of another's reads its files in its own way
    values = read[0] if len(read) == 1 else np.concatenate(read) if read else np.empty(0)
    return values if len(values) == len(case.image) else None


def own_values(case: Case, files: Sequence[Path]) -> NDArray[np.float64] | None:
    """The values (C, *spatial) of a case's files of which its image is the window.

    None where it is not, value by value: a generated case, or one that was resized.

    Raises:
        BadFileError: a file cannot be read.
    """
    values = file_values(case, files)
    if values is None or values.shape != case.image.shape or case.intensity is None:
        return None
    values = values.astype(np.float64)
    same = np.abs(from_units(values, case.intensity) - case.image).max() <= _FP32
    return values if same else None


def voxel_type(case: Case, files: Sequence[Path]) -> np.dtype[Any]:
    """The numbers that hold all channels of a case's volumes: their own where they are alike.

    Raises:
        BadFileError: a file cannot be read.
    """
    headers = [inspect_volume(path) for path in files]
    kinds = [open_volume(path).dtype for path in files]
    kinds = [
        np.dtype("f4") if header.bits is None and kind.kind != "f" else kind  # scaled
        for kind, header in zip(kinds, headers, strict=True)
    ]
    if sum(header.channels for header in headers) != len(case.image):
        kinds.append(np.dtype("f4"))  # of channels whose files nobody names
    return reduce(np.promote_types, kinds)


def values_to_write(
    own: NDArray[np.float64] | None,
    image: NDArray[np.float32],
    case: Case,
    dtype: np.dtype[Any],
    *,
    replaced: bool,
) -> NDArray[np.float64]:
    """An image (C, *spatial) in [0, 1] as values of ``dtype`` in the units of its files.

    Args:
        own: what the files hold, see ``own_values``.
        replaced: whether the image's own values are written where it is not the clean one, and not
            those of the files with the change on top.

    Raises:
        UserError: ``dtype`` is of whole numbers and the files are not.
    """
    if own is not None and not replaced:
        values = _moved_values(own, image, case, dtype)
    else:
        whole = dtype.kind != "f"
        values = to_levels(image, case) if whole else to_units(image, case.intensity or ())
        if own is not None:
            values = np.where(image == case.image, own, values)
    if dtype.kind == "f":
        return values
    return np.clip(values, np.iinfo(dtype).min, np.iinfo(dtype).max)


def _moved_values(
    own: NDArray[np.float64], image: NDArray[np.float32], case: Case, dtype: np.dtype[Any]
) -> NDArray[np.float64]:
    """The files' values moved as an image (C, *spatial) in [0, 1] differs from the clean one.

    They are values of ``dtype``, rounded towards ``own``.
    """
    spans = _spans(case)
    change = (image.astype(np.float64) - case.image) * spans
    if dtype.kind != "f":
        level = np.rint(change)
        return own + np.where(
            np.abs(change - level) <= _FP32 * np.abs(spans), level, np.trunc(change)
        )
    moved = (own + change).astype(dtype)
    too_far = np.abs(moved.astype(np.float64) - own) > np.abs(change)
    return np.where(too_far, np.nextafter(moved, own.astype(dtype)), moved).astype(np.float64)


def change_of_values(
    found: NDArray[np.float64], own: NDArray[np.float64], case: Case
) -> NDArray[np.float64]:
    """By how much values (C, *spatial) differ from the file's own, as fractions of the window."""
    change: NDArray[np.float64] = (found - own) / _spans(case)
    return change


def rounding_of_values(
    values: NDArray[np.float64], case: Case, dtype: np.dtype[Any]
) -> NDArray[np.float64]:
    """What rounding to ``dtype`` moves values (C, *spatial) by at most, as fractions of the window.

    One number for each channel (C, 1, ...).
    """
    spans = np.abs(_spans(case))
    largest = np.abs(values).reshape(len(values), -1).max(1).reshape(spans.shape)
    level = 2.0 * np.finfo(dtype).eps * largest if dtype.kind == "f" else 1.0
    return np.asarray(level / spans + _FP32)


def outside(values: NDArray[Any], case: Case) -> NDArray[np.bool_]:
    """Which of the files' values, channels first, the window clips."""
    beyond = [
        (some < min(scale.low, scale.high)) | (some > max(scale.low, scale.high))
        for some, scale in zip(values, case.intensity or (), strict=True)
    ]
    return np.stack(beyond)


def _spans(case: Case) -> NDArray[np.float64]:
    """How many of the file's units each channel's window spans (C, 1, ...)."""
    spans = np.array([scale.high - scale.low for scale in case.intensity or ()])
    return spans.reshape(-1, *[1] * (case.image.ndim - 1))


def _voxels(path: Path) -> NDArray[Any]:
    return VOLUMES.get(path, "voxels", lambda: (read_voxels(path), None))[0]


def _picture_values(path: Path, channels: int) -> NDArray[np.float64]:
    """(C, H, W) of a picture in its own numbers, its channels as ``rasters.read_image`` has them.

    Raises:
        BadFileError: it cannot be read.
    """
    with opened(path) as picture:
        values = samples(picture, header_of(picture, path), path)
    if values.ndim == 3 and channels == 1:
        values = np.asarray(Image.fromarray(values).convert("L"))
    planes = values[None] if values.ndim == 2 else values.transpose(2, 0, 1)
    if channels == 3 and len(planes) == 1:
        planes = np.repeat(planes, 3, axis=0)
    return planes.astype(np.float64)
