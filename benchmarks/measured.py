"""What a command costs in a process of its own, and what this process has held; on Linux.

What the kernel counts as the peak of a process begins with that of whoever started it: the memory
is shared until the program is replaced. So commands are started here by an interpreter that has
loaded nothing, and the peak of this process is read from what is counted since it was last reset.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

MIB = 2**20
_STARTER = """
import os, sys, time
begun = time.perf_counter()
to_errors = [(os.POSIX_SPAWN_DUP2, 2, 1)]
child = os.posix_spawnp(sys.argv[1], sys.argv[1:], os.environ, file_actions=to_errors)
_, status, usage = os.wait4(child, 0)
wall, processor = time.perf_counter() - begun, usage.ru_utime + usage.ru_stime
print(os.waitstatus_to_exitcode(status), wall, processor, usage.ru_maxrss / 1024)
"""


@dataclass(frozen=True)
class Cost:
    """Of a command: seconds of wall clock and of processor, and the largest resident set in MiB.

    The set is that of the largest of its processes.
    """

    wall: float
    processor: float
    memory: float


def cost_of(
    command: Sequence[str], cwd: Path | None = None, environment: Mapping[str, str] | None = None
) -> Cost:
    """What a command costs, however large this process is.

    Args:
        environment: beside that of this process.

    Raises:
        RuntimeError: it failed; with what it printed.
    """
    starter = [sys.executable, "-I", "-S", "-c", _STARTER]
    done = subprocess.run(
        [*starter, *command],
        cwd=cwd,
        env={**os.environ, **(environment or {})},
        capture_output=True,
        text=True,
    )
    status, *numbers = done.stdout.split() or ["not started"]
    if status != "0":
        raise RuntimeError(f"{' '.join(command)} ended with {status}: {done.stderr[-4000:]}")
    return Cost(*map(float, numbers))


def held_memory() -> int:
    """Bytes that this process holds now; from here on the peak counts."""
    Path("/proc/self/clear_refs").write_text("5")
    return _resident("VmRSS")


def peak_memory() -> int:
    """The most bytes that it held since ``held_memory`` was called."""
    return _resident("VmHWM")


def _resident(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name))
