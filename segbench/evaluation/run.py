"""One run: every model of a grid, recorded from its start on, compacted at its end."""

from __future__ import annotations

import os
import platform
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import asdict
from importlib.metadata import version
from itertools import product
from pathlib import Path
from typing import Any

import torch
from pydantic_core import to_jsonable_python

from segbench import __version__
from segbench.engine.precision import choose_device, device_name
from segbench.errors import MachineError, UserError
from segbench.evaluation.case_index import Known
from segbench.evaluation.executors import Executor, open_executor
from segbench.evaluation.goals import check_goal
from segbench.evaluation.grid import Grid
from segbench.evaluation.model_run import ModelRun
from segbench.evaluation.pieces import parse_shard
from segbench.evaluation.request import DataSource, Listener, Options
from segbench.evaluation.stored import look_up
from segbench.evaluation.work import open_work
from segbench.networks import ModelReference
from segbench.store.rows import compact_run
from segbench.store.runs import Asked, Code, Failure, RunRecord, begin_run, now, write_run
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
) -> RunRecord:
    """Evaluate the grid on each model and its data; the run's record, which is stored too.

    What is finished stays finished: whatever stops a run, the rows it stored are kept and the same
    command goes on from there. A workspace that cannot be written is read: what is asked of it must
    all be stored, and the record, whose number is 0, is not.

    Args:
        options: how to compute, or the whole request that it is part of; the record has all of it.
        argv: the command, where it was one.

    Raises:
        UserError, MachineError: no network can be used at all. Where one of several networks, or
            single cases, failed the run is done and its record says so; see ``refuse_failures``.
    """
    for (_, data), attack in product(models, grid.attacks):
        check_goal(data, attack)
    record = _new_record(models, grid, options, argv)
    try:
        check_writable(workspace.root)
    except MachineError:
        if not workspace.results.is_dir():
            raise  # nothing can be stored there
        return look_up(models, grid, workspace, options, listener, record)
    record = begin_run(workspace, record)
    run = _Run(workspace, record, grid, options, listener)
    try:
        evaluate = run.evaluate if len(models) == 1 else run.evaluate_or_note
        with closing(open_executor(options, workspace, record.number)) as executor:
            for place, (reference, data) in enumerate(models):
                evaluate(place, reference, data, executor)
        run.refuse_nothing()
    except BaseException as error:
        status = "interrupted" if isinstance(error, KeyboardInterrupt) else "failed"
        run.end(status, str(error) or getattr(error, "name", type(error).__name__))
        raise
    run.end("done", None)
    compact_run(workspace, run.record.run_id, {key for one in run.asked for key in one.cells})
    return run.record


def refuse_failures(record: RunRecord) -> None:
    """Say what a finished run has left out, if anything.

    Raises:
        MachineError: some cases have no rows; they are named.
    """
    failures = record.failures
    if not failures:
        return
    named = [_name(one) for one in failures[:_LISTED]]
    more = f"; and {len(failures) - _LISTED} more" if len(failures) > _LISTED else ""
    raise MachineError(
        f"{record.run_id} left out {len(failures)} of what was asked for, and finished the rest; "
        f"the same command asks for what is missing alone ({'; '.join(named)}{more})"
    )


def _name(failure: Failure) -> str:
    """What was left out, and why."""
    cell = f"{failure.attack} {failure.budget}".strip() or "all cells"
    where = f", {cell}, case {failure.case_id}" if failure.case_id else ""
    return f"{failure.model}{where}: {failure.reason}"


class _Run:
    """A run that has begun: what it has asked for so far, and its record on the disk."""

    def __init__(
        self,
        workspace: Workspace,
        record: RunRecord,
        grid: Grid,
        options: Options,
        listener: Listener,
    ) -> None:
        self.workspace, self.record = workspace, record
        self.grid, self.options, self.listener = grid, options, listener
        self.asked: list[Asked] = []
        self.failures: list[Failure] = []
        self.errors: list[UserError | MachineError] = []
        self.succeeded = False
        self._start = time.monotonic()

    def evaluate_or_note(
        self, place: int, reference: ModelReference, data: DataSource, executor: Executor
    ) -> None:
        """One model; where it cannot be used, that is noted, and the next one has its turn."""
        try:
            self.evaluate(place, reference, data, executor)
            self.succeeded = True
        except (UserError, MachineError) as error:
            self.errors.append(error)
            name = reference.name
            self.listener.warn(f"left out: {name}: {error}")
            left_out = Failure(model=name, attack="", budget="", case_id="", reason=str(error))
            self.failures.append(left_out)

    def refuse_nothing(self) -> None:
        """Raise the first error where no network at all could be used."""
        if self.errors and not self.succeeded:
            raise self.errors[0]

    def evaluate(
        self, place: int, reference: ModelReference, data: DataSource, executor: Executor
    ) -> None:
        """One model; its part of the record is written before anything is computed."""
        run, options = self.record.number, self.options
        shard = parse_shard(options.shard) if options.shard else None
        with open_work(
            reference, data, self.grid, self.workspace, run, options, self.listener
        ) as work:
            planned = ModelRun(work, shard, place)
            self.asked.append(planned.asked)
            self._warn(self.asked[-1], work.known)
            for sentence in work.subject.said:
                self.listener.warn(f"{work.subject.name}: {sentence}")
            self._write()
            try:
                planned.compute(executor)
            finally:
                self.failures += planned.failures
                self.asked[-1] = planned.asked
        if planned.errors and len(planned.errors) == len(work.cells) - 1:
            raise planned.errors[0]  # every attack failed on every case: the network's fault

    def end(self, status: str, reason: str | None) -> None:
        """The last word of the record."""
        self._write(status=status, reason=reason, finished=now())

    def _write(self, **changes: Any) -> None:
        seconds = round(time.monotonic() - self._start, 3)
        changes |= {"asked": tuple(self.asked), "failures": tuple(self.failures)}
        self.record = self.record.model_copy(update={**changes, "seconds": seconds})
        write_run(self.workspace, self.record)

    def _warn(self, asked: Asked, known: Mapping[str, Known]) -> None:
        """What relates the cases to the network's training, before hours are spent on them."""
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


def _new_record(
    models: Sequence[tuple[ModelReference, DataSource]],
    grid: Grid,
    options: Options,
    argv: Sequence[str],
) -> RunRecord:
    names = ("torch", "numpy", "monai", "adversarial-robustness-toolbox")
    folders = {Path(m).parent for r, _ in models if (m := _own_file(r))}
    return RunRecord(
        started=now(),
        host=platform.node(),
        pid=os.getpid(),
        argv=tuple(argv),
        options=to_jsonable_python(asdict(options), fallback=str) | describe_grid(models, grid),
        versions={"segbench": __version__, "python": platform.python_version()}
        | {name: version(name) for name in names},
        device=device_name(choose_device(options.device)),
        threads=torch.get_num_threads(),
        code=tuple(code for folder in sorted(folders) if (code := _code(folder))),
    )


def describe_grid(
    models: Sequence[tuple[ModelReference, DataSource]], grid: Grid
) -> dict[str, Any]:
    """The grid as it was asked for, in plain values."""
    return {
        "models": [reference.name for reference, _ in models],
        "data": [
            {"spec": data.spec, "split": data.split, "cases": len(data.entries)}
            for _, data in models
        ],
        "attacks": {attack.label: attack.parameters for attack in grid.attacks},
        "eps": [str(eps) for eps in grid.eps],
        "seeds": list(grid.seeds),
    }


def _own_file(reference: ModelReference) -> str | None:
    """The file of a network of the user's own."""
    module = getattr(reference, "module", None)
    return module if isinstance(module, str) and Path(module).is_file() else None


def _code(folder: Path) -> Code | None:
    """The commit of the project that a folder lies in, None where it lies in none."""
    commit = _git(folder, "rev-parse", "HEAD")
    if commit is None:
        return None
    top = _git(folder, "rev-parse", "--show-toplevel")
    return Code(
        folder=top or str(folder),
        commit=commit,
        dirty=bool(_git(folder, "status", "--porcelain", "--untracked-files=no")),
    )


def _git(folder: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", *arguments], cwd=folder, capture_output=True, text=True, timeout=5
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
