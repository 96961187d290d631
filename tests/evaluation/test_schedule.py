"""Who takes what: everything once, longest first over all networks, and nobody idles at the end."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from segbench.evaluation.executors.deaths import Deaths
from segbench.evaluation.pieces import CASES_AT_ONCE, Piece
from segbench.evaluation.schedule import Queue, cut, simulate

SECONDS = {"big": 9.0, "middle": 3.0, "small": 1.0}


def piece(model: str, cell: int, *cases: str, **facts: object) -> Piece:
    return Piece(model, cell, (f"{model}{cell}",), dict.fromkeys(cases, (0,)), **facts)  # type: ignore[arg-type]


def cost(one: Piece) -> float:
    return SECONDS.get(one.model, 1.0) * one.cell * len(one.lacking)


def grid(model: str, cells: int, cases: int = 1) -> list[Piece]:
    return [piece(model, cell, *(f"c{n}" for n in range(cases))) for cell in range(cells)]


def drain(queue: Queue, model: str | None = None) -> list[Piece]:
    taken = []
    while one := queue.take(model):
        taken.append(one)
        queue.done(one)
    return taken


def test_clean_scores_come_first_and_attacks_wait_for_them_then_the_longest_is_first() -> None:
    queue = Queue(cost)
    queue.add("big", grid("big", 4))
    clean = queue.take()
    assert clean is not None
    assert clean.cell == 0
    assert queue.take() is None
    queue.done(clean)
    assert len(queue) == 3
    queue.open("big")
    assert [one.cell for one in drain(queue)] == [3, 2, 1]
    assert not queue


def test_what_costs_the_same_is_taken_as_it_came() -> None:
    queue = Queue()
    pieces = grid("net", 5)
    queue.add("net", pieces)
    queue.open("net")
    assert drain(queue) == pieces


def test_the_order_is_that_of_what_is_known_when_the_attacks_begin() -> None:
    known = {1: 5.0, 2: 1.0}
    queue = Queue(lambda one: known.get(one.cell, 0.0))
    queue.add("net", grid("net", 3))
    known[2] = 9.0
    queue.open("net")
    assert [one.cell for one in drain(queue)] == [0, 2, 1]


def test_a_worker_stays_with_its_network_and_a_free_one_goes_where_most_is_left() -> None:
    queue = Queue(cost)
    for model in SECONDS:
        queue.add(model, grid(model, 4))
        queue.open(model)
    first = queue.take()
    assert first is not None
    assert first.model == "big"
    second = queue.take()
    assert second is not None
    assert second.model == "big"  # 54 s left for one is more than 18 for nobody
    own = queue.take("small")
    assert own is not None
    assert own.model == "small"


def test_images_of_one_key_and_case_are_not_made_twice_at_once() -> None:
    queue = Queue()
    for model in ("a", "b"):
        queue.add(model, [piece(model, 1, "x", images="source"), piece(model, 2, "y")])
        queue.open(model)
    one, two = queue.take("a"), queue.take("b")
    assert one is not None
    assert two is not None
    assert (one.model, one.cell, two.model, two.cell) == ("a", 1, "b", 2)
    assert [queue.take("b"), queue.take("a")][0] is not None  # a's second piece
    assert queue.take() is None
    queue.done(one)
    last = queue.take()
    assert last is not None
    assert (last.model, last.cell) == ("b", 1)


def test_what_is_put_back_is_next_and_what_is_discarded_is_gone() -> None:
    queue = Queue(cost)
    queue.add("net", grid("net", 4, cases=2))
    queue.open("net")
    drain(queue, "nobody")
    queue.add("net", grid("net", 4, cases=2)[1:])
    queue.open("net")
    taken = queue.take()
    assert taken is not None
    queue.put_back(taken, taken.cut(1))
    assert [one.cell for one in queue.discard("net", 2)] == [2]
    assert [(one.cell, *one.lacking) for one in drain(queue)] == [
        (3, "c0"), (3, "c1"), (1, "c0", "c1"),
    ]  # fmt: skip


def test_of_a_network_that_was_given_up_nothing_comes_back() -> None:
    queue = Queue(cost)
    queue.add("net", grid("net", 3, cases=2))
    clean = queue.take()
    assert clean is not None
    assert len(queue.discard("net")) == 2
    queue.put_back(clean, clean.cut(1))
    assert not queue
    assert queue.take() is None


def test_pieces_are_cut_so_that_all_have_work_and_none_has_much_at_the_end() -> None:
    whole = [*grid("big", 4, cases=32), piece("small", 1, *map(str, range(9)), fitted=True)]
    parts = cut(whole, 8, cost)
    cases = Counter((one.model, one.cell, name) for one in parts for name in one.lacking)
    assert set(cases.values()) == {1}
    assert cases.total() == sum(len(one.lacking) for one in whole)
    assert all(len(one.lacking) <= CASES_AT_ONCE for one in parts if not one.fitted)
    total = sum(map(cost, whole))
    assert max(map(cost, parts)) <= total / 8 / 8 + cost(piece("big", 3, "one"))
    assert [len(one.lacking) for one in parts if one.fitted] == [9]


@pytest.mark.parametrize("seed", range(5))
def test_a_schedule_is_never_longer_than_its_longest_piece_and_loads_beyond_the_ideal(
    seed: int,
) -> None:
    chance = random.Random(seed)
    pieces = [one for model in "abcdef" for one in grid(model, 30, cases=chance.randint(1, 12))]
    seconds = {one: chance.lognormvariate(0, 2) for one in pieces}
    ready = {model: chance.uniform(0, 3) for model in "abcdef"}
    done = simulate(pieces, 8, seconds.__getitem__, ready)
    work = sum(seconds.values()) + sum(ready.values())
    assert sum(done.busy) >= work * (1 - 1e-9)
    assert max(done.busy) <= done.makespan
    assert done.ideal <= done.makespan
    # The clean pieces of a network are waited for once; after that nobody is idle but at the end.
    assert done.makespan <= work / 8 + 2 * max(seconds.values()) + 3 * done.loads / 8 + 6


def test_eight_devices_and_a_thousand_cells_come_near_the_ideal() -> None:
    chance = random.Random(0)
    models = [f"net{n}" for n in range(10)]
    whole = [one for model in models for one in grid(model, 100, cases=32)]
    pace = {model: chance.uniform(0.05, 2.0) for model in models}

    def seconds(one: Piece) -> float:
        return pace[one.model] * len(one.lacking) * (1 if one.clean else 40)

    done = simulate(cut(whole, 8, seconds), 8, seconds, dict.fromkeys(models, 5.0))
    assert done.ideal / done.makespan > 0.99
    one_by_one = sum(
        simulate(cut(own, 8, seconds), 8, seconds, {model: 5.0}).makespan
        for model in models
        if (own := [one for one in whole if one.model == model])
    )
    assert done.makespan < one_by_one


def taken(queue: Queue) -> Piece:
    one = queue.take()
    assert one is not None
    return one


def test_a_case_is_blamed_for_the_second_death_alone_and_no_sooner() -> None:
    queue, deaths = Queue(), Deaths(workers=2)
    queue.add("net", [piece("net", 0, "a", "b")])
    assert deaths.judge(taken(queue), "SIGKILL", queue, begun=True) is None
    first = taken(queue)
    assert list(first.lacking) == ["a"]
    assert deaths.judge(first, "SIGKILL", queue, begun=True) is None
    again = taken(queue)
    assert list(again.lacking) == ["a"]
    outcome = deaths.judge(again, "status 5", queue, begun=True)
    assert outcome is not None
    [(case_id, error)] = outcome.errors
    assert (case_id, str(error)) == ("a", "ended the process that computed it (status 5)")
    assert list(taken(queue).lacking) == ["b"]
    assert not queue


def test_a_network_is_blamed_when_nobody_lives_to_see_it_loaded() -> None:
    queue, deaths = Queue(), Deaths(workers=2)
    queue.add("net", [piece("net", 0, "a", "b")])
    for _ in range(5):
        assert deaths.judge(taken(queue), "SIGSEGV", queue, begun=False) is None
    outcome = deaths.judge(taken(queue), "SIGSEGV", queue, begun=False)
    assert outcome is not None
    assert "net ended every process that loaded it (SIGSEGV)" in str(outcome.fatal)
    deaths.loaded("net")
    queue.add("net", [piece("net", 0, "a")])
    assert deaths.judge(taken(queue), "SIGSEGV", queue, begun=False) is None
