"""Runs: a record from the start on, numbered by the store itself."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from segbench.errors import UserError
from segbench.store.alive import this_process
from segbench.store.rows import append_shard
from segbench.store.runs import begin_run, read_runs, write_run
from segbench.store.workspace import Workspace


@pytest.fixture
def workspace(tmp_path):
    return Workspace(tmp_path / "runs")


def test_a_record_comes_back_as_it_was_last_written(workspace, run_record):
    begun = begin_run(workspace, run_record())
    assert read_runs(workspace) == [begun]
    done = begun.model_copy(update={"status": "done", "options": {"eps": ["8/255"], "x": None}})
    write_run(workspace, done)
    assert read_runs(workspace) == [done]


def test_runs_are_numbered_in_the_order_in_which_they_began(workspace, run_record):
    with ThreadPoolExecutor(8) as pool:
        begun = list(pool.map(lambda _: begin_run(workspace, run_record()), range(24)))
    assert sorted(record.number for record in begun) == list(range(1, 25))
    assert [record.number for record in read_runs(workspace)] == list(range(1, 25))


def test_a_number_whose_record_was_removed_is_not_given_again(workspace, run_record, row):
    append_shard(workspace, "a0", 7, {}, [row()])
    assert begin_run(workspace, run_record()).number == 8


def test_a_run_whose_process_is_gone_was_killed(run_record):
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    here = platform.node()
    assert run_record(host=here, pid=process.pid).state == "killed"
    assert run_record(host=here, pid=os.getpid()).state == "running"
    assert run_record(host="elsewhere", pid=process.pid).state == "running"
    assert run_record(host=here, pid=process.pid, status="done").state == "done"


def test_a_run_on_another_machine_of_this_name_was_not_killed(run_record):
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    own = this_process()
    gone = {"host": own.host, "pid": process.pid, "process_started": own.started}
    assert run_record(**gone, machine=own.machine).state == "killed"
    assert run_record(**gone, machine="another boot").state == "running"


@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"cells": 5}', "[" * 100_000])
def test_a_spoilt_record_is_named_and_condemns_no_other(workspace, run_record, content):
    begun = begin_run(workspace, run_record())
    spoilt = workspace.results / "run-00002.json"
    spoilt.write_text(content)
    with pytest.raises(UserError, match=r"run-00002\.json"):
        read_runs(workspace)
    damaged: list[str] = []
    assert read_runs(workspace, damaged) == [begun]
    assert len(damaged) == 1


def test_one_flipped_bit_of_a_record_is_found(workspace, run_record):
    begin_run(workspace, run_record())
    path = workspace.results / "run-00001.json"
    content = path.read_bytes()
    for place in range(0, len(content), 7):
        spoilt = bytearray(content)
        spoilt[place] ^= 4
        path.write_bytes(bytes(spoilt))
        with pytest.raises(UserError, match=r"run-00001\.json"):
            read_runs(workspace)


def test_the_record_of_an_older_segbench_is_set_aside_and_not_read(workspace):
    workspace.results.mkdir(parents=True)
    (workspace.results / "20240101-120000-abcdef.json").write_text("{}")
    with pytest.raises(UserError, match="older segbench"):
        read_runs(workspace, [])
