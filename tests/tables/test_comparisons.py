"""Two networks on the same cases: the difference is paired, whatever else is stored."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from segbench.metrics.stats import paired_difference
from segbench.tables.build import build_tables
from segbench_reports import evidence, markdown


def pairs(rows, frame):
    return build_tables(frame(rows)).comparisons


def test_a_difference_is_that_of_stats_on_the_common_cases(row, frame):
    random = np.random.default_rng(0)
    first, second = random.uniform(0.6, 0.9, 12), random.uniform(0.5, 0.8, 10)
    rows = [
        row(model=model, weights_sha256=sha * 32, case_id=f"c{n}", group_id=f"g{n // 2}", jaccard=v)
        for model, sha, values in (("a@jsrt#0", "0a", first), ("b@jsrt#0", "0b", second))
        for n, v in enumerate(values)
    ]
    line = pairs(rows, frame).iloc[0]
    groups = [f"g{n // 2}" for n in range(10)]
    expected = paired_difference(first[:10], second, groups)
    assert (line["model"], line["against"]) == ("a@jsrt#0", "b@jsrt#0")
    assert (line["difference"], line["low"], line["high"]) == pytest.approx(
        (expected.mean, expected.low, expected.high)
    )
    assert (line["cases"], line["groups"]) == (10, 5)


def test_pairing_is_surer_than_two_intervals(grid_rows, frame):
    """Both networks find the same cases hard; the intervals of their means overlap."""
    rows = grid_rows(models=("a@jsrt#0",), attacks=("pgd",), patients=6)
    random = np.random.default_rng(0)
    worse = {c: 0.01 + 0.002 * random.random() for c in sorted({r["case_id"] for r in rows})}
    rows = [{**r, "jaccard": 0.5 + 0.4 * random.random()} for r in rows]
    other = [
        {**r, "model": "b@jsrt#0", "weights_sha256": "0b" * 32,
         "jaccard": r["jaccard"] - worse[r["case_id"]]}
        for r in rows
    ]  # fmt: skip
    tables = build_tables(frame([*rows, *other]))
    assert (tables.comparisons["low"] > 0).all()
    curves = tables.curves.query("metric == 'jaccard' and attack == 'pgd'")
    curves = curves.set_index(["model", "eps"])
    assert curves.loc[("b@jsrt#0", "0"), "high"] > curves.loc[("a@jsrt#0", "0"), "low"]


def test_seeds_of_one_network_enter_as_their_mean_and_are_not_compared(row, frame):
    scores = {"a@jsrt#0": 0.9, "a@jsrt#1": 0.5, "b@jsrt#0": 0.6}
    rows = [
        row(model=model, weights_sha256=f"{n:02x}" * 32, jaccard=value)
        for n, (model, value) in enumerate(scores.items())
    ]
    table = pairs(rows, frame)
    assert table[["model", "against"]].to_numpy().tolist() == [["a@jsrt", "b@jsrt#0"]]
    assert table["difference"].tolist() == pytest.approx([0.1])


@pytest.mark.parametrize(("networks", "compared"), [(4, 6), (6, 15), (21, 20)])
def test_of_many_networks_a_page_shows_the_best_against_each(row, frame, networks, compared):
    rows = [
        row(model=f"{name}@jsrt#0", weights_sha256=f"{n:02x}" * 32, jaccard=n / networks)
        for n, name in enumerate("abcdefghijklmnopqrstu"[:networks])
    ]
    table = pairs(rows, frame)
    assert len(table) == compared
    shown = table[table["main"]]
    if networks > 4:
        best, *others = sorted((r["model"] for r in rows), reverse=True)
        assert set(shown["model"]) == {best}
        assert sorted(shown["against"]) == sorted(others)
    else:
        assert shown.equals(table)


def test_other_data_attacks_and_cases_are_not_compared(row, frame):
    one = row(model="a@jsrt#0", weights_sha256="0a" * 32)
    for other in ({"dataset_fingerprint": "00" * 32}, {"attack": "fgsm"}, {"case_id": "z"}):
        rows = [one, row(model="b@jsrt#0", weights_sha256="0b" * 32, **other)]
        assert pairs(rows, frame).empty


def test_wins_and_chances_are_counted_by_case_and_corrected_for_all_points(row, frame):
    random = np.random.default_rng(1)
    rows = []
    for n in range(20):
        level = random.uniform(0.5, 0.8)
        for attack, gap in (("fgsm", 0.0), ("pgd", 0.05)):
            facts = {"case_id": f"c{n}", "group_id": f"g{n}", "attack": attack}
            shift = gap if n < 18 else -gap
            rows.append(
                row(**facts, model="a@jsrt#0", weights_sha256="0a" * 32, jaccard=level + shift)
            )
            rows.append(row(**facts, model="b@jsrt#0", weights_sha256="0b" * 32, jaccard=level))
    table = pairs(rows, frame).set_index("attack")
    assert table.loc["pgd", ["wins", "ties", "losses"]].tolist() == [18, 0, 2]
    assert table.loc["fgsm", ["wins", "ties", "losses"]].tolist() == [0, 20, 0]
    assert table.loc["fgsm", "p"] == 1
    worst = table.loc["worst of 2 attacks"]
    assert worst["tests"] == len(table) == 3
    assert table.loc["pgd", "p"] < 0.01
    assert table.loc["pgd", "p_holm"] == pytest.approx(min(1, 3 * table.loc["pgd", "p"]))
    assert table.loc["pgd", "groups_needed"] > 1


def test_a_network_of_several_seeds_enters_where_all_of_them_have_a_score(row, frame):
    """Neither a budget that one seed has alone nor a case: that would be another network's mean."""
    met = {"a@jsrt#0": (8, (2, 8)), "a@jsrt#1": (4, (8,)), "b@jsrt#0": (8, (2, 8))}
    rows = [
        row(model=model, weights_sha256=f"{place:02x}" * 32, budget=at / 255, attack=attack,
            jaccard=0.5 + 0.1 * place - 0.01 * at, case_id=f"c{n}", group_id=f"g{n}")
        for place, (model, (count, budgets)) in enumerate(met.items())
        for n in range(count)
        for at in budgets
        for attack in ("fgsm", "pgd")
    ]  # fmt: skip
    table = pairs(rows, frame)
    assert set(table["eps"]) == {"8/255"}
    assert set(table["attack"]) == {"fgsm", "pgd", "worst of 2 attacks"}
    assert set(table["cases"]) == {4}
    assert table["difference"].tolist() == pytest.approx([0.15] * 3)
    assert table[["model", "seeds", "seeds_against"]].iloc[0].tolist() == ["b@jsrt#0", 1, 2]


def test_the_worst_of_a_pair_is_the_same_whatever_else_one_training_met(row, frame):
    def met(model, attack, at, level):
        facts = {"model": model, "weights_sha256": model[0].encode().hex() * 31 + f"0{model[-1]}"}
        facts |= {"attack": attack, "budget": at / 255, "jaccard": level}
        return [row(**facts, case_id=f"c{n}", group_id=f"c{n}") for n in range(3)]

    rows = [
        r
        for model, less in (("a@jsrt#0", 0.0), ("a@jsrt#1", 0.1), ("b@jsrt#0", 0.3))
        for attack, at, level in (("fgsm", 1, 0.6), ("apgd", 1, 0.65), ("apgd", 2, 0.5))
        for r in met(model, attack, at, level - less)
    ]
    expected = build_tables(frame(rows)).comparisons
    worst = expected[expected["attack"].str.startswith("worst")]
    assert worst["difference"].tolist() == pytest.approx([0.25])
    further = met("a@jsrt#1", "pgd", 8, 0.1) + met("b@jsrt#0", "pgd", 16, 0.0)
    found = build_tables(frame(rows + further)).comparisons
    pd.testing.assert_frame_equal(found, expected)


def test_a_seed_without_any_attack_leaves_the_network_none(row, frame):
    clean = {"attack": "clean", "attack_params": "{}", "budget_kind": "none", "budget": 0.0}
    rows = [
        row(model=model, weights_sha256=f"{place:02x}" * 32, case_id=f"c{n}", group_id=f"g{n}",
            **facts)
        for place, model in enumerate(("a@jsrt#0", "a@jsrt#1", "b@jsrt#0"))
        for n in range(3)
        for facts in (clean, {"attack": "fgsm"}, {"attack": "pgd"})
        if model[-1] == "0" or facts is clean
    ]  # fmt: skip
    assert pairs(rows, frame)["attack"].tolist() == ["clean"]


def test_the_worst_of_a_pair_is_of_what_both_met_on_each_case(row, frame):
    """A case that one met under one attack more counts by the attack that both met."""
    scores = {"a@jsrt#0": {"pgd": 0.6, "sea": 0.5}, "b@jsrt#0": {"pgd": 0.5, "sea": 0.1}}
    rows = [
        row(model=model, weights_sha256=f"0{model[0]}" * 32, attack=attack, jaccard=value,
            case_id=f"c{n}", group_id=f"g{n}")
        for model, own in scores.items()
        for attack, value in own.items()
        for n in range(4)
        if (model[0], attack, n) != ("a", "sea", 3)
    ]  # fmt: skip
    table = pairs(rows, frame).set_index("attack")
    assert table.loc["pgd", ["difference", "cases"]].tolist() == pytest.approx([0.1, 4])
    assert table.loc["sea", ["difference", "cases"]].tolist() == pytest.approx([0.4, 3])
    worst = table.loc["worst of up to 2 attacks"]
    assert (worst["difference"], worst["cases"]) == (pytest.approx((3 * 0.4 + 0.1) / 4), 4)


def test_a_point_of_the_worst_of_a_pair_is_named_by_what_a_smaller_budget_had_too(row, frame):
    scores = {("fgsm", 4): 0.3, ("apgd", 8): 0.6}
    rows = [
        row(model=model, weights_sha256=f"0{model[0]}" * 32, attack=attack, jaccard=value + more,
            budget=at / 255, case_id=f"c{n}", group_id=f"g{n}")
        for model, more in (("a@jsrt#0", 0.1), ("b@jsrt#0", 0))
        for (attack, at), value in scores.items()
        for n in range(4)
    ]  # fmt: skip
    table = pairs(rows, frame).set_index("attack")
    assert not table.index.str.contains("closed").any()
    assert table.loc["worst of up to 2 attacks", "eps"] == "8/255"


@pytest.mark.parametrize(("patients", "needed"), [(1, 6), (3, 6)])
def test_groups_that_no_test_can_tell_are_too_few(row, frame, patients, needed):
    """Of three groups p is never below 0.25, however sure their mean is."""
    rows = [
        row(model=f"{name}@jsrt#0", weights_sha256=f"0{name}" * 32, jaccard=level + 1e-4 * n,
            case_id=f"c{n}", group_id=f"g{n % patients}")
        for name, level in (("a", 0.9), ("b", 0.5))
        for n in range(6)
    ]  # fmt: skip
    tables = build_tables(frame(rows))
    assert tables.comparisons["groups_needed"].tolist() == [needed]
    assert "1 of 1 comparisons rest on too few groups" in markdown.render(tables)
    assert "they would need 6." in markdown.render(tables)


def test_what_is_not_tested_is_not_said_to_differ_by_chance(row, frame):
    rows = [
        row(model=f"{name}@jsrt#0", weights_sha256=f"0{name}" * 32, case_id=f"c{n}", group_id="g")
        for name in "ab"
        for n in range(4)
    ]
    said = evidence.render(build_tables(frame(rows)))
    assert "1 of 1 paired comparisons are not tested" in said
    assert "by more than chance" not in said
