"""Two networks on the same cases: the paired difference of their scores.

Pairing removes what makes a case hard for both, so a difference is far surer than two intervals
side by side. A network that was trained with several seeds enters as the mean over its seeds, per
case; the interval is over patients and says nothing of other trainings.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from typing import Any

from pandas import DataFrame

from segbench.metrics.stats import paired_difference
from segbench.plugins.naming import eps_names
from segbench.tables.seed_spread import networks_of_seeds

_DATA = ["dataset", "dataset_fingerprint", "split"]
_POINT = [*_DATA, "attack", "attack_params", "budget_kind", "budget"]
_COLUMNS = [
    "model", "against", *_POINT, "eps", "difference", "low", "high", "cases", "groups", "main",
]  # fmt: skip
_ALL_PAIRS = 20  # networks; of more, each is compared with the best only
_SHOWN = 4  # networks whose pairs a page shows; of more, those of the best


def compare_models(cases: DataFrame, settings: Mapping[str, str]) -> DataFrame:
    """Mean Jaccard of ``model`` minus that of ``against``, on the cases that both have.

    Args:
        cases: ``Tables.cases``.
        settings: see ``networks_of_seeds``.

    Returns:
        One row per pair of networks, attack and budget, with its 95 % interval; no rows where no
        two networks share a case. Of a pair, ``model`` is the one with the higher mean of all its
        scores; of more than 20 networks, only the best is compared with each other one.
    """
    parsed = networks_of_seeds(cases["model"].unique(), settings)
    names = [parsed[model][0] if model in parsed else model for model in cases["model"]]
    groups = cases["group_id"].factorize(sort=True)[0]  # numbers are quicker than names
    merged = cases.assign(model=names, group_id=groups)
    eps = eps_names(zip(merged["budget_kind"], merged["budget"].tolist(), strict=True))
    lines: list[dict[str, Any]] = []
    for _, data in merged.groupby(_DATA, sort=True):
        pairs = _pairs(data)
        for key, point in data.groupby(_POINT, sort=True):
            facts: dict[str, Any] = dict(zip(_POINT, key, strict=True))
            facts["eps"] = eps[facts["budget_kind"], facts["budget"]] if facts["budget"] else "0"
            lines += [{**facts, **line} for line in _differences(point, pairs)]
    return _with_main(DataFrame(lines, columns=[name for name in _COLUMNS if name != "main"]))


def _with_main(comparisons: DataFrame) -> DataFrame:
    """The column ``main``: of more than four networks on a data set, only the best's pairs."""
    main = comparisons["model"].notna()  # of all, where they are few
    for _, data in comparisons.groupby(_DATA, sort=False):
        pairs = data[["model", "against"]].drop_duplicates()
        best = pairs["model"].value_counts().idxmax()  # it is ``model`` in all of its pairs
        if len({*pairs["model"], *pairs["against"]}) > _SHOWN:
            main[data.index] = data["model"] == best
    return comparisons.assign(main=main)


def _pairs(data: DataFrame) -> Sequence[tuple[str, str]]:
    """All pairs of few networks; of many, the one with the highest mean against each other one."""
    means = data.groupby("model", sort=True)["jaccard"].mean()
    networks = [str(name) for name in means.sort_values(ascending=False, kind="stable").index]
    if len(networks) > _ALL_PAIRS:
        return [(networks[0], other) for other in networks[1:]]
    return list(combinations(networks, 2))


def _differences(point: DataFrame, pairs: Sequence[tuple[str, str]]) -> Iterator[dict[str, Any]]:
    """Every pair's difference at one point of the curves."""
    scores = point.pivot_table(index="case_id", columns="model", values="jaccard", aggfunc="mean")
    groups = point.drop_duplicates("case_id").set_index("case_id")["group_id"]
    for model, against in pairs:
        if model in scores and against in scores:
            both = scores[[model, against]].dropna()
            found = paired_difference(both[model], both[against], groups[both.index].to_numpy())
            if found.cases:
                yield {
                    "model": model,
                    "against": against,
                    "difference": found.mean,
                    "low": found.low,
                    "high": found.high,
                    "cases": found.cases,
                    "groups": found.groups,
                }
