"""Cells on this machine, one after another; network and data are loaded once per model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import product
from typing import Any

from segbench.api import TransferAttack
from segbench.engine.memory import keep_freed_memory
from segbench.engine.precision import require_ieee_fp32
from segbench.evaluation.case_cache import CaseCache
from segbench.evaluation.cell import cell_constants, cell_facts
from segbench.evaluation.grid import Cell, Grid, cut_shards, expand_grid
from segbench.evaluation.request import DataSource, Listener, Options
from segbench.evaluation.sources import Sources
from segbench.evaluation.worker import Worker
from segbench.networks import LoadedModel, ModelReference
from segbench.store.images import Attacked, keep_images, kept_shards, load_images
from segbench.store.rows import append_shard, cell_key, finished_shards
from segbench.store.workspace import Workspace


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
