"""The data sets that segbench/data/README.md writes down work as written, in as many lines."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pages import PAGES, blocks, example

from segbench.errors import UserError
from segbench.plugins.contract import check_dataset, check_factory
from segbench.plugins.dataset import load_case
from segbench.plugins.spec import parameters

PAGE = PAGES["data"]
DISCS, ARRAYS = example(PAGE, 0), example(PAGE, 1)


def write(root: Path, patients: int = 4, **changed: Any) -> Path:
    """Two images of each patient, of different sizes."""
    root.mkdir()
    random = np.random.default_rng(0)
    for patient in range(patients):
        for number in range(2):
            image = random.integers(0, 4096, (8 + patient, 9), dtype=np.uint16)
            arrays = {"image": image, "mask": (image > 2000).astype(np.uint8), **changed}
            np.savez(root / f"p{patient}_{number}.npz", **arrays)
    return root


@pytest.mark.parametrize(("number", "lines"), [(0, 12), (1, 30)])
def test_they_are_as_short_as_the_page_says(number: int, lines: int) -> None:
    code = blocks(PAGE, "python")[number]
    body = code[min(code.find(mark) for mark in ("\nclass ", "\n@data") if mark in code) :]
    assert len([x for x in body.splitlines() if x.strip() and '"""' not in x]) == lines
    assert f"## In {lines} lines" in PAGE.read_text()


def test_they_keep_the_contract(tmp_path: Path) -> None:
    for dataset in (DISCS.Discs(), ARRAYS.Arrays(root=write(tmp_path / "data"))):
        check_factory("datasets", type(dataset))
        check_dataset(dataset)
        groups = []
        for split in dataset.splits:
            entries = dataset.entries(split)
            assert entries
            groups.append({entry.group_id for entry in entries})
            for entry in entries:
                case = load_case(dataset, entry.case_id)
                assert (case.case_id, case.group_id) == (entry.case_id, entry.group_id)
                assert case.image.shape == entry.shape
                assert case.sha256 == load_case(dataset, entry.case_id).sha256
                assert 0 < case.labels.sum() < case.labels.size
        assert not groups[0] & groups[1]
        assert len(dataset.fingerprint()) == 64


def test_the_way_back_to_the_files_units_is_exact(tmp_path: Path) -> None:
    data = ARRAYS.Arrays(root=write(tmp_path / "data"), pixel_mm=0.3)
    case = data.load("p1_0")
    assert case.spacing == (0.3, 0.3)
    scale = case.intensity[0]
    back = np.rint(scale.low + case.image[0] * (scale.high - scale.low))
    np.testing.assert_array_equal(back, data.arrays("p1_0")[0])


def test_the_fingerprint_covers_contents_and_options_and_not_the_place(tmp_path: Path) -> None:
    first = ARRAYS.Arrays(root=write(tmp_path / "a")).fingerprint()
    assert ARRAYS.Arrays(root=write(tmp_path / "b")).fingerprint() == first
    assert ARRAYS.Arrays(pixel_mm=0.4, root=tmp_path / "a").fingerprint() != first
    np.savez(tmp_path / "b" / "p1_0.npz", image=np.ones((9, 9)), mask=np.ones((9, 9)))
    assert ARRAYS.Arrays(root=tmp_path / "b").fingerprint() != first
    assert set(parameters(ARRAYS.Arrays, reserved=("root",))) == {"pixel_mm"}


def test_all_files_that_cannot_be_used_are_named_at_once(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"None holds no PATIENT_NUMBER\.npz of two patients"):
        ARRAYS.Arrays()
    root = write(tmp_path / "data")
    for name in ("p1_0", "p2_1"):
        np.savez(root / f"{name}.npz", image=np.zeros((4, 4)), mask=np.zeros((4, 5)))
    with pytest.raises(UserError, match="image and mask differ in size in p1_0, p2_1"):
        ARRAYS.Arrays(root=root)
