"""Lesion-wise rates in tables: by hand from counts, and nothing of them where nobody asked."""

from __future__ import annotations

import numpy as np
import pytest

from segbench.tables.build import build_tables
from segbench_reports import markdown, page


def counted(row, lesions, found, false, overlap=0.1, **given):
    return row(
        lesions=float(lesions),
        lesions_found=float(found),
        lesions_false=float(false),
        lesion_overlap=overlap,
        **given,
    )


@pytest.fixture
def rows(row):
    """Two patients of two structures each, clean; the second has no lesion of the second."""
    clean = {"attack": "clean", "attack_params": "{}", "budget_kind": "none", "budget": 0.0}
    one = {**clean, "case_id": "a", "group_id": "a"}
    two = {**clean, "case_id": "b", "group_id": "b"}
    return [
        counted(row, 4, 3, 2, class_id=1, class_name="core", **one),
        counted(row, 1, 1, 0, class_id=2, class_name="edema", **one),
        counted(row, 2, 0, 1, class_id=1, class_name="core", **two),
        counted(row, 0, 0, 3, class_id=2, class_name="edema", jaccard=float("nan"), **two),
    ]


def test_rates_are_means_over_structures_and_cases_and_counts_are_summed(rows, frame):
    tables = build_tables(frame(rows), depth="summary")
    cases = tables.cases.set_index("case_id")
    assert cases.loc["a", "lesion_sensitivity"] == pytest.approx((3 / 4 + 1) / 2)
    assert cases.loc["a", "lesion_f1"] == pytest.approx((2 * 3 / (4 + 5) + 1) / 2)
    assert cases.loc["a", "lesions_false"] == 2
    assert cases.loc["b", "lesion_sensitivity"] == 0  # the structure without lesions has no rate
    assert cases.loc["b", "lesions_false"] == 4  # but what is made up of it is counted
    points = tables.curves.set_index("metric")
    assert points.loc["lesions_false", "mean"] == 3
    assert points.loc["lesion_sensitivity", "mean"] == pytest.approx(0.4375)
    assert 0 <= points.loc["lesion_sensitivity", "low"] < 0.4375
    assert np.isnan(points.loc["lesions_false", "relative_drop"])


@pytest.mark.parametrize("render", [markdown.render, page.render])
def test_reports_show_and_define_them_where_they_were_counted(rows, frame, row, render):
    text = render(build_tables(frame(rows)))
    assert "0.438" in text
    assert "intersection over union is above 0.1;" in text
    plain = render(build_tables(frame([row()])))
    assert "Lesions" not in plain
    assert "lesion_f1" not in plain


def test_two_overlaps_are_said_not_to_compare(rows, frame):
    mixed = [rows[0], *({**one, "lesion_overlap": 0.5} for one in rows[1:])]
    (note,) = [
        n for n in build_tables(frame(mixed), depth="summary").notes if "several overlaps" in n
    ]
    assert "do not compare" in note
    assert "above 0.1 or 0.5;" in " ".join(build_tables(frame(mixed), depth="summary").notes)
