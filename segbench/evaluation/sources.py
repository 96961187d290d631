"""Adversarial images of cases: kept ones, or made now; and the networks transfers take them of."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from torch import Tensor

from segbench.api import Case, TransferAttack, WarpAttack
from segbench.atomic import shown
from segbench.engine import ball
from segbench.engine.returned import check_displacement
from segbench.engine.warp import warped
from segbench.errors import MachineError, UserError
from segbench.evaluation.batch import collate
from segbench.evaluation.cell import cell_constants, cell_facts
from segbench.evaluation.costs import Sums
from segbench.evaluation.fits import Fits
from segbench.evaluation.grid import Cell
from segbench.evaluation.regions import cell_region
from segbench.evaluation.request import DataSource, Options
from segbench.evaluation.subject import Subject, load_subject
from segbench.evaluation.transfer_source import find_source, source_cell
from segbench.evaluation.worker import WORTH_STORING, Worker
from segbench.store.images import Attacked, keep_images, kept_cases, load_images
from segbench.store.rows import cell_key
from segbench.store.workspace import Workspace

_WARPED_APART = 1e-4  # of the pixel range: what two machines make of one interpolation

Images = Iterator[tuple[list[Case], Attacked]]
"""Cases with their images, in groups that were made together, each made when it is asked for."""


class ImageStore:
    """The images of one network's cells on one data set.

    Attributes:
        run: the number of the run that makes what is missing.
    """

    def __init__(self, worker: Worker, workspace: Workspace, run: int, options: Options) -> None:
        self.worker, self.workspace, self.run, self.options = worker, workspace, run, options
        self._kept: tuple[str, dict[str, Path]] = ("", {})
        self._made = Sums()

    def images(self, cell: Cell, key: str, cases: Sequence[Case], *, keep: bool) -> Images:
        """The images of some cases of one shape; what was kept is checked like what is fresh.

        Raises:
            UserError: a kept file is not what it was, or the attack or network failed.
            MachineError: likewise.
        """
        kept = {} if self.options.fresh or cell.attack is None else self._kept_of(key)
        groups: dict[Path | None, list[Case]] = {}
        for case in cases:
            groups.setdefault(kept.get(case.sha256), []).append(case)
        for path, some in groups.items():
            if path:
                yield some, self._load(path, cell, some)
            else:
                yield from self._make_all(cell, key, some, keep)

    def _make_all(self, cell: Cell, key: str, cases: list[Case], keep: bool) -> Images:
        """In groups of whole batches that are worth storing: what is interrupted loses little."""
        while cases:
            attacked = self._make(cell, key, cases, keep)
            made = len(attacked.contents)
            yield cases[:made], attacked
            cases = cases[made:]

    def missing(self, key: str, contents: Sequence[str]) -> set[str]:
        """Which of the cases have no kept images, or are to be made anew."""
        return set(contents) - (set() if self.options.fresh else self._kept_of(key).keys())

    def take_made(self) -> Sums:
        """What was made since the last time that somebody asked."""
        made, self._made = self._made, Sums()
        return made

    def _kept_of(self, key: str) -> dict[str, Path]:
        if self._kept[0] != key:
            self._kept = key, kept_cases(self.workspace, key)
        return self._kept[1]

    def _make(self, cell: Cell, key: str, cases: Sequence[Case], keep: bool) -> Attacked:
        """Of the first of the cases, as many as were made in the time."""
        begun = time.monotonic()
        attacked = self.worker.attack(cell, cases, WORTH_STORING)
        cases = cases[: len(attacked.contents)]
        if cell.attack:
            seconds = time.monotonic() - begun
            gradients, forwards = attacked.backwards.sum(), attacked.forwards.sum()
            self._made += Sums(len(cases), seconds, int(gradients), int(forwards))
        if keep:
            self.worker.network.require_unchanged()
            if self.options.save_adversarial:
                attacked = self.worker.with_labels(cell, cases, attacked)
            record = cell_constants(self.worker.subject, cell, self.workspace)
            keep_images(self.workspace, key, self.run, record, attacked)
        return attacked

    def _load(self, path: Path, cell: Cell, cases: Sequence[Case]) -> Attacked:
        attacked = load_images(path, [case.sha256 for case in cases])
        assert cell.attack is not None, "clean images are not kept"
        batch = collate(cases, self.worker.network)
        clean, region = batch.images.cpu(), cell_region(cell, batch)
        try:
            if attacked.contents != tuple(case.sha256 for case in cases):
                raise MachineError("they are of other cases")
            if attacked.images.shape != clean.shape or attacked.images.dtype != clean.dtype:
                raise MachineError(f"they have the shape {tuple(attacked.images.shape)}")
            _check_moves(cell, attacked, clean)
            region = None if region is None else region.cpu()
            ball.check(attacked.images, clean, cell.budget, cell.label, batch.case_ids, region)
        except MachineError as error:
            raise UserError(
                f"the images kept in {shown(path)} are not those of {cell.label} ({error}); "
                "delete it and run the same command again"
            ) from None
        return replace(attacked, case_ids=batch.case_ids)


def _check_moves(cell: Cell, attacked: Attacked, clean: Tensor) -> None:
    """Refuse kept images that are not the clean ones moved as is kept beside them.

    Raises:
        MachineError: they are not; or only one of attack and file knows of a displacement.
    """
    assert cell.attack is not None
    moves = attacked.displacement
    if isinstance(cell.attack.attack, WarpAttack) != (moves is not None):
        raise MachineError("how they were moved is not kept beside them")
    if moves is not None:
        check_displacement(moves, clean)
        if (warped(clean, moves).clamp(0, 1) - attacked.images).abs().amax() > _WARPED_APART:
            raise MachineError("they were not moved as is kept beside them")


class Sources:
    """Source networks on one data set, each loaded, and prepared, when it is first needed."""

    def __init__(
        self,
        data: DataSource,
        workspace: Workspace,
        run: int,
        options: Options,
        busy: Callable[[str], None],
    ) -> None:
        self.data, self.workspace, self.run = data, workspace, run
        self.options, self.busy = options, busy
        self._subjects: dict[str, Subject] = {}
        self._stores: dict[str, ImageStore] = {}

    def key(self, cell: Cell, attack: TransferAttack) -> str:
        """The source's cell, under whose key the images are kept."""
        own = source_cell(cell, attack)
        subject = self._subject(attack.source)
        fits = Fits(subject, self.workspace, self.options)
        return cell_key(cell_facts(subject, own, self.options) | fits.facts(own))

    def images(self, cell: Cell, attack: TransferAttack, cases: Sequence[Case]) -> Images:
        """The images of some cases, as they were kept, or made and kept now."""
        subject, own = self._subject(attack.source), source_cell(cell, attack)
        if subject.name not in self._stores:
            fits = Fits(subject, self.workspace, self.options)
            worker = Worker(subject, subject.probe(), fits, self.options, self.busy)
            self._stores[subject.name] = ImageStore(worker, self.workspace, self.run, self.options)
        store, key = self._stores[subject.name], self.key(cell, attack)
        if store.missing(key, [case.sha256 for case in cases]):
            self.busy(f"making images against {subject.name}")
        return store.images(own, key, cases, keep=True)

    def take_made(self) -> Sums:
        """What was made against them since the last time that somebody asked."""
        return sum((store.take_made() for store in self._stores.values()), Sums())

    def _subject(self, text: str) -> Subject:
        if text not in self._subjects:
            reference = find_source(text, self.workspace)
            self._subjects[text] = load_subject(reference, self.data, self.options)
        return self._subjects[text]
