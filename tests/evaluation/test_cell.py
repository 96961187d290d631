"""A cell's facts: its key changes with all that determines its rows, and with nothing else."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import pytest
from torch import nn

from segbench import __version__
from segbench.api import Budget
from segbench.data import load_dataset
from segbench.evaluation.cell import cell_facts
from segbench.evaluation.grid import Cell
from segbench.evaluation.request import Options, select_data
from segbench.networks import LoadedModel
from segbench.plugins import attack as attacks
from segbench.plugins.attack import load_attack
from segbench.plugins.registry import names
from segbench.store import rowfile
from segbench.store.rows import cell_key

DATA = "phantom-cxr:size=32,test_cases=3"
ART = "adversarial-robustness-toolbox"
NAMED = {
    "art/FastGradientMethod": [ART],
    "art/ProjectedGradientDescent:max_iter=3": [ART],
    "corruption/rician": ["monai"],
    "corruption/jpeg": ["pillow"],
    "corruption/blur": ["scipy"],
}


def facts(text: str | None) -> dict[str, Any]:
    data = select_data(DATA, load_dataset(DATA), "test", None)
    model = LoadedModel(nn.Identity(), "ab" * 32, {"spec": "unet"})
    attack = load_attack(text) if text else None
    budget = Budget("linf" if attack else "none", Fraction(8 if attack else 0, 255))
    return cell_facts(model, data, Cell(attack, budget), Options())


def test_a_cell_without_libraries_has_the_key_it_always_had() -> None:
    dataset = load_dataset(DATA)
    assert facts("pgd:steps=3") == {
        "schema": rowfile.SCHEMA_VERSION,
        "engine": __version__,
        "weights": "ab" * 32,
        "architecture": {"spec": "unet"},
        "attack": "pgd:steps=3",
        "attack_parameters": load_attack("pgd:steps=3").parameters,
        "attack_package": ["segbench", __version__],
        "budget": ["linf", Fraction(8, 255)],
        "seed": 0,
        "data": DATA,
        "data_fingerprint": dataset.fingerprint(),
        "split": "test",
        "cases": [entry.case_id for entry in dataset.entries("test")],
        "precision": "auto",
        "boundary": False,
    }
    own = [name for name in names("attacks") if name != "transfer"]  # which has to name a source
    for text in (None, "corruption/noise", *own):
        assert "libraries" not in facts(text), text


@pytest.mark.parametrize("text", NAMED)
def test_another_version_of_a_named_library_is_another_cell(
    text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = facts(text)
    assert sorted(before["libraries"]) == NAMED[text]
    monkeypatch.setattr(attacks, "version", lambda name: "0.0.1")
    after = facts(text)
    assert cell_key(after) != cell_key(before)
    assert {k: v for k, v in after.items() if before[k] != v} == {
        "libraries": dict.fromkeys(NAMED[text], "0.0.1")
    }
