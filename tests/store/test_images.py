"""Adversarial images that are kept: once, whole, and scored again to the same rows."""

from __future__ import annotations

import json
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor, nn
from toys import Ready, Silence

from segbench.data import load_dataset
from segbench.errors import MachineError, UserError
from segbench.evaluation import worker
from segbench.evaluation.grid import Grid
from segbench.evaluation.model_run import run_model
from segbench.evaluation.request import Options, select_data
from segbench.plugins.attack import load_attack
from segbench.store import rowfile
from segbench.store.images import Attacked, keep_images, kept_cases, kept_cells, load_images
from segbench.store.rows import read_rows
from segbench.store.tensors import save_tensors
from segbench.store.workspace import Workspace

DATA = "phantom-cxr:size=32,test_cases=3"
FP32 = 2.0**-24  # of a pixel near 1
GRID = Grid([load_attack("pgd:steps=3")], [Fraction(1, 510), Fraction(4, 255)])
KEPT = Options("fp32", "cpu", 2, save_adversarial=True)
SAME = [name for name in rowfile.COLUMNS if name != "seconds"]


class Dark(nn.Module):
    """Lungs are what is dark."""

    def __init__(self) -> None:
        super().__init__()
        self.blur = nn.AvgPool2d(5, 1, 2)

    def forward(self, images: Tensor) -> Tensor:
        return 12 * (0.5 - self.blur(images)) + 0.1 * images


class Count(Silence):
    """How many scores were computed."""

    def __init__(self) -> None:
        self.computed = 0

    def cases(self, computed: int, found: int) -> None:
        self.computed += computed


def run(root: Path, options: Options, grid: Grid = GRID) -> tuple[list[str], int, pd.DataFrame]:
    """The cells' keys, the scores computed, and all rows."""
    data, count = select_data(DATA, load_dataset(DATA), "test", None), Count()
    keys = run_model(Ready(Dark, "dark"), data, grid, Workspace(root), options, count)
    rows = read_rows(Workspace(root))
    return keys, count.computed, rows.sort_values(["attack_params", "budget", "case_id"])


def test_cases_are_loaded_in_the_order_that_was_asked_for(tmp_path: Path) -> None:
    keys, _, _ = run(tmp_path, replace(KEPT, batch_size=3))
    (path,) = set(kept_cases(Workspace(tmp_path), keys[-1]).values())
    whole = load_images(path)
    assert len(whole.contents) == 3
    for places in ((2, 0, 1), (1,)):
        some = load_images(path, [whole.contents[n] for n in places])
        assert some.contents == tuple(whole.contents[n] for n in places)
        assert torch.equal(some.images, whole.images[list(places)])
    with pytest.raises(UserError, match="does not hold those images"):
        load_images(path, ["0" * 64])


@pytest.mark.parametrize(
    ("attack", "budget"), [("corruption/contrast", Fraction(1)), ("pgd:steps=3", Fraction(4, 255))]
)
def test_one_of_the_kept_cases_is_scored_again(
    tmp_path: Path, attack: str, budget: Fraction
) -> None:
    """And not the one that lies first in the file, nor is the file refused."""
    grid, three = Grid([load_attack(attack)], [budget]), replace(KEPT, batch_size=3)
    _, _, rows = run(tmp_path, three, grid)
    data = select_data(DATA, load_dataset(DATA), "test", None)
    last = replace(data, entries=data.entries[-1:])
    workspace, again = Workspace(tmp_path), replace(three, boundary=True)
    run_model(Ready(Dark, "dark"), last, grid, workspace, again, Silence())
    found = read_rows(workspace).query("nsd_tolerance >= 0 and attack != 'clean'")
    before = rows[(rows["attack"] != "clean") & (rows["case_id"] == last.entries[0].case_id)]
    assert {*found["case_id"]} == {last.entries[0].case_id}
    told = ["budget", "jaccard", "linf"]
    assert found[told].to_numpy().tolist() == before[told].to_numpy().tolist()


def test_kept_images_are_those_that_were_scored(tmp_path: Path) -> None:
    keys, _, rows = run(tmp_path, KEPT)
    workspace, dataset = Workspace(tmp_path), load_dataset(DATA)
    assert {cell.key for cell in kept_cells(workspace)} == {*keys[1:]}  # clean ones are the data's
    for cell in kept_cells(workspace):
        (path,) = set(kept_cases(workspace, cell.key).values())
        found = load_images(path)
        assert found.images.dtype == torch.float32
        mine = rows[(rows["attack"] == cell.attack) & (rows["budget"] == cell.budget)]
        for case_id, image in zip(found.case_ids, found.images.numpy(), strict=True):
            distance = np.abs(image.astype(float) - dataset.load(case_id).image).max()
            assert mine.set_index("case_id")["linf"][case_id] == pytest.approx(distance)
            assert distance <= cell.budget * (1 + 1e-6) + FP32


def test_keeping_images_changes_no_row_and_costs_no_second_attack(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys, computed, rows = run(tmp_path / "plain", Options("fp32", "cpu", 2))
    kept_keys, _, kept = run(tmp_path / "kept", KEPT)
    assert keys == kept_keys
    assert computed == 9
    pd.testing.assert_frame_equal(rows[SAME], kept[SAME])
    attack = worker.attack_cases
    attacked = []

    def noted(network: Any, batch: Any, cell: Any, *more: Any) -> Any:
        attacked.append(cell.label)
        return attack(network, batch, cell, *more)

    monkeypatch.setattr(worker, "attack_cases", noted)
    both = Options("fp32", "cpu", 2, quantize=True, save_adversarial=True)
    _, computed, rows = run(tmp_path / "kept", both)
    assert (computed, attacked) == (6, [])  # the quantised rows come from the kept images
    _, computed, later = run(tmp_path / "plain", both)
    assert computed == 6
    assert attacked == ["pgd:steps=3"] * 4  # two budgets of two batches
    pd.testing.assert_frame_equal(rows[SAME], later[SAME])
    assert run(tmp_path / "plain", both)[1] == 0
    assert len(attacked) == 4


def test_half_a_level_of_an_8_bit_file_is_no_attack(tmp_path: Path) -> None:
    _, _, rows = run(tmp_path, Options("fp32", "cpu", 2, quantize=True))
    rounded = rows[rows["attack"] == "pgd:steps=3,quantized=true"]
    assert rounded["attack_params"].str.contains('"quantized": true').all()
    clean = rows[rows["attack"] == "clean"].set_index("case_id")
    for eps, part in rounded.groupby("budget"):
        assert (part["linf"] <= eps * (1 + 1e-6) + FP32).all()
        scores = part.set_index("case_id")[["jaccard", "dice"]]
        if eps < 1 / 255:
            pd.testing.assert_frame_equal(scores, clean[["jaccard", "dice"]])
            assert not part["linf"].any()
        else:
            assert (scores["jaccard"] < clean["jaccard"]).all()


def test_a_refusing_disk_leaves_no_half_image(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from segbench import atomic

    def refuse(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(atomic.os, "replace", refuse)
        with pytest.raises(MachineError, match="No space left"):
            run(tmp_path, KEPT)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
    assert run(tmp_path, KEPT)[1] == 9


def kept_file(root: Path, key: str) -> Path:
    (path,) = (Workspace(root).adversarial / key).glob("*.safetensors")
    return path


def test_spoilt_images_are_named(tmp_path: Path) -> None:
    keys, _, _ = run(tmp_path, KEPT)
    path = kept_file(tmp_path, keys[1])
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(UserError, match=rf"{path.name} is damaged"):
        load_images(path)
    assert kept_cases(Workspace(tmp_path), keys[1]) == {}  # so that they are made again


def test_kept_images_are_checked_like_fresh_ones(tmp_path: Path) -> None:
    """Noise far outside the ball, swapped cases, one flipped bit: none of them is ever scored."""
    keys, _, rows = run(tmp_path, KEPT)
    path = kept_file(tmp_path, keys[1])
    content, found = path.read_bytes(), load_images(path)
    rounded = Options("fp32", "cpu", 2, quantize=True)
    facts = {"contents": json.dumps(found.contents), "case_ids": json.dumps(found.case_ids),
             "precision": "fp32", "marks": ""}  # fmt: skip
    names = ("forwards", "backwards", "seconds", "zero_gradients")
    tensors = {name: getattr(found, name) for name in names}
    for images in (torch.rand(found.images.shape), found.images.roll(1, 0), found.images[:, :, 1:]):
        save_tensors(path, {"images": images.contiguous(), **tensors}, facts)
        with pytest.raises(UserError, match=rf"{path.name} are not those of pgd"):
            run(tmp_path, rounded)
    spoilt = bytearray(content)
    spoilt[-5] ^= 1
    path.write_bytes(bytes(spoilt))
    with pytest.raises(UserError, match="its checksum is not that of its content"):
        run(tmp_path, rounded)
    path.write_bytes(content)
    _, computed, later = run(tmp_path, rounded)
    assert computed == 3  # the other cell's were good, and are there
    assert len(later) == len(rows) + 6


def test_groups_of_one_run_that_begin_with_one_case_are_both_kept(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    for contents in (("aa" * 32, "bb" * 32), ("aa" * 32, "cc" * 32)):
        costs = [torch.zeros(2) for _ in range(4)]
        images = torch.zeros(2, 1, 4, 4)
        group = Attacked(contents, ("a", "b"), images, *costs, ("fp32", "fp32"))
        keep_images(workspace, "key", 1, {}, group)
    assert set(kept_cases(workspace, "key")) == {"aa" * 32, "bb" * 32, "cc" * 32}
