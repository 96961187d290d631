"""Enhanced multi-frame DICOM is read as the series of single pictures that it stands for."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dicom_files import AXIAL, RANDOM, SAGITTAL, SHAPE, by_world, enhanced, segmentation

from segbench.data import load_dataset
from segbench.errors import UserError
from segbench.export.image_files import read_change, write_image

pydicom = pytest.importorskip("pydicom")
SPEC = "dicom:window=-1000..1000"


def labelled(folder: Path, **options: Any) -> tuple[np.ndarray, np.ndarray, Any]:
    """Stored numbers and mask (slices, rows, columns) of the first of two patients, and its file.

    The segmentation's frames are those of the file, in its order.
    """
    kept = []
    for n in range(2):
        values, mask = RANDOM.integers(0, 2000, SHAPE), RANDOM.random(SHAPE) > 0.5
        one = enhanced(folder / f"e{n}.dcm", values, patient=f"p{n}", **options)
        groups = one.PerFrameFunctionalGroupsSequence
        places = [group.PlanePositionSequence[0].ImagePositionPatient for group in groups]
        row, column = np.reshape(options.get("axes", AXIAL), (2, 3))
        heights = (np.array(places, float) - [3, -4, 5]) @ np.cross(row, column)
        order = np.rint(heights / 2.5).astype(int)
        segmentation(folder / f"seg{n}.dcm", [one], {"liver": mask[order]})
        kept.append((values, mask, one))
    return kept[0]


@pytest.mark.parametrize("axes", [AXIAL, SAGITTAL], ids=["axial", "sagittal"])
@pytest.mark.parametrize("own_rescale", [False, True], ids=["shared", "per-frame"])
def test_every_voxel_and_label_is_where_it_is_in_the_patient(
    axes: Any, own_rescale: bool, tmp_path: Path
) -> None:
    intercepts = -1000 - 7.0 * np.arange(SHAPE[0]) if own_rescale else np.full(SHAPE[0], -1000.0)
    values, mask, _ = labelled(tmp_path, axes=axes, intercepts=intercepts if own_rescale else None)
    case = load_dataset(SPEC, tmp_path).load("p0")
    place = by_world(case, axes)
    for k, r, c in np.ndindex(*SHAPE):
        units = values[k, r, c] + intercepts[k]
        right = np.clip((units + 1000) / 2000, 0, 1)
        assert case.image[(0, *place(k, r, c))] == pytest.approx(right)
        assert case.labels[place(k, r, c)] == mask[k, r, c]
    assert sorted(case.spacing or ()) == [0.5, 0.75, 2.5]
    assert case.group_id == "p0"


def per_frame(one: Any, n: int) -> Any:
    return one.PerFrameFunctionalGroupsSequence[n]


def drop(one: Any) -> None:
    per_frame(one, 0).PlanePositionSequence = per_frame(one, 1).PlanePositionSequence


def unplaced(one: Any) -> None:
    del per_frame(one, 2).PlanePositionSequence


def turned(one: Any) -> None:
    item = pydicom.Dataset()
    item.ImageOrientationPatient = [0, 1, 0, 1, 0, 0]
    per_frame(one, 3).PlaneOrientationSequence = [item]


def fewer(one: Any) -> None:
    del one.PerFrameFunctionalGroupsSequence[-1]


def undescribed(one: Any) -> None:
    del one.PerFrameFunctionalGroupsSequence


REFUSED = {
    "two frames at one place": (
        drop,  # of the middle of the volume, which then lacks a slice
        r"frame \d and e0.dcm frame \d are at one place|there are slices missing between e0.dcm",
    ),
    "no place": (unplaced, "e0.dcm frame 3 has no ImagePositionPatient"),
    "mixed orientations": (turned, "another ImageOrientationPatient than e0.dcm frame"),
    "a frame too few": (fewer, "e0.dcm has 5 frames and describes 4"),
    "nothing said of frames": (undescribed, "does not say where each lies"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_would_bend_a_volume_is_refused_by_name(kind: str, tmp_path: Path) -> None:
    change, words = REFUSED[kind]
    enhanced(tmp_path / "e0.dcm", RANDOM.integers(0, 9, SHAPE), change=change)
    with pytest.raises(UserError, match=words):
        load_dataset(SPEC, tmp_path)


@pytest.mark.parametrize("mode", ["volumes", "slices"])
def test_a_changed_case_is_written_as_one_derived_file_and_reads_back(
    mode: str, tmp_path: Path
) -> None:
    _, _, source = labelled(tmp_path / "in")
    case = load_dataset(f"{SPEC},mode={mode}", tmp_path / "in").load(
        "p0" if mode == "volumes" else "p0_z002"
    )
    eps = 8 / 255
    noise = RANDOM.uniform(-eps, eps, case.image.shape)
    image = np.clip(case.image + noise, 0, 1).astype(np.float32)
    path = write_image(tmp_path / "out", image, case)
    (file,) = path.glob("*.dcm")
    change = read_change(path, case)
    assert np.abs(change).max() <= eps
    assert np.abs(change - (image - case.image)).max() <= 1 / 2000 + 1e-6  # one Hounsfield unit
    written = pydicom.dcmread(file)
    frame_type = written.SharedFunctionalGroupsSequence[0].CTImageFrameTypeSequence[0].FrameType
    assert (written.ImageType[0], frame_type[0]) == ("DERIVED", "DERIVED")
    assert written.SeriesInstanceUID != source.SeriesInstanceUID
    moved = (written.pixel_array != source.pixel_array).any(axis=(1, 2))
    assert moved.sum() == (SHAPE[0] if mode == "volumes" else 1)
