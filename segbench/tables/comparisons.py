"""Two networks on the same cases: the paired difference of their scores.

Pairing removes what makes a case hard for both, so a difference is far surer than two intervals
side by side. A network that was trained with several seeds enters as the mean over its seeds, per
case; the interval is over patients and says nothing of other trainings.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pandas import DataFrame

from segbench.api import TELLING
from segbench.metrics.numbering import number_of
from segbench.metrics.permutation import holm, sign_flip
from segbench.metrics.stats import Grouped, groups_needed
from segbench.plugins.naming import eps_names
from segbench.tables.seed_spread import networks_of_seeds
from segbench.tables.texts import budgets_of, by_key, stack

TIE = 0.001
"""Of a case's Jaccard: two scores no further apart are a tie."""

_DATA = ["dataset", "dataset_fingerprint", "split"]
_POINT = [*_DATA, "attack", "attack_params", "budget_kind", "budget"]
_COLUMNS = [
    "model", "against", *_POINT, "eps", "difference", "low", "high", "cases", "groups", "doubt",
    "wins", "ties", "losses", "p", "p_holm", "tests", "groups_needed", "main",
]  # fmt: skip
_ALL_PAIRS = 20  # networks; of more, each is compared with the best only
_SHOWN = 4  # networks whose pairs a page shows; of more, those of the best
Array = NDArray[np.float64]


def compare_models(cases: DataFrame, settings: Mapping[str, str]) -> DataFrame:
    """Mean Jaccard of ``model`` minus that of ``against``, on the cases that both have.

    Args:
        cases: ``Tables.cases``.
        settings: see ``networks_of_seeds``.

    Returns:
        One row per pair of networks, attack and budget, with its 95 % interval; no rows where no
        two networks share a case. Of a pair, ``model`` is the one with the higher mean of all its
        scores; of more than 20 networks, only the best is compared with each other one. Of the
        cases ``model`` ``wins`` those that it leads by more than 0.001. ``p`` is that of exchanging
        the two, a group at a time; ``p_holm`` the same corrected for all ``tests`` of the data
        set's ``main`` rows; NaN in the others. ``groups_needed``: how many groups as these would
        tell a mean difference of 0.02 apart from none.
    """
    parsed = networks_of_seeds(cases["model"].unique(), settings)
    name_of = {model: network for model, (network, _) in parsed.items()}
    names = by_key(cases, ["model"], lambda model: str(name_of.get(model, model)))
    merged = cases.assign(model=names)
    eps = eps_names(budgets_of(merged))
    parts = []
    for _, data in merged.groupby(_DATA, sort=True, observed=True):
        lines = _differences(_Scores(data))
        if not lines.empty:
            parts.append(_tested(lines))
    if not parts:
        return DataFrame(columns=_COLUMNS)
    found = stack(parts)
    points = zip(found["budget_kind"], found["budget"].tolist(), strict=True)
    found["eps"] = [eps[kind, budget] if budget else "0" for kind, budget in points]
    return found.sort_values([*_DATA, "place"], kind="stable", ignore_index=True)[_COLUMNS]


class _Scores:
    """Jaccard of every network at every point on every case of a data set.

    Attributes:
        models: in the order of their mean of all scores, the best first.
        points: a row per point, ``_POINT``.
        scores: (M, P, C), NaN where there is none.
        groups: (C,), a number.
    """

    def __init__(self, data: DataFrame) -> None:
        means = data.groupby("model", sort=True, observed=True)["jaccard"].mean()
        ordered = means.sort_values(ascending=False, kind="stable").index
        self.models = [str(name) for name in ordered]
        model = (
            data["model"].map({name: n for n, name in enumerate(self.models)}).to_numpy(np.int64)
        )
        point = number_of(data, _POINT)
        self.points = data[_POINT].drop_duplicates().sort_values(_POINT, ignore_index=True)
        case, names = data["case_id"].factorize(sort=True)
        shape = len(self.models), len(self.points), len(names)
        flat = (model * shape[1] + point) * shape[2] + case
        values = data["jaccard"].to_numpy(np.float64)
        there = ~np.isnan(values)
        size = int(np.prod(shape))
        with np.errstate(invalid="ignore"):
            total = np.bincount(flat[there], values[there], minlength=size)
            mean = total / np.bincount(flat[there], minlength=size)  # over the seeds of a network
        self.scores: Array = mean.reshape(shape)
        group = data.assign(case=case).drop_duplicates("case").sort_values("case")["group_id"]
        self.groups = group.factorize(sort=True)[0].astype(np.int64)

    @property
    def pairs(self) -> Sequence[tuple[int, int]]:
        """All pairs of few networks; of many, the best one against each other one."""
        if len(self.models) > _ALL_PAIRS:
            return [(0, other) for other in range(1, len(self.models))]
        return [*combinations(range(len(self.models)), 2)]

    def is_main(self, pair: tuple[int, int]) -> bool:
        """Whether a page shows the pair: of more than four networks only the best's."""
        return len(self.models) <= _SHOWN or pair[0] == 0


def _differences(data: _Scores) -> DataFrame:
    """A line per pair and point: all that is told of it but the names of eps."""
    _, count, cases = data.scores.shape
    grouped = Grouped(np.repeat(np.arange(count), cases), np.tile(data.groups, count), count)
    parts = [_of_pair(data, pair, grouped) for pair in data.pairs]
    if not parts:
        return DataFrame()
    columns = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    models = np.array(data.models, object)
    points = data.points.iloc[columns["place"]].reset_index(drop=True)
    names = {name: models[columns[name]] for name in ("model", "against")}
    return points.assign(**(columns | names))


def _of_pair(data: _Scores, pair: tuple[int, int], grouped: Grouped) -> dict[str, NDArray[Any]]:
    """The columns of one pair, a line per point (its ``place``) at which the two have cases."""
    differences = data.scores[pair[0]] - data.scores[pair[1]]  # (P, C)
    found = grouped.intervals(differences.ravel(), "signed")
    main = data.is_main(pair)
    own = np.flatnonzero(found.cases)
    chances = _chances(differences, data.groups) if main else np.full(len(differences), np.nan)
    measured = {name: getattr(found, name)[own] for name in _MEASURED}
    counted = {
        "wins": (differences > TIE).sum(1)[own],
        "ties": (np.abs(differences) <= TIE).sum(1)[own],
        "losses": (differences < -TIE).sum(1)[own],
    }
    return {
        "model": np.full(len(own), pair[0]),
        "against": np.full(len(own), pair[1]),
        "difference": found.mean[own],
        **measured,
        **counted,
        "p": chances[own],
        "groups_needed": groups_needed(found, TELLING)[own],
        "main": np.full(len(own), main),
        "place": own,
    }


_MEASURED = ("low", "high", "cases", "groups", "doubt")


def _chances(differences: Array, groups: NDArray[np.int64]) -> Array:
    """Of each point (P,) the p-value of its differences (P, C)."""
    sums = np.zeros((int(groups.max()) + 1, len(differences)))
    np.add.at(sums, groups, np.nan_to_num(differences).T)
    there = np.zeros(sums.shape, bool)
    np.logical_or.at(there, groups, ~np.isnan(differences).T)
    chances = np.full(len(differences), np.nan)
    for kept in np.unique(there.T, axis=0):  # points over the same groups
        same = (kept == there.T).all(1)
        if kept.sum() > 1:
            chances[same] = sign_flip(sums[kept][:, same])
    return chances


def _tested(lines: DataFrame) -> DataFrame:
    """The lines of a data set with their p-values corrected for all of them."""
    return lines.assign(p_holm=holm(lines["p"]), tests=int(lines["p"].notna().sum()))
