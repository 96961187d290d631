"""Several trainings of one network: what is the network's, and what is the luck of its seed?

Checkpoints ``NAME@DATA#SEED`` that differ in their seed alone are one network trained several
times. Over them a score has a mean and a spread, which is another thing than the interval over
patients of a single one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from pandas import DataFrame

_CHECKPOINT = re.compile(r"(?P<network>.+@.+)#(?P<seed>\d+)")
_POINT = [
    "dataset", "dataset_fingerprint", "split", "attack", "attack_params", "budget_kind", "budget",
    "eps", "metric",
]  # fmt: skip


def networks_of_seeds(models: Iterable[str]) -> dict[str, tuple[str, int]]:
    """Model -> (network, seed), of those networks that were trained with several seeds."""
    found = {model: _CHECKPOINT.fullmatch(model) for model in models}
    parsed = {m: (match["network"], int(match["seed"])) for m, match in found.items() if match}
    counts: dict[str, int] = {}
    for network, _ in parsed.values():
        counts[network] = counts.get(network, 0) + 1
    return {model: pair for model, pair in parsed.items() if counts[pair[0]] > 1}


def spread_over_seeds(curves: DataFrame) -> DataFrame:
    """One row per network of several seeds and point of its curves; no rows if there is none.

    Args:
        curves: ``Tables.curves``.

    Returns:
        Its columns down to ``metric``, then ``mean``, ``std`` (of a sample, N - 1), ``min`` and
        ``max`` over the seeds' means, how many ``seeds``, and the smallest number of ``cases``
        that one of them rests on.
    """
    parsed = networks_of_seeds(curves["model"].unique())
    part = curves[curves["model"].isin(parsed)]
    part = part.assign(model=[parsed[model][0] for model in part["model"]])
    points = part.groupby(["model", *_POINT], sort=True)
    spread = points["mean"].agg(["mean", "std", "min", "max"])
    spread["seeds"] = points.size()
    spread["cases"] = points["cases"].min()
    return spread[spread["seeds"] > 1].reset_index()
