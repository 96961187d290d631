"""A stranger's package: installed by pip, found by entry points, used through the command line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

PYPROJECT = """
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"
[project]
name = "stranger"
version = "3.1"
[project.entry-points."segbench.models"]
one-layer = "stranger:build"
[project.entry-points."segbench.attacks"]
brighten = "stranger:Brighten"
broken = "stranger.missing:Attack"
crash = "stranger:Crash"
"""

CODE = '''
"""A model and an attack that segbench has never heard of."""
from dataclasses import dataclass
from typing import ClassVar

from segbench.api import Plan, State
from torch import nn


def build(*, in_channels, num_classes, spatial_dims=2, bias: bool = True):
    """One convolution."""
    return nn.Conv2d(in_channels, num_classes, 3, padding=1, bias=bias)


@dataclass(frozen=True)
class Brighten:
    """Makes every pixel brighter by a share of eps."""

    share: float = 1.0
    needs: ClassVar[str] = "gradients"
    budget_kind: ClassVar[str] = "linf"

    def plan(self, budget):
        return Plan(steps=1)

    def init(self, context):
        return State(context.images)

    def loss(self, logits, goal, progress):
        return logits.flatten(1).sum(1)

    def step(self, context, state, feedback):
        return State(state.images + 10 * self.share * context.budget.eps)


@dataclass(frozen=True)
class Crash(Brighten):
    """Has a bug."""

    def step(self, context, state, feedback):
        raise KeyError("oh no")
'''


@pytest.fixture
def stranger(tmp_path: Path) -> dict[str, str]:
    """An environment in which the stranger's package is installed beside segbench."""
    package = tmp_path / "package"
    (package / "stranger").mkdir(parents=True)
    (package / "pyproject.toml").write_text(PYPROJECT)
    (package / "stranger" / "__init__.py").write_text(CODE)
    site = tmp_path / "site"
    subprocess.run(
        [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(site),
         str(package)],
        check=True,
    )  # fmt: skip
    return {
        **os.environ,
        "PYTHONPATH": str(site),
        "SEGBENCH_CONFIG_DIR": str(tmp_path / "config"),
        "SEGBENCH_WORKSPACE": str(tmp_path / "runs"),
    }


def test_a_strangers_model_and_attack_are_on_equal_terms(stranger: dict[str, str]) -> None:
    def segbench(*args: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "segbench", *args]
        return subprocess.run(command, env=stranger, capture_output=True, text=True)

    data = ("--dataset", "phantom-cxr:size=32,train_cases=8,test_cases=4")
    done = segbench("train", "one-layer:bias=false", *data, "--epochs", "1")
    assert done.returncode == 0, done.stderr
    done = segbench("attack", "-a", "brighten:share=0.5", "--eps", "4/255")
    assert done.returncode == 0, done.stderr
    cells = json.loads(segbench("list", "cells", "--json").stdout)["cells"]
    assert {cell["attack"] for cell in cells} == {"clean", "brighten:share=0.5"}
    assert cells[0]["model"].startswith("one-layer-bias=false@")
    broken = segbench("attack", "-a", "broken", "--eps", "4/255")
    assert broken.returncode == 3
    assert "the attack 'broken' of stranger does not import" in broken.stderr
    crash = segbench("attack", "-a", "crash", "--eps", "4/255")
    assert crash.returncode == 3
    assert "attack crash of stranger failed on cases" in " ".join(crash.stderr.split())
    assert "KeyError: 'oh no'" in " ".join(crash.stderr.split())
    assert "Traceback" not in crash.stderr
    assert segbench("doctor").returncode == 3
