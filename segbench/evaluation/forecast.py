"""What a grid will cost before anything of it runs: pieces, gradients, seconds, schedule."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from segbench.engine.precision import choose_device
from segbench.errors import UserError
from segbench.evaluation.costs import GUESS, Costs, place_of
from segbench.evaluation.grid import Grid
from segbench.evaluation.model_plan import Missing, ModelPlan, find_missing, plan_model
from segbench.evaluation.parts import SharePart
from segbench.evaluation.pieces import Piece, parse_shard
from segbench.evaluation.request import DataSource, Listener, Request
from segbench.evaluation.schedule import Cost, Schedule, cut, simulate
from segbench.evaluation.work import open_work
from segbench.evaluation.work_off import piece_cost
from segbench.networks import ModelReference
from segbench.store.index import RowIndex
from segbench.store.workspace import Workspace


@dataclass(frozen=True)
class Line:
    """A network under an attack, or clean.

    Attributes:
        pieces: that are missing, with ``scores`` in them.
        gradients, seconds: of the pieces; None where nothing like them was measured here.
        like: see ``Estimate``; the least alike of its pieces.
    """

    model: str
    attack: str
    pieces: int
    scores: int
    gradients: float | None
    seconds: float | None
    like: str


@dataclass(frozen=True, eq=False)
class Forecast:
    """What is missing of a grid, and how long it takes.

    Attributes:
        pieces: as they are handed out.
        found: scores that the store has.
        workers: how many share the work in ``schedule``.
    """

    plans: Sequence[ModelPlan]
    pieces: Sequence[Piece]
    lines: Sequence[Line]
    found: int
    workers: int
    cost: Cost
    schedule: Schedule


def forecast(
    pairs: Sequence[tuple[ModelReference, DataSource]],
    grid: Grid,
    workspace: Workspace,
    request: Request,
    listener: Listener,
    workers: int,
) -> Forecast:
    """Load every network once, and see what of it is missing.

    Raises:
        UserError, MachineError: a network or its data cannot be used.
    """
    index = RowIndex(workspace)
    planned = [
        _planned(reference, data, number, grid, workspace, request, listener, index)
        for number, (reference, data) in enumerate(pairs)
    ]
    plans, costs = [plan for plan, _ in planned], Costs(workspace)
    place = _place(request, workers)
    cost = piece_cost(plans, costs, place)
    whole = [piece for _, missing in planned for piece in missing.pieces]
    pieces = cut(whole, workers, cost) if workers > 1 else whole
    ready = {plan.name: costs.ready(plan.network, place) for plan in plans}
    return Forecast(
        plans,
        pieces,
        [line for plan in plans for line in _lines(plan, pieces, costs, place)],
        sum(missing.found for _, missing in planned),
        workers,
        cost,
        simulate(pieces, workers, cost, ready),
    )


def count_workers(request: Request) -> int:
    """How many workers are asked for, wherever they are to be."""
    if request.executor == "local" and not request.devices:
        return request.workers or 1
    devices = len(request.devices) or 1
    if request.devices == ("all",) and torch.accelerator.is_available():
        devices = torch.accelerator.device_count()
    return devices * (request.workers or 1)


def _planned(
    reference: ModelReference,
    data: DataSource,
    number: int,
    grid: Grid,
    workspace: Workspace,
    request: Request,
    listener: Listener,
    index: RowIndex,
) -> tuple[ModelPlan, Missing]:
    part = SharePart(parse_shard(request.shard)) if request.shard else None
    with open_work(reference, data, grid, workspace, 0, request, listener) as work:
        plan = plan_model(work, number)
        return plan, find_missing(work, plan, part, index)


def _place(request: Request, workers: int) -> str:
    """Where the work is expected to be done, as far as this machine can tell."""
    named = request.device or next(iter(request.devices), None)
    try:
        device = choose_device(None if named == "all" else named)
    except UserError:
        return str(named)  # of another machine
    return place_of(device, max(1, torch.get_num_threads() // workers))


def _lines(plan: ModelPlan, pieces: Sequence[Piece], costs: Costs, place: str) -> list[Line]:
    lines: dict[str, Line] = {}
    for piece in pieces:
        if piece.model != plan.name:
            continue
        label = plan.cells[piece.cell][0].label
        cases, one = len(piece.lacking), plan.estimate(costs, piece, place)
        line = lines.setdefault(label, Line(plan.name, label, 0, 0, 0.0, 0.0, one.like))
        known = one.like != GUESS and line.seconds is not None
        lines[label] = replace(
            line,
            pieces=line.pieces + 1,
            scores=line.scores + piece.scores,
            gradients=(line.gradients or 0) + cases * one.gradients if known else None,
            seconds=(line.seconds or 0) + cases * one.seconds if known else None,
            like=one.like if not known else line.like,
        )
    return list(lines.values())
