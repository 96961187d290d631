"""What a network was built with besides its weights makes it, whatever holds that."""

from __future__ import annotations

import copy
import functools
import logging
import subprocess
import sys
from argparse import Namespace
from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from segbench.networks.hashes import layers_hash


@dataclass
class Settings:
    scale: float


class Plain:
    def __init__(self, scale: float) -> None:
        self.scale = scale

    def darker(self, images: Any) -> Any:
        return images - self.scale


class Slots:
    __slots__ = ("scale",)

    def __init__(self, scale: float) -> None:
        self.scale = scale


def bound(scale: float) -> Callable[[Any], Any]:
    return lambda images: images - scale


def unsaved(scale: float) -> nn.Module:
    layer = nn.Module()
    layer.register_buffer("shift", torch.tensor([scale]), persistent=False)
    return layer


def within_itself(scale: float) -> list[Any]:
    values: list[Any] = [scale]
    values.append(values)
    return values


HOLDERS = [
    Settings, Plain, Slots, bound, unsaved, within_itself, torch.tensor,
    lambda scale: [scale], lambda scale: {"scale": (scale,)}, lambda scale: {scale},
    lambda scale: SimpleNamespace(scale=scale), lambda scale: Namespace(scale=scale),
    lambda scale: functools.partial(torch.sub, other=scale), lambda scale: Plain(scale).darker,
    lambda scale: [nn.LeakyReLU(scale)], lambda scale: [Plain([Settings(scale)])],
]  # fmt: skip


def network(value: Any, name: str = "_config") -> nn.Module:
    torch.manual_seed(0)
    made = nn.Sequential(nn.Conv2d(1, 2, 1))
    setattr(made[0], name, value)
    return made


@pytest.mark.parametrize("holder", HOLDERS)
def test_another_setting_is_another_network_whatever_holds_it(
    holder: Callable[[float], Any],
) -> None:
    first, same, other = (layers_hash(network(holder(scale))) for scale in (0.5, 0.5, 0.25))
    assert first == same != other
    assert layers_hash(copy.deepcopy(network(holder(0.5)))) == first


def test_what_is_no_setting_makes_no_other_network() -> None:
    log = logging.getLogger("segbench of a test")
    before = layers_hash(network(log))
    log.setLevel("DEBUG")
    log.debug("a logger remembers what it was asked")
    assert layers_hash(network(log).eval()) == before


def test_the_same_in_every_process() -> None:
    code = (
        "from test_settings import *; print([layers_hash(network(h(0.5))) "
        "for h in HOLDERS], layers_hash(network({'a', 'b', ('c', 1.5)})))"
    )
    found = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": __file__.rpartition("/")[0]},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in "12"
    }
    assert len(found) == 1
