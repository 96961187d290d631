"""Several trainings of one network: what is the network's, and what is the luck of its seed?

Checkpoints ``NAME@DATA#SEED`` whose cards differ in their seed alone are one network trained
several times. Over them a score has a mean and a spread, which is another thing than the interval
over patients of a single one.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping

from pandas import DataFrame

_CHECKPOINT = re.compile(r"(?P<network>.+@.+)#(?P<seed>\d+)")
_POINT = [
    "dataset", "dataset_fingerprint", "split", "attack", "attack_params", "budget_kind", "budget",
    "eps", "metric",
]  # fmt: skip


def networks_of_seeds(
    models: Iterable[str], settings: Mapping[str, str]
) -> dict[str, tuple[str, int]]:
    """Model -> (network, seed), of those networks that were trained with several seeds.

    ``settings`` are the SHA-256 of all settings but the seed, of each model that has a card. Where
    several groups of trainings bear one name, the settings tell them apart.
    """
    groups: dict[tuple[str, str], dict[str, int]] = {}
    for model in models:
        if match := _CHECKPOINT.fullmatch(model):
            key = match["network"], settings.get(model, "")
            groups.setdefault(key, {})[model] = int(match["seed"])
    several = {key: seeds for key, seeds in groups.items() if len(set(seeds.values())) > 1}
    names = Counter(network for network, _ in several)
    return {
        model: (network if names[network] == 1 else f"{network} ({sha[:8]})", seed)
        for (network, sha), seeds in several.items()
        for model, seed in seeds.items()
    }


def describe_apart(models: Iterable[str], settings: Mapping[str, str]) -> Iterator[str]:
    """Why trainings that bear one name but for their seed are not one network."""
    groups: dict[str, dict[str, list[str]]] = {}
    for model in sorted(models):
        if match := _CHECKPOINT.fullmatch(model):
            groups.setdefault(match["network"], {}).setdefault(settings.get(model, ""), []).append(
                model
            )
    for network, trainings in groups.items():
        if len(trainings) > 1:
            yield (
                f"The trainings of {network} are not all of one kind, so they are not averaged "
                f"over their seeds: {' / '.join(', '.join(group) for group in trainings.values())} "
                "differ in the settings or data of their cards."
            )


def spread_over_seeds(curves: DataFrame, settings: Mapping[str, str]) -> DataFrame:
    """One row per network of several seeds and point of its curves; no rows if there is none.

    Args:
        curves: ``Tables.curves``.
        settings: see ``networks_of_seeds``.

    Returns:
        Its columns down to ``metric``, then ``mean``, ``std`` (of a sample, N - 1), ``min`` and
        ``max`` over the seeds' means, how many ``seeds``, and the smallest number of ``cases``
        that one of them rests on.
    """
    parsed = networks_of_seeds(curves["model"].unique(), settings)
    part = curves[curves["model"].isin(parsed)]
    part = part.assign(model=[parsed[model][0] for model in part["model"]])
    points = part.groupby(["model", *_POINT], sort=True)
    spread = points["mean"].agg(["mean", "std", "min", "max"])
    spread["seeds"] = points.size()
    spread["cases"] = points["cases"].min()
    return spread[spread["seeds"] > 1].reset_index()
