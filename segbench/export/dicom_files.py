"""A changed case as a derived DICOM series: the files of its source, with other pixels and UIDs.

A slice's stored numbers are moved as the image was changed, rounded towards the clean ones, so that
the written series differs from its source by no more than the attack, in the units of the modality.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segbench.api import Case
from segbench.atomic import write_atomically
from segbench.data.dicom_series import Series, import_pydicom, read_pixels, series_beside
from segbench.errors import UserError

_FP32 = 2.0**-22  # as in own_values.py


def write_series(folder: Path, image: NDArray[np.float32], case: Case, source: Path) -> Path:
    """The folder of the written files, ``folder``: one for each slice of the case.

    Raises:
        UserError: the case was resized, so that its pixels are not those of the files.
        MachineError: the disk refused.
    """
    pydicom = import_pydicom()
    series_uid = pydicom.uid.generate_uid()
    change = _stored_change(image.astype(np.float64) - case.image, case)
    for path, moved in _slices(change, case, source):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            content = pydicom.dcmread(path)
            if content.file_meta.TransferSyntaxUID.is_compressed:
                content.decompress()
        _derive(content, moved, series_uid, pydicom.uid.generate_uid())
        write_atomically(folder / f"{path.stem}.dcm", _bytes(content))
    return folder


def series_change(folder: Path, case: Case, source: Path) -> NDArray[np.float64]:
    """By how much a written series differs from its source, (1, *spatial), in units of [0, 1]."""
    planes = [
        (read_pixels(folder / f"{path.stem}.dcm") - read_pixels(path)).T
        for path, _ in _slices(None, case, source)
    ]
    (scale,) = case.intensity or ()
    if case.image.ndim == 3 and case.depth is None:  # a radiograph
        return planes[0].T[None] / (scale.high - scale.low)
    turned = _turned(np.stack(planes, -1), series_beside(source))
    change = turned if case.depth is None else turned[..., 0]
    return change[None] / (scale.high - scale.low)


def _stored_change(change: NDArray[np.float64], case: Case) -> NDArray[np.float64]:
    """A change of the image, (*spatial), in units of the modality."""
    (scale,) = case.intensity or ()
    units: NDArray[np.float64] = change[0] * (scale.high - scale.low)
    return units


def _slices(
    change: NDArray[np.float64] | None, case: Case, source: Path
) -> list[tuple[Path, NDArray[np.float64]]]:
    """Each file of the case, and the change of its pixels (rows, columns)."""
    from nibabel.orientations import apply_orientation, io_orientation, ornt_transform

    nothing = np.zeros(case.image.shape[1:]) if change is None else change
    if case.image.ndim == 3 and case.depth is None:  # a radiograph
        if read_pixels(source).shape != nothing.shape:
            raise _resized(case)
        return [(source, nothing)]
    series = series_beside(source)
    volume = nothing if case.depth is None else nothing[..., None]
    if volume.shape[:2] != series.header.shape[:2]:
        raise _resized(case)
    if case.depth is not None:
        whole = np.zeros(series.header.shape)
        whole[..., case.depth] = nothing
        volume = whole
    canonical = np.array([[0, 1], [1, 1], [2, 1]])
    back = ornt_transform(canonical, io_orientation(series.header.affine))
    stored = apply_orientation(volume, back)  # (columns, rows, slices)
    planes = [(path, stored[..., n].T) for n, path in enumerate(series.files)]
    if case.depth is None:
        return planes
    marks = np.zeros(series.header.shape, bool)
    marks[..., case.depth] = True
    used = apply_orientation(marks, back).all(axis=(0, 1))
    if used.sum() != 1:
        raise UserError(
            f"case {case.case_id} is a slice across the slices of its series; attack whole volumes "
            "(mode=volumes) to export it as DICOM"
        )
    return [planes[int(np.argmax(used))]]


def _turned(stored: NDArray[np.float64], series: Series) -> NDArray[np.float64]:
    from nibabel.orientations import apply_orientation, io_orientation

    turned: NDArray[np.float64] = apply_orientation(stored, io_orientation(series.header.affine))
    return turned


def _derive(content: Any, change: NDArray[np.float64], series_uid: str, uid: str) -> None:
    """Other pixels and identities, in place; the patient and the study are the same."""
    slope = float(content.get("RescaleSlope", 1))
    stored, moved = content.pixel_array.astype(np.int64), change / slope
    level = np.rint(moved)
    near = np.abs(moved - level) <= _FP32 * np.abs(level).clip(1) * 2**12
    moved = np.where(near, level, np.trunc(moved)).astype(np.int64)
    bits, signed = int(content.BitsStored), bool(content.PixelRepresentation)
    least = -(2 ** (bits - 1)) if signed else 0
    values = np.clip(stored + moved, least, least + 2**bits - 1)
    kind = f"<{'i' if signed else 'u'}{int(content.BitsAllocated) // 8}"
    content.PixelData = values.astype(kind).tobytes()
    content["PixelData"].VR = "OW" if int(content.BitsAllocated) > 8 else "OB"
    content.SeriesInstanceUID, content.SOPInstanceUID = series_uid, uid
    content.file_meta.MediaStorageSOPInstanceUID = uid
    content.ImageType = ["DERIVED", *list(content.get("ImageType", ["", "SECONDARY"]))[1:]]
    content.DerivationDescription = "adversarial perturbation by segbench"
    for tag in ("SmallestImagePixelValue", "LargestImagePixelValue"):
        if tag in content:
            del content[tag]


def _bytes(content: Any) -> bytes:
    from io import BytesIO

    file = BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        content.save_as(file, enforce_file_format=True)
    return file.getvalue()


def _resized(case: Case) -> UserError:
    return UserError(
        f"case {case.case_id} was resized, so that it is not the pixels of its DICOM files; leave "
        "size= out to export it"
    )
