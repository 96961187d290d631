"""What others wrote is shown as text, and a lost reader or a poor terminal decides nothing."""

from __future__ import annotations

import io
import os
import re
import shutil
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from brief import shorten_suites
from click.testing import CliRunner, Result
from PIL import Image

from segbench.cli import COMMANDS, main
from segbench.cli.consoles import PlainConsole, coloured
from segbench.cli.terminal import plain

HOSTILE = "a[/x][bold]:bug:\x1b[2J\x1b]0;title\x07\x9b2J\u202etxt.b"
SHOWN = r"a[/x][bold]:bug:\x1b[2J\x1b]0;title\x07\x9b2J\u202etxt.b"
NAME = HOSTILE.rpartition("/")[2]  # of a file
UNSAFE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
NETWORK = "from torch import nn\ndef build(): return nn.Conv2d(1, 1, 3, padding=1)\n"
DATA = "phantom-cxr:size=32,train_cases=24,test_cases=6"


def refused(result: Result, status: int, *words: str) -> str:
    """The one sentence of a refusal."""
    assert result.exit_code == status, result.output
    sentences = [line for line in result.stderr.splitlines() if line.startswith("Error:")]
    assert len(sentences) == 1, result.stderr
    for word in words:
        assert word in sentences[0]
    return sentences[0]


def test_controls_and_directions_are_written_out_and_all_else_stays() -> None:
    assert plain(HOSTILE) == SHOWN
    assert plain("\x85\u2067\u2028\x7f\r") == r"\x85\u2067\u2028\x7f\x0d"
    honest = "Ünet · 肺 \t|\n – … 🫁 \u200d[red]"
    assert plain(honest) == honest


def test_a_console_shows_strings_as_they_are() -> None:
    from rich.table import Table

    console = PlainConsole()
    console.file = io.StringIO()
    table = Table(title=HOSTILE)
    table.add_column(HOSTILE)
    table.add_row(HOSTILE)
    console.print(table)
    console.print(HOSTILE, soft_wrap=True)
    console.print(coloured(HOSTILE, "red", HOSTILE), soft_wrap=True)
    found = console.file.getvalue()
    assert not UNSAFE.search(found)
    assert found.count("[/x][bold]:bug:") == 6


# --------------------------------------------------------------------- hostile names, every command


@pytest.fixture
def hostile(workspace: Path, tmp_path: Path) -> Path:
    """A folder of a hostile name: in it a workspace, a network, a data set, all so named."""
    place = tmp_path / HOSTILE
    place.mkdir(parents=True)
    models = (workspace / "models").rename(tmp_path / "models")
    (place / "runs").mkdir()
    shutil.copytree(models, place / "runs" / "models")
    shutil.copytree(next(models.iterdir()), place / NAME)
    (place / "net.py").write_text(NETWORK)
    halves = np.repeat(np.array([0, 255], np.uint8), 8)[None].repeat(16, 0)
    for room in ("images", "masks"):
        (place / "data" / room).mkdir(parents=True)
        for case in (NAME, "case1", "case2", "case3"):
            Image.fromarray(halves).save(place / "data" / room / f"{case}.png")
    return place


def test_no_name_is_read_as_markup_or_reaches_the_terminal_raw(
    segbench: Callable[..., Result], hostile: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("segbench.diagnosis.battery.STEPS", 2)
    shorten_suites(monkeypatch)
    at = ("--workspace", hostile / "runs")
    own = ("--dataset", "folder", "--data-root", hostile / "data")
    golden = hostile / "golden.csv"
    few = ("-a", "fgsm", "--eps", "8/255", "--limit", "2")
    grid = hostile / "grid.toml"
    grid.write_text(
        'attacks = ["fgsm"]\neps = ["8/255"]\nlimit = 2\nmodels = ["unet:width=4,depth=2"]'
    )
    lines: list[tuple[str | Path, ...]] = [
        ("attack", "-m", hostile / NAME, *few, "--save-adversarial", *at),
        ("attack", "-m", f"{hostile}/net.py:build", *own, *few, "--split", "train", *at),
        ("run", grid, *at),
        ("submit", grid, *at),  # of which nothing is missing
        ("run", grid, "--plan", "--shard", "1/2", *at),
        ("report", *at),
        ("export", *at),
        ("leaderboard", hostile / "runs", "--out", hostile / "board"),
        ("check", "--golden", golden, "--update", *at),
        ("check", "--golden", golden, "--all", *at),
        ("list", "cells", *at),
        ("list", "runs", *at),
        ("inspect", hostile / NAME, "--dataset", DATA, *at),
        ("certify", hostile / NAME, "--n", "60", "--limit", "2", *at),
        ("diagnose", hostile / NAME, "--eps", "8/255", "--limit", "2", *at),
        ("export-model", hostile / NAME, "--out", hostile / "left", "--dataset", DATA, *at),
        ("train", "unet:width=4,depth=2", "--dataset", DATA, "--epochs", "12", *at),
        ("doctor", *at),
    ]  # fmt: skip
    told = ""
    for line in lines:
        result = segbench(*line)
        assert result.exit_code == 0, (line, result.output)
        assert not UNSAFE.search(result.output), (line, result.output)
        told += result.output
    assert {str(line[0]) for line in lines} == set(COMMANDS) - {"demo", "coverage", "compare"}
    for words in (
        f"reference scores to {plain(str(golden))}",
        f"{SHOWN}/net.py is code of yours",
        f"model       {plain(NAME)}",
    ):
        assert words in told.replace("\n", ""), words


@pytest.mark.parametrize(
    "line",
    [
        ("attack", "-m", HOSTILE, "--eps", "1/255"),
        ("attack", "-m", f"{HOSTILE}.py:build", "--eps", "1/255", "--dataset", "phantom-cxr"),
        ("attack", "--eps", HOSTILE),
        ("attack", "-a", HOSTILE, "--eps", "1/255"),
        ("attack", "--dataset", HOSTILE, "--eps", "1/255"),
        ("report", "-f", HOSTILE),
        ("check", "--golden", HOSTILE),
        ("run", HOSTILE),
        ("train", HOSTILE),
        (HOSTILE,),
        ("report", f"--{HOSTILE}"),
    ],
)
def test_no_error_repeats_a_name_raw(
    segbench: Callable[..., Result], workspace: Path, line: tuple[str, ...]
) -> None:
    known = line[0] in COMMANDS
    result = segbench(*line, *(("--workspace", workspace) if known else ()))
    assert not UNSAFE.search(refused(result, 2))


def test_a_hostile_golden_file_is_shown_and_not_obeyed(
    segbench: Callable[..., Result], workspace: Path, tmp_path: Path
) -> None:
    segbench("attack", "-a", "fgsm", "--eps", "8/255", "--workspace", workspace)
    golden = tmp_path / "golden.csv"
    check = ("check", "--golden", golden, "--workspace", workspace)
    segbench(*check, "--update")
    line = golden.read_text().splitlines()[1]
    model = line.partition(",jsrt")[0].partition('"')[2].partition('"')[0] or line.split(",")[0]
    golden.write_text(golden.read_text() + line.replace(model, HOSTILE) + "\n")
    result = segbench(*check)
    assert result.exit_code == 1, result.output
    assert "MISSING" in result.output
    assert "[/x][bold]" in result.output
    assert not UNSAFE.search(result.output)


# ------------------------------------------------------------------ no reader, no room, no alphabet


@pytest.fixture(scope="module")
def _attacked(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    workspace = tmp_path_factory.mktemp("attacked") / "runs"
    shutil.copytree(trained, workspace)
    golden = workspace / "golden.csv"
    for line in (
        ("attack", "-a", "fgsm", "--eps", "8/255", "--save-adversarial"),
        ("check", "--golden", str(golden), "--update"),
    ):
        done = CliRunner().invoke(main, [*line, "--workspace", str(workspace)])
        assert done.exit_code == 0, done.output
    golden.write_text(re.sub(r",0\.\d+,(\d+),", r",1.0,\1,", golden.read_text()))
    (workspace / "golden.cases.jsonl").unlink()  # it would say something else
    return workspace


@pytest.fixture
def attacked(_attacked: Path, tmp_path: Path) -> Path:
    """A workspace with results and images, and a golden file that they fail."""
    return Path(shutil.copytree(_attacked, tmp_path / "runs"))


def lines(workspace: Path) -> dict[str, tuple[int, tuple[str | Path, ...]]]:
    """A command line of every command, and the status that it ends with."""
    at = ("--workspace", workspace)
    grid = workspace / "grid.toml"
    grid.write_text('attacks = ["fgsm"]\neps = ["8/255"]\n')
    return {
        "attack": (0, ("attack", "-a", "fgsm", "--eps", "4/255", *at)),
        "certify": (0, ("certify", "unet:width=4,depth=2", "--n", "60", "--limit", "2", *at)),
        "check": (1, ("check", "--golden", workspace / "golden.csv", *at)),
        "coverage": (0, ("coverage", "--trials", "10")),
        "diagnose": (0, ("diagnose", "unet:width=4,depth=2", "--limit", "2", *at)),
        "doctor": (0, ("doctor", *at)),
        "export": (0, ("export", *at)),
        "export-model": (
            0,
            ("export-model", "unet:width=4,depth=2", "--out", workspace / "left", *at),
        ),
        "inspect": (0, ("inspect", "unet:width=4,depth=2", "--dataset", DATA, *at)),
        "leaderboard": (0, ("leaderboard", workspace, "--out", workspace / "board")),
        "list": (0, ("list", "cells", *at)),
        "report": (0, ("report", *at)),
        "run": (0, ("run", grid, *at)),
        "submit": (0, ("submit", grid, *at)),
        "train": (0, ("train", "unet:width=4,depth=2", "--dataset", DATA, "--epochs", "12", *at)),
    }


def call(line: tuple[str | Path, ...]) -> int:
    """A command in this process, on whatever the standard streams are now."""
    with pytest.raises(SystemExit) as ended:
        main([str(word) for word in line])
    assert isinstance(ended.value.code, int)
    return ended.value.code


@pytest.fixture
def broken_pipe() -> Iterator[io.TextIOWrapper]:
    """What a command writes to when its reader has left."""
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w", encoding="utf-8") as stream:
        yield stream


def files(folder: Path) -> dict[str, int]:
    found = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.stat().st_size for path in found}


@pytest.mark.parametrize("name", sorted(set(COMMANDS) - {"demo", "compare"}))
def test_a_reader_that_leaves_changes_neither_status_nor_files(
    name: str, attacked: Path, broken_pipe: io.TextIOWrapper, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("segbench.diagnosis.battery.STEPS", 2)
    shorten_suites(monkeypatch)
    status, line = lines(attacked)[name]
    before = files(attacked)
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", broken_pipe)
        patch.setattr(sys, "stderr", io.TextIOWrapper(io.BytesIO(), encoding="utf-8"))
        assert call(line) == status
        said = sys.stderr.buffer.getvalue().decode()  # type: ignore[attr-defined]
    assert "Error" not in said
    assert "Traceback" not in said
    made = set(files(attacked)) - set(before)
    assert {"reports/report.md", "reports/rows.csv"} <= made or name not in ("report", "run")
    assert "export/written.csv" in made or name != "export"


# What latin-1 has not, ascii has neither: two commands show that it goes the same way.
POOR = [(name, "ascii") for name in sorted(set(COMMANDS) - {"demo", "compare"})]
POOR += [("list", "latin-1"), ("report", "latin-1")]


@pytest.mark.parametrize(("name", "encoding"), POOR)
def test_a_poor_alphabet_changes_neither_status_nor_files(
    name: str, encoding: str, attacked: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("segbench.diagnosis.battery.STEPS", 2)
    shorten_suites(monkeypatch)
    status, line = lines(attacked)[name]
    with monkeypatch.context() as patch:
        for stream in ("stdout", "stderr"):
            patch.setattr(sys, stream, io.TextIOWrapper(io.BytesIO(), encoding=encoding))
        assert call(line) == status
        sys.stderr.flush()
        said = sys.stderr.buffer.getvalue().decode(encoding)  # type: ignore[attr-defined]
    assert "Error" not in said


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_a_full_disk_under_the_output_is_the_machines_failure_but_not_under_messages(
    attacked: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    report = ("report", "--workspace", attacked)
    with open("/dev/full", "w") as full, monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", full)
        assert call(report) == 3
        assert (attacked / "reports" / "report.md").exists()
    assert "No space left on device" in capfd.readouterr().err
    with open("/dev/full", "w") as full, monkeypatch.context() as patch:
        patch.setattr(sys, "stderr", full)
        assert call(report) == 0
        assert call(("report", "-f", "pdf", "--workspace", attacked)) == 2


@pytest.mark.parametrize(("name", "status"), [("report", 0), ("check", 1)])
def test_a_real_pipe_into_true(name: str, status: int, attacked: Path) -> None:
    line = [str(word) for word in lines(attacked)[name][1]]
    process = subprocess.Popen(
        [sys.executable, "-m", "segbench", *line],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
    )
    assert process.stdout is not None
    process.stdout.close()
    assert process.stderr is not None
    said = process.stderr.read().decode()
    process.stderr.close()
    assert (process.wait(), said) == (status, "")


# ------------------------------------------------------------------------ how a process may not end


@pytest.mark.parametrize(
    ("error", "status", "words"),
    [
        (SystemExit(0), 3, "ended the process (SystemExit: 0)"),
        (SystemExit(1), 3, "ended the process (SystemExit: 1)"),
        (KeyboardInterrupt(), 130, "the same command goes on from there"),
        (EOFError("nothing to read"), 3, "internal error: EOFError: nothing to read"),
        (BrokenPipeError(32, "Broken pipe"), 3, "ended the process"),
        (FileNotFoundError(2, "No such file or directory"), 3, "No such file or directory"),
        (OSError(28, "No space left on device", "/a/file"), 3, "on device: /a/file"),
        (MemoryError(), 3, "out of memory; try a smaller --batch-size"),
        (torch.OutOfMemoryError("CUDA out of memory"), 3, "out of memory; try a smaller"),
        (RuntimeError("CUDA error: out of memory"), 3, "out of memory; try a smaller"),
        (RuntimeError("long " * 2000), 3, " … "),
    ],
)
def test_only_the_gate_ends_with_status_1(
    segbench: Callable[..., Result],
    error: BaseException,
    status: int,
    words: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*_given: object, **_more: object) -> None:
        raise error

    monkeypatch.setattr("segbench.cli.reporting.write_reports", fail)
    said = refused(segbench("report"), status, words)
    assert len(said) < 3000


def test_a_deleted_folder_is_named(
    segbench: Callable[..., Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()

    def look(*_given: object, **_more: object) -> None:
        Path.cwd()

    monkeypatch.setattr("segbench.cli.reporting.write_reports", look)
    refused(segbench("report"), 3, "the current folder does not exist any more")


def test_an_interrupted_training_says_how_it_goes_on(
    segbench: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_given: object, **_more: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("segbench.cli.training.train_models", interrupt)
    refused(segbench("train", "unet"), 130, "the same command with --resume goes on from there")


def test_what_segbench_warns_of_is_a_line(
    segbench: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    def warn(*_given: object, **_more: object) -> list[Path]:
        from segbench import errors

        with warnings.catch_warnings():
            warnings.simplefilter("always")
            warnings.warn_explicit(f"weights {HOSTILE} are half", UserWarning, errors.__file__, 1)
        return []

    monkeypatch.setattr("segbench.cli.reporting.write_reports", warn)
    assert segbench("report").stderr == f"Note: weights {SHOWN} are half\n"
