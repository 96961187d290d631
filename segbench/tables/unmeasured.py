"""Points of which only some images were measured on request: their means are left out, and named.

Which attack's image is a case's worst, or whether a case fell, is the outcome. Where only one of
the attacks was measured, a mean over what there is would be over the cases that the outcome chose.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from pandas import DataFrame

from segbench.metrics.numbering import number_of
from segbench.plugins.naming import CLEAN, eps_names
from segbench.tables.lesions import LESION_METRICS
from segbench.tables.texts import budgets_of, few
from segbench.tables.worst import ROW

REQUESTED = {"--boundary": ("nsd", "hd95"), "--lesions": LESION_METRICS}
"""The option of ``segbench attack`` that measures them -> metrics."""

ON_REQUEST = frozenset(metric for metrics in REQUESTED.values() for metric in metrics)
_COUNTS = ("lesions_false",)  # there for labels without foreground too
Flags = NDArray[np.bool_]


def lacking(cases: DataFrame, metric: str) -> Flags:
    """The images (N,) of which a metric would have a value, had it been measured."""
    there = cases[metric].notna().to_numpy()
    return ~there if metric in _COUNTS else ~there & cases["jaccard"].notna().to_numpy()


def partly(lacks: Flags, there: Flags, points: NDArray[np.int64]) -> Flags:
    """Of values (N,) those of a point of which some are lacking and others are there."""
    count = int(points.max(initial=-1)) + 1
    mixed = (np.bincount(points, lacks, count) > 0) & (np.bincount(points, there, count) > 0)
    return np.asarray(mixed[points])


def describe_unmeasured(
    cases: DataFrame, worst: DataFrame, shown: DataFrame, point: Sequence[str]
) -> Iterator[str]:
    """A sentence for each data set and option: what is left out, and what would measure the rest.

    Args:
        cases: one row per case, of attacks as they are.
        worst: from ``worst_cases``, whose images are among them.
        shown: those of the cases that are shown.
        point: the columns that name a point.
    """
    names = eps_names(budgets_of(cases))
    for option, metrics in REQUESTED.items():
        metric = metrics[-1]
        if cases[metric].isna().all():
            continue
        found: dict[tuple[str, str], tuple[dict[str, None], dict[str, None]]] = {}
        for frame in (shown, worst):
            if frame.empty:
                continue
            attack = cases["attack"].iloc[frame[ROW]].array if ROW in frame else frame["attack"]
            lacks = lacking(frame, metric)
            mixed = partly(lacks, frame[metric].notna().to_numpy(), number_of(frame, point))
            keys = ["dataset", "split", "model", "attack", "budget_kind", "budget"]
            own = frame[keys].assign(by=attack)[mixed & lacks].astype({"by": "str"})
            for *line, by in own.drop_duplicates().itertuples(index=False, name=None):
                dataset, split, model, of, kind, budget = line
                points, lacked = found.setdefault((dataset, split), ({}, {}))
                at = "" if of == CLEAN else f" at {names[kind, budget]}"
                points[_under(model, of) + at] = None
                lacked[_under(model, by)] = None
        for (dataset, split), (points, lacked) in found.items():
            yield (
                f"{dataset} {split}: {_and(metrics)} are left out where only some of a point's "
                "images were measured, which its outcome would have chosen: "
                f"{few([*points])}. Run the same `segbench attack` with `{option}` to measure the "
                f"others ({few([*lacked])})."
            )


def _under(model: str, attack: str) -> str:
    return f"{model} on clean images" if attack == CLEAN else f"{model} under {attack}"


def _and(names: Sequence[str]) -> str:
    return f"{', '.join(names[:-1])} and {names[-1]}"
