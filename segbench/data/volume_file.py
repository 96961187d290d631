"""A volume's file once its header is read, whatever its format."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

READ_ERRORS = (OSError, EOFError, ValueError, KeyError, OverflowError, struct.error, zlib.error)


@dataclass(frozen=True, eq=False)
class VolumeFile:
    """A file whose header is read.

    Attributes:
        shape: as stored, (X, Y, Z), with channels last where there are several.
        dtype: of the stored numbers.
        affine: 4 x 4, from stored voxels to millimetres, right-anterior-superior.
        scaled: whether ``read`` gives other numbers than are stored.
        unit: millimetres in a unit of the affine.
        read: the numbers; raises one of READ_ERRORS.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    affine: NDArray[np.float64]
    scaled: bool
    unit: float
    read: Callable[[], NDArray[Any]]
