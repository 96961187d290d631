"""The network that a transfer attack takes its images from, and the cell they are made in."""

from __future__ import annotations

from segbench.api import TransferAttack
from segbench.atomic import shown
from segbench.errors import UserError
from segbench.evaluation.grid import Cell
from segbench.networks import CheckpointReference, resolve_models
from segbench.plugins.attack import load_attack
from segbench.store.workspace import Workspace


def find_source(text: str, workspace: Workspace) -> CheckpointReference:
    """The one checkpoint of the workspace that a transfer attack means by its source.

    Raises:
        UserError: there is none, or there are several.
    """
    found = resolve_models([text], workspace)
    checkpoints = [one for one in found if isinstance(one, CheckpointReference)]
    if not checkpoints:
        raise UserError(
            f"transfer: source={text!r} is no checkpoint of {shown(workspace.models)}; name one "
            "that segbench train has made there"
        )
    if len(checkpoints) > 1:
        names = ", ".join(one.name for one in checkpoints)
        raise UserError(f"transfer: source={text!r} means several checkpoints; name one of {names}")
    return checkpoints[0]


def source_cell(cell: Cell, attack: TransferAttack) -> Cell:
    """The cell of the source network whose images a transfer cell is scored on."""
    return Cell(load_attack(attack.attack), cell.budget, cell.seed)
