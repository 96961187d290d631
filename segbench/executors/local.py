"""Cells on this machine, one after another; network and data are loaded once per model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any, Protocol

from segbench.adversarial import Attacked, keep_images, kept_shards, load_images
from segbench.api import Dataset, Entry, TransferAttack
from segbench.engine.memory import keep_freed_memory
from segbench.engine.precision import Policy, require_ieee_fp32
from segbench.errors import MachineError
from segbench.executors.case_cache import CaseCache
from segbench.executors.cells import cell_constants, cell_facts
from segbench.executors.sources import Sources
from segbench.executors.worker import Worker
from segbench.grid import Cell, Grid, cut_shards, expand_grid, take_cases
from segbench.references import LoadedModel, ModelReference
from segbench.store import Workspace, append_shard, cell_key, finished_shards


@dataclass(frozen=True)
class DataSource:
    """A data set with what identifies it: its spec text, split and the cases taken."""

    spec: str
    dataset: Dataset
    split: str
    entries: Sequence[Entry]


@dataclass(frozen=True)
class Options:
    """How to compute; nothing here changes a result but ``precision`` and ``boundary``.

    Attributes:
        batch_size: cases per batch, None to choose by measured memory.
        quantize: whether images rounded to their file's levels are scored too.
        save_adversarial: whether the images are kept.
    """

    precision: Policy = "auto"
    device: str | None = None
    batch_size: int | None = None
    boundary: bool = False
    quantize: bool = False
    save_adversarial: bool = False


class Listener(Protocol):
    """Told what happens; the command line shows it."""

    def model(self, name: str, shards: int) -> None:
        """A model's cells begin: so many shards in all."""
        ...

    def cell(self, model: str, cell: Cell) -> None:
        """A cell begins."""
        ...

    def busy(self, what: str) -> None:
        """Work goes on before a shard can be there: an epoch of a fit, images of a source."""
        ...

    def shard(self, computed: bool) -> None:
        """A shard is there: computed now, or found in the store."""
        ...


def select_data(spec: str, dataset: Dataset, split: str, limit: int | None) -> DataSource:
    """The cases of a split, at most ``limit`` of them, evenly spread."""
    return DataSource(spec, dataset, split, take_cases(dataset.entries(split), limit))


def run_model(
    reference: ModelReference,
    data: DataSource,
    grid: Grid,
    workspace: Workspace,
    options: Options,
    listener: Listener,
) -> list[str]:
    """Evaluate a model's cells, skipping shards that the store has; the keys of all its cells.

    Every shard is stored as soon as it is complete: interruption loses only the one in flight.
    """
    model = reference.load(data.dataset)
    keep_freed_memory()
    require_ieee_fp32()  # last: a network's own file may have asked torch for less
    shards = cut_shards(data.entries)
    sources = Sources(data, workspace, options, listener.busy)
    cells = [(cell, _views(model, data, cell, options, sources)) for cell in expand_grid(grid)]
    work = _find_work(cells, len(shards), workspace, options)
    listener.model(reference.name, len(work.keys) * work.shards)
    if work.missing or work.unkept:
        with closing(CaseCache(data.dataset, shards)) as cases:
            worker = Worker(reference.name, model, data, cases, workspace, options, listener.busy)
            _compute(worker, sources, work, listener)
    else:
        for _ in range(len(work.keys) * work.shards):
            listener.shard(computed=False)
    return work.keys


@dataclass(frozen=True)
class _View:
    """Rows of a cell: of its images as the attack left them, or on the levels of their files."""

    key: str
    quantized: bool = False


@dataclass(frozen=True)
class _Work:
    """A model's cells, each cut into as many ``shards``, and what the workspace lacks of them.

    Attributes:
        missing: (key, shard) whose rows are not stored.
        unkept: (key, shard) whose images are to be kept and are not.
    """

    cells: Sequence[tuple[Cell, Sequence[_View]]]
    shards: int
    missing: set[tuple[str, int]]
    unkept: set[tuple[str, int]]

    @property
    def keys(self) -> list[str]:
        """Of all views, in order."""
        return [view.key for _, views in self.cells for view in views]


def _find_work(
    cells: Sequence[tuple[Cell, Sequence[_View]]],
    shards: int,
    workspace: Workspace,
    options: Options,
) -> _Work:
    keys = [view.key for _, views in cells for view in views]
    keeping = [views[0].key for cell, views in cells if _keeps(cell, options)]
    return _Work(
        cells,
        shards,
        set(product(keys, range(shards))) - finished_shards(workspace),
        set(product(keeping, range(shards))) - kept_shards(workspace),
    )


def _compute(worker: Worker, sources: Sources, work: _Work, listener: Listener) -> None:
    """Make what is missing, shard by shard; each is stored before the next begins."""
    name, workspace = worker.network.name, worker.workspace
    for cell, views in work.cells:
        listener.cell(name, cell)
        constants = [
            cell_constants(
                name, worker.model, worker.data, cell, workspace, quantized=view.quantized
            )
            for view in views
        ]
        for n in range(work.shards):
            key = views[0].key
            if (key, n) in work.unkept or any((view.key, n) in work.missing for view in views):
                attacked = _images(worker, sources, cell, key, n, constants[0])
            for view, constant in zip(views, constants, strict=True):
                computed = (view.key, n) in work.missing
                if computed:
                    rows = worker.score(cell, n, attacked, quantized=view.quantized)
                    append_shard(workspace, view.key, n, constant, rows)
                listener.shard(computed)


def _views(
    model: LoadedModel, data: DataSource, cell: Cell, options: Options, sources: Sources
) -> list[_View]:
    facts = cell_facts(model, data, cell, options)
    if cell.attack and isinstance(cell.attack.attack, TransferAttack):
        facts["images"] = sources.key(cell, cell.attack.attack)
    views = [_View(cell_key(facts))]
    if options.quantize and cell.attack:
        views.append(_View(cell_key({**facts, "quantized": True}), quantized=True))
    return views


def _keeps(cell: Cell, options: Options) -> bool:
    """Whether its images are to be kept here; those of a transfer are kept with its source's."""
    own = cell.attack and not isinstance(cell.attack.attack, TransferAttack)
    return bool(own) and options.save_adversarial


def _images(
    worker: Worker,
    sources: Sources,
    cell: Cell,
    key: str,
    shard: int,
    record: Mapping[str, Any],
) -> Attacked:
    """The images of a shard: those that were kept, or made now and, if asked for, kept."""
    if cell.attack and isinstance(cell.attack.attack, TransferAttack):
        return sources.images(cell, cell.attack.attack, shard, worker.cases)
    attacked = load_images(worker.workspace, key, shard) if cell.attack else None
    if attacked is None:
        attacked = worker.attack(cell, shard)
        if _keeps(cell, worker.options):
            keep_images(worker.workspace, key, shard, record, attacked)
    return attacked


def check_writable(root: Path) -> None:
    """Refuse a folder that cannot be written before hours of work, not after.

    Raises:
        MachineError: it cannot be made or written.
    """
    probe = root / ".writable"
    try:
        root.mkdir(parents=True, exist_ok=True)
        probe.write_bytes(b"segbench")
        probe.unlink()
    except OSError as error:
        raise MachineError(f"folder {root} cannot be written: {error.strerror}") from error
