"""Checkpoints that are trainings of one network, and what all of these have met.

Checkpoints ``NAME@DATA#SEED`` whose cards differ in their seed alone are one network trained
several times. A mean over them is of what all have met: the same points on the same cases.
Otherwise what one of them met alone would be taken for what the seed does.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pandas import DataFrame

from segbench.metrics.numbering import first_of, number_of
from segbench.plugins.naming import eps_names
from segbench.tables.texts import budgets_of, by_key, distinct, few
from segbench.tables.worst import MET

Data = tuple[str, ...]
_DATA = ["dataset", "dataset_fingerprint", "split"]
_POINT = ["attack", "attack_params", "budget_kind", "budget"]
_CHECKPOINT = re.compile(r"(?P<network>.+@.+)#(?P<seed>\d+)")


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


def trainings_on(cases: DataFrame, settings: Mapping[str, str]) -> dict[Data, dict[str, str]]:
    """By data set, version and split: model -> network, of those that have several seeds there."""
    known = networks_of_seeds(cases["model"].unique(), settings)
    found: dict[Data, dict[str, str]] = {}
    for model, *data in distinct(cases, ["model", *_DATA]):
        if model in known:
            found.setdefault(tuple(map(str, data)), {})[str(model)] = known[model][0]
    return {data: _repeated(own) for data, own in found.items()}


def _repeated(networks: Mapping[str, str]) -> dict[str, str]:
    """Of models with their networks those whose network several bear."""
    seeds = Counter(networks.values())
    return {model: name for model, name in networks.items() if seeds[name] > 1}


def networks_of(rows: DataFrame, trainings: Mapping[Data, Mapping[str, str]]) -> NDArray[Any]:
    """The network of each row (N,), "" where it has one seed on its data."""
    if not any(trainings.values()):
        return np.full(len(rows), "", object)

    def network(model: str, *data: str) -> str:
        return trainings.get(data, {}).get(model, "")

    return by_key(rows, ["model", *_DATA], network).astype("str").to_numpy(object)


def met_by_all(cases: DataFrame, trainings: Mapping[Data, Mapping[str, str]]) -> NDArray[np.bool_]:
    """Whether all trainings of a row's network on its data have that point of that case (N,).

    True of a network with one seed there. Of the worst of several attacks a case has the same
    where it has met the same by then, whatever the worst is called, by all that its curve has met.
    """
    network = networks_of(cases, trainings)
    ours, shared = network != "", np.ones(len(cases), bool)
    if not ours.any():
        return shared
    own = cases[ours].assign(network=network[ours])
    if MET not in own:
        own = own.assign(**{MET: np.uint64(0)})
    own = own.assign(worst=own[MET] > 0)
    for name in ("attack", "attack_params"):
        plain = by_key(own, [name, "worst"], lambda text, worst: "" if worst else text)
        own = own.assign(**{name: plain})
    met = number_of(own, ["network", *_DATA, *_POINT, "case_id", MET])
    whose = number_of(own, ["network", *_DATA])
    sizes = [
        Counter(trainings[tuple(map(str, data))].values())[name]
        for name, *data in own[["network", *_DATA]].iloc[first_of(whose)].itertuples(index=False)
    ]
    shared[ours] = np.bincount(met)[met] == np.array(sizes)[whose]
    return shared


def describe_unshared(cases: DataFrame, settings: Mapping[str, str]) -> Iterator[str]:
    """What only some trainings of a network have met, and no mean over them counts.

    Args:
        cases: one row per case, of attacks as they are.
        settings: see ``networks_of_seeds``.
    """
    names, trainings = eps_names(budgets_of(cases)), trainings_on(cases, settings)
    unshared = ~met_by_all(cases, trainings)
    left = cases[unshared].assign(network=networks_of(cases, trainings)[unshared])
    keys = ["network", "dataset", "split"]
    for (network, dataset, split), own in left.groupby(keys, sort=True, observed=True):
        said = []
        for (attack, kind, budget), part in own.groupby(
            ["attack", "budget_kind", "budget"], sort=True, observed=True
        ):
            at = f" at {names[str(kind), float(str(budget))]}" if budget else ""
            count = part["case_id"].nunique()
            said.append(f"{attack}{at} ({count} {'case' if count == 1 else 'cases'})")
        yield (
            f"{dataset} {split}: not all trainings of {network} have met the same; what only some "
            f"of them have met counts in no mean over them: {few(said)}."
        )
