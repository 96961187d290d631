"""Masks from files: found by case, checked all at once, reached, and part of a cell's key."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import nibabel
import numpy as np
import pandas as pd
import pytest
from PIL import Image
from toys import Gains, Mixed, Ready, Silence

from segbench.api import Case, Entry
from segbench.errors import UserError
from segbench.evaluation.grid import Grid
from segbench.evaluation.mask_files import case_mask, check_masks
from segbench.evaluation.model_run import run_model
from segbench.evaluation.request import DataSource, Options
from segbench.plugins.attack import load_attack
from segbench.store.rows import read_rows
from segbench.store.workspace import Workspace

SIDES = Mixed.sides


def masks(folder: Path, seed: int = 0) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(seed)
    for n in range(3):
        Image.fromarray(random.integers(0, 3, SIDES).astype(np.uint8)).save(folder / f"c{n}.png")
    return folder


def run(root: Path, folder: Path, cases: Mixed | None = None) -> tuple[list[str], pd.DataFrame]:
    data = DataSource("mixed", cases or Mixed(), "test", Mixed().entries("test"))
    grid = Grid([load_attack(f'pgd:target="file:{folder}"')], [Fraction(3, 10)])
    options = Options("fp32", "cpu", 2)
    keys = run_model(Ready(Gains, "gains"), data, grid, Workspace(root), options, Silence())
    return keys, read_rows(Workspace(root))


def test_a_target_within_reach_is_reached(tmp_path: Path) -> None:
    folder = masks(tmp_path / "wanted, drawn")
    _, rows = run(tmp_path / "runs", folder)
    attacked = rows[rows["attack"] != "clean"]
    assert (attacked["target_jaccard"] == 1).all()
    assert (attacked["jaccard"] < 0.7).all()


def test_other_masks_are_another_cell_and_the_same_ones_are_not(tmp_path: Path) -> None:
    folder = masks(tmp_path / "masks")
    first, _ = run(tmp_path / "runs", folder)
    assert run(tmp_path / "runs", masks(folder))[0] == first
    clean, other = run(tmp_path / "runs", masks(folder, seed=1))[0]
    assert clean == first[0]
    assert other != first[1]


class Swapped(Mixed):
    """The same images, and two of them under each other's name."""

    def load(self, case_id: str) -> Case:
        other = {"c0": "c1", "c1": "c0"}.get(case_id, case_id)
        return replace(super().load(other), case_id=case_id, group_id=case_id)

    def fingerprint(self) -> str:
        return "swapped"


def test_an_image_under_another_name_leads_to_the_mask_of_that_name(tmp_path: Path) -> None:
    folder = masks(tmp_path / "targets")
    run(tmp_path / "runs", folder)
    _, found = run(tmp_path / "runs", folder, Swapped())
    _, expected = run(tmp_path / "alone", folder, Swapped())
    names = ["case_sha256", "class_id", "jaccard", "target_jaccard"]
    last = found[found["cell"].isin(expected["cell"])].sort_values(names)
    pd.testing.assert_frame_equal(
        last[names].reset_index(drop=True), expected.sort_values(names, ignore_index=True)[names]
    )


class Twins(Mixed):
    """Two cases of one content."""

    def load(self, case_id: str) -> Case:
        other = {"c2": "c1"}.get(case_id, case_id)
        return replace(super().load(other), case_id=case_id)

    def fingerprint(self) -> str:
        return "twins"


def test_one_image_cannot_lead_to_two_masks(tmp_path: Path) -> None:
    folder = masks(tmp_path / "targets")
    with pytest.raises(UserError, match=r"cases c1 and c2 are one image with one truth, but"):
        run(tmp_path / "runs", folder, Twins())
    (folder / "c2.png").write_bytes((folder / "c1.png").read_bytes())
    run(tmp_path / "runs", folder, Twins())


def test_everything_that_is_wrong_is_listed_at_once(tmp_path: Path) -> None:
    folder = masks(tmp_path / "masks")
    (folder / "c0.png").unlink()
    Image.fromarray(np.zeros((6, 5), np.uint8)).save(folder / "c1.png")
    Image.fromarray(np.full(SIDES, 7, np.uint8)).save(folder / "c2.png")
    with pytest.raises(UserError) as caught:
        run(tmp_path / "runs", folder)
    assert str(caught.value) == (
        f"{folder}: cannot use these targets: masks/c0 is missing; expected a mask of that name; "
        "masks/c1.png is 6 x 5; its case is attacked at 5 x 6; masks/c2.png holds the value 7; "
        "expected classes 0 to 2"
    )
    Image.fromarray(np.zeros(SIDES, np.uint8)).save(folder / "c2.tif")
    (folder / "c1.png").write_text("no picture")
    with pytest.raises(UserError, match=r"c2\.tif has the same name.*c1\.png is not an image"):
        run(tmp_path / "runs", folder)
    with pytest.raises(UserError, match="there is no such folder"):
        run(tmp_path / "runs", tmp_path / "nowhere")


def test_of_two_classes_white_is_the_second(tmp_path: Path) -> None:
    mask = np.zeros(SIDES, np.uint8)
    mask[2] = 255
    Image.fromarray(mask).save(tmp_path / "a.png")
    image = np.zeros((1, *SIDES), np.float32)
    case = Case("a", "a", image, np.zeros(SIDES, np.int64), ("background", "lung"))
    np.testing.assert_array_equal(case_mask(tmp_path, case, 2), mask // 255)
    check_masks(tmp_path, [Entry("a", "a", image.shape)], 2, "targets")


@pytest.mark.parametrize("shape", [(4, 5, 6), (4, 5)])
def test_volumes_and_slices_may_come_as_nifti(shape: tuple[int, ...], tmp_path: Path) -> None:
    stored = np.random.default_rng(0).integers(0, 2, (*shape, 1)[:3]).astype(np.uint8)
    nibabel.save(nibabel.Nifti1Image(stored, np.eye(4)), tmp_path / "a.nii.gz")
    labels = np.zeros(shape, np.int64)
    case = Case("a", "a", np.zeros((1, *shape), np.float32), labels, ("background", "lung"))
    np.testing.assert_array_equal(case_mask(tmp_path, case, 2), stored.reshape(shape))


@pytest.mark.parametrize("name", ["uap", "patch"])
def test_what_is_one_for_all_cases_takes_no_target_of_each(name: str) -> None:
    with pytest.raises(UserError, match="cannot learn; expected empty, shift or class:k"):
        load_attack(f'{name}:target="file:masks"')
