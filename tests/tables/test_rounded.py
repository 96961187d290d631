"""Rounded images: what is said of them is what was measured."""

from __future__ import annotations

import pytest

from segbench.tables.build import build_tables

ROUNDED = {"attack": "pgd:quantized=true", "attack_params": '{"quantized": true}'}
EPS = 0.2 / 255


def _rows(make, distances, kind="linf"):
    """Cases after an attack within a norm, and the same rounded, at these distances."""
    budget = {"budget_kind": kind, "budget": EPS}
    rows = []
    for number, distance in enumerate(distances):
        case = {"case_id": f"c{number}", "group_id": f"c{number}", **budget}
        rows += [make(**case, linf=EPS, l2=EPS), make(**case, **ROUNDED, linf=0.0, l2=0.0)]
        if kind != "l1":
            rows[-1][kind] = distance
    return rows


@pytest.mark.parametrize("kind", ["linf", "l2"])
def test_images_that_rounding_took_out_of_their_budget_are_counted_and_warned_of(kind, row, frame):
    tables = build_tables(
        frame(_rows(row, [0.0, 2.5 * EPS, 1.5 * EPS, EPS * (1 + 1e-5)], kind)), depth="summary"
    )
    (warning,) = [said for said in tables.warnings if "levels of their files" in said]
    assert warning == (
        "jsrt test: of 4 images that were rounded to the levels of their files 2 lie outside their "
        "budget, at up to 2.5 times it (pgd:quantized=true): their scores are of larger changes "
        "than their eps says."
    )
    (note,) = [said for said in tables.notes if said.startswith("Attacks with quantized=true")]
    assert "None of those measured" not in note


def test_where_none_left_its_budget_the_note_says_so(row, frame):
    tables = build_tables(frame(_rows(row, [0.0, EPS])), depth="summary")
    assert not [said for said in tables.warnings if "levels" in said]
    (note,) = [said for said in tables.notes if said.startswith("Attacks with quantized=true")]
    assert note.endswith("None of those measured lies outside its budget.")


def test_of_a_norm_whose_distance_no_row_has_nothing_is_said_to_stay_within(row, frame):
    tables = build_tables(frame(_rows(row, [0.0, EPS], "l1")), depth="summary")
    (note,) = [said for said in tables.notes if said.startswith("Attacks with quantized=true")]
    assert "None of those measured" not in note
