"""Labels of a DICOM series: segmentations (SEG), contours (RTSTRUCT), on the series' own grid."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby, product
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segbench.data.dicom_frames import Slice, import_pydicom, reading, slices_of
from segbench.data.dicom_series import Series
from segbench.data.faults import BadFileError, Faults
from segbench.data.sources import bit_type
from segbench.errors import UserError

PREDICTION = "segbench prediction"  # the model name of what writes such a file
_APART = {"ImagePositionPatient": 0.05, "ImageOrientationPatient": 1e-3, "PixelSpacing": 1e-3}
_HALF = 0.5  # of a fraction that a segmentation may give, from which a pixel is in


def import_highdicom() -> Any:
    """highdicom.

    Raises:
        UserError: it is not installed.
    """
    try:
        import highdicom
    except ImportError:
        raise UserError(
            "DICOM segmentations are read and written by highdicom, which is not installed; "
            "pip install 'segbench[dicom]'"
        ) from None
    return highdicom


def referenced_series(header: Any) -> set[str]:
    """The series that a SEG or RTSTRUCT is about."""
    found = {str(one.SeriesInstanceUID) for one in header.get("ReferencedSeriesSequence", ())}
    for frame in header.get("ReferencedFrameOfReferenceSequence", ()):
        for study in frame.get("RTReferencedStudySequence", ()):
            for series in study.get("RTReferencedSeriesSequence", ()):
                found.add(str(series.SeriesInstanceUID))
    return found


def is_prediction(header: Any) -> bool:
    """Whether segbench has written it: what a network answers is no label."""
    return str(header.get("ManufacturerModelName", "")) == PREDICTION


def structure_names(header: Any) -> tuple[str, ...]:
    """What a SEG or RTSTRUCT has outlined, in its order; number 0 of a label map is background."""
    if header.Modality == "SEG":
        segments = header.get("SegmentSequence", ())
        return tuple(str(one.SegmentLabel) for one in segments if int(one.SegmentNumber) > 0)
    return tuple(str(one.ROIName) for one in header.get("StructureSetROISequence", ()))


def labels_by_series(
    files: Sequence[tuple[Path, Any]], faults: Faults
) -> dict[str, list[tuple[Path, Any]]]:
    """Series -> the segmentations and contours that are about it; predictions are none."""
    own = [file for file in files if is_prediction(file[1])]
    if own:
        faults.note(f"{len(own)} segmentations are predictions, and no labels")
    found: dict[str, list[tuple[Path, Any]]] = defaultdict(list)
    for path, header in files:
        if (path, header) in own:
            continue
        try:
            with reading(path, "has structures"):
                names, about = structure_names(header), referenced_series(header)
        except BadFileError as error:
            faults.catch(error)
            continue
        if not names or not about:
            faults.add(
                path, "outlines nothing" if about else "does not say what series it is about"
            )
        for uid in about:
            taken = {name: other for other, one in found[uid] for name in structure_names(one)}
            for name in sorted(set(names) & taken.keys()):
                faults.add(
                    path,
                    f"outlines {name!r} in a series where {taken[name].name} does; leave one of "
                    "them out",
                )
            found[uid].append((path, header))
    return found


def all_structures(headers: Iterable[Any]) -> tuple[str, ...]:
    """What they outline, each once."""
    return tuple(dict.fromkeys(name for header in headers for name in structure_names(header)))


def read_structures(path: Path, series: Series, names: Sequence[str]) -> NDArray[np.integer]:
    """(X, Y, Z), canonical: bit s is set where ``names[s]`` is.

    Raises:
        BadFileError: it cannot be read, or has a structure that is not among ``names``.
    """
    from nibabel.orientations import apply_orientation, io_orientation

    kind = bit_type(len(names), path)
    bits = np.zeros((len(series.slices), *_rows_and_columns(series)), kind)  # (Z, rows, columns)
    with reading(path, "has structures"):
        content = import_pydicom().dcmread(path)
        read = _segments if content.Modality == "SEG" else _contours
        for name, mask in read(content, series, path):
            if name not in names:
                expected = ", ".join(names)
                raise BadFileError(path, f"has the structure {name!r}; expected {expected}")
            bits |= mask.astype(kind) << kind.type(list(names).index(name))
    turned: NDArray[np.integer] = apply_orientation(
        bits.transpose(2, 1, 0), io_orientation(series.header.affine)
    )
    return turned


def _segments(content: Any, series: Series, path: Path) -> Iterator[tuple[str, NDArray[np.bool_]]]:
    """Names, each with (Z, rows, columns), by the slices that the segmentation refers to."""
    segmentation = import_highdicom().seg.Segmentation.from_dataset(content)
    numbers = [number for number in segmentation.segment_numbers if number > 0]
    labels = [segmentation.get_segment_description(number).segment_label for number in numbers]
    if len(set(labels)) < len(labels):
        raise BadFileError(path, "has two segments of one name")
    _check_places(content, series, path)
    for number, name in zip(numbers, labels, strict=True):
        parts = [
            _of_sources(segmentation, number, list(some))
            for _, some in groupby(series.slices, _of_frames)
        ]
        yield str(name), np.concatenate(parts)[..., 0] >= _HALF


def _check_places(content: Any, series: Series, path: Path) -> None:
    """Refuse frames that do not lie where the pictures lie that they refer to.

    Raises:
        BadFileError: a frame lies elsewhere, or all it refers to is not in the series.
    """
    known = {(str(one.header.SOPInstanceUID), one.frame or 0): one for one in series.slices}
    if (content.Rows, content.Columns) != _rows_and_columns(series):
        raise BadFileError(path, f"is {content.Columns} x {content.Rows} pixels, its series not")
    shared = list(content.get("SharedFunctionalGroupsSequence", ()))
    for one in slices_of(path, content):
        own = content.PerFrameFunctionalGroupsSequence[one.frame or 0]
        referred = [key for group in (*shared, own) for key in _referred(group)]
        pictures = [known[key] for key in referred if key in known]
        if referred and not pictures:
            raise one.fault("refers to a picture that its series lacks")
        for picture, (tag, apart) in product(pictures, _APART.items()):
            if tag in one.header and not np.allclose(
                one.header[tag].value, picture.header[tag].value, rtol=0, atol=apart
            ):
                raise one.fault(f"has another {tag} than {picture.name}, to which it refers")


def _referred(group: Any) -> Iterator[tuple[str, int]]:
    """The pictures that a functional group says a frame is derived of: each UID, and its frame."""
    for derivation in group.get("DerivationImageSequence", ()):
        for source in derivation.get("SourceImageSequence", ()):
            for number in np.atleast_1d(source.get("ReferencedFrameNumber", 1)):
                yield str(source.ReferencedSOPInstanceUID), int(number) - 1


def _of_frames(one: Slice) -> str | None:
    """The file of a frame; None of a file that holds one picture."""
    return None if one.frame is None else str(one.header.SOPInstanceUID)


def _of_sources(segmentation: Any, number: int, slices: Sequence[Slice]) -> NDArray[np.floating]:
    """A segment (Z, rows, columns, 1) on those slices, all of files of their own or of one file."""
    lenient = {
        "segment_numbers": [number],
        "ignore_spatial_locations": True,
        "assert_missing_frames_are_empty": True,
    }
    if uid := _of_frames(slices[0]):
        numbers = [one.frame + 1 for one in slices if one.frame is not None]
        return segmentation.get_pixels_by_source_frame(uid, numbers, **lenient)  # type: ignore[no-any-return]
    uids = [str(one.header.SOPInstanceUID) for one in slices]
    return segmentation.get_pixels_by_source_instance(uids, **lenient)  # type: ignore[no-any-return]


def _contours(content: Any, series: Series, path: Path) -> Iterator[tuple[str, NDArray[np.bool_]]]:
    """Names, each with (Z, rows, columns): centres that lie in an odd number of its contours."""
    names = {int(one.ROINumber): str(one.ROIName) for one in content.StructureSetROISequence}
    to_voxel = np.linalg.inv(np.diag([-1.0, -1.0, 1.0, 1.0]) @ series.header.affine)
    for roi in content.ROIContourSequence:
        mask = np.zeros((len(series.slices), *_rows_and_columns(series)), bool)
        for contour in roi.get("ContourSequence", ()):
            if contour.ContourGeometricType != "CLOSED_PLANAR":
                raise BadFileError(path, f"has a contour that is {contour.ContourGeometricType}")
            points = np.reshape(np.asarray(contour.ContourData, float), (-1, 3))
            voxels = points @ to_voxel[:3, :3].T + to_voxel[:3, 3]  # (column, row, slice)
            z = round(float(voxels[:, 2].mean()))
            if np.abs(voxels[:, 2] - z).max() > _HALF or not 0 <= z < len(mask):
                raise BadFileError(path, "has a contour that lies on no slice of its series")
            mask[z] ^= _inside(voxels[:, :2], mask.shape[1:])
        yield names[int(roi.ReferencedROINumber)], mask


def _inside(polygon: NDArray[np.float64], shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """Which pixel centres (rows, columns) lie in a polygon of (column, row) points."""
    rows = np.arange(shape[0])[:, None]
    columns = np.arange(shape[1])[None]
    inside = np.zeros(shape, bool)
    for (x1, y1), (x2, y2) in zip(polygon, np.roll(polygon, -1, 0), strict=True):
        if y1 == y2:
            continue
        crossed = (rows >= min(y1, y2)) & (rows < max(y1, y2))
        inside ^= crossed & (columns < x1 + (rows - y1) * (x2 - x1) / (y2 - y1))
    return inside


def _rows_and_columns(series: Series) -> tuple[int, int]:
    header = series.slices[0].header
    return int(header.Rows), int(header.Columns)
