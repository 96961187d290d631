"""Files appear whole or not at all, and what killed processes left behind goes away."""

from __future__ import annotations

import os
import socket
import time
from pathlib import Path

import pytest

from segbench import atomic
from segbench.atomic import read_regular, write_atomically, write_exclusively

LEFT = f".{'ab' * 16}.tmp"
A_DAY = 24 * 60 * 60


def left_behind(folder: Path, name: str, age: float) -> Path:
    path = folder / name
    path.write_bytes(b"half of it")
    os.utime(path, (time.time() - age,) * 2)
    return path


@pytest.mark.parametrize("write", ["over", "new"])
def test_temporary_files_of_killed_processes_are_removed_after_a_day(
    tmp_path: Path, write: str
) -> None:
    old = left_behind(tmp_path, LEFT, 1.1 * A_DAY)
    kept = [
        left_behind(tmp_path, f".{'cd' * 16}.tmp", 0.9 * A_DAY),  # may still be written
        left_behind(tmp_path, ".mine.tmp", 9 * A_DAY),
        left_behind(tmp_path, "results.parquet", 9 * A_DAY),
    ]
    if write == "over":
        write_atomically(tmp_path / "a", b"whole")
    else:
        assert write_exclusively(tmp_path / "a", b"whole")
    assert not old.exists()
    assert all(path.exists() for path in kept)
    assert (tmp_path / "a").read_bytes() == b"whole"


def test_a_folder_that_cannot_be_tidied_is_written_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = left_behind(tmp_path, LEFT, 2 * A_DAY)
    real = Path.unlink

    def refuse(path: Path, missing_ok: bool = False) -> None:
        if path == old:
            raise PermissionError(path)
        real(path, missing_ok)

    monkeypatch.setattr(Path, "unlink", refuse)
    write_atomically(tmp_path / "a", b"whole")
    assert (tmp_path / "a").read_bytes() == b"whole"


def test_only_a_regular_file_is_read(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"content")
    (tmp_path / "link").symlink_to(tmp_path / "file")
    assert read_regular(tmp_path / "file") == read_regular(tmp_path / "link") == b"content"
    os.mkfifo(tmp_path / "pipe")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "socket"))
    for path, kind in (
        (tmp_path / "pipe", "a named pipe"),
        (tmp_path / "socket", "a socket"),
        (Path(os.devnull), "a device"),
        (tmp_path, "a folder"),
    ):
        with pytest.raises(OSError, match=f"it is {kind}; expected a regular file"):
            read_regular(path)
    with pytest.raises(FileNotFoundError):
        read_regular(tmp_path / "nothing")


@pytest.fixture(autouse=True)
def _as_at_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(atomic, "_swept", set())
