"""The stores that store.py and page.py make are what a finished run would have left."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from segbench.cli import main as segbench
from segbench.store.rows import read_rows
from segbench.store.workspace import Workspace


def ask_again(grid: Path, workspace: Workspace) -> str:
    """What `segbench run` says of a store in which nothing is missing."""
    asked = CliRunner().invoke(segbench, ["run", str(grid), "--workspace", str(workspace.root)])
    assert asked.exit_code == 0, asked.output
    return asked.output


def test_a_made_store_is_a_finished_one_in_which_clean_scores_are_as_they_are(
    script, tmp_path: Path
) -> None:
    store, workspace = script("store"), Workspace(tmp_path / "runs")
    grid = store.write_grid(tmp_path, 100, 2)
    cells = store.fill(grid, workspace)
    assert cells == 110
    assert "0 scores computed, 220 found" in ask_again(grid, workspace)
    rows = read_rows(workspace)
    clean = rows[rows["attack"] == "clean"].groupby("case_id")["jaccard"]
    assert (clean.nunique() == 1).all()
    assert rows[rows["attack"] != "clean"]["jaccard"].nunique() > 10


def test_so_is_the_store_of_the_page(script, tmp_path: Path) -> None:
    page, workspace = script("page"), Workspace(tmp_path / "runs")
    grid = page.write_grid(tmp_path, networks=2, attacks=2, points=3, cases=2)
    cells = script("store").fill(grid, workspace, page.falling)
    assert cells == 2 * (1 + 2 * 3)
    assert "0 scores computed, 28 found" in ask_again(grid, workspace)


@pytest.mark.slow
def test_each_prints_its_table(script, tmp_path: Path) -> None:
    small = ["--cells", "100", "--cases", "2"]
    printed = CliRunner().invoke(script("store").main, small, catch_exceptions=False)
    assert printed.exit_code == 0
    lines = [line for line in printed.output.splitlines() if " 100 " in line]
    assert len(lines) == 4, printed.output
    small = ["--networks", "2", "--attacks", "1", "--points", "2", "--cases", "2", "--rounds", "1"]
    printed = CliRunner().invoke(script("page").main, small, catch_exceptions=False)
    assert "2 networks x 1 attacks x 2 eps x 2 cases" in " ".join(printed.output.split())
