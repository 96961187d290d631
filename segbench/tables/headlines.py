"""One number a network for attacks, and one for corruptions; and who comes first, how surely.

Attacks: the mean height (AUC) of the lowest curve that was found, of Jaccard. Corruptions: a case's
lowest Jaccard over every corruption and severity, mean over cases. Both are lower than any of what
they sum up, as the worst of several must be.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial, reduce
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pandas import DataFrame

from segbench.metrics.area import mean_height
from segbench.metrics.ranks import kendall_tau
from segbench.metrics.stats import mean_interval
from segbench.plugins.naming import CLEAN
from segbench.plugins.where import where_of
from segbench.tables.texts import by_key, words
from segbench.tables.worst import KINDS

RESAMPLES = 1000
SEED = 0  # fixed: the same rows give the same report
_DATA = ["dataset", "dataset_fingerprint", "split"]
_MEASURED = ["low", "high", "cases", "groups", "doubt"]
_OTHERS = ("dice", "nsd", "sensitivity")  # metrics whose ranking is compared with Jaccard's
RANKING = ("jaccard", *_OTHERS)
"""The metrics that networks are ranked by."""

Array = NDArray[np.float64]


FOUND = "worst found"
"""The attack of a curve whose points are not all of the same attacks."""


@dataclass(frozen=True, eq=False)
class Number:
    """What one number of a network is the mean of.

    Attributes:
        of: the kind of number.
        key: the network, by the columns of the subject.
        attack: of the curve that counts.
        attacks: all that it is made of.
        largest: budget.
        scores: metric -> ``score`` and ``group_id``, numbers, by the number of the case.
    """

    of: str
    key: tuple[Any, ...]
    attack: str
    attacks: Collection[str]
    largest: float
    scores: Mapping[str, DataFrame]


def headlines(
    numbers: Sequence[Number], subject: Sequence[str], doubts: Mapping[tuple[str, ...], str]
) -> DataFrame:
    """One row per network, data set and kind of number.

    Args:
        numbers: from ``score_numbers``.
        subject: the columns that name a model and its data.
        doubts: from ``doubts_of``.

    Returns:
        ``subject``, ``of`` (``clean``, a norm, or ``severity``), ``attack`` (of the curve that
        counts), ``largest`` (budget), ``value`` with ``low`` and ``high``, ``cases``, ``groups``,
        ``doubt`` of the interval, and the ``marks`` that speak against the number.
    """
    lines = []
    for number in numbers:
        scores = number.scores["jaccard"]
        found = mean_interval(scores["score"].to_numpy(np.float64), scores["group_id"].to_numpy())
        measured = {name: getattr(found, name) for name in _MEASURED}
        facts = dict(zip(subject, number.key, strict=True)) | {"of": number.of}
        facts |= {"attack": number.attack, "largest": number.largest}
        own = (doubts.get((*map(str, number.key), number.of, a), "") for a in number.attacks)
        lines.append(facts | {"value": found.mean} | measured | {"marks": words(own)})
    columns = [*subject, "of", "attack", "largest", "value", *_MEASURED, "marks"]
    return DataFrame(lines, columns=columns)


def score_numbers(
    cases: DataFrame, subject: Sequence[str], metrics: Sequence[str] = RANKING
) -> Iterator[Number]:
    """What every number of every network is the mean of.

    Networks are compared at the budgets of a norm that all of them have on a data set; at each the
    curve that left least there counts. Attacks on a part of the image do not count: another network
    may have been spared them.
    """
    columns = [*subject, "attack", "budget_kind", "budget", "case_id", "group_id", *metrics]
    whole = by_key(cases, ["attack_params"], where_of) == ""
    cases = cases[columns] if whole.all() else cases.loc[whole, columns]
    cases = cases.assign(**{n: cases[n].factorize(sort=True)[0] for n in ("case_id", "group_id")})
    for _, data in cases.groupby(_DATA, sort=True, observed=True):
        networks = [*data.groupby([*subject], sort=True, observed=True)]
        for key, part in networks:
            clean = part[part["attack"] == CLEAN]
            if len(clean):
                scores = {metric: _by_case(clean, metric) for metric in metrics}
                yield Number("clean", key, CLEAN, {CLEAN}, 0.0, scores)
        for kind in KINDS:
            own = [(key, part[part["budget_kind"] == kind], part) for key, part in networks]
            own = [one for one in own if len(one[1])]
            common = (
                set.intersection(*(set(part["budget"]) for _, part, _ in own)) if own else set()
            )
            for key, part, whole in own:
                budgets = sorted(common or set(part["budget"]))
                clean = whole[whole["attack"] == CLEAN]
                points, attacks = _points(part, clean, budgets)
                axis = [0.0, *budgets] if len(clean) else budgets
                scores = {metric: _heights(points, axis, metric) for metric in metrics}
                named = attacks[0] if len(attacks) == 1 else FOUND
                yield Number(kind, key, named, attacks, axis[-1], scores)
        for key, part in networks:
            severe = part[part["budget_kind"] == "severity"]
            if len(severe):
                attacks = sorted(severe["attack"].astype("str").unique())
                named = f"worst of {len(attacks)} corruptions"
                scores = {metric: _lowest(severe, metric) for metric in metrics}
                largest = float(severe["budget"].max())
                yield Number("severity", key, named, attacks, largest, scores)


def _by_case(part: DataFrame, metric: str) -> DataFrame:
    values = {"score": part[metric].to_numpy(), "group_id": part["group_id"].to_numpy()}
    return DataFrame(values, index=part["case_id"].to_numpy())


def _lowest(severe: DataFrame, metric: str) -> DataFrame:
    """Each case's lowest score."""
    ordered = severe.sort_values(metric, kind="stable")
    return _by_case(ordered.drop_duplicates("case_id"), metric)


def _points(
    part: DataFrame, clean: DataFrame, budgets: Sequence[float]
) -> tuple[list[DataFrame], list[str]]:
    """The rows of each point of the curve that counts, the clean one first, and its attacks."""
    points, names = ([clean] if len(clean) else []), set()
    own = part.groupby(["budget", "attack"], sort=True, observed=True)
    means, places = own["jaccard"].mean(), own.indices
    lowest = means.fillna(np.inf).groupby(level="budget", sort=False).idxmin()
    needed = part.drop(columns=["attack", "budget_kind", "budget"]).select_dtypes("number")
    case = part["case_id"].to_numpy()
    for budget in budgets:
        least = lowest[budget]
        names.add(str(least[1]))
        rows = np.asarray(places[least])
        first = np.unique(case[rows], return_index=True)[1]  # a name may stand for two
        points.append(needed.iloc[rows[np.sort(first)]])
    return points, sorted(names)


def _heights(points: Sequence[DataFrame], axis: Sequence[float], metric: str) -> DataFrame:
    """Each case's mean height over the curve, of those with every point; trapezes."""
    cases = [point["case_id"].to_numpy() for point in points]
    common = reduce(partial(np.intersect1d, assume_unique=True), cases)
    places = [np.argsort(own)[np.searchsorted(np.sort(own), common)] for own in cases]
    pairs = [*zip(points, places, strict=True)]
    scores = np.stack([point[metric].to_numpy(np.float64)[own] for point, own in pairs], 1)
    whole = ~np.isnan(scores).any(1)
    scores = scores[whole]  # (cases, points)
    groups = points[-1]["group_id"].to_numpy()[places[-1]][whole]
    height = mean_height(scores, axis) if axis[0] == 0 else scores.mean(1)
    return DataFrame({"score": height, "group_id": groups}, index=common[whole])


def rank_networks(numbers: Sequence[Number], subject: Sequence[str]) -> DataFrame:
    """How surely each network comes at each place, by ``headlines``.

    Groups are resampled; networks are compared on the cases that all of them have.

    Returns:
        One row per data set, kind of number and network: its ``rank``, the ``chance`` of that rank
        and of being ``first``, ``likely`` (the chances of all ranks), ``by_case`` (its rank when
        cases are ranked first and then averaged), and for the whole table Kendall's ``tau`` between
        the two, and ``tau_dice``, ``tau_nsd``, ``tau_sensitivity`` between Jaccard and those.
    """
    measured = _gathered(numbers, subject)
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
    numbers: Sequence[Number], subject: Sequence[str]
) -> dict[str, dict[tuple[str, ...], dict[str, DataFrame]]]:
    """Metric -> data set and kind of number -> network -> its scores by case."""
    found: dict[str, dict[tuple[str, ...], dict[str, DataFrame]]] = {m: {} for m in RANKING}
    data = [subject.index(name) for name in _DATA]
    for number in numbers:
        place = (*(str(number.key[n]) for n in data), number.of)
        model = str(number.key[subject.index("model")])
        for metric, scores in number.scores.items():
            found[metric].setdefault(place, {})[model] = scores
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
    return kendall_tau(means, scores.mean(1)) if scores.size else math.nan
