"""Files of volumes that SimpleITK (an extra) reads and writes: NRRD, MetaImage and GIPL."""

from __future__ import annotations

import gzip
import math
import re
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segbench.atomic import require_regular
from segbench.data.faults import BadFileError
from segbench.data.pairing import suffix_of
from segbench.data.volume_file import VolumeFile
from segbench.errors import UserError

_GIPL_HEADER = 256  # bytes before its voxels
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
            "NRRD, MetaImage and GIPL are read by SimpleITK, which is not installed; "
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
        lambda: _itk_array(itk, path, math.prod(shape) * np.dtype(numpy_kind).itemsize),
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
    itk.WriteImage(image, str(path), True)
    return path.read_bytes()


def _itk_array(itk: Any, path: Path, count: int) -> NDArray[Any]:
    """The voxels of a file that declares ``count`` bytes of them."""
    if ".gipl" in suffix_of(path):
        _check_gipl(path, _GIPL_HEADER + count)
    else:
        _check_compressed(path)
    try:
        image = itk.ReadImage(str(path))
        array = itk.GetArrayFromImage(image)  # ([Z, ]Y, X[, C])
    except RuntimeError as error:
        raise OSError(" ".join(str(error).split())[-200:]) from None
    planes = array if image.GetDimension() == 3 else array[None]
    turned: NDArray[Any] = np.moveaxis(planes, (0, 1, 2), (2, 1, 0))
    return turned


def _check_gipl(path: Path, expected: int) -> None:
    """Refuse a file that ends before its voxels do, which ITK does not mind.

    Raises:
        OSError: it does, or its checksum is wrong.
    """
    packed = path.suffix.lower() == ".gz"
    with gzip.open(path) if packed else path.open("rb") as file:
        found = sum(len(chunk) for chunk in iter(lambda: file.read(1 << 20), b""))
    if found < expected:
        raise OSError(f"it has {found:,} bytes, and declares {expected:,}")


def _check_compressed(path: Path) -> None:
    """Refuse compressed voxels whose checksum is wrong, which ITK does not look at.

    Raises:
        OSError: they are damaged.
    """
    head, body = _parts(path)
    pairs = (re.split("[=:]", line, maxsplit=1) for line in head.splitlines())
    says = {pair[0].strip().lower(): pair[1].strip() for pair in pairs if len(pair) == 2}
    file, start = path, len(head.encode("latin-1"))
    other = says.get("elementdatafile", says.get("data file", says.get("datafile", "LOCAL")))
    if other != "LOCAL":
        file, start = path.parent / other, 0
    packed = says.get("compresseddata", "").lower() == "true" or says.get("encoding") in (
        "gzip",
        "gz",
    )
    if not packed or (file == path and not body):
        return
    require_regular(file)
    stream = zlib.decompressobj(wbits=47)  # zlib's and gzip's, by their first bytes
    with file.open("rb") as opened:
        opened.seek(start)
        while not stream.eof and (chunk := opened.read(1 << 20)):
            stream.decompress(chunk)
    if not stream.eof:
        raise OSError("its compressed voxels end before their end")


def _parts(path: Path) -> tuple[str, bool]:
    """The text at the beginning of a file, and whether voxels follow it."""
    with path.open("rb") as file:
        start = file.read(1 << 16)
    if start.startswith(b"NRRD"):
        end = min(
            (start.index(mark) + len(mark) for mark in (b"\n\n", b"\r\n\r\n") if mark in start),
            default=len(start),
        )
    else:
        match = re.search(rb"ElementDataFile\s*=[^\n]*\n", start)
        end = match.end() if match else len(start)
    return start[:end].decode("latin-1"), len(start) > end


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
