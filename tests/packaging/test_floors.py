"""The floors of the house hold, and a file that imports upwards is found."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PLUGINS = ("models", "attacks", "reports")


@pytest.mark.parametrize(
    ("file", "line", "passes"),
    [
        ("metrics/downward.py", "import math", True),
        ("metrics/upward.py", "from segbench.store import rows", False),
        ("store/upward.py", "def late():\n    from segbench.tables import build", False),
        ("engine/plugin.py", "import segbench_attacks.pgd", False),
        ("attic.py", "import math", False),
    ],
    ids=["a new file", "upwards", "upwards and late", "to a plug-in", "on no floor"],
)
def test_a_new_file_stands_on_its_floor(file: str, line: str, passes: bool, tmp_path: Path) -> None:
    shutil.copytree(ROOT / "segbench", tmp_path / "segbench")
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    (tmp_path / "segbench" / file).write_text(f'"""A room."""\n\n{line}\n')
    paths = [str(tmp_path), *(str(ROOT / name) for name in PLUGINS)]
    done = subprocess.run(
        [sys.executable, "-c", "from importlinter.cli import lint_imports_command as c; c()",
         "--no-cache"],
        cwd=tmp_path, env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        capture_output=True, text=True,
    )  # fmt: skip
    assert (done.returncode == 0) is passes, done.stdout
