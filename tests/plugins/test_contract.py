"""A plug-in that breaks its contract is named, with its package and the member that is wrong."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from segbench.api import Case
from segbench.data import load_dataset
from segbench.data.phantoms.phantom import PhantomCXR
from segbench.errors import ContractError, MachineError, UserError
from segbench.plugins import registry
from segbench.plugins.attack import load_attack
from segbench.plugins.contract import check_case, check_dataset
from segbench.plugins.dataset import load_case
from segbench.plugins.report import write_report

Install = Callable[..., None]

STEPS = """
from dataclasses import dataclass
from fractions import Fraction
from segbench.api import Budget

@dataclass(frozen=True)
class Plugin:
    strength: int = 3
    needs = "gradients"
    budget_kind = "linf"
    def plan(self, budget): ...
    def init(self, context): ...
    def loss(self, logits, goal, progress): ...
    def step(self, context, state, feedback): ...
"""
MODEL = """
def Plugin(*, in_channels, num_classes, spatial_dims=2, width: int = 4):
    ...
"""
DATASET = """
class Plugin:
    class_names = ("background", "organ")
    in_channels = 1
    spatial_dims = 2
    resize_rule = "kept as they are"
    splits = ("train", "test")
    def entries(self, split): ...
    def load(self, case_id): ...
    def fingerprint(self): ...
"""
REPORT = """
from pathlib import Path

def Plugin(tables, directory):
    path = directory / "a.txt"
    path.write_text("a")
    return [path]
"""
DEFENCE = """
from dataclasses import dataclass

@dataclass(frozen=True)
class Plugin:
    strength: int = 3
    def losses(self, trainee, images, labels, draws): ...
"""
WHOLE = {
    "attacks": STEPS, "models": MODEL, "datasets": DATASET, "reports": REPORT, "defences": DEFENCE
}  # fmt: skip


def add(install: Install, kind: str, source: str, name: str = "odd") -> None:
    install("stranger", f"[segbench.{kind}]\n{name} = stranger_code:Plugin\n", source)


def use(kind: Any, name: str = "odd") -> object:
    """Load it as a command does."""
    if kind == "attacks":
        return load_attack(name)
    return load_dataset(name) if kind == "datasets" else registry.load(kind, name)


@pytest.mark.parametrize("kind", registry.KINDS)
def test_a_plugin_that_keeps_its_contract_is_loaded(kind: str, install: Install) -> None:
    add(install, kind, WHOLE[kind])
    use(kind)


METHODS = "    def plan(self, budget): ...\n"
BUDGETS = "    budgets = {}\n"


@pytest.mark.parametrize(
    ("kind", "old", "new", "words"),
    [
        ("attacks", "frozen=True", "frozen=False", "it is not a frozen dataclass"),
        ("attacks", "@dataclass(frozen=True)", "", "it is not a frozen dataclass"),
        ("defences", "frozen=True", "frozen=False", "it is not a frozen dataclass"),
        ("defences", "def losses", "def loss", "losses is missing; see segbench.api.Defence"),
        ("attacks", METHODS, "", "plan is missing; expected of a step attack: plan, init, loss"),
        ("attacks", STEPS[STEPS.index("    def plan") :], "", "are missing; expected of a step"),
        ("attacks", METHODS, "    def learn(self): ...\n", "plan is missing"),
        ("attacks", '"gradients"', '"gradient"', "needs is 'gradient'; expected one of gradients,"),
        ("attacks", 'needs = "gradients"', "pass", "needs is missing"),
        ("attacks", 'needs = "gradients"', "needs = 3", "needs is 3; expected one of"),
        ("attacks", '"linf"', '"inf"', "budget_kind is 'inf'; expected one of linf, l2, l1"),
        ("attacks", '"linf"', '"none"', "budget_kind is 'none'; expected one of"),
        ("attacks", 'budget_kind = "linf"', "pass", "budget_kind is missing"),
        ("attacks", 'budget_kind = "linf"',
         "budget_kind = property(lambda self: 'l3')", "budget_kind is 'l3'; expected one of"),
        ("attacks", '"linf"', '"area"', "budgets is missing; its budget_kind is 'area'"),
        ("attacks", '"linf"\n', '"area"\n    budgets = ()\n', "budgets is (); expected one"),
        ("attacks", '"linf"\n', '"area"\n    budgets = (0.1,)\n', "budgets holds 0.1; expected a"),
        ("attacks", '"linf"\n', '"area"\n    budgets = (Budget("linf", Fraction(1)),)\n',
         "expected a Budget of kind area"),
        ("attacks", '"linf"\n', '"min-norm"\n    budgets = (Budget("min-norm", Fraction(1)),)\n',
         "norm is None; expected one of linf, l2"),
        ("attacks", '"linf"\n', '"min-norm"\n    norm = "l2"\n'
         '    budgets = (Budget("min-norm", Fraction(1)),) * 2\n', "budgets holds 2; expected one"),
        ("attacks", '"linf"\n', '"linf"\n    target = 3\n', "target is 3; expected text or None"),
        ("attacks", '"linf"\n', '"linf"\n    libraries = ("absent-library",)\n',
         "libraries names 'absent-library', which is not installed"),
        ("attacks", "strength: int", "strength: 'Nonsense'", "types cannot be read (NameError"),
        ("models", MODEL, "Plugin = 3", "it is a int; expected a function or a class"),
        ("models", "num_classes, ", "", "unexpected keyword argument 'num_classes'"),
        ("models", "spatial_dims=2, ", "", "unexpected keyword argument 'spatial_dims'"),
        ("models", "*, in_channels", "in_channels, /", "cannot be called with (in_channels=,"),
        ("models", "width: int", "width: 'Nonsense'", "types cannot be read (NameError"),
        ("datasets", DATASET, "Plugin = None", "it is a NoneType; expected a function or a class"),
        ("datasets", "in_channels = 1", "pass", "in_channels is missing"),
        ("datasets", "in_channels = 1", "in_channels = 0", "in_channels is 0; expected 1 or more"),
        ("datasets", "spatial_dims = 2", "spatial_dims = 4", "spatial_dims is 4; expected 2 or 3"),
        ("datasets", '("background", "organ")', '["a", "b"]', "class_names is ['a', 'b']; exp"),
        ("datasets", '("background", "organ")', '("organ",)', "class_names is ('organ',); exp"),
        ("datasets", '"kept as they are"', "None", "resize_rule is None; expected one sentence"),
        ("datasets", '("train", "test")', '("test",)', "splits is ('test',); expected train and"),
        ("datasets", "def load(self, case_id): ...", "load = 3", "load is missing; expected a met"),
        ("datasets", "def fingerprint(self): ...", "", "fingerprint is missing; expected a method"),
        ("reports", "tables, directory", "tables", "cannot be called with (tables, directory)"),
        ("reports", REPORT, "Plugin = 'a.txt'", "it is a str; expected a function or a class"),
    ],
)  # fmt: skip
def test_a_broken_contract_names_the_plugin_its_package_and_the_member(
    kind: str, old: str, new: str, words: str, install: Install
) -> None:
    assert old in WHOLE[kind]
    add(install, kind, WHOLE[kind].replace(old, new))
    with pytest.raises(MachineError) as caught:
        use(kind)
    message = str(caught.value)
    assert message.startswith(f"the {kind[:-1]} 'odd' of stranger breaks its contract: ")
    assert words in message


@pytest.mark.parametrize(
    ("kind", "name", "words"),
    [("attacks", "my attack", "no spec can hold its name"),
     ("models", "7net", "no spec can hold its name"),
     ("attacks", "clean", "its name stands for images that nothing attacked")],
)  # fmt: skip
def test_a_name_that_nobody_could_ask_for_is_refused(
    kind: registry.Kind, name: str, words: str, install: Install
) -> None:
    add(install, kind, WHOLE[kind], name)
    with pytest.raises(MachineError, match=f"{name}' of stranger .*{words}"):
        registry.load(kind, name)


def test_a_family_that_is_no_function_is_refused(install: Install) -> None:
    add(install, "models", "Plugin = 4", "ours/*")
    with pytest.raises(MachineError, match=r"'ours/\*' of stranger .* is a int; expected a func"):
        registry.load("models", "ours/UNet")


def test_a_member_of_a_family_has_the_same_contract(install: Install) -> None:
    add(install, "models", "def Plugin(name):\n    return lambda width: None\n", "ours/*")
    with pytest.raises(MachineError, match=r"'ours/UNet' of stranger .*'in_channels'"):
        registry.load("models", "ours/UNet")


def test_a_plugin_that_ends_the_process_when_it_is_imported_is_named(install: Install) -> None:
    add(install, "models", "raise SystemExit(0)")
    with pytest.raises(MachineError, match=r"'odd' of stranger does not import .*SystemExit"):
        registry.load("models", "odd")


def test_a_parameter_that_must_be_given_is_asked_for(install: Install) -> None:
    add(install, "attacks", STEPS.replace("strength: int = 3", "strength: int"))
    with pytest.raises(UserError, match=r"odd needs strength, a whole number: odd:strength=\.\.\."):
        load_attack("odd")
    assert load_attack("odd:strength=2").parameters == {"strength": 2}


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("return None", "breaks its contract: it returned None; expected the paths"),
        ("return ['a.txt']", "breaks its contract: it returned ['a.txt']; expected the paths"),
        ("return [directory / 'b.txt']", "b.txt, which it has not written"),
        ("1 / 0", "failed: ZeroDivisionError: division by zero"),
        ("raise SystemExit(0)", "failed: SystemExit: 0"),
    ],
)
def test_a_report_says_what_it_wrote_or_is_named(
    body: str, words: str, install: Install, tmp_path: Path
) -> None:
    add(install, "reports", REPORT)
    tables: Any = None
    plugin = registry.load("reports", "odd")
    assert write_report(plugin, tables, tmp_path) == [tmp_path / "a.txt"]

    def broken(tables: Any, directory: Path) -> Sequence[Path]:
        scope = {"directory": directory}
        exec(f"def write():\n    {body}", scope)
        return scope["write"]()  # type: ignore[operator,no-any-return]

    with pytest.raises(MachineError) as caught:
        write_report(replace(plugin, factory=broken), tables, tmp_path)
    assert str(caught.value).startswith("the report 'odd' of stranger ")
    assert words in str(caught.value)


# --------------------------------------------------------------------------------------- cases

DATA = PhantomCXR(size=32)


def case(**changed: Any) -> Case:
    return replace(DATA.load("cxr-test-00000"), **changed)


def test_a_case_as_the_contract_says_passes() -> None:
    check_dataset(DATA)
    good = case()
    assert check_case(good, DATA) is good
    partly = np.zeros((32, 32), np.int64)
    partly[1:] = -100
    check_case(case(labels=partly, ignore_index=-100), DATA)


IMAGE, LABELS = np.zeros((1, 32, 32), np.float32), np.zeros((32, 32), np.int64)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"image": IMAGE.astype(np.float64)}, "is float64 (1, 32, 32) and its labels are (32, 32)"),
        ({"image": IMAGE[0]}, "is float32 (32, 32) and"),
        ({"image": IMAGE.repeat(2, 0)}, "expected float32 (1, H, W) and (H, W)"),
        ({"image": IMAGE[:, :16]}, "is float32 (1, 16, 32) and its labels are (32, 32)"),
        ({"labels": LABELS[:16]}, "its labels are (16, 32)"),
        ({"image": IMAGE + 2}, "has values from 2 to 2; expected [0, 1]"),
        ({"image": IMAGE - np.float32(0.5)}, "has values from -0.5"),
        ({"image": IMAGE + np.float32(np.nan)}, "has values from nan"),
        ({"labels": LABELS.astype(np.int32)}, "are int32, 0 to 0; expected int64, 0 to 1"),
        ({"labels": LABELS + 2}, "are int64, 2 to 2; expected int64, 0 to 1"),
        (
            {"labels": LABELS - 100},
            "-100 to -100; expected int64, 0 to 1 or the ignore_index (None",
        ),
    ],
)
def test_a_case_of_another_shape_type_or_range_is_named(
    changed: dict[str, Any], words: str
) -> None:
    with pytest.raises(ContractError) as caught:
        check_case(case(**changed), DATA)
    assert "case cxr-test-00000 " in str(caught.value)
    assert words in str(caught.value)


def test_a_case_whose_every_pixel_is_ignored_is_refused() -> None:
    with pytest.raises(UserError, match="case cxr-test-00000: every pixel of its mask is ignored"):
        check_case(case(labels=LABELS - 100, ignore_index=-100), DATA)


class Loads(PhantomCXR):
    """The generated data set with a ``load`` of its own."""

    def load(self, case_id: str) -> Case:
        return replace(super().load(case_id), **self.changed())

    @staticmethod
    def changed() -> dict[str, Any]:
        return {}


@pytest.mark.parametrize(
    ("changed", "error", "words"),
    [
        (lambda: {"image": IMAGE + 2}, MachineError, "breaks its contract: the image of case cxr-"),
        (lambda: 1 / 0, MachineError, "failed to load case cxr-test-00000: ZeroDivisionError"),
        (lambda: exit(0), MachineError, "failed to load case cxr-test-00000: SystemExit"),
        (lambda: {"labels": LABELS - 1, "ignore_index": -1}, UserError, "every pixel of its mask"),
    ],
)
def test_a_data_set_is_named_by_the_case_that_it_gets_wrong(
    changed: Any, error: type[Exception], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Loads, "changed", staticmethod(changed))
    with pytest.raises(error) as caught:
        load_case(Loads(size=32), "cxr-test-00000")
    assert words in str(caught.value)
    if error is MachineError:
        assert str(caught.value).startswith("the data set Loads of ")


def test_a_data_set_is_named_with_its_package() -> None:
    with pytest.raises(UserError, match="unknown case 'absent'"):
        load_case(DATA, "absent")
    broken = PhantomCXR(size=32)
    object.__setattr__(broken, "in_channels", 3)
    with pytest.raises(MachineError, match="the data set PhantomCXR of segbench breaks its contr"):
        load_case(broken, "cxr-test-00000")
