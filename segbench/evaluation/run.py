"""One run: every model of a grid, recorded from its start on, compacted at its end."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import closing, contextmanager
from itertools import product
from typing import Any

import torch

from segbench.engine.precision import choose_device
from segbench.errors import MachineError, UserError
from segbench.evaluation.agreement import agreement
from segbench.evaluation.costs import Costs, place_of
from segbench.evaluation.executors import Executor, Local
from segbench.evaluation.executors.choose import check_executor, open_executor
from segbench.evaluation.goals import check_goal
from segbench.evaluation.grid import Grid
from segbench.evaluation.model_plan import Part, find_missing, plan_model
from segbench.evaluation.model_run import ModelRun
from segbench.evaluation.new_record import new_record
from segbench.evaluation.parts import SharePart, read_part
from segbench.evaluation.pieces import parse_shard
from segbench.evaluation.request import DataSource, Listener, Options, Request
from segbench.evaluation.same_answers import require_same_answers
from segbench.evaluation.stored import look_up
from segbench.evaluation.work import ModelWork, open_work
from segbench.evaluation.work_off import work_off
from segbench.networks import ModelReference
from segbench.store.compaction import Compactor, compact_run
from segbench.store.index import RowIndex
from segbench.store.runs import (
    Failure,
    RunRecord,
    begin_run,
    joined,
    now,
    run_ids,
    write_run,
)
from segbench.store.workspace import Workspace, check_writable

_DARK = 1 / 8  # of a file's range: what no image reaches is hardly what was meant
_LISTED = 5  # failures that one sentence names; the run's record has them all


def run_grid(
    models: Sequence[tuple[ModelReference, DataSource]],
    grid: Grid,
    workspace: Workspace,
    options: Options,
    listener: Listener,
    argv: Sequence[str] = (),
    part: Part | None = None,
    recent: Collection[int] = (),
) -> RunRecord:
    """Evaluate the grid on each model and its data; the run's record, which is stored too.

    What is finished stays finished: whatever stops a run, the rows it stored are kept and the same
    command goes on from there. A workspace that cannot be written is read: what is asked of it must
    all be stored, and the record, whose number is 0, is not.

    Args:
        options: how to compute, or the whole request that it is part of; the record has all of it.
        argv: the command, where it was one.
        part: what of the grid is to be computed; None for all, or what the options say.
        recent: the runs whose rows are not computed anew where everything else is.

    Raises:
        UserError, MachineError: no network can be used at all. Where one of several networks, or
            single cases, failed the run is done and its record says so; see ``refuse_failures``.
    """
    check_executor(options, workspace)
    for (_, data), attack in product(models, grid.attacks):
        check_goal(data, attack)
    part = part or _asked_part(options)
    models = [pair for pair in models if part is None or part.has(pair[0].name)]
    if not models:
        raise UserError(f"{options.part} is of networks that are not asked for here")
    record = new_record(models, grid, options, argv)
    try:
        check_writable(workspace.root)
    except (MachineError, UserError):
        workspace.refresh_rows()
        if not workspace.results.is_dir():
            raise  # nothing can be stored there
        return look_up(models, grid, workspace, options, listener, record, part)
    record = begin_run(workspace, record)
    run = _Run(workspace, record, grid, options, listener, alone=len(models) == 1)
    try:
        run.evaluate(models, part, recent)
        run.refuse_nothing()
    except BaseException as error:
        status = "interrupted" if isinstance(error, KeyboardInterrupt) else "failed"
        run.end(status, str(error) or getattr(error, "name", type(error).__name__))
        raise
    run.end("done", None)
    keys = {key for one in run.record.asked for key in one.cells}
    compact_run(workspace, run.record.run_id, keys)
    return run.record


def _asked_part(options: Options) -> Part | None:
    if options.part:
        return read_part(options.part)
    return SharePart(parse_shard(options.shard)) if options.shard else None


def refuse_failures(*records: RunRecord) -> None:
    """Say what finished runs, of one request, have left out, if anything.

    Raises:
        MachineError: some cases have no rows; they are named.
    """
    records = tuple(record for record in records if record.failures)
    if not records:
        return
    failures = joined(records).failures
    named = [_name(one) for one in failures[:_LISTED]]
    more = f"; and {len(failures) - _LISTED} more" if len(failures) > _LISTED else ""
    raise MachineError(
        f"{run_ids(records)} left out {len(failures)} of what was asked for, and finished the "
        f"rest; the same command asks for what is missing alone ({'; '.join(named)}{more})"
    )


def _name(failure: Failure) -> str:
    """What was left out, and why."""
    cell = f"{failure.attack} {failure.budget}".strip() or "all cells"
    where = f", {cell}, case {failure.case_id}" if failure.case_id else ""
    return f"{failure.model}{where}: {failure.reason}"


class _Run:
    """A run that has begun: what it has asked for so far, and its record on the disk.

    Args:
        alone: whether there is but one network; what goes wrong with it ends the run.
    """

    def __init__(
        self,
        workspace: Workspace,
        record: RunRecord,
        grid: Grid,
        options: Options,
        listener: Listener,
        *,
        alone: bool,
    ) -> None:
        self.workspace, self.record, self.alone = workspace, record, alone
        self.grid, self.options, self.listener = grid, options, listener
        self.runs: list[ModelRun] = []
        self.left_out: list[Failure] = []
        self.errors: list[UserError | MachineError] = []
        self.succeeded = False
        self.costs, self.index = Costs(workspace), RowIndex(workspace)
        self._start = time.monotonic()

    def evaluate(
        self,
        models: Sequence[tuple[ModelReference, DataSource]],
        part: Part | None,
        recent: Collection[int],
    ) -> None:
        """Compute what is missing: network by network here, or of all at once in a pool."""
        if not isinstance(self.options, Request) or self.options.executor == "local":
            place = place_of(choose_device(self.options.device), torch.get_num_threads())
            for number, (reference, data) in enumerate(models):
                with self._noting(reference.name), self._opened(reference, data) as work:
                    run = self._plan(work, number, part, recent)
                    self._work_off([run], Local(work, place))
                    self._finish(run)
            return
        with closing(open_executor(self.options, self.workspace, self.record.number)) as executor:
            for number, (reference, data) in enumerate(models):
                with self._noting(reference.name), self._opened(reference, data) as work:
                    self._plan(work, number, part, recent)
            self._work_off(self.runs, executor)
        for run in self.runs:
            with self._noting(run.plan.name):
                self._finish(run)

    def _work_off(self, runs: Sequence[ModelRun], executor: Executor) -> None:
        compactor = Compactor(self.workspace, self.record.number, self.record.run_id)
        work_off(runs, executor, self.listener, self.costs, compactor.note_piece)

    def refuse_nothing(self) -> None:
        """Raise the first error where no network at all could be used."""
        if self.errors and not self.succeeded:
            raise self.errors[0]

    def _opened(self, reference: ModelReference, data: DataSource) -> Any:
        run, options = self.record.number, self.options
        return open_work(reference, data, self.grid, self.workspace, run, options, self.listener)

    @contextmanager
    def _noting(self, name: str) -> Iterator[None]:
        """Of several networks, one that cannot be used is noted, and the next has its turn."""
        try:
            yield
        except (UserError, MachineError) as error:
            if self.alone:
                raise
            self.errors.append(error)
            self.listener.warn(f"left out: {name}: {error}")
            left_out = Failure(model=name, attack="", budget="", case_id="", reason=str(error))
            self.left_out.append(left_out)

    def _plan(
        self, work: ModelWork, number: int, part: Part | None, recent: Collection[int]
    ) -> ModelRun:
        """One network's part, which the record names before anything of it is computed.

        Where nothing is, its end names it; the keys of a hundred thousand cells are megabytes.
        """
        plan = plan_model(work, number)
        missing = find_missing(work, plan, part, self.index, recent)
        require_same_answers(work, plan, self.index)
        run = ModelRun(plan, missing, self.index, self.listener)
        self.runs.append(run)
        self._warn(run)
        for sentence in work.fitted_on_own():
            self.listener.warn(f"{work.subject.name}: {sentence}")
        run.said = (*work.subject.said, *agreement(self.workspace, work.subject))
        for sentence in run.said:
            self.listener.warn(f"{work.subject.name}: {sentence}")
        if run.pieces:
            self._write()
        return run

    def _finish(self, run: ModelRun) -> None:
        """Raise what went wrong with a network as a whole."""
        if run.error:
            raise run.error
        if run.errors and len(run.errors) == len(run.plan.cells) - 1:
            raise run.errors[0]  # every attack failed on every case: the network's fault
        self.succeeded = True

    def end(self, status: str, reason: str | None) -> None:
        """The last word of the record."""
        self.costs.save()
        self._write(status=status, reason=reason, finished=now())

    def _write(self, **changes: Any) -> None:
        seconds = round(time.monotonic() - self._start, 3)
        failures = [failure for run in self.runs for failure in run.failures]
        changes |= {
            "asked": tuple(run.asked for run in self.runs),
            "failures": (*failures, *self.left_out),
        }
        self.record = self.record.model_copy(update={**changes, "seconds": seconds})
        write_run(self.workspace, self.record)

    def _warn(self, run: ModelRun) -> None:
        """What relates the cases to the network's training, before hours are spent on them."""
        asked, known = run.asked, run.plan.known
        trained = sum(case.trained for case in asked.cases)
        if trained and not self.options.allow_trained_cases:
            self.listener.warn(
                f"{asked.model} was trained on {trained} of these {len(asked.cases)} cases; their "
                "rows are marked (--allow-trained-cases, where that is wanted)"
            )
        if known and max(case.peak for case in known.values()) < _DARK:
            self.listener.warn(
                f"{asked.dataset}: no image reaches an eighth of what its file can hold; if fewer "
                "bits or another range are meant, say so (bits=12, range=0..4095)"
            )
        if asked.other_data:
            self.listener.warn(
                f"{asked.model}: {asked.dataset} is not, or no longer, the data set of its card; "
                "its rows are marked"
            )
