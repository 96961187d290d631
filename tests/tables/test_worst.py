"""The worst of several attacks: per case, over the cases and attacks that a budget has."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from segbench.tables.build import build_tables
from segbench.tables.golden import golden_table
from segbench.tables.worst import worst_cases

SUBJECT = ["model", "weights_sha256", "dataset", "dataset_fingerprint", "split"]


def _row(make, attack, case, jaccard, **given):
    params = given.pop("attack_params", "{}")
    return make(
        attack=attack, attack_params=params, case_id=case, group_id=case, jaccard=jaccard, **given
    )


def _worst(tables, metric="jaccard"):
    curves = tables.curves[tables.curves["attack"].str.startswith("worst")]
    return curves[(curves["metric"] == metric) & (curves["budget"] > 0)]


def test_each_case_has_its_own_worst_attack_and_all_metrics_are_that_ones(row, frame):
    rows = [
        _row(row, "fgsm", "a", 0.5, dice=0.1),
        _row(row, "fgsm", "b", 0.7, dice=0.9),
        _row(row, "pgd", "a", 0.6, dice=0.3),
        _row(row, "pgd", "b", 0.2, dice=0.4),
    ]
    tables = build_tables(frame(rows), depth="summary")
    (line,) = _worst(tables).to_dict("records")
    assert line["attack"] == "worst of 2 attacks"
    assert json.loads(line["attack_params"]) == {
        "attacks": ["fgsm", "pgd"],
        "selected by": "jaccard",
    }
    assert line["mean"] == pytest.approx((0.5 + 0.2) / 2)
    assert _worst(tables, "dice")["mean"].item() == pytest.approx((0.1 + 0.4) / 2)
    (note,) = [n for n in tables.notes if "worst of 2 attacks" in n]
    assert "a smaller one of fgsm, pgd, over the 2 cases" in note


def test_networks_whose_worst_is_of_the_same_attacks_and_cases_share_a_note(grid_rows, frame):
    notes = build_tables(frame(grid_rows(models=("a@jsrt#0", "b@jsrt#0"))), depth="summary").notes
    (note,) = [n for n in notes if "worst of 2 attacks" in n]
    assert note.endswith("; on a@jsrt#0, b@jsrt#0.")


@pytest.mark.parametrize(("other", "lines"), [("{}", 0), ('{"target": "empty"}', 1)])
def test_it_agrees_with_a_target_only_where_all_attacks_have_that_one(other, lines, row, frame):
    led = {"attack_params": '{"target": "empty"}', "target_jaccard": 0.9}
    away = {"attack_params": other, "target_jaccard": 0.9 if lines else math.nan}
    rows = [_row(row, "pgd", "a", 0.1, **led), _row(row, "pgd", "b", 0.5, **led)]
    rows += [_row(row, "sea", c, 0.3, **away) for c in "ab"]
    assert len(_worst(build_tables(frame(rows), depth="summary"), "target_jaccard")) == lines


def test_it_is_no_higher_than_any_attack_at_every_point(grid_rows, frame):
    summary = build_tables(
        frame(grid_rows(attacks=("fgsm", "ifgsm", "pgd"))), depth="summary"
    ).summary
    for _, part in summary.groupby("model"):
        worst = part[part["attack"] == "worst of 3 attacks"]
        for eps in ("2/255", "8/255"):
            assert worst[eps].item() <= part[eps].min()


def _clean(make, case, jaccard):
    none = {"attack_params": "{}", "budget_kind": "none", "budget": 0.0}
    return _row(make, "clean", case, jaccard, **none)


def test_what_was_found_in_a_smaller_ball_counts_in_every_larger_one(row, frame):
    rows = [_clean(row, "a", 0.9), _clean(row, "b", 0.25)]
    for attack, budget, a, b in (
        ("fgsm", 2 / 255, 0.5, 0.3), ("pgd", 2 / 255, 0.6, 0.4),
        ("fgsm", 4 / 255, 0.7, 0.2), ("pgd", 4 / 255, 0.6, 0.3),
        ("fgsm", 8 / 255, 0.1, 0.6), ("pgd", 8 / 255, 0.2, 0.6),
    ):  # fmt: skip
        rows += [_row(row, attack, c, j, budget=budget) for c, j in (("a", a), ("b", b))]
    tables = build_tables(frame(rows), depth="summary")
    worst = dict(zip(_worst(tables)["eps"], _worst(tables)["mean"], strict=True))
    assert worst == pytest.approx(
        {"2/255": (0.5 + 0.25) / 2, "4/255": (0.5 + 0.2) / 2, "8/255": (0.1 + 0.2) / 2}
    )
    (note,) = [n for n in tables.notes if "found at a smaller budget" in n]
    assert "2/255 (1), 4/255 (1), 8/255 (1) cases" in note
    raw = tables.curves.query("metric == 'jaccard' and attack == 'fgsm' and eps == '8/255'")
    assert raw["mean"].item() == pytest.approx(0.35)  # what each attack found stays as it is


def test_a_single_attack_has_a_closed_curve_only_where_its_own_rises(row, frame):
    rows = [_row(row, "pgd", "a", 0.5, budget=2 / 255), _row(row, "pgd", "a", 0.4)]
    assert "pgd, closed" not in set(build_tables(frame(rows), depth="summary").summary["attack"])
    rows = [_row(row, "pgd", "a", 0.5, budget=2 / 255), _row(row, "pgd", "a", 0.6)]
    summary = build_tables(frame(rows), depth="summary").summary.set_index("attack")
    assert summary.loc["pgd, closed", ["2/255", "8/255"]].tolist() == [0.5, 0.5]
    assert (
        not golden_table(build_tables(frame(rows), depth="summary"))["attack"]
        .str.contains("closed")
        .any()
    )


def test_each_case_by_whichever_attacks_it_has_met(row, frame):
    rows = [_row(row, "fgsm", c, 0.5) for c in "ab"] + [_row(row, "pgd", "b", 0.4)]
    tables = build_tables(frame(rows), depth="summary")
    (line,) = _worst(tables).to_dict("records")
    assert (line["attack"], line["cases"]) == ("worst of up to 2 attacks", 2)
    assert line["mean"] == pytest.approx((0.5 + 0.4) / 2)
    (note,) = [n for n in tables.notes if "worst of up to 2 attacks" in n]
    assert "over the 2 cases, each by whichever of them it has met" in note
    rows = [_row(row, "fgsm", "a", 0.5), _row(row, "pgd", "b", 0.4)]
    assert _worst(build_tables(frame(rows), depth="summary"))["mean"].item() == pytest.approx(0.45)


def test_a_further_attack_on_some_cases_takes_no_case_away_and_raises_nothing(row, frame):
    random = np.random.default_rng(0)
    rows = [_clean(row, c, 0.95) for c in "abcdef"]
    rows += [_row(row, "pgd", c, random.uniform(0.2, 0.9), budget=b) for c in "abcdef"
             for b in (2 / 255, 8 / 255)]  # fmt: skip
    before = build_tables(frame(rows), depth="curves").headlines.set_index("of").loc["linf"]
    for attack, cases, budget in (("fgsm", "a", 8 / 255), ("sea", "bc", 2 / 255),
                                  ("sea", "a", 4 / 255), ("apgd", "f", 1 / 255)):  # fmt: skip
        rows += [_row(row, attack, c, random.uniform(0, 0.9), budget=budget) for c in cases]
        after = build_tables(frame(rows), depth="curves").headlines.set_index("of").loc["linf"]
        assert (after["cases"], after["eps"]) == (before["cases"], before["eps"])
        assert after["value"] <= before["value"]
        assert after["attack"].startswith("worst of up to ")
        before = after


def _curve(make, attack, scores):
    return [_row(make, attack, "a", score, budget=at / 255) for at, score in scores.items()]


def test_budgets_with_other_attacks_are_points_of_one_curve(row, frame):
    rows = [_clean(row, "a", 0.9), *_curve(row, "pgd", {1: 0.7, 2: 0.6, 16: 0.2, 24: 0.3})]
    rows += [*_curve(row, "fgsm", {2: 0.8}), *_curve(row, "ifgsm", {24: 0.1})]
    tables = build_tables(frame(rows), depth="summary")
    worst = _worst(tables)
    assert set(worst["attack"]) == {"worst of up to 3 attacks"}
    assert dict(zip(worst["eps"], worst["mean"], strict=True)) == pytest.approx(
        {"1/255": 0.7, "2/255": 0.6, "16/255": 0.2, "24/255": 0.1}
    )
    (note,) = [n for n in tables.notes if "the worst of up to 3 attacks (linf" in n]
    assert "one of fgsm (from 2/255 on), ifgsm (from 24/255 on), pgd, over the 1 cases" in note


def test_a_point_is_credited_to_whatever_attack_found_its_image_at_a_smaller_budget(row, frame):
    rows = [_clean(row, "a", 0.9), *_curve(row, "fgsm", {1: 0.7, 4: 0.3})]
    rows += _curve(row, "apgd", {8: 0.6})
    tables = build_tables(frame(rows), depth="curves")
    assert not tables.summary["attack"].str.contains("closed").any()
    worst = tables.summary.set_index("attack").loc["worst of up to 2 attacks"]
    assert worst[["1/255", "4/255", "8/255"]].tolist() == pytest.approx([0.7, 0.3, 0.3])
    headline = tables.headlines.set_index("of").loc["linf"]
    assert (headline["attack"], headline["value"]) == (worst.name, pytest.approx(worst["auc"]))


@pytest.mark.parametrize("seed", range(5))
def test_a_closed_curve_lies_nowhere_above_its_raw_one_nor_does_its_area(seed, row, frame):
    random = np.random.default_rng(seed)
    rows = [_clean(row, c, random.uniform(0.5, 1)) for c in "abc"]
    for attack, budgets in (("pgd", (1, 2, 16, 24)), ("fgsm", (2,)), ("ifgsm", (24,))):
        rows += [_row(row, attack, c, random.uniform(), budget=b / 255)
                 for c in "abc" for b in budgets]  # fmt: skip
    for part in (rows[:15], rows):  # of one attack, and of several
        summary = build_tables(frame(part), depth="summary").summary.set_index("attack")
        worst = summary[summary.index.str.contains("worst|closed")].squeeze()
        for _, raw in summary.iterrows():
            points = [name for name in summary if str(name).endswith("/255")]
            there = [name for name in points if raw[name] == raw[name]]
            assert (worst[there] <= raw[there] + 1e-12).all()
        assert worst["auc"] <= summary.loc["pgd", "auc"]


def test_it_agrees_with_a_target_up_to_the_budget_at_which_an_attack_has_another(row, frame):
    led = {"attack_params": '{"target": "empty"}', "target_jaccard": 0.9}
    rows = [_row(row, a, "a", 0.5, budget=b / 255, **led) for a in ("pgd", "dag") for b in (1, 8)]
    rows += [_row(row, "sea", "a", 0.6, budget=4 / 255, target_jaccard=math.nan)]
    assert _worst(build_tables(frame(rows), depth="summary"), "target_jaccard")["eps"].tolist() == [
        "1/255"
    ]


def test_other_kinds_single_attacks_and_rounded_images_have_no_part(row, frame):
    rows = [
        _row(row, "fgsm", "a", 0.5),
        _row(row, "pgd", "a", 0.4, budget_kind="l2"),
        _row(row, "blur", "a", 0.1, budget_kind="severity", budget=1.0),
        _row(row, "noise", "a", 0.1, budget_kind="severity", budget=1.0),
        _row(row, "pgd:quantized=true", "a", 0.1, attack_params='{"quantized": true}'),
    ]
    assert _worst(build_tables(frame(rows), depth="summary")).empty


def test_points_of_a_minimum_norm_attack_take_part(row, frame):
    params = '{"norm": "linf", "below": 0.5}'
    rows = [
        row(attack="clean", attack_params="{}", budget_kind="none", budget=0.0, jaccard=0.9),
        row(jaccard=0.6),
        row(
            attack="dag",
            attack_params=params,
            budget_kind="min-norm",
            budget=0.5,
            linf=0.01,
            jaccard=0.3,
        ),
    ]
    tables = build_tables(frame(rows), depth="summary")
    assert _worst(tables)["mean"].item() == pytest.approx(0.3)
    assert "dag, pgd" in " ".join(tables.notes)


def test_a_case_without_foreground_is_chosen_by_accuracy(row, frame):
    cases = build_tables(
        frame(
            [
                _row(row, "fgsm", "a", math.nan, accuracy=0.9),
                _row(row, "pgd", "a", math.nan, accuracy=0.2),
            ]
        )
    ).cases
    assert worst_cases(cases, SUBJECT)["accuracy"].item() == 0.2


def test_the_gate_does_not_depend_on_which_attacks_are_stored_beside(grid_rows, frame):
    golden = golden_table(build_tables(frame(grid_rows()), depth="summary"))
    assert not golden["attack"].str.contains("worst").any()


def test_the_worst_bears_the_marks_of_the_images_that_it_is_made_of(row, frame):
    def curve(attack, scores):
        return [
            row(attack=attack, budget=eps / 255, case_id=c, group_id=c, jaccard=score)
            for eps, score in scores.items()
            for c in "abc"
        ]

    rises = curve("fgsm", {2: 0.5, 8: 0.6})  # a weak attack that is stuck says nothing of the worst
    tables = build_tables(frame(rises + curve("pgd", {2: 0.4, 8: 0.1})), depth="curves")
    marks = dict(zip(tables.summary["attack"], tables.summary["marks"], strict=True))
    assert marks == {"fgsm": "stuck", "pgd": "", "worst of 2 attacks": ""}
    assert tables.headlines["marks"].tolist() == [""]
    strong = curve("fgsm", {2: 0.3, 8: 0.31})  # here it found what counts
    tables = build_tables(frame(strong + curve("pgd", {2: 0.4, 8: 0.35})), depth="curves")
    marks = dict(zip(tables.summary["attack"], tables.summary["marks"], strict=True))
    assert marks == {"fgsm": "stuck", "pgd": "", "worst of 2 attacks": "stuck"}
    assert tables.headlines["marks"].tolist() == ["stuck"]
