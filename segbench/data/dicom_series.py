"""DICOM series: the files of a folder tree, sorted into volumes (by pydicom, an extra).

Slices are ordered by their position along the normal, never by their number. What would bend a
volume without a word (missing slices, a tilted gantry, mixed orientations) is refused by name.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segbench.data.dicom_frames import (
    Slice,
    check_picture,
    read_slices,
    said_numbers,
    slices_of,
)
from segbench.data.dicom_tree import read_headers
from segbench.data.faults import BadFileError, Faults
from segbench.data.volumes import VolumeHeader
from segbench.engine.memory import free_bytes

RADIOGRAPHS = ("CR", "DX", "MG", "RG", "PX")
VOLUMES = ("CT", "MR", "PT", "NM")
LABELS = ("SEG", "RTSTRUCT")
_ALIKE = (  # in all pictures of a series
    *("Rows", "Columns", "PhotometricInterpretation"),
    *("BitsAllocated", "BitsStored", "PixelRepresentation"),
)
_SKEW = 0.01  # of a unit vector
_WIDEST = 16  # bytes of a voxel while its series is read
_UNEVEN = 0.05  # of the distance of slices, by which one may differ
_TILT = 0.01  # of the step from slice to slice, that may lie within the slice
_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


@dataclass(frozen=True, eq=False)
class Series:
    """The slices of one series, in the order of their place."""

    uid: str
    patient: str
    modality: str
    slices: tuple[Slice, ...]
    header: VolumeHeader

    @property
    def files(self) -> tuple[Path, ...]:
        """Each once, in that order."""
        return tuple(dict.fromkeys(one.path for one in self.slices))


def sort_series(headers: Sequence[tuple[Path, Any]], faults: Faults) -> list[Series]:
    """Volumes, each of the slices of one series; what cannot be one is noted in ``faults``."""
    groups: dict[str, list[Slice]] = defaultdict(list)
    for path, header in headers:
        try:
            slices = slices_of(path, header)
        except BadFileError as error:
            faults.catch(error)
            continue
        groups[str(header.SeriesInstanceUID)] += slices
    found = []
    for uid, slices in sorted(groups.items()):
        try:
            found.append(_as_series(uid, slices))
        except BadFileError as error:
            faults.catch(error)
    return found


def read_series(series: Series) -> NDArray[np.float64]:
    """(1, X, Y, Z), canonical, in the units of the modality.

    Raises:
        BadFileError: a slice's pixels cannot be read.
    """
    from nibabel.orientations import apply_orientation, io_orientation

    stored = np.stack([values.T for values in read_slices(series.slices)], -1)
    turned: NDArray[np.float64] = apply_orientation(stored, io_orientation(series.header.affine))
    return turned[None]


def whole_bits(header: Any) -> int | None:
    """How many bits the numbers have, if their rescale leaves them whole; else None."""
    slope, intercept = (
        float(header.get("RescaleSlope", 1)),
        float(header.get("RescaleIntercept", 0)),
    )
    whole = slope == 1 and intercept.is_integer() and "ModalityLUTSequence" not in header
    return int(header.BitsStored) if whole else None


def _as_series(uid: str, slices: Sequence[Slice]) -> Series:
    first = slices[0]
    for one in slices:
        check_picture(one)
    _bound(slices)
    for one in slices:
        _check_place(one)
        for tag in _ALIKE:
            if one.header.get(tag) != first.header.get(tag):
                raise one.fault(f"has another {tag} than {first.name}")
        for tag in ("RescaleSlope", "RescaleIntercept"):
            if (tag in one.header) != (tag in first.header):
                who, whose = (one, first) if tag in first.header else (first, one)
                raise who.fault(f"has no {tag}, and {whose.name} has one")
        for tag in ("ImageOrientationPatient", "PixelSpacing"):
            if not np.allclose(one.header[tag].value, first.header[tag].value, atol=1e-3):
                raise one.fault(f"has another {tag} than {first.name}")
    row, column = np.reshape(np.asarray(first.header.ImageOrientationPatient, float), (2, 3))
    normal = np.cross(row, column)
    places = [np.asarray(one.header.ImagePositionPatient, float) for one in slices]
    order = np.argsort([place @ normal for place in places], kind="stable")
    ordered = [slices[n] for n in order]
    step = _step(ordered, [places[n] for n in order], normal)
    between_rows, between_columns = map(float, first.header.PixelSpacing)
    matrix = np.eye(4)
    matrix[:3, 0], matrix[:3, 1], matrix[:3, 2] = row * between_columns, column * between_rows, step
    matrix[:3, 3] = places[order[0]]
    return Series(
        uid,
        str(first.header.get("PatientID", "")) or first.path.parent.name,
        str(first.header.get("Modality", "")),
        tuple(ordered),
        _header(_TO_RAS @ matrix, ordered),
    )


def _check_place(one: Slice) -> None:
    """Refuse a picture that does not say where in the patient it lies."""
    said_numbers(one, "ImagePositionPatient", 3)
    axes = said_numbers(one, "ImageOrientationPatient", 6).reshape(2, 3)
    if np.abs(axes @ axes.T - np.eye(2)).max() > _SKEW:
        raise one.fault("has an ImageOrientationPatient of axes that are not at right angles")
    if said_numbers(one, "PixelSpacing", 2).min() <= 0:
        raise one.fault(f"has the PixelSpacing {one.header.PixelSpacing}; expected millimetres")


def _bound(slices: Sequence[Slice]) -> None:
    """Refuse what memory cannot hold, from the headers alone."""
    first = slices[0]
    count = len(slices) * int(first.header.get("Rows", 0)) * int(first.header.get("Columns", 0))
    if count * _WIDEST > (free := free_bytes()):
        raise BadFileError(
            first.path,
            f"is one of {len(slices)} slices of {count * _WIDEST:,} bytes once they are read, but "
            f"{free:,} bytes of memory are free",
        )


def _step(
    slices: Sequence[Slice], places: Sequence[NDArray[np.float64]], normal: NDArray[np.float64]
) -> NDArray[np.float64]:
    """From one slice to the next."""
    if len(slices) == 1:
        return normal * float(slices[0].header.get("SliceThickness", 0) or 1)
    steps = np.diff(places, axis=0)
    heights = steps @ normal
    usual = float(np.median(heights))
    for n, height in enumerate(heights):
        pair = f"{slices[n].name} and {slices[n + 1].name}"
        if height < _UNEVEN * max(usual, 1e-3):
            raise slices[n].fault(f"and {slices[n + 1].name} are at one place")
        if abs(height - usual) > _UNEVEN * usual:
            raise slices[n].fault(
                f"is {height:.3g} mm from the next slice, and others {usual:.3g} mm: there are "
                f"slices missing between {pair}",
            )
    mean: NDArray[np.float64] = (places[-1] - places[0]) / (len(places) - 1)
    aside = mean - normal * (mean @ normal)
    if np.linalg.norm(aside) > _TILT * np.linalg.norm(mean):
        raise BadFileError(
            slices[0].path, "is of a series with a tilted gantry; resample it to an upright one"
        )
    return mean


def _header(affine: NDArray[np.float64], slices: Sequence[Slice]) -> VolumeHeader:
    import nibabel

    header = slices[0].header
    stored = (int(header.Columns), int(header.Rows), len(slices))
    axes = np.argsort(nibabel.io_orientation(affine)[:, 0])
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    bits = [whole_bits(one.header) for one in slices]
    return VolumeHeader(
        shape=(stored[axes[0]], stored[axes[1]], stored[axes[2]]),
        channels=1,
        spacing=tuple(float(spacing[axis]) for axis in axes),
        affine=affine,
        bits=None if None in bits else bits[0],
    )


def series_beside(path: Path) -> Series:
    """The series of a file, from those that lie in its folder.

    Raises:
        BadFileError: it is no DICOM file, or its series no volume.
    """
    faults = Faults(path.parent)
    headers = list(read_headers(path.parent, faults))
    own = [header for file, header in headers if file == path]
    if not own:
        raise BadFileError(path, "is not DICOM that can be read")
    uid = own[0].SeriesInstanceUID
    return _as_series(
        str(uid),
        [
            one
            for file, header in headers
            if header.SeriesInstanceUID == uid
            for one in slices_of(file, header)
        ],
    )
