"""The golden file: reference scores, committed, that today's are compared with, see verdicts.py.

A golden row names an attack with all its parameters, so that a changed default is a missing row
and never a silent comparison of two different attacks. The code of an attack is not part of it: one
that was edited under the same name, with the same parameters, is compared. Weights are not part of
it: whether newly trained weights are as good is what the gate is for. The worst over attacks has no
row: it is of whichever attacks the workspace holds, so that one more would lower it and one fewer
raise it; each of its attacks has rows of its own.

A row says what spoke against its number, marks and the signs of a stuck attack, each by itself: a
score that has become doubtful since is no better than it was, however high it is.
"""

from __future__ import annotations

import sys
from collections.abc import Hashable, Mapping
from datetime import date
from pathlib import Path
from typing import Any, cast
from warnings import catch_warnings, simplefilter

from pandas import DataFrame, Series, read_csv
from pandas.errors import EmptyDataError, ParserError, ParserWarning

from segbench.api import Tables, csv_text, distrusted, plain
from segbench.atomic import write_atomically
from segbench.errors import MachineError, UserError
from segbench.metrics.numbering import first_of, number_of
from segbench.plugins.naming import attack_spec
from segbench.tables.averages import SUBJECT
from segbench.tables.golden_cases import Key
from segbench.tables.stuck import signs_by_case
from segbench.tables.texts import by_key, join_words, plain_texts, words

GATED = ("jaccard", "dice")
"""The metrics that are compared; of both, higher is better."""

KEY = ("model", "dataset", "split", "attack", "budget_kind", "budget", "metric")
"""What a golden row is about; ``value`` and ``cases`` are what it says."""

MARKS = "marks"
"""The words that speak against a score, see ``distrusted`` and ``signs_by_case``; often none."""

UNKNOWN = "?"
"""The marks of every row of an older golden file, which has no such column."""

ACKNOWLEDGED = ("acknowledged", "until")
"""A reviewed regression: the reason, and the last day (ISO) on which it passes; often empty."""

_TYPES = {**dict.fromkeys(KEY, str), "budget": float, "value": float, "cases": int}
_TEXTS = tuple(name for name, kind in _TYPES.items() if kind is str)
_LARGEST = sys.float_info.max
_RANGES = {
    "value": (0, 1, "a mean score between 0 and 1"),  # of every metric in GATED
    "budget": (0, _LARGEST, "a number of zero or more"),
    "cases": (1, _LARGEST, "one or more"),
}
ROUNDING = 1e-9  # 0.89 - 0.90 is a little less than -0.01 in floating point


def golden_table(tables: Tables) -> DataFrame:
    """What a golden file holds: ``KEY``, then ``value`` (mean over cases), ``cases``, ``marks``.

    One row per model, data set, attack, budget and gated metric; clean scores are there once per
    model and data set. None of a point that has no scored case: no label of it has foreground.
    """
    cases = tables.cases
    named = cases.assign(attack=by_key(cases, ["attack", "attack_params"], attack_spec))
    points = named.melt([*KEY[:-1]], [*GATED], var_name="metric", value_name="value")
    scores = points.groupby([*KEY], observed=True)["value"].agg(["mean", "count"]).reset_index()
    scores = scores[scores["count"] > 0]
    scores = plain_texts(scores).merge(_marks(named), how="left", on=[*KEY[:-1]])
    for name in (*_TEXTS, MARKS):
        scores[name] = scores[name].map(plain)  # as the file has it
    return scores.rename(columns={"mean": "value", "count": "cases"})


def _marks(cases: DataFrame) -> DataFrame:
    """Every point with what speaks against it."""
    number = number_of(cases, KEY[:-1])
    points = plain_texts(cases[[*KEY[:-1]]].iloc[first_of(number)].reset_index(drop=True))
    own = cases[[MARKS]].assign(signs=signs_by_case(cases, SUBJECT))
    own = own.assign(**{MARKS: by_key(own, [MARKS, "signs"], lambda *both: words(both))})
    marks = Series(join_words(number, own[MARKS])).astype("str")
    return points.assign(
        **{MARKS: marks.map(lambda text: " ".join(sorted(distrusted(text).split())))}
    )


def write_golden(path: Path, golden: DataFrame) -> None:
    """Write the golden file: CSV, full precision, sorted, so that its diffs can be read.

    Raises:
        UserError: there are none, or one is not a number, which nothing can be compared with.
        MachineError: the disk refused.
    """
    if golden.empty:
        raise UserError(
            "there are no scores to be a reference: no case of the workspace has foreground in its "
            "label; attack a data set that has some"
        )
    for row in golden[golden["value"].isna()].to_dict("records"):
        raise UserError(f"{row_name(row)} is not a number and cannot be a reference; leave it out")
    text = csv_text(golden[[*_TYPES, MARKS]].sort_values([*KEY]))
    write_atomically(path, text.encode())


def read_golden(path: Path) -> DataFrame:
    """The rows of a golden file.

    Raises:
        UserError: it does not exist, is not such a file, holds no rows or one row twice, or a
            number that no score, budget or count can be.
        MachineError: it may not be read.
    """
    try:
        with path.open(newline="", encoding="utf-8") as file, catch_warnings():
            simplefilter("error", ParserWarning)  # of a row that is longer than the header
            golden = read_csv(
                file, dtype=str, keep_default_na=False, skipinitialspace=True, index_col=False
            )
        if lacking := [name for name in _TYPES if name not in golden]:
            raise ValueError(f"it has no column {', '.join(lacking)}")
        for name, otherwise in {MARKS: UNKNOWN, **dict.fromkeys(ACKNOWLEDGED, "")}.items():
            golden[name] = golden.get(name, otherwise)
        golden = golden[[*_TYPES, MARKS, *ACKNOWLEDGED]].astype(_TYPES)
        for name in (*_TEXTS, MARKS, *ACKNOWLEDGED):
            golden[name] = golden[name].str.removeprefix("'")  # see csv_text
    except FileNotFoundError:
        raise UserError(
            f"the golden file {path} does not exist; "
            f"`segbench check --golden {path} --update` writes it"
        ) from None
    except OSError as error:
        raise MachineError(f"cannot read {path}: {error.strerror or error}") from error
    except (EmptyDataError, ParserError, ParserWarning, ValueError, OverflowError) as error:
        raise UserError(
            f"{path} is not a golden file ({_first_line(error)}); expected CSV with the columns "
            f"{','.join(_TYPES)}"
        ) from error
    if golden.empty:
        raise UserError(f"the golden file {path} holds no rows, so it would pass anything")
    for row in golden[golden.duplicated([*KEY])].to_dict("records"):
        raise UserError(f"{path} has {row_name(row)} twice; keep one")
    for row in golden[golden["acknowledged"] != golden["until"]].to_dict("records"):
        if not row["acknowledged"] or not _is_day(row["until"]):
            raise UserError(
                f"{path}: {row_name(row)} is acknowledged ({row['acknowledged']!r}) until "
                f"{row['until']!r}; expected a reason and a day such as 2027-01-31"
            )
    for name, (least, most, expected) in _RANGES.items():
        for row in golden[~golden[name].between(least, most)].to_dict("records"):
            raise UserError(
                f"{path}: {row_name(row)} has the {name} {row[name]}; expected {expected}"
            )
    return golden


def row_key(row: Mapping[Hashable, Any]) -> Key:
    """What a row is about."""
    return cast(Key, tuple(row[name] for name in KEY))


def row_name(row: Mapping[Hashable, Any]) -> str:
    """A row in words."""
    return (
        f"{row['metric']} of {row['model']} under {row['attack']} at {row['budget']:g} on "
        f"{row['dataset']} {row['split']}"
    )


def _is_day(text: str) -> bool:
    try:
        return bool(date.fromisoformat(text))
    except ValueError:
        return False


def _first_line(error: Exception) -> str:
    return str(error.args[0] if error.args else error).splitlines()[0]
