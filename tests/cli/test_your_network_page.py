"""docs/your-network.md: its example runs, its output is what is printed, its options are all."""

from __future__ import annotations

import re
import runpy
import shlex
from pathlib import Path

import pytest

from segbench.cli import inspect
from segbench.store.rows import read_rows
from segbench.store.workspace import Workspace

PAGE = (Path(__file__).parents[2] / "docs" / "your-network.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)


def test_the_worked_example_runs_and_prints_what_the_page_shows(
    segbench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("my_net.py").write_text(blocks("python")[0])
    runpy.run_path("my_net.py", run_name="__main__")
    for line in "".join(blocks("console")).split("$ segbench ")[1:]:
        command, _, shown = line.partition("\n")
        done = segbench(*shlex.split(command))
        assert done.exit_code == 0, done.output
        assert shown.strip() in done.output
    rows = read_rows(Workspace(Path("runs")))
    assert set(rows["model"]) == {"my_net:build"}
    assert set(rows["attack"]) == {"clean", "pgd:steps=5"}


def test_every_option_of_a_network_of_ones_own_is_explained() -> None:
    options = [option for parameter in inspect.command.params for option in parameter.opts]
    missing = [
        o
        for o in options
        if o.startswith("--") and f"| `{o} " not in PAGE.replace(", `--", "| `--")
    ]
    assert not missing


def test_every_line_of_inspect_is_explained() -> None:
    shown = blocks("console")[0].splitlines()[2:]
    assert shown
    assert [line for line in shown if f"| `{line[:11].strip()}` |" not in PAGE] == []
