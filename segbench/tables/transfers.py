"""Transfer attacks: the matrix of who is fooled by whose images."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from segbench.api import TransferMatrix
from segbench.plugins.naming import attack_names

if TYPE_CHECKING:
    from pandas import DataFrame


def transfer_matrices(curves: DataFrame) -> Iterator[TransferMatrix]:
    """One matrix per data set, split, inner attack and eps, from the curves of ``api.Tables``."""
    scored = curves[(curves["metric"] == "jaccard") & (curves["budget"] > 0)]
    transferred = scored["attack"].map(lambda attack: attack.partition(":")[0] == "transfer")
    rows = scored[transferred.astype(bool)]
    if rows.empty:
        return
    parameters: list[dict[str, Any]] = [json.loads(text) for text in rows["attack_params"]]
    short = attack_names(one["attack"] for one in parameters)
    inner = [
        short[one["attack"]] + (" (quantized)" if one.get("quantized") else "")
        for one in parameters
    ]
    named = rows.assign(source=[one["source"] for one in parameters], inner=inner)
    keys = ["dataset", "split", "inner", "budget", "eps"]
    for (dataset, split, attack, _, eps), part in named.groupby(keys, sort=True):
        scores = part.pivot_table(index="source", columns="model", values="mean")
        yield TransferMatrix(str(dataset), str(split), str(attack), str(eps), scores)
