"""Where rows came from: attacks and their parameters, seeds, weights, versions, runs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from pandas import DataFrame

from segbench.plugins.naming import CLEAN
from segbench.store.runs import RunRecord
from segbench.tables import certified
from segbench.tables.texts import distinct


def parameters_of(rows: DataFrame) -> dict[str, Any]:
    """Attack label -> its complete parameters; certificates are none."""
    pairs = _pairs(rows[~certified.is_certified(rows)], "attack", "attack_params").items()
    return {label: json.loads(params) for label, params in pairs if label != CLEAN}


def seeds_of(rows: DataFrame) -> dict[tuple[str, str], list[int]]:
    """(model, attack) -> its attack seeds, where there are several."""
    seeds: dict[tuple[str, str], set[int]] = {}
    for model, attack, seed in distinct(rows, ["model", "attack", "seed"]):
        seeds.setdefault((model, attack), set()).add(seed)
    return {key: sorted(values) for key, values in sorted(seeds.items()) if len(values) > 1}


def trace(rows: DataFrame, runs: Sequence[RunRecord]) -> dict[str, Any]:
    """Where the rows came from."""
    computed = set(rows["run"].unique().tolist())
    used = [run for run in runs if run.number in computed]
    versions: dict[str, set[str]] = {}
    for run in used:
        for package, version in run.versions.items():
            versions.setdefault(package, set()).add(version)
    commits = {
        f"{code.commit}{' (with changes)' if code.dirty else ''}"
        for run in used
        for code in run.code
    }
    return {
        "weights": _pairs(rows, "model", "weights_sha256"),
        "datasets": _pairs(rows, "dataset", "dataset_fingerprint"),
        "devices": sorted(rows["device"].unique()),
        "precisions": sorted(rows["precision"].unique()),
        "versions": {package: sorted(found) for package, found in sorted(versions.items())},
        "git_commits": sorted(commits),
        "runs": sorted({run.run_id for run in used}),
    }


def _pairs(rows: DataFrame, name: str, value: str) -> dict[str, str]:
    return dict(sorted(distinct(rows, [name, value])))
