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
from segbench.tables.worst import MET

_POINT = [
    "dataset", "dataset_fingerprint", "split", "attack", "attack_params", "budget_kind", "budget",
    "eps", "metric",
]  # fmt: skip


def spread_over_seeds(
    cases: DataFrame, curves: DataFrame, settings: Mapping[str, str]
) -> DataFrame:
    """One row per network of several seeds and point of its curves; no rows if there is none.

    Of what all its trainings on these data have met: the same points, on the same cases.

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
        curves = (
            plain_texts(draw_curves(tidy(_named_alike(own)), SUBJECT)) if len(own) else curves[:0]
        )
    network = networks_of(curves, trainings)
    part = curves[network != ""].assign(model=network[network != ""])
    points = part.groupby(["model", *_POINT], sort=True)
    spread = points["mean"].agg(["mean", "std", "min", "max"])
    spread["seeds"] = points.size()
    spread["cases"] = points["cases"].min()
    several: DataFrame = spread[spread["seeds"] > 1].reset_index()
    return several


def _named_alike(cases: DataFrame) -> DataFrame:
    """The worst of the same attacks is called the same, whatever else some training has met."""
    worst = (cases[MET] > 0).to_numpy()
    keys = ["network", "dataset", "dataset_fingerprint", "split", "attack_params", "budget_kind"]
    texts = cases["attack"].astype("str")
    alike = texts[worst].groupby([cases.loc[worst, key] for key in keys], observed=True)
    texts[worst] = alike.transform("min")  # "worst of 2" comes before "worst of up to 2"
    return cases.assign(attack=texts).reset_index(drop=True)
