"""A cell's facts: its key changes with all that determines its images, and with nothing else."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from segbench import __version__
from segbench.api import Budget
from segbench.data import load_dataset
from segbench.evaluation.cell import cell_facts
from segbench.evaluation.grid import Cell
from segbench.evaluation.request import Options, select_data
from segbench.evaluation.subject import Subject
from segbench.networks import LoadedModel
from segbench.networks.normalize import Normalization
from segbench.plugins import attack as attacks
from segbench.plugins.attack import NamedAttack, load_attack
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
MODEL = LoadedModel(nn.Identity(), "ab" * 32, {"source": "cd" * 32})


def subject(model: LoadedModel = MODEL, limit: int | None = None, **given: Any) -> Subject:
    data = select_data(DATA, load_dataset(DATA), "test", limit)
    return Subject("net", model, model.module, data, torch.device("cpu"), **given)


def facts(text: str | NamedAttack | None, of: Subject | None = None, **options: Any) -> Any:
    attack = load_attack(text) if isinstance(text, str) else text
    budget = Budget("linf" if attack else "none", Fraction(8 if attack else 0, 255))
    return cell_facts(of or subject(), Cell(attack, budget), Options(**options))


def test_what_a_key_is_made_of() -> None:
    attack = load_attack("pgd:steps=3")
    assert facts(attack) == {
        "schema": rowfile.SCHEMA_VERSION,
        "engine": __version__,
        "network": subject().sha256,
        "attack": {
            "name": "pgd",
            "package": ["segbench", __version__],
            "source": attack.plugin.source,
            "parameters": attack.parameters,
            "libraries": {},
        },
        "target": None,
        "budget": ["linf", Fraction(8, 255)],
        "seed": 0,
        "data": DATA,
        "precision": "auto",
        "gradients": "by case",
    }
    for exact in (facts(attack, precision="fp32"), facts("noise"), facts(None)):
        assert "gradients" not in exact
    # A transfer has to name a source, and a search its corruption.
    own = [name for name in names("attacks") if name not in ("transfer", "worst")]
    for text in ("corruption/noise", *own):
        assert facts(text)["attack"]["libraries"] == {}, text


@pytest.mark.parametrize("text", NAMED)
def test_another_version_of_a_named_library_is_another_cell(
    text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = facts(text)
    assert sorted(before["attack"]["libraries"]) == NAMED[text]
    monkeypatch.setattr(attacks, "version", lambda name: "0.0.1")
    after = facts(text)
    assert cell_key(after) != cell_key(before)
    assert after["attack"]["libraries"] == dict.fromkeys(NAMED[text], "0.0.1")


def test_cases_names_batches_and_metrics_are_no_part_of_a_key() -> None:
    key = cell_key(facts("pgd"))
    assert cell_key(facts("pgd", subject(limit=1))) == key
    assert cell_key(facts("pgd", replace(subject(), name="other"))) == key
    for options in ({"batch_size": 3}, {"boundary": True}, {"quantize": True}, {"fresh": True}):
        assert cell_key(facts("pgd", **options)) == key


@pytest.mark.parametrize(
    "other",
    [
        subject(replace(MODEL, weights_sha256="00" * 32)),
        subject(replace(MODEL, facts={"source": "00" * 32})),
        subject(replace(MODEL, normalization=Normalization((0.5,), (0.5,)))),
        subject(replace(MODEL, normalization=Normalization(channels="repeat"))),
        subject(adapted="None None False 32"),
    ],
    ids=["weights", "forward", "normalize", "channels", "adapter"],
)
def test_two_networks_of_one_name_never_share_a_key(other: Subject) -> None:
    assert cell_key(facts("pgd", other)) != cell_key(facts("pgd"))


def test_an_edited_attack_is_another_cell(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    code = "from dataclasses import dataclass\nfrom segbench_attacks.pgd import PGD\n"
    code += "@dataclass(frozen=True)\nclass Mine(PGD):\n    steps: int = {}\n"
    keys = []
    for steps in (3, 3, 4):
        file.write_text(code.format(steps))
        keys.append(cell_key(facts(f"{file}:Mine")))
    assert keys[0] == keys[1] != keys[2]
    file.write_text(code.format("1 + 2"))  # the same parameters, another source
    assert cell_key(facts(f"{file}:Mine")) != keys[0]


def test_what_a_search_runs_is_part_of_its_cell(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "fog.py"
    code = """
from dataclasses import dataclass
from segbench_attacks.corruptions import Corruption

@dataclass(frozen=True)
class Fog(Corruption):
    levels = (1, 2, 3, 4, 5)
    change = staticmethod(lambda images, level, noise: {})
"""
    keys = []
    for body in ("images", "images", "images * 1"):
        file.write_text(code.format(body))
        keys.append(cell_key(facts(f'worst:attack="{file}:Fog"')))
    assert keys[0] == keys[1] != keys[2]
    before = facts("worst:attack=corruption/blur")
    monkeypatch.setattr(attacks, "version", lambda _name: "0.0.1")
    assert cell_key(facts("worst:attack=corruption/blur")) != cell_key(before)
