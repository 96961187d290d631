"""What is asked of one network: what of it is missing, in pieces, and what became of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field

from segbench.errors import MachineError
from segbench.evaluation.asked import describe_asked
from segbench.evaluation.case_index import Known
from segbench.evaluation.constants import HINT, no_better
from segbench.evaluation.executors import Executor, Local
from segbench.evaluation.grid import Cell, Grid
from segbench.evaluation.pieces import Outcome, Piece, Shard, own_cases
from segbench.evaluation.request import DataSource, Listener, Options
from segbench.evaluation.work import ModelWork, View, open_work
from segbench.networks import ModelReference
from segbench.plugins.naming import eps_names
from segbench.store.images import kept_cases
from segbench.store.rows import case_means, finished_cases
from segbench.store.runs import Asked, Failure
from segbench.store.workspace import Workspace


@dataclass(eq=False)
class ModelRun:
    """One network's part of a run.

    Attributes:
        shard: the part of the grid that is to be computed, None for all of it.
        place: the network's place among those of the run.
        failures: what went wrong and was left out; grows while the run goes on.
        errors: the errors behind the failures of cells that failed as a whole.
        constant: see ``Asked``; known once the clean cell is there.
    """

    work: ModelWork
    shard: Shard | None = None
    place: int = 0
    failures: list[Failure] = field(default_factory=list)
    errors: list[Exception] = field(default_factory=list)
    constant: str = ""

    def __post_init__(self) -> None:
        self._succeeded: set[int] = set()
        self._abandoned: dict[int, Exception] = {}

    @property
    def asked(self) -> Asked:
        """What the run's record says of it: all of the grid, whoever computes which part."""
        asked = describe_asked(self.work.subject, self.work.keys, self.work.known)
        return asked.model_copy(update={"constant": self.constant})

    def compute(self, executor: Executor) -> None:
        """Make what is missing; one case that fails is named and left out, the others go on.

        Raises:
            UserError, MachineError: not one case has clean scores, or the network changed.
        """
        pieces = self._missing_pieces()
        clean = [piece for piece in pieces if self.work.cells[piece.cell][0].attack is None]
        self._run(executor, clean)
        self._look_at_clean_score()
        self._run(executor, [piece for piece in pieces if piece not in clean])

    def look_up(self) -> int:
        """How many scores are missing; of a case whose image alone is to be kept, one."""
        pieces = self._missing_pieces()
        self._look_at_clean_score()
        return sum(max(1, len(views)) for piece in pieces for views in piece.lacking.values())

    def _run(self, executor: Executor, pieces: Sequence[Piece]) -> None:
        answered: set[tuple[int, str]] = set()
        outcomes = executor.run(self.work, pieces, lambda piece: piece.cell in self._abandoned)
        for outcome in outcomes:
            self._take(outcome)
            answered |= {(outcome.piece.cell, name) for name in outcome.piece.lacking}
        for piece in pieces:
            if piece.cell in self._abandoned:
                self._leave_out(piece, answered)

    def _look_at_clean_score(self) -> None:
        """Say, before the first attack, where the network does no better than without images."""
        work = self.work
        clean = case_means(work.workspace, work.cells[0][1][0].key)
        scored = [case for case in work.known.values() if case.sha256 in clean]
        if not scored:
            return
        scores = [clean[case.sha256] for case in scored]
        some = work.cases.load(0)[0]
        self.constant = no_better(scores, [case.constants for case in scored], some)
        if self.constant:
            work.listener.warn(
                f"{work.subject.name}: its clean score is no better than that of {self.constant}; "
                f"its rows are marked; {HINT}"
            )

    def _missing_pieces(self) -> list[Piece]:
        """What has no rows yet and is of this part; what has is told to the listener."""
        work = self.work
        done = {} if work.options.fresh else self._stored()
        groups = [
            [e.case_id for e in shard if e.case_id in work.known] for shard in work.cases.shards
        ]
        pieces, total, found = [], 0, 0
        for place, (cell, views) in enumerate(work.cells):
            fitted = work.is_fitted(cell)
            own = own_cases(groups, place, self.place, self.shard, fitted=fitted)
            lacking = self._lacking(cell, views, done, own)
            total += len(own) * len(views)
            found += len(own) * len(views) - sum(map(len, lacking.values()))
            keys = tuple(view.key for view in views)
            for group in [work.known] if fitted else groups:
                some = {name: lacking[name] for name in group if name in lacking}
                if some:
                    pieces.append(Piece(work.subject.name, place, keys, some, fitted))
        work.listener.model(work.subject.name, total)
        work.listener.cases(0, found)
        return pieces

    def _stored(self) -> dict[str, dict[str, float]]:
        damaged: list[str] = []
        stored = finished_cases(self.work.workspace, set(self.work.keys), damaged)
        for sentence in damaged:
            self.work.listener.warn(f"left out: {sentence}")
        return stored

    def _lacking(
        self,
        cell: Cell,
        views: Sequence[View],
        done: Mapping[str, Mapping[str, float]],
        own: set[str],
    ) -> dict[str, tuple[int, ...]]:
        """Case id -> the views that lack its rows; none where only its images are to be kept."""
        known = {name: case for name, case in self.work.known.items() if name in own}
        lacking = {
            name: tuple(
                n for n, view in enumerate(views) if not self._is_done(case, done.get(view.key, {}))
            )
            for name, case in known.items()
        }
        unkept: set[str] = set()
        if self.work.keeps(cell):
            fresh = self.work.options.fresh
            kept = {} if fresh else kept_cases(self.work.workspace, views[0].key)
            unkept = {name for name, case in known.items() if case.sha256 not in kept}
        return {name: lack for name, lack in lacking.items() if lack or name in unkept}

    def _is_done(self, case: Known, done: Mapping[str, float]) -> bool:
        if case.sha256 not in done:
            return False
        return not self.work.options.boundary or done[case.sha256] == case.nsd_tolerance

    def _take(self, outcome: Outcome) -> None:
        """Note what failed; a cell of which no case has succeeded is given up.

        Raises:
            UserError, MachineError: without clean scores nothing has a meaning.
        """
        place = outcome.piece.cell
        cell = self.work.cells[place][0]
        failed = [*outcome.errors, *outcome.unreadable]
        for case_id, reason in failed:
            self._fail(cell, case_id, str(reason))
        if outcome.succeeded:
            self._succeeded.add(place)
        elif outcome.errors and place not in self._succeeded and place not in self._abandoned:
            error = outcome.errors[0][1]
            if cell.attack is None:
                raise error
            self._abandoned[place] = error
            self.errors.append(error)

    def _leave_out(self, piece: Piece, answered: set[tuple[int, str]]) -> None:
        """What was not tried of a cell that was given up."""
        cell, error = self.work.cells[piece.cell][0], self._abandoned[piece.cell]
        for case_id in piece.lacking:
            if (piece.cell, case_id) not in answered:
                self._fail(cell, case_id, f"not tried, since no other case succeeded: {error}")

    def _fail(self, cell: Cell | None, case_id: str, reason: str) -> None:
        point = (cell.budget.kind, cell.budget.eps) if cell and cell.attack else None
        self.failures.append(
            Failure(
                model=self.work.subject.name,
                attack=cell.label if cell else "",
                budget=eps_names([point])[point] if point else "",
                case_id=case_id,
                reason=reason,
            )
        )
        self.work.listener.warn(f"left out: {case_id}: {reason}")


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

    Every piece is stored as soon as it is complete: interruption loses only the one in flight.

    Raises:
        UserError, MachineError: a case failed; every other one is stored.
    """
    with open_work(reference, data, grid, workspace, run, options, listener) as work:
        planned = ModelRun(work)
        with closing(Local()) as executor:
            planned.compute(executor)
    if planned.errors:
        raise planned.errors[0]
    if planned.failures:
        raise MachineError(planned.failures[0].reason)
    return work.keys
