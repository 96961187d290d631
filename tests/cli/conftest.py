"""A command line that is called as a user calls it, and a workspace with one trained network."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from segbench.cli import main

DATA = "phantom-cxr:size=32,train_cases=24,test_cases=6"
MODEL = "unet:width=4,depth=2"
Segbench = Callable[..., Result]


@pytest.fixture(autouse=True)
def _own_config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEGBENCH_CONFIG_DIR", str(tmp_path / "config"))


@pytest.fixture
def segbench() -> Segbench:
    """``segbench("attack", "--eps", "0.03")`` in this process."""

    def call(*args: str | Path) -> Result:
        return CliRunner().invoke(main, [str(arg) for arg in args])

    return call


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace with a tiny U-Net, made by the real command; copy it before changing it."""
    workspace = tmp_path_factory.mktemp("trained")
    line = ["train", MODEL, "--dataset", DATA, "--epochs", "12", "--workspace", str(workspace)]
    done = CliRunner().invoke(main, line)
    assert done.exit_code == 0, done.output
    return workspace


@pytest.fixture
def workspace(trained: Path, tmp_path: Path) -> Path:
    """The trained network in a workspace of the test's own."""
    import shutil

    return Path(shutil.copytree(trained, tmp_path / "runs"))
