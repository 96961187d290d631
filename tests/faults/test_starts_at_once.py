"""Processes that start at once on one workspace do not take each other's probes for failures."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

PROBE = """
import sys
from pathlib import Path
from segbench.store.workspace import check_writable
for _ in range(500):
    check_writable(Path(sys.argv[1]))
"""


def test_a_writable_folder_is_never_refused_however_many_ask_at_once(tmp_path: Path) -> None:
    command = [sys.executable, "-c", PROBE, str(tmp_path / "runs")]
    started = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(4)]
    for process in started:
        _, said = process.communicate()
        assert process.returncode == 0, said
    assert [*(tmp_path / "runs").iterdir()] == []
