"""More gradients for the cells that are in doubt, until none is.

The signs are those of ``tables/unsettled.py``: a curve that rises, gradients that are zero
everywhere or gain nothing any more, a search that beats every climb, and scores that were still
falling. What is spent is the standard suite, then its thorough form, in the norm and on the part of
the image that is in doubt; no score is replaced, since the worst over attacks takes whatever is
lower. Where everything is to be computed anew, what this very request has computed is not. What
leads to a target, or has a budget of another kind, is not judged, which is said.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from segbench.evaluation.grid import Grid, expand_grid
from segbench.evaluation.request import DataSource, Listener, Request
from segbench.evaluation.run import run_grid
from segbench.networks import ModelReference
from segbench.plugins.attack import NamedAttack, load_attack, load_attacks
from segbench.plugins.naming import eps_names
from segbench.plugins.spec import Spec, parse
from segbench.plugins.where import WHERE, where_of
from segbench.store.runs import RunRecord
from segbench.store.workspace import Workspace
from segbench.tables.load import load_tables
from segbench.tables.unsettled import JUDGED, unsettled_budgets

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
    if apart := [a.label for a in load_attacks(request.attacks) if not _is_judged(a)]:
        listener.warn(
            f"{', '.join(apart)} {'are' if len(apart) > 1 else 'is'} not judged by "
            "--until-settled, which knows untargeted attacks in L-infinity and L2"
        )
    records = [first]
    for text in STRONGER:
        tables = load_tables(workspace, run=records, depth="cases")
        doubtful = unsettled_budgets(tables.cases, set(tables.distances["attack"]))
        for reference, data in pairs:
            for model, norm, where in sorted(doubtful):
                there = doubtful[model, norm, where]
                eps = [value for value in request.eps if float(value) in there]
                if model != reference.name or not eps:
                    continue
                again = _confined(text, norm, where)
                names = eps_names((norm, float(value)) for value in eps)
                budgets = ", ".join(names[norm, float(value)] for value in eps)
                listener.warn(
                    f"{reference.name} is attacked again by {again} at {budgets}, where what was "
                    "found is in doubt"
                )
                grid = Grid([load_attack(again)], eps, request.seeds)
                more = replace(request, attacks=(again,), eps=tuple(eps), certify=None)
                recent = [record.number for record in records]
                pair = [(reference, data)]
                records.append(
                    run_grid(pair, grid, workspace, more, listener, first.argv, recent=recent)
                )
    return records


def most_added(request: Request, cases: int) -> int:
    """How many scores ``settle`` may ask for beyond those of the request, at most.

    Args:
        request: with ``until_settled``.
        cases: of all networks together.

    Raises:
        UserError: an attack cannot be made, or it and the eps values cannot go together.
    """
    attacks = load_attacks(request.attacks)
    judged = [attack for attack in attacks if _is_judged(attack)]
    threats = {(attack.attack.budget_kind, where_of(attack.parameters_text)) for attack in judged}
    stronger = [load_attack(_confined(text, *threat)) for text in STRONGER for threat in threats]
    asked, all_cells = (
        {(cell.label, cell.budget, cell.seed) for cell in expand_grid(grid) if cell.attack}
        for grid in (
            Grid(attacks, request.eps, request.seeds),
            Grid(stronger, request.eps, request.seeds),
        )
    )
    return len(all_cells - asked) * cases * (2 if request.quantize else 1)


def _is_judged(attack: NamedAttack) -> bool:
    """Whether it is after the lowest score within a ball that the standard suite knows."""
    inner = attack.attack
    return inner.budget_kind in JUDGED and getattr(inner, "target", None) is None


def _confined(text: str, norm: str, where: str) -> str:
    """The attack of that spec in that norm, within the same part of the image; "" is all of it."""
    attack = parse(text)
    more = {**({"norm": norm} if norm != "linf" else {}), **({WHERE: where} if where else {})}
    return str(Spec(attack.name, {**attack.params, **more}))
