"""More gradients for the cells that are in doubt, until none is.

The signs are those of ``tables/unsettled.py``: a curve that rises, gradients that are zero
everywhere, and scores that were still falling. What is spent is the standard suite, then its
thorough form; no score is replaced, since the worst over attacks takes whatever is lower.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from segbench.evaluation.grid import Grid
from segbench.evaluation.request import DataSource, Listener, Request
from segbench.evaluation.run import run_grid
from segbench.networks import ModelReference
from segbench.plugins.attack import load_attack
from segbench.plugins.spec import Spec, format_eps, parse
from segbench.plugins.where import WHERE
from segbench.store.runs import RunRecord
from segbench.store.workspace import Workspace
from segbench.tables.load import load_tables
from segbench.tables.unsettled import unsettled_budgets

STRONGER = ("standard", "standard:cost=thorough")


def settle(
    pairs: Sequence[tuple[ModelReference, DataSource]],
    request: Request,
    workspace: Workspace,
    first: RunRecord,
    listener: Listener,
) -> list[RunRecord]:
    """Attack again what a run has left in doubt; the records of that run and of those that follow.

    Raises:
        UserError, MachineError: see ``run_grid``.
    """
    records = [first]
    for text in STRONGER:
        doubtful = unsettled_budgets(load_tables(workspace, run=records).cases)
        for reference, data in pairs:
            for where in sorted(where for model, where in doubtful if model == reference.name):
                there = doubtful[reference.name, where]
                eps = [value for value in request.eps if float(value) in there]
                if not eps:
                    continue
                again = _confined(text, where)
                budgets = ", ".join(map(format_eps, eps))
                listener.warn(
                    f"{reference.name} is attacked again by {again} at {budgets}, where what was "
                    "found is in doubt"
                )
                grid = Grid([load_attack(again)], eps, request.seeds)
                more = replace(request, attacks=(again,), eps=tuple(eps), certify=None)
                records.append(
                    run_grid([(reference, data)], grid, workspace, more, listener, first.argv)
                )
    return records


def _confined(text: str, where: str) -> str:
    """The attack of that spec within the same part of the image; "" is all of it."""
    attack = parse(text)
    return str(Spec(attack.name, {**attack.params, **({WHERE: where} if where else {})}))
