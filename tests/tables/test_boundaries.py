"""A report says in what unit hd95 is on each data set, and where a mean has none."""

from __future__ import annotations

from typing import Any

import pytest

from segbench.tables.build import build_tables

NAN = float("nan")


def rows_of(row: Any, *pixels: float, **given: Any) -> list[Any]:
    measured = {"hd95": 4.0, "nsd": 0.5, "nsd_tolerance": 1.0, **given}
    return [
        row(case_id=f"c{n}", case_sha256=f"c{n}", pixel_mm=pixel, **measured)
        for n, pixel in enumerate(pixels)
    ]


def test_each_data_set_has_its_own_unit(row: Any, frame: Any) -> None:
    rows = [*rows_of(row, 0, 0), *rows_of(row, 0.175, 1.5, dataset="skin")]
    tables = build_tables(frame(rows), depth="summary")
    (note,) = [note for note in tables.notes if "hd95" in note]
    assert "in pixels on jsrt test, mm on skin test, and" in note
    assert not [warning for warning in tables.warnings if "hd95" in warning]


def test_a_mean_of_millimetres_and_pixels_is_named(row: Any, frame: Any) -> None:
    tables = build_tables(frame(rows_of(row, 0, 0.175)), depth="summary")
    (warning,) = [warning for warning in tables.warnings if "hd95" in warning]
    assert warning.startswith("jsrt test: hd95 is in mm for some cases and in pixels for others")


@pytest.mark.parametrize("pixels", [(NAN, NAN), (NAN, 0.5)])
def test_rows_of_before_it_was_stored_are_said_to_be_of_either(
    row: Any, frame: Any, pixels: tuple[float, ...]
) -> None:
    tables = build_tables(frame(rows_of(row, *pixels)), depth="summary")
    assert any("mm or pixels on jsrt test" in note for note in tables.notes)
    assert not [warning for warning in tables.warnings if "hd95" in warning]


def test_nothing_is_said_where_it_was_not_measured(row: Any, frame: Any) -> None:
    tables = build_tables(frame([row()]), depth="summary")
    assert not [note for note in [*tables.notes, *tables.warnings] if "hd95" in note]
