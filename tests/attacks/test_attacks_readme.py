"""The attack that attacks/README.md writes down is one: it works as written."""

from __future__ import annotations

import re
from fractions import Fraction
from typing import Any, Literal, get_args, get_origin

import pytest
import torch
from pages import PAGES, example
from torch import nn

from segbench.api import StepAttack
from segbench.errors import UserError
from segbench.plugins import registry, spec
from segbench.plugins.attack import NamedAttack, load_attack
from segbench.plugins.contract import check_attack, check_factory

README = PAGES["attack"]


def test_the_example_attacks(prepared: Any, run: Any) -> None:
    module = example(README)
    check_factory("attacks", module.MIFGSM)
    attack = module.MIFGSM()
    assert isinstance(attack, StepAttack)
    check_attack(attack)
    named = NamedAttack("mifgsm", attack, registry.load("attacks", "fgsm"))
    images, labels = torch.full((2, 1, 4, 4), 0.5), torch.zeros(2, 4, 4).long()
    network = prepared(nn.Conv2d(1, 2, 1), images)
    network.module.weight[:] = torch.tensor([[[[1.0]]], [[[-1.0]]]])
    found = run(network, named, images, labels, eps="8/255").images
    torch.testing.assert_close(found, images - float(Fraction(8, 255)), atol=1e-6, rtol=0)


@pytest.mark.parametrize("name", registry.names("attacks"))
def test_every_attack_and_key_is_listed(name: str) -> None:
    """As a row of the table, with its keys, and of those that it lists the choices, with these."""
    plugin = registry.load("attacks", name)
    if plugin.distribution == "segbench":
        (line,) = re.findall(rf"^\| `{name}` \|.*$", README.read_text(), re.MULTILINE)
        for key in spec.parameters(plugin.factory):
            assert f"`{key}`" in line or f"`{key}=" in line
        for key, parameter in spec.parameters(plugin.factory).items():
            listed = re.findall(rf"`{key}=([^`]+)`", line)  # the keys are the last column
            if listed and get_origin(parameter.annotation) is Literal:
                choices = listed[-1].split(r"\|")
                accepted = [c for c in get_args(parameter.annotation) if accepts(name, key, c)]
                if choices[-1] == "…":
                    assert {*choices[:-1]} < {*map(str, accepted)}
                else:
                    assert sorted(choices) == sorted(map(str, accepted))


def accepts(name: str, key: str, choice: Any) -> bool:
    """Whether an attack takes a choice of its type, as ``frequency`` does not ``norm=l1``."""
    try:
        load_attack(f"{name}:{key}={choice}")
    except UserError:
        return False
    return True
