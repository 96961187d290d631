"""Networks whose parts are planned, worked off together by one executor."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from segbench.errors import MachineError, UserError
from segbench.evaluation.costs import Costs
from segbench.evaluation.executors import Executor
from segbench.evaluation.model_plan import ModelPlan
from segbench.evaluation.pieces import Outcome, Piece
from segbench.evaluation.request import Listener
from segbench.evaluation.schedule import Cost, Queue, cut

if TYPE_CHECKING:
    from segbench.evaluation.model_run import ModelRun


class Announcer:
    """Tells a listener what begins and what workers say; an ``executors.Told``."""

    def __init__(self, runs: Sequence[ModelRun], listener: Listener) -> None:
        self._cells = {run.plan.name: run.plan.cells for run in runs}
        self._listener = listener
        self._begun = {run.plan.name: bytearray(len(run.plan.cells)) for run in runs}

    def begin(self, piece: Piece) -> None:
        """Tell of a cell at its first piece."""
        if not self._begun[piece.model][piece.cell]:
            self._begun[piece.model][piece.cell] = True
            self._listener.cell(piece.model, self._cells[piece.model][piece.cell][0])

    def tell(self, word: str, value: Any) -> None:
        """Pass on what a worker says."""
        if word == "cases":
            self._listener.cases(value, 0)
        elif word == "busy":
            self._listener.busy(value)
        elif word == "gradients":
            self._listener.gradients(value)
        else:
            self._listener.warn(value)


def work_off(
    runs: Sequence[ModelRun],
    executor: Executor,
    listener: Listener,
    costs: Costs,
    after_each: Callable[[], None] = lambda: None,
) -> None:
    """Compute what is missing of all of them; a network that cannot be used has its ``error``.

    One case that fails is named and left out, the others go on. What is measured goes into
    ``costs``, whose memory decides the order; ``after_each`` piece something else may be done.
    """
    cost, alone = (
        piece_cost([run.plan for run in runs], costs, executor.place),
        executor.workers == 1,
    )
    pieces = [piece for run in runs for piece in run.pieces]
    parts = pieces if alone else cut(pieces, executor.workers, cost)
    queue = Queue() if alone else Queue(cost)
    named = {run.plan.name: run for run in runs}
    for run in runs:
        queue.add(run.plan.name, [part for part in parts if part.model == run.plan.name])
    for run in runs:
        if not queue.clean_left(run.plan.name):
            run.begin_attacks(queue)
    for outcome in executor.run(queue, Announcer(runs, listener)):
        run = named[outcome.piece.model]
        _note_cost(run, outcome, costs)
        if run.error is None:
            _take(run, outcome, queue)
        after_each()


def piece_cost(plans: Sequence[ModelPlan], costs: Costs, place: str) -> Cost:
    """Expected seconds of a piece, by what is known when it is asked."""
    named = {plan.name: plan for plan in plans}

    def cost(piece: Piece) -> float:
        return len(piece.lacking) * named[piece.model].estimate(costs, piece, place).seconds

    return cost


def _take(run: ModelRun, outcome: Outcome, queue: Queue) -> None:
    """Note what became of a piece; what follows from it for those that wait."""
    try:
        run.take(outcome, queue)
        if outcome.piece.clean and not queue.clean_left(run.plan.name):
            run.begin_attacks(queue)
    except (UserError, MachineError) as error:
        run.error = error
        queue.discard(run.plan.name)


def _note_cost(run: ModelRun, outcome: Outcome, costs: Costs) -> None:
    piece, spent = outcome.piece, outcome.spent
    if spent and not outcome.errors and not outcome.unreadable:
        costs.add(run.plan.kind(piece.cell, piece.shape, spent.place), len(piece.lacking), spent)
