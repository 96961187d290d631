"""Whoever works off a grid, and in whatever parts: the same rows, and one bad case costs itself."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import pytest
from click.testing import CliRunner, Result

from segbench.cli import main
from segbench.errors import UserError
from segbench.evaluation.executors.choose import find_seats
from segbench.evaluation.executors.processes import Processes
from segbench.evaluation.executors.processes import _Worker as Worker
from segbench.evaluation.executors.serving import Seat
from segbench.evaluation.pieces import (
    CASES_AT_ONCE,
    Piece,
    Shard,
    own_cases,
    parse_shard,
)
from segbench.evaluation.records import validated
from segbench.evaluation.request import Request
from segbench.evaluation.schedule import Queue
from segbench.store import rowfile
from segbench.store.rows import read_rows
from segbench.store.runs import read_runs
from segbench.store.workspace import Workspace

SAME = [name for name in rowfile.COLUMNS if name != "seconds"]
# A worker that imports the compiler, for whatever reason, starts a second later.
NETWORK = """
import multiprocessing, os, sys, time
import torch
from torch import nn

class Dark(nn.Module):
    def forward(self, images):
        assert not (multiprocessing.parent_process() and "torch._dynamo" in sys.modules)
        bad = os.environ.get("SEGBENCH_TEST_BAD")
        if bad and any(abs(float(one.detach().mean()) - float(bad)) < 1e-6 for one in images):
            {what}
        return 12 * (0.5 - nn.functional.avg_pool2d(images, 5, 1, 2))

def build():
    return Dark()
"""
DATA = "phantom-cxr:size=32,train_cases=6,test_cases=5"
HOW = ["--dataset", DATA, "--precision", "fp32", "--batch-size", "1"]
GRID = ["-a", "pgd:steps=2", "-a", "uap:epochs=1,batch=3", "--eps", "4/255,8/255", *HOW]
SMALL = ["-a", "pgd:steps=2", "--eps", "4/255", *HOW]
POOL = ["--executor", "processes", "--workers", "2"]


def attack(root: Path, *more: str, what: str = "os._exit(5)", grid: Sequence[str] = GRID) -> Result:
    file = root.parent / "net.py"
    file.write_text(NETWORK.replace("{what}", what))
    command = ["attack", "-m", f"{file}:build", *grid, "--workspace", str(root), *more]
    return CliRunner().invoke(main, command)


def rows(root: Path) -> pd.DataFrame:
    return read_rows(Workspace(root))[SAME]


def mean_of_a_case(number: int) -> str:
    from segbench.data import open_dataset

    dataset = open_dataset(DATA, None)
    return str(float(dataset.load(dataset.entries("test")[number].case_id).image.mean()))


def test_several_processes_and_parts_give_the_rows_of_one(tmp_path: Path) -> None:
    assert attack(tmp_path / "one").exit_code == 0
    many = attack(tmp_path / "many", *POOL)
    assert many.exit_code == 0, many.output
    assert "25 scores computed" in many.output
    computed = []
    for part in ("2/3", "1/3", "3/3"):
        done = attack(tmp_path / "parts", "--shard", part)
        assert done.exit_code == 0, done.output
        computed.append(int(done.output.split(" scores computed")[0].split()[-1]))
    assert sum(computed) == 25
    assert min(computed) > 0
    for other in ("many", "parts"):
        pd.testing.assert_frame_equal(rows(tmp_path / "one"), rows(tmp_path / other))


def test_a_case_that_ends_its_process_is_named_and_costs_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SEGBENCH_TEST_BAD", mean_of_a_case(2))
    done = attack(tmp_path / "runs", *POOL, grid=SMALL)
    assert done.exit_code == 3, done.output
    [run] = read_runs(Workspace(tmp_path / "runs"))
    failed = {(f.case_id, f.reason) for f in run.failures}
    assert failed == {("cxr-test-00002", "ended the process that computed it (status 5)")}
    assert "clean" in {f.attack for f in run.failures}
    left_out = len(run.failures)
    assert len(rows(tmp_path / "runs")) == 10 - left_out
    assert {name for name in rows(tmp_path / "runs")["case_id"] if name != "cxr-test-00002"} == {
        f"cxr-test-0000{n}" for n in (0, 1, 3, 4)
    }
    monkeypatch.delenv("SEGBENCH_TEST_BAD")
    again = attack(tmp_path / "runs", grid=SMALL)
    assert again.exit_code == 0
    assert f"{left_out} scores computed, {10 - left_out} found" in again.output


@pytest.mark.slow
def test_a_case_that_never_ends_is_named_and_costs_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SEGBENCH_TEST_BAD", mean_of_a_case(2))
    done = attack(tmp_path / "runs", *POOL, "--case-timeout", "10", what="time.sleep(1000)")
    assert done.exit_code == 3, done.output
    assert "took longer than 10 s a case" in done.output
    assert set(rows(tmp_path / "runs")["case_id"]) >= {f"cxr-test-0000{n}" for n in (0, 1, 3, 4)}


def started(root: Path, *more: str) -> subprocess.Popen[bytes]:
    """The same command in a process of its own, each question to the network taking a while."""
    file = root.parent / "net.py"
    file.write_text(NETWORK.replace("{what}", "pass"))
    command = [sys.executable, "-m", "segbench", "attack", "-m", f"{file}:build", *GRID,
               "--workspace", str(root), *more]  # fmt: skip
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def wait_for_shards(root: Path, count: int, process: subprocess.Popen[bytes]) -> None:
    shards = root / "results" / "shards"
    while len(list(shards.glob("*.parquet"))) < count:
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="looks for the workers in /proc")
def test_a_worker_that_is_killed_loses_nothing_and_doubles_nothing(tmp_path: Path) -> None:
    assert attack(tmp_path / "one", what="pass").exit_code == 0
    root = tmp_path / "runs"
    with started(root, *POOL) as process:
        wait_for_shards(root, 2, process)
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        said = {pid: Path(f"/proc/{pid}/cmdline").read_bytes() for pid in children}
        workers = [pid for pid, command in said.items() if b"spawn_main" in command]
        assert len(workers) == 2
        os.kill(int(workers[0]), signal.SIGKILL)
        output = process.communicate()[0].decode()
    assert process.returncode == 0, output
    assert "25 scores computed" in " ".join(output.split())
    [run] = read_runs(Workspace(root))
    assert (run.status, run.failures) == ("done", ())
    pd.testing.assert_frame_equal(rows(tmp_path / "one"), rows(root))


@pytest.mark.slow
def test_parts_started_together_one_of_them_killed_and_started_again(tmp_path: Path) -> None:
    assert attack(tmp_path / "one", what="pass").exit_code == 0
    root = tmp_path / "runs"
    with started(root, "--shard", "1/2") as first, started(root, "--shard", "2/2") as second:
        wait_for_shards(root, 1, first)
        first.kill()
        first.communicate()
        said = second.communicate()[0].decode()
        assert second.returncode == 0, said
    with started(root, "--shard", "1/2") as again:
        more = again.communicate()[0].decode()
        assert again.returncode == 0, more
    assert attack(root, what="pass").exit_code == 0
    found = attack(root, what="pass").output
    assert "0 scores computed, 25 found" in " ".join(found.split())
    states = [run.state for run in read_runs(Workspace(root))]
    assert states.count("killed") <= 1
    pd.testing.assert_frame_equal(rows(tmp_path / "one"), rows(root))


@pytest.mark.skipif(sys.platform != "linux", reason="sends itself a signal")
def test_a_signal_ends_a_run_with_its_status_and_a_word(tmp_path: Path) -> None:
    file = tmp_path / "net.py"
    file.write_text(NETWORK.replace("{what}", "pass"))
    command = [sys.executable, "-m", "segbench", "attack", "-m", f"{file}:build", "-a",
               "pgd:steps=100000", "--eps", "4/255", "--dataset", DATA, "--workspace",
               str(tmp_path / "runs")]  # fmt: skip
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        while process.poll() is None and not list((tmp_path / "runs").glob("results/shards/*")):
            time.sleep(0.1)
        process.send_signal(signal.SIGTERM)
        output = process.communicate()[0].decode()
    assert process.returncode == 128 + signal.SIGTERM, output
    assert "ended by SIGTERM; everything finished is kept, the same command goes on" in output
    [run] = read_runs(Workspace(tmp_path / "runs"))
    assert (run.status, run.reason) == ("interrupted", "SIGTERM")
    assert not list(tmp_path.rglob("*.tmp"))


class Told:
    """Is told what begins."""

    def __init__(self) -> None:
        self.begun: list[Piece] = []

    def begin(self, piece: Piece) -> None:
        self.begun.append(piece)

    def tell(self, word: str, value: object) -> None: ...


def test_a_worker_that_died_with_nothing_to_do_is_replaced_and_no_case_is_blamed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = multiprocessing.get_context("spawn")
    seat = Seat("cpu", 1)
    pool = Processes(Request(), Workspace(tmp_path), 1, [seat])

    def begin(_seat: Seat) -> Worker:
        here, there = context.Pipe()
        process = context.Process(target=time.sleep, args=(0,))
        process.start()
        worker = Worker(process, here, _seat)
        pool._workers.append(worker)
        ends.append(there)
        return worker

    ends: list[object] = []
    monkeypatch.setattr(pool, "_begin", begin)
    pool._idle.clear()
    dead = begin(seat)
    dead.process.join()
    told = Told()
    queue = Queue()
    queue.add("unet", [Piece("unet", 0, ("key",), {"a": (0,)})])
    pool._hand_out(queue, told)
    assert dead not in pool._workers
    assert dead.piece is None
    [alive] = pool._workers
    assert alive.piece is told.begun[0]
    alive.stop()


@pytest.mark.parametrize("fitted", [False, True])
@pytest.mark.parametrize("of", [1, 2, 3, 7, 40])
def test_parts_of_a_grid_are_disjoint_and_together_the_whole(of: int, fitted: bool) -> None:
    groups = [[f"a{n}" for n in range(19)], [f"b{n}" for n in range(3)]]
    everything = [name for group in groups for name in group]
    for cell in range(4):
        parts = [
            own_cases(groups, cell, 1, Shard(number, of), fitted=fitted)
            for number in range(1, of + 1)
        ]
        assert sorted(name for part in parts for name in part) == sorted(everything)
        assert not fitted or sum(map(bool, parts)) == 1
        assert fitted or all(len(part) <= CASES_AT_ONCE * -(-4 // of) for part in parts)


def test_parts_share_the_cells_evenly() -> None:
    groups = [[str(n) for n in range(64)]]
    counts = [
        sum(len(own_cases(groups, c, 0, Shard(n, 5), fitted=False)) for c in range(10))
        for n in range(1, 6)
    ]
    assert max(counts) - min(counts) <= CASES_AT_ONCE


@pytest.mark.parametrize("text", ["0/3", "4/3", "3", "a/b", "1/0", "-1/3", "1/2/3", ""])
def test_what_is_no_part_is_refused(text: str) -> None:
    with pytest.raises(UserError, match="expected one such as 3/16"):
        parse_shard(text)


def test_a_piece_is_cut_without_loss() -> None:
    piece = Piece("unet", 1, ("key",), {str(n): (0,) for n in range(5)})
    cut = list(piece.cut(2))
    assert [list(part.lacking) for part in cut] == [["0", "1"], ["2", "3"], ["4"]]
    assert sum(part.scores for part in cut) == piece.scores == 5


def test_workers_share_the_threads_of_this_machine() -> None:
    import torch

    seats = find_seats(validated(Request, {"executor": "processes", "workers": 3, "device": "cpu"}))
    assert [seat.device for seat in seats] == ["cpu"] * 3
    assert all(seat.threads == max(1, torch.get_num_threads() // 3) for seat in seats)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--workers", "2"], "workers belongs to a pool of workers: executor processes or ray"),
        (["--case-timeout", "3"], "case-timeout belongs to a pool"),
        ([*POOL, "--devices", "cpu", "--device", "cpu"], "give one"),
        ([*POOL, "--devices", "tpu9"], "tpu9"),
        (["--executor", "ray", "--devices", "cuda:0"], "Ray deals out the GPUs itself"),
        (["--shard", "3/2"], "expected one such as 3/16"),
        ([*POOL, "--case-timeout", "-1"], "case_timeout = -1.0; expected a number above 0"),
        (["--shard", "1/2", "--until-settled"], "whole grid"),
    ],
)
def test_options_that_do_not_go_together_are_one_sentence(
    tmp_path: Path, more: list[str], said: str
) -> None:
    done = attack(tmp_path / "runs", *more)
    assert done.exit_code == 2, done.output
    assert said in " ".join(done.output.split())
    assert not os.path.exists(tmp_path / "runs" / "results" / "shards")


def test_what_is_in_memory_cannot_be_handed_to_other_processes() -> None:
    import torch

    import segbench

    data = (torch.rand(2, 1, 16, 16), torch.zeros(2, 16, 16, dtype=torch.long))
    with pytest.raises(UserError, match="named by text"):
        segbench.evaluate(torch.nn.Conv2d(1, 2, 1), data, attacks=["fgsm"], eps=["1/255"],
                          executor="processes")  # fmt: skip
