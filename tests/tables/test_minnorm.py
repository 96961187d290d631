"""Minimum-norm attacks in tables: quantiles over all cases, and points of the others' curve."""

from __future__ import annotations

import json
import math
from functools import partial

import pytest

from segbench.tables.build import build_tables
from segbench.tables.golden import golden_table

summed_up = partial(build_tables, depth="summary")  # which says what any depth says

EPS = (2 / 255, 4 / 255, 8 / 255)
DAG = '{"below": 0.5, "norm": "linf", "steps": 200}'


def _clean(make, **given):
    return make(attack="clean", attack_params="{}", budget_kind="none", budget=0.0, **given)


def _fallen(make, case, distance, jaccard=0.45, **given):
    known = {"attack": "dag", "attack_params": DAG, "budget_kind": "min-norm", "budget": 0.5}
    known |= {"case_id": case, "group_id": case, "linf": distance, "l2": 9.0, "jaccard": jaccard}
    return make(**(known | given))


@pytest.fixture
def rows(row):
    """Four cases: fallen from the start, at 3/255, at 6/255, and never; and a PGD beside them."""
    cases = {"a": (0.0, 0.4), "b": (3 / 255, 0.45), "c": (6 / 255, 0.48), "d": (0.0, 0.9)}
    clean = {"a": 0.4, "b": 0.8, "c": 0.8, "d": 0.9}
    made = [_clean(row, case_id=c, group_id=c, jaccard=j) for c, j in clean.items()]
    made += [_fallen(row, case, *values) for case, values in cases.items()]
    for case in cases:
        made += [row(case_id=case, group_id=case, budget=b, jaccard=0.6) for b in EPS]
    return made


def _points(tables, attack="dag"):
    curve = tables.curves.query("metric == 'jaccard' and attack == @attack")
    return dict(zip(curve["eps"], curve["mean"], strict=True))


def test_a_point_is_adversarial_within_eps_and_clean_beyond(rows, frame):
    tables = summed_up(frame(rows))
    assert set(tables.summary["attack"]) >= {"pgd", "dag"}
    assert set(tables.summary["budget_kind"]) == {"linf"}
    expected = {
        "0": (0.4 + 0.8 + 0.8 + 0.9) / 4,
        "2/255": (0.4 + 0.8 + 0.8 + 0.9) / 4,
        "4/255": (0.4 + 0.45 + 0.8 + 0.9) / 4,
        "8/255": (0.4 + 0.45 + 0.48 + 0.9) / 4,
    }
    assert _points(tables) == pytest.approx(expected)
    assert list(_points(tables)) == list(_points(tables, "pgd"))


def test_quantiles_are_over_all_cases_and_say_how_many_fell(rows, frame):
    (line,) = summed_up(frame(rows)).distances.to_dict("records")
    assert (line["norm"], line["below"], line["cases"], line["fell"]) == ("linf", 0.5, 4, 3)
    assert line["fell_share"] == 0.75
    assert line["quartile_low"] == 0
    assert line["median"] == pytest.approx(3 / 255)  # within it, half of the cases fell
    assert line["quartile_high"] == pytest.approx(6 / 255)
    fewer = [r for r in rows if r["case_id"] in "cd"]
    (line,) = summed_up(frame(fewer)).distances.to_dict("records")
    assert line["median"] == pytest.approx(6 / 255)
    assert math.isinf(line["quartile_high"])


def test_cases_below_the_threshold_from_the_start_are_said_to_be(rows, frame):
    tables = summed_up(frame(rows))
    assert tables.distances["at_once"].tolist() == [1]  # d never fell
    (note,) = [note for note in tables.notes if "before anything was changed" in note]
    assert "1 of 3 of" in note
    later = [r for r in rows if r["case_id"] != "a"]
    notes = summed_up(frame(later)).notes
    assert not any("before anything was changed" in note for note in notes)


def test_a_case_is_unchanged_where_no_attack_on_that_part_changed_it(rows, row, frame):
    """Neither an image found at no distance nor a point of a curve is one that cannot change."""
    inside = '{"norm": "linf", "steps": 40, "where": "inside"}'
    dag = {**json.loads(DAG), "where": "inside"}
    for one in rows:
        if one["attack"] != "clean":
            one["attack_params"] = json.dumps(dag) if one["attack"] == "dag" else inside

    def note(changed):
        notes = summed_up(frame([*rows, *changed])).notes
        (found,) = [note for note in notes if "perturb only there" in note]
        return found

    assert "where=inside perturb" in note([])
    empty = {"case_id": "e", "group_id": "e", "linf": 0.0, "attack_params": inside}
    idle = [_clean(row, case_id="e", group_id="e"), row(**empty, budget=EPS[0])]
    assert "where=inside (1 case unchanged) perturb" in note(idle)
    far = _fallen(row, "e", 0.5, attack_params=json.dumps(dag))  # beyond every point
    assert "where=inside perturb" in note([*idle, far])


def test_another_norm_another_data_set_and_an_eps_of_its_own_have_no_part(rows, row, frame):
    more = [
        row(budget_kind="l2", budget=0.5, case_id="a"),
        row(dataset="isic2016", dataset_fingerprint="ef" * 32, budget=1 / 255, case_id="a"),
    ]
    assert list(_points(summed_up(frame([*rows, *more])))) == ["0", "2/255", "4/255", "8/255"]


def test_without_another_attack_there_are_distances_and_no_points(rows, frame):
    alone = [r for r in rows if r["attack"] != "pgd"]
    tables = summed_up(frame(alone))
    assert len(tables.distances) == 1
    assert tables.summary["attack"].tolist() == ["clean"]


def test_a_target_has_to_be_agreed_with_and_accuracy_stands_for_no_foreground(row, frame):
    rows = [_clean(row, case_id=c, jaccard=0.9) for c in "ab"] + [
        _fallen(row, "a", 0.01, jaccard=0.7, target_jaccard=0.6),
        _fallen(row, "b", 0.01, jaccard=0.1, target_jaccard=0.4),
        _fallen(row, "c", 0.01, jaccard=math.nan, accuracy=0.3),
    ]
    (line,) = summed_up(frame(rows)).distances.to_dict("records")
    assert line["fell"] == 2


def test_the_gate_sees_points_and_never_the_threshold_itself(rows, frame):
    golden = golden_table(summed_up(frame(rows))).query("metric == 'jaccard'")
    assert set(golden["budget_kind"]) == {"none", "linf"}
    ours = golden[golden["attack"].str.startswith("dag")]
    assert sorted(ours["budget"]) == sorted(EPS)
