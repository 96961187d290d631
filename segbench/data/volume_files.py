"""Files of volumes, opened: NIfTI and MGH by nibabel, TIFF by Pillow, others by SimpleITK."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segbench.atomic import require_regular
from segbench.data.endings import MGH_SUFFIXES, SIMPLEITK_SUFFIXES, TIFF_SUFFIXES, suffix_of
from segbench.data.faults import BadFileError
from segbench.data.itk_files import open_itk
from segbench.data.tiff_stacks import open_stack
from segbench.data.volume_file import READ_ERRORS, VolumeFile

_MILLIMETRES = {"meter": 1000.0, "micron": 0.001}  # and nothing said is millimetres


def open_volume(path: Path) -> VolumeFile:
    """The header of a volume.

    Raises:
        BadFileError: it is none that can be read.
        UserError: what reads it is not installed.
    """
    try:
        require_regular(path)
        if suffix_of(path) in SIMPLEITK_SUFFIXES:
            return open_itk(path)
        if suffix_of(path) in TIFF_SUFFIXES:
            return open_stack(path)
        return _open_mgh(path) if suffix_of(path) in MGH_SUFFIXES else _open_nifti(path)
    except (*READ_ERRORS, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise BadFileError(path, f"is not a volume that can be read ({reason[-200:]})") from None


def _open_nifti(path: Path) -> VolumeFile:
    import nibabel
    from nibabel.filebasedimages import ImageFileError
    from nibabel.spatialimages import HeaderDataError
    from nibabel.wrapstruct import WrapStructError

    try:
        image = nibabel.load(path)
    except (ImageFileError, HeaderDataError, WrapStructError) as error:
        raise BadFileError(path, f"is not a NIfTI volume that can be read ({error})") from None
    if not isinstance(image, nibabel.Nifti1Pair):  # all of NIfTI's are such, in one file or two
        raise BadFileError(
            path, "is not a NIfTI volume (Analyze's files do not say which way the patient lies)"
        )
    try:
        unit = image.header.get_xyzt_units()[0]
    except KeyError:
        unit = "unknown"
    return VolumeFile(
        tuple(int(n) for n in image.shape),
        image.get_data_dtype(),
        np.asarray(image.affine, dtype=np.float64),
        image.header.get_slope_inter() not in ((None, None), (1.0, 0.0)),
        _MILLIMETRES.get(unit, 1.0),
        lambda: _nifti_array(path, image),
    )


def _nifti_array(path: Path, image: Any) -> NDArray[Any]:
    """The array of a file, once its checksum is known to be right where it has one."""
    import nibabel

    if path.suffix.lower() != ".gz":
        return np.asanyarray(image.dataobj)
    with gzip.open(path) as stream:
        single = isinstance(image, nibabel.Nifti1Image)
        stored = np.asanyarray(type(image).from_stream(stream).dataobj) if single else None
        _read_on(stream)
    return np.asanyarray(image.dataobj) if stored is None else stored


def _open_mgh(path: Path) -> VolumeFile:
    """FreeSurfer's format, compressed or not."""
    import nibabel
    from nibabel.filebasedimages import ImageFileError
    from nibabel.freesurfer.mghformat import MGHError
    from nibabel.spatialimages import HeaderDataError
    from nibabel.wrapstruct import WrapStructError

    try:
        with _mgh_stream(path) as stream:
            header = nibabel.MGHImage.from_stream(stream).header
    except (TypeError, MGHError, ImageFileError, HeaderDataError, WrapStructError) as error:
        raise BadFileError(path, f"is not an MGH volume that can be read ({error})") from None
    return VolumeFile(
        tuple(int(n) for n in header.get_data_shape()),
        header.get_data_dtype(),
        np.asarray(header.get_affine(), dtype=np.float64),
        False,
        1.0,
        lambda: _mgh_array(path),
    )


def _mgh_array(path: Path) -> NDArray[Any]:
    import nibabel

    with _mgh_stream(path) as stream:
        stored: NDArray[Any] = np.asanyarray(nibabel.MGHImage.from_stream(stream).dataobj)
        _read_on(stream)
    return stored


def _mgh_stream(path: Path) -> Any:
    return path.open("rb") if suffix_of(path) == ".mgh" else gzip.open(path)


def _read_on(stream: Any) -> None:
    """To the end, where the checksum stands behind all of it."""
    while stream.read(1 << 20):
        pass
