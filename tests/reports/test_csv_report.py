"""The CSV report: what is read back is what was computed, to the last bit."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

from segbench.api import csv_parts, csv_text, report
from segbench.plugins.registry import load
from segbench.tables.build import build_tables
from segbench_reports import csv


@pytest.fixture(scope="module")
def tables(grid_rows, frame):
    return build_tables(frame(grid_rows(patients=3)))


def test_every_table_reads_back_exactly(tables, tmp_path):
    paths = csv.write(tables, tmp_path / "out")
    names = ["rows", "cases", "curves", "summary", "comparisons", "optimality"]  # one training
    assert [path.stem for path in paths] == names
    for path in paths:
        stored = getattr(tables, path.stem)
        back = pd.read_csv(path, dtype=str, keep_default_na=False)
        assert list(back) == list(stored)
        for column in stored:
            if pd.api.types.is_bool_dtype(stored[column]):
                assert [text == "True" for text in back[column]] == stored[column].tolist()
            elif pd.api.types.is_numeric_dtype(stored[column]):
                read = [float(text) if text else math.nan for text in back[column]]
                np.testing.assert_array_equal(read, stored[column])
            else:
                assert back[column].tolist() == stored[column].tolist()


def test_no_spreadsheet_takes_a_text_for_a_formula(row, frame, tmp_path):
    names = ["=cmd()", "+x", "-x", "@SUM(A1)", "\tx", "\r=x()", "'x", "x=y"]
    rows = [row(case_id=name, class_name=name, group_id=name, model=name) for name in names]
    csv.write(build_tables(frame(rows), depth="cases"), tmp_path)
    for file in ("rows", "cases"):
        back = pd.read_csv(tmp_path / f"{file}.csv", dtype=str, keep_default_na=False, header=0)
        assert len(back) == len(names)
        found = set()
        for _, line in back.iterrows():
            name = line["case_id"].removeprefix("'").replace("\\r", "\r")
            texts = [text for text in line if text.endswith(name[-2:])]
            assert len(texts) >= 3
            assert not [text for text in texts if text.startswith(("=", "+", "-", "@", "\t", "\r"))]
            assert {text.removeprefix("'").replace("\\r", "\r") for text in texts} == {name}
            found.add(name)
        assert found == {*names}


def test_a_value_is_written_as_pandas_writes_it_however_many_rows_bear_it():
    odd = pd.DataFrame(
        {
            "a,b": ["", 'x,"y"\n', "plain", None, "plain"],
            "names": pd.Categorical(["b", "a\nb", None, "b", ""]),
            "scores": [1.0, np.nan, 1e-300, np.inf, 0.1 + 0.2],
            "signs": [-0.0, 0.0, 1.0, -2.0, 3.0],
            "counts": [1, 2, 3, 2, 1],
            "flags": [True, False, True, True, False],
            "anything": pd.Series([1, True, 1.0, [2], "x"], dtype=object),
        }
    )
    for frame in (odd, odd[["a,b"]], odd.iloc[:0]):
        assert csv_text(frame) == frame.to_csv(index=False, lineterminator="\n")


def test_the_same_rows_give_the_same_bytes(tables, grid_rows, frame, tmp_path):
    again = build_tables(frame(grid_rows(patients=3)))
    for first, second in zip(
        csv.write(tables, tmp_path / "a"), csv.write(again, tmp_path / "b"), strict=True
    ):
        assert first.read_bytes() == second.read_bytes()


def test_both_formats_are_found_by_name():
    for name in ("csv", "markdown"):
        assert load("reports", name).distribution == "segbench"


def test_a_table_that_is_written_in_parts_has_the_same_bytes(grid_tables, monkeypatch):
    rows = grid_tables.rows
    whole = csv_text(rows).encode()
    monkeypatch.setattr(report, "_AT_ONCE", 7)
    parts = [*csv_parts(rows)]
    assert len(parts) > 3
    assert b"".join(parts) == whole
    assert b"".join(csv_parts(rows.iloc[:0])) == csv_text(rows.iloc[:0]).encode()
