"""How close an attack comes to the best known: areas that can be computed by hand."""

from __future__ import annotations

import math

import pytest

from segbench.tables.build import build_tables
from segbench.tables.optimality import FEWER, NO_CASE, NO_EPS


def _curve(make, attack, scores, cases="ab", **given):
    """``scores``: eps in 255ths -> Jaccard, one number or one per case."""
    rows = []
    for eps, score in scores.items():
        each = score if isinstance(score, tuple) else (score,) * len(cases)
        rows += [
            make(attack=attack, budget=eps / 255, case_id=c, group_id=c, jaccard=s, **given)
            for c, s in zip(cases, each, strict=True)
        ]
    return rows


def _optimality(frame, rows):
    table = build_tables(frame(rows)).optimality
    return dict(zip(table["attack"], table["optimality"], strict=True)), table


def test_it_is_the_share_of_the_best_known_area(row, frame):
    rows = _curve(row, "clean", {0: 1.0}, budget_kind="none")
    rows += _curve(row, "pgd", {2: 0.8, 4: 0.6}) + _curve(row, "apgd", {2: 0.6, 4: 0.2})
    found, table = _optimality(frame, rows)
    # Areas between clean and curve, in units of 1/255: 0.2 + 0.6 and 0.4 + 1.2.
    assert found == {"apgd": pytest.approx(1.0), "pgd": pytest.approx(0.5)}
    assert list(table["attack"]) == ["apgd", "pgd"]
    assert set(table["eps"]) == {"2/255 4/255"}
    assert set(table["cases"]) == {2}


def test_the_best_known_is_per_case_and_closed_from_below(row, frame):
    rows = _curve(row, "clean", {0: 1.0}, budget_kind="none")
    rows += _curve(row, "pgd", {2: (0.2, 1.0), 4: (0.6, 1.0)})
    rows += _curve(row, "apgd", {2: (1.0, 0.2), 4: (1.0, 0.2)})
    found, _ = _optimality(frame, rows)
    # Best known 0.2 and 0.2; areas of means: best 0.8 + 1.6, pgd 0.4 + 0.6, apgd 0.4 + 0.8.
    assert found == {"apgd": pytest.approx(0.5), "pgd": pytest.approx(1.0 / 2.4)}


def test_attacks_are_compared_only_where_all_were_run(row, frame):
    rows = _curve(row, "clean", {0: 1.0}, budget_kind="none", cases="abc")
    rows += _curve(row, "pgd", {2: 0.8, 4: 0.0}, cases="abc")
    rows += _curve(row, "apgd", {2: 0.6}, cases="ab")
    found, table = _optimality(frame, rows)
    assert found == {"apgd": pytest.approx(1.0), "pgd": pytest.approx(0.5)}
    assert set(table["eps"]) == {"2/255"}
    assert set(table["cases"]) == {2}


def test_an_attack_that_shares_no_eps_takes_the_others_no_number(row, frame):
    rows = _curve(row, "clean", {0: 1.0}, budget_kind="none")
    rows += _curve(row, "pgd", {4: 0.8, 8: 0.6}) + _curve(row, "apgd", {4: 0.6, 8: 0.2})
    found, table = _optimality(frame, rows + _curve(row, "sea", {2: 0.9, 16: 0.0}))
    out = table.set_index("attack").loc["sea"]
    assert math.isnan(found.pop("sea"))
    assert (out["left_out"], out["eps"], out["cases"]) == (NO_EPS, "2/255 16/255", 2)
    assert found == {"apgd": pytest.approx(1.0), "pgd": pytest.approx(0.5)}


def test_what_is_left_out_counts_in_the_best_known_curve(row, frame):
    rows = _curve(row, "clean", {0: 1.0}, budget_kind="none")
    rows += _curve(row, "pgd", {4: 0.8, 8: 0.6}) + _curve(row, "apgd", {4: 0.6, 8: 0.2})
    found, _ = _optimality(frame, rows + _curve(row, "sea", {2: 0.2}))
    # Areas in 1/255 by trapezoids: best 4 * 0.4 + 4 * 0.8, apgd 4 * 0.2 + 4 * 0.6, pgd half of it.
    assert found["apgd"] == pytest.approx(3.2 / 4.8)
    assert found["pgd"] == pytest.approx(1.6 / 4.8)


@pytest.mark.parametrize(("cases", "why"), [("a", FEWER), ("z", NO_CASE)])
def test_an_attack_of_few_cases_takes_none_from_the_others(cases, why, row, frame):
    rows = _curve(row, "clean", {0: 1.0}, budget_kind="none", cases="abcdz")
    rows += _curve(row, "pgd", {4: 0.8}, cases="abcd") + _curve(row, "apgd", {4: 0.6}, cases="abcd")
    found, table = _optimality(frame, rows + _curve(row, "sea", {4: 0.9}, cases=cases))
    assert table.set_index("attack").loc["sea", "left_out"] == why
    assert {*table.loc[table["left_out"] == "", "cases"]} == {4}
    assert found["apgd"] == pytest.approx(1.0)


def test_an_eps_that_was_broken_off_takes_no_case_from_the_others(row, frame):
    rows = _curve(row, "clean", {0: 1.0}, budget_kind="none", cases="abcd")
    for name, score in (("pgd", 0.8), ("apgd", 0.6)):
        rows += _curve(row, name, {2: score, 4: score}, cases="abcd")
        rows += _curve(row, name, {8: score}, cases="a")
    found, table = _optimality(frame, rows)
    assert found == {"apgd": pytest.approx(1.0), "pgd": pytest.approx(0.5)}
    assert [{*table["eps"]}, {*table["cases"]}] == [{"2/255 4/255"}, {4}]


def test_of_attacks_that_share_nothing_each_is_named(row, frame):
    rows = _curve(row, "clean", {0: 1.0}, budget_kind="none")
    rows += _curve(row, "pgd", {4: 0.8}) + _curve(row, "apgd", {8: 0.6})
    found, table = _optimality(frame, rows)
    assert set(table["left_out"]) == {NO_EPS}
    assert set(found) == {"pgd", "apgd"}


def test_what_nobody_moves_has_no_optimality(row, frame):
    rows = _curve(row, "clean", {0: 1.0}, budget_kind="none")
    found, _ = _optimality(frame, rows + _curve(row, "pgd", {2: 1.0}) + _curve(row, "fgsm", {2: 1}))
    assert all(math.isnan(value) for value in found.values())


def test_one_attack_alone_is_compared_with_nothing(row, frame):
    rows = _curve(row, "clean", {0: 1.0}, budget_kind="none") + _curve(row, "pgd", {2: 0.5})
    assert build_tables(frame(rows)).optimality.empty


def test_the_winners_of_a_suite_are_counted(row, frame):
    rows = _curve(row, "clean", {0: 1.0}, budget_kind="none", cases="abcd")
    rows += _curve(row, "standard", {2: 0.5}, cases="abc", member="reach")
    rows += _curve(row, "standard", {2: 0.5}, cases="d", member="lovasz")
    rows += _curve(row, "pgd", {2: 0.5}, cases="abcd")
    won = build_tables(frame(rows)).winners
    assert list(won["attack"].unique()) == ["standard"]
    assert dict(zip(won["member"], won["share"], strict=True)) == {"reach": 0.75, "lovasz": 0.25}
    assert set(won["cases"]) == {4}
    assert set(won["eps"]) == {"2/255"}
