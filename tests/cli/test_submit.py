"""A grid as one array: its parts are the whole, a requeued task goes on, the script is shown."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
from click.testing import CliRunner

from segbench.cli import main
from segbench.evaluation.submission import Task
from segbench.store import rowfile
from segbench.store.rows import read_rows
from segbench.store.runs import read_runs
from segbench.store.workspace import Workspace

SAME = [name for name in rowfile.COLUMNS if name != "seconds"]
NETWORK = """
import os, time
import torch
from torch import nn

class Dark(nn.Module):
    def forward(self, images):
        time.sleep(float(os.environ.get("SEGBENCH_TEST_SLEEP", "0")))
        return 12 * (0.5 - nn.functional.avg_pool2d(images, {size}, 1, {pad}))

def build():
    return Dark()
"""
GRID = """
dataset = "phantom-cxr:size=32,train_cases=6,test_cases=5"
attacks = ["pgd:steps=2", "uap:epochs=1,batch=3"]
eps = ["4/255", "8/255"]
models = ["five.py:build", "nine.py:build"]
precision = "fp32"
device = "cpu"
batch_size = 1
pictures = false
"""


@pytest.fixture
def room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with two networks and a grid of ten cells and fifty scores."""
    monkeypatch.setenv("SEGBENCH_CONFIG_DIR", str(tmp_path / "config"))
    monkeypatch.chdir(tmp_path)
    for name, size in (("five", 5), ("nine", 9)):
        text = NETWORK.replace("{size}", str(size)).replace("{pad}", str(size // 2))
        (tmp_path / f"{name}.py").write_text(text)
    (tmp_path / "grid.toml").write_text(GRID)
    return tmp_path


def call(*arguments: str, status: int = 0) -> str:
    done = CliRunner().invoke(main, list(arguments))
    assert done.exit_code == status, done.output
    return done.output


def rows(root: Path) -> pd.DataFrame:
    return read_rows(Workspace(root))[SAME]


def slurm(folder: Path, monkeypatch: pytest.MonkeyPatch, answer: str) -> Path:
    """A stand-in for SLURM: ``sbatch`` keeps what it is given, and answers."""
    tools = folder / "bin"
    tools.mkdir()
    for name, text in (("srun", "exit 0"), ("sbatch", f'echo "$@" >> {folder}/called\n{answer}')):
        (tools / name).write_text(f"#!/bin/sh\n{text}\n")
        (tools / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools}:{os.environ['PATH']}")
    return folder / "called"


def test_the_script_is_printed_and_nothing_is_written(room: Path) -> None:
    pytest.importorskip("submitit")
    asked = ("--partition", "gpu", "--array", "3", "--gpus", "1", "--setup", "module load cuda")
    said = call("submit", "grid.toml", *asked, "--dry-run")
    script = said[said.index("#!") :].splitlines()
    for line in ("--array=0-2%3", "--partition=gpu", "--gpus-per-node=1", "--requeue",
                 "--signal=USR2@120", "--time=240"):  # fmt: skip
        assert f"#SBATCH {line}" in script
    assert "module load cuda" in script
    assert "submitit.core._submit" in script[-1]
    assert not (room / "runs" / "results" / "parts").exists()


def test_one_array_is_submitted_and_how_to_go_on_is_said(
    room: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("submitit")
    called = slurm(room, monkeypatch, 'echo "Submitted batch job 4242"')
    said = " ".join(call("submit", "grid.toml", "--array", "3").split())
    assert len(called.read_text().splitlines()) == 1
    assert "submitted 3 tasks as job 4242" in said
    assert "squeue --job 4242" in said
    assert "at the end: segbench report --workspace runs" in said
    logs = room / "runs" / "results" / "parts" / "logs"
    tasks = [pickle.loads(file.read_bytes()).function for file in logs.glob("4242_*.pkl")]
    assert len(tasks) == 3
    for task in tasks:  # what the tasks do, here one after another
        call(*task.arguments)
    assert "nothing is missing: 50 scores" in call("submit", "grid.toml")


def test_the_parts_are_the_whole_and_each_is_a_run_of_its_own(room: Path) -> None:
    from segbench.cli.planning import foresee
    from segbench.evaluation.grid_file import load_grid_file
    from segbench.evaluation.submission import deal_out, write_tasks

    call("run", "grid.toml", "--workspace", "whole")
    workspace = Workspace(room / "runs")
    seen = foresee(load_grid_file(Path("grid.toml")), workspace, 3)
    _, tasks = write_tasks(deal_out(seen), Path("grid.toml"), workspace, [])
    assert len(tasks) == 3
    for task in reversed(tasks):
        call(*task.arguments)
    assert " 0 scores computed" in call(*tasks[0].arguments)
    pd.testing.assert_frame_equal(rows(room / "runs"), rows(room / "whole"))
    assert "50 found" in " ".join(call("run", "grid.toml").split())


def test_a_part_of_something_else_is_refused(room: Path) -> None:
    from segbench.evaluation.parts import PlannedPart, write_part

    part = room / "part.json"
    for cases, said in (
        ({"five:build": {"0" * 32: ["cxr-test-00000"]}}, "changed since this part was planned"),
        ({"other": {"0" * 32: ["cxr-test-00000"]}}, "networks that are not asked for here"),
    ):
        write_part(part, PlannedPart(cases))
        said_here = call("run", "grid.toml", "--part", str(part), status=2)
        assert said in " ".join(said_here.split())
    part.write_text("{}")
    assert "damaged" in " ".join(call("run", "grid.toml", "--part", str(part), status=2).split())
    both = call("run", "grid.toml", "--part", str(part), "--shard", "1/2", status=2)
    assert "give one" in " ".join(both.split())


@pytest.mark.parametrize(
    ("answer", "said"),
    [("exit 1", "SLURM refused the array"), (None, "there is no SLURM here (srun is not found)")],
)
def test_where_slurm_does_not_take_it_it_is_one_sentence(
    room: Path, monkeypatch: pytest.MonkeyPatch, answer: str | None, said: str
) -> None:
    pytest.importorskip("submitit")
    if answer:
        slurm(room, monkeypatch, answer)
    assert said in " ".join(call("submit", "grid.toml", status=2).split())


def test_a_checkpoint_ends_the_run_and_is_the_same_task_again(tmp_path: Path) -> None:
    pytest.importorskip("submitit")
    task = Task(["list", "models"], tmp_path)
    task._process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    again = task.checkpoint().function
    assert (again.arguments, again.folder) == (task.arguments, tmp_path)
    assert task._process.wait(10) == -signal.SIGTERM


def children(pid: int) -> list[int]:
    file = Path(f"/proc/{pid}/task/{pid}/children")
    return [int(child) for child in file.read_text().split()] if file.exists() else []


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="looks for the tasks' processes in /proc")
def test_a_task_whose_time_is_up_goes_on_where_it_was(
    room: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("submitit")
    call("run", "grid.toml", "--workspace", "whole")
    monkeypatch.setenv("SEGBENCH_TEST_SLEEP", "0.2")
    from segbench.cli.planning import foresee
    from segbench.evaluation.grid_file import load_grid_file
    from segbench.evaluation.submission import Slurm, deal_out, write_tasks

    workspace = Workspace(room / "runs")
    seen = foresee(load_grid_file(Path("grid.toml")), workspace, 2)
    _, tasks = write_tasks(deal_out(seen), Path("grid.toml"), workspace, [])
    array = Slurm(room / "logs", {"time": 60}, 5, local=True)
    jobs = array.submit(tasks)
    while len(list(workspace.shards.glob("*.parquet"))) < 3:
        time.sleep(0.1)
    for job in jobs:
        [task] = children(int(job.job_id))
        os.kill(task, signal.SIGUSR2)  # what SLURM sends two minutes before the end
    for job in jobs:
        job.result()  # raises what the task raised
    said = "".join(path.read_text() for path in (room / "logs").glob("*.out"))
    assert said.count("Requeued job") == 2
    assert "ended by SIGTERM; everything finished is kept" in " ".join(said.split())
    statuses = [run.status for run in read_runs(workspace)]
    assert sorted(statuses) == ["done", "done", "interrupted", "interrupted"]
    pd.testing.assert_frame_equal(rows(room / "runs"), rows(room / "whole"))
