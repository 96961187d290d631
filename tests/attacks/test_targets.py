"""Targets: what they are, that attacks reach them where they can, and what is stored of it."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
from toys import Gains

from segbench.api import Budget, Case
from segbench.engine.targets import target_labels
from segbench.errors import UserError
from segbench.evaluation.batch import collate
from segbench.evaluation.grid import Cell
from segbench.evaluation.score import evaluate_batch
from segbench.plugins.attack import load_attack

NAMES = ("background", "heart", "lung")
IGNORE = 255
ATTACKS = ["pgd", "pgd:loss=dice", "apgd", "apgd:loss=masked-ce", "segpgd", "cospgd", "mifgsm"]
ATTACKS += ["padam"]


def test_targets_by_their_definition() -> None:
    truth = torch.tensor([[[0, 1, 2, 2, 0, 0, 0, IGNORE]]])

    def target(text: str) -> list[int]:
        found = target_labels(text, truth, NAMES, IGNORE, structures=False)
        return found.flatten().tolist()

    assert target("empty") == [0] * 7 + [IGNORE]
    assert target("class:2") == [2] * 7 + [IGNORE]
    assert target("shift") == [0, 0, 0, 1, 2, 2, 0, IGNORE]
    planes = torch.stack([truth == 1, truth == 2], 1).long()
    wanted = target_labels("class:1", planes, NAMES, None, structures=True)
    assert torch.equal(wanted[:, 0], torch.ones_like(planes[:, 0]))
    assert not wanted[:, 1].any()


@pytest.mark.parametrize("text", ["nothing", "class:", "class:-1", "empty "])
@pytest.mark.parametrize("name", ["pgd", "apgd", "mifgsm"])
def test_what_is_no_target_is_refused(name: str, text: str) -> None:
    plugin = load_attack(name).plugin
    with pytest.raises(UserError, match="expected empty, shift, class:k or file:FOLDER"):
        plugin.factory(target=text)
    with pytest.raises(UserError, match="leave it out"):
        plugin.factory(target="empty", labels="prediction")


def rows(prepared: Any, attack: str, eps: str) -> list[dict[str, Any]]:
    """Of cases whose channels differ by 0.25: a budget above 1/8 reaches any target."""
    order = torch.rand(2, 3, 6, 6, generator=torch.Generator().manual_seed(2)).argsort(1)
    images = 0.2 + order * 0.25
    cases = [
        Case(f"case-{b}", f"case-{b}", images[b].numpy(), images[b].argmax(0).numpy(), NAMES)
        for b in range(2)
    ]
    network = prepared(Gains(), images, 3)
    named = load_attack(attack)
    cell = Cell(named, Budget(named.attack.budget_kind, Fraction(eps)))
    return evaluate_batch(network, collate(cases, network), cell)


@pytest.mark.parametrize("target", ["empty", "shift", "class:2"])
@pytest.mark.parametrize("name", ATTACKS)
def test_a_target_within_reach_is_reached_and_stored(name: str, target: str, prepared: Any) -> None:
    text = f"{name}{',' if ':' in name else ':'}target={target}"
    for row in rows(prepared, text, "0.3"):
        assert row["target_jaccard"] == 1
        assert row["jaccard"] < 0.7


def test_without_a_target_there_is_no_agreement(prepared: Any) -> None:
    assert all(np.isnan(row["target_jaccard"]) for row in rows(prepared, "pgd", "0.3"))


def test_a_class_that_the_data_lacks_is_named(prepared: Any) -> None:
    with pytest.raises(UserError, match="classes 0 to 2"):
        rows(prepared, "pgd:target=class:3", "0.3")


def test_a_targeted_label_reads_back_as_itself() -> None:
    label = load_attack('pgd:target="class:1"').label
    assert load_attack(label).attack == load_attack("pgd:target=class:1").attack
