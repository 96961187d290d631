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
from segbench.evaluation import settle as settling
from segbench.evaluation.plan import plan_grid
from segbench.evaluation.records import validated
from segbench.evaluation.request import Request, select_data
from segbench.evaluation.run import run_grid
from segbench.evaluation.settle import settle
from segbench.store.rows import read_rows
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


@pytest.mark.parametrize(
    ("kind", "runs", "where"),
    [
        (Dark, 1, ""),
        pytest.param(Saturated, 3, "", marks=pytest.mark.slow),
        (Saturated, 3, ",where=outside"),
    ],
)
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


class Telling(Silence):
    """Keeps what it is warned of."""

    def __init__(self) -> None:
        self.heard: list[str] = []

    def warn(self, sentence: str) -> None:
        self.heard.append(sentence)


def settled(kind: Any, attacks: list[str], eps: str, root: Path) -> tuple[set[str], list[str]]:
    """The attacks of all that was run, and what was said."""
    asked = {"attacks": attacks, "eps": [eps], "device": "cpu", "precision": "fp32"}
    request = validated(Request, asked)
    data = select_data(DATA, load_dataset(DATA), "test", None)
    pairs, store, listener = [(Ready(kind), data)], Workspace(root), Telling()
    first = run_grid(pairs, plan_grid(request), store, request, Silence())
    settle(pairs, request, store, first, listener)
    return {*read_rows(store, [])["attack"]} - {"clean"}, listener.heard


def test_a_curve_in_l2_is_attacked_again_in_l2(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settling, "STRONGER", ("standard@4:cost=quick",))  # so that it is soon done
    ran, heard = settled(Saturated, ["pgd:steps=4,norm=l2,where=outside"], "2", tmp_path)
    again = "standard:cost=quick,norm=l2,version=4,where=outside"
    assert ran == {"pgd:norm=l2,steps=4,where=outside", again}
    assert heard == [
        f"net is attacked again by {again} at 2, where what was found is in doubt",
    ]


def test_what_cannot_be_judged_is_left_alone_and_named(tmp_path: Path) -> None:
    attacks = ["pgd:steps=2,target=empty", "pgd:norm=l1,steps=2", "corruption/blur:severities=1"]
    ran, heard = settled(Saturated, [*attacks, "dag:steps=2"], "16/255", tmp_path)
    assert len(ran) == 4
    assert heard == [
        "pgd:steps=2,target=empty, pgd:norm=l1,steps=2, corruption/blur:severities=1, dag:steps=2 "
        "are not judged by --until-settled, which knows untargeted attacks in L-infinity and L2"
    ]
