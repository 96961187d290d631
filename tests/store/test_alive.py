"""Which processes are certainly gone: none of another machine; not who has the number by now."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from segbench.store import alive
from segbench.store.alive import Process, process_here, this_process

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="asks Linux")


def test_this_process_runs_and_its_number_is_not_the_next_ones() -> None:
    own = this_process()
    assert not own.is_gone
    assert own.model_copy(update={"started": own.started - 1}).is_gone


def test_of_another_machine_or_container_nothing_is_known() -> None:
    own = this_process()
    for other in ("", "another boot pid:[1]"):
        assert not own.model_copy(update={"machine": other, "started": 1}).is_gone
    assert not Process(host=own.host, pid=own.pid).is_gone


def test_an_ended_process_is_gone_before_and_after_it_is_cleared_away() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        named = process_here(process.pid)
        assert not named.is_gone
        process.kill()
        while not named.is_gone:  # a zombie, which still has its number
            pass
        assert Path(f"/proc/{process.pid}").exists()
    assert named.is_gone


def test_a_process_that_may_not_be_looked_at_may_run(monkeypatch: pytest.MonkeyPatch) -> None:
    named = this_process().model_copy(update={"started": 1})
    monkeypatch.setattr(alive, "_seen", lambda pid: ("", 0))
    assert not named.is_gone
