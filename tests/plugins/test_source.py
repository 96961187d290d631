"""The hash of a plug-in's source: it changes with every line that counts, and with no other."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from importlib import import_module, invalidate_caches
from importlib.metadata import requires
from pathlib import Path
from typing import Any

import pytest

from segbench.plugins import registry, source
from segbench.plugins.source import source_hash

ATTACK = """
from package_of_a_test.parts import steps
from .losses import ce

class Attack:
    def run(self):
        from package_of_a_test import late
        import segbench.atomic, json
"""
FILES = {
    "package_of_a_test/__init__.py": "",
    "package_of_a_test/attack.py": ATTACK,
    "package_of_a_test/losses.py": "from . import deep as d\nce = 1\n",
    "package_of_a_test/deep.py": "from package_of_a_test import attack\n",  # a circle
    "package_of_a_test/late.py": "import beside_of_a_test\n",
    "package_of_a_test/parts/__init__.py": "from . import inner\n",
    "package_of_a_test/parts/inner.py": "",
    "package_of_a_test/parts/steps.py": "",
    "package_of_a_test/other.py": "",
    "package_of_a_test/parts/other.py": "",
    "beside_of_a_test.py": "",
}
COUNTED = [
    "package_of_a_test/__init__.py",
    "package_of_a_test/attack.py",
    "package_of_a_test/losses.py",
    "package_of_a_test/deep.py",
    "package_of_a_test/late.py",
    "package_of_a_test/parts/__init__.py",
    "package_of_a_test/parts/inner.py",
    "package_of_a_test/parts/steps.py",
    "beside_of_a_test.py",
]


@pytest.fixture
def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Any]]:
    """``load(files, "module:Name", folder)``: written, imported, and forgotten afterwards."""
    before = set(sys.modules)

    def forget() -> None:
        for name in set(sys.modules) - before:
            if "_of_a_test" in name:
                del sys.modules[name]

    def add(files: dict[str, str], target: str, folder: str = "here") -> Any:
        forget()
        for name, text in files.items():
            path = tmp_path / folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        monkeypatch.syspath_prepend(str(tmp_path / folder))
        invalidate_caches()
        module, _, name = target.partition(":")
        return getattr(import_module(module), name)

    yield add
    forget()


@pytest.mark.parametrize("edited", FILES)
def test_an_edit_counts_where_the_target_imports_the_file_and_nowhere_else(
    edited: str, load: Callable[..., Any], tmp_path: Path
) -> None:
    attack = load(FILES, "package_of_a_test.attack:Attack")
    before = source_hash(attack)
    with (tmp_path / "here" / edited).open("a") as file:
        file.write("# edited\n")
    assert (source_hash(attack) != before) == (edited in COUNTED)


def test_it_is_the_same_in_another_folder_and_another_process(
    load: Callable[..., Any], tmp_path: Path
) -> None:
    found = {source_hash(load(FILES, "package_of_a_test.attack:Attack", f)) for f in ("a", "b")}
    program = (
        "import package_of_a_test.other\nfrom package_of_a_test.attack import Attack\n"
        "from segbench.plugins.source import source_hash\nprint(source_hash(Attack))"
    )
    for seed in ("1", "2"):
        environment = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(tmp_path / "a")}
        done = subprocess.run(
            [sys.executable, "-c", program], env=environment, capture_output=True, check=True
        )
        found.add(done.stdout.decode().strip())
    assert len(found) == 1


def test_two_files_that_change_places_count(load: Callable[..., Any]) -> None:
    swapped = {
        **FILES,
        "package_of_a_test/late.py": FILES["package_of_a_test/deep.py"],
        "package_of_a_test/deep.py": FILES["package_of_a_test/late.py"],
    }
    first = source_hash(load(FILES, "package_of_a_test.attack:Attack"))
    assert source_hash(load(swapped, "package_of_a_test.attack:Attack")) != first


SINGLE = {
    "single_of_a_test.py": "import parts_of_a_test.width\nclass Attack:\n    pass\n",
    "parts_of_a_test/width.py": "import third_of_a_test\n",
    "third_of_a_test.py": "",
    "unrelated_of_a_test.py": "",
}


@pytest.mark.parametrize("folder", ["mine", "site-packages"])
@pytest.mark.parametrize("edited", SINGLE)
def test_a_single_file_counts_with_its_folder_unless_packages_are_installed_there(
    edited: str, folder: str, load: Callable[..., Any], tmp_path: Path
) -> None:
    attack = load(SINGLE, "single_of_a_test:Attack", folder)
    before = source_hash(attack)
    with (tmp_path / folder / edited).open("a") as file:
        file.write("# edited\n")
    counts = edited == "single_of_a_test.py" or folder == "mine"
    counts &= edited != "unrelated_of_a_test.py"
    assert (source_hash(attack) != before) == counts


@pytest.mark.parametrize("edited", ["base_of_a_test/pgd.py", "base_of_a_test/steps.py"])
def test_the_source_of_what_a_class_derives_from_is_its_own(
    edited: str, load: Callable[..., Any], tmp_path: Path
) -> None:
    files = {
        "base_of_a_test/__init__.py": "",
        "base_of_a_test/pgd.py": "from . import steps\nclass PGD:\n    pass\n",
        "base_of_a_test/steps.py": "",
        "mine_of_a_test/__init__.py": "from base_of_a_test.pgd import PGD\n"
        "class Mine(PGD):\n    pass\n",
    }
    attack = load(files, "mine_of_a_test:Mine")
    before = source_hash(attack)
    with (tmp_path / "here" / edited).open("a") as file:
        file.write("# edited\n")
    assert source_hash(attack) != before


def test_a_function_counts_with_what_it_wraps_and_the_module_that_names_it(
    load: Callable[..., Any], tmp_path: Path
) -> None:
    files = {
        "wrapped_of_a_test.py": "def build():\n    pass\n",
        "named_of_a_test.py": "import wrapped_of_a_test\n",
    }
    build = load(files, "wrapped_of_a_test:build")
    assert source_hash(partial(build)) == source_hash(build)
    load({}, "named_of_a_test:wrapped_of_a_test")
    with_module = source_hash(build, "named_of_a_test")
    assert with_module != source_hash(build)
    (tmp_path / "here" / "named_of_a_test.py").write_text("import wrapped_of_a_test  # edited\n")
    assert source_hash(build, "named_of_a_test") != with_module


def test_files_read_beside_it_count(load: Callable[..., Any], tmp_path: Path) -> None:
    attack = load(SINGLE, "single_of_a_test:Attack")
    extra = tmp_path / "here" / "unrelated_of_a_test.py"
    before = source_hash(attack, also=[extra])
    extra.write_text("edited = True\n")
    assert source_hash(attack, also=[extra]) not in (before, source_hash(attack))


def test_an_extension_module_counts_with_its_bytes(
    load: Callable[..., Any], tmp_path: Path
) -> None:
    from importlib.machinery import EXTENSION_SUFFIXES

    built = tmp_path / "here" / f"fast_of_a_test{EXTENSION_SUFFIXES[0]}"
    files = {
        "slow_of_a_test.py": "class Attack:\n    def run(self):\n        import fast_of_a_test"
    }
    attack = load(files, "slow_of_a_test:Attack")
    hashes = {source_hash(attack)}
    for content in (b"\x7fELF one", b"\x7fELF two"):
        built.write_bytes(content)
        hashes.add(source_hash(attack))
    assert len(hashes) == 3


def test_a_file_that_is_no_python_any_more_still_counts(
    load: Callable[..., Any], tmp_path: Path
) -> None:
    attack = load(SINGLE, "single_of_a_test:Attack")
    before = source_hash(attack)
    (tmp_path / "here" / "third_of_a_test.py").write_text("def")
    assert source_hash(attack) != before


AWAY = {
    "taker_of_a_test.py": "from ops_of_a_test.parts import gain\nclass Attack:\n    pass\n",
    "../lib/ops_of_a_test/__init__.py": "",
    "../lib/ops_of_a_test/parts.py": "import deeper_of_a_test.more\ngain = 1\n",
    "../lib/ops_of_a_test/other.py": "",
    "../lib/deeper_of_a_test/more.py": "",  # in a folder that is a package without an __init__
}


@pytest.mark.parametrize("edited", AWAY)
def test_a_package_elsewhere_counts_with_what_is_imported_of_it(
    edited: str, load: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(tmp_path / "lib"))
    attack = load(AWAY, "taker_of_a_test:Attack")
    before = source_hash(attack)
    with (tmp_path / "here" / edited).open("a") as file:
        file.write("# edited\n")
    assert (source_hash(attack) != before) == ("other" not in edited)


def test_an_installed_package_counts_with_its_version(
    load: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = tmp_path / "site-packages"
    monkeypatch.syspath_prepend(str(site))
    monkeypatch.setattr(source, "_distributions", lambda: {"ops_of_a_test": ["Ops"]})
    monkeypatch.setattr(source, "version", lambda name: versions[name])
    versions = {"Ops": "1.0"}
    files = {name.replace("lib", "site-packages"): text for name, text in AWAY.items()}
    attack = load(files, "taker_of_a_test:Attack")
    before = source_hash(attack)
    (site / "ops_of_a_test" / "parts.py").write_text("gain = 2\n")
    assert source_hash(attack) == before
    versions["Ops"] = "1.1"
    assert source_hash(attack) != before


def test_what_the_core_requires_does_not_count() -> None:
    """It would be as if every release of numpy were another attack."""
    required = {line.partition(";")[0] for line in requires("segbench") or () if ";" not in line}
    names = {re.split(r"[^\w.-]", line)[0] for line in required}
    tops = {top for top, by in source._distributions().items() if names & {*by}}
    public = {top for top in tops if not top.startswith("_") and "." not in top}
    assert public <= source._KNOWN_BY_VERSION | source._REQUIRED | {"torchgen", "functorch"}


# ---------------------------------------------------------------------------- without a file

CELL = """
from dataclasses import dataclass
import math
SHARE = 0.5
NAMES = {"a", "b", "c"}
def helper(x):
    return math.sin(x) * SHARE
def unused():
    return 1
@dataclass(frozen=True)
class Attack:
    '''What it does.'''
    steps: int = 3
    needs = "gradients"
    @property
    def budgets(self):
        return [1, 2]
    @staticmethod
    def still(x=4):
        return {"p", "q", "r"}
    def run(self, x):
        return [helper(y) for y in NAMES]
"""


def notebook(source: str) -> str:
    """The hash of ``Attack``, written where no file is, in a process of its own."""
    program = f"""
import segbench.plugins.source as source
exec({source!r})
print(source.source_hash(Attack))
"""
    environment = {**os.environ, "PYTHONHASHSEED": str(len(source) % 7 + 1)}
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, check=True
    )
    return done.stdout.decode().strip()


def test_the_code_of_a_notebook_counts() -> None:
    first = notebook(CELL)
    assert notebook(CELL + "# edited: another seed of Python's own hashes") == first
    assert notebook(CELL.replace("'''What it does.'''", "'''Its words.'''")) == first
    assert notebook(CELL.replace("return 1\n", "return 2\n")) == first
    edits = {
        "steps: int = 3": "steps: int = 4",
        '"gradients"': '"scores"',
        "[1, 2]": "[1, 3]",
        "x=4": "x=5",
        '"q"': '"s"',
        "SHARE = 0.5": "SHARE = 0.25",
        "math.sin": "math.cos",
        "* SHARE": "+ SHARE",
        '"b"': '"d"',
        "helper(y)": "(helper(y), y)",
    }
    hashes = {notebook(CELL.replace(old, new)) for old, new in edits.items()}
    assert len(hashes | {first}) == len(edits) + 1


# -------------------------------------------------------------------------------- of plug-ins


def test_every_attack_knows_its_source_and_a_built_in_one_what_it_imports() -> None:
    sources = {name: registry.load("attacks", name).source for name in registry.names("attacks")}
    assert all(len(source) == 64 for source in sources.values())
    assert len(set(sources.values())) == len(sources)


@pytest.mark.parametrize("name", ["pgd", "corruption/blur", "art/SquareAttack"])
def test_the_losses_are_part_of_pgd_and_not_of_what_asks_no_gradient(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    plugin = registry.load("attacks", name)
    before, read = plugin.source, Path.read_bytes

    def edited(path: Path) -> bytes:
        return read(path) + (b"# edited\n" if path.name == "losses.py" else b"")

    monkeypatch.setattr(Path, "read_bytes", edited)
    now = source_hash(plugin.factory, plugin.module)
    assert (now == before) == (name == "corruption/blur")
