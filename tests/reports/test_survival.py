"""The survival chart is of the same falls as the table of distances beside it."""

from __future__ import annotations

import math
from typing import Any

import pytest

from segbench.tables.build import build_tables
from segbench_reports import page
from segbench_reports.page import parts, words

CLEAN = {"attack": "clean", "attack_params": "{}", "budget_kind": "none", "budget": 0.0}


def fallen(row: Any, case: str, distance: float, **given: Any) -> Any:
    facts = {"attack": "dag", "attack_params": '{"below": 0.5, "norm": "linf"}', "jaccard": 0.4}
    facts |= {"budget_kind": "min-norm", "budget": 0.5, "case_id": case, "group_id": case}
    return row(**facts | {"linf": distance} | given)


def charts(tables: Any, dataset: str = "jsrt") -> list[Any]:
    return [*parts.survival(tables, dataset, "test")]


def test_a_label_without_foreground_falls_by_its_accuracy_in_chart_and_table(
    row: Any, frame: Any
) -> None:
    rows = [fallen(row, "a", 0.1), fallen(row, "b", 0.2, jaccard=math.nan, accuracy=0.3)]
    rows += [fallen(row, "c", 0.3, jaccard=math.nan, accuracy=0.9)]
    tables = build_tables(frame([*rows, *(row(case_id=c, **CLEAN) for c in "abc")]))
    (chart,) = charts(tables)
    assert tables.distances["fell_share"].item() == pytest.approx(2 / 3)
    assert chart.rows[0][-1] == "33%"  # stand at the largest distance


def test_two_attacks_of_the_same_parameters_and_two_data_sets_have_their_own_curves(
    row: Any, frame: Any
) -> None:
    other = {"dataset_fingerprint": "ef" * 32}  # of the same name
    rows = [fallen(row, "a", 0.1), fallen(row, "b", 0.2)]
    rows += [fallen(row, case, 0.4, attack="fmn") for case in "ab"]
    rows += [fallen(row, case, 0.05, **other) for case in "ab"]
    rows += [row(case_id=case, **CLEAN, **data) for case in "ab" for data in ({}, other)]
    tables = build_tables(frame(rows), depth="summary")
    names = sorted(tables.distances["dataset"].unique())
    found = {}
    for name in names:
        (chart,) = charts(tables, name)
        for curve, *shares in chart.rows:
            found[name, curve.rpartition(", ")[2]] = shares
    first, second = sorted(names, key=lambda name: "efef" in name)
    assert found[first, "dag"] == ["100%", "50%", "0%", "0%", "0%"]
    assert found[first, "fmn"] == ["100%", "100%", "100%", "100%", "0%"]
    assert found[second, "dag"] == ["100%", "100%", "100%", "100%", "0%"]


def test_an_axis_is_of_distances_that_there_are(row: Any, frame: Any) -> None:
    rows = [fallen(row, case, 0.0) for case in "ab"]
    tables = build_tables(frame([*rows, *(row(case_id=case, **CLEAN) for case in "ab")]))
    (chart,) = charts(tables)
    assert [tick.text for tick in chart.ticks] == ["0/255"]
    assert chart.rows[0][1:] == ["0%"]
    assert "Cases that stand" in page.render(tables)


@pytest.mark.parametrize(
    ("value", "kind", "text"),
    [(128 / 255, "linf", "128/255"), (1, "linf", "255/255"), (99.6 / 255, "linf", "100/255"),
     (7.96 / 255, "linf", "8/255"), (0.5 / 255, "linf", "0.5/255"), (1234.4, "l1", "1234"),
     (0.12345, "l2", "0.123")],
)  # fmt: skip
def test_a_budget_has_every_digit_before_the_point(value: float, kind: str, text: str) -> None:
    assert words.budget(value, kind) == text
