"""Files of volumes that SimpleITK (an extra) reads: NRRD, MetaImage, GIPL, VTK, MRC and others."""

from __future__ import annotations

import locale
import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segbench.data.endings import HDF5_SUFFIXES, suffix_of
from segbench.data.faults import BadFileError
from segbench.data.itk_lengths import check_hdf5, check_length
from segbench.data.volume_file import VolumeFile
from segbench.errors import UserError

_ONE_AT_A_TIME = Lock()
_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])  # from ITK's and DICOM's left-posterior-superior


def import_simpleitk() -> Any:
    """SimpleITK.

    Raises:
        UserError: it is not installed.
    """
    try:
        import SimpleITK
    except ImportError:
        raise UserError(
            "NRRD, MetaImage, VTK, MRC and the like are read by SimpleITK, which is not installed; "
            "pip install 'segbench[itk]'"
        ) from None
    SimpleITK.ProcessObject.SetGlobalWarningDisplay(False)
    return SimpleITK


def open_itk(path: Path) -> VolumeFile:
    """The header of a volume that SimpleITK reads.

    Raises:
        BadFileError: it is no volume of real numbers.
        UserError: SimpleITK is not installed.
    """
    itk = import_simpleitk()
    reader = itk.ImageFileReader()
    reader.SetFileName(str(path))
    if suffix_of(path) in HDF5_SUFFIXES:
        check_hdf5(path)
    with _traceless():
        reader.ReadImageInformation()
    if reader.GetDimension() not in (2, 3):
        raise BadFileError(path, f"has {reader.GetDimension()} dimensions; expected a volume")
    channels = reader.GetNumberOfComponents()
    kind = itk.GetPixelIDValueAsString(reader.GetPixelID())
    numpy_kind = _NUMPY_KINDS.get(kind.removeprefix("vector of "))
    if numpy_kind is None:
        raise BadFileError(path, f"has voxels of type {kind}; expected real numbers")
    size = (*reader.GetSize(), 1)[:3]  # a picture is one plane
    shape = (*size, *((channels,) if channels > 1 else ()))
    return VolumeFile(
        tuple(int(n) for n in shape),
        np.dtype(numpy_kind),
        ras_affine(reader.GetDirection(), reader.GetSpacing(), reader.GetOrigin()),
        False,
        1.0,
        lambda: _itk_array(itk, path, math.prod(shape), np.dtype(numpy_kind).itemsize),
    )


def ras_affine(direction: Any, spacing: Any, origin: Any) -> NDArray[np.float64]:
    """ITK's geometry, of a volume or of a plane, as a 4 x 4 matrix to right-anterior-superior."""
    matrix, axes = np.eye(4), len(spacing)
    matrix[:axes, :axes] = np.reshape(direction, (axes, axes)) * np.asarray(spacing)
    matrix[:axes, 3] = origin
    affine: NDArray[np.float64] = _TO_RAS @ matrix
    return affine


def itk_bytes(
    voxels: NDArray[Any], affine: NDArray[np.float64], suffix: str, folder: Path
) -> bytes:
    """A volume (X, Y, Z[, C]) as the content of a file of that suffix, made in ``folder``."""
    itk = import_simpleitk()
    swapped = np.ascontiguousarray(np.moveaxis(voxels, (0, 1, 2), (2, 1, 0)))
    image = itk.GetImageFromArray(swapped, isVector=voxels.ndim == 4)
    matrix = _TO_RAS @ affine
    spacing = np.linalg.norm(matrix[:3, :3], axis=0)
    image.SetSpacing(spacing.tolist())
    image.SetDirection((matrix[:3, :3] / spacing).reshape(-1).tolist())
    image.SetOrigin(matrix[:3, 3].tolist())
    path = folder / f"volume{suffix}"
    with _traceless():
        itk.WriteImage(image, str(path), True)
    return path.read_bytes()


def _itk_array(itk: Any, path: Path, numbers: int, size: int) -> NDArray[Any]:
    """The voxels of a file that declares so many numbers of ``size`` bytes each."""
    check_length(path, numbers, size)
    try:
        with _traceless():
            image = itk.ReadImage(str(path))
        array = itk.GetArrayFromImage(image)  # ([Z, ]Y, X[, C])
    except RuntimeError as error:
        raise OSError(" ".join(str(error).split())[-200:]) from None
    planes = array if image.GetDimension() == 3 else array[None]
    turned: NDArray[Any] = np.moveaxis(planes, (0, 1, 2), (2, 1, 0))
    return turned


@contextmanager
def _traceless() -> Iterator[None]:
    """One at a time, hushed, and with the process's locale as it was afterwards.

    The VTK reader leaves it at C, where whatever Python opens later as text is ASCII.
    """
    with _ONE_AT_A_TIME:
        before = locale.setlocale(locale.LC_ALL)
        try:
            with _hushed():
                yield
        finally:
            locale.setlocale(locale.LC_ALL, before)


@contextmanager
def _hushed() -> Iterator[None]:
    """Without what ITK's libraries write of damage to standard error, past Python.

    The sentence that is raised says it.
    """
    try:
        kept = os.dup(2)
    except OSError:  # there is none
        yield
        return
    try:
        with open(os.devnull, "wb") as nothing:
            os.dup2(nothing.fileno(), 2)
            try:
                yield
            finally:
                os.dup2(kept, 2)
    finally:
        os.close(kept)


_NUMPY_KINDS = {
    "8-bit unsigned integer": "u1",
    "8-bit signed integer": "i1",
    "16-bit unsigned integer": "u2",
    "16-bit signed integer": "i2",
    "32-bit unsigned integer": "u4",
    "32-bit signed integer": "i4",
    "64-bit unsigned integer": "u8",
    "64-bit signed integer": "i8",
    "32-bit float": "f4",
    "64-bit float": "f8",
}
