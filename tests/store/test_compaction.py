"""However many cells a run has, it leaves few files, while it goes on too; and the same rows."""

from __future__ import annotations

import os
from pathlib import Path

import pandas as pd
import pytest
from click.testing import CliRunner

from segbench.cli import main
from segbench.store import compaction, rowfile
from segbench.store.rows import read_rows
from segbench.store.workspace import Workspace

NETWORK = """
from torch import nn

class Dark(nn.Module):
    def forward(self, images):
        return 12 * (0.5 - nn.functional.avg_pool2d(images, 5, 1, 2))
"""
SAME = [name for name in rowfile.COLUMNS if name != "seconds"]


def run_grid(folder: Path, name: str) -> Workspace:
    (folder / "net.py").write_text(NETWORK)
    workspace = Workspace(folder / name)
    done = CliRunner().invoke(
        main,
        ["attack", "-m", f"{folder}/net.py:Dark", "-a", "noise", "--device", "cpu",
         "--eps", ",".join(f"{level}/255" for level in range(1, 19)), "--workspace",
         str(workspace.root), "--dataset", "phantom-cxr:size=32,test_cases=2,train_cases=2"],
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    return workspace


def test_a_run_leaves_few_files_while_it_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = read_rows(run_grid(tmp_path, "one"))
    monkeypatch.setattr(compaction, "SHARDS_OF_A_FILE", 4)
    counts, write = [], rowfile.write

    def counting(folder: Path, *rest: object) -> Path:
        path = write(folder, *rest)
        counts.append(len(os.listdir(tmp_path / "many" / "results" / "shards")))
        return path

    monkeypatch.setattr(rowfile, "write", counting)
    workspace = run_grid(tmp_path, "many")
    assert len(counts) == 19 + 5  # a shard for each of the cells, and a file for every four
    assert max(counts) == 4
    assert os.listdir(workspace.shards) == []
    pd.testing.assert_frame_equal(read_rows(workspace)[SAME], expected[SAME])
