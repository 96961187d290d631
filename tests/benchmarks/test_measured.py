"""What a benchmark prints as a command's memory is that command's, however large itself is."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="peaks are read as Linux has them")

SMALL = [sys.executable, "-I", "-S", "-c", "pass"]
LARGE = [sys.executable, "-I", "-S", "-c", f"bytes({300 * 2**20})[0]; b'1' * {300 * 2**20}"]


@pytest.fixture
def have_held():
    """``have_held(MiB)``: this process was once that large, and is not any more."""

    def hold(mebibytes: int) -> None:
        np.ones(mebibytes * 2**17)

    return hold


def test_a_small_command_of_a_large_process_is_small(script, have_held) -> None:
    have_held(500)
    cost = script("measured").cost_of(SMALL)
    assert 1 < cost.memory < 50
    assert cost.processor > 0
    assert cost.wall > 0


def test_a_large_command_is_large(script) -> None:
    assert 300 < script("measured").cost_of(LARGE).memory < 700


def test_a_command_that_fails_is_said_with_what_it_printed(script) -> None:
    program = "import sys; print('on stdout'); sys.exit('what was wrong')"
    with pytest.raises(RuntimeError, match="ended with 1: ") as raised:
        script("measured").cost_of([sys.executable, "-c", program])
    assert {"on stdout", "what was wrong"} <= {*str(raised.value).replace(": ", "\n").split("\n")}
    with pytest.raises(RuntimeError, match=r"not started(?s:.*)No such file"):
        script("measured").cost_of(["no-such-program"])


def test_a_command_has_its_folder_and_its_environment(script, tmp_path: Path) -> None:
    program = "import os; open(os.environ['NAMED'], 'w').write(os.environ['HOME'])"
    script("measured").cost_of([sys.executable, "-c", program], tmp_path, {"NAMED": "here"})
    assert (tmp_path / "here").read_text() == os.environ["HOME"]


def test_the_peak_of_a_process_begins_anew(script) -> None:
    program = (
        f"import sys; sys.path.insert(0, {str(Path(script('measured').__file__).parent)!r})\n"
        "import measured\n"
        "b'1' * (500 * 2**20)\n"
        "before = measured.held_memory()\n"
        "b'1' * (100 * 2**20)\n"
        "print((measured.peak_memory() - before) / measured.MIB)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    assert 95 < float(done.stdout) < 200


def test_the_memory_of_nlce_is_its_own_beside_a_large_process(script, have_held) -> None:
    have_held(1000)
    assert script("nlce_memory")._ask("ours", 32) < 100


@pytest.mark.slow
def test_the_memory_of_an_attack_is_its_own_beside_a_large_process(script, have_held) -> None:
    have_held(2000)
    gibibytes, seconds = script("tile_memory").measure((32, 32), "", 0.5, 1, 2, boundary=False)
    assert 0.1 < gibibytes < 1
    assert seconds > 0
