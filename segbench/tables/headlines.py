"""One number a network for attacks, and one for corruptions; and who comes first, how surely.

Attacks: the mean height (AUC) of the lowest curve that was found, of Jaccard. Corruptions: a case's
lowest Jaccard over every corruption and severity, mean over cases. Both are lower than any of what
they sum up, as the worst of several must be.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pandas import DataFrame, concat
from scipy.integrate import trapezoid
from scipy.stats import kendalltau

from segbench.metrics.stats import mean_interval
from segbench.plugins.naming import CLEAN
from segbench.plugins.where import where_of
from segbench.tables.texts import by_key
from segbench.tables.worst import KINDS

RESAMPLES = 1000
SEED = 0  # fixed: the same rows give the same report
_DATA = ["dataset", "dataset_fingerprint", "split"]
_MEASURED = ["low", "high", "cases", "groups", "doubt"]
_OTHERS = ("dice", "nsd", "sensitivity")  # metrics whose ranking is compared with Jaccard's
Array = NDArray[np.float64]


FOUND = "worst found"
"""The attack of a curve whose points are not all of the same attacks."""


def headlines(cases: DataFrame, subject: Sequence[str]) -> DataFrame:
    """One row per network, data set and kind of number.

    Networks are compared at the budgets of a norm that all of them have on a data set; at each the
    curve that left least there counts.

    Args:
        cases: one row per case, those of the worst curves among them.
        subject: the columns that name a model and its data.

    Returns:
        ``subject``, ``of`` (``clean``, a norm, or ``severity``), ``attack`` (of the curve that
        counts), ``largest`` (budget), ``value`` with ``low`` and ``high``, ``cases``, ``groups``
        and ``doubt``.
    """
    lines = []
    for of, key, scores in _scores(cases, subject, "jaccard"):
        found = mean_interval(scores["score"].to_numpy(np.float64), scores["group_id"].to_numpy())
        measured = {name: getattr(found, name) for name in _MEASURED}
        facts = dict(zip(subject, key, strict=True)) | {"of": of, "attack": scores.attrs["attack"]}
        lines.append(facts | {"largest": scores.attrs["largest"], "value": found.mean} | measured)
    return DataFrame(lines, columns=[*subject, "of", "attack", "largest", "value", *_MEASURED])


def _scores(
    cases: DataFrame, subject: Sequence[str], metric: str
) -> Iterator[tuple[str, tuple[Any, ...], DataFrame]]:
    """(kind of number, subject, ``score`` and ``group_id`` by case id) of every network.

    Attacks on a part of the image do not count: another network may have been spared them.
    """
    cases = cases[by_key(cases, ["attack_params"], where_of) == ""]
    for _, data in cases.groupby(_DATA, sort=True, observed=True):
        networks = [*data.groupby([*subject], sort=True, observed=True)]
        for key, part in networks:
            clean = part[part["attack"] == CLEAN]
            if len(clean):
                yield "clean", key, _named(_by_case(clean, metric), CLEAN, 0.0)
        for kind in KINDS:
            own = [(key, part[part["budget_kind"] == kind], part) for key, part in networks]
            own = [one for one in own if len(one[1])]
            common = (
                set.intersection(*(set(part["budget"]) for _, part, _ in own)) if own else set()
            )
            for key, part, whole in own:
                budgets = sorted(common or set(part["budget"]))
                clean = whole[whole["attack"] == CLEAN]
                yield kind, key, _heights(part, clean, budgets, metric)
        for key, part in networks:
            severe = part[part["budget_kind"] == "severity"]
            if len(severe):
                severe = severe.sort_values(metric, kind="stable")
                named = f"worst of {severe['attack'].nunique()} corruptions"
                lowest = _by_case(severe.drop_duplicates("case_id"), metric)
                yield "severity", key, _named(lowest, named, float(severe["budget"].max()))


def _by_case(part: DataFrame, metric: str) -> DataFrame:
    return DataFrame(
        {"score": part[metric].to_numpy(), "group_id": part["group_id"].astype("str").to_numpy()},
        index=part["case_id"].astype("str").to_numpy(),
    )


def _named(scores: DataFrame, attack: str, largest: float) -> DataFrame:
    scores.attrs |= {"attack": attack, "largest": largest}
    return scores


def _heights(part: DataFrame, clean: DataFrame, budgets: Sequence[float], metric: str) -> DataFrame:
    """Each case's mean height over the curve that counts, of those with every point; trapezes."""
    points, names = ([_by_case(clean, metric)] if len(clean) else []), set()
    for budget in budgets:
        there = part[part["budget"] == budget]
        means = there.groupby("attack", sort=True, observed=True)["jaccard"].mean()
        least = means.idxmin() if means.notna().any() else means.index[0]
        names.add(str(least))
        points.append(_by_case(there[there["attack"] == least].drop_duplicates("case_id"), metric))
    scores = concat([point["score"] for point in points], axis=1, join="inner").dropna()
    axis = [0.0, *budgets] if len(clean) else [*budgets]
    height = scores.to_numpy().mean(1)
    if len(clean):
        height = trapezoid(scores.to_numpy(), axis, axis=1) / axis[-1]
    groups = points[-1]["group_id"].reindex(scores.index)
    found = DataFrame({"score": height, "group_id": groups}, index=scores.index)
    return _named(found, names.pop() if len(names) == 1 else FOUND, axis[-1])


def rank_networks(cases: DataFrame, subject: Sequence[str]) -> DataFrame:
    """How surely each network comes at each place, by ``headlines``.

    Groups are resampled; networks are compared on the cases that all of them have.

    Returns:
        One row per data set, kind of number and network: its ``rank``, the ``chance`` of that rank
        and of being ``first``, ``likely`` (the chances of all ranks), ``by_case`` (its rank when
        cases are ranked first and then averaged), and for the whole table Kendall's ``tau`` between
        the two, and ``tau_dice``, ``tau_nsd``, ``tau_sensitivity`` between Jaccard and those.
    """
    measured = {metric: _gathered(cases, subject, metric) for metric in ("jaccard", *_OTHERS)}
    found: list[dict[str, Any]] = []
    for key, networks in measured["jaccard"].items():
        scores, groups = _matrix(networks)
        if len(networks) < 2 or len(set(groups.tolist())) < 2:
            continue
        means, chances = scores.mean(1), _chances(scores, groups)
        ranks, each = _ranks(means), _ranks(scores.T).T
        by_case = _ranks(-each.mean(1))
        table = {
            "tau": _tau(means, -each),
            **{f"tau_{m}": _tau(means, _matrix(measured[m][key])[0]) for m in _OTHERS},
            "cases": scores.shape[1],
            "groups": len(set(groups.tolist())),
        }
        for place, model in enumerate(networks):
            found.append(
                dict(zip([*_DATA, "of"], key, strict=True))
                | {
                    "model": model,
                    "rank": int(ranks[place]),
                    "chance": float(chances[place][int(ranks[place]) - 1]),
                    "first": float(chances[place][0]),
                    "likely": [round(float(chance), 4) for chance in chances[place]],
                    "by_case": int(by_case[place]),
                }
                | table
            )
    return DataFrame(found)


def _gathered(
    cases: DataFrame, subject: Sequence[str], metric: str
) -> dict[tuple[str, ...], dict[str, DataFrame]]:
    """Data set and kind of number -> network -> its scores by case."""
    found: dict[tuple[str, ...], dict[str, DataFrame]] = {}
    data = [subject.index(name) for name in _DATA]
    for of, key, scores in _scores(cases, subject, metric):
        place = (*(str(key[n]) for n in data), of)
        found.setdefault(place, {})[str(key[subject.index("model")])] = scores
    return found


def _matrix(networks: Mapping[str, DataFrame]) -> tuple[Array, NDArray[np.int64]]:
    """Scores (M, N) of the networks on the cases that all have, and the groups (N,) of these."""
    parts = [*networks.values()]
    common = sorted(set.intersection(*(set(part["score"].dropna().index) for part in parts)))
    scores = np.array([part.loc[common, "score"].to_numpy(np.float64) for part in parts])
    groups = parts[0].loc[common, "group_id"]
    return scores.reshape(len(parts), len(common)), np.asarray(groups.factorize(sort=True)[0])


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
