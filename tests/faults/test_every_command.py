"""A command that is stopped anywhere leaves no half file, and asked again it does what it would.

Killed: from the n-th operation that outlives a process on (a rename, a link, a removal, a sync)
nothing more happens, not even tidying up. A full disk: from the n-th file on nothing can be synced.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import Result

from segbench.evaluation.parts import read_part
from segbench.evaluation.submission import Task
from segbench.store import rowfile
from segbench.store.images import load_images
from segbench.store.rows import read_rows
from segbench.store.workspace import Workspace

MODEL = "unet:width=2,depth=2"
DATA = "phantom-cxr:size=32,train_cases=6,test_cases=2"
LINES: dict[str, tuple[str, tuple[str, ...]]] = {
    "attack": ("attack -a pgd:steps=2 --eps 4/255 --save-adversarial", ()),
    "certify": (f"certify {MODEL} --n 60", ("certified/*/*test-60.safetensors",)),
    "check": ("check --golden {root}/new.csv --update", ("new*",)),
    "diagnose": (f"diagnose {MODEL} --limit 2", ("results/diagnoses/*",)),
    "export": ("export", ("export/**/*",)),
    "export-model": (f"export-model {MODEL} --out {{root}}/left", ("left/*",)),
    "leaderboard": ("leaderboard {root} --out {root}/board", ("board/*.csv",)),
    "report": ("report -f csv -f markdown", ("reports/*.csv",)),
    "report-figures": ("report -f figures", ("reports/**/*.svg",)),
    "report-rest": (
        "report -f html -f json -f latex -f junit -f evidence -f leaderboard",
        ("reports/*",),
    ),
    "run": ("run {root}/grid.toml", ("reports/curves.csv",)),
    "train": (
        f"train unet:width=2,depth=1 --dataset {DATA} --epochs 1 --resume",
        ("models/*depth=1*/model.safetensors",),
    ),
}
"""A command line of each command that writes, and what it makes beside rows."""

SAME = [name for name in rowfile.COLUMNS if name != "seconds"]
DURABLE = ("replace", "link", "unlink", "fsync")


class Killed(BaseException):
    """Nothing happens any more."""


@contextmanager
def killed(at: int, count: list[int]) -> Iterator[None]:
    """From that durable operation on every one of them raises ``Killed``; 0 only counts."""
    with pytest.MonkeyPatch.context() as patch:
        for name in DURABLE:
            patch.setattr(os, name, _stopped(getattr(os, name), at, count, Killed()))
        yield


@contextmanager
def full(at: int, count: list[int]) -> Iterator[None]:
    """From that file on the disk is full; 0 only counts."""
    error = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", _stopped(os.fsync, at, count, error))
        yield


def _stopped(
    operation: Callable[..., Any], at: int, count: list[int], error: BaseException
) -> Callable[..., Any]:
    def stopped(*given: Any, **more: Any) -> Any:
        count[0] += 1
        if at and count[0] >= at:
            raise error
        return operation(*given, **more)

    return stopped


def outcome(root: Path, name: str) -> dict[str, Any]:
    """What the command has made: whole files, and rows."""
    found: dict[str, Any] = {
        str(path.relative_to(root)): path.read_bytes()
        for pattern in LINES[name][1]
        for path in root.glob(pattern)
        if path.is_file()
        and not path.name.startswith(".")  # those are nobody's, and go after a day
    }
    rows = read_rows(Workspace(root))[SAME]
    images = {
        (key.parent.name, content): attacked.images[place].numpy().tobytes()
        for key in sorted(root.glob("adversarial/*/[0-9]*.safetensors"))
        for attacked in [load_images(key)]
        for place, content in enumerate(attacked.contents)
    }
    return found | {"rows": rows.astype("str").to_numpy().tolist(), "images": images}


FAULTS = {"killed": killed, "full": full}
LONG = ("diagnose", "report-figures", "run")  # slow, and their steps are others' too
TRIALS = [
    pytest.param(name, every, marks=[pytest.mark.slow] if every or name in LONG else [])
    for name in LINES
    for every in (False, True)
    if not (every is False and name in LONG)
]


Undisturbed = dict[str, tuple[dict[str, Any], dict[str, int]]]


@pytest.fixture(scope="module")
def undisturbed() -> Undisturbed:
    """What each command makes where nothing stops it, and how many moments each fault has in it."""
    return {}


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize(("name", "every"), TRIALS)
def test_a_command_that_is_stopped_goes_on_as_if_nothing_had_happened(
    name: str,
    every: bool,
    fault: str,
    made: Callable[[str], Path],
    call: Callable[..., Result],
    undisturbed: Undisturbed,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if name == "report-figures":
        pytest.importorskip("matplotlib")
    monkeypatch.setattr("segbench.diagnosis.battery.STEPS", 2)

    def command(root: Path) -> Result:
        words = LINES[name][0].format(root=root).split()
        at = () if name == "leaderboard" else ("--workspace", root)
        return call(*words, *at)

    if name not in undisturbed:
        whole, counts = made("whole"), {fault: [0] for fault in FAULTS}
        with killed(0, counts["killed"]), full(0, counts["full"]):
            done = command(whole)
        assert done.exit_code == 0, done.output
        undisturbed[name] = outcome(whole, name), {fault: counts[fault][0] for fault in FAULTS}
    expected, moments = undisturbed[name][0], undisturbed[name][1][fault]
    assert len(expected) > 2 or not LINES[name][1]
    for moment in range(1, moments + 1) if every else (1 + moments // 2,):
        root = made(f"stopped-{moment}")
        with FAULTS[fault](moment, [0]):
            stopped = command(root)
        if fault == "full":
            left = [path for path in root.rglob(".*") if path.name.endswith(".tmp")]
            assert left == []
            if stopped.exit_code:  # what is only remembered for speed may be lost without a word
                assert stopped.exit_code == 3
                assert "No space left on device" in stopped.output
        else:
            assert stopped.exit_code in (0, 3)  # 0: it was tidying up
        again = command(root)
        assert again.exit_code == 0, again.output
        assert outcome(root, name) == expected


class Queue:
    """In SLURM's place: takes what is submitted, and computes nothing."""

    taken: list[Task]

    def __init__(self, *given: Any, **more: Any) -> None: ...

    def submit(self, tasks: Sequence[Task]) -> list[Any]:
        Queue.taken = [*tasks]
        return [SimpleNamespace(job_id=f"7_{number}") for number in range(len(tasks))]


def submitted() -> set[tuple[str, str, str]]:
    """(network, cell, case) of every task that was taken, from the files they name."""
    files = [Path(task.arguments[task.arguments.index("--part") + 1]) for task in Queue.taken]
    return {
        (model, cell, case)
        for file in files
        for model, cells in read_part(file).cases.items()
        for cell, cases in cells.items()
        for case in cases
    }


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("every", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_a_submission_that_is_stopped_submits_nothing_and_the_next_one_all(
    every: bool,
    fault: str,
    made: Callable[[str], Path],
    call: Callable[..., Result],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("segbench.evaluation.submission.Slurm", Queue)

    def command(root: Path) -> Result:
        Queue.taken = []
        return call("submit", root / "grid.toml", "--array", "2", "--workspace", root)

    count = [0]
    with FAULTS[fault](0, count):
        done = command(made("whole"))
    assert done.exit_code == 0, done.output
    assert len(Queue.taken) == 2
    expected = submitted()
    for moment in range(1, count[0] + 1) if every else (1 + count[0] // 2,):
        root = made(f"stopped-{moment}")
        with FAULTS[fault](moment, [0]):
            stopped = command(root)
        assert stopped.exit_code in (0, 3)
        assert submitted() == (set() if stopped.exit_code else expected)
        assert command(root).exit_code == 0
        assert submitted() == expected


@pytest.mark.parametrize(
    "line",
    ["list --workspace {root}", "list runs --workspace {root}", "list cells --workspace {root}",
     f"inspect {MODEL} --dataset {DATA} --workspace {{root}}", "doctor --workspace {root}",
     "check --golden {root}/golden.csv --workspace {root}"],
)  # fmt: skip
def test_a_command_that_only_looks_asks_nothing_of_the_disk(
    line: str, made: Callable[[str], Path], call: Callable[..., Result]
) -> None:
    root, count = made("whole"), [0]
    before = {path: path.stat().st_mtime_ns for path in root.rglob("*")}
    with killed(1, count):
        done = call(*line.format(root=root).split())
    assert (done.exit_code, count) == (0, [0]), done.output
    assert {path: path.stat().st_mtime_ns for path in root.rglob("*")} == before
