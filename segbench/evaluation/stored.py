"""What is asked of a workspace that cannot be written: shown where all of it is stored."""

from __future__ import annotations

from collections.abc import Sequence

from segbench.errors import UserError
from segbench.evaluation.grid import Grid
from segbench.evaluation.model_plan import Part, find_missing, plan_model
from segbench.evaluation.model_run import ModelRun
from segbench.evaluation.request import DataSource, Listener, Options
from segbench.evaluation.same_answers import require_same_answers
from segbench.evaluation.work import open_work
from segbench.networks import ModelReference
from segbench.store.index import RowIndex
from segbench.store.runs import RunRecord
from segbench.store.workspace import Workspace


def look_up(
    models: Sequence[tuple[ModelReference, DataSource]],
    grid: Grid,
    workspace: Workspace,
    options: Options,
    listener: Listener,
    record: RunRecord,
    part: Part | None,
) -> RunRecord:
    """The record of a run that finds everything; nothing is computed, and nothing written.

    Raises:
        UserError, MachineError: something is missing, or a network or its data cannot be used.
    """
    asked, missing, index = [], 0, RowIndex(workspace)
    for place, (reference, data) in enumerate(models):
        with open_work(reference, data, grid, workspace, 0, options, listener) as work:
            plan = plan_model(work, place)
            found = find_missing(work, plan, part, index)
            require_same_answers(work, plan, index)
        run = ModelRun(plan, found, index, listener)
        run.look_at_clean_score()
        # Of a case whose image alone is to be kept, one.
        lacks = [views for piece in found.pieces for views in piece.lacking.values()]
        missing += sum(max(1, len(views)) for views in lacks)
        asked.append(run.asked)
    if missing:
        raise UserError(
            f"workspace {workspace} cannot be written, and {missing} of the scores asked for are "
            "not stored in it; copy it to where it can be written, or name another --workspace"
        )
    return record.model_copy(update={"asked": tuple(asked), "status": "done"})
