"""Until settled: what shows signs of being stuck is attacked again, and nothing else is."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
import torch
from brief import shorten_suites
from torch import Tensor, nn
from toys import Ready, Silence

from segbench.data import load_dataset
from segbench.evaluation import settle as settling
from segbench.evaluation.plan import plan_grid
from segbench.evaluation.records import validated
from segbench.evaluation.request import Request, select_data
from segbench.evaluation.run import run_grid
from segbench.evaluation.settle import most_added, settle
from segbench.store.rows import read_rows
from segbench.store.runs import read_runs
from segbench.store.workspace import Workspace
from segbench.tables.load import load_tables

DATA = "phantom-cxr:size=32,test_cases=2"


class Dark(nn.Module):
    """Lungs are what is dark, by a local mean."""

    def forward(self, images: Tensor) -> Tensor:
        return 12 * (0.5 - nn.functional.avg_pool2d(images, 5, 1, 2))


class Saturated(Dark):
    """The same labels through a tanh whose gradient is zero in fp32 wherever one looks."""

    def forward(self, images: Tensor) -> Tensor:
        return torch.tanh(1e5 * super().forward(images))


@pytest.mark.parametrize(
    ("kind", "runs", "where"),
    [
        (Dark, 1, ""),
        pytest.param(Saturated, 3, "", marks=pytest.mark.slow),
        (Saturated, 3, ",where=outside"),
    ],
)
def test_only_what_is_in_doubt_is_attacked_again_and_only_there(
    kind: Any, runs: int, where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shorten_suites(monkeypatch, 4)
    asked = {
        "attacks": [f"pgd:steps=4{where}"],
        "eps": ["16/255"],
        "device": "cpu",
        "precision": "fp32",
    }
    request = validated(Request, asked)
    data = select_data(DATA, load_dataset(DATA), "test", None)
    pairs, store = [(Ready(kind), data)], Workspace(tmp_path)
    first = run_grid(pairs, plan_grid(request), store, request, Silence())
    records = settle(pairs, request, store, first, Silence())
    assert len(records) == runs
    tables = load_tables(store, run=records)
    attacks = set(tables.cases["attack"])
    assert any(attack.startswith("standard") for attack in attacks) == (runs > 1)
    assert all(where[1:] in attack for attack in attacks - {"clean"})
    at = tables.cases[tables.cases["budget"] == float(Fraction(16, 255))]
    if runs > 1:
        least = at.groupby("attack")["jaccard"].mean()
        pgd = least[[name for name in least.index if name.startswith("pgd")]].item()
        assert least.min() < pgd - 0.02  # the member without gradients is not deceived


class Telling(Silence):
    """Keeps what it is warned of."""

    def __init__(self) -> None:
        self.heard: list[str] = []

    def warn(self, sentence: str) -> None:
        self.heard.append(sentence)


def settled(
    kind: Any, attacks: list[str], eps: str, root: Path, **more: Any
) -> tuple[set[str], list[str]]:
    """The attacks of all that was run, and what was said."""
    asked = {"attacks": attacks, "eps": [eps] if eps else [], "device": "cpu", "precision": "fp32"}
    request = validated(Request, asked | more)
    data = select_data(DATA, load_dataset(DATA), "test", None)
    pairs, store, listener = [(Ready(kind), data)], Workspace(root), Telling()
    first = run_grid(pairs, plan_grid(request), store, request, Silence())
    settle(pairs, request, store, first, listener)
    return {*read_rows(store, [])["attack"]} - {"clean"}, listener.heard


def test_a_curve_in_l2_is_attacked_again_in_l2(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settling, "STRONGER", ("standard@4:cost=quick",))  # so that it is soon done
    ran, heard = settled(Saturated, ["pgd:steps=4,norm=l2,where=outside"], "2", tmp_path)
    again = "standard:cost=quick,norm=l2,version=4,where=outside"
    assert ran == {"pgd:norm=l2,steps=4,where=outside", again}
    assert heard == [
        f"net is attacked again by {again} at 2, where what was found is in doubt",
    ]


def test_what_cannot_be_judged_is_left_alone_and_named(tmp_path: Path) -> None:
    attacks = ["pgd:steps=2,target=empty", "pgd:norm=l1,steps=2", "corruption/blur:severities=1"]
    ran, heard = settled(Saturated, [*attacks, "dag:steps=2"], "16/255", tmp_path)
    assert len(ran) == 4
    assert heard == [
        "pgd:steps=2,target=empty, pgd:norm=l1,steps=2, corruption/blur:severities=1, dag:steps=2 "
        "are not judged by --until-settled, which knows untargeted attacks in L-infinity and L2"
    ]


def test_nothing_bounded_leaves_nothing_to_settle(tmp_path: Path) -> None:
    proved = {"certify": {"sigma": 0.25, "n0": 4, "n": 50}}
    ran, heard = settled(Saturated, [], "", tmp_path / "certified", **proved)
    assert (ran, heard) == ({"smoothing:sigma=0.25"}, [])


def test_corruptions_beside_are_not_attacked_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settling, "STRONGER", ("pgd:steps=3",))
    ran, heard = settled(Saturated, ["corruption/blur:severities=1", "fgsm"], "16/255", tmp_path)
    assert ran == {"corruption/blur:severities=1", "fgsm", "pgd:steps=3"}
    assert [sentence.split(", wh")[0] for sentence in heard] == [
        "corruption/blur:severities=1 is not judged by --until-settled",
        "net is attacked again by pgd:steps=3 at 16/255",
    ]


class Killed(Silence):
    """Stops a run at its second attack, as a signal does."""

    attacks = 0

    def cell(self, model: str, cell: Any) -> None:
        self.attacks += cell.attack is not None
        if self.attacks == 2:
            raise KeyboardInterrupt


class Counting(Silence):
    """Counts what is computed and what is found."""

    def __init__(self) -> None:
        self.computed = self.found = 0

    def cases(self, computed: int, found: int) -> None:
        self.computed, self.found = self.computed + computed, self.found + found


@pytest.mark.parametrize("killed_at", [1, 2])
def test_the_same_command_goes_on_where_settling_was_killed(
    killed_at: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settling, "STRONGER", ("pgd:steps=2", "pgd:steps=3"))
    eps = ["8/255", "16/255"]
    whole = all_runs(tmp_path / "whole", Counting(), attacks=["fgsm"], eps=eps)
    killed = Killed()
    killed.attacks = 2 - 2 * killed_at
    with pytest.raises(KeyboardInterrupt):
        all_runs(tmp_path / "cut", killed, attacks=["fgsm"], eps=eps)
    again = Counting()
    resumed = all_runs(tmp_path / "cut", again, attacks=["fgsm"], eps=eps)
    assert len(resumed) == len(whole) == 3
    assert 0 < again.computed < 14
    names = ["attack", "budget", "case_id", "jaccard"]
    shown = [
        load_tables(Workspace(tmp_path / root), run=records).cases[names]
        for root, records in (("cut", resumed), ("whole", whole))
    ]
    assert shown[0].equals(shown[1])


def all_runs(root: Path, listener: Any, **asked: Any) -> list[Any]:
    """The records of a request that is settled."""
    request = validated(Request, {"device": "cpu", "precision": "fp32", **asked})
    data = select_data(DATA, load_dataset(DATA), "test", None)
    pairs, store = [(Ready(Saturated), data)], Workspace(root)
    first = run_grid(pairs, plan_grid(request), store, request, listener)
    return settle(pairs, request, store, first, listener)


def test_fresh_computes_everything_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Older rows of what follows are computed anew, and nothing of this request twice."""
    monkeypatch.setattr(settling, "STRONGER", ("pgd:steps=3", "fgsm"))
    asked: dict[str, Any] = {"attacks": ["fgsm"], "eps": ["16/255"], "save_adversarial": True}
    heard = [Counting() for _ in range(3)]
    records = [
        record
        for fresh, listener in zip((False, True, True), heard, strict=True)
        for record in all_runs(tmp_path, listener, **asked, fresh=fresh)
    ]
    assert [listener.computed for listener in heard] == [6, 6, 6]  # clean, fgsm, pgd: 2 cases each
    assert [listener.found for listener in heard] == [6, 6, 6]  # clean twice, fgsm once
    newest = read_rows(Workspace(tmp_path)).groupby("attack")["run"].unique().map(list)
    assert newest.to_dict() == {"clean": [7], "fgsm": [7], "pgd:steps=3": [8]}
    assert len(records) == len(read_runs(Workspace(tmp_path))) == 9


@pytest.mark.parametrize(
    ("asked", "most"),
    [
        ({"attacks": ["fgsm"]}, 2 * 2),  # two budgets, by `standard` and its thorough form
        ({"attacks": ["fgsm", "pgd"]}, 2 * 2),
        ({"attacks": ["fgsm", "fgsm:where=inside"]}, 2 * 2 * 2),
        ({"attacks": ["fgsm", "standard"]}, 2),
        ({"attacks": ["standard", "standard:cost=thorough"]}, 0),
        ({"attacks": ["fgsm"], "seeds": [0, 1], "quantize": True}, 2 * 2 * 4),
        ({"attacks": ["pgd:target=empty"]}, 0),
        ({"attacks": ["corruption/blur:severities=1"], "eps": []}, 0),
        ({"attacks": [], "eps": [], "certify": {"sigma": 0.25}}, 0),
    ],
)
def test_what_may_be_added_is_bounded_before_anything_runs(asked: Any, most: int) -> None:
    request = validated(Request, {"eps": ["1/255", "2/255"], **asked})
    assert most_added(request, 5) == 5 * most
