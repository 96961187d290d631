"""Killed at any moment: nothing is lost, nothing doubled, rows equal to an uninterrupted run."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
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
ONE_EPS = [word.replace("4/255,", "") for word in GRID]  # where it is run again and again
KILLS = int(os.environ.get("SEGBENCH_TEST_KILLS", "100"))
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
    done = CliRunner().invoke(main, [*ONE_EPS, "--workspace", str(root)])
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
                done = CliRunner().invoke(main, [*ONE_EPS, "--workspace", str(root)])
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


@dataclass(frozen=True)
class Pool:
    """How the grid is computed: ``workers`` gives those of a run by its process id."""

    options: list[str]
    environment: dict[str, str]
    workers: Callable[[int], list[int]]


def children_of(process: int) -> list[int]:
    return [*map(int, Path(f"/proc/{process}/task/{process}/children").read_text().split())]


def is_actor(process: int) -> bool:
    """Whether it is one of Ray's that a pool has taken; an idle one bears another name."""
    with suppress(OSError):
        return Path(f"/proc/{process}/cmdline").read_bytes().startswith(b"ray::Worker")
    return False


@pytest.fixture(params=["local", "processes", "ray"])
def pool(request: pytest.FixtureRequest) -> Iterator[Pool]:
    """One process, a pool of two, or actors of a cluster that outlives every run."""
    workers = ["--executor", request.param, "--workers", "2"]
    if request.param != "ray":
        yield Pool(workers if request.param == "processes" else [], {}, children_of)
        return
    pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    node = {"num_cpus": 2, "object_store_memory": 2**27, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args=node)
    raylet = cluster.head_node.all_processes["raylet"][0].process.pid

    def actors(_: int) -> list[int]:
        # A driver's death is known to the cluster a little later; its actors end by themselves.
        return [process for process in children_of(raylet) if is_actor(process)]

    try:
        yield Pool(workers, {"RAY_ADDRESS": cluster.address}, actors)
    finally:
        cluster.shutdown()


def kill_some(process: subprocess.Popen[bytes], pool: Pool, chance: random.Random) -> str:
    """The process, or one of its workers, of which the run must think nothing; which it was."""
    workers = pool.workers(process.pid)
    if workers and chance.random() < 0.5:
        with suppress(ProcessLookupError):
            os.kill(chance.choice(workers), signal.SIGKILL)
        process.wait()
        return "worker"
    process.send_signal(signal.SIGKILL)
    return "run"


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # Ray's own, in the process that holds the node
@pytest.mark.skipif(sys.platform != "linux", reason="kills its children")
def test_a_hundred_kills_at_random_moments(trained: Path, tmp_path: Path, pool: Pool) -> None:
    undisturbed, environment = copy_of(trained, tmp_path / "whole"), os.environ | pool.environment
    begun = time.monotonic()
    command = [sys.executable, "-m", "segbench", *GRID, *pool.options, "--workspace"]
    whole = [*command, str(undisturbed)]
    subprocess.run(whole, capture_output=True, check=True, env=environment)
    length = time.monotonic() - begun
    expected = rows_of(undisturbed)
    chance, killed, turn = random.Random(0), Counter[str](), 0
    while killed.total() < KILLS:
        root, done = copy_of(trained, tmp_path / f"turn{turn}"), False
        turn += 1
        while not done:
            with subprocess.Popen(
                [*command, str(root)],
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env=environment,
            ) as process:
                time.sleep(length * chance.uniform(0.3, 1.0))  # the rest is imports
                if process.poll() is None:
                    killed[kill_some(process, pool, chance)] += 1
            done = process.returncode == 0
        pd.testing.assert_frame_equal(rows_of(root)[SAME], expected[SAME])
        states = [run.state for run in read_runs(Workspace(root))]
        assert states[-1] == "done"
        assert set(states) <= {"killed", "done"}  # killed while it showed its tables
    print(f"killed: {dict(killed)} in {turn} workspaces")
