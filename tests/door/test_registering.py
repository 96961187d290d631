"""Plug-ins of a notebook: on the terms of installed ones, and known by their source."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from toys import Curved, curved_scene

import segbench
from segbench.errors import UserError
from segbench.plugins import registry
from segbench.plugins.architecture import resolve_architecture
from segbench.plugins.attack import load_attack

Run = Callable[..., Any]
CELL = """
from dataclasses import dataclass
import segbench

@segbench.register_attack("darker")
@dataclass(frozen=True)
class Darker:
    share: float = 1.0
    needs = "labels"
    budget_kind = "linf"

    def run(self, objective, images, goal, budget, noise):
        return (images - self.share * budget.eps).clamp(0, 1)
"""


@pytest.fixture
def notebook(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A module without a file, as a notebook's is."""
    module = ModuleType("notebook")
    monkeypatch.setitem(sys.modules, "notebook", module)
    return module


def execute(cell: str, notebook: ModuleType) -> None:
    exec(textwrap.dedent(cell), vars(notebook))


def test_an_attack_is_used_by_its_name_and_listed(notebook: ModuleType) -> None:
    execute(CELL, notebook)
    images, labels = torch.full((2, 1, 16, 16), 0.5), torch.zeros(2, 16, 16).long()
    attacked = segbench.attack(Curved(), images, labels, "darker:share=0.5", eps=0.2)
    torch.testing.assert_close(attacked, images - 0.1, atol=1e-6, rtol=0)
    assert "darker" in registry.names("attacks")
    assert notebook.Darker().share == 1.0  # the decorator gives the class back
    with pytest.raises(UserError, match="darker has no parameter 'shar'; did you mean 'share'"):
        load_attack("darker:shar=1")
    with pytest.raises(UserError, match="did you mean 'darker'"):
        load_attack("darkr")


def test_what_was_edited_is_computed_anew_and_nothing_else(
    run: Run, notebook: ModuleType, tmp_path: Path
) -> None:
    network, data = Curved(), curved_scene(1)

    def computed(cell: str) -> int:
        execute(cell, notebook)
        return run(network, data, tmp_path, attacks=["darker"])[1].computed

    assert computed(CELL) == 2  # clean, and under attack
    assert computed(CELL) == 0  # the cell run again
    assert computed("# a comment\n" + CELL.replace("return (", "return (  # and another\n  ")) == 0
    assert computed(CELL.replace("- self", "+ self")) == 1
    assert computed(CELL) == 0


def test_a_value_that_its_code_reads_counts_as_it_is_when_it_is_used(
    run: Run, notebook: ModuleType, tmp_path: Path
) -> None:
    execute(f"SIGN = 1\n{CELL.replace('self.share', 'SIGN')}", notebook)
    for sign, computed in ((1, 2), (-1, 1), (1, 0)):
        notebook.__dict__["SIGN"] = sign  # with no cell of the attack run again
        assert run(Curved(), curved_scene(1), tmp_path, attacks=["darker"])[1].computed == computed


def test_a_name_that_is_taken_is_refused_as_two_packages_are(notebook: ModuleType) -> None:
    with pytest.raises(UserError) as caught:
        execute(CELL.replace('"darker"', '"pgd"'), notebook)
    claims = "notebook (notebook:Darker), segbench (segbench_attacks.pgd:PGD)"
    assert f"'pgd' is claimed by more than one package: {claims}; register it" in str(caught.value)
    execute(CELL, notebook)
    with pytest.raises(UserError, match="'darker' is claimed by more than one package"):
        execute(CELL.replace("class Darker", "class Other"), notebook)
    assert load_attack("pgd").plugin.distribution == "segbench"


def test_models_and_data_sets_as_functions_and_decorators(run: Run, tmp_path: Path) -> None:
    def build(*, in_channels: int, num_classes: int, spatial_dims: int, width: int = 4) -> Any:
        return torch.nn.Conv2d(in_channels, num_classes, 1)

    def few(count: int = 2) -> segbench.InMemory:
        return segbench.InMemory(*curved_scene(count))

    assert segbench.register_model("linear", build) is build
    network = resolve_architecture("linear:width=8", 2)
    assert network.parameters == {"width": 8}
    assert network.build(in_channels=1, num_classes=3, spatial_dims=2).out_channels == 3
    assert segbench.register_dataset("few")(few) is few
    result, _ = run(Curved(), "few:count=3", tmp_path)
    assert result.cases["case_id"].nunique() == 3
    assert set(result.cases["dataset"]) == {"few:count=3"}


@pytest.mark.parametrize(
    ("name", "target", "words"),
    [
        ("a b", Curved, "'a b' is not a spec"),
        ("mine:steps=3", Curved, "expected a plain name such as 'mine'"),
        ("family/mine", Curved, "expected a plain name"),
        ("mine", 3, "the attack 'mine' is 3; expected a class or a function"),
    ],
)
def test_what_is_no_name_or_no_plug_in_is_refused(name: str, target: Any, words: str) -> None:
    with pytest.raises(UserError) as caught:
        segbench.register_attack(name, target)
    assert words in str(caught.value)
