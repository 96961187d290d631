"""Every command of docs/scale.md is one that this command line takes."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from pages import ROOT

from segbench.cli.run import command

LINES = re.findall(r"segbench run (grid\.toml[^\n#]*)", (ROOT / "docs" / "scale.md").read_text())


@pytest.mark.parametrize("line", LINES)
def test_a_command_of_the_page_is_taken(
    line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "grid.toml").write_text("")
    filled = re.sub(r"\$\(\(.*?\)\)|\$SLURM_ARRAY_TASK_ID|\{\}", "3", line.partition("`")[0])
    filled = re.sub(r"\{=.*?=\}", "0", filled).replace("$SHARED", str(tmp_path))
    words = [word for word in shlex.split(filled) if word != "--help"]
    context = command.make_context("run", words)
    assert str(context.params["grid"]) == "grid.toml"


def test_the_page_has_commands() -> None:
    assert len(LINES) >= 6
