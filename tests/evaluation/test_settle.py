"""Until settled: what shows signs of being stuck is attacked again, and nothing else is."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from toys import Ready, Silence

from segbench.data import load_dataset
from segbench.evaluation.plan import plan_grid
from segbench.evaluation.records import validated
from segbench.evaluation.request import Request, select_data
from segbench.evaluation.run import run_grid
from segbench.evaluation.settle import settle
from segbench.store.workspace import Workspace
from segbench.tables.load import load_tables

DATA = "phantom-cxr:size=32,test_cases=3"


class Dark(nn.Module):
    """Lungs are what is dark, by a local mean."""

    def forward(self, images: Tensor) -> Tensor:
        return 12 * (0.5 - nn.functional.avg_pool2d(images, 5, 1, 2))


class Saturated(Dark):
    """The same labels through a tanh whose gradient is zero in fp32 wherever one looks."""

    def forward(self, images: Tensor) -> Tensor:
        return torch.tanh(1e5 * super().forward(images))


@pytest.mark.parametrize("where", ["", ",where=outside"])
@pytest.mark.parametrize(("kind", "runs"), [(Dark, 1), (Saturated, 3)])
def test_only_what_is_in_doubt_is_attacked_again_and_only_there(
    kind: Any, runs: int, where: str, tmp_path: Path
) -> None:
    asked = {
        "attacks": [f"pgd:steps=4{where}"],
        "eps": ["16/255"],
        "device": "cpu",
        "precision": "fp32",
    }
    request = validated(Request, asked)
    data = select_data(DATA, load_dataset(DATA), "test", None)
    pairs, store = [(Ready(kind), data)], Workspace(tmp_path)
    first = run_grid(pairs, plan_grid(request), store, request, Silence())
    records = settle(pairs, request, store, first, Silence())
    assert len(records) == runs
    tables = load_tables(store, run=records)
    attacks = set(tables.cases["attack"])
    assert any(attack.startswith("standard") for attack in attacks) == (runs > 1)
    assert all(where[1:] in attack for attack in attacks - {"clean"})
    at = tables.cases[tables.cases["budget"] == float(Fraction(16, 255))]
    if runs > 1:
        least = at.groupby("attack")["jaccard"].mean()
        pgd = least[[name for name in least.index if name.startswith("pgd")]].item()
        assert least.min() < pgd - 0.02  # the member without gradients is not deceived
