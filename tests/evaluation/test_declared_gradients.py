"""What an attack says that it costs is what a plan counts on before anything was measured."""

from __future__ import annotations

from fractions import Fraction

import pytest

from segbench.api import Budget
from segbench.evaluation.grid import Cell
from segbench.evaluation.model_plan import declared_gradients
from segbench.plugins.attack import load_attack

STATED = {
    "fgsm": 1,
    "ifgsm:preset=paper": 5,  # at 4/255
    "pgd:steps=10,restarts=3": 30,
    "sea": 1200,
    "sea:preset=eccv2024": 900,
    "standard": 1145,
    "standard@2": 200,
    "standard@1": 100,
    "standard:cost=quick": 1177,
    "standard@4:cost=quick": 30,
    "standard:cost=thorough": 2805,
    "standard@6:cost=thorough": 2745,
    "standard@2:cost=thorough": 1000,
    "rse": 3000,
    "rse:steps=20": 300,
    "noise": 1,
}


@pytest.mark.parametrize(("text", "gradients"), STATED.items())
def test_every_gradient_of_an_attack_is_counted_on(text: str, gradients: int) -> None:
    attack = load_attack(text)
    cell = Cell(attack, Budget(attack.attack.budget_kind, Fraction(4, 255)))
    assert declared_gradients(cell) == gradients
