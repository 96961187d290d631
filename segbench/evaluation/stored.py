"""What is asked of a workspace that cannot be written: shown where all of it is stored."""

from __future__ import annotations

from collections.abc import Sequence

from segbench.errors import UserError
from segbench.evaluation.grid import Grid
from segbench.evaluation.model_run import ModelRun
from segbench.evaluation.pieces import parse_shard
from segbench.evaluation.request import DataSource, Listener, Options
from segbench.evaluation.work import open_work
from segbench.networks import ModelReference
from segbench.store.runs import RunRecord
from segbench.store.workspace import Workspace


def look_up(
    models: Sequence[tuple[ModelReference, DataSource]],
    grid: Grid,
    workspace: Workspace,
    options: Options,
    listener: Listener,
    record: RunRecord,
) -> RunRecord:
    """The record of a run that finds everything; nothing is computed, and nothing written.

    Raises:
        UserError, MachineError: something is missing, or a network or its data cannot be used.
    """
    shard = parse_shard(options.shard) if options.shard else None
    asked, missing = [], 0
    for place, (reference, data) in enumerate(models):
        with open_work(reference, data, grid, workspace, 0, options, listener) as work:
            planned = ModelRun(work, shard, place)
            missing += planned.look_up()
            asked.append(planned.asked)
    if missing:
        raise UserError(
            f"folder {workspace.root} cannot be written, and {missing} of the scores asked for are "
            "not stored in it; copy it to where it can be written, or name another --workspace"
        )
    return record.model_copy(update={"asked": tuple(asked), "status": "done"})
