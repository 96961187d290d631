"""What is computed is stored soon: an interruption or a death loses the batch in flight."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from toys import Curved, Ready, Silence

from segbench.data import load_dataset
from segbench.errors import MachineError
from segbench.evaluation import sources, worker
from segbench.evaluation.grid import Grid
from segbench.evaluation.model_run import run_model
from segbench.evaluation.pieces import Piece
from segbench.evaluation.request import Options, select_data
from segbench.evaluation.work import open_work
from segbench.plugins.attack import load_attack
from segbench.store.rows import read_rows
from segbench.store.workspace import Workspace

DATA = "phantom-cxr:size=32,test_cases=5"
GRID = Grid([load_attack("pgd:steps=2")], [Fraction(4, 255)])
OPTIONS = Options("fp32", "cpu", 1)


class Count(Silence):
    """Counts the scores that are computed and found."""

    def __init__(self) -> None:
        self.computed = self.found = 0

    def cases(self, computed: int, found: int) -> None:
        self.computed += computed
        self.found += found


def run(root: Path, options: Options = OPTIONS) -> Count:
    data, count = select_data(DATA, load_dataset(DATA), "test", None), Count()
    run_model(Ready(Curved), data, GRID, Workspace(root), options, count)
    return count


def scores(root: Path) -> pd.DataFrame:
    rows = read_rows(Workspace(root)).sort_values(["attack", "case_id", "class_id"])
    return rows[["attack", "case_id", "class_id", "jaccard", "linf"]].reset_index(drop=True)


@pytest.fixture
def at_case(monkeypatch: pytest.MonkeyPatch) -> Callable[[int, BaseException], None]:
    """Has the attack on the case at that place raise something, every time that it is begun."""
    monkeypatch.setattr(sources, "WORTH_STORING", 0.0)
    monkeypatch.setattr(worker, "WORTH_STORING", 0.0)
    plain, fourth = worker.attack_cases, load_dataset(DATA).entries("test")

    def fail(place: int, error: BaseException) -> None:
        def attack(network: Any, batch: Any, cell: Any, fitted: Any) -> Any:
            if cell.attack and fourth[place].case_id in batch.case_ids:
                raise error
            return plain(network, batch, cell, fitted)

        monkeypatch.setattr(worker, "attack_cases", attack)

    return fail


@pytest.mark.parametrize("kept", [False, True])
def test_an_interruption_loses_the_batch_in_flight(
    kept: bool,
    at_case: Callable[[int, BaseException], None],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    options = replace(OPTIONS, save_adversarial=kept)
    with monkeypatch.context() as patched:
        patched.setattr(worker, "attack_cases", worker.attack_cases)
        at_case(3, KeyboardInterrupt())
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path / "runs", options)
    monkeypatch.undo()
    again = run(tmp_path / "runs", options)
    assert (again.computed, again.found) == (2, 5 + 3)
    run(tmp_path / "whole", options)
    pd.testing.assert_frame_equal(scores(tmp_path / "runs"), scores(tmp_path / "whole"))


def test_a_case_that_fails_has_none_of_those_that_are_stored_computed_again(
    at_case: Callable[[int, BaseException], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_case(3, MachineError("it cannot be attacked"))
    begun: list[str] = []
    failing = worker.attack_cases

    def counted(network: Any, batch: Any, cell: Any, fitted: Any) -> Any:
        begun.extend(batch.case_ids if cell.attack else ())
        return failing(network, batch, cell, fitted)

    monkeypatch.setattr(worker, "attack_cases", counted)
    with pytest.raises(MachineError, match="cannot be attacked"):
        run(tmp_path)
    names = [entry.case_id for entry in load_dataset(DATA).entries("test")]
    assert begun == [*names[:4], names[3], names[4]]
    rows = scores(tmp_path)
    assert {*rows[rows["attack"] != "clean"]["case_id"]} == {*names} - {names[3]}


def test_no_batch_is_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a batch costs as much as a case, cutting it would make it no earlier."""
    for module in (sources, worker):
        monkeypatch.setattr(module, "WORTH_STORING", 0.0)
    sizes: list[int] = []
    for name in ("attack_cases", "score_cases"):
        plain = getattr(worker, name)

        def counted(network: Any, batch: Any, *more: Any, plain: Any = plain) -> Any:
            sizes.append(len(batch.cases))
            return plain(network, batch, *more)

        monkeypatch.setattr(worker, name, counted)
    assert run(tmp_path, replace(OPTIONS, batch_size=2)).computed == 10
    assert sorted(sizes) == [1] * 4 + [2] * 8


@pytest.mark.parametrize("kept", [False, True])
def test_what_is_slow_to_score_is_stored_as_it_is_scored(
    kept: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where its images were kept, all in one file, and its rows are gone."""
    if kept:
        run(tmp_path, replace(OPTIONS, save_adversarial=True))
        for path in Workspace(tmp_path).results.rglob("*.parquet"):
            path.unlink()
    fourth = load_dataset(DATA).entries("test")[3].case_id
    plain = worker.score_cases

    def failing(network: Any, batch: Any, cell: Any, *more: Any) -> Any:
        if cell.attack and fourth in batch.case_ids:
            raise KeyboardInterrupt
        return plain(network, batch, cell, *more)

    with monkeypatch.context() as patched:
        patched.setattr(worker, "WORTH_STORING", 0.0)
        patched.setattr(worker, "score_cases", failing)
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path)
    again = run(tmp_path)
    assert (again.computed, again.found) == (2, 5 + 3)


def test_of_a_piece_whose_worker_died_only_what_is_not_stored_is_computed(tmp_path: Path) -> None:
    data, count = select_data(DATA, load_dataset(DATA), "test", None), Count()
    names = tuple(entry.case_id for entry in data.entries)
    with open_work(Ready(Curved), data, GRID, Workspace(tmp_path), 1, OPTIONS, count) as work:
        keys = tuple(view.key for view in work.cells[1][1])
        some = Piece("net", 1, keys, dict.fromkeys(names[:2], (0,)))
        work.compute(some)
        whole = replace(some, lacking=dict.fromkeys(names, (0,)), again=True)
        assert count.computed == 2
        assert not work.compute(whole).errors
        assert count.computed == len(names)
        work.compute(whole)
        assert count.computed == len(names)
    with open_work(Ready(Curved), data, GRID, Workspace(tmp_path), 2, OPTIONS, count) as work:
        work.compute(whole)  # of another run: a fresh one computes all of it
    assert count.computed == 2 * len(names)
