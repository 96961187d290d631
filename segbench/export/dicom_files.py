"""A changed case as a derived DICOM series: the files of its source, with other pixels and UIDs.

A picture's stored numbers are moved as the image was changed, rounded towards the clean ones: the
written series differs from its source by no more than the attack, in the units of the modality.
Where an image is changed beyond any ball its own values are written (``own_values.py``).
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import replace
from io import BytesIO
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segbench.api import Case
from segbench.atomic import write_atomically
from segbench.data.dicom_frames import Slice, import_pydicom, read_slices, slices_of
from segbench.data.dicom_series import Series, series_beside
from segbench.data.quantize import from_units, to_units
from segbench.errors import UserError

_FP32 = 2.0**-22  # as in own_values.py


def write_series(
    folder: Path, image: NDArray[np.float32], case: Case, source: Path, *, replaced: bool = False
) -> Path:
    """The folder of the written files, ``folder``: one for each file that the case is of.

    ``replaced`` is as in ``write_image``.

    Raises:
        UserError: the case was resized, so that its pixels are not those of the files.
        MachineError: the disk refused.
    """
    pydicom = import_pydicom()
    series_uid = pydicom.uid.generate_uid()
    change = (image[0].astype(np.float64) - case.image[0]) * _span(case)
    if replaced:
        (own,) = series_values(case, source)
        change = np.where(change == 0, 0.0, to_units(image, case.intensity or ())[0] - own)
    for path, planes in groupby(stored_planes(change, case, source), lambda plane: plane[0].path):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            content = pydicom.dcmread(path)
            if content.file_meta.TransferSyntaxUID.is_compressed:
                content.decompress()
        _derive(content, list(planes), _span(case), series_uid, pydicom.uid.generate_uid())
        write_atomically(written_file(folder, path), dicom_bytes(content))
    return folder


def written_file(folder: Path, path: Path) -> Path:
    """What a file of the source is called among those written."""
    return folder / f"{path.stem}.dcm"


def series_change(
    folder: Path, case: Case, source: Path, *, replaced: bool = False
) -> NDArray[np.float64]:
    """By how much a written series differs from its source, (1, *spatial), in units of [0, 1].

    Where values were ``replaced``, by how much the image that it is differs from the case's.
    """
    own = _slices(case, source)
    written = [replace(one, path=written_file(folder, one.path)) for one in own]
    after = _values(written, case, source)
    if replaced:
        return from_units(after, case.intensity or ()).astype(np.float64) - case.image
    return (after - _values(own, case, source)) / _span(case)


def series_values(case: Case, source: Path) -> NDArray[np.float64]:
    """What a case's own files hold of it, (1, *spatial), in the units of the modality.

    Raises:
        UserError: the case was resized, so that its pixels are not those of the files.
    """
    return _values(_slices(case, source), case, source)


def _slices(case: Case, source: Path) -> list[Slice]:
    """The pictures in which a case lies."""
    return [one for one, _ in stored_planes(np.zeros(case.image.shape[1:]), case, source)]


def _values(slices: Sequence[Slice], case: Case, source: Path) -> NDArray[np.float64]:
    """What these pictures of a case hold, (1, *spatial), in the units of the modality."""
    planes = [plane.astype(np.float64) for plane in read_slices(slices)]
    if _is_radiograph(case):
        return planes[0][None]
    turned = _turned(np.stack([plane.T for plane in planes], -1), series_beside(source))
    return (turned if case.depth is None else turned[..., 0])[None]


def stored_planes(
    values: NDArray[Any], case: Case, source: Path
) -> list[tuple[Slice, NDArray[Any]]]:
    """Numbers (*spatial) of a case as they lie in its files: each picture's (rows, columns).

    Raises:
        UserError: the case was resized, or is a slice across those of its series.
    """
    from nibabel.orientations import apply_orientation, io_orientation, ornt_transform

    if _is_radiograph(case):
        one = _radiograph(source)
        if (one.header.Rows, one.header.Columns) != values.shape:
            raise _resized(case)
        return [(one, values)]
    series = series_beside(source)
    shape = series.header.shape
    if values.shape != (shape if case.depth is None else shape[:2]):
        raise _resized(case)
    if case.depth is None:
        whole, used = values, np.ones(shape, bool)
    else:
        whole, used = np.zeros(shape, values.dtype), np.zeros(shape, bool)
        whole[..., case.depth], used[..., case.depth] = values, True
    canonical = np.array([[0, 1], [1, 1], [2, 1]])
    back = ornt_transform(canonical, io_orientation(series.header.affine))
    stored = apply_orientation(whole, back)  # (columns, rows, slices)
    there = apply_orientation(used, back).all(axis=(0, 1))
    if not there.any():
        raise UserError(
            f"case {case.case_id} is a slice across the slices of its series; attack whole volumes "
            "(mode=volumes) to export it as DICOM"
        )
    return [(series.slices[n], stored[..., n].T) for n in np.flatnonzero(there)]


def _is_radiograph(case: Case) -> bool:
    return case.image.ndim == 3 and case.depth is None


def _radiograph(path: Path) -> Slice:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        header = import_pydicom().dcmread(path, stop_before_pixels=True)
    (one,) = slices_of(path, header)
    return one


def series_rounding(case: Case, source: Path) -> float:
    """What rounding to a stored number moves a value by at most, in units of [0, 1]."""
    return max(abs(_slope(one) / _span(case)) for one in _slices(case, source))


def _slope(one: Slice) -> float:
    """Units of the modality in one stored number."""
    return float(one.header.get("RescaleSlope", 1))


def _span(case: Case) -> float:
    """How many units of the modality [0, 1] is."""
    (scale,) = case.intensity or ()
    return scale.high - scale.low


def _turned(stored: NDArray[np.float64], series: Series) -> NDArray[np.float64]:
    from nibabel.orientations import apply_orientation, io_orientation

    turned: NDArray[np.float64] = apply_orientation(stored, io_orientation(series.header.affine))
    return turned


def _derive(
    content: Any,
    planes: Sequence[tuple[Slice, NDArray[np.float64]]],
    span: float,
    series_uid: str,
    uid: str,
) -> None:
    """Other pixels and identities, in place; the patient and the study are the same.

    ``planes`` are changes in units of the modality, of which [0, 1] is ``span``.
    """
    stored = content.pixel_array.astype(np.int64)
    frames = stored.reshape(-1, *stored.shape[-2:])
    bits, signed = int(content.BitsStored), bool(content.PixelRepresentation)
    least = -(2 ** (bits - 1)) if signed else 0
    for one, change in planes:
        slope = _slope(one)
        moved = change / slope
        level = np.rint(moved)
        near = np.abs(moved - level) <= _FP32 * abs(span / slope)
        whole = np.where(near, level, np.trunc(moved)).astype(np.int64)
        frame = frames[one.frame or 0]
        frame[:] = np.clip(frame + whole, least, least + 2**bits - 1)
    kind = f"<{'i' if signed else 'u'}{int(content.BitsAllocated) // 8}"
    content.PixelData = stored.astype(kind).tobytes()
    content["PixelData"].VR = "OW" if int(content.BitsAllocated) > 8 else "OB"
    content.SeriesInstanceUID, content.SOPInstanceUID = series_uid, uid
    content.file_meta.MediaStorageSOPInstanceUID = uid
    content.ImageType = ["DERIVED", *list(content.get("ImageType", ["", "SECONDARY"]))[1:]]
    shared = content.get("SharedFunctionalGroupsSequence", ())
    for group in (*shared, *content.get("PerFrameFunctionalGroupsSequence", ())):
        for element in group:
            if element.keyword.endswith("FrameTypeSequence"):
                (kind_of,) = element.value
                kind_of.FrameType = ["DERIVED", *list(kind_of.FrameType)[1:]]
    content.DerivationDescription = "adversarial perturbation by segbench"
    for tag in ("SmallestImagePixelValue", "LargestImagePixelValue"):
        if tag in content:
            del content[tag]


def dicom_bytes(content: Any) -> bytes:
    """A file of it."""
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
