"""What a cell is: the facts that determine its rows, and the columns that all of them share."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from segbench import __version__, rowfile
from segbench.api import Targeted, TransferAttack
from segbench.attacks import NamedAttack, load_attack
from segbench.grid import Cell
from segbench.labels import attack_spec, quantized_attack
from segbench.references import LoadedModel
from segbench.spec import Spec
from segbench.target_files import check_masks, target_folder
from segbench.targets import check_class
from segbench.transfers import find_source

if TYPE_CHECKING:
    from segbench.executors.local import DataSource, Options
    from segbench.store import Workspace


def cell_facts(
    model: LoadedModel, data: DataSource, cell: Cell, options: Options
) -> dict[str, Any]:
    """All that determines a cell's rows; its key is their hash."""
    attack = cell.attack
    return {
        **_target_masks(data, attack),
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


def check_goal(data: DataSource, attack: NamedAttack) -> None:
    """Refuse an attack whose target the data does not have; of a transfer, its source's attack.

    Raises:
        UserError: there is no such class, or its masks do not fit, see ``check_masks``.
    """
    if isinstance(attack.attack, TransferAttack):
        attack = load_attack(attack.attack.attack)
    _target_masks(data, attack)
    if isinstance(attack.attack, Targeted) and attack.attack.target is not None:
        check_class(attack.attack.target, data.dataset.class_names)


def _libraries(attack: NamedAttack | None) -> dict[str, dict[str, str]]:
    """Versions of the libraries that an attack names; no fact at all where it names none."""
    libraries = attack.libraries if attack else {}
    return {"libraries": libraries} if libraries else {}


def _target_masks(data: DataSource, attack: NamedAttack | None) -> dict[str, str]:
    """The content of the masks that a targeted attack leads to, where they come from files."""
    folder = target_folder(getattr(attack.attack, "target", None)) if attack else None
    if folder is None:
        return {}
    return {"target": check_masks(folder, data.entries, len(data.dataset.class_names))}


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
