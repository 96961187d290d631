"""One network on its data, ready to work: what each of its cells is known by, and its pieces."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache

import torch

from segbench.api import Case, TransferAttack
from segbench.engine.network import ChangedNetworkError
from segbench.errors import MachineError, UserError
from segbench.evaluation.case_cache import CaseCache
from segbench.evaluation.case_index import CaseIndex, Known
from segbench.evaluation.cell import cell_constants
from segbench.evaluation.cell_keys import CellKeys, View
from segbench.evaluation.certify import certify_case, check_certificates
from segbench.evaluation.costs import place_of
from segbench.evaluation.draws import Draws
from segbench.evaluation.file_axes import axes_facts, axes_met
from segbench.evaluation.fits import Fits
from segbench.evaluation.goals import check_goal, check_targets
from segbench.evaluation.grid import Cell, Grid, cut_shards
from segbench.evaluation.picture import keep_telling
from segbench.evaluation.pieces import Outcome, Piece, Spent
from segbench.evaluation.request import DataSource, Listener, Options
from segbench.evaluation.sources import ImageStore, Sources
from segbench.evaluation.subject import Subject, load_subject
from segbench.evaluation.worker import Worker
from segbench.networks import ModelReference
from segbench.plugins.attack import NamedAttack
from segbench.store.garbage import none_expected
from segbench.store.images import Attacked
from segbench.store.index import RowIndex
from segbench.store.records import digest
from segbench.store.rows import append_shard
from segbench.store.workspace import Workspace


@dataclass(frozen=True, eq=False)
class ModelWork:
    """A loaded network, its cases and its cells.

    Attributes:
        known: every case that can be read.
        cases: loads them, shard by shard.
        cells: each cell with its views, the first under the key of its images.
        loading: seconds until the network was loaded.
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
    fits: Fits
    cells: Sequence[tuple[Cell, Sequence[View]]]
    loading: float = 0.0

    @property
    def keys(self) -> list[str]:
        """Of every view of every cell, in order."""
        return [view.key for _, views in self.cells for view in views]

    def fitted_on_own(self) -> Iterator[str]:
        """What relates the cases to those that the attacks are fitted on, in sentences."""
        for attack in dict.fromkeys(cell.attack for cell, _ in self.cells):
            learnt = self.fits.learnt(attack)
            own = sum(case.sha256 in learnt for case in self.known.values())
            if attack is not None and own:
                yield (
                    f"{attack.label} is fitted on cases of the train split, {own} of these "
                    f"{len(self.known)} among them; their rows are marked (--split test attacks "
                    "others)"
                )

    def keeps(self, cell: Cell) -> bool:
        """Whether its images are to be kept here; a transfer's are kept with its source's."""
        if not self.options.save_adversarial or cell.attack is None:
            return False
        return _transfer(cell.attack) is None

    def images_key(self, cell: Cell, views: Sequence[View]) -> str:
        """The key under which images of a cell are kept, where they are; "" of the clean one."""
        transfer = _transfer(cell.attack) if cell.attack else None
        if transfer is not None:
            return self.sources.key(cell, transfer)
        return views[0].key if cell.attack else ""

    def compute(self, piece: Piece) -> Outcome:
        """Attack and score the cases of a piece, and store their rows.

        Raises:
            MachineError: the network or its data are not what the piece was cut from.
        """
        cell, views = self.cells[piece.cell]
        if piece.keys != tuple(view.key for view in views):
            raise MachineError(
                f"{self.subject.name}, its attacks or its data were changed while the run went on"
            )
        ready = self._make_ready()
        begun = time.monotonic()
        lacking = self._left(piece) if piece.again else piece.lacking
        wanted = {name: [views[n] for n in places] for name, places in lacking.items()}
        task = _Task(cell, views, wanted)
        errors: list[tuple[str, UserError | MachineError]] = []
        tried: set[str] = set()
        for number, shard in enumerate(self.cases.shards):
            if any(entry.case_id in wanted for entry in shard):
                todo = [case for case in self.cases.load(number) if case.case_id in wanted]
                for case in todo:
                    self.index.verify(case)
                # A certificate is of one case; what it has drawn is not to be asked for again.
                for some in [[case] for case in todo] if cell.certificate else [todo]:
                    self._compute_cases(task, some, errors)
                tried |= {case.case_id for case in todo}
        unread = [(name, self.cases.unreadable[name]) for name in wanted if name not in tried]
        made = self._images.take_made() + self.sources.take_made() + self._draws.take_made()
        spent = Spent(
            place_of(self.subject.device, torch.get_num_threads()),
            time.monotonic() - begun,
            ready,
            made.cases,
            made.seconds,
            made.gradients,
            made.forwards,
        )
        return Outcome(piece, tuple(unread), tuple(errors), spent=spent)

    def _left(self, piece: Piece) -> Mapping[str, Sequence[int]]:
        """What a piece lacks, but for the rows that this run has stored."""
        contents = [self.known[name].sha256 for name in piece.lacking]
        done = RowIndex(self.workspace).finished(piece.keys, contents, runs=[self.run])
        return {
            name: [place for place in places if not done[place, column]]
            for column, (name, places) in enumerate(piece.lacking.items())
            if not places or not done[list(places), column].all()
        }

    def _make_ready(self) -> float:
        """Seconds that it took to load the network and to prepare it; 0 if it was there."""
        if "_images" in vars(self):
            return 0.0
        begun = time.monotonic()
        _ = self._images
        return self.loading + time.monotonic() - begun

    def _compute_cases(
        self,
        task: _Task,
        cases: Sequence[Case],
        errors: list[tuple[str, UserError | MachineError]],
    ) -> None:
        """Store the rows of cases of one shape; halved until those that fail are alone."""
        cases = [case for case in cases if case.case_id not in task.done]
        if not cases:
            return
        try:
            self._store(task, cases)
        except ChangedNetworkError:
            raise  # no case's fault
        except (UserError, MachineError) as error:
            cases = [case for case in cases if case.case_id not in task.done]
            if len(cases) == 1:
                errors.append((cases[0].case_id, error))
                return
            middle = len(cases) // 2
            self._compute_cases(task, cases[:middle], errors)
            self._compute_cases(task, cases[middle:], errors)

    def _store_certified(self, cell: Cell, key: str, case: Case) -> None:
        rows = certify_case(self._draws, cell, case)
        self._images.worker.network.require_unchanged()
        constants = cell_constants(self.subject, cell, self.workspace)
        append_shard(self.workspace, key, self.run, constants, rows)
        self.listener.cases(1, 0)

    def _store(self, task: _Task, cases: Sequence[Case]) -> None:
        cell, views = task.cell, task.views
        if cell.certificate:
            (case,) = cases
            self._store_certified(cell, views[0].key, case)
            return
        if cell.attack and isinstance(cell.attack.attack, TransferAttack):
            groups = self.sources.images(cell, cell.attack.attack, cases)
        else:
            groups = self._images.images(cell, views[0].key, cases, keep=self.keeps(cell))
        for made, attacked in groups:
            start = 0
            while start < len(made):
                some = made[start : start + self._images.worker.worth_scoring(made)]
                begun = time.monotonic()
                if self._score(task, some, attacked.part(start, start + len(some))):
                    self._images.worker.scored(len(some), time.monotonic() - begun)
                task.done.update(case.case_id for case in some)
                start += len(some)

    def _score(self, task: _Task, some: Sequence[Case], attacked: Attacked) -> int:
        """Store the rows of some cases under their images; how many (case, view) pairs."""
        cell, worker, pairs = task.cell, self._images.worker, 0
        for view in task.views:
            lacking = [n for n, case in enumerate(some) if view in task.wanted[case.case_id]]
            if not lacking:
                continue
            own, picked = [some[n] for n in lacking], attacked.pick(lacking)
            rows = worker.score(cell, own, picked, quantized=view.quantized)
            worker.network.require_unchanged()
            constants = cell_constants(self.subject, cell, self.workspace, quantized=view.quantized)
            if cell.attack and self.options.pictures and not view.quantized:
                # Before the rows: what fails here has none, and is said to have failed.
                keep_telling(worker, self.workspace, view.key, own, picked, rows)
            append_shard(self.workspace, view.key, self.run, constants, rows)
            if view is task.views[0]:
                self.listener.gradients(int(picked.backwards.sum()))
            self.listener.cases(len(lacking), 0)
            pairs += len(lacking)
            for case in own:
                task.wanted[case.case_id].remove(view)
        return pairs

    @cached_property
    def _images(self) -> ImageStore:
        """Made when the first piece comes: it makes the network ready for the engine."""
        probe = self.subject.probe()
        worker = Worker(self.subject, probe, self.fits, self.options, self.listener.busy)
        return ImageStore(worker, self.workspace, self.run, self.options)

    @cached_property
    def _draws(self) -> Draws:
        network, busy = self._images.worker.network, self.listener.busy
        fresh, sha256, axes = self.options.fresh, self.subject.sha256, self.subject.axes
        if axes:
            sha256 = digest({"network": sha256, **axes_facts(axes)})
        return Draws(network, sha256, self.workspace, fresh=fresh, busy=busy)


@dataclass(frozen=True, eq=False)
class _Task:
    """A cell to compute.

    Attributes:
        wanted: the views that each of its cases lacks.
        done: the cases that are done.
    """

    cell: Cell
    views: Sequence[View]
    wanted: Mapping[str, list[View]]
    done: set[str] = field(default_factory=set)


@lru_cache(maxsize=1000)
def _transfer(attack: NamedAttack) -> TransferAttack | None:
    """The attack where it is a transfer; of thousands of cells it is asked once."""
    plain: object = attack.attack
    return plain if isinstance(plain, TransferAttack) else None


@contextmanager
def open_work(
    reference: ModelReference,
    data: DataSource,
    grid: Grid,
    workspace: Workspace,
    run: int,
    options: Options,
    listener: Listener,
) -> Iterator[ModelWork]:
    """Load a network, and find out what each of its cells and cases is known by.

    Raises:
        UserError, MachineError: the network or the data cannot be used.
    """
    for attack in grid.attacks:
        check_goal(data, attack)
    begun = time.monotonic()
    subject = load_subject(reference, data, options)
    loading = time.monotonic() - begun
    check_certificates(grid.certificates, subject)
    cases = CaseCache(data.dataset, cut_shards(data.entries))
    try:
        index = CaseIndex(data.dataset, workspace)
        listener.busy(f"reading {len(data.entries)} cases of {data.spec}")
        known = index.know(cases)
        axes = axes_met(subject.model, ((n, c.sha256, c.axes) for n, c in known.items()))
        subject = replace(subject, axes=axes)
        for attack in grid.attacks:
            check_targets(attack, {name: case.sha256 for name, case in known.items()})
        sources = Sources(data, workspace, run, options, listener.busy)
        fits = Fits(subject, workspace, options)
        keys = CellKeys(subject, options, sources, fits)
        with none_expected():
            cells = [(cell, keys.views(cell)) for cell in grid.cells]
        yield ModelWork(
            subject,
            workspace,
            run,
            options,
            listener,
            cases,
            index,
            known,
            sources,
            fits,
            cells,
            loading,
        )
    finally:
        cases.close()
