"""Rule 2: results do not depend on how they were computed."""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor, nn
from toys import Ready, Silence

from segbench.api import Case, Entry
from segbench.evaluation.grid import Grid
from segbench.evaluation.model_run import run_model
from segbench.evaluation.request import DataSource, Options
from segbench.plugins.attack import load_attack
from segbench.store import rowfile
from segbench.store.rows import read_rows
from segbench.store.workspace import Workspace
from segbench_models import unet

CASES = 9
HOW = {"seconds", "created"}  # columns that say how a row was computed, not what came out


@dataclass(frozen=True)
class Blobs:
    """Bright blobs of two classes and their masks; the ninth is of another shape."""

    class_names: tuple[str, ...] = ("background", "square", "bar")
    in_channels: int = 1
    spatial_dims: int = 2
    resize_rule: str = "none"
    splits: tuple[str, ...] = ("train", "test")

    def entries(self, split: str) -> list[Entry]:
        shapes = [(1, 12, 12)] * (CASES - 1) + [(1, 10, 14)]
        return [Entry(f"case-{n}", f"group-{n // 2}", shape) for n, shape in enumerate(shapes)]

    def load(self, case_id: str) -> Case:
        n = int(case_id.removeprefix("case-"))
        shape = self.entries("test")[n].shape[1:]
        labels = np.zeros(shape, np.int64)
        labels[1 + n % 3 : 6 + n % 4, 2:6] = 1
        labels[8:, 3 : 9 + n % 2] = 2 if n != 4 else 0
        labels[0, :3] = 255
        noise = np.random.default_rng(n).random((1, *shape), np.float32)
        image = (0.2 + 0.25 * (labels % 255) + 0.2 * noise).astype(np.float32)
        return Case(case_id, f"group-{n // 2}", image, labels, self.class_names, 255)

    def fingerprint(self) -> str:
        return "blobs"


class Thresholds(nn.Module):
    """Three classes by brightness, through a norm and neighbours, so that folding has a part."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(8)
        self.mean, self.conv = nn.AvgPool2d(3, 1, 1), nn.Conv2d(2, 6, 3, padding=1)
        self.norm, self.head = nn.BatchNorm2d(6), nn.Conv2d(6, 3, 1)
        for parameter in self.parameters():
            parameter.data = 0.3 * torch.randn(parameter.shape, generator=generator)
        self.norm.running_var = 0.5 + torch.rand(6, generator=generator)

    def forward(self, images: Tensor) -> Tensor:
        x = self.mean(images)
        ramps = torch.cat([0.4 - x, 0.1 - (x - 0.5).abs(), x - 0.65], 1)
        extra = self.head(torch.tanh(self.norm(self.conv(torch.cat([x, images], 1)))))
        return 20 * ramps + extra


class Dropping(Thresholds):
    """The same, with dropout left on."""

    def forward(self, images: Tensor) -> Tensor:
        return super().forward(nn.functional.dropout(images, 0.05, training=True))


GRID = Grid(
    [
        load_attack("fgsm"),
        load_attack("pgd:steps=5,restarts=2"),
        load_attack("pgd:norm=l2,steps=5"),
    ],
    [Fraction(4, 255), Fraction(16, 255), Fraction(2, 3)],
)


class Rough(Thresholds):
    """Its gradient turns with every ripple: within a few steps a rounding becomes another image."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(3)
            self.unet = unet.build(in_channels=1, num_classes=3, width=8, depth=2)

    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images) + torch.sin(2000 * self.unet(images))


GRID_OF_ROUGH = Grid([load_attack("pgd:norm=l2,steps=40")], [Fraction(2, 3)])


def rows_of(
    root: Path,
    options: Options,
    kind: Any = Thresholds,
    order: int = 1,
    grid: Grid = GRID,
    threads: int = 1,
) -> pd.DataFrame:
    dataset = Blobs()
    data = DataSource("blobs", dataset, "test", dataset.entries("test")[::order])
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        run_model(Ready(kind), data, grid, Workspace(root), options, Silence())
    finally:
        torch.set_num_threads(before)
    names = ["attack", "budget", "case_id", "class_id"]
    return read_rows(Workspace(root)).sort_values(names, ignore_index=True)


def assert_same(found: pd.DataFrame, expected: pd.DataFrame) -> None:
    """To the bit, in every column."""
    assert len(found) == len(expected) > 0
    columns = [name for name in rowfile.COLUMNS if name not in HOW]
    pd.testing.assert_frame_equal(found[columns], expected[columns], rtol=0, atol=0)


@pytest.fixture(scope="module")
def one_by_one(tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    return rows_of(tmp_path_factory.mktemp("one"), Options("fp32", "cpu", 1))


@pytest.mark.parametrize("size", [3, 8, None])
def test_every_column_is_the_same_at_every_batch_size(
    size: int | None, one_by_one: pd.DataFrame, tmp_path: Path
) -> None:
    assert_same(rows_of(tmp_path, Options("fp32", "cpu", size)), one_by_one)


def test_every_column_is_the_same_in_the_opposite_order(
    one_by_one: pd.DataFrame, tmp_path: Path
) -> None:
    assert_same(rows_of(tmp_path, Options("fp32", "cpu", 4), order=-1), one_by_one)


@pytest.fixture(scope="module")
def rough_one_by_one(tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    root = tmp_path_factory.mktemp("rough")
    return rows_of(root, Options("fp32", "cpu", 1), Rough, grid=GRID_OF_ROUGH)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("size", [3, None])
def test_a_network_that_one_rounding_sends_elsewhere_is_sent_nowhere(
    size: int | None, threads: int, rough_one_by_one: pd.DataFrame, tmp_path: Path, known: None
) -> None:
    """Kernels round as the size of the batch and the number of threads have them."""
    options = Options("fp32", "cpu", size)
    found = rows_of(tmp_path, options, Rough, -1, GRID_OF_ROUGH, threads)
    assert_same(found, rough_one_by_one)
    attacked = found[found.attack != "clean"]
    assert attacked.jaccard.mean() < found[found.attack == "clean"].jaccard.mean() - 0.05


class Declared(Dropping):
    """The same on purpose."""

    eot_samples = 2


@pytest.mark.parametrize(("kind", "mark"), [(Dropping, "random-network"), (Declared, "eot:2")])
def test_a_random_network_answers_the_same_in_every_run_and_is_marked(
    kind: Any, mark: str, tmp_path: Path
) -> None:
    first = rows_of(tmp_path / "first", Options("fp32", "cpu", 8), kind)
    torch.manual_seed(99)
    again = rows_of(tmp_path / "again", Options("fp32", "cpu", None), kind, order=-1)
    assert_same(again, first)
    assert (first.marks == mark).all()


def test_the_attack_hurts_and_the_clean_rows_are_clean(one_by_one: pd.DataFrame) -> None:
    means = one_by_one.groupby(["attack", "budget"]).jaccard.mean()
    assert means["clean", 0] > 0.5
    clean = one_by_one[one_by_one.attack == "clean"]
    assert (clean[["linf", "l2", "backwards"]] == 0).all(axis=None)
    assert (clean.forwards == 1).all()
    for attack in set(one_by_one.attack) - {"clean"}:
        curve = [means["clean", 0], *means[attack]]
        assert curve == sorted(curve, reverse=True)
        assert curve[-1] < curve[0] - 0.05


def test_what_is_missing_in_a_label_is_missing_at_every_budget(one_by_one: pd.DataFrame) -> None:
    absent = one_by_one.jaccard.isna()
    assert (absent == ((one_by_one.case_id == "case-4") & (one_by_one.class_id == 2))).all()


def test_distances_are_those_of_the_budget(one_by_one: pd.DataFrame) -> None:
    attacked = one_by_one[one_by_one.attack != "clean"]
    norm = attacked.l2.where(attacked.budget_kind == "l2", attacked.linf)
    assert (norm <= attacked.budget * (1 + 1e-6) + 1e-6).all()
    np.testing.assert_allclose(
        norm[attacked.budget < 0.5], attacked.budget[attacked.budget < 0.5], rtol=0.02
    )


def test_two_restarts_are_never_weaker_than_the_first(
    one_by_one: pd.DataFrame, tmp_path: Path
) -> None:
    dataset = Blobs()
    data = DataSource("blobs", dataset, "test", dataset.entries("test"))
    once = replace(GRID, attacks=[load_attack("pgd:steps=5,restarts=1")])
    run_model(Ready(Thresholds), data, once, Workspace(tmp_path), Options("fp32"), Silence())
    rows = read_rows(Workspace(tmp_path))
    weak = rows[rows.budget > 0].groupby(["budget", "case_id"]).jaccard.mean()
    strong = one_by_one[one_by_one.attack == "pgd:restarts=2,steps=5"]
    assert (strong.groupby(["budget", "case_id"]).jaccard.mean() <= weak + 1e-12).all()
