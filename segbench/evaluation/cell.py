"""What a cell is: the facts that determine its images and rows, and the columns they share.

A cell's key is their hash. It holds no list of cases, no name and no path, and nothing that only
scoring needs: the unit of work is (cell, case).
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from segbench import __version__
from segbench.api import MeetsCases, RunsAnother, TransferAttack, WarpAttack
from segbench.engine.meeting import meets_cases
from segbench.evaluation.file_axes import axes_facts
from segbench.evaluation.goals import is_targeted, region_facts, target_facts
from segbench.evaluation.grid import Cell
from segbench.evaluation.prompted import takes_prompts
from segbench.evaluation.subject import Subject
from segbench.evaluation.transfer_source import find_source
from segbench.plugins.attack import NamedAttack, load_attack
from segbench.plugins.naming import WITHIN, attack_spec, quantized_attack
from segbench.plugins.spec import Spec
from segbench.store import rowfile
from segbench.store.records import digest

if TYPE_CHECKING:
    from segbench.evaluation.request import Options
    from segbench.store.workspace import Workspace

_AGREEMENT = 2  # how far an image has come to a target; of an empty one once it was the accuracy


def cell_facts(subject: Subject, cell: Cell, options: Options) -> dict[str, Any]:
    """All that determines the images of a cell, but for what a fit or a source adds."""
    attack = cell.attack
    region = region_facts(attack, subject.data.dataset)
    warped = attack is not None and isinstance(attack.attack, WarpAttack)
    return {
        "schema": rowfile.SCHEMA_VERSION,
        "engine": __version__,
        "network": subject.sha256,
        "attack": attack_facts(attack) if attack else None,
        "target": target_facts(attack, subject.data.dataset),
        "budget": [cell.budget.kind, cell.budget.value],
        "seed": cell.seed,
        "data": subject.data.spec,
        "precision": options.precision if attack else "fp32",
        **({"gradients": "by case"} if _may_be_low(attack, options) else {}),
        **({"region": region} if region else {}),
        **({"told": "of each case"} if _was_untold(attack, subject) else {}),
        # Which is refused; once the prompts stayed where the truth was.
        **({"prompts": "moved"} if warped and takes_prompts(subject.module) else {}),
        **({"agreement": _AGREEMENT} if is_targeted(attack) else {}),
        **axes_facts(subject.axes),
        **({"certificate": cell.certificate.facts} if cell.certificate else {}),
    }


def _may_be_low(attack: NamedAttack | None, options: Options) -> bool:
    """Whether gradients may be of low precision.

    Once such a precision was the network's, and a case that it misled was attacked with nothing.
    """
    return attack is not None and attack.attack.needs == "gradients" and options.precision == "auto"


def _was_untold(attack: NamedAttack | None, subject: Subject) -> bool:
    """Whether what must be told of every case was once told of the first alone, or of none.

    The copies that gradients come from, and a network with others around it.
    """
    module = subject.module
    by_gradients = attack is not None and attack.attack.needs == "gradients"
    return meets_cases(module) and (by_gradients or not isinstance(module, MeetsCases))


def attack_facts(attack: NamedAttack) -> dict[str, Any]:
    """What identifies an attack: its source, its fields and region, its libraries."""
    own = {
        "name": attack.plugin.name,
        "package": [attack.plugin.distribution, attack.plugin.version],
        "source": attack.plugin.source,
        "parameters": attack.parameters,
        "libraries": attack.libraries,
    }
    if isinstance(attack.attack, RunsAnother):
        return own | {WITHIN: attack_facts(load_attack(attack.attack.attack))}
    return own


def transfer_facts(attack: NamedAttack, workspace: Workspace) -> dict[str, Any]:
    """Those of a transfer, the same however its source and its attack were written."""
    return attack_facts(attack) | {"parameters": _described(attack, workspace)[1]}


def attack_hash(attack: NamedAttack, workspace: Workspace) -> str:
    """SHA-256 (hex) of what an attack does that its name and parameters do not say.

    Its code and that of the attack it runs, their libraries' versions, and the weights of the
    network that a transfer takes its images from.
    """
    facts = {"source": attack.plugin.source, "libraries": attack.libraries}
    if isinstance(attack.attack, RunsAnother | TransferAttack):
        facts[WITHIN] = attack_hash(load_attack(attack.attack.attack), workspace)
    if isinstance(attack.attack, TransferAttack):
        facts["weights"] = find_source(attack.attack.source, workspace).card.weights_sha256
    return digest(facts)


def cell_constants(
    subject: Subject, cell: Cell, workspace: Workspace, *, quantized: bool = False
) -> dict[str, str | float | int]:
    """The columns that are the same in all rows of a cell, as they are or on file levels."""
    label, parameters = cell.label, cell.certificate.parameters if cell.certificate else {}
    if cell.attack:
        label, parameters = _described(cell.attack, workspace)
    if quantized:
        label, parameters = quantized_attack(label, parameters)
    return {
        "model": subject.name,
        "weights_sha256": subject.model.weights_sha256,
        "network_sha256": subject.sha256,
        "dataset": subject.data.spec,
        "dataset_fingerprint": subject.data.dataset.fingerprint(),
        "split": subject.data.split,
        "attack": label,
        "attack_params": json.dumps(parameters, sort_keys=True),
        "attack_sha256": attack_hash(cell.attack, workspace) if cell.attack else "",
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
    source, inner = find_source(transfer.source, workspace), load_attack(transfer.attack)
    parameters = {
        "source": source.name,
        "attack": attack_spec(inner.label, inner.parameters_text),
    }
    label = Spec(attack.plugin.name, {"source": source.name, "attack": inner.label})
    return str(label), parameters
