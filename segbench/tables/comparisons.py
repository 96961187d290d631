"""Two networks on the same cases: the paired difference of their scores.

Pairing removes what makes a case hard for both, so a difference is far surer than two intervals
side by side. A network that was trained with several seeds enters as the mean over its seeds, per
case, where all of them have a score; the interval is over patients and says nothing of other
trainings.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pandas import DataFrame

from segbench.api import TELLING
from segbench.metrics.numbering import number_of
from segbench.metrics.permutation import LEVEL, fewest_groups, holm, sign_flip
from segbench.metrics.stats import Grouped, groups_needed
from segbench.plugins.naming import eps_names
from segbench.tables.averages import SUBJECT
from segbench.tables.fields import UNSCORED, Field
from segbench.tables.texts import budgets_of, by_key, compact, stack
from segbench.tables.trainings import met_by_all, trainings_on
from segbench.tables.worst_pairs import fields_within_norms, worst_points

TIE = 0.001
"""Of a case's Jaccard: two scores no further apart are a tie."""

_DATA = ["dataset", "dataset_fingerprint", "split"]
_POINT = [*_DATA, "attack", "attack_params", "budget_kind", "budget"]
_COLUMNS = [
    "model", "against", *_POINT, "eps", "difference", "low", "high", "cases", "groups", "seeds",
    "seeds_against", "doubt", "wins", "ties", "losses", "p", "p_holm", "tests", "groups_needed",
    "main",
]  # fmt: skip
_ALL_PAIRS = 20  # networks; of more, each is compared with the best only
_SHOWN = 4  # networks whose pairs a page shows; of more, those of the best
Array = NDArray[np.float64]


def compare_models(cases: DataFrame, settings: Mapping[str, str] | None) -> DataFrame:
    """Mean Jaccard of ``model`` minus that of ``against``, on the cases that both have.

    Under each attack that both met, and under the worst of those on each case.

    Args:
        cases: ``Tables.cases``, of attacks as they are.
        settings: see ``networks_of_seeds``; None compares trainings that differ in their seed, too.

    Returns:
        One row per pair of networks, attack and budget, with its 95 % interval; no rows where no
        two networks share a case. Of a pair, ``model`` is the one with the higher mean of what
        most networks met; of more than 20 networks, only the best is compared with each other
        one. ``seeds`` and ``seeds_against``: over how many trainings each is a mean, 1 for a single
        one. Of the cases ``model`` ``wins`` those that it leads by more than 0.001. ``p`` is that
        of exchanging the two, a group at a time; ``p_holm`` the same corrected for all ``tests`` of
        the data set's ``main`` rows; NaN in the others. ``groups_needed``: how many groups as these
        would have a mean difference of 0.02 at a ``p_holm`` of 0.05, were it the least of all p; at
        least as many as that test needs of any difference.
    """
    trainings = {} if settings is None else trainings_on(cases, settings)

    def network(model: str, *data: str) -> str:
        return trainings.get(data, {}).get(model, model)

    merged = cases.assign(model=by_key(cases, ["model", *_DATA], network))
    merged = merged[met_by_all(cases, trainings)]
    eps = eps_names(budgets_of(merged))
    fields = fields_within_norms(cases)
    parts = []
    for key, data in merged.groupby(_DATA, sort=True, observed=True):
        name_of = trainings.get(tuple(map(str, key)), {})
        scores = _Scores(data, Counter(name_of.values()))
        own = [field for field in fields if field.data == tuple(map(str, key))]
        lines = [_differences(scores), *_worst_differences(scores, own, name_of, cases)]
        lines = [frame for frame in lines if not frame.empty]
        if lines:
            parts.append(_tested(stack([compact(frame) for frame in lines])))
    if not parts:
        return DataFrame(columns=_COLUMNS)
    found = stack(parts)
    points = zip(found["budget_kind"], found["budget"].tolist(), strict=True)
    found["eps"] = [eps[kind, budget] if budget else "0" for kind, budget in points]
    return found.sort_values(_POINT, ignore_index=True)[_COLUMNS]


class _Scores:
    """Jaccard of every network at every point on every case of a data set.

    Attributes:
        models: in the order of their mean of what most of them met, the best first.
        points: a row per point, ``_POINT``.
        scores: (M, P, C), NaN where there is none.
        groups: (C,), a number.
        seeds: over how many trainings the scores of each network are a mean.
    """

    def __init__(self, data: DataFrame, seeds: Mapping[str, int]) -> None:
        model, names = data["model"].astype("str").factorize(sort=True)
        point = number_of(data, _POINT)
        self.points = data[_POINT].drop_duplicates().sort_values(_POINT, ignore_index=True)
        case, every = data["case_id"].factorize(sort=True)
        shape = len(names), len(self.points), len(every)
        flat = (model * shape[1] + point) * shape[2] + case
        values = data["jaccard"].to_numpy(np.float64)
        there = ~np.isnan(values)
        size = int(np.prod(shape))
        with np.errstate(invalid="ignore"):
            total = np.bincount(flat[there], values[there], minlength=size)
            mean = total / np.bincount(flat[there], minlength=size)  # over the seeds of a network
        scores = mean.reshape(shape)
        order = np.argsort(-_means(scores), kind="stable")
        self.models = [str(names[place]) for place in order]
        self.scores: Array = scores[order]
        self.seeds = [seeds.get(name, 1) for name in self.models]
        group = data.assign(case=case).drop_duplicates("case").sort_values("case")["group_id"]
        self.groups = group.factorize(sort=True)[0].astype(np.int64)

    @property
    def most_tests(self) -> int:
        """At least as many as there will be: every point, and the worst of attacks at each."""
        return 2 * len(self.points) * sum(map(self.is_main, self.pairs))

    @property
    def pairs(self) -> Sequence[tuple[int, int]]:
        """All pairs of few networks; of many, the best one against each other one."""
        if len(self.models) > _ALL_PAIRS:
            return [(0, other) for other in range(1, len(self.models))]
        return [*combinations(range(len(self.models)), 2)]

    def is_main(self, pair: tuple[int, int]) -> bool:
        """Whether a page shows the pair: of more than four networks only the best's."""
        return len(self.models) <= _SHOWN or pair[0] == 0


def _means(scores: Array) -> Array:
    """Of each network (M,) the mean where as many as anywhere have a score (M, P, C)."""
    there = ~np.isnan(scores)
    count = there.sum(0)
    most = there & (count == count.max(initial=0))
    total = np.where(most, scores, 0.0).sum((1, 2))
    return np.asarray(total / np.maximum(1, most.sum((1, 2))))


def _differences(data: _Scores) -> DataFrame:
    """A line per pair and point: all that is told of it but the names of eps."""
    _, count, cases = data.scores.shape
    grouped = Grouped(np.repeat(np.arange(count), cases), np.tile(data.groups, count), count)
    parts = []
    for pair in data.pairs:
        differences = data.scores[pair[0]] - data.scores[pair[1]]
        parts.append(_of_pair(data, pair, differences, data.groups, grouped))
    if not parts:
        return DataFrame()
    columns = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    points = data.points.iloc[columns.pop("place")].reset_index(drop=True)
    return points.assign(**columns)


def _worst_differences(
    data: _Scores, fields: Sequence[Field], name_of: Mapping[str, str], cases: DataFrame
) -> Iterator[DataFrame]:
    """The same under the worst of all that both networks of a pair met on a case."""
    model = SUBJECT.index("model")
    codes = cases["group_id"].factorize(sort=True)[0]
    for field in fields:
        trained = defaultdict[str, list[int]](list)
        for place, network in enumerate(field.networks):
            trained[name_of.get(network[model], network[model])].append(place)
        groups = np.unique(codes[field.rows.max((0, 1))], return_inverse=True)[1]
        for pair in data.pairs:
            members = [trained[data.models[place]] for place in pair]
            if [len(own) for own in members] != [data.seeds[place] for place in pair]:
                continue  # a training has met nothing there
            both = field.lowest([*members[0], *members[1]])
            points = worst_points(field, both, [*members[0], *members[1]])
            left = np.where(both.won >= 0, field.scores[both.won], np.nan)[:, points.index]
            left = np.where(left < UNSCORED, left, np.nan)  # (networks, P, C)
            first = len(members[0])
            differences = left[:first].mean(0) - left[first:].mean(0)
            count, size = differences.shape
            grouped = Grouped(np.repeat(np.arange(count), size), np.tile(groups, count), count)
            columns = _of_pair(data, pair, differences, groups, grouped)
            lines = points.iloc[columns.pop("place")].reset_index(drop=True)
            facts = dict(zip(_DATA, field.data, strict=True)) | {"budget_kind": field.of}
            yield lines.assign(**facts, **columns)


def _of_pair(
    data: _Scores,
    pair: tuple[int, int],
    differences: Array,
    groups: NDArray[np.int64],
    grouped: Grouped,
) -> dict[str, NDArray[Any]]:
    """The columns of one pair, a line per point (its ``place``) at which the two have cases.

    Args:
        differences: (P, C).
        groups: (C,), of the cases.
        grouped: points and groups of all these.
    """
    found = grouped.intervals(differences.ravel(), "signed")
    main = data.is_main(pair)
    own = np.flatnonzero(found.cases)
    chances = np.full(len(differences), np.nan)
    if main:
        chances = _chances(differences, groups, data.most_tests)
    measured = {name: getattr(found, name)[own] for name in _MEASURED}
    counted = {
        "wins": (differences > TIE).sum(1)[own],
        "ties": (np.abs(differences) <= TIE).sum(1)[own],
        "losses": (differences < -TIE).sum(1)[own],
    }
    return {
        "model": np.full(len(own), data.models[pair[0]], object),
        "against": np.full(len(own), data.models[pair[1]], object),
        "difference": found.mean[own],
        **measured,
        **counted,
        "seeds": np.full(len(own), data.seeds[pair[0]]),
        "seeds_against": np.full(len(own), data.seeds[pair[1]]),
        "p": chances[own],
        "main": np.full(len(own), main),
        "place": own,
    }


_MEASURED = ("low", "high", "cases", "groups", "doubt", "error", "effective")


def _chances(differences: Array, groups: NDArray[np.int64], tests: int) -> Array:
    """Of each point (P,) the p-value of its differences (P, C), one of so many tests at most."""
    sums = np.zeros((int(groups.max()) + 1, len(differences)))
    np.add.at(sums, groups, np.nan_to_num(differences).T)
    there = np.zeros(sums.shape, bool)
    np.logical_or.at(there, groups, ~np.isnan(differences).T)
    chances = np.full(len(differences), np.nan)
    for kept in np.unique(there.T, axis=0):  # points over the same groups
        same = (kept == there.T).all(1)
        if kept.sum() > 1:
            chances[same] = sign_flip(sums[kept][:, same], tests)
    return chances


def _tested(lines: DataFrame) -> DataFrame:
    """The lines of a data set with their p-values corrected for all, and what that asks for."""
    tests = int(lines["p"].notna().sum())
    family = max(1, tests)
    needed = groups_needed(
        lines["error"], lines["groups"], lines["effective"], TELLING, LEVEL / family
    )
    return lines.assign(
        p_holm=holm(lines["p"]),
        tests=tests,
        groups_needed=np.maximum(needed, fewest_groups(family)),
    )
