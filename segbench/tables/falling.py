"""Budgets whose scores were still falling when the gradients ran out.

An attacked score is an upper bound. Where the attacks that found the lowest scores gained much in
the last half of their steps, more steps may find more: the bound is hardly a tight one. By how much
it is not tight this does not tell.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Sequence

from pandas import DataFrame, Series

from segbench.metrics.numbering import first_of, number_of
from segbench.plugins.naming import CLEAN, eps_names
from segbench.plugins.spec import Spec
from segbench.plugins.where import WHERE
from segbench.tables.sign_texts import NORMS
from segbench.tables.stuck import threats
from segbench.tables.texts import budgets_of, by_key, few
from segbench.tables.worst import KINDS, SELECTING, rounding

FALLING = 0.01
"""Of a mean over cases: what a report shows as a whole hundredth."""


def falling_points(cases: DataFrame, subject: Sequence[str]) -> DataFrame:
    """The budgets at which a mean was still falling by more than ``FALLING``.

    Of each case the row with the lowest score of all attacks at that budget counts, of equal ones
    the one that gained the least, since it came to rest there. A case at the
    worst score has come to its end; one that is lower at a smaller budget, and so at this one,
    waits for nothing here; and of a row that does not say what its last half gained nothing is
    known.

    Args:
        cases: one row per case.
        subject: the columns that name a model and its data.

    Returns:
        those columns, ``budget_kind``, ``where``, ``budget``, and the ``gain`` of each point.
    """
    curve = [*subject, "budget_kind", "where"]
    rows = _searched(cases, subject)
    if rows["late_gain"].isna().all():
        return DataFrame(columns=[*curve, "budget", "gain"])
    rows = _lowest(rows.assign(where=threats(rows)), curve)
    open_yet = rows[SELECTING].gt(0) & ~_lower_before(rows, curve)
    point = number_of(rows, [*curve, "budget"])
    gain = rows["late_gain"].where(open_yet, 0).fillna(0).groupby(point).mean().to_numpy()
    points: DataFrame = rows.iloc[first_of(point)][[*curve, "budget"]].assign(gain=gain)
    points = points.loc[points["gain"] > FALLING]
    return points.sort_values([*curve, "budget"], ignore_index=True)


def _searched(cases: DataFrame, subject: Sequence[str]) -> DataFrame:
    """The rows that bound a score within a norm.

    None that lead to a target, whose gain is not of the score, nor images that were rounded to
    their file's levels, which may lie outside the ball.
    """
    own = cases["budget_kind"].isin(KINDS) & (cases["attack"] != CLEAN)
    own &= cases["target_jaccard"].isna() & cases[SELECTING].notna()
    names = [*subject, "budget_kind", "budget", "attack_params", "case_id", SELECTING, "late_gain"]
    rows = cases.loc[own, names]
    return rows[by_key(rows, ["attack_params"], rounding) == ""]


def _lowest(rows: DataFrame, curve: Sequence[str]) -> DataFrame:
    """Of each case at each budget the row with the lowest score; of equals the one at rest."""
    rows = rows.sort_values([SELECTING, "late_gain"], kind="stable", ignore_index=True)
    number = number_of(rows, [*curve, "budget", "case_id"])
    return rows.iloc[first_of(number)].reset_index(drop=True)


def _lower_before(rows: DataFrame, curve: Sequence[str]) -> Series[bool]:
    """Whether a case has a lower score at a smaller budget."""
    case = Series(number_of(rows, [*curve, "case_id"]), index=rows.index)
    ordered = rows[SELECTING].loc[rows["budget"].sort_values(kind="stable").index]
    smallest = ordered.groupby(case).cummin().reindex(rows.index)
    return smallest < rows[SELECTING]


def describe_falling(
    cases: DataFrame, subject: Sequence[str], only: Collection[str] | None = None
) -> Iterator[str]:
    """A sentence for each network: at which budgets, and by how much.

    Args:
        cases: one row per case.
        subject: the columns that name a model and its data.
        only: the networks of which there are sentences; None for all.
    """
    points = falling_points(cases, subject)
    names = eps_names(budgets_of(points)) if len(points) else {}
    keys = ["model", "dataset", "split", "where", "budget_kind"]
    for (model, dataset, split, where, kind), part in points.groupby(keys, observed=True):
        if only is not None and model not in only:
            continue
        within = f" (where={where})" if where else ""
        found = [
            f"{names[str(kind), budget]} by {gain:.3f}"
            for budget, gain in zip(part["budget"].tolist(), part["gain"].tolist(), strict=True)
        ]
        known = cases["budget"].isin(part["budget"]) & (cases["budget_kind"] == kind)
        for column, value in (("model", model), ("dataset", dataset), ("split", split)):
            known &= cases[column] == value
        yield (
            f"{model} on {dataset} {split}{within}: its lowest mean {SELECTING} was still falling "
            f"in the last half of the steps that found it, at {few(found)}, so the worst case may "
            f"well lie lower: {_what_spends_more(cases[known], str(where), str(kind))}."
        )


def _what_spends_more(rows: DataFrame, where: str, norm: str) -> str:
    """Of the standard suite what was not run yet on the part ``where``, by all rows of a threat."""
    if norm not in NORMS:
        return "more steps or restarts would tell"
    attacks = rows.loc[threats(rows).eq(where), ["attack", "attack_params"]].drop_duplicates()
    suites = [
        json.loads(params)
        for name, params in attacks.itertuples(index=False, name=None)
        if str(name).partition(":")[0].partition("@")[0] == "standard"
    ]
    costs = {suite.get("cost", "standard") for suite in suites if not suite.get("target")}
    given = {"norm": norm} if norm != "linf" else {}
    given |= {WHERE: where} if where else {}
    thorough = Spec("standard", {"cost": "thorough", **given})
    if "thorough" in costs:
        return f"`{thorough}` spends the most of all attacks here, and was run"
    left = f"`-a {thorough}` does"
    if "standard" not in costs:
        left = f"`-a {Spec('standard', given)}` does, or `{thorough}`"
    return f"`segbench attack --until-settled` spends more there, or {left}"
