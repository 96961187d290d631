"""`where=`: taken by every attack that can be confined, part of its name, and refused elsewhere."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import ClassVar

import pytest

from segbench.errors import ContractError, UserError
from segbench.plugins.attack import load_attack
from segbench.plugins.contract import check_factory
from segbench.plugins.naming import attack_names, attack_spec
from segbench.plugins.where import where_of


def test_it_is_a_parameter_of_every_such_attack_and_stands_in_its_name() -> None:
    attack = load_attack("pgd:steps=20,where=border:3")
    assert attack.label == 'pgd:steps=20,where="border:3"'
    assert attack.parameters["where"] == "border:3"
    again = load_attack(attack.label)
    assert (again.label, again.parameters) == (attack.label, attack.parameters)
    assert "where" not in load_attack("pgd").parameters
    specs = {text: attack_spec("pgd", load_attack(text).parameters_text) for text in (
        "pgd", "pgd:where=inside", "pgd:where=mask:a/b"
    )}  # fmt: skip
    names = attack_names(specs.values())
    assert [names[spec] for spec in specs.values()] == [
        "pgd",
        "pgd:where=inside",
        'pgd:where="mask:a/b"',
    ]


def test_even_alone_it_is_told(tmp_path: object) -> None:
    spec = attack_spec("pgd", load_attack("pgd:where=outside").parameters_text)
    assert attack_names([spec]) == {spec: "pgd:where=outside"}


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("pgd:where=nowhere", r"no region; expected inside, outside, border:R or mask:FOLDER"),
        ("pgd:where=border", "no region"),
        ("pgd:where=border:-1", "no region"),
        ("pgd:where=border:0.5", "1 pixel wide or more"),
        ("corruption/blur:where=inside", "has a budget of kind severity, and changes the whole"),
        ("frequency:where=inside", "cannot be confined by where='inside': what ends at the edge"),
        ("transfer:source=unet,where=inside", 'say where= of the attack that makes them: attack="'),
    ],
)
def test_what_cannot_be_confined_is_refused_in_one_sentence(text: str, reason: str) -> None:
    with pytest.raises(UserError, match=reason):
        load_attack(text)


def test_a_plugin_may_not_have_a_parameter_of_that_name() -> None:
    @dataclass(frozen=True)
    class Mine:
        where: int = 3
        needs: ClassVar[str] = "scores"
        budget_kind: ClassVar[str] = "linf"

        def run(self, objective, images, goal, budget, noise): ...

    with pytest.raises(ContractError, match=r"where is segbench's own.*rename it"):
        check_factory("attacks", Mine)


@pytest.mark.parametrize(
    ("params", "where"),
    [
        ({}, ""),
        ({"where": "inside"}, "inside"),
        ({"source": "unet", "attack": 'pgd:steps=3,where="border:2"'}, "border:2"),
        ({"source": "unet", "attack": "pgd"}, ""),
        ({"attack": ":no spec:"}, ""),
    ],
)
def test_rows_say_it_also_of_what_was_made_elsewhere(params: object, where: str) -> None:
    assert where_of(json.dumps(params)) == where
