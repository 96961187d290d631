"""One broken plug-in is one row: it ends neither ``list`` nor ``doctor``, and the status is 3."""

from __future__ import annotations

import json

import pytest

POINTS = """
[segbench.models]
odd = stranger_code:constant
[segbench.attacks]
odd = stranger_code:attack
pgd = stranger_code:attack
absent = stranger_missing:Attack
ours/* = stranger_code:constant
late = stranger_code:Late
[segbench.datasets]
odd = stranger_missing:Data
[segbench.defences]
odd = stranger_code:constant
[segbench.reports]
odd = stranger_code:constant
"""
CODE = """
from dataclasses import dataclass

constant = 3

def attack():
    ...

@dataclass(frozen=True)
class Late:
    '''Its budget is known when it is made.'''
    needs = "gradients"
    def run(self, objective, images, goal, budget, noise): ...
    @property
    def budget_kind(self):
        return "[/bold]"
"""
BROKEN = {
    "models": {"odd": "'odd' of stranger breaks its contract: it is a int"},
    "attacks": {
        "odd": "'odd' of stranger breaks its contract: it is not a frozen dataclass",
        "pgd": "is claimed by more than one package: segbench (segbench_attacks.pgd:PGD), strang",
        "absent": "'absent' of stranger does not import",
        "ours": "'ours/*' of stranger breaks its contract: it is a int; expected a function",
    },
    "datasets": {"odd": "'odd' of stranger does not import"},
    "reports": {"odd": "'odd' of stranger breaks its contract: it is a int"},
    "defences": {"odd": "'odd' of stranger breaks its contract: it is not a frozen dataclass"},
}


def test_list_shows_every_other_plugin_and_says_what_is_broken(segbench, install) -> None:
    whole = json.loads(segbench("list", "--json").stdout)
    install("stranger", POINTS, CODE)
    result = segbench("list", "--json")
    assert result.exit_code == 3
    found = json.loads(result.stdout)
    for kind, entries in found.items():
        broken = {entry["name"]: entry["broken"] for entry in entries if "broken" in entry}
        assert broken.keys() == BROKEN[kind].keys()
        for name, words in BROKEN[kind].items():
            assert words in broken[name]
        sound = [entry for entry in entries if "broken" not in entry and entry["name"] != "late"]
        assert sound == [entry for entry in whole[kind] if entry["name"] not in broken]


@pytest.mark.parametrize("kind", BROKEN)
def test_list_of_a_kind_shows_broken_ones_in_its_table(kind: str, segbench, install) -> None:
    assert segbench("list", kind).exit_code == 0
    install("stranger", POINTS, CODE)
    result = segbench("list", kind)
    assert result.exit_code == 3
    assert "broken: the" in " ".join(result.stdout.split())


def test_doctor_says_of_each_what_is_broken(segbench, install, tmp_path) -> None:
    assert segbench("doctor", "--workspace", tmp_path).exit_code == 0
    install("stranger", POINTS, CODE)
    result = segbench("doctor", "--workspace", tmp_path)
    assert result.exit_code == 3
    lines = [line for line in result.stdout.splitlines() if line.startswith("broken")]
    words = [words for broken in BROKEN.values() for words in broken.values()]
    words.append(
        "'late' of stranger breaks its contract: budget_kind is '[/bold]'; expected one of"
    )
    assert len(lines) == len(words)
    for expected in words:
        assert [line for line in lines if expected in line]
