"""The gate: today's scores against a committed golden file, row by row, with a verdict each.

A golden row names an attack with all its parameters, so that a changed default is a missing row
and never a silent comparison of two different attacks. Weights are not part of it: whether newly
trained weights are as good is what the gate is for. The worst over attacks has no row: it is of
whichever attacks the workspace holds, so that one more would lower it and one fewer raise it; each
of its attacks has rows of its own.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Hashable
from pathlib import Path
from typing import Any

from pandas import DataFrame, read_csv
from pandas.errors import EmptyDataError, ParserError

from segbench.api import Tables, csv_text
from segbench.atomic import write_atomically
from segbench.errors import MachineError, UserError
from segbench.plugins.naming import attack_spec
from segbench.tables.texts import by_key, plain_texts

GATED = ("jaccard", "dice")
"""The metrics that are compared; of both, higher is better."""

FAILURES = frozenset({"REGRESSION", "MISSING", "CASES"})
"""The verdicts that close the gate: worse than tolerated, not measured, over other cases."""

UNCHANGED = "ok"

KEY = ("model", "dataset", "split", "attack", "budget_kind", "budget", "metric")
"""What a golden row is about; ``value`` and ``cases`` are what it says."""

_TYPES = {**dict.fromkeys(KEY, str), "budget": float, "value": float, "cases": int}
_TEXTS = tuple(name for name, kind in _TYPES.items() if kind is str)
_LARGEST = sys.float_info.max
_RANGES = {
    "value": (0, 1, "a mean score between 0 and 1"),  # of every metric in GATED
    "budget": (0, _LARGEST, "a number of zero or more"),
    "cases": (1, _LARGEST, "one or more"),
}
_ROUNDING = 1e-9  # 0.89 - 0.90 is a little less than -0.01 in floating point


def golden_table(tables: Tables) -> DataFrame:
    """What a golden file holds: ``KEY``, then ``value`` (mean over cases) and ``cases``.

    One row per model, data set, attack, budget and gated metric; clean scores are there once per
    model and data set.
    """
    cases = tables.cases
    named = cases.assign(attack=by_key(cases, ["attack", "attack_params"], attack_spec))
    points = named.melt([*KEY[:-1]], [*GATED], var_name="metric", value_name="value")
    scores = points.groupby([*KEY], observed=True)["value"].agg(["mean", "count"]).reset_index()
    return plain_texts(scores).rename(columns={"mean": "value", "count": "cases"})


def write_golden(path: Path, golden: DataFrame) -> None:
    """Write the golden file: CSV, full precision, sorted, so that its diffs can be read.

    Raises:
        UserError: a score is not a number, which nothing can be compared with.
        MachineError: the disk refused.
    """
    for row in golden[golden["value"].isna()].to_dict("records"):
        raise UserError(f"{_name(row)} is not a number and cannot be a reference; leave it out")
    text = csv_text(golden[[*_TYPES]].sort_values([*KEY]))
    write_atomically(path, text.encode())


def read_golden(path: Path) -> DataFrame:
    """The rows of a golden file.

    Raises:
        UserError: it does not exist, is not such a file, holds no rows or one row twice, or a
            number that no score, budget or count can be.
        MachineError: it may not be read.
    """
    try:
        with path.open(newline="", encoding="utf-8") as file:
            golden = read_csv(
                file, dtype=str, keep_default_na=False, skipinitialspace=True, index_col=False
            )
        golden = golden[[*_TYPES]].astype(_TYPES)
        for name in _TEXTS:
            golden[name] = golden[name].str.removeprefix("'")  # see csv_text
    except FileNotFoundError:
        raise UserError(
            f"the golden file {path} does not exist; "
            f"`segbench check --golden {path} --update` writes it"
        ) from None
    except OSError as error:
        raise MachineError(f"cannot read {path}: {error.strerror or error}") from error
    except (EmptyDataError, ParserError, KeyError, ValueError, OverflowError) as error:
        raise UserError(
            f"{path} is not a golden file ({_first_line(error)}); expected CSV with the columns "
            f"{','.join(_TYPES)}"
        ) from error
    if golden.empty:
        raise UserError(f"the golden file {path} holds no rows, so it would pass anything")
    for row in golden[golden.duplicated([*KEY])].to_dict("records"):
        raise UserError(f"{path} has {_name(row)} twice; keep one")
    for name, (least, most, expected) in _RANGES.items():
        for row in golden[~golden[name].between(least, most)].to_dict("records"):
            raise UserError(f"{path}: {_name(row)} has the {name} {row[name]}; expected {expected}")
    return golden


def compare_golden(current: DataFrame, golden: DataFrame, tolerance: float) -> DataFrame:
    """``KEY``, value, golden, difference (value - golden), cases, golden_cases and verdict.

    Verdicts: ``ok`` within tolerance; ``better`` above it; ``REGRESSION`` below it or not a
    number; ``CASES`` over another number of cases; ``MISSING`` in the golden file only; ``new`` in
    the current scores only. The golden file's rows come first, in its order. Those in ``FAILURES``
    close the gate.

    Raises:
        UserError: the tolerance is not a finite number of zero or more.
    """
    if not 0 <= tolerance < math.inf:
        raise UserError(f"tolerance {tolerance} is not a number of zero or more, such as 0.01")
    measured = {_key(row): row for row in current.to_dict("records")}
    lines = [
        _compare(measured.pop(_key(expected), None), expected, tolerance)
        for expected in golden.to_dict("records")
    ]
    lines += [_compare(row, None, tolerance) for row in measured.values()]
    numbers = ["value", "golden", "difference", "cases", "golden_cases"]
    return DataFrame(lines, columns=[*KEY, *numbers, "verdict"])


def _compare(
    row: dict[Hashable, Any] | None, golden: dict[Hashable, Any] | None, tolerance: float
) -> dict[str, Any]:
    """One line of the comparison; one of the two rows may be absent."""
    value = row["value"] if row else math.nan
    reference = golden["value"] if golden else math.nan
    cases, golden_cases = row["cases"] if row else 0, golden["cases"] if golden else 0
    difference = value - reference
    if not row:
        verdict = "MISSING"
    elif not golden:
        verdict = "new"
    elif cases != golden_cases:
        verdict = "CASES"
    elif not difference >= -tolerance - _ROUNDING:  # so written, NaN fails
        verdict = "REGRESSION"
    else:
        verdict = "better" if difference > tolerance + _ROUNDING else UNCHANGED
    return {
        **{name: (row or golden or {})[name] for name in KEY},
        "value": value,
        "golden": reference,
        "difference": difference,
        "cases": cases,
        "golden_cases": golden_cases,
        "verdict": verdict,
    }


def _key(row: dict[Hashable, Any]) -> tuple[Any, ...]:
    return tuple(row[name] for name in KEY)


def _name(row: dict[Hashable, Any]) -> str:
    """A row in words."""
    return (
        f"{row['metric']} of {row['model']} under {row['attack']} at {row['budget']:g} on "
        f"{row['dataset']} {row['split']}"
    )


def _first_line(error: Exception) -> str:
    return str(error.args[0] if error.args else error).splitlines()[0]
