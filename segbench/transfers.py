"""Transfer attacks: where their images come from, and the matrix of who is fooled by whose."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from segbench.attacks import load_attack
from segbench.errors import UserError
from segbench.grid import Cell
from segbench.labels import attack_names
from segbench.references import CheckpointReference, resolve_models

if TYPE_CHECKING:
    from pandas import DataFrame

    from segbench.api import TransferAttack


def find_source(text: str, workspace: Path) -> CheckpointReference:
    """The one checkpoint of the workspace that a transfer attack means by its source.

    Raises:
        UserError: there is none, or there are several.
    """
    found = resolve_models([text], workspace)
    checkpoints = [one for one in found if isinstance(one, CheckpointReference)]
    if not checkpoints:
        raise UserError(
            f"transfer: source={text!r} is no checkpoint of {workspace / 'models'}; name one that "
            "segbench train has made there"
        )
    if len(checkpoints) > 1:
        names = ", ".join(one.name for one in checkpoints)
        raise UserError(f"transfer: source={text!r} means several checkpoints; name one of {names}")
    return checkpoints[0]


def source_cell(cell: Cell, attack: TransferAttack) -> Cell:
    """The cell of the source network whose images a transfer cell is scored on."""
    return Cell(load_attack(attack.attack), cell.budget, cell.seed)


@dataclass(frozen=True, eq=False)
class TransferMatrix:
    """Mean Jaccard of every target (columns) on the images made against every source (rows)."""

    dataset: str
    split: str
    attack: str
    eps: str
    scores: DataFrame


def transfer_matrices(curves: DataFrame) -> Iterator[TransferMatrix]:
    """One matrix per data set, split, inner attack and eps, from the curves of ``api.Tables``."""
    scored = curves[(curves["metric"] == "jaccard") & (curves["budget"] > 0)]
    rows = scored[scored["attack"].str.partition(":")[0] == "transfer"]
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
