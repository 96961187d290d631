"""What a cell is: the facts that determine its rows, and the columns that all of them share."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from segbench import __version__
from segbench.api import TransferAttack
from segbench.evaluation.goals import target_masks
from segbench.evaluation.grid import Cell
from segbench.evaluation.transfer_source import find_source
from segbench.networks import LoadedModel
from segbench.plugins.attack import NamedAttack, load_attack
from segbench.plugins.naming import attack_spec, quantized_attack
from segbench.plugins.spec import Spec
from segbench.store import rowfile

if TYPE_CHECKING:
    from segbench.evaluation.request import DataSource, Options
    from segbench.store.workspace import Workspace


def cell_facts(
    model: LoadedModel, data: DataSource, cell: Cell, options: Options
) -> dict[str, Any]:
    """All that determines a cell's rows; its key is their hash."""
    attack = cell.attack
    return {
        **target_masks(data, attack),
        **_libraries(attack),
        "schema": rowfile.SCHEMA_VERSION,
        "engine": __version__,
        "weights": model.weights_sha256,
        "architecture": model.facts,
        "attack": cell.label,
        "attack_parameters": attack.parameters if attack else {},
        "attack_package": [attack.plugin.distribution, attack.plugin.version] if attack else [],
        "budget": [cell.budget.kind, cell.budget.value],
        "seed": cell.seed,
        "data": data.spec,
        "data_fingerprint": data.dataset.fingerprint(),
        "split": data.split,
        "cases": [entry.case_id for entry in data.entries],
        "precision": options.precision if attack else "fp32",
        "boundary": options.boundary,
    }


def _libraries(attack: NamedAttack | None) -> dict[str, dict[str, str]]:
    """Versions of the libraries that an attack names; no fact at all where it names none."""
    libraries = attack.libraries if attack else {}
    return {"libraries": libraries} if libraries else {}


def cell_constants(
    name: str,
    model: LoadedModel,
    data: DataSource,
    cell: Cell,
    workspace: Workspace,
    *,
    quantized: bool = False,
) -> dict[str, str | float | int]:
    """The columns that are the same in all rows of a cell, as they are or on file levels."""
    label, parameters = _described(cell.attack, workspace) if cell.attack else (cell.label, {})
    if quantized:
        label, parameters = quantized_attack(label, parameters)
    return {
        "model": name,
        "weights_sha256": model.weights_sha256,
        "dataset": data.spec,
        "dataset_fingerprint": data.dataset.fingerprint(),
        "split": data.split,
        "attack": label,
        "attack_params": json.dumps(parameters, sort_keys=True),
        "budget_kind": cell.budget.kind,
        "budget": cell.budget.eps,
        "seed": cell.seed,
    }


def _described(attack: NamedAttack, workspace: Workspace) -> tuple[str, dict[str, Any]]:
    """The label and every parameter.

    Those of a transfer name the checkpoint that its source is, however it was written, so that
    nothing is stored twice, and its attack with all parameters.
    """
    transfer = attack.attack
    if not isinstance(transfer, TransferAttack):
        return attack.label, attack.parameters
    source, inner = find_source(transfer.source, workspace.root), load_attack(transfer.attack)
    parameters = {
        "source": source.name,
        "attack": attack_spec(inner.label, inner.parameters_text),
    }
    label = Spec(attack.plugin.name, {"source": source.name, "attack": inner.label})
    return str(label), parameters
