"""A grid becomes cells, and a split becomes shards, in an order that depends on nothing else."""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from segbench.api import Budget, Entry
from segbench.engine.ball import project
from segbench.errors import UserError
from segbench.evaluation.grid import SHARD_CASES, Grid, cut_shards, expand_grid, take_cases
from segbench.plugins.attack import attack_budgets, eps_budget, load_attack

FGSM, PGD, L2 = load_attack("fgsm"), load_attack("pgd"), load_attack("pgd:norm=l2")
ONE, TWO = Fraction(1, 255), Fraction(2, 255)


def test_clean_comes_once_and_first_then_attack_by_seed_by_eps() -> None:
    cells = list(expand_grid(Grid([FGSM, L2], [TWO, Fraction(0), ONE, TWO], seeds=(3, 4))))
    assert [(c.label, c.budget.kind, c.budget.value, c.seed) for c in cells] == [
        ("clean", "none", 0, 0),
        ("fgsm", "linf", ONE, 3),
        ("fgsm", "linf", TWO, 3),
        ("fgsm", "linf", ONE, 4),
        ("fgsm", "linf", TWO, 4),
        ("pgd:norm=l2", "l2", ONE, 3),
        ("pgd:norm=l2", "l2", TWO, 3),
        ("pgd:norm=l2", "l2", ONE, 4),
        ("pgd:norm=l2", "l2", TWO, 4),
    ]


def test_the_same_attack_or_seed_asked_for_twice_runs_once() -> None:
    again = load_attack("pgd:steps=40")  # its default
    assert len(list(expand_grid(Grid([PGD, again], [ONE], seeds=(0, 0))))) == 2


def test_an_eps_of_zero_alone_is_the_clean_cell() -> None:
    assert [c.label for c in expand_grid(Grid([PGD], [Fraction(0)]))] == ["clean"]


def test_eps_is_an_exact_budget_of_the_attacks_own_norm() -> None:
    assert eps_budget(L2, ONE) == Budget("l2", ONE)
    assert eps_budget(L2, Fraction(12)) == Budget("l2", Fraction(12))


@pytest.mark.parametrize("eps", [Fraction(8), Fraction(256, 255)])
def test_an_eps_beyond_the_pixel_range_is_taken_for_a_slip(eps: Fraction) -> None:
    with pytest.raises(UserError, match=r"did you mean .*/255"):
        eps_budget(PGD, eps)


def entries(*counts: int) -> list[Entry]:
    """So many cases of each of several shapes, shuffled together."""
    total = sum(counts)
    sizes = sorted((n * 7 % 13, shape) for shape, count in enumerate(counts) for n in range(count))
    return [Entry(f"case-{n}", "group", (1, 8 + sizes[n][1], 8)) for n in range(total)]


@given(st.lists(st.integers(0, 80), min_size=1, max_size=4))
def test_shards_are_small_of_one_shape_and_lose_nothing(counts: list[int]) -> None:
    cases = entries(*counts)
    shards = cut_shards(cases)
    assert sorted(e.case_id for s in shards for e in s) == sorted(e.case_id for e in cases)
    for shard in shards:
        assert 1 <= len(shard) <= SHARD_CASES == 32
        assert len({entry.shape for entry in shard}) == 1
        order = [int(entry.case_id.removeprefix("case-")) for entry in shard]
        assert order == sorted(order)
    assert len(shards) == sum(-(-count // SHARD_CASES) for count in counts)


@given(st.integers(0, 200), st.integers(1, 250))
def test_a_limit_takes_evenly_spread_cases(total: int, limit: int) -> None:
    cases = entries(total)
    taken = take_cases(cases, limit)
    assert len(taken) == min(total, limit)
    places = [cases.index(entry) for entry in taken]
    gaps = {b - a for a, b in pairwise(places)}
    assert max(gaps, default=0) - min(gaps, default=0) <= 1
    if taken and limit < total:
        assert places[0] == 0
        assert places[-1] >= total - total / limit - 1


def test_without_a_limit_all_cases_are_taken() -> None:
    cases = entries(5)
    assert take_cases(cases, None) == cases


@dataclass(frozen=True)
class Severe:
    """An attack that has its own budgets."""

    needs = "labels"
    budget_kind = "severity"
    budgets = (Budget("severity", Fraction(1)), Budget("severity", Fraction(3)))

    def run(self, objective, images, goal, budget, noise):
        return images + 1


def test_an_attack_with_budgets_of_its_own_is_run_at_those_and_not_at_eps() -> None:
    severe = replace(PGD, label="severe", attack=Severe())
    cells = list(expand_grid(Grid([severe], [ONE])))[1:]
    assert [cell.budget for cell in cells] == list(Severe.budgets)
    assert attack_budgets(severe, []) == list(Severe.budgets)


def test_an_attack_without_budgets_of_its_own_needs_an_eps() -> None:
    with pytest.raises(UserError, match="attack pgd needs a budget, for example --eps"):
        attack_budgets(PGD, [])


def test_without_a_ball_the_box_still_binds() -> None:
    clean = torch.full((1, 1, 2, 2), 0.75)
    assert torch.equal(project(clean + 1, clean, Severe.budgets[0]), torch.ones_like(clean))
