"""The commands as a user meets them: help, the whole line, and the promises of each."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from click.testing import CliRunner, Result

from segbench.cli import COMMANDS, main
from segbench.store.rows import read_rows
from segbench.store.workspace import Workspace

README = Path(__file__).resolve().parents[2] / "README.md"


def attack(segbench, workspace: Path, *more: str) -> Result:
    result = segbench("attack", "-a", "ifgsm", "--eps", "2/255,8/255", "--workspace", workspace,
                      *more)  # fmt: skip
    assert result.exit_code == 0, result.output
    return result


@pytest.fixture(scope="module")
def _attacked(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    workspace = Path(shutil.copytree(trained, tmp_path_factory.mktemp("attacked") / "runs"))
    attack(lambda *line: CliRunner().invoke(main, [*map(str, line)]), workspace)
    return workspace


@pytest.fixture
def attacked(_attacked: Path, tmp_path: Path) -> Path:
    """A workspace in which ``attack`` has been."""
    return Path(shutil.copytree(_attacked, tmp_path / "attacked"))


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_with_an_example_and_is_in_the_readme(segbench, name: str) -> None:
    result = segbench(name, "--help")
    assert result.exit_code == 0
    assert f"  segbench {name}" in result.output
    assert f"segbench {name}" in README.read_text()


@pytest.mark.parametrize(
    ("command", "heavy"),
    [
        ("--help", {"torch", "monai", "pandas", "numpy", "pyarrow", "scipy"}),
        ("list", {"monai", "art", "transformers", "pandas"}),  # plug-ins of ours import torch
    ],
)
def test_what_only_tells_imports_nothing_heavy(command: str, heavy: set[str]) -> None:
    code = (
        "import sys, segbench.cli\n"
        f"try: segbench.cli.main(['{command}'])\n"
        "except SystemExit: pass\n"
        "print(*sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not heavy & set(done.stdout.splitlines()[-1].split())


def test_attack_stores_falling_scores_and_report_writes_them(segbench, attacked, tmp_path) -> None:
    result = segbench("report", "--workspace", attacked, "--out", tmp_path / "out")
    assert result.exit_code == 0, result.output
    summary = pd.read_csv(tmp_path / "out" / "summary.csv")
    assert summary["clean"].item() > summary["2/255"].item() > summary["8/255"].item()
    text = (tmp_path / "out" / "report.md").read_text()
    assert "| unet-depth=2,width=4@" in text
    assert f"{summary['8/255'].item():.3f}" in text


def test_attack_shows_the_networks_that_it_attacked_and_report_all(
    segbench, attacked, tmp_path
) -> None:
    own = tmp_path / "threshold.py"
    own.write_text(
        "import torch\ndef build(in_channels):\n    return torch.nn.Conv2d(in_channels, 1, 1)\n"
    )
    data = "phantom-cxr:size=32,train_cases=2,test_cases=2"
    asked = ["-m", f"{own}:build", "--dataset", data]
    shown = attack(segbench, attacked, *asked).output
    assert "threshold:build" in shown
    assert "unet" not in shown
    everything = segbench("report", "--workspace", attacked, "--out", tmp_path / "out").output
    assert "threshold:build" in everything
    assert "unet" in everything


def test_a_second_attack_computes_nothing_and_changes_nothing(segbench, attacked) -> None:
    before = read_rows(Workspace(attacked))
    assert "0 scores computed, 18 found" in attack(segbench, attacked).output
    pd.testing.assert_frame_equal(read_rows(Workspace(attacked)), before)


def test_scores_do_not_depend_on_batch_size(segbench, workspace, trained, tmp_path) -> None:
    frames = []
    for size in (1, 4):
        copy = Path(shutil.copytree(trained, tmp_path / f"batch-{size}"))
        attack(segbench, copy, "--batch-size", str(size), "--precision", "fp32")
        frames.append(read_rows(Workspace(copy)).select_dtypes("float").drop(
            columns=["seconds", "created"]))  # fmt: skip
    pd.testing.assert_frame_equal(*frames, rtol=0, atol=1e-4)


def test_limit_takes_a_subset_of_the_same_scores(segbench, attacked, trained, tmp_path) -> None:
    few = Path(shutil.copytree(trained, tmp_path / "few"))
    attack(segbench, few, "--limit", "2")
    all_rows, some = read_rows(Workspace(attacked)), read_rows(Workspace(few))
    assert some["case_id"].nunique() == 2
    keys = ["attack", "budget", "case_id"]
    both = some.merge(all_rows, on=keys, suffixes=("", "_all"))
    assert len(both) == len(some)
    assert both["jaccard"].to_numpy() == pytest.approx(both["jaccard_all"].to_numpy(), abs=1e-3)


def test_check_passes_its_own_golden_file_and_fails_a_worse_score(
    segbench, attacked, tmp_path
) -> None:
    golden = tmp_path / "golden.csv"
    check = ("check", "--golden", golden, "--workspace", attacked)
    assert segbench(*check, "--update").exit_code == 0
    assert segbench(*check).exit_code == 0
    frame = pd.read_csv(golden)
    frame.loc[0, "value"] += 0.05  # so the stored score is now 0.05 below
    frame.to_csv(golden, index=False)
    result = segbench(*check)
    assert result.exit_code == 2  # its cases say something else
    assert "`segbench check --update` writes both" in result.output
    (tmp_path / "golden.cases.jsonl").unlink()
    result = segbench(*check)
    assert result.exit_code == 1
    assert "REGRESSION" in result.output
    assert "-0.0500" in result.output
    assert segbench(*check, "--tolerance", "0.06").exit_code == 0


def test_check_fails_where_a_row_is_missing(segbench, attacked, tmp_path) -> None:
    golden = tmp_path / "golden.csv"
    segbench("check", "--golden", golden, "--workspace", attacked, "--update")
    frame = pd.read_csv(golden)
    extra = frame.iloc[-1:].assign(attack="square")
    pd.concat([frame, extra]).to_csv(golden, index=False)
    result = segbench("check", "--golden", golden, "--workspace", attacked)
    assert result.exit_code == 1
    assert "MISSING" in result.output


def test_run_does_what_the_file_declares(segbench, tmp_path) -> None:
    grid = tmp_path / "grid.toml"
    grid.write_text(
        'dataset = "phantom-cxr:size=32,train_cases=8,test_cases=6"\n'
        'attacks = ["fgsm", "pgd:steps=2"]\neps = ["4/255", 0.03]\nseeds = [0, 1]\n'
        '[train]\nmodels = ["unet:width=2,depth=2"]\nepochs = 1\n'
    )
    result = segbench("run", grid, "--workspace", tmp_path / "runs")
    assert result.exit_code == 0, result.output
    rows = read_rows(Workspace(tmp_path / "runs"))
    cells = rows.groupby(["attack", "budget", "seed"]).ngroups
    assert cells == 1 + 2 * 2 * 2  # clean once; attacks x eps x seeds
    assert (tmp_path / "runs" / "reports" / "report.md").exists()


def test_an_option_that_is_given_its_default_goes_before_the_file(
    segbench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a run of the file stays in a pool that somebody has asked to leave."""
    grid = tmp_path / "grid.toml"
    grid.write_text('executor = "processes"\nworkers = 2\neps = [0.1]\nmodels = ["a.py:build"]\n')
    asked: list[Any] = []
    monkeypatch.setattr("segbench.cli.evaluation.show_plan", lambda grid, _: asked.append(grid))
    for options in ([], ["--executor", "local"], ["--executor", "processes", "--workers", "3"]):
        result = segbench("run", grid, "--plan", *options, "--workspace", tmp_path / "runs")
        assert result.exit_code == 0, result.output
    found = [(one.executor, one.workers) for one in asked]
    assert found == [("processes", 2), ("local", None), ("processes", 3)]


def test_list_names_every_plugin_with_its_parameters(segbench) -> None:
    found = json.loads(segbench("list", "--json").output)
    attacks = {entry["name"]: entry for entry in found["attacks"]}
    assert attacks["pgd"]["parameters"]["steps"] == {"type": "a whole number", "default": 40}
    assert {entry["name"] for entry in found["models"]} >= {"nlcen", "unet"}
    assert segbench("list", "models").exit_code == 0


def test_list_cells_counts_the_stored_cases(segbench, attacked) -> None:
    cells = json.loads(segbench("list", "cells", "--json", "--workspace", attacked).output)
    assert [cell["cases"] for cell in cells["cells"]] == [6, 6, 6]


def test_doctor_says_what_it_computes_with(segbench, tmp_path) -> None:
    result = segbench("doctor", "--workspace", tmp_path)
    assert result.exit_code == 0, result.output
    assert "gradients" in result.output
    assert "broken" not in result.output


def test_every_option_has_an_environment_variable(segbench, workspace, monkeypatch) -> None:
    monkeypatch.setenv("SEGBENCH_WORKSPACE", str(workspace))
    monkeypatch.setenv("SEGBENCH_ATTACK_EPS", "0.03")
    monkeypatch.setenv("SEGBENCH_ATTACK_ATTACK", "fgsm")
    assert segbench("attack").exit_code == 0
    assert set(read_rows(Workspace(workspace))["attack"]) == {"clean", "fgsm"}


def test_killed_in_the_middle_nothing_is_lost_and_nothing_doubled(
    segbench, workspace, trained, tmp_path
) -> None:
    """kill -9 as soon as some shards are there; the same command finishes the rest."""
    command = [
        "attack", "-a", "pgd:steps=3", "-a", "ifgsm", "--eps",
        "1/255,2/255,4/255,8/255,16/255,32/255", "--batch-size", "1", "--workspace",
    ]  # fmt: skip
    process = subprocess.Popen(
        [sys.executable, "-m", "segbench", *command, str(workspace)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    shards = workspace / "results" / "shards"
    deadline = time.monotonic() + 120
    while len(list(shards.glob("*.parquet"))) < 3 and process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.002)
    assert process.poll() is None, "finished before it could be killed"
    process.kill()
    process.wait()
    kept = {path.name: path.stat().st_mtime_ns for path in shards.glob("*.parquet")}
    found = len(read_rows(Workspace(workspace)))
    assert len(kept) <= found < 13 * 6
    done = segbench(*command, workspace)
    assert done.exit_code == 0, done.output
    assert f"{78 - found} scores computed, {found} found" in " ".join(done.stdout.split())
    rows = read_rows(Workspace(workspace))
    assert len(rows) == 13 * 6
    whole = Path(shutil.copytree(trained, tmp_path / "whole"))
    assert segbench(*command, whole).exit_code == 0
    expected = read_rows(Workspace(whole))
    scores = ["attack", "budget", "case_id", "jaccard", "dice", "linf", "l2"]
    pd.testing.assert_frame_equal(rows[scores], expected[scores])


def test_interruption_is_status_130(workspace) -> None:
    import signal

    command = [
        sys.executable, "-m", "segbench", "attack", "-a", "pgd:steps=100000",
        "--eps", "1/255", "--workspace", str(workspace),
    ]  # fmt: skip
    process = subprocess.Popen(
        command,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        # A runner in the background ignores interrupts, and its children would inherit that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    shards = workspace / "results" / "shards"
    deadline = time.monotonic() + 120
    with process:  # which would wait for ever if it did not stop, so:
        try:
            while not list(shards.glob("*.parquet")) and time.monotonic() < deadline:
                time.sleep(0.01)  # the clean shard: it is attacking now
            process.send_signal(signal.SIGINT)
            _, errors = process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == 130
    assert "everything finished is kept" in errors
    assert list(shards.glob("*.parquet"))


def test_runs_are_listed_and_a_damaged_record_condemns_no_other(segbench, attacked) -> None:
    attack(segbench, attacked)
    listed = json.loads(segbench("list", "runs", "--json", "--workspace", attacked).stdout)["runs"]
    assert [(run["run"], run["status"]) for run in listed] == [
        ("run-00001", "done"),
        ("run-00002", "done"),
    ]
    (attacked / "results" / "run-00001.json").write_text("{}")
    result = segbench("list", "runs", "--workspace", attacked)
    assert result.exit_code == 3
    assert "run-00002" in result.stdout
    assert "run-00001.json" in result.stderr


def test_a_shell_is_answered_and_told_nothing_else() -> None:
    asked = {"_SEGBENCH_COMPLETE": "bash_complete", "COMP_WORDS": "segbench re", "COMP_CWORD": "1"}
    script = Path(sys.executable).with_name("segbench")
    environment = {**os.environ, **asked}
    done = subprocess.run([script], env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "plain,report\n", "")


def test_an_attack_keeps_pictures_that_the_page_shows_and_no_score_depends_on_them(
    segbench, attacked, trained, tmp_path
) -> None:
    without = shutil.copytree(trained, tmp_path / "without")
    attack(segbench, without, "--no-pictures")
    frames = [read_rows(Workspace(place))["jaccard"] for place in (attacked, without)]
    pd.testing.assert_series_equal(*frames)
    assert not Workspace(without).pictures.exists()
    pages = {}
    for place in (attacked, without):
        result = segbench("report", "-f", "html", "--workspace", place)
        assert result.exit_code == 0, result.output
        pages[place] = (Path(place) / "reports" / "report.html").read_text(encoding="utf-8")
    assert pages[without].count("data:image/webp") == 0
    # Two eps of one attack, three cases each, three views of each.
    assert pages[attacked].count("data:image/webp") == 2 * 3 * 3
    assert "the worst case" in pages[attacked]
