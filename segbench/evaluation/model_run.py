"""A model's cells on this machine, one after another, each case stored as soon as it is scored."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from contextlib import closing
from dataclasses import dataclass, field

from segbench.api import Case, TransferAttack
from segbench.engine.network import ChangedNetworkError
from segbench.errors import MachineError, UserError
from segbench.evaluation.asked import describe_asked
from segbench.evaluation.case_cache import CaseCache
from segbench.evaluation.case_index import CaseIndex, Known
from segbench.evaluation.cell import cell_constants, cell_facts, transfer_facts
from segbench.evaluation.fits import Fits
from segbench.evaluation.goals import check_goal, check_targets
from segbench.evaluation.grid import Cell, Grid, cut_shards, expand_grid
from segbench.evaluation.request import DataSource, Listener, Options
from segbench.evaluation.sources import ImageStore, Sources
from segbench.evaluation.subject import Subject, load_subject
from segbench.evaluation.worker import Worker
from segbench.networks import ModelReference
from segbench.plugins.naming import eps_names
from segbench.store.images import kept_cases
from segbench.store.rows import append_shard, cell_key, finished_cases
from segbench.store.runs import Asked, Failure
from segbench.store.workspace import Workspace


@dataclass(frozen=True)
class View:
    """Rows of a cell: of its images as the attack left them, or on the levels of their files."""

    key: str
    quantized: bool = False


@dataclass(frozen=True, eq=False)
class ModelRun:
    """What is asked of one network on its data, found out before anything is attacked.

    Attributes:
        known: every case that can be read.
        cases: loads them, shard by shard.
        cells: each cell with its views, the first under the key of its images.
        failures: what went wrong and was left out; grows while the run goes on.
        errors: the errors behind the failures of cells that failed as a whole.
    """

    subject: Subject
    workspace: Workspace
    run: int
    options: Options
    listener: Listener
    cases: CaseCache
    index: CaseIndex
    known: Mapping[str, Known]
    sources: Sources
    cells: Sequence[tuple[Cell, Sequence[View]]]
    failures: list[Failure] = field(default_factory=list)
    errors: list[Exception] = field(default_factory=list)

    @property
    def asked(self) -> Asked:
        """What the run's record says of it."""
        keys = [view.key for _, views in self.cells for view in views]
        return describe_asked(self.subject, keys, self.known)

    def compute(self) -> None:
        """Make what is missing; one case that fails is named and left out, the others go on.

        Raises:
            UserError, MachineError: not one case has clean scores, or the network changed.
        """
        for case_id, reason in self.cases.unreadable.items():
            self._fail(None, case_id, reason)
        damaged: list[str] = []
        keys = {view.key for _, views in self.cells for view in views}
        stored = finished_cases(self.workspace, keys, damaged)
        for sentence in damaged:
            self.listener.warn(f"left out: {sentence}")
        done = {} if self.options.fresh else stored
        self.listener.model(self.subject.name, len(keys), len(self.known))
        images: ImageStore | None = None
        for cell, views in self.cells:
            self.listener.cell(self.subject.name, cell)
            wanted = self._wanted(cell, views, done)
            if wanted and images is None:
                images = self._image_store()
            found = len(views) * len(self.known)
            if wanted:
                assert images is not None
                found -= self._compute_cell(cell, views, wanted, images)
            self.listener.cases(0, found)

    def _wanted(
        self, cell: Cell, views: Sequence[View], done: Mapping[str, Mapping[str, float]]
    ) -> dict[str, list[View]]:
        """Case id -> the views that lack its rows; none where only its images are to be kept."""
        wanted = {
            case_id: [v for v in views if not self._is_done(case, done.get(v.key, {}))]
            for case_id, case in self.known.items()
        }
        unkept: set[str] = set()
        if self._keeps(cell):
            kept = {} if self.options.fresh else kept_cases(self.workspace, views[0].key)
            unkept = {name for name, case in self.known.items() if case.sha256 not in kept}
        return {name: lack for name, lack in wanted.items() if lack or name in unkept}

    def _is_done(self, case: Known, done: Mapping[str, float]) -> bool:
        if case.sha256 not in done:
            return False
        return not self.options.boundary or done[case.sha256] == case.nsd_tolerance

    def _keeps(self, cell: Cell) -> bool:
        """Whether its images are to be kept here; a transfer's are kept with its source's."""
        own = cell.attack and not isinstance(cell.attack.attack, TransferAttack)
        return bool(own) and self.options.save_adversarial

    def _image_store(self) -> ImageStore:
        probe = self.cases.load(0)[:2]
        fits = Fits(self.subject, self.workspace, self.options)
        worker = Worker(self.subject, probe, fits, self.options, self.listener.busy)
        return ImageStore(worker, self.workspace, self.run, self.options)

    def _compute_cell(
        self,
        cell: Cell,
        views: Sequence[View],
        wanted: Mapping[str, Sequence[View]],
        images: ImageStore,
    ) -> int:
        """Attack and score those cases of a cell; how many (view, case) were not just found."""
        missing = sum(map(len, wanted.values()))
        succeeded, tried = False, set[str]()
        for number, shard in enumerate(self.cases.shards):
            if not any(entry.case_id in wanted for entry in shard):
                continue
            todo = [case for case in self.cases.load(number) if case.case_id in wanted]
            for case in todo:
                self.index.verify(case)
            errors: list[tuple[Case, Exception]] = []
            self._compute_cases(_Task(cell, views, wanted, images), todo, errors)
            succeeded = succeeded or len(errors) < len(todo)
            for case, error in errors:
                self._fail(cell, case.case_id, str(error))
            tried |= {case.case_id for case in todo}
            for case_id in [e.case_id for e in shard if e.case_id in wanted.keys() - tried]:
                self._fail(cell, case_id, self.cases.unreadable[case_id])
                tried.add(case_id)
            if errors and not succeeded:
                self._give_up(cell, errors[0][1], wanted.keys() - tried)
                break
        return missing

    def _compute_cases(
        self, task: _Task, cases: Sequence[Case], errors: list[tuple[Case, Exception]]
    ) -> None:
        """Store the rows of cases of one shape; halved until those that fail are alone."""
        if not cases:
            return
        try:
            self._store(task, cases)
        except ChangedNetworkError:
            raise  # no case's fault
        except (UserError, MachineError) as error:
            if len(cases) == 1:
                errors.append((cases[0], error))
                return
            middle = len(cases) // 2
            self._compute_cases(task, cases[:middle], errors)
            self._compute_cases(task, cases[middle:], errors)

    def _store(self, task: _Task, cases: Sequence[Case]) -> None:
        cell, views = task.cell, task.views
        if cell.attack and isinstance(cell.attack.attack, TransferAttack):
            groups = self.sources.images(cell, cell.attack.attack, cases)
        else:
            groups = task.images.images(cell, views[0].key, cases, keep=self._keeps(cell))
        for some, attacked in groups:
            for view in views:
                lacking = [n for n, case in enumerate(some) if view in task.wanted[case.case_id]]
                if lacking:
                    rows = task.images.worker.score(
                        cell,
                        [some[n] for n in lacking],
                        attacked.pick(lacking),
                        quantized=view.quantized,
                    )
                    task.images.worker.network.require_unchanged()
                    constants = cell_constants(
                        self.subject, cell, self.workspace, quantized=view.quantized
                    )
                    append_shard(self.workspace, view.key, self.run, constants, rows)
                    self.listener.cases(len(lacking), 0)

    def _fail(self, cell: Cell | None, case_id: str, reason: str) -> None:
        point = (cell.budget.kind, cell.budget.eps) if cell and cell.attack else None
        self.failures.append(
            Failure(
                model=self.subject.name,
                attack=cell.label if cell else "",
                budget=eps_names([point])[point] if point else "",
                case_id=case_id,
                reason=reason,
            )
        )
        self.listener.warn(f"left out: {case_id}: {reason}")

    def _give_up(self, cell: Cell, error: Exception, rest: Set[str]) -> None:
        """A cell of which no case has succeeded; without clean scores nothing has a meaning."""
        if cell.attack is None:
            raise error
        self.errors.append(error)
        for case_id in sorted(rest):
            self._fail(cell, case_id, f"not tried, since no other case succeeded: {error}")


@dataclass(frozen=True, eq=False)
class _Task:
    """A cell to compute: ``wanted`` are the views that each of its cases lacks."""

    cell: Cell
    views: Sequence[View]
    wanted: Mapping[str, Sequence[View]]
    images: ImageStore


def plan_model(
    reference: ModelReference,
    data: DataSource,
    grid: Grid,
    workspace: Workspace,
    run: int,
    options: Options,
    listener: Listener,
) -> ModelRun:
    """Load a network, and find out what each of its cells and cases is known by.

    The cases are to be closed by whoever runs it.

    Raises:
        UserError, MachineError: the network or the data cannot be used.
    """
    for attack in grid.attacks:
        check_goal(data, attack)
    subject = load_subject(reference, data, options)
    cases = CaseCache(data.dataset, cut_shards(data.entries))
    try:
        index = CaseIndex(data.dataset, workspace)
        listener.busy(f"reading {len(data.entries)} cases of {data.spec}")
        known = index.know(cases)
        for attack in grid.attacks:
            check_targets(attack, {name: case.sha256 for name, case in known.items()})
        sources = Sources(data, workspace, run, options, listener.busy)
        fits = Fits(subject, workspace, options)
        cells = [
            (cell, _views(subject, cell, options, sources, fits)) for cell in expand_grid(grid)
        ]
    except BaseException:
        cases.close()
        raise
    return ModelRun(subject, workspace, run, options, listener, cases, index, known, sources, cells)


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

    Every shard is stored as soon as it is complete: interruption loses only the one in flight.

    Raises:
        UserError, MachineError: a case failed; every other one is stored.
    """
    planned = plan_model(reference, data, grid, workspace, run, options, listener)
    with closing(planned.cases):
        planned.compute()
    if planned.errors:
        raise planned.errors[0]
    if planned.failures:
        raise MachineError(planned.failures[0].reason)
    return [view.key for _, views in planned.cells for view in views]


def _views(
    subject: Subject, cell: Cell, options: Options, sources: Sources, fits: Fits
) -> list[View]:
    facts = cell_facts(subject, cell, options) | fits.facts(cell)
    if cell.attack and isinstance(cell.attack.attack, TransferAttack):
        facts["attack"] = transfer_facts(cell.attack, sources.workspace)
        facts["images"] = sources.key(cell, cell.attack.attack)
    views = [View(cell_key(facts))]
    if options.quantize and cell.attack:
        views.append(View(cell_key({**facts, "quantized": True}), quantized=True))
    return views
