"""The gate's verdict on every golden row, with a sentence.

Where the golden file has cases, a score is compared with its own of then, case by case: a
regression is a mean drop beyond the tolerance that is more than chance, one-sided, corrected by
Holm for all scores of the file, so that a gate of a hundred scores raises no more false alarms than
one of a single score. Without cases only the tolerance decides, and of fewer groups than can tell:
there chance cannot be told from a large fall either, and a gate had better close.

A score that is marked as not to be trusted, and was not then, passes no gate: a network that has
begun to hide its gradient leaves every attack more than before.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Iterator, Mapping
from datetime import date
from typing import Any

from pandas import DataFrame

from segbench.errors import UserError
from segbench.metrics.permutation import holm
from segbench.metrics.stats import Interval
from segbench.plugins.spec import parse
from segbench.tables.golden import KEY, MARKS, ROUNDING, UNKNOWN, row_key, row_name
from segbench.tables.golden_cases import Key, Scores
from segbench.tables.golden_names import namesakes
from segbench.tables.golden_pairs import pair_scores
from segbench.tables.texts import few

LEVEL = 0.05
"""How often the whole gate may fail where nothing has fallen."""

FAILURES = frozenset({"REGRESSION", "DOUBTFUL", "MISSING", "CASES", "OTHER-ATTACK"})
"""The verdicts that close the gate: worse, no longer to be trusted, not measured, over other cases,
by another attack."""

UNCHANGED = "ok"
MARKED = "marked"
"""Not to be trusted today, and of then an older golden file does not say."""

NEW = "new"
"""Measured, but not in the golden file: it is compared with nothing."""

NOISE = "noise"
"""A fall beyond the tolerance that cannot be told from chance."""

TOLD = frozenset({MARKED, "acknowledged", NOISE})
"""The verdicts that pass, and whose sentences are to be read."""

_EXCUSED = frozenset({MARKED, "acknowledged"})
_NUMBERS = ["value", "golden", "difference", "high", "p", "groups", "cases", "golden_cases"]
_GROWN = 2  # times, of a sign: what it says is another thing
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
    """``KEY``, value, golden, difference, its one-sided bound, p, what it rests on, and a verdict.

    ``p`` is NaN where nothing was tested, and ``groups`` 0 where nothing was paired. ``marks`` are
    today's that the golden file does not name. ``sentence`` says the ``verdict`` in words.

    Verdicts: ``ok`` within tolerance; ``noise`` a drop beyond it that chance may be; ``better``
    above it; ``REGRESSION``; ``acknowledged``, a regression that the golden file names with a
    reason until a day that has not passed; ``DOUBTFUL``, any of those that pass so far, with a mark
    that the golden file does not name; ``marked``, where an older golden file names none at all;
    ``CASES`` over other cases, or of other contents; ``OTHER-ATTACK`` where the attack has other
    parameters now; ``MISSING``; ``new`` in the current scores only. The golden file's rows come
    first, in its order. Those in ``FAILURES`` close the gate.

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
    lacking = [row_key(expected) for row, expected in pairs if not row]
    others = {key: namesakes(key, measured) for key in lacking}
    keys = [row_key(expected) if row else None for row, expected in pairs]
    intervals, chances = pair_scores(keys, now or {}, then or {})
    lines = [
        _compare(row, expected, interval, float(chance), tolerance, names, others, today)
        for (row, expected), interval, chance in zip(pairs, intervals, holm(chances), strict=True)
    ]
    lines += [_new(row) for row in measured.values()]
    return DataFrame(lines, columns=[*KEY, *_NUMBERS, MARKS, "verdict", "sentence"])


def require_agreement(golden: DataFrame, then: Mapping[Key, Scores]) -> None:
    """Refuse a golden file whose cases say something else.

    Args:
        golden: from ``read_golden``.
        then: its scores by case.

    Raises:
        UserError: a mean is not that of its cases, or of as many.
    """
    for row in golden.to_dict("records"):
        scores = then.get(row_key(row))
        if scores is not None and len(scores.values) != row["cases"]:
            raise UserError(
                f"the golden file has {row['cases']} cases of {row_name(row)}, its case file "
                f"{len(scores.values)}; `segbench check --update` writes both"
            )
        if scores is not None and abs(float(scores.values.mean()) - row["value"]) > _AGREE:
            raise UserError(
                f"the golden file says {row['value']:.4f} of {row_name(row)}, its cases "
                f"{scores.values.mean():.4f}; `segbench check --update` writes both"
            )


def new_marks(now: str, then: str) -> Iterator[str]:
    """Of today's marks those that were not there then, or of less than half the number."""
    known = dict(_parted(word) for word in then.split())
    for word in now.split():
        name, number = _parted(word)
        if name not in known or number > _GROWN * known[name]:
            yield word


def _parted(mark: str) -> tuple[str, float]:
    """``rise=0.012`` by name and number; one without a number is as large as can be."""
    name, _, number = mark.partition("=")
    try:
        return name, float(number)
    except ValueError:
        return name, math.inf


def parse_name(attack: str) -> str:
    """The name of an attack without its parameters."""
    try:
        return parse(attack).name
    except UserError:
        return attack


def _compare(
    row: Row | None,
    golden: Row,
    interval: Interval | str | None,
    chance: float,
    tolerance: float,
    names: set[Any],
    others: Mapping[Key, list[Key]],
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
        "groups": 0,
        "cases": row["cases"] if row else 0,
        "golden_cases": golden["cases"],
    }
    if isinstance(interval, Interval) and row:
        line |= {"high": interval.high, "groups": interval.groups}
    verdict, why = _verdict(line, interval, tolerance, names)
    if verdict == "MISSING" and (bearers := others.get(row_key(golden))):
        why = _not_under_its_name(row_key(golden), bearers)
    if verdict == "REGRESSION":
        verdict, why = _acknowledged(golden, why, today)
    new = ""
    if row:
        new, verdict, why = _doubted(verdict, why, row.get(MARKS, ""), golden.get(MARKS, UNKNOWN))
    return line | {MARKS: new, "verdict": verdict, "sentence": f"{row_name(golden)}: {why}."}


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
    groups = f"{line['groups']} group{'s' * (line['groups'] != 1)}"
    if math.isnan(line["p"]):
        few = f" over {groups}, too few to be told from chance" if line["groups"] else ""
        return "REGRESSION", f"fell from {moved}, beyond {tolerance:g}{few}"
    if line["p"] <= LEVEL:
        return (
            "REGRESSION",
            f"fell from {moved}, beyond {tolerance:g} and chance (p {line['p']:.2g})",
        )
    return (
        NOISE,
        f"fell from {moved}, which cannot be told from chance with {groups} (p {line['p']:.2g})",
    )


def _not_under_its_name(key: Key, bearers: Iterable[Key]) -> str:
    """A golden row whose names now stand for several things, or stood for several then."""
    names = (pair for bearer in bearers for pair in zip(bearer, key, strict=True))
    apart = {str(own) for own, name in names if own != name}
    return (
        "in the golden file, but not measured under these names, which several networks or data "
        f"sets share, now or then; measured is {few(sorted(apart))}; keep each in a "
        "workspace of its own, or write the file anew with `segbench check --update`"
    )


def _acknowledged(golden: Row, why: str, today: date | None) -> tuple[str, str]:
    """A regression that was reviewed passes until its day; from then on it says so."""
    reason, until = golden.get("acknowledged", ""), golden.get("until", "")
    if not reason:
        return "REGRESSION", why
    if (today or date.today()) <= date.fromisoformat(until):
        return "acknowledged", f"{why}; acknowledged until {until}: {reason}"
    return "REGRESSION", f"{why}; its acknowledgement ended on {until}: {reason}"


def _doubted(verdict: str, why: str, now: str, then: str) -> tuple[str, str, str]:
    """Today's marks that the golden file does not name, and the verdict and the words with them."""
    new = " ".join(new_marks(now, then))
    if not now:
        return "", verdict, why
    if not new:
        return "", verdict, f"{why}; marked {', '.join(now.split())}, as it was then"
    doubts = ", ".join(new.split())
    if then == UNKNOWN:
        known = verdict in FAILURES or verdict in _EXCUSED
        why = f"{why}; marked {doubts}, so do not trust it, nor perhaps what it was then"
        return new, verdict if known else MARKED, why
    why = f"{why}; but marked {doubts}, as it was not then, so do not trust it"
    return new, verdict if verdict in FAILURES else "DOUBTFUL", why


def _new(row: Row) -> dict[str, Any]:
    marks = row.get(MARKS, "")
    return {
        **{name: row[name] for name in KEY},
        "value": row["value"],
        "golden": math.nan,
        "difference": math.nan,
        "high": math.nan,
        "p": math.nan,
        "groups": 0,
        "cases": row["cases"],
        "golden_cases": 0,
        MARKS: marks,
        "verdict": NEW,
        "sentence": f"{row_name(row)}: measured, but not in the golden file"
        + (f"; marked {marks}, so do not trust it." if marks else "."),
    }
