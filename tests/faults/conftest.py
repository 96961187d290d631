"""What is broken on purpose: kills, full disks, flipped bits, files that would act when read.

Names with markup and escapes, readers that leave and poor terminals, on every command, are in
``tests/cli/test_terminal.py``; pickles and archives with bombs in
``tests/networks/test_hostile_files.py``; image files damaged in every way in
``tests/cli/test_damaged_files.py``; spoilt files of rows, and a disk that fills in the middle of
one, in ``tests/store/test_rows.py``.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from segbench.cli import main

DATA = "phantom-cxr:size=32,train_cases=6,test_cases=2"
MODEL = "unet:width=2,depth=2"
Call = Callable[..., Result]


@pytest.fixture(autouse=True)
def _own_config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEGBENCH_CONFIG_DIR", str(tmp_path / "config"))


def _call(*words: str | Path) -> Result:
    return CliRunner().invoke(main, [str(word) for word in words])


@pytest.fixture
def call() -> Call:
    """``call("report", "--workspace", folder)`` in this process."""
    return _call


@pytest.fixture(scope="session")
def _made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace in which every kind of file lies, but for a diagnosis."""
    root = tmp_path_factory.mktemp("faults") / "runs"
    at = ("--workspace", root)
    attack = ("attack", "-a", "noise", "-a", "uap:epochs=1,batch=3", "--save-adversarial")
    for line in (
        ("train", MODEL, "--dataset", DATA, "--epochs", "1", *at),
        (*attack, "--eps", "8/255", "--precision", "fp32", "--device", "cpu", *at),
        ("check", "--golden", root / "golden.csv", "--update", *at),
    ):
        done = _call(*line)
        assert done.exit_code == 0, done.output
    (root / "grid.toml").write_text('attacks = ["noise"]\neps = ["2/255"]\nreports = ["csv"]\n')
    return root


@pytest.fixture
def made(_made: Path, tmp_path: Path) -> Callable[[str], Path]:
    """A copy of that workspace under a name."""
    return lambda name: Path(shutil.copytree(_made, tmp_path / name))
