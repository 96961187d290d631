"""Real data sets, where they are at hand: the counts and classes their publications state."""

import os
import time
from pathlib import Path

import numpy as np
import pytest

from segbench.api import Dataset
from segbench.data import load_dataset

DATA = Path(
    os.environ.get("SEGBENCH_TEST_DATA", Path(__file__).resolve().parents[2].parent / "shared/data")
)


def real(spec: str, folder: str, needs: str) -> Dataset:
    if not (DATA / needs).is_dir():
        pytest.skip(f"no real data at {DATA / needs}; set SEGBENCH_TEST_DATA")
    return load_dataset(spec, DATA / folder)


def counts(data: Dataset) -> tuple[int, ...]:
    return tuple(len(data.entries(split)) for split in ("train", "test"))


def check_cases(data: Dataset, every: int) -> None:
    """Each case is as its entry promises."""
    for split in data.splits:
        for entry in data.entries(split)[::every]:
            case = data.load(entry.case_id)
            assert case.image.shape == entry.shape
            assert case.labels.shape == entry.shape[1:]
            assert case.image.min() >= 0
            assert case.image.max() <= 1
            assert set(np.unique(case.labels)) <= set(range(len(data.class_names)))


@pytest.mark.parametrize(
    ("structures", "classes"),
    [
        ("lungs", ("background", "lung")),
        ("lungs-heart", ("background", "left lung", "right lung", "heart")),
    ],
)
def test_jsrt_is_124_and_123_and_lungs_are_dark(structures: str, classes: tuple[str, ...]) -> None:
    data = real(f"jsrt:structures={structures}", "jsrt_lungs", "jsrt_lungs")
    assert counts(data) == (124, 123)
    assert data.class_names == classes
    check_cases(data, every=10)
    case = data.load("JPCLN001")
    lung, rest = case.image[0][case.labels == 1], case.image[0][case.labels == 0]
    assert lung.mean() < np.median(rest)


def test_jsrt_left_lung_is_on_the_right_of_the_picture() -> None:
    data = real("jsrt:structures=lungs-heart", "jsrt_lungs", "jsrt_lungs")
    for entry in data.entries("test")[::20]:
        labels = data.load(entry.case_id).labels
        assert np.nonzero(labels == 2)[1].mean() < np.nonzero(labels == 1)[1].mean()


def test_isic_is_806_and_339_and_is_found_quickly() -> None:
    start = time.process_time()
    data = real("isic2016:size=64", ".", "isic2016_train")
    assert time.process_time() - start < 5  # a second on an idle machine; no pixel is decoded
    assert counts(data) == (806, 339)
    assert (data.in_channels, data.class_names) == (3, ("background", "lesion"))
    check_cases(data, every=100)


def test_hippocampus_is_65_volumes_split_by_volume() -> None:
    volumes = real("folder:mode=volumes", "msd_hippocampus", "msd_hippocampus")
    assert sum(counts(volumes)) == 65
    assert len(volumes.class_names) == 3
    check_cases(volumes, every=8)
    slices = real(
        "folder:classes=background+anterior+posterior", "msd_hippocampus", "msd_hippocampus"
    )
    groups = [{entry.group_id for entry in slices.entries(split)} for split in slices.splits]
    assert [len(group) for group in groups] == list(counts(volumes))
    assert slices.class_names[1:] == ("anterior", "posterior")


def test_drive_reads_as_any_folder() -> None:
    data = real("folder:test_fraction=0.5", "drive_train", "drive_train")
    assert counts(data) == (10, 10)
    assert data.entries("train")[0].shape == (3, 584, 565)
    check_cases(data, every=5)
