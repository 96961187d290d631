"""``--strict-skips`` fails on a skip that nobody expects, in a test, a fixture or a whole file."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from pages import ROOT
from strict_skips import read_list

TESTS = {
    "a test": "import pytest\ndef test_one():\n    pytest.skip('because')\n",
    "a mark": "import pytest\n@pytest.mark.skipif(True, reason='because')\ndef test_one(): ...\n",
    "a fixture": "import pytest\n@pytest.fixture\ndef x():\n    pytest.skip('because')\n"
    "def test_one(x): ...\n",
    "a file": "import pytest\npytest.importorskip('absent_package', reason='because')\n",
}
PASSES = "def test_two(): ...\n"
XFAILS = "import pytest\n@pytest.mark.xfail(reason='because')\ndef test_three():\n    assert 0\n"


def run(folder: Path, expected: str, *options: str) -> subprocess.CompletedProcess[str]:
    """The tests of a folder with these hooks, and a list of its own."""
    (folder / "strict_skips.py").write_text((ROOT / "tests" / "strict_skips.py").read_text())
    (folder / "conftest.py").write_text("from strict_skips import *\n")
    (folder / "skips.toml").write_text(f'[[skip]]\nreason = "{expected}"\nwhy = "a test"\n')
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", "."]
    command += ["-o", "addopts=", "-o", "pythonpath=.", *options, "."]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True)


@pytest.mark.parametrize("workers", ["0", "2"])
def test_every_skip_that_is_not_expected_is_named_and_fails_the_run(
    workers: str, tmp_path: Path
) -> None:
    for number, code in enumerate(TESTS.values()):
        (tmp_path / f"test_skips{number}.py").write_text(code)
    (tmp_path / "test_others.py").write_text(PASSES + XFAILS)
    strange = run(tmp_path, "another reason", "--strict-skips", "-n", workers)
    assert strange.returncode == 1, strange.stdout + strange.stderr
    said = [x for x in strange.stdout.splitlines() if "SKIPPED AND NOT EXPECTED" in x]
    assert len(said) == len(TESTS)
    for number, line in enumerate(said):
        assert f"test_skips{number}.py" in line
        assert "because; let it run" in line
    ways: list[tuple[str, list[str]]] = [("because", ["--strict-skips"]), ("another reason", [])]
    for expected, options in ways if workers == "0" else ways[:1]:
        assert run(tmp_path, expected, *options, "-n", workers).returncode == 0


@pytest.mark.parametrize("entry", ['reason = "x"', 'reason = "x"\nwhy = " "', 'why = "x"'])
def test_an_entry_without_its_reason_and_why_is_refused(entry: str, tmp_path: Path) -> None:
    path = tmp_path / "skips.toml"
    path.write_text(f"[[skip]]\n{entry}\n")
    with pytest.raises(pytest.UsageError, match="needs a reason and a why"):
        read_list(path)
    assert read_list()
