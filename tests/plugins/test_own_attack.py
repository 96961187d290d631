"""``-a my_attack.py:Class``: an attack in a file of the user's own, on equal terms with any."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from segbench.errors import MachineError, UserError
from segbench.plugins.attack import load_attack, load_attacks
from segbench.plugins.naming import attack_names, attack_spec, quantized_attack, tell_files_apart
from segbench.plugins.own_attack import own_attack, own_modules

ATTACK = """
from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from base_of_a_test import Base
from parts_of_a_test.size import SIZE

@dataclass(frozen=True)
class Mine(Base):
    '''Moves by its size.'''
    steps: int = 3
    size: float = SIZE
    needs: ClassVar[str] = "labels"
    budget_kind: ClassVar[str] = "linf"

@dataclass(frozen=True)
class Other(Mine):
    ...

@dataclass(frozen=True)
class Refuses(Mine):
    def __post_init__(self):
        from segbench.errors import UserError
        raise UserError("steps must be even")

@dataclass(frozen=True)
class Crashes(Mine):
    def __post_init__(self):
        1 / 0

class Plain: ...
constant = 4
"""
BASE = """
from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Way = Literal["up", "down"]

@dataclass(frozen=True)
class Base:
    way: Way = "up"
    def run(self, objective, images, goal, budget, noise):
        return images
"""


@pytest.fixture(autouse=True)
def modules() -> Any:
    """No module that a test imports outlives it."""
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        if name.startswith("segbench_user_") or "_of_a_test" in name:
            del sys.modules[name]


def write(folder: Path, size: float = 0.5) -> Path:
    """The attack, the class it derives from, and a constant in a folder beside it."""
    (folder / "parts_of_a_test").mkdir(parents=True)
    (folder / "parts_of_a_test" / "size.py").write_text(f"SIZE = {size}\n")
    (folder / "base_of_a_test.py").write_text(BASE)
    (folder / "attack_of_a_test.py").write_text(ATTACK)
    (folder / "unrelated_of_a_test.py").write_text("")
    return folder / "attack_of_a_test.py"


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    return write(tmp_path / "mine")


def test_a_class_in_a_file_is_an_attack_with_its_parameters(mine: Path) -> None:
    named = load_attack(f"{mine}:Mine:steps=10,way=down")
    assert named.parameters == {"steps": 10, "size": 0.5, "way": "down"}
    assert named.label == "attack_of_a_test:Mine:steps=10,way=down"
    assert load_attack(f"{mine}:Mine").label == "attack_of_a_test:Mine"
    assert named.plugin.distribution == "attack_of_a_test.py"
    assert named.plugin.own == str(mine)


def test_a_class_in_a_module_is_found_in_the_working_directory_and_elsewhere(
    mine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(mine.parent)
    named = load_attack("attack_of_a_test:Mine:steps=10")
    assert named.label == "attack_of_a_test:Mine:steps=10"
    assert load_attack("attack_of_a_test:Mine").attack == type(named.attack)()
    built_in = load_attack("segbench_attacks.pgd:PGD:steps=5")
    assert built_in.attack == load_attack("pgd:steps=5").attack
    assert built_in.label == "segbench_attacks.pgd:PGD:steps=5"


def test_it_is_read_once_and_leaves_no_module_of_its_folder_behind(mine: Path) -> None:
    path, other = list(sys.path), ModuleType("base_of_a_test")
    sys.modules["base_of_a_test"] = other
    first, second = load_attack(f"{mine}:Mine"), load_attack(f"{mine}:Mine:steps=3")
    assert first.attack == second.attack
    assert type(first.attack) is type(second.attack)
    assert sys.path == path
    assert sys.modules["base_of_a_test"] is other
    assert "parts_of_a_test" not in sys.modules


def test_two_folders_with_files_of_one_name_are_two_attacks(tmp_path: Path) -> None:
    files = [write(tmp_path / name, size) for name, size in (("a", 0.25), ("b", 0.75))]
    for _ in range(2):
        sizes = [load_attack(f"{file}:Mine").parameters["size"] for file in files]
        assert sizes == [0.25, 0.75]


@pytest.mark.parametrize(
    ("edited", "counts"),
    [("attack_of_a_test.py", True), ("base_of_a_test.py", True),
     ("parts_of_a_test/size.py", True), ("unrelated_of_a_test.py", False)],
)  # fmt: skip
def test_an_edit_of_the_file_or_of_what_it_imports_is_another_attack(
    edited: str, counts: bool, mine: Path
) -> None:
    first = load_attack(f"{mine}:Mine").plugin
    assert load_attack(f"{mine}:Mine:steps=5").plugin.source == first.source
    with (mine.parent / edited).open("a") as file:
        file.write("# edited\n")
    again = load_attack(f"{mine}:Mine").plugin
    assert (again.source != first.source) == counts
    assert (again.version != first.version) == counts
    assert load_attack(f"{mine}:Other").plugin.source == again.source


def test_what_was_edited_is_what_runs(mine: Path) -> None:
    assert load_attack(f"{mine}:Mine").parameters["size"] == 0.5
    (mine.parent / "parts_of_a_test" / "size.py").write_text("SIZE = 0.125\n")
    assert load_attack(f"{mine}:Mine").parameters["size"] == 0.125


@pytest.mark.parametrize(
    ("text", "error", "words"),
    [
        ("Mien", UserError, "attack_of_a_test.py has no attack 'Mien'; did you mean 'Mine'?"),
        ("constant", UserError, "has no attack 'constant'"),
        ("Plain", MachineError, "the attack 'attack_of_a_test:Plain' of attack_of_a_test.py breaks "
         "its contract: it is not a frozen dataclass"),
        ("Mine:stesp=3", UserError, "has no parameter 'stesp'; did you mean 'steps'?"),
        ("Mine:steps=x", UserError, "attack_of_a_test:Mine: steps='x' is not a whole number"),
        ("Mine:steps", UserError, "expected key=value at 'steps'"),
        ("Refuses", UserError, "attack_of_a_test:Refuses: steps must be even"),
        ("Crashes", MachineError, "failed to start: ZeroDivisionError"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_it_is_one_sentence(
    text: str, error: type[Exception], words: str, mine: Path
) -> None:
    with pytest.raises(error) as caught:
        load_attack(f"{mine}:{text}")
    assert words in str(caught.value)


@pytest.mark.parametrize("source", ["import absent_package", "def", "1 / 0", "exit(0)"])
def test_a_file_that_does_not_import_is_named(source: str, tmp_path: Path) -> None:
    file = tmp_path / "broken_of_a_test.py"
    file.write_text(source)
    with pytest.raises(UserError, match=r"attack file .*broken_of_a_test\.py does not import"):
        load_attack(f"{file}:Mine")
    with pytest.raises(UserError, match=r"attack file .*absent\.py does not exist"):
        load_attack(f"{tmp_path}/absent.py:Mine")
    with pytest.raises(UserError, match="attack absent_package:Mine: the module absent_package"):
        load_attack("absent_package:Mine")


@pytest.mark.parametrize(
    ("text", "module", "member", "parameters"),
    [
        ("my.py:Mine", "my.py", "Mine", ""),
        ("a b/lr=0.1/my.py:Mine:steps=3,x=y.py:z", "a b/lr=0.1/my.py", "Mine", "steps=3,x=y.py:z"),
        ("package.my:Mine:steps=3", "package.my", "Mine", "steps=3"),
        ("art/my.py:Mine", "art/my.py", "Mine", ""),
    ],
)
def test_a_text_that_means_a_class_is_told_from_a_spec(
    text: str, module: str, member: str, parameters: str
) -> None:
    own = own_attack(text)
    assert own is not None
    assert (own.module, own.member, own.parameters) == (module, member, parameters)


@pytest.mark.parametrize(
    "text",
    ["pgd", "pgd:steps=40", "pgd:steps", "my:steps=3", "art/SquareAttack:p_init",
     'transfer:source=a,attack="my.py:Mine"', "transfer:source=a,attack=my.py:Mine"],
)  # fmt: skip
def test_a_spec_is_no_class(text: str) -> None:
    assert own_attack(text) is None


def test_what_runs_code_of_the_users_is_known_before_it_is_loaded() -> None:
    texts = [
        "pgd", "my.py:Mine", "my.py:Other:steps=3", "package.my:Mine", "pgd:steps",
        'transfer:source=a,attack="theirs.py:Mine:steps=3"',
    ]  # fmt: skip
    assert own_modules(texts) == ["my.py", "package.my", "theirs.py"]


# --------------------------------------------------------------------------------- their names


def test_two_that_share_a_name_are_told_apart(tmp_path: Path) -> None:
    a, b, c = (write(tmp_path / name) for name in ("a", "b", "c/deep"))
    texts = [f"{a}:Mine:steps=5", f"{b}:Mine", f"{a}:Other", "pgd", f"{a}:Mine"]
    assert [attack.label for attack in load_attacks(texts)] == [
        "a/attack_of_a_test:Mine:steps=5", "b/attack_of_a_test:Mine", "a/attack_of_a_test:Other",
        "pgd", "a/attack_of_a_test:Mine",
    ]  # fmt: skip
    [one, *_] = attacks = load_attacks([f"{a}:Mine", f"{a}:Other", f"{c}:Mine"])
    assert one.label == "a/attack_of_a_test:Mine"
    assert attacks[-1].label == "deep/attack_of_a_test:Mine"
    assert one.plugin.source == load_attack(f"{a}:Mine").plugin.source
    assert [x.label for x in load_attacks([f"{a}:Mine", f"{a}:Other"])] == [
        "attack_of_a_test:Mine", "attack_of_a_test:Other",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("files", "names"),
    [
        (["x/my.py"], ["my"]),
        (["x/a/my.py", "x/b/my.py", "your.py"], ["a/my", "b/my", "your"]),
        (["x/a/my.py", "y/a/my.py"], ["x/a/my", "y/a/my"]),
        (["x/my.py", "./x/my.py"], ["my", "my"]),
        (["lr=0.1/my,a.py", "lr=0.2/my,a.py"], ["lr_0.1/my_a", "lr_0.2/my_a"]),
    ],
)
def test_files_are_named_as_shortly_as_tells_them_apart(files: list[str], names: list[str]) -> None:
    found = tell_files_apart({str(n): file for n, file in enumerate(files)})
    assert list(found.values()) == names


def test_tables_write_it_like_every_other_attack(mine: Path) -> None:
    named = load_attack(f"{mine}:Mine:steps=10")
    full = attack_spec(named.label, named.parameters_text)
    assert full == "attack_of_a_test:Mine:size=0.5,steps=10,way=up"
    other = full.replace("steps=10", "steps=20")
    assert attack_names([full, other, "pgd:steps=40"]) == {
        full: "attack_of_a_test:Mine:steps=10",
        other: "attack_of_a_test:Mine:steps=20",
        "pgd:steps=40": "pgd",
    }
    assert attack_names([full]) == {full: "attack_of_a_test:Mine"}
    assert quantized_attack("my:Mine", {})[0] == "my:Mine:quantized=true"
    assert quantized_attack("my:Mine:steps=3", {})[0] == "my:Mine:steps=3,quantized=true"
