"""A stranger's package, made of what the pages show: installed by pip, found by entry points, used
through the command line.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from pages import PAGES, ROOT, blocks

BROKEN = """
[project.entry-points."segbench.attacks"]
my-mifgsm = "my_plugins.attack:MIFGSM"
broken = "my_plugins.missing:Attack"
crash = "my_plugins.crash:Crash"
"""
CRASH = '''
from dataclasses import dataclass

from my_plugins.attack import MIFGSM


@dataclass(frozen=True)
class Crash(MIFGSM):
    """Has a bug."""

    def step(self, context, state, feedback):
        raise KeyError("oh no")
'''


@pytest.fixture
def stranger(tmp_path: Path) -> dict[str, str]:
    """An environment in which the stranger's package is installed beside segbench."""
    package = tmp_path / "package"
    (package / "my_plugins").mkdir(parents=True)
    (project,) = blocks(ROOT / "CONTRIBUTING.md", "toml")
    head, _, tail = project.partition('[project.entry-points."segbench.attacks"]')
    attack, _, rest = tail.partition("\n\n")
    assert attack.strip() in BROKEN  # as on the page, and two that are broken
    (package / "pyproject.toml").write_text(f"{head}{BROKEN}\n{rest}")
    (package / "my_plugins" / "__init__.py").write_text("")
    for name, page in PAGES.items():
        (package / "my_plugins" / f"{name}.py").write_text(blocks(page, "python")[0])
    (package / "my_plugins" / "crash.py").write_text(CRASH)
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


# One process for all command lines: each would import torch anew.
LINES = """
import json, sys
from click.testing import CliRunner
from segbench.cli import main

done = [CliRunner().invoke(main, line) for line in json.load(sys.stdin)]
json.dump([(one.exit_code, one.stdout, one.stderr) for one in done], sys.stdout)
"""


def test_what_the_pages_show_is_a_package_on_equal_terms(
    stranger: dict[str, str], tmp_path: Path
) -> None:
    own = {
        "train": "train plain:width=4 --dataset discs --epochs 1",
        "attack": "attack -a my-mifgsm:decay=0.5 --eps 4/255 --limit 4",
        "cells": "list cells --json",
        "report": "report -f poster",
        "crash": "attack -a crash --eps 4/255 --limit 4",
        "broken": "attack -a broken --eps 4/255",
        "doctor": "doctor",
        "list": "list",
    }
    process = subprocess.run(
        [sys.executable, "-c", LINES],
        input=json.dumps([line.split() for line in own.values()]),
        env=stranger,
        capture_output=True,
        text=True,
    )
    assert process.returncode == 0, process.stderr
    told = dict(zip(own, json.loads(process.stdout), strict=True))
    for name in ("train", "attack", "cells", "report"):
        assert told[name][0] == 0, told[name]
    cells = json.loads(told["cells"][1])["cells"]
    assert {cell["attack"] for cell in cells} == {"clean", "my-mifgsm:decay=0.5"}
    assert cells[0]["model"] == "plain-width=4@discs#0"
    assert "plain-width=4" in (tmp_path / "runs" / "reports" / "summary.html").read_text()
    assert told["broken"][0] == 3
    assert "the attack 'broken' of my-plugins does not import" in told["broken"][2]
    for name in ("doctor", "list"):
        assert told[name][0] == 3
        assert "my_plugins.missing" in "".join(told[name][1].split())
    status, _, said = told["crash"]
    assert status == 3
    assert "attack crash of my-plugins failed on " in " ".join(said.split())
    assert "KeyError: 'oh no'" in " ".join(said.split())
    assert "Traceback" not in said
