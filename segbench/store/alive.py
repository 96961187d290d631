"""Which process wrote something, so that another can tell whether it is gone.

A process number means something only among processes that see each other. Two machines may have one
name, as containers of one image have, and two containers of one machine may count their processes
from 1. So a writer leaves the boot of its machine and its process namespace beside its number, and
the moment at which it started, since numbers are used again.
"""

from __future__ import annotations

import os
import platform
from functools import cache
from pathlib import Path

from pydantic import BaseModel, ConfigDict

_PROC = Path("/proc")
_DEAD = ("Z", "X")  # states of what has ended and is not yet cleared away
_STARTED = 19  # of the fields after a command's name in /proc/PID/stat, in ticks since the boot


class Process(BaseModel):
    """A process, as it names itself to others.

    Attributes:
        host: its machine's name, for people.
        machine: the boot and the namespace in which ``pid`` is its number; "" where none is known.
        started: when it did, in ticks of that boot; 0 where that is not known.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    host: str
    pid: int
    machine: str = ""
    started: int = 0

    @property
    def is_gone(self) -> bool:
        """Whether it is certain that it no longer runs; never of a machine that is not this one."""
        return bool(self.machine) and self.machine == _machine() and not self._runs()

    def _runs(self) -> bool:
        """Whether the process of that number is this one, or may be."""
        if not has_process(self.pid):
            return False
        state, started = _seen(self.pid)
        return state not in _DEAD and (not (started and self.started) or started == self.started)


def this_process() -> Process:
    """The one that asks."""
    return process_here(os.getpid())


def process_here(pid: int) -> Process:
    """The one of that number on this machine."""
    return Process(host=platform.node(), pid=pid, machine=_machine(), started=_seen(pid)[1])


def has_process(pid: int) -> bool:
    """Whether there is a process of that number, whoever's."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        pass
    return True


@cache
def _machine() -> str:
    """This boot of this machine and the namespace of this process; "" but on Linux."""
    try:
        boot = (_PROC / "sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {os.readlink(_PROC / 'self/ns/pid')}"
    except OSError:
        return ""


def _seen(pid: int) -> tuple[str, int]:
    """The state of a process of this namespace and when it started; ("", 0) where none may know."""
    try:
        stat = (_PROC / str(pid) / "stat").read_text(errors="replace")
    except OSError:  # it has just ended, or is another user's
        return "", 0
    fields = stat.rpartition(")")[2].split()
    return fields[0], int(fields[_STARTED])
