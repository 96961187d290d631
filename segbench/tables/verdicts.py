"""The gate's verdict on every golden row, with a sentence.

Where the golden file has cases, a score is compared with its own of then, case by case: a
regression is a mean drop beyond the tolerance that is more than chance, one-sided, corrected by
Holm for all scores of the file, so that a gate of a hundred scores raises no more false alarms than
one of a single score. Without cases only the tolerance decides.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from datetime import date
from typing import Any

import numpy as np
from pandas import DataFrame, factorize

from segbench.errors import UserError
from segbench.metrics.permutation import holm
from segbench.metrics.stats import Array, Interval, chances_of_drop, mean_intervals
from segbench.plugins.spec import parse
from segbench.tables.golden import KEY, ROUNDING, row_key, row_name
from segbench.tables.golden_cases import Key, Scores

LEVEL = 0.05
"""How often the whole gate may fail where nothing has fallen."""

FAILURES = frozenset({"REGRESSION", "MISSING", "CASES", "OTHER-ATTACK"})
"""The verdicts that close the gate: worse, not measured, over other cases, by another attack."""

UNCHANGED = "ok"
_NUMBERS = ["value", "golden", "difference", "high", "p", "cases", "golden_cases"]
_AGREE = 1e-4  # of a mean whose cases are rounded to four decimals
Row = dict[Hashable, Any]


def compare_golden(
    current: DataFrame,
    golden: DataFrame,
    tolerance: float,
    *,
    now: Mapping[Key, Scores] | None = None,
    then: Mapping[Key, Scores] | None = None,
    today: date | None = None,
) -> DataFrame:
    """``KEY``, value, golden, difference, its one-sided bound, p, cases, verdict and sentence.

    Verdicts: ``ok`` within tolerance; ``noise`` a drop beyond it that chance explains; ``better``
    above it; ``REGRESSION``; ``acknowledged``, a regression that the golden file names with a
    reason until a day that has not passed; ``CASES`` over other cases; ``OTHER-ATTACK`` where the
    attack has other parameters now; ``MISSING``; ``new`` in the current scores only. The golden
    file's rows come first, in its order. Those in ``FAILURES`` close the gate.

    Args:
        current: from ``golden_table``.
        golden: from ``read_golden``.
        tolerance: how much lower a mean may be.
        now: today's scores by case.
        then: the golden file's, None where it has none.
        today: decides whether an acknowledgement has ended.

    Raises:
        UserError: the tolerance is not a finite number of zero or more, or the golden file and its
            cases do not say the same.
    """
    require_agreement(golden, then or {})
    if not 0 <= tolerance < math.inf:
        raise UserError(f"tolerance {tolerance} is not a number of zero or more, such as 0.01")
    measured = {row_key(row): row for row in current.to_dict("records")}
    pairs = [(measured.pop(row_key(row), None), row) for row in golden.to_dict("records")]
    names = {(key[:3], parse_name(key[3]), key[4:]) for key in measured}  # in no golden row
    keys = [row_key(expected) if row else None for row, expected in pairs]
    intervals, chances = _paired(keys, now or {}, then or {})
    lines = [
        _compare(row, expected, interval, float(chance), tolerance, names, today)
        for (row, expected), interval, chance in zip(pairs, intervals, holm(chances), strict=True)
    ]
    lines += [_new(row) for row in measured.values()]
    return DataFrame(lines, columns=[*KEY, *_NUMBERS, "verdict", "sentence"])


def require_agreement(golden: DataFrame, then: Mapping[Key, Scores]) -> None:
    """Refuse a golden file whose cases say something else.

    Args:
        golden: from ``read_golden``.
        then: its scores by case.

    Raises:
        UserError: a mean is not that of its cases.
    """
    for row in golden.to_dict("records"):
        scores = then.get(row_key(row))
        if scores is not None and abs(float(scores.values.mean()) - row["value"]) > _AGREE:
            raise UserError(
                f"the golden file says {row['value']:.4f} of {row_name(row)}, its cases "
                f"{scores.values.mean():.4f}; `segbench check --update` writes both"
            )


def parse_name(attack: str) -> str:
    """The name of an attack without its parameters."""
    try:
        return parse(attack).name
    except UserError:
        return attack


def _paired(
    keys: Sequence[Key | None], now: Mapping[Key, Scores], then: Mapping[Key, Scores]
) -> tuple[list[Interval | str | None], Array]:
    """The differences, case by case; in words where the cases are others; None without any.

    And how often chance makes a mean as low, NaN where that cannot be said.
    """
    found: list[Interval | str | None] = [None] * len(keys)
    parts: dict[int, tuple[Array, Sequence[str]]] = {}
    for place, key in enumerate(keys):
        before, after = (then.get(key), now.get(key)) if key else (None, None)
        if before is not None and after is not None:
            difference = _difference(after, before)
            if isinstance(difference, str):
                found[place] = difference
            elif len(difference[0]):
                parts[place] = difference
    chances = np.full(len(keys), math.nan)
    if parts:
        sizes = [len(values) for values, _ in parts.values()]
        groups = factorize(np.array([g for _, own in parts.values() for g in own], object))[0]
        intervals = mean_intervals(
            np.concatenate([values for values, _ in parts.values()]),
            np.repeat(np.arange(len(parts)), sizes),
            groups.astype(np.int64),
            len(parts),
            of="signed",
        )
        several = np.where(intervals.groups > 1, chances_of_drop(intervals), math.nan)
        for number, place in enumerate(parts):
            found[place], chances[place] = intervals.one(number), several[number]
    return found, chances


def _difference(after: Scores, before: Scores) -> str | tuple[Array, Sequence[str]]:
    """Today's scores minus those of then, and the groups; in words where the cases are others."""
    defined = ~np.isnan(after.values)
    if after.case_ids == before.case_ids and defined.all():
        return after.values - before.values, after.groups
    names = [name for name, there in zip(after.case_ids, defined, strict=True) if there]
    added, gone = set(names) - set(before.case_ids), set(before.case_ids) - set(names)
    if added or gone:
        parts = [f"{len(gone)} are gone"] * bool(gone) + [f"{len(added)} are new"] * bool(added)
        example = sorted(gone or added)[0]
        return f"{' and '.join(parts)}, for example {example}"
    old = dict(zip(before.case_ids, before.values.tolist(), strict=True))
    differences = after.values[defined] - np.array([old[name] for name in names], np.float64)
    return differences, [g for g, there in zip(after.groups, defined, strict=True) if there]


def _compare(
    row: Row | None,
    golden: Row,
    interval: Interval | str | None,
    chance: float,
    tolerance: float,
    names: set[Any],
    today: date | None,
) -> dict[str, Any]:
    """One line of the comparison."""
    value = row["value"] if row else math.nan
    line: dict[str, Any] = {
        **{name: golden[name] for name in KEY},
        "value": value,
        "golden": golden["value"],
        "difference": value - golden["value"],
        "high": math.nan,
        "p": chance,
        "cases": row["cases"] if row else 0,
        "golden_cases": golden["cases"],
    }
    if isinstance(interval, Interval) and row:
        line |= {"difference": interval.mean, "high": interval.high}
    verdict, why = _verdict(line, interval, tolerance, names)
    if verdict == "REGRESSION":
        verdict, why = _acknowledged(golden, why, today)
    return line | {"verdict": verdict, "sentence": f"{row_name(golden)}: {why}."}


def _verdict(
    line: dict[str, Any], interval: Interval | str | None, tolerance: float, names: set[Any]
) -> tuple[str, str]:
    difference = line["difference"]
    if not line["cases"] and math.isnan(line["value"]):
        key = tuple(line[name] for name in KEY)
        if (key[:3], parse_name(key[3]), key[4:]) in names:
            return "OTHER-ATTACK", "measured with other parameters of the attack now"
        return "MISSING", "in the golden file, but not measured"
    if isinstance(interval, str):
        return "CASES", f"measured over other cases: {interval}"
    if line["cases"] != line["golden_cases"]:
        return "CASES", f"measured over {line['cases']} cases, golden over {line['golden_cases']}"
    moved = f"{line['golden']:.4f} to {line['value']:.4f} ({round(difference, 4) + 0.0:+.4f})"
    if math.isnan(line["value"]):
        return "REGRESSION", f"{line['golden']:.4f}, and no number now"
    if difference > tolerance + ROUNDING:
        return "better", f"rose from {moved}"
    if difference >= -tolerance - ROUNDING:
        return UNCHANGED, f"{moved}, within {tolerance:g}"
    if math.isnan(line["p"]):
        return "REGRESSION", f"fell from {moved}, beyond {tolerance:g}"
    if line["p"] <= LEVEL:
        return (
            "REGRESSION",
            f"fell from {moved}, beyond {tolerance:g} and chance (p {line['p']:.2g})",
        )
    return "noise", f"fell from {moved}, but chance explains it (p {line['p']:.2g})"


def _acknowledged(golden: Row, why: str, today: date | None) -> tuple[str, str]:
    """A regression that was reviewed passes until its day; from then on it says so."""
    reason, until = golden.get("acknowledged", ""), golden.get("until", "")
    if not reason:
        return "REGRESSION", why
    if (today or date.today()) <= date.fromisoformat(until):
        return "acknowledged", f"{why}; acknowledged until {until}: {reason}"
    return "REGRESSION", f"{why}; its acknowledgement ended on {until}: {reason}"


def _new(row: Row) -> dict[str, Any]:
    return {
        **{name: row[name] for name in KEY},
        "value": row["value"],
        "golden": math.nan,
        "difference": math.nan,
        "high": math.nan,
        "p": math.nan,
        "cases": row["cases"],
        "golden_cases": 0,
        "verdict": "new",
        "sentence": f"{row_name(row)}: measured, but not in the golden file.",
    }
