"""Every command on a workspace in an object store; what cannot be is one sentence and status 2."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from click.testing import Result

import segbench
from segbench.store import objects, rowfile
from segbench.store.rows import read_rows
from segbench.store.runs import read_runs
from segbench.store.workspace import Workspace

DATA = "phantom-cxr:size=32,train_cases=6,test_cases=3"
NETWORK = "unet:width=2,depth=2"
TRAIN = ("train", NETWORK, "--dataset", DATA, "--epochs", "2")
GRID = (
    "attack", "-m", NETWORK, "-a", "pgd:steps=3", "-a", "uap:epochs=2,batch=3", "-a", "noise",
    "--eps", "4/255,8/255", "--save-adversarial", "--precision", "fp32", "--batch-size", "2",
)  # fmt: skip
SAME = [name for name in rowfile.COLUMNS if name != "seconds"]
Call = Callable[..., Result]
Machine = Callable[[str], Workspace]


def run(*words: object) -> subprocess.Popen[bytes]:
    """A process of its own, which has the environment of this one."""
    command = [sys.executable, "-m", "segbench", *map(str, words)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace on the disk, with the network and the whole grid."""
    from click.testing import CliRunner

    from segbench.cli import main

    root = tmp_path_factory.mktemp("folder") / "runs"
    for words in (TRAIN, GRID):
        done = CliRunner().invoke(main, [*words, "--workspace", str(root)])
        assert done.exit_code == 0, done.output
    return root


def upload(folder: Path, store: Any, *rooms: str) -> None:
    for room in rooms:
        for path in (folder / room).rglob("[!.]*"):
            if path.is_file():
                name = path.relative_to(folder).as_posix()
                store.upload_file(str(path), f"study/{name}")


def test_what_one_machine_trained_and_attacked_another_reads(
    call: Call, machine: Machine, url: str, folder: Path, store: Any
) -> None:
    upload(folder, store, "models")
    machine("one")
    at = ("--workspace", url)
    done = call(*GRID, *at)
    assert done.exit_code == 0, done.output
    assert f"found in {url}/results" in done.output
    other = machine("other")
    pd.testing.assert_frame_equal(read_rows(other)[SAME], read_rows(Workspace(folder))[SAME])
    again = call(*GRID, *at)
    assert "0 scores computed" in again.output, again.output
    assert [path.name for path in (other.root / "adversarial").glob("*/*.safetensors")]


@pytest.mark.slow
def test_every_command_that_reads_a_workspace_reads_this_one(
    call: Call, url: str, folder: Path, store: Any, tmp_path: Path
) -> None:
    upload(folder, store, "models", "results", "adversarial", "pictures")
    for words in (
        ("report", "-f", "csv", "-f", "html"),
        ("list", "runs"),
        ("list", "cells"),
        ("check", "--golden", tmp_path / "golden.csv", "--update"),
        ("check", "--golden", tmp_path / "golden.csv"),
        ("export", "--out", tmp_path / "images"),
        ("run", _grid_file(tmp_path), "--plan"),
    ):
        done = call(*words, "--workspace", url)
        assert done.exit_code == 0, (words, done.output)
    done = call("leaderboard", url, folder, "--out", tmp_path / "board")
    assert done.exit_code == 0, done.output
    keys = {found.key for found in store.objects.all()}
    assert {"study/reports/cases.csv", "study/reports/report.html"} <= keys
    assert (tmp_path / "images" / "written.csv").exists()


def _grid_file(folder: Path) -> Path:
    path = folder / "grid.toml"
    path.write_text(
        f'dataset = "{DATA}"\nmodels = ["{NETWORK}"]\nattacks = ["pgd:steps=3"]\neps = ["4/255"]\n'
    )
    return path


def test_it_lives_in_the_memory_of_one_process_too(call: Call) -> None:
    at = ("--workspace", "memory://study/one")
    noise = ("attack", "-a", "noise", "--eps", "4/255", "--precision", "fp32")
    for words in (TRAIN, noise, ("report", "-f", "csv")):
        done = call(*words, *at)
        assert done.exit_code == 0, done.output
    with pytest.warns(UserWarning, match="no better than"):  # two epochs
        result = segbench.evaluate(
            NETWORK, DATA, attacks=["noise"], eps=["4/255"], workspace="memory://study/one",
            precision="fp32",
        )  # fmt: skip
    assert len(result.cases) == 6
    done = call(*GRID, *at, "--executor", "processes", "--workers", "2")
    assert done.exit_code == 2
    assert "memory of this process" in " ".join(done.output.split())


def test_submit_names_the_command_that_serves(call: Call, url: str, tmp_path: Path) -> None:
    done = call("submit", _grid_file(tmp_path), "--workspace", url)
    assert done.exit_code == 2
    assert f"--shard I/N --workspace {url}" in " ".join(done.output.split())


@pytest.mark.parametrize(
    ("setting", "value", "place", "said"),
    [
        ("AWS_ENDPOINT_URL", "http://127.0.0.1:9", "s3://some/where", "Could not connect"),
        ("AWS_ACCESS_KEY_ID", "", "s3://{bucket}/study", "credentials"),
        ("", "", "s3://no-such-bucket/study", "there is no bucket 'no-such-bucket'; create it"),
        ("", "", "ftp://host/study", "expected a folder, s3://BUCKET/NAME"),
    ],
)
@pytest.mark.parametrize("command", ["report", "attack -a noise --eps 1/255"])
def test_a_place_that_cannot_be_is_one_sentence(
    call: Call, bucket: str, monkeypatch: pytest.MonkeyPatch, command: str,
    setting: str, value: str, place: str, said: str,
) -> None:  # fmt: skip
    s3fs = pytest.importorskip("s3fs")
    if setting:
        monkeypatch.setenv(setting, value)
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")  # how long it is waited for is others' to choose
    monkeypatch.setattr(s3fs.S3FileSystem, "retries", 1)
    begun = time.monotonic()
    done = call(*command.split(), "--workspace", place.format(bucket=bucket))
    assert done.exit_code == 2, done.output
    assert said in " ".join(done.output.split())
    assert "Traceback" not in done.output
    assert time.monotonic() - begun < 60


def test_a_missing_package_is_named(call: Call, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import fsspec

    def absent(*_: object, **__: object) -> None:
        raise ImportError("Install s3fs to access S3")

    monkeypatch.setattr(fsspec, "filesystem", absent)
    done = call("report", "--workspace", url)
    assert done.exit_code == 2
    assert "pip install 'segbench[remote]'" in " ".join(done.output.split())


def test_one_that_may_only_be_read_shows_what_is_there(
    call: Call, url: str, folder: Path, store: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload(folder, store, "models", "results")

    def refused(*_: object, **__: object) -> None:
        raise PermissionError("Access Denied")

    opened = objects._open

    def read_only(scheme: str, place: str) -> Any:
        fs = opened(scheme, place)
        fs.put_file = refused
        return fs

    monkeypatch.setattr(objects, "_open", read_only)
    done = call(*[word for word in GRID if word != "--save-adversarial"], "--workspace", url)
    assert done.exit_code == 0, done.output
    assert "cannot be written, so nothing was recorded" in " ".join(done.output.split())
    for words in (("attack", "-a", "fgsm", "--eps", "1/255"), (*TRAIN[:-1], "1", "--force")):
        done = call(*words, "--workspace", url)
        assert done.exit_code == 2, done.output
        assert "cannot be written" in done.output


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="kills by signal")
def test_killed_at_many_moments_the_store_is_whole_and_the_next_run_goes_on(
    machine: Machine, url: str, folder: Path, store: Any
) -> None:
    """Train, attack, killed again and again, every other time on a new machine, report."""
    machine("one")
    train = run(*TRAIN, "--workspace", url)
    output, _ = train.communicate()
    assert train.returncode == 0, output.decode()
    kills, patience, done = 0, 1.0, False
    while not done:
        machine(f"killed{kills}" if kills % 2 else "one")
        process = run(*GRID, "--workspace", url)
        try:
            output, _ = process.communicate(timeout=patience)
            assert process.returncode == 0, output.decode()
            done = True
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            kills, patience = kills + 1, patience * 1.25
    assert kills > 2
    new = machine("new")
    pd.testing.assert_frame_equal(read_rows(new)[SAME], read_rows(Workspace(folder))[SAME])
    assert read_runs(new)[-1].status == "done"
    assert not [key for found in store.objects.all() if (key := found.key).endswith(".tmp")]


@pytest.mark.slow
@pytest.mark.parametrize("remote", [True, False])
def test_two_grids_and_a_report_at_once(
    machine: Machine, url: str, folder: Path, store: Any, tmp_path: Path, remote: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Of two grids that overlap; in a store each from a machine of its own."""
    upload(folder, store, "models")
    local = tmp_path / "runs"
    shutil.copytree(folder / "models", local / "models")
    where = url if remote else local
    halves = [[*GRID[:7], *GRID[9:]], [*GRID[:3], *GRID[5:]]]  # without noise, without pgd
    processes = []
    for number, words in enumerate(halves):
        machine(f"machine{number}")
        processes.append(run(*words, "--workspace", where))
    machine("reader")
    reports = []
    while any(process.poll() is None for process in processes):
        report = run("report", "-f", "csv", "--workspace", where, "--out", tmp_path / "tables")
        output, _ = report.communicate()
        reports.append((report.returncode, output.decode()))
    for process in processes:
        output, _ = process.communicate()
        assert process.returncode == 0, output.decode()
    for status, output in reports:
        assert status == 0 or "the workspace holds no results" in output, output
    rows = read_rows(machine("new") if remote else Workspace(local))
    pd.testing.assert_frame_equal(rows[SAME], read_rows(Workspace(folder))[SAME])
    assert (
        len({run.number for run in read_runs(Workspace(local) if not remote else machine("new"))})
        == 2
    )


@pytest.mark.slow
def test_workers_and_shards_share_it(
    call: Call, machine: Machine, url: str, folder: Path, store: Any
) -> None:
    upload(folder, store, "models")
    machine("one")
    shard = call(*GRID, "--shard", "1/2", "--workspace", url)
    assert shard.exit_code == 0, shard.output
    machine("other")
    done = call(
        *GRID, "--executor", "processes", "--workers", "2", "--device", "cpu", "--workspace", url
    )
    assert done.exit_code == 0, done.output
    assert "scores computed" in done.output
    pd.testing.assert_frame_equal(
        read_rows(machine("new"))[SAME], read_rows(Workspace(folder))[SAME]
    )
