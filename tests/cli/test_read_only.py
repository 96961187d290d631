"""A workspace that cannot be written shows what it has, and stays as it is to the bit."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

ATTACK = ("attack", "-a", "fgsm", "--workspace")


def content(folder: Path) -> dict[str, bytes | None]:
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in folder.rglob("*")
    }


@pytest.fixture
def sealed(segbench, workspace: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """One budget's scores, on a file system that refuses every write from then on."""
    done = segbench(*ATTACK, workspace, "--eps", "4/255")
    assert done.exit_code == 0, done.output

    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr("segbench.store.workspace.TemporaryFile", refuse)
    monkeypatch.setattr("segbench.atomic._write_temporary", refuse)
    return workspace


def test_what_is_stored_is_shown_and_nothing_is_written(segbench, sealed: Path) -> None:
    before = content(sealed)
    done = segbench(*ATTACK, sealed, "--eps", "4/255")
    assert done.exit_code == 0, done.output
    assert "Mean Jaccard" in done.output
    assert "cannot be written, so nothing was recorded; all 12 scores were found" in done.output
    assert content(sealed) == before


def test_the_memory_of_cases_is_no_more_than_a_memory(segbench, sealed: Path) -> None:
    """Of another version of a reader there is none: the images are read again."""
    for path in (sealed / "results" / "cases").iterdir():
        path.unlink()
    assert segbench(*ATTACK, sealed, "--eps", "4/255").exit_code == 0


@pytest.mark.parametrize("more", [("--eps", "4/255,8/255"), ("--eps", "4/255", "--fresh")])
def test_what_is_missing_is_one_sentence(segbench, sealed: Path, more: tuple[str, ...]) -> None:
    before, missing = content(sealed), 6 if "--fresh" not in more else 12
    done = segbench(*ATTACK, sealed, *more)
    assert done.exit_code == 2
    said = f"cannot be written, and {missing} of the scores asked for are not stored in it"
    assert said in " ".join(done.stderr.split())
    assert "Traceback" not in done.output
    assert content(sealed) == before


def test_a_diagnosis_that_could_not_be_written_is_not_begun(
    segbench, sealed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would be minutes of gradients for nothing."""
    monkeypatch.setattr(
        "segbench.diagnosis.run.diagnose_model", lambda *_: pytest.fail("it was begun")
    )
    done = segbench("diagnose", "unet", "--eps", "4/255", "--workspace", sealed)
    assert done.exit_code == 3, done.output
    assert "cannot be written" in done.stderr
    assert "Traceback" not in done.output
