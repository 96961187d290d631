"""Too little address space is one sentence: not status 1, the gate's, nor a fault, nor a wait."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from segbench.cli.address_space import LEAST

resource = pytest.importorskip("resource", reason="POSIX alone has such a limit")
COMMANDS = (
    ("attack", "-m", "unet", "--eps", "1/255"),
    ("check", "--golden", "golden.csv"),
    ("report",),
    ("list", "models"),
)


def within(limit: int, *words: str, where: Path) -> subprocess.CompletedProcess[str]:
    """A command of a process that may take so many bytes."""

    def bound() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))

    command = [sys.executable, "-m", "segbench", *words]
    return subprocess.run(
        command, preexec_fn=bound, cwd=where, capture_output=True, text=True, timeout=60
    )


@pytest.mark.skipif(sys.platform == "darwin", reason="macOS takes no notice of this limit")
@pytest.mark.parametrize("words", COMMANDS, ids=[words[0] for words in COMMANDS])
@pytest.mark.parametrize("limit", [2**29, 2**30])
def test_too_little_is_said_at_once(words: tuple[str, ...], limit: int, tmp_path: Path) -> None:
    done = within(limit, *words, where=tmp_path)
    assert done.returncode == 3, done.stderr
    said = f"Error: this process may take {limit / 2**30:.1f} GiB of address space (ulimit -v), "
    assert done.stderr.startswith(said)
    assert done.stderr.count("\n") == 1
    assert not done.stdout


@pytest.mark.skipif(sys.platform == "darwin", reason="macOS takes no notice of this limit")
def test_enough_is_not_refused(tmp_path: Path) -> None:
    done = within(2 * LEAST, "report", where=tmp_path)
    assert done.returncode == 2, done.stderr
    assert "address space" not in done.stderr
