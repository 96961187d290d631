"""DICOM files that tests make: series, enhanced multi-frame files, segmentations."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pydicom = pytest.importorskip("pydicom")
highdicom = pytest.importorskip("highdicom")

UID = pydicom.uid.generate_uid
RANDOM = np.random.default_rng(0)
SHAPE = (5, 8, 6)  # slices, rows, columns
AXIAL = ([1, 0, 0], [0, 1, 0])
SAGITTAL = ([0, 1, 0], [0, 0, -1])


def dataset(modality: str, patient: str, series: str, study: str) -> Any:
    meta = pydicom.dataset.FileMetaDataset()
    storage = {
        "CT": pydicom.uid.CTImageStorage,
        "MR": pydicom.uid.MRImageStorage,
        "DX": pydicom.uid.DigitalXRayImageStorageForPresentation,
        "RTSTRUCT": pydicom.uid.RTStructureSetStorage,
    }[modality]
    meta.MediaStorageSOPClassUID = storage
    meta.MediaStorageSOPInstanceUID = UID()
    meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    one = pydicom.Dataset()
    one.file_meta = meta
    one.SOPClassUID, one.SOPInstanceUID = storage, meta.MediaStorageSOPInstanceUID
    one.Modality, one.PatientID, one.PatientName = modality, patient, "A^B"
    one.PatientBirthDate = one.PatientSex = one.StudyDate = one.StudyTime = ""
    one.AccessionNumber = one.StudyID = one.ReferringPhysicianName = ""
    one.StudyInstanceUID, one.SeriesInstanceUID, one.SeriesNumber = study, series, 1
    one.FrameOfReferenceUID = study
    one.Manufacturer = "none"
    return one


def pixels(one: Any, values: np.ndarray, slope: float = 1, intercept: float = 0) -> Any:
    one.Rows, one.Columns = values.shape
    one.SamplesPerPixel, one.PhotometricInterpretation = 1, "MONOCHROME2"
    one.BitsAllocated, one.BitsStored, one.HighBit = 16, 12, 11
    one.PixelRepresentation = 0
    one.RescaleSlope, one.RescaleIntercept = slope, intercept
    one.PixelData = values.astype("<u2").tobytes()
    one["PixelData"].VR = "OW"
    return one


def series(
    folder: Path,
    values: np.ndarray,
    *,
    modality: str = "CT",
    patient: str = "p0",
    axes: Any = AXIAL,
    change: Callable[[Any, int], None] = lambda one, n: None,
) -> list[Any]:
    """Stored numbers (slices, rows, columns), 2.5 mm apart, in files of names in no order."""
    folder.mkdir(parents=True)
    uid, study = UID(), UID()
    row, column = map(np.array, axes)
    normal = np.cross(row, column)
    found = {}
    for n in RANDOM.permutation(len(values)).tolist():
        one = pixels(dataset(modality, patient, uid, study), values[n], 1, -1000)
        one.ImageOrientationPatient = [*row.tolist(), *column.tolist()]
        one.ImagePositionPatient = (normal * 2.5 * n + [3, -4, 5]).tolist()
        one.PixelSpacing, one.SliceThickness = [0.5, 0.75], 2.5
        one.InstanceNumber = len(values) - n  # as it should not be relied on
        change(one, n)
        one.save_as(folder / f"{RANDOM.integers(10**9)}", enforce_file_format=True)
        found[n] = one
    return [found[n] for n in range(len(values))]


def enhanced(
    path: Path,
    values: np.ndarray,
    *,
    patient: str = "p0",
    axes: Any = AXIAL,
    intercepts: np.ndarray | None = None,
    change: Callable[[Any], None] = lambda one: None,
) -> Any:
    """Stored numbers (slices, rows, columns), 2.5 mm apart, as frames in no order of one CT file.

    The rescale is shared, or where there are ``intercepts`` each frame's own.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    row, column = map(np.array, axes)
    order = RANDOM.permutation(len(values))
    study = UID()
    one = pixels(dataset("CT", patient, UID(), study), values[0])
    one.SOPClassUID = pydicom.uid.EnhancedCTImageStorage
    one.file_meta.MediaStorageSOPClassUID = one.SOPClassUID
    del one.RescaleSlope, one.RescaleIntercept
    one.ImageType, one.NumberOfFrames = ["ORIGINAL", "PRIMARY", "VOLUME", "NONE"], len(values)
    one.PixelData = values[order].astype("<u2").tobytes()
    one.InstanceNumber, one.ContentDate, one.ContentTime = 1, "20200101", "000000"

    def group(**items: dict[str, Any]) -> Any:
        found = pydicom.Dataset()
        for name, elements in items.items():
            item = pydicom.Dataset()
            for keyword, value in elements.items():
                setattr(item, keyword, value)
            setattr(found, name, [item])
        return found

    def rescale(intercept: float) -> dict[str, Any]:
        return {"RescaleSlope": 1, "RescaleIntercept": intercept, "RescaleType": "HU"}

    shared = group(
        PixelMeasuresSequence={"PixelSpacing": [0.5, 0.75], "SliceThickness": 2.5},
        PlaneOrientationSequence={"ImageOrientationPatient": [*row.tolist(), *column.tolist()]},
        CTImageFrameTypeSequence={"FrameType": ["ORIGINAL", "PRIMARY", "VOLUME", "NONE"]},
        **({} if intercepts is not None else {"PixelValueTransformationSequence": rescale(-1000)}),
    )
    frames = []
    for place, n in enumerate(order.tolist(), start=1):
        position = (np.cross(row, column) * 2.5 * n + [3, -4, 5]).tolist()
        frame = group(
            FrameContentSequence={"DimensionIndexValues": [place]},
            PlanePositionSequence={"ImagePositionPatient": position},
        )
        if intercepts is not None:
            own = group(PixelValueTransformationSequence=rescale(float(intercepts[n])))
            frame.update(own)
        frames.append(frame)
    one.SharedFunctionalGroupsSequence = [shared]
    one.PerFrameFunctionalGroupsSequence = frames
    change(one)
    one.save_as(path, enforce_file_format=True)
    return one


def segmentation(
    path: Path, sources: list[Any], masks: dict[str, np.ndarray], kind: str = "BINARY"
) -> None:
    """A SEG of masks (slices, rows, columns); of fractions, 0.7 inside them and 0.3 outside."""
    values = np.stack(list(masks.values()), -1).astype(np.uint8)
    if kind == "FRACTIONAL":
        values = (0.3 + 0.4 * values).astype(np.float32)
    if kind == "LABELMAP":
        values = (values * np.arange(1, len(masks) + 1, dtype=np.uint8)).max(-1)
    code = highdicom.sr.coding.CodedConcept("85756007", "SCT", "Tissue")
    described = [
        highdicom.seg.SegmentDescription(
            number,
            name,
            code,
            code,
            highdicom.seg.SegmentAlgorithmTypeValues.MANUAL,
        )
        for number, name in enumerate(masks, start=1)
    ]
    made = highdicom.seg.Segmentation(
        sources,
        values,
        highdicom.seg.SegmentationTypeValues[kind],
        described,
        series_instance_uid=UID(),
        series_number=9,
        sop_instance_uid=UID(),
        instance_number=1,
        manufacturer="none",
        manufacturer_model_name="none",
        software_versions="1",
        device_serial_number="1",
        omit_empty_frames=False,
    )
    made.save_as(path)


def scene(folder: Path, axes: Any = AXIAL, patients: int = 2) -> tuple[np.ndarray, np.ndarray]:
    """Hounsfield units and mask, (slices, rows, columns), of the first patient; all have a SEG."""
    kept = []
    for n in range(patients):
        values = RANDOM.integers(0, 3000, SHAPE)
        mask = RANDOM.random(SHAPE) > 0.5
        sources = series(folder / f"s{n}", values, patient=f"p{n}", axes=axes)
        segmentation(folder / f"seg{n}.dcm", sources, {"liver": mask})
        kept.append((values - 1000, mask))
    return kept[0]


def by_world(case: Any, axes: Any) -> Callable[[int, int, int], tuple[int, ...]]:
    """(slice, row, column) -> the canonical voxel at the same place in the patient."""
    from nibabel.orientations import inv_ornt_aff, io_orientation

    row, column = map(np.array, axes)
    shape = [SHAPE[2], SHAPE[1], SHAPE[0]]
    canonical = case.affine @ inv_ornt_aff(io_orientation(case.affine), shape)
    back = np.linalg.inv(canonical)

    def place(k: int, r: int, c: int) -> tuple[int, ...]:
        lps = np.array([3, -4, 5]) + 2.5 * k * np.cross(row, column) + 0.5 * r * column
        lps = lps + 0.75 * c * row
        voxel = back @ [-lps[0], -lps[1], lps[2], 1]
        return tuple(np.rint(voxel[:3]).astype(int).tolist())

    return place
