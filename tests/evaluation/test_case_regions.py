"""Regions of a case by their definition, pixel for pixel; and part of a cell and its images."""

from __future__ import annotations

import itertools
import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from toys import Gains, Mixed, Ready, Silence

from segbench.api import Case
from segbench.errors import UserError
from segbench.evaluation.grid import Grid
from segbench.evaluation.model_run import run_model
from segbench.evaluation.regions import case_region
from segbench.evaluation.request import DataSource, Options
from segbench.plugins.attack import load_attack
from segbench.store.images import kept_cells, load_images
from segbench.store.rows import read_rows
from segbench.store.tensors import load_tensors, save_tensors
from segbench.store.workspace import Workspace
from segbench.tables.build import build_tables

IGNORE = 255


def case(*shape: int, ignore: int | None = IGNORE) -> Case:
    """Four classes in blots, some of it ignored."""
    random = np.random.default_rng(3)
    labels = random.integers(0, 4, [length // 2 for length in shape])
    for axis in range(len(shape)):
        labels = labels.repeat(2, axis)
    labels[random.random(labels.shape) < 0.1] = IGNORE if ignore else 0
    image = random.random((1, *labels.shape)).astype(np.float32)
    return Case("a", "a", image, labels.astype(np.int64), ("b", "1", "2", "3"), ignore)


@pytest.mark.parametrize("shape", [(10, 12), (6, 6, 8)])
def test_inside_and_outside_are_what_is_known_of_structures_and_background(shape: Any) -> None:
    one = case(*shape)
    inside, outside = case_region("inside", one), case_region("outside", one)
    np.testing.assert_array_equal(inside, np.isin(one.labels, [1, 2, 3]))
    np.testing.assert_array_equal(outside, one.labels == 0)
    np.testing.assert_array_equal(inside | outside, one.labels != IGNORE)


@pytest.mark.parametrize("shape", [(10, 12), (6, 6, 8)])
@pytest.mark.parametrize("radius", ["1", "1.5", "3"])
@pytest.mark.parametrize("ignore", [None, IGNORE])
def test_a_border_is_what_has_another_class_within_r_pixels(
    shape: Any, radius: str, ignore: int | None
) -> None:
    one = case(*shape, ignore=ignore)
    labels, found = one.labels, case_region(f"border:{radius}", one)
    places = list(itertools.product(*map(range, labels.shape)))
    known = [place for place in places if labels[place] != IGNORE]
    where, values = np.array(known), np.array([labels[place] for place in known])
    for place in places:
        near = ((where - place) ** 2).sum(1) <= float(radius) ** 2
        expected = labels[place] != IGNORE and bool((values[near] != labels[place]).any())
        assert found[place] == expected, place


def test_of_structures_that_overlap_each_outline_counts_and_what_none_is_made_of_is_outside() -> (
    None
):
    labels = np.array([[0, 0, 3, 3, 1, 1, 2, 2]])
    image, names = np.zeros((1, 1, 8), np.float32), ("b", "whole", "core")
    one = Case("a", "a", image, labels, names, regions=((1, 2), (2,)))  # 3 belongs to neither
    np.testing.assert_array_equal(case_region("inside", one), [[0, 0, 0, 0, 1, 1, 1, 1]])
    np.testing.assert_array_equal(case_region("outside", one), [[1, 1, 1, 1, 0, 0, 0, 0]])
    np.testing.assert_array_equal(case_region("border:1", one), [[0, 0, 0, 1, 1, 1, 1, 0]])


def test_a_case_of_one_class_has_no_border_and_one_without_structures_no_inside() -> None:
    empty = Case("a", "a", np.zeros((1, 4, 4), np.float32), np.zeros((4, 4), np.int64), ("b", "1"))
    assert not case_region("border:9", empty).any()
    assert not case_region("inside", empty).any()
    assert case_region("outside", empty).all()


def run(root: Path, *attacks: str, **options: Any) -> tuple[list[str], pd.DataFrame]:
    data = DataSource("mixed", Mixed(), "test", Mixed().entries("test"))
    grid = Grid([load_attack(text) for text in attacks], [Fraction(3, 10)])
    asked = Options("fp32", "cpu", 2, **options)
    keys = run_model(Ready(Gains, "gains"), data, grid, Workspace(root), asked, Silence())
    return keys, read_rows(Workspace(root))


def test_pixels_that_see_only_themselves_fall_inside_and_stand_outside(tmp_path: Path) -> None:
    """The network looks at single pixels: so each class keeps what lies outside the region."""
    _, rows = run(tmp_path, "pgd", "pgd:where=inside", "pgd:where=outside")
    score = rows[rows["class_id"] == 1].groupby("attack")["sensitivity"].mean()
    assert score["clean"] == score["pgd:where=outside"] == 1
    assert score["pgd:where=inside"] == score["pgd"] < 0.2
    background = rows[rows["class_id"] == 1].groupby("attack")["specificity"].mean()
    assert background["pgd:where=outside"] < background["clean"] == 1


def masks(folder: Path, value: int = 255) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    mask = np.zeros(Mixed.sides, np.uint8)
    mask[:2] = value
    for n in range(3):
        Image.fromarray(mask).save(folder / f"c{n}.png")
    return folder


def test_masks_of_the_users_own_are_kept_to_and_are_part_of_the_key(tmp_path: Path) -> None:
    folder, store = masks(tmp_path / "here, only"), tmp_path / "runs"
    text = f'pgd:where="mask:{folder}"'
    keys, _ = run(store, text, save_adversarial=True)
    [kept] = kept_cells(Workspace(store))
    for file in (store / "adversarial" / kept.key).glob("*.safetensors"):
        attacked = load_images(file)
        clean = torch.stack([torch.from_numpy(Mixed().load(c).image) for c in attacked.case_ids])
        changed = (attacked.images != clean).any(1)
        assert changed[:, :2].any()
        assert not changed[:, 2:].any()
    assert run(store, text)[0] == keys
    masks(folder, value=1)  # the same masks, in another file
    assert run(store, text)[0] != keys


def test_masks_that_do_not_fit_are_all_named_before_anything_runs(tmp_path: Path) -> None:
    folder = masks(tmp_path / "masks", value=3)
    (folder / "c2.png").unlink()
    with pytest.raises(UserError, match=r"these regions: masks/c2 is missing.*holds the value 3"):
        run(tmp_path / "runs", f'pgd:where="mask:{folder}"')
    with pytest.raises(UserError, match="there is no such folder; it is to hold a mask of each"):
        run(tmp_path / "runs", 'pgd:where="mask:nowhere"')


def test_kept_images_are_checked_against_the_region(tmp_path: Path) -> None:
    run(tmp_path, "pgd:where=inside", save_adversarial=True)
    [kept] = kept_cells(Workspace(tmp_path))
    path = next((tmp_path / "adversarial" / kept.key).glob("*.safetensors"))
    tensors, facts = load_tensors(path) or ({}, {})
    clean = torch.stack(
        [torch.from_numpy(Mixed().load(c).image) for c in json.loads(facts["case_ids"])]
    )
    tensors["images"] = torch.minimum(tensors["images"] + 0.01, clean + 0.3).clamp(0, 1)
    path.unlink()
    save_tensors(path, dict(tensors), dict(facts))
    for shard in (tmp_path / "results").rglob("*.parquet"):
        shard.unlink()
    with pytest.raises(UserError, match=r"are not those of pgd:where=inside .*where it may not"):
        run(tmp_path, "pgd:where=inside")


def test_in_tables_it_is_another_threat(tmp_path: Path) -> None:
    attacks = ("pgd", "fgsm", "pgd:where=outside", "fgsm:where=outside")
    tables = build_tables(run(tmp_path, *attacks)[1])
    curves = tables.curves[(tables.curves["metric"] == "jaccard") & (tables.curves["budget"] > 0)]
    mean = curves.set_index("attack")["mean"]
    assert {"worst of 2 attacks", "worst of 2 attacks, where=outside"} < {*mean.index}
    free, confined = mean["worst of 2 attacks"], mean["worst of 2 attacks, where=outside"]
    assert free < confined == mean[["pgd:where=outside", "fgsm:where=outside"]].min()
    assert not any("others leave" in note for note in tables.notes)
    assert any(
        "Attacks with where=outside perturb only there and are scored everywhere" in note
        for note in tables.notes
    )


def test_what_is_fitted_is_fitted_in_the_region(tmp_path: Path) -> None:
    _, rows = run(tmp_path, "uap:epochs=3,where=outside", "patch:area=0.3,epochs=2,where=outside")
    attacked = rows[(rows["attack"] != "clean") & (rows["class_id"] == 1)]
    assert (attacked["sensitivity"] == 1).all()  # of single pixels, the structures' are untouched
    assert (attacked["linf"] > 0).all()
