"""The registry: names found lazily, near misses suggested, conflicts and breakage named."""

from __future__ import annotations

import sys
from collections.abc import Callable

import pytest

from segbench.errors import MachineError, UserError
from segbench.plugins import registry
from segbench.plugins.attack import load_attack

Install = Callable[..., None]

ATTACK = """
from dataclasses import dataclass
from fractions import Fraction

@dataclass(frozen=True)
class Attack:
    strength: int = 3
    nonlocal_: bool = False
    share: float = 0.5
    needs = "gradients"
    budget_kind = "linf"
    def run(self, objective, images, goal, budget, noise):
        return images

class Plain:
    pass

number = 4
"""


def test_a_foreign_plugin_is_on_equal_terms(install: Install) -> None:
    install("foreign", "[segbench.attacks]\nshove = foreign_code:Attack\n", ATTACK)
    assert {"shove", "pgd"} <= set(registry.names("attacks"))
    plugin = registry.load("attacks", "shove")
    assert (plugin.distribution, plugin.version) == ("foreign", "1.2")
    named = load_attack("shove:strength=5,nonlocal=true,share=0.123456789")
    assert named.label == "shove:nonlocal=true,share=0.123456789,strength=5"
    assert load_attack(named.label).attack == named.attack
    assert named.parameters == {"strength": 5, "nonlocal": True, "share": 0.123456789}


def test_nothing_is_imported_before_it_is_asked_for(install: Install) -> None:
    install("foreign", "[segbench.attacks]\nshove = foreign_code:Attack\n", "1 / 0")
    assert "shove" in registry.names("attacks")
    assert registry.load("attacks", "pgd").name == "pgd"
    assert "foreign_code" not in sys.modules


@pytest.mark.parametrize(
    ("name", "nearest"), [("pgdd", "'pgd'"), ("ifsgm", "'ifgsm'"), ("PGD", None), ("zzzz", None)]
)
def test_an_unknown_name_is_answered_with_the_nearest_and_all_valid_ones(
    name: str, nearest: str | None
) -> None:
    with pytest.raises(UserError) as caught:
        registry.load("attacks", name)
    message = str(caught.value)
    assert message.startswith(f"unknown attack {name!r}")
    if nearest:
        assert f"did you mean {nearest}?" in message
    families = [f"{name}/*" for name in registry.families("attacks")]
    valid = [*registry.names("attacks"), *families]
    assert f"(valid: {', '.join(sorted(valid))})" in message


@pytest.mark.parametrize("kind", registry.KINDS)
def test_every_kind_has_a_word_for_one_of_it(kind: registry.Kind) -> None:
    with pytest.raises(UserError, match=rf"^unknown {kind[:-1]} 'zzzz'"):
        registry.load(kind, "zzzz")


def test_two_packages_that_claim_a_name_are_both_named(install: Install) -> None:
    install("foreign", "[segbench.attacks]\npgd = foreign_code:Attack\n", ATTACK)
    with pytest.raises(UserError) as caught:
        registry.load("attacks", "pgd")
    message = str(caught.value)
    assert "foreign (foreign_code:Attack)" in message
    assert "segbench (segbench_attacks.pgd:PGD)" in message
    assert registry.load("attacks", "fgsm").distribution == "segbench"


def test_two_packages_that_mean_the_same_object_do_not_conflict(install: Install) -> None:
    install("foreign", "[segbench.attacks]\nfgsm = segbench_attacks.fgsm:FGSM\n")
    assert registry.load("attacks", "fgsm").factory is registry.load("attacks", "fgsm").factory


@pytest.mark.parametrize(
    ("point", "source", "reason"),
    [
        ("broken_code:Attack", "1 / 0", "ZeroDivisionError: division by zero"),
        ("broken_code:Attack", "import absent_package", "No module named 'absent_package'"),
        ("broken_code:Attack", "", "has no attribute 'Attack'"),
        ("broken_code:Attack", "def", "SyntaxError"),
        ("missing_code:Attack", "", "No module named 'missing_code'"),
    ],
)
def test_a_broken_plugin_is_named_with_its_package_and_the_reason(
    point: str, source: str, reason: str, install: Install
) -> None:
    install("broken", f"[segbench.attacks]\nshove = {point}\n", source)
    with pytest.raises(MachineError) as caught:
        registry.load("attacks", "shove")
    message = str(caught.value)
    assert message.startswith("the attack 'shove' of broken does not import")
    assert point in message
    assert reason in message


@pytest.mark.parametrize("what", ["Plain", "number"])
def test_an_attack_that_is_no_dataclass_is_refused_by_name(what: str, install: Install) -> None:
    install("broken", f"[segbench.attacks]\nshove = broken_code:{what}\n", ATTACK)
    with pytest.raises(
        MachineError, match="'shove' of broken breaks its contract: it is not a frozen"
    ):
        load_attack("shove")


def test_an_attack_that_fails_to_start_is_named(install: Install) -> None:
    source = ATTACK.replace(
        "    strength: int = 3", "    strength: int = 3\n    def __post_init__(self): 1 / 0"
    )
    install("broken", "[segbench.attacks]\nshove = broken_code:Attack\n", source)
    with pytest.raises(MachineError, match=r"'shove' of broken failed to start: ZeroDivision"):
        load_attack("shove")


def test_clean_is_no_attack() -> None:
    with pytest.raises(UserError, match="always measured"):
        load_attack("clean")
