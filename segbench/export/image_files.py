"""An image in memory as a file of its case's own kind, and such a file as the image again.

Pictures become PNG, or TIFF where they came from TIFF, at the depth of their file; slices and
volumes become NIfTI, NRRD, MetaImage, GIPL or TIFF stacks as theirs are, NIfTI for MGH and NRRD for
all others, in the orientation, the voxel type and the units of theirs. Of a case of several files
they are the first's, the channels lie in one file and its type holds those of all; a TIFF stack and
GIPL hold one channel, so there it is NIfTI. Whole numbers are rounded towards the clean image
(``quantize.py``). Values outside the window keep the file's own value plus the change, or where an
image is changed beyond any ball the image's own (``own_values.py``). What a loader resized stays at
that size, with an affine that says so, and there what its window clipped stays clipped.
"""

from __future__ import annotations

import gzip
import os
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from segbench.api import Case
from segbench.atomic import write_atomically
from segbench.data.dicom_tree import is_dicom
from segbench.data.endings import MGH_SUFFIXES, NIFTI_SUFFIXES, TIFF_SUFFIXES, suffix_of
from segbench.data.itk_files import itk_bytes
from segbench.data.quantize import from_units, require_levels, to_units
from segbench.data.rasters import read_image
from segbench.data.tiff_stacks import spacing_text, stack_bytes
from segbench.data.volume_files import open_volume
from segbench.data.volumes import inspect_volume, read_voxels
from segbench.errors import UserError
from segbench.export.dicom_files import series_change, series_rounding, write_series
from segbench.export.own_values import (
    change_of_values,
    of_volume,
    own_values,
    rounding_of_values,
    values_to_write,
    voxel_type,
)

_OWN = (".nii", ".nii.gz", ".nrrd", ".mha", ".gipl", ".gipl.gz", *TIFF_SUFFIXES)
_OTHER = {".mhd": ".mha", ".img": ".nii", **dict.fromkeys((".img.gz", *MGH_SUFFIXES), ".nii.gz")}
_ONE_CHANNEL = (".gipl", ".gipl.gz", *TIFF_SUFFIXES)
_CANONICAL = np.array([[0, 1], [1, 1], [2, 1]])


def write_image(
    folder: Path,
    image: NDArray[np.float32],
    case: Case,
    files: Sequence[Path] = (),
    *,
    replaced: bool = False,
) -> Path:
    """Write an image (C, *spatial) in [0, 1], shaped as the case's own, under the case's name.

    Args:
        files: all that the case's image is of; its ``source`` alone where none is named.
        replaced: whether its own values are written where it is not the clean one, and not the
            file's with the change on top; see ``own_values.py``.

    Raises:
        UserError: no file format here holds such an image, or its name leads out of the folder.
        MachineError: the disk refused.
    """
    if not Path(os.path.normpath(folder / case.case_id)).is_relative_to(os.path.normpath(folder)):
        raise UserError(f"case {case.case_id!r} would be written outside {folder}; rename it")
    if case.source is not None and is_dicom(case.source):
        return write_series(folder / case.case_id, image, case, case.source, replaced=replaced)
    files = _all_of(case, files)
    if case.source is not None and of_volume(case):
        own = suffix_of(case.source)
        suffix = own if own in _OWN else _OTHER.get(own, ".nrrd")
        if len(image) > 1 and suffix in _ONE_CHANNEL:
            suffix = ".nii.gz"
        content = _volume_bytes(image, case, files, suffix, replaced=replaced)
    else:
        suffix = ".tiff" if case.source and suffix_of(case.source) in TIFF_SUFFIXES else ".png"
        kind = "TIFF" if suffix == ".tiff" else "PNG"
        content = _raster_bytes(image, case, files, kind, replaced=replaced)
    path = folder / f"{case.case_id}{suffix}"
    write_atomically(path, content)
    if of_volume(case) and suffix in TIFF_SUFFIXES:
        write_atomically(path.with_suffix(".json"), spacing_text(case.spacing).encode())
    return path


def read_written(path: Path, case: Case) -> NDArray[np.float32]:
    """The image (C, *spatial) in [0, 1] of a file that ``write_image`` wrote, by the case's map.

    Raises:
        BadFileError: the file cannot be read.
    """
    return from_units(_written_values(path, case), case.intensity or ())


def read_change(
    path: Path, case: Case, files: Sequence[Path] = (), *, replaced: bool = False
) -> NDArray[np.float64]:
    """By how much such a file differs from the case's own, (C, *spatial), in units of [0, 1].

    Where the files cannot be compared voxel by voxel, the images are; and where values were
    ``replaced``, some of which the case's window clips.

    Raises:
        BadFileError: a file cannot be read.
    """
    if case.source is not None and is_dicom(case.source):
        return series_change(path, case, case.source, replaced=replaced)
    own = own_values(case, _all_of(case, files))
    if own is None or replaced:
        return read_written(path, case).astype(np.float64) - case.image
    return change_of_values(_written_values(path, case), own, case)


def beyond_rounding(
    path: Path, change: NDArray[np.float64], image: NDArray[np.float32], case: Case
) -> float:
    """By how much more than its rounding explains a file lies from the image that it is to hold.

    Args:
        change: by how much it differs from the clean one, as ``read_change`` has it.
        image: what it is to hold, (C, *spatial) in [0, 1].

    Returns:
        the distance in units of [0, 1]; 0 where rounding explains it.

    Raises:
        BadFileError: a file cannot be read.
    """
    far = np.abs(change - (image.astype(np.float64) - case.image))
    if case.source is not None and is_dicom(case.source):
        rounding: Any = series_rounding(case, case.source) + 2.0**-22
    elif case.intensity is None:
        return 0.0
    else:
        dtype = open_volume(path).dtype if of_volume(case) else np.dtype("u2")
        rounding = rounding_of_values(_written_values(path, case), case, dtype)
    return float(np.where(far > rounding, far - rounding, 0.0).max())


def _all_of(case: Case, files: Sequence[Path]) -> Sequence[Path]:
    return files or (() if case.source is None else (case.source,))


def _written_values(path: Path, case: Case) -> NDArray[np.float64]:
    """A written picture, volume or slice of one, (C, *spatial) in its units."""
    if not of_volume(case):
        pixels, scale = read_image(path)
        return np.rint(to_units(pixels, (scale,) * len(pixels)))
    voxels = read_voxels(path).astype(np.float64)
    return voxels if case.depth is None else voxels[..., 0]


def _raster_bytes(
    image: NDArray[np.float32], case: Case, files: Sequence[Path], kind: str, *, replaced: bool
) -> bytes:
    depth = max(scale.bits or 0 for scale in require_levels(case))
    channels = len(image)
    if image.ndim != 3 or channels not in (1, 3) or depth > (16 if channels == 1 else 8):
        raise UserError(
            f"case {case.case_id} has {channels} channels of {depth} bits in {image.ndim - 1} "
            "dimensions; PNG and TIFF hold 16-bit gray or 8-bit colour pictures"
        )
    own = own_values(case, files)
    clean = to_units(case.image, case.intensity or ()) if own is None else own
    if np.rint(clean).min() < 0:
        raise UserError(
            f"case {case.case_id} holds negative numbers, which PNG and TIFF do not here"
        )
    dtype = np.dtype("u1" if depth <= 8 else "u2")
    levels = values_to_write(own, image, case, dtype, replaced=replaced).astype(dtype)
    picture = Image.fromarray(levels[0] if channels == 1 else levels.transpose(1, 2, 0))
    file = BytesIO()
    picture.save(file, kind)
    return file.getvalue()


def _volume_bytes(
    image: NDArray[np.float32], case: Case, files: Sequence[Path], suffix: str, *, replaced: bool
) -> bytes:
    dtype, source = voxel_type(case, files), files[0]
    values = values_to_write(own_values(case, files), image, case, dtype, replaced=replaced)
    stored, affine = as_stored(values.astype(dtype), case, source)
    if suffix in TIFF_SUFFIXES:
        return stack_bytes(stored)
    if suffix not in NIFTI_SUFFIXES:
        with TemporaryDirectory() as folder:
            return itk_bytes(stored, affine, suffix, Path(folder))
    return nifti_bytes(stored, affine, source, compressed=suffix.endswith(".gz"))


def as_stored(
    values: NDArray[Any], case: Case, source: Path
) -> tuple[NDArray[Any], NDArray[np.float64]]:
    """Channels (C, *spatial) of a case as its volume's axes lie, and the matrix of that (4 x 4)."""
    from nibabel.orientations import apply_orientation, inv_ornt_aff, io_orientation, ornt_transform

    voxels = values if case.depth is None else values[..., None]  # (C, X, Y, Z)
    voxels = voxels[0] if len(voxels) == 1 else np.moveaxis(voxels, 0, -1)
    header = inspect_volume(source)
    affine = header.canonical @ _to_old_grid(values.shape[1:], header.shape, case.depth)
    back = ornt_transform(_CANONICAL, io_orientation(open_volume(source).affine))
    return apply_orientation(voxels, back), affine @ inv_ornt_aff(back, voxels.shape[:3])


def nifti_bytes(
    stored: NDArray[Any], affine: NDArray[np.float64], source: Path | None, *, compressed: bool
) -> bytes:
    """Of a source its header too."""
    import nibabel

    own: Any = nibabel.load(source) if source and suffix_of(source) in NIFTI_SUFFIXES else None
    header = own.header if isinstance(own, nibabel.Nifti1Pair) else None
    written = nibabel.Nifti1Image(stored, affine, header, dtype=stored.dtype)
    content: bytes = written.to_bytes()
    return gzip.compress(content, mtime=0) if compressed else content


def _to_old_grid(
    new: tuple[int, ...], old: tuple[int, ...], depth: int | None
) -> NDArray[np.float64]:
    """From voxels of a resized volume, or of one slice of it, to those of its file (4 x 4)."""
    grid = np.eye(4)
    for axis, (wide, narrow) in enumerate(zip(old, new, strict=False)):
        grid[axis, axis] = wide / narrow
        grid[axis, 3] = (wide / narrow - 1) / 2  # voxels are counted from their centres
    if depth is not None:
        grid[2, 3] = depth
    return grid
