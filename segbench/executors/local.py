"""Cells on this machine, one after another; network and data are loaded once per model."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import nn

from segbench import __version__, rowfile
from segbench.api import Dataset, Entry
from segbench.engine.batching import choose_batch_size
from segbench.engine.memory import keep_freed_memory
from segbench.engine.network import Network
from segbench.engine.precision import Policy, choose_device, choose_precision, require_ieee_fp32
from segbench.errors import MachineError, UserError
from segbench.evaluate import collate, evaluate_batch, in_batches
from segbench.executors.case_cache import CaseCache
from segbench.grid import Cell, Grid, cut_shards, expand_grid, take_cases
from segbench.own_network import adapt_network
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
    """

    precision: Policy = "auto"
    device: str | None = None
    batch_size: int | None = None
    boundary: bool = False


class Listener(Protocol):
    """Told what happens; the command line shows it."""

    def model(self, name: str, shards: int) -> None:
        """A model's cells begin: so many shards in all."""
        ...

    def cell(self, model: str, cell: Cell) -> None:
        """A cell begins."""
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
    cells, shards = list(expand_grid(grid)), cut_shards(data.entries)
    keys = [_key(model, data, cell, options) for cell in cells]
    done = finished_shards(workspace)
    wanted = [(key, n) for key in keys for n in range(len(shards))]
    listener.model(reference.name, len(wanted))
    if done.issuperset(wanted):
        for _ in wanted:
            listener.shard(computed=False)
        return keys
    with closing(CaseCache(data.dataset, shards)) as cases:
        worker = _Worker(reference.name, model, data, cases, options)
        for key, cell in zip(keys, cells, strict=True):
            listener.cell(reference.name, cell)
            constants = _constants(reference.name, model, data, cell)
            for n in range(len(shards)):
                computed = (key, n) not in done
                if computed:
                    append_shard(workspace, key, n, constants, worker.evaluate(cell, n))
                listener.shard(computed)
    return keys


class _Worker:
    """A prepared network and the cases it is evaluated on."""

    def __init__(
        self,
        name: str,
        model: LoadedModel,
        data: DataSource,
        cases: CaseCache,
        options: Options,
    ) -> None:
        device = choose_device(options.device)
        self.cases, self.options = cases, options
        self.fingerprint = data.dataset.fingerprint()
        module, marks = _adapted(name, model, data, device)
        policy = "fp32" if model.exact or marks else options.precision
        precision = choose_precision(device, policy)
        classes = len(data.dataset.class_names)
        self.network = Network(name, module, classes, device, precision, marks=marks)
        self._sizes: dict[tuple[int, ...], int] = {}
        probe = torch.stack([torch.from_numpy(case.image) for case in self.cases.load(0)[:2]])
        self.network.prepare(probe.to(device))

    def evaluate(self, cell: Cell, shard: int) -> list[dict[str, Any]]:
        """The rows of one shard of a cell."""
        cases = self.cases.load(shard)
        size = self.options.batch_size or self._batch_size(shard)
        if self.network.one_by_one:
            size = 1
        return in_batches(
            cases,
            size,
            lambda some: evaluate_batch(
                self.network,
                collate(some, self.network),
                cell,
                self.fingerprint,
                boundary=self.options.boundary,
            ),
        )

    def _batch_size(self, shard: int) -> int:
        """Measured once per shape."""
        image = self.cases.load(shard)[0].image
        if image.shape not in self._sizes:
            measured = torch.from_numpy(image)[None].to(self.network.device)
            self._sizes[image.shape] = choose_batch_size(self.network, measured)
        return self._sizes[image.shape]


def _adapted(
    name: str, model: LoadedModel, data: DataSource, device: torch.device
) -> tuple[nn.Module, tuple[str, ...]]:
    """The network, a user's own one adapted to the data; and its marks."""
    if not model.own:
        return model.module, ()
    shapes = {entry.shape for entry in data.entries}
    try:
        adapted = adapt_network(model.module, shapes, model.normalization, device)
    except UserError as error:
        raise UserError(f"model {name}: {error}") from error
    return adapted.module, adapted.marks


def _key(model: LoadedModel, data: DataSource, cell: Cell, options: Options) -> str:
    """The hash of all that determines a cell's rows."""
    attack = cell.attack
    return cell_key(
        {
            "schema": rowfile.SCHEMA_VERSION,
            "engine": __version__,
            "weights": model.weights_sha256,
            "architecture": model.facts,
            "attack": cell.label,
            "attack_parameters": attack.parameters if attack else {},
            "attack_package": [attack.plugin.distribution, attack.plugin.version] if attack else [],
            "budget": [cell.budget.kind, cell.budget.value],
            "seed": cell.seed,
            "data": data.spec,
            "data_fingerprint": data.dataset.fingerprint(),
            "split": data.split,
            "cases": [entry.case_id for entry in data.entries],
            "precision": options.precision if attack else "fp32",
            "boundary": options.boundary,
        }
    )


def _constants(
    name: str, model: LoadedModel, data: DataSource, cell: Cell
) -> dict[str, str | float | int]:
    return {
        "model": name,
        "weights_sha256": model.weights_sha256,
        "dataset": data.spec,
        "dataset_fingerprint": data.dataset.fingerprint(),
        "split": data.split,
        "attack": cell.label,
        "attack_params": cell.attack.parameters_text if cell.attack else "{}",
        "budget_kind": cell.budget.kind,
        "budget": cell.budget.eps,
        "seed": cell.seed,
    }


def check_writable(root: Path) -> None:
    """Refuse a workspace that cannot be written before hours of work, not after.

    Raises:
        MachineError: it cannot be made or written.
    """
    probe = root / ".writable"
    try:
        root.mkdir(parents=True, exist_ok=True)
        probe.write_bytes(b"segbench")
        probe.unlink()
    except OSError as error:
        raise MachineError(f"workspace {root} cannot be written: {error.strerror}") from error
