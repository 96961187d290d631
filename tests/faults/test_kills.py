"""Killed at any moment: nothing is lost, nothing doubled, rows equal to an uninterrupted run."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from click.testing import CliRunner

from segbench import atomic
from segbench.cli import main
from segbench.store import rowfile
from segbench.store.rows import read_rows
from segbench.store.runs import read_runs
from segbench.store.workspace import Workspace
from segbench.tables.load import load_tables

DATA = "phantom-cxr:size=32,train_cases=6,test_cases=5"
NETWORK = "unet:width=2,depth=2"
GRID = [
    "attack", "-m", NETWORK, "-a", "pgd:steps=3", "-a", "dag:steps=4", "-a", "noise",
    "-a", "uap:epochs=2,batch=3", "-a", "patch:area=0.1,epochs=2,batch=3",
    "-a", f'transfer:source="{NETWORK}",attack="pgd:steps=3"',
    "--eps", "4/255,8/255", "--save-adversarial", "--precision", "fp32", "--batch-size", "2",
]  # fmt: skip
SAME = [name for name in rowfile.COLUMNS if name != "seconds"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace with a network, and the rows of the grid in a second one."""
    root = tmp_path_factory.mktemp("kills")
    train = ["train", NETWORK, "--dataset", DATA, "--epochs", "2", "--workspace", str(root / "a")]
    done = CliRunner().invoke(main, train)
    assert done.exit_code == 0, done.output
    return root / "a"


def copy_of(trained: Path, to: Path) -> Path:
    import shutil

    return Path(shutil.copytree(trained, to))


def rows_of(root: Path) -> pd.DataFrame:
    return read_rows(Workspace(root))


def whole(trained: Path, to: Path) -> pd.DataFrame:
    """The rows of a run that nobody disturbed."""
    root = copy_of(trained, to)
    done = CliRunner().invoke(main, [*GRID, "--workspace", str(root)])
    assert done.exit_code == 0, done.output
    return rows_of(root)


class Killed(BaseException):
    """Stops everything, as a kill would, at a place that the test chose."""


def test_stopped_at_every_durable_operation_the_next_run_goes_on(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = whole(trained, tmp_path / "whole")
    root = copy_of(trained, tmp_path / "killed")
    for stopped in range(200):
        calls = 0

        def dying(call: Any, *arguments: Any, at: int = stopped, **more: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls > 1 + at % 5:  # a few operations further each time
                raise Killed
            return call(*arguments, **more)

        with monkeypatch.context() as patched:
            for name in ("replace", "link"):
                call = getattr(os, name)
                patched.setattr(atomic.os, name, lambda *a, call=call, **m: dying(call, *a, **m))
            try:
                done = CliRunner().invoke(main, [*GRID, "--workspace", str(root)])
            except Killed:
                continue
        if done.exit_code == 0:
            break
        rows = rows_of(root)
        assert not rows.duplicated(["cell", "case_sha256", "class_id"]).any()
    assert stopped > 10
    pd.testing.assert_frame_equal(rows_of(root)[SAME], expected[SAME])
    assert read_runs(Workspace(root))[-1].status == "done"
    shown = load_tables(Workspace(root)).rows
    assert len(shown) == len(expected)


def kill_some(process: subprocess.Popen[bytes], chance: random.Random) -> None:
    """The process, or one of its workers, of which the run must think nothing."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    if children and chance.random() < 0.5:
        with suppress(ProcessLookupError):
            os.kill(int(chance.choice(children)), signal.SIGKILL)
        process.wait()
    else:
        process.send_signal(signal.SIGKILL)


@pytest.mark.slow
@pytest.mark.parametrize("executor", ["local", "processes"])
@pytest.mark.skipif(sys.platform != "linux", reason="kills its children")
def test_a_hundred_kills_at_random_moments(trained: Path, tmp_path: Path, executor: str) -> None:
    undisturbed = copy_of(trained, tmp_path / "whole")
    begun = time.monotonic()
    workers = ["--executor", "processes", "--workers", "2"] if executor == "processes" else []
    command = [sys.executable, "-m", "segbench", *GRID, *workers, "--workspace"]
    subprocess.run([*command, str(undisturbed)], capture_output=True, check=True)
    length = time.monotonic() - begun
    expected = rows_of(undisturbed)
    chance, kills, turn = random.Random(0), 0, 0
    while kills < 100:
        root, done = copy_of(trained, tmp_path / f"turn{turn}"), False
        turn += 1
        while not done:
            with subprocess.Popen(
                [*command, str(root)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            ) as process:
                time.sleep(length * chance.uniform(0.3, 1.0))  # the rest is imports
                if process.poll() is None:
                    kill_some(process, chance)
                    kills += 1
            done = process.returncode == 0
        pd.testing.assert_frame_equal(rows_of(root)[SAME], expected[SAME])
        states = [run.state for run in read_runs(Workspace(root))]
        assert states[-1] == "done"
        assert set(states) <= {"killed", "done"}  # killed while it showed its tables
