"""Volumes to arrays in the canonical orientation (first axis to the patient's Right,
then Anterior, then Superior), and back to the file's own.

The affine that is kept is the file's: with it the reorientation can be undone.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segbench.data.faults import BadFileError
from segbench.data.volume_file import READ_ERRORS
from segbench.data.volume_files import open_volume
from segbench.engine.memory import free_bytes

MAX_BYTES = 4 << 30  # of one volume, as stored
_WIDEST = 8  # bytes of a voxel in memory, whatever it takes in its file


@dataclass(frozen=True, eq=False)
class VolumeHeader:
    """What a volume's file says of itself.

    Attributes:
        shape: (X, Y, Z), canonical.
        channels: length of the fourth axis, 1 if there is none.
        spacing: millimetres along the canonical axes.
        affine: the file's own 4 x 4 voxel-to-world matrix.
        bits: depth of an unscaled integer file, else None.
    """

    shape: tuple[int, int, int]
    channels: int
    spacing: tuple[float, ...]
    affine: NDArray[np.float64]
    bits: int | None

    @property
    def canonical(self) -> NDArray[np.float64]:
        """The 4 x 4 matrix from canonical voxels to the world."""
        from nibabel.orientations import inv_ornt_aff, io_orientation

        turned = io_orientation(self.affine)
        stored = [0, 0, 0]
        for own, axis in enumerate(turned[:, 0].astype(int)):
            stored[own] = self.shape[axis]
        matrix: NDArray[np.float64] = self.affine @ inv_ornt_aff(turned, stored)
        return matrix


def inspect_volume(path: Path) -> VolumeHeader:
    """The header of a volume's file, without reading its voxels.

    Raises:
        BadFileError: not a volume, not numbers in 3-D or 4-D, too large for this machine, or no
            orientation.
    """
    import nibabel

    file = open_volume(path)
    shape, dtype = file.shape, file.dtype
    shape = shape + (1,) * (3 - len(shape))
    while len(shape) > 4 and shape[-1] == 1:
        shape = shape[:-1]
    if len(shape) > 4 or 0 in shape:
        raise BadFileError(path, f"has the shape {shape}; expected a volume, or one with channels")
    if dtype.kind not in "uif":
        raise BadFileError(path, f"has voxels of type {dtype}; expected real numbers")
    count = int(np.prod(shape, dtype=object))
    size = count * dtype.itemsize
    if size > MAX_BYTES:
        raise BadFileError(
            path, f"declares {shape} voxels, {size:,} bytes, over the {MAX_BYTES:,} allowed"
        )
    if count * _WIDEST > (free := free_bytes()):
        raise BadFileError(
            path,
            f"declares {shape} voxels, {count * _WIDEST:,} bytes once they are read, but "
            f"{free:,} bytes of memory are free",
        )
    affine = file.affine
    if not np.isfinite(affine).all() or abs(np.linalg.det(affine[:3, :3])) < 1e-9:
        raise BadFileError(path, "has no usable orientation (its affine is singular)")
    axes = np.argsort(nibabel.io_orientation(affine)[:, 0])
    spacing = np.linalg.norm(affine[:3, :3], axis=0) * file.unit
    return VolumeHeader(
        shape=(shape[axes[0]], shape[axes[1]], shape[axes[2]]),
        channels=shape[3] if len(shape) == 4 else 1,
        spacing=tuple(float(spacing[axis]) for axis in axes),
        affine=affine,
        bits=None if dtype.kind == "f" or file.scaled else 8 * dtype.itemsize,
    )


def read_voxels(path: Path) -> NDArray[np.float64] | NDArray[np.float32]:
    """(C, X, Y, Z), canonical, in the file's units.

    Raises:
        BadFileError: the voxels cannot be read, or are not all finite.
    """
    import nibabel

    header = inspect_volume(path)
    try:
        stored = open_volume(path).read()
    except READ_ERRORS as error:
        raise BadFileError(path, f"cannot be read ({error})") from None
    stored = stored.reshape(*_padded(stored.shape), header.channels)
    voxels: NDArray[Any] = nibabel.apply_orientation(stored, nibabel.io_orientation(header.affine))
    voxels = np.moveaxis(voxels, -1, 0)
    wide = np.float64 if voxels.dtype.itemsize > 2 and voxels.dtype != np.float32 else np.float32
    voxels = voxels.astype(wide)
    if not np.isfinite(voxels).all():
        raise BadFileError(path, "holds voxels that are NaN or infinite")
    return voxels


def read_label_volume(path: Path) -> NDArray[np.integer]:
    """(X, Y, Z), canonical, whole numbers.

    Raises:
        BadFileError: as for ``read_voxels``, several channels, or values between whole numbers.
    """
    voxels = read_voxels(path)
    if voxels.shape[0] != 1:
        raise BadFileError(path, f"has {voxels.shape[0]} channels; expected one label per voxel")
    whole: NDArray[np.floating] = np.rint(voxels[0])
    if np.abs(voxels[0] - whole).max() > 1e-3:
        raise BadFileError(path, "holds values between whole numbers; expected labels")
    if whole.min() >= 0 and whole.max() < 2**16:
        labels: NDArray[np.integer] = whole.astype(np.uint16)
    else:
        labels = whole.astype(np.int64)
    return labels


def same_place(one: VolumeHeader, other: VolumeHeader) -> bool:
    """Whether two volumes of one shape put every corner within a tenth of a voxel.

    However each stores its axes.
    """
    far = max(one.shape)
    corners = np.array([[0, 0, 0, 1], [far, 0, 0, 1], [0, far, 0, 1], [0, 0, far, 1]]).T
    apart = np.abs((one.canonical - other.canonical) @ corners).max()
    return bool(apart <= 0.1 * min(one.spacing))


def _padded(shape: tuple[int, ...]) -> tuple[int, int, int]:
    first = (*shape[:3], 1, 1, 1)
    return first[0], first[1], first[2]
