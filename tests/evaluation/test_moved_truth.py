"""What moves the anatomy is scored against the truth that moved, from memory or from the disk."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from toys import SHIFT, Gains, Mixed, Ready, Silence

import segbench
from segbench.api import Budget, Case
from segbench.engine.network import Network
from segbench.engine.precision import Precision
from segbench.errors import UserError
from segbench.evaluation.batch import collate
from segbench.evaluation.grid import Cell, Grid
from segbench.evaluation.model_run import run_model
from segbench.evaluation.request import DataSource, Options
from segbench.evaluation.score import evaluate_batch
from segbench.plugins.attack import load_attack
from segbench.store.images import kept_cells
from segbench.store.pictures import kept_pictures, load_picture, pictured_cells
from segbench.store.rows import read_rows
from segbench.store.tensors import load_tensors, save_tensors
from segbench.store.workspace import Workspace


def run(root: Path, text: str, **options: Any) -> pd.DataFrame:
    data = DataSource("mixed", Mixed(), "test", Mixed().entries("test"))
    asked = Options("fp32", "cpu", 2, **options)
    grid = Grid([load_attack(text)], [])
    run_model(Ready(Gains, "gains"), data, grid, Workspace(root), asked, Silence())
    rows = read_rows(Workspace(root))
    return rows[rows["attack"] != "clean"].sort_values(["budget", "case_id", "class_id"])


@pytest.fixture
def shift(tmp_path: Path) -> str:
    """A stranger's warp, by whole pixels."""
    (tmp_path / "shift.py").write_text(SHIFT)
    return f"{tmp_path / 'shift.py'}:Shift"


def test_a_network_of_single_pixels_does_not_mind_a_shift(tmp_path: Path, shift: str) -> None:
    """Image, truth and what is ignored moved together; surfaces too."""
    rows = run(tmp_path / "runs", shift, boundary=True)
    assert (rows["jaccard"].dropna() == 1).all()
    assert (rows["hd95"].dropna() == 0).all()
    assert (rows["linf"] > 0.2).all()


class Structures(torch.nn.Module):
    """The second structure lies within the first."""

    output = "sigmoid"

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return 20 * torch.cat([images - 0.3, images - 0.6], 1)


def test_structures_that_overlap_move_with_the_image(shift: str) -> None:
    images = torch.rand(2, 1, 12, 12, generator=torch.Generator().manual_seed(1))
    labels = (images[:, 0] > 0.3).long() + (images[:, 0] > 0.6).long()
    network, batch = Structures(), []
    for n, (image, mask) in enumerate(zip(images.numpy(), labels.numpy(), strict=True)):
        names = ("background", "whole", "core")
        batch.append(Case(f"{n}", f"{n}", image, mask, names, regions=((1, 2), (2,))))
    prepared = Network("net", network, 3, torch.device("cpu"), Precision("fp32", "exact"))
    prepared.prepare(images)
    cell = Cell(load_attack(shift), Budget("severity", Fraction(2)))
    rows = pd.DataFrame(evaluate_batch(prepared, collate(batch, prepared), cell))
    assert (rows["linf"] > 0.3).all()
    assert (rows["jaccard"] == 1).all()


def test_a_valid_region_moves_with_the_truth_and_is_scored_within(shift: str) -> None:
    """What lies outside is as wrong as can be, and does not count wherever it comes to lie."""
    image = torch.rand(1, 12, 12, generator=torch.Generator().manual_seed(1))
    labels, valid = (image[0] > 0.5).long(), torch.zeros(12, 12, dtype=torch.bool)
    valid[2:9, 3:8] = True
    labels = labels.where(valid, 255)
    case = Case("a", "a", image.numpy(), labels.numpy(), ("background", "lesion"), 255,
                valid=valid.numpy())  # fmt: skip

    class Above(torch.nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return 20 * (images - 0.5)

    prepared = Network("net", Above(), 2, torch.device("cpu"), Precision("fp32", "exact"))
    prepared.prepare(image[None])
    cell = Cell(load_attack(shift), Budget("severity", Fraction(2)))
    (row,) = evaluate_batch(prepared, collate([case], prepared), cell)
    assert row["linf"] > 0.3
    assert row["jaccard"] == row["accuracy"] == 1
    pose = Cell(load_attack("worst/pose:steps=1"), Budget("severity", Fraction(1)))
    assert evaluate_batch(prepared, collate([case], prepared), pose)
    whole = Cell(load_attack("frequency:steps=2"), Budget("linf", Fraction(1, 10)))
    with pytest.raises(UserError, match="confined to the valid regions of these data: what ends"):
        evaluate_batch(prepared, collate([case], prepared), whole)


def test_a_picture_shows_the_truth_that_the_moved_image_shows(tmp_path: Path, shift: str) -> None:
    """By a network of single pixels, which answers with it."""
    run(tmp_path / "runs", shift)
    workspace, moved = Workspace(tmp_path / "runs"), 0
    for key in pictured_cells(workspace):
        for path in kept_pictures(workspace, key).values():
            picture = load_picture(path)
            assert picture is not None
            (plane,) = picture.planes
            known = plane["adversarial_label"] > 0
            assert (plane["adversarial_labels"] == plane["adversarial_label"])[known].all()
            moved += (plane["adversarial_label"] != plane["label"]).any()
    assert moved


def test_kept_images_bring_their_displacement_and_are_scored_as_before(
    tmp_path: Path, shift: str
) -> None:
    first = run(tmp_path / "runs", shift, save_adversarial=True)
    for shard in (tmp_path / "runs" / "results").rglob("*.parquet"):
        shard.unlink()
    again = run(tmp_path / "runs", shift)
    same = ["case_id", "class_id", "jaccard", "linf", "forwards", "budget"]
    pd.testing.assert_frame_equal(
        again[same].reset_index(drop=True), first[same].reset_index(drop=True)
    )


@pytest.mark.parametrize("fault", ["moved further", "forgotten"])
def test_images_that_were_not_moved_as_they_say_are_refused(
    fault: str, tmp_path: Path, shift: str
) -> None:
    root = tmp_path / "runs"
    run(root, shift, save_adversarial=True)
    for shard in (root / "results").rglob("*.parquet"):
        shard.unlink()
    for cell in kept_cells(Workspace(root)):
        path = next((root / "adversarial" / cell.key).glob("*.safetensors"))
        tensors, facts = load_tensors(path) or ({}, {})
        tensors = dict(tensors)
        moves = tensors.pop("displacement")
        if fault == "moved further":
            tensors["displacement"] = moves + 1
        path.unlink()
        save_tensors(path, tensors, dict(facts))
    with pytest.raises(UserError, match=r"moved as is kept|were moved is not kept"):
        run(root, shift)


def test_from_python_it_is_evaluated_and_its_images_alone_are_not_given() -> None:
    images = torch.rand(2, 3, 16, 16)
    labels = images.argmax(1)
    with pytest.raises(UserError, match=r"moves the truth along with the image.*segbench.evaluate"):
        segbench.attack(Gains(), images, labels, "worst/pose:severities=2")
    result = segbench.evaluate(
        Gains(), (images, labels), attacks=["worst/pose:severities=5,steps=2"]
    )
    moved = result.cases[result.cases["attack"] != "clean"]
    assert (moved["jaccard"] > 0.4).all()  # of noise, every pixel of which is an outline
