"""A stack of TIFF pages as a volume, each page a plane (Y, X), as nnU-Net v2 keeps them.

``CASE.json`` beside ``CASE_0000.tif``, and beside the labels ``CASE.tif``, holds
``{"spacing": [z, y, x]}`` in millimetres; where labels have none, that of their image stands. A
TIFF does not say which way the patient lies: axes stay as they are stored.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from segbench.atomic import read_regular
from segbench.data.faults import BadFileError
from segbench.data.raster_file import opened, verify
from segbench.data.raster_header import RasterHeader, tiff_header
from segbench.data.rasters import samples
from segbench.data.volume_file import VolumeFile

_UNKNOWN = (1.0, 1.0, 1.0)  # what nnU-Net takes it for
_CHANNEL = re.compile(r"_\d{4}$")


def is_stack(path: Path) -> bool:
    """Whether a TIFF has several pages.

    Raises:
        BadFileError: it cannot be read.
    """
    with opened(path) as picture:
        return getattr(picture, "n_frames", 1) > 1


def spacing_file(path: Path) -> Path | None:
    """The JSON that holds the spacing of a stack, where there is one."""
    stem = path.name[: len(path.name) - len(path.suffix)]
    bare = _CHANNEL.sub("", stem)
    images = path.parent.with_name(path.parent.name.replace("labels", "images", 1))
    beside = (path.with_name(f"{name}.json") for name in (bare, stem))
    places = (*beside, images / f"{bare}.json")
    return next((place for place in places if place.is_file()), None)


def spacing_text(spacing: Sequence[float] | None) -> str:
    """The content of such a file, for millimetres along X, Y and, unless of a slice, Z."""
    lengths = [*(spacing or ()), *_UNKNOWN][:3]
    return json.dumps({"spacing": lengths[::-1]})


def open_stack(path: Path) -> VolumeFile:
    """The headers of all pages, which are alike, and (X, Y, Z) to be read.

    Raises:
        BadFileError: it cannot be read, its pages differ, or are in colour.
    """
    with opened(path) as picture:
        headers = []
        for page in range(getattr(picture, "n_frames", 1)):
            picture.seek(page)
            headers.append(tiff_header(picture, path))
            verify(picture, path)
    first = headers[0]
    if any(header != first for header in headers):
        raise BadFileError(path, "has pages of different sizes or kinds; expected planes all alike")
    if first.channels != 1 or first.lossy:
        what = "in colour" if first.channels != 1 else f"compressed as {first.lossy}"
        raise BadFileError(path, f"has pages {what}; expected planes of gray without loss")
    return VolumeFile(
        (first.width, first.height, len(headers)),
        np.dtype(first.kind),
        np.diag([*_spacing(path), 1.0]),
        False,
        1.0,
        lambda: _planes(path, first, len(headers)),
    )


def stack_bytes(voxels: NDArray[Any]) -> bytes:
    """A volume (X, Y, Z) of whole numbers of 8 or 16 bits, or of float32, as a stack."""
    pages = [Image.fromarray(plane) for plane in np.ascontiguousarray(voxels.transpose(2, 1, 0))]
    file = BytesIO()
    pages[0].save(file, "TIFF", save_all=True, append_images=pages[1:])
    return file.getvalue()


def _planes(path: Path, header: RasterHeader, count: int) -> NDArray[Any]:
    stored = np.empty((count, header.height, header.width), header.kind)
    with opened(path) as picture:
        for page in range(count):
            picture.seek(page)
            stored[page] = samples(picture, header, path)
    turned: NDArray[Any] = stored.transpose(2, 1, 0)
    return turned


def _spacing(path: Path) -> tuple[float, ...]:
    """Along X, Y and Z."""
    file = spacing_file(path)
    if file is None:
        return _UNKNOWN
    try:
        said = [float(length) for length in json.loads(read_regular(file))["spacing"]]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        said = []
    if len(said) != 3 or not all(0 < length < math.inf for length in said):
        raise BadFileError(file, "holds no spacing: three lengths above 0, along Z, Y and X")
    return tuple(said[::-1])
