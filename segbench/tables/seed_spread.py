"""Several trainings of one network: what is the network's, and what is the luck of its seed?

Over them a score has a mean and a spread, which is another thing than the interval over patients of
a single one.
"""

from __future__ import annotations

from collections.abc import Mapping

from pandas import DataFrame

from segbench.tables.averages import SUBJECT
from segbench.tables.curves import draw_curves
from segbench.tables.texts import plain_texts, tidy
from segbench.tables.trainings import met_by_all, networks_of, trainings_on
from segbench.tables.worst import name_by_points

_POINT = [
    "dataset", "dataset_fingerprint", "split", "attack", "attack_params", "budget_kind", "budget",
    "eps", "metric",
]  # fmt: skip


def spread_over_seeds(
    cases: DataFrame, curves: DataFrame, settings: Mapping[str, str]
) -> DataFrame:
    """One row per network of several seeds and point of its curves; no rows if there is none.

    Of what all its trainings on these data have met: the same points, on the same cases. A worst
    is named by what was met at these, and not by what else one training has.

    Args:
        cases: one row per case, the worst of several attacks as further ones.
        curves: ``Tables.curves``, which are drawn of these.
        settings: see ``networks_of_seeds``.

    Returns:
        Its columns down to ``metric``, then ``mean``, ``std`` (of a sample, N - 1), ``min`` and
        ``max`` over the seeds' means, how many ``seeds``, and how many ``cases`` each is over.
    """
    trainings = trainings_on(cases, settings)
    shared = met_by_all(cases, trainings)
    if not shared.all():
        network = networks_of(cases, trainings)
        own = cases.assign(network=network)[(network != "") & shared]
        named = tidy(name_by_points(own.reset_index(drop=True), SUBJECT))
        curves = plain_texts(draw_curves(named, SUBJECT)) if len(own) else curves[:0]
    network = networks_of(curves, trainings)
    part = curves[network != ""].assign(model=network[network != ""])
    points = part.groupby(["model", *_POINT], sort=True)
    spread = points["mean"].agg(["mean", "std", "min", "max"])
    spread["seeds"] = points.size()
    spread["cases"] = points["cases"].min()
    several: DataFrame = spread[spread["seeds"] > 1].reset_index()
    return several
