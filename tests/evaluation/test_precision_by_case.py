"""The precision of gradients is each case's: one that bf16 misleads has the rows of fp32."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import pandas as pd
import pytest
import torch
from torch import Tensor, nn
from toys import Ready, Silence

from segbench.data import load_dataset
from segbench.engine.precision import Policy, Precision
from segbench.evaluation import subject
from segbench.evaluation.grid import Grid
from segbench.evaluation.model_run import run_model
from segbench.evaluation.request import Options, select_data
from segbench.plugins.attack import load_attack
from segbench.store.images import kept_cases, load_images
from segbench.store.rows import read_rows
from segbench.store.workspace import Workspace

DATA = "phantom-cxr:size=32,test_cases=4"
TRAP = load_dataset(DATA).load(load_dataset(DATA).entries("test")[-1].case_id)
GRID = Grid([load_attack("pgd:steps=4")], [Fraction(2, 255), Fraction(4, 255)])
SAME = ["case_id", "budget", "precision", "gradient_check", "zero_gradients", "jaccard", "linf"]


class Saturated(nn.Module):
    """Lungs are what is dark; on one image a tanh is at its end, where bf16 has no gradient."""

    middle = float(TRAP.image.mean())

    def __init__(self) -> None:
        super().__init__()
        self.enter, self.leave = nn.Conv2d(1, 1, 5, padding=2), nn.Conv2d(1, 2, 1)
        with torch.no_grad():
            self.enter.weight.fill_(1 / 25)
            self.enter.bias.zero_()
            self.leave.weight.copy_(torch.tensor([1.0, -1.0]).view(2, 1, 1, 1))
            self.leave.bias.copy_(torch.tensor([-0.5, 0.5]))

    def forward(self, images: Tensor) -> Tensor:
        logits = self.leave(self.enter(images))
        mean = images.detach().mean((1, 2, 3), keepdim=True)
        return torch.tanh(logits + 5 * ((mean - self.middle).abs() < 0.003).to(logits.dtype))


def run(
    root: Path,
    monkeypatch: pytest.MonkeyPatch,
    policy: Policy = "auto",
    batch: int = 4,
    grid: Grid = GRID,
) -> pd.DataFrame:
    def chosen(device: torch.device, policy: Policy) -> Precision:
        return Precision("bf16" if policy == "auto" else "fp32", "the test asks for it")

    monkeypatch.setattr(subject, "choose_precision", chosen)
    data = select_data(DATA, load_dataset(DATA), "test", None)
    options = Options(policy, "cpu", batch, save_adversarial=True)
    keys = run_model(Ready(Saturated), data, grid, Workspace(root), options, Silence())
    rows = read_rows(Workspace(root))
    attacked = rows[rows["attack"] != "clean"]
    for path in {p for key in keys[1:] for p in kept_cases(Workspace(root), key).values()}:
        found = load_images(path)
        told = attacked.groupby("case_id")["precision"].first()
        assert list(found.precisions) == [told[name] for name in found.case_ids]
    return attacked.sort_values(["case_id", "budget", "class_id"]).reset_index(drop=True)


def test_rows_say_the_precision_of_their_own_case(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = run(tmp_path / "low", monkeypatch)
    trapped = rows["case_id"] == TRAP.case_id
    assert {*rows[trapped]["precision"]} == {"fp32"}
    assert {*rows[trapped]["gradient_check"]} == {"cosine 0.000, signs 0.0%, lost 100.0%"}
    assert {*rows[~trapped]["precision"]} == {"bf16"}
    exact = run(tmp_path / "exact", monkeypatch, "fp32")
    scores = ["case_id", "budget", "class_id", "jaccard", "linf", "l2", "backwards"]
    pd.testing.assert_frame_equal(rows[trapped][scores], exact[trapped][scores])
    assert {*rows["zero_gradients"]} == {0.0}
    for batch in (1, 3):
        again = run(tmp_path / str(batch), monkeypatch, batch=batch)
        pd.testing.assert_frame_equal(again[SAME], rows[SAME])


@pytest.mark.parametrize("trapped", [False, True])
def test_rows_of_a_fitted_attack_say_what_it_was_fitted_by(
    trapped: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which may be other than what the network is asked by where nothing misleads it."""
    dataset = load_dataset(DATA)
    first = dataset.load(dataset.entries("train")[0].case_id)
    monkeypatch.setattr(Saturated, "middle", float(first.image.mean()) if trapped else 9.0)
    grid = Grid([load_attack("uap:cases=2,epochs=2,batch=2")], [Fraction(2, 255)])
    rows = run(tmp_path, monkeypatch, grid=grid)
    assert {*rows["precision"]} == {"bf16 + fp32" if trapped else "bf16"}
    lowest = "cosine 0.000, signs 0.0%, lost 100.0%" if trapped else "cosine 1.000, signs"
    assert all(check.startswith(lowest) for check in rows["gradient_check"])
