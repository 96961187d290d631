"""The gate: today's scores against a golden file, and what must be said beside the verdicts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from pandas import DataFrame

from segbench.api import Tables
from segbench.tables.averages import SUBJECT
from segbench.tables.golden import KEY, MARKS, golden_table, row_key
from segbench.tables.golden_cases import Key, Scores, scores_by_case
from segbench.tables.golden_gaps import describe_attacks, describe_gaps
from segbench.tables.golden_names import same_by_contents
from segbench.tables.golden_pairs import TESTED
from segbench.tables.stuck import SIGNS, judge_alone
from segbench.tables.verdicts import FAILURES, MARKED, NEW, NOISE, compare_golden


@dataclass(frozen=True, eq=False)
class Gate:
    """What a gate found.

    Attributes:
        comparison: from ``compare_golden``.
        remarks: sentences on no score alone: why attacks are held to be stuck, what so few groups
            cannot tell, and what a golden file cannot.
    """

    comparison: DataFrame
    remarks: Sequence[str] = ()

    @property
    def failed(self) -> int:
        """How many scores close it."""
        return int(self.comparison["verdict"].isin(FAILURES).sum())

    @property
    def marked(self) -> int:
        """How many pass that are not to be trusted."""
        return int((self.comparison["verdict"] == MARKED).sum())

    @property
    def verdict(self) -> str:
        """All of it in a few words."""
        new = int((self.comparison["verdict"] == NEW).sum())
        count = len(self.comparison) - new
        beside = f"; {new} more {'are' if new > 1 else 'is'} new and not compared" if new else ""
        scores = f"{count} score{'s' * (count != 1)}"
        if self.failed:
            return f"{self.failed} of {scores} fail{beside}"
        lower = int((self.comparison["verdict"] == NOISE).sum())
        doubts = f", {self.marked} of them not to be trusted" if self.marked else ""
        doubts += f", {lower} of them lower, which may be chance" if lower else ""
        return f"no regression in {scores}{doubts}{beside}"


def hold_gate(
    tables: Tables, golden: DataFrame, then: Mapping[Key, Scores] | None, tolerance: float
) -> Gate:
    """Today's scores against the golden file's.

    Args:
        tables: at whatever depth.
        golden: from ``read_golden``.
        then: its scores by case, None where there are none.
        tolerance: how much lower a mean may be.

    Raises:
        UserError: as ``compare_golden``.
    """
    current, now = golden_table(tables), scores_by_case(tables) if then else {}
    keys = [row_key(row) for row in golden.to_dict("records")]
    today = [row_key(row) for row in current.to_dict("records")]
    named = same_by_contents(keys, today, now, then or {})
    current, now = _under_golden_names(current, now, named)
    comparison = compare_golden(current, golden, tolerance, now=now, then=then)
    reasons = _reasons(tables, comparison, named)
    remarks = [*reasons, *_few(comparison), *describe_gaps(golden, then)]
    return Gate(comparison, [*remarks, *describe_attacks(now, then or {})])


def _under_golden_names(
    current: DataFrame, now: Mapping[Key, Scores], named: Mapping[Key, Key]
) -> tuple[DataFrame, dict[Key, Scores]]:
    """Today's scores, those under other names by the names of the golden file."""
    golden = {own: key for key, own in named.items()}
    rows = current.to_dict("records")
    for row in rows:
        key = row_key(row)
        row.update(zip(KEY, golden.get(key, key), strict=True))
    return DataFrame(rows, columns=current.columns), {
        golden.get(key, key): scores for key, scores in now.items()
    }


def _reasons(tables: Tables, comparison: DataFrame, named: Mapping[Key, Key]) -> Sequence[str]:
    """Why attacks on the networks that are newly marked are held to be stuck."""
    compared = comparison["verdict"] != NEW
    stuck = comparison[MARKS].map(_is_stuck).astype(bool)
    keys = [row_key(row) for row in comparison[compared & stuck].to_dict("records")]
    models = {named.get(key, key)[0] for key in keys}
    return judge_alone(tables.cases, SUBJECT, models).stuck if models else ()


def _is_stuck(marks: str) -> bool:
    return any(word.partition("=")[0] in SIGNS for word in marks.split())


def _few(comparison: DataFrame) -> Iterator[str]:
    """How many scores rest on fewer groups than tell a fall from chance."""
    untested = comparison[(comparison["groups"] > 0) & comparison["p"].isna()]
    compared = int((comparison["verdict"] != NEW).sum())
    if len(untested):
        ends = dict.fromkeys((int(untested["groups"].min()), int(untested["groups"].max())))
        many = "1 group" if [*ends] == [1] else f"{' to '.join(map(str, ends))} groups"
        yield (
            f"{len(untested)} of {compared} scores rest on {many}, and fewer than {TESTED} "
            "groups' worth of cases cannot tell a large fall from chance: the tolerance alone "
            "decides on these, so that chance may close the gate"
        )
