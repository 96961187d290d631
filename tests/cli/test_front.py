"""``--front`` with a network that segbench trained."""

from __future__ import annotations

from pathlib import Path

from click.testing import CliRunner

from segbench.cli import main
from segbench.store.rows import read_rows
from segbench.store.workspace import Workspace


def test_a_trained_network_behind_a_front_is_attacked_on_its_own_data(workspace: Path) -> None:
    (folder,) = (workspace / "models").iterdir()
    done = CliRunner().invoke(main, [
        "attack", "--front", "median", "-a", "fgsm", "--eps", "0.1", "--workspace", str(workspace)
    ])  # fmt: skip
    assert done.exit_code == 0, done.output
    rows = read_rows(Workspace(workspace))
    assert set(rows["model"]) == {f"{folder.name} (median)"}
    assert set(rows["split"]) == {"test"}


def test_a_front_is_not_exported(workspace: Path) -> None:
    (folder,) = (workspace / "models").iterdir()
    refused = CliRunner().invoke(main, [
        "export-model", folder.name, "--front", "median", "--out", str(workspace / "out"),
        "--workspace", str(workspace),
    ])  # fmt: skip
    assert refused.exit_code == 2
    assert "leave it out of what is exported" in " ".join(refused.output.split())
    assert not (workspace / "out").exists()
