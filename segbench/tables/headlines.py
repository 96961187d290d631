"""One number a network for attacks, and one for corruptions; and who comes first, how surely.

Attacks: the mean height (AUC) of the worst curve over attacks, of Jaccard (where there is but one
attack, of its own). Corruptions: a case's lowest Jaccard over every corruption and severity, mean
over cases. Both are lower than any of what they sum up, as the worst of several must be.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pandas import DataFrame
from scipy.integrate import trapezoid
from scipy.stats import kendalltau

from segbench.metrics.stats import mean_interval
from segbench.plugins.naming import CLEAN
from segbench.tables.worst import KINDS

RESAMPLES = 1000
SEED = 0  # fixed: the same rows give the same report
_DATA = ["dataset", "dataset_fingerprint", "split"]
_OTHERS = ("dice", "nsd", "sensitivity")  # metrics whose ranking is compared with Jaccard's
Array = NDArray[np.float64]


def headlines(cases: DataFrame, subject: Sequence[str]) -> DataFrame:
    """One row per network, data set and kind of number.

    Args:
        cases: one row per case, those of the worst curves among them.
        subject: the columns that name a model and its data.

    Returns:
        ``subject``, ``of`` (``clean``, a norm, or ``severity``), ``attack`` and ``attack_params``
        (of the curve that counts), ``value`` with ``low`` and ``high``, ``cases``, ``groups`` and
        ``doubt``.
    """
    lines: list[dict[str, Any]] = []
    for key, part in cases.groupby([*subject], sort=True, observed=True):
        facts: dict[str, Any] = dict(zip(subject, key, strict=True))
        clean = part[part["attack"] == CLEAN]
        if len(clean):
            lines.append(facts | _line("clean", CLEAN, "{}", clean, clean["jaccard"].to_numpy()))
        for kind in (*KINDS, "severity"):
            own = part[part["budget_kind"] == kind]
            if kind == "severity" and len(own):
                lowest = own.groupby("case_id", observed=True)["jaccard"].min()
                groups = own.drop_duplicates("case_id").set_index("case_id")
                named = f"worst of {own['attack'].nunique()} corruptions"
                line = groups.loc[lowest.index]
                lines.append(facts | _line(kind, named, "{}", line, lowest.to_numpy()))
            elif len(own):
                attack, params = _counts(own)
                curve = own[(own["attack"] == attack) & (own["attack_params"] == params)]
                heights = _heights(curve, clean)
                lines.append(facts | _line(kind, attack, params, heights, heights["height"]))
    columns = [*subject, "of", "attack", "attack_params", "value", "low", "high"]
    return DataFrame(lines, columns=[*columns, "cases", "groups", "doubt"])


def rank_networks(cases: DataFrame, lines: DataFrame, subject: Sequence[str]) -> DataFrame:
    """How surely each network comes at each place, by ``headlines``.

    Groups are resampled; networks are compared on the cases that all of them have, and only where
    their number is of the same attacks.

    Returns:
        One row per data set, kind of number and network: its ``rank``, the ``chance`` of that rank
        and of being ``first``, ``likely`` (the chances of all ranks), ``by_case`` (its rank when
        cases are ranked first and then averaged), and for the whole table Kendall's ``tau`` between
        the two, and ``tau_dice``, ``tau_nsd``, ``tau_sensitivity`` between Jaccard and those.
    """
    found: list[dict[str, Any]] = []
    keys = [*_DATA, "of", "attack", "attack_params"]
    for key, part in lines.groupby(keys, sort=True, observed=True):
        if len(part) < 2:
            continue
        scores, groups = _matrix(cases, part, subject, "jaccard")
        if len(groups) < 2:
            continue
        means, chances = scores.mean(1), _chances(scores, groups)
        ranks, each = _ranks(means), _ranks(scores.T).T
        by_case = _ranks(-each.mean(1))
        others = {
            f"tau_{metric}": _tau(means, _matrix(cases, part, subject, metric)[0])
            for metric in _OTHERS
        }
        facts = dict(zip(keys, key, strict=True))
        for place, model in enumerate(part["model"]):
            found.append(
                facts
                | {
                    "model": model,
                    "rank": int(ranks[place]),
                    "chance": float(chances[place][int(ranks[place]) - 1]),
                    "first": float(chances[place][0]),
                    "likely": [round(float(chance), 4) for chance in chances[place]],
                    "by_case": int(by_case[place]),
                    "tau": _tau(means, -each),
                    **others,
                    "cases": scores.shape[1],
                    "groups": len(set(groups.tolist())),
                }
            )
    return DataFrame(found)


def _line(of: str, attack: str, params: str, cases: DataFrame, values: Any) -> dict[str, Any]:
    found = mean_interval(np.asarray(values, np.float64), cases["group_id"].to_numpy())
    return {
        "of": of,
        "attack": attack,
        "attack_params": params,
        "value": found.mean,
        "low": found.low,
        "high": found.high,
        "cases": found.cases,
        "groups": found.groups,
        "doubt": found.doubt,
    }


def _counts(own: DataFrame) -> tuple[str, str]:
    """The curve that counts: the worst of most attacks, else the lowest."""
    curves = own.groupby(["attack", "attack_params"], observed=True)["jaccard"].mean()
    worst = [pair for pair in curves.index if str(pair[0]).startswith("worst of")]
    least = curves.loc[worst] if worst else curves
    found: Any = least.idxmin()
    return str(found[0]), str(found[1])


def _heights(curve: DataFrame, clean: DataFrame, metric: str = "jaccard") -> DataFrame:
    """Each case's mean height over the curve, of those that have every point; trapezes."""
    start = clean.assign(budget=0.0)[["case_id", "budget", "group_id", metric]]
    points = curve[["case_id", "budget", "group_id", metric]]
    both = {
        float(str(budget)): part.set_index("case_id")[metric].astype(float)
        for frame in (start, points)
        for budget, part in frame.groupby("budget", sort=True)
    }
    budgets = sorted(both)
    table = DataFrame({budget: both[budget].rename(index=str) for budget in budgets}).dropna()
    if len(budgets) > 1 and budgets[0] == 0:
        heights = trapezoid(table.to_numpy(), budgets, axis=1) / budgets[-1]
    else:
        heights = table.to_numpy().mean(1) if len(table) else np.zeros(0)
    groups = curve.drop_duplicates("case_id").set_index("case_id")["group_id"].rename(index=str)
    return DataFrame(
        {"height": heights, "group_id": groups.loc[table.index].astype(str)}, table.index
    )


def _matrix(
    cases: DataFrame, part: DataFrame, subject: Sequence[str], metric: str
) -> tuple[Array, NDArray[np.int64]]:
    """Scores (M, N) of the networks on the cases that all have, and the groups (N,) of these."""
    rows = []
    for line in part.to_dict("records"):
        own = cases
        for name in subject:
            own = own[own[name] == line[name]]
        clean = own[own["attack"] == CLEAN]
        if line["of"] == "clean":
            rows.append(clean.set_index("case_id")[[metric, "group_id"]].rename(index=str))
        elif line["of"] == "severity":
            kind = own[own["budget_kind"] == "severity"]
            low = kind.groupby("case_id", observed=True)[metric].min().to_frame()
            groups = kind.drop_duplicates("case_id").set_index("case_id")["group_id"]
            rows.append(low.assign(group_id=groups).rename(index=str))
        else:
            same = (own["attack"] == line["attack"]) & (
                own["attack_params"] == line["attack_params"]
            )
            curve = own[same & (own["budget_kind"] == line["of"])]
            rows.append(_heights(curve, clean, metric).rename(columns={"height": metric}))
    common = sorted(set.intersection(*(set(row[metric].dropna().index) for row in rows)))
    scores = np.array([row.loc[common, metric].to_numpy(np.float64) for row in rows])
    scores = scores.reshape(len(rows), len(common))
    groups = rows[0].loc[common, "group_id"].astype(str)
    return scores, np.asarray(groups.factorize(sort=True)[0], np.int64)


def _chances(scores: Array, groups: NDArray[np.int64]) -> Array:
    """Of each network (M,) the share of resamples in which it has each rank; (M, M)."""
    count = int(groups.max()) + 1
    sums = np.zeros((count, len(scores)))
    np.add.at(sums, groups, scores.T)
    drawn = np.random.default_rng(SEED).multinomial(count, [1 / count] * count, RESAMPLES)
    ranks = _ranks(drawn @ sums)  # the cases' number is the same for all
    places = np.arange(1, len(scores) + 1)
    return np.asarray((ranks[:, :, None] == places).mean(0))


def _ranks(scores: Array) -> Array:
    """1 for the highest along the last axis; of equals the earlier is the better."""
    order = np.argsort(-scores, axis=-1, kind="stable")
    ranks = np.empty(scores.shape)
    np.put_along_axis(ranks, order, np.arange(1, scores.shape[-1] + 1.0), axis=-1)
    return ranks


def _tau(means: Array, scores: Array) -> float:
    """Kendall's tau between means (M,) and those of other scores (M, N); NaN without any."""
    return float(kendalltau(means, scores.mean(1)).statistic) if scores.size else float("nan")
