"""What work has cost is remembered, added up, and taken for what is like it; a guess says so."""

from __future__ import annotations

from pathlib import Path

import pytest

from segbench.evaluation.costs import FORWARD, GUESS, Costs, Kind
from segbench.evaluation.pieces import Spent
from segbench.store.workspace import Workspace

SHAPE = (1, 8, 8)
CLEAN = Kind("net", "cpu", SHAPE)
PGD = Kind("net", "cpu", SHAPE, "pgd")


def spent(seconds: float, making: float, gradients: int, forwards: int = 0, **more: float) -> Spent:
    return Spent("cpu", seconds, made=4, making=making, gradients=gradients, forwards=forwards,
                 **more)  # type: ignore[arg-type] # fmt: skip


@pytest.fixture
def measured(tmp_path: Path) -> Costs:
    costs = Costs(Workspace(tmp_path))
    costs.add(CLEAN, 4, Spent("cpu", 0.4, ready=3.0))
    costs.add(PGD, 4, spent(16.4, 16.0, 160, 160))
    return costs


def test_a_case_costs_its_gradients_and_what_any_case_costs(measured: Costs) -> None:
    one = measured.case(PGD, guess=7.0)
    assert one.gradients == 40
    assert one.seconds == pytest.approx(0.1 + 40 * 0.1)
    assert one.like == "itself"
    assert measured.case(CLEAN, 0.0).seconds == pytest.approx(0.1)
    assert measured.ready("net", "cpu") == 3.0


def test_another_attack_costs_its_own_gradients_at_the_networks_pace(measured: Costs) -> None:
    measured.add(Kind("other", "cpu", SHAPE, "sea"), 4, spent(1.0, 1.0, 400, 400))
    sea = measured.case(Kind("net", "cpu", SHAPE, "sea"), guess=7.0)
    assert sea.gradients == 100
    assert sea.seconds == pytest.approx(0.1 + 100 * 0.1)
    assert sea.like == "another network"


def test_a_search_without_gradients_costs_its_forward_passes(measured: Costs) -> None:
    kind = Kind("net", "cpu", SHAPE, "square")
    measured.add(kind, 4, spent(40.0, 40.0, 0, 1200))
    one = measured.case(kind, guess=7.0)
    pace = 56 / (160 + 1200 * FORWARD)
    assert one.gradients == 0
    assert one.seconds == pytest.approx(measured.case(CLEAN, 0).seconds
                                        + 300 * FORWARD * pace)  # fmt: skip


def test_images_of_another_size_cost_by_their_pixels(measured: Costs) -> None:
    one = measured.case(Kind("net", "cpu", (1, 16, 16), "pgd"), guess=7.0)
    assert one.like == "another size"
    assert one.seconds == pytest.approx(4 * 4.1)


def test_what_is_like_nothing_is_a_guess_and_says_so(tmp_path: Path, measured: Costs) -> None:
    assert measured.case(Kind("net", "cpu", SHAPE, "new"), guess=7.0).like == GUESS
    nothing = Costs(Workspace(tmp_path / "empty")).case(PGD, guess=7.0)
    assert (nothing.gradients, nothing.like) == (7.0, GUESS)
    assert nothing.seconds > 0


def test_images_of_others_and_fits_say_nothing_of_the_networks_pace(measured: Costs) -> None:
    before = measured.case(PGD, 0.0)
    moved = Kind("net", "cpu", SHAPE, "transfer", direct=True)
    measured.add(moved, 4, spent(100.1, 100.0, 4, 4))
    assert measured.case(moved, 0.0).seconds == pytest.approx(25.0, abs=0.2)
    assert measured.case(PGD, 0.0).seconds == pytest.approx(before.seconds, abs=0.1)


def test_two_runs_add_to_one_memory_and_a_damaged_one_is_none(
    tmp_path: Path, measured: Costs
) -> None:
    other = Costs(Workspace(tmp_path))
    other.add(PGD, 4, spent(48.0, 48.0, 160, 160))
    measured.save()
    measured.save()  # nothing new
    other.save()
    again = Costs(Workspace(tmp_path))
    assert again.case(PGD, 0.0).seconds == pytest.approx(0.4 / 12 * 2 + 40 * 0.2, abs=0.1)
    [file] = (tmp_path / "results" / "costs").iterdir()
    file.write_bytes(file.read_bytes().replace(b"16", b"17", 1))
    assert Costs(Workspace(tmp_path)).case(PGD, 3.0).like == GUESS
