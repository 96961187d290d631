"""One network's part of a run: what became of its pieces, and what that means for the others."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from contextlib import closing

from segbench.errors import MachineError, UserError
from segbench.evaluation.constants import HINT, no_better
from segbench.evaluation.costs import Costs
from segbench.evaluation.executors import Local
from segbench.evaluation.grid import Cell, Grid
from segbench.evaluation.model_plan import Missing, ModelPlan, find_missing, plan_model
from segbench.evaluation.pieces import CASES_AT_ONCE, Outcome, Piece
from segbench.evaluation.request import DataSource, Listener, Options
from segbench.evaluation.same_answers import require_same_answers
from segbench.evaluation.schedule import Queue
from segbench.evaluation.work import open_work
from segbench.evaluation.work_off import work_off
from segbench.networks import ModelReference
from segbench.plugins.naming import eps_names
from segbench.store.index import RowIndex
from segbench.store.runs import Asked, Failure
from segbench.store.workspace import Workspace

_AGREES = 0.004  # of Jaccard, at most what 0.002 of Dice is


class ModelRun:
    """What is known of one network while its pieces are worked off.

    Attributes:
        failures: what went wrong and was left out.
        errors: the errors behind the failures of cells that failed as a whole.
        error: why nothing of the network can be computed, None as long as it can.
        said: what the user was told of the network, in sentences.
    """

    def __init__(
        self,
        plan: ModelPlan,
        missing: Missing,
        index: RowIndex,
        listener: Listener,
    ) -> None:
        self.plan, self.listener = plan, listener
        self._index = index
        self.pieces = missing.pieces
        self.failures: list[Failure] = []
        self.errors: list[UserError | MachineError] = []
        self.error: UserError | MachineError | None = None
        self.said: tuple[str, ...] = ()
        self._constant = ""
        self._succeeded = set(missing.begun)
        self._abandoned: set[int] = set()
        self._failed: Counter[int] = Counter()
        self._lacking: Counter[int] = Counter()
        for piece in missing.pieces:
            self._lacking[piece.cell] += len(piece.lacking)
        self._tell(missing)

    @property
    def asked(self) -> Asked:
        """What the run's record says of it: all of the grid, whoever computes which part."""
        update = {"constant": self._constant, "said": self.said}
        return self.plan.asked.model_copy(update=update)

    def begin_attacks(self, queue: Queue) -> None:
        """The clean scores are there."""
        self.look_at_clean_score()
        queue.open(self.plan.name)

    def take(self, outcome: Outcome, queue: Queue) -> None:
        """Note what failed; a cell of which no case succeeds is given up.

        Raises:
            UserError, MachineError: nothing of the network can be computed, or there is not one
                clean score, without which nothing has a meaning.
        """
        if outcome.fatal:
            raise outcome.fatal
        place = outcome.piece.cell
        failed = [*outcome.errors, *outcome.unreadable]
        for case_id, reason in failed:
            self._fail(self.plan.cells[place][0], case_id, str(reason))
        if len(failed) < len(outcome.piece.lacking):
            self._succeeded.add(place)
        if failed:  # of a hundred thousand cells that did not fail nothing is kept
            self._failed[place] += len(failed)
        if outcome.errors and place not in self._succeeded:
            self._give_up_failing(place, outcome.errors[0][1], queue)

    def _give_up_failing(self, place: int, error: UserError | MachineError, queue: Queue) -> None:
        """Where so many cases have failed, or all, and none has succeeded, the others would too."""
        enough = self._failed[place] >= min(CASES_AT_ONCE, self._lacking[place])
        if not enough or place in self._abandoned:
            return
        if place == 0:
            raise error
        self._abandoned.add(place)
        self.errors.append(error)
        for piece in queue.discard(self.plan.name, place):
            self._leave_out(piece, error)

    def _leave_out(self, piece: Piece, error: Exception) -> None:
        """What was not tried of a cell that was given up."""
        for case_id in piece.lacking:
            reason = f"not tried, since no other case succeeded: {error}"
            self._fail(self.plan.cells[piece.cell][0], case_id, reason)

    def look_at_clean_score(self) -> None:
        """Say, before the first attack, where the network does no better than without images."""
        clean = self._index.case_means(self.plan.cells[0][1][0].key)
        scored = [case for case in self.plan.known.values() if case.sha256 in clean]
        if not scored:
            return
        scores = [clean[case.sha256] for case in scored]
        constants = [case.constants for case in scored]
        self._constant = no_better(scores, constants, self.plan.answers)
        if self._constant:
            self.listener.warn(
                f"{self.plan.name}: its clean score is no better than that of {self._constant}; "
                f"its rows are marked; {HINT}"
            )
        self._compare_with_measured(clean)

    def _compare_with_measured(self, clean: Mapping[str, float]) -> None:
        """Say how far clean scores are from those that came with the network."""
        known, measured = self.plan.known, self.plan.measured
        apart = [
            abs(clean[known[name].sha256] - score)
            for name, score in measured.items()
            if name in known and known[name].sha256 in clean
        ]
        if apart:
            verdict = "agrees" if max(apart) <= _AGREES else "does NOT agree (segbench inspect)"
            self.listener.warn(
                f"{self.plan.name}: its clean Jaccard {verdict} with what came with it, on "
                f"{len(apart)} of its {len(measured)} cases: at most {max(apart):.4f} apart"
            )

    def _tell(self, missing: Missing) -> None:
        for sentence in missing.damaged:
            self.listener.warn(f"left out: {sentence}")
        self.listener.model(self.plan.name, missing.scores)
        self.listener.cases(0, missing.found)

    def _fail(self, cell: Cell, case_id: str, reason: str) -> None:
        point = (cell.budget.kind, cell.budget.eps) if cell.attack or cell.certificate else None
        self.failures.append(
            Failure(
                model=self.plan.name,
                attack=cell.label,
                budget=eps_names([point])[point] if point else "",
                case_id=case_id,
                reason=reason,
            )
        )
        self.listener.warn(f"left out: {case_id}: {reason}")


def run_model(
    reference: ModelReference,
    data: DataSource,
    grid: Grid,
    workspace: Workspace,
    options: Options,
    listener: Listener,
    run: int = 1,
) -> list[str]:
    """Evaluate a model's cells, skipping cases that the store has; the keys of all its cells.

    Cases are stored batch by batch: an interruption loses those in flight and a few seconds' work.

    Raises:
        UserError, MachineError: a case failed; every other one is stored.
    """
    with open_work(reference, data, grid, workspace, run, options, listener) as work:
        plan = plan_model(work, 0)
        index = RowIndex(workspace)
        missing = find_missing(work, plan, None, index)
        require_same_answers(work, plan, index)
        planned = ModelRun(plan, missing, index, listener)
        with closing(Local(work)) as executor:
            work_off([planned], executor, listener, Costs(workspace))
    if planned.error:
        raise planned.error
    if planned.errors:
        raise planned.errors[0]
    if planned.failures:
        raise MachineError(planned.failures[0].reason)
    return work.keys
