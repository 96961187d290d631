"""The networks that transfer attacks take their images from; every image is made once and kept."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from segbench.api import TransferAttack
from segbench.evaluation.case_cache import CaseCache
from segbench.evaluation.cell import cell_constants, cell_facts
from segbench.evaluation.grid import Cell
from segbench.evaluation.transfer_source import find_source, source_cell
from segbench.evaluation.worker import Worker
from segbench.networks import CheckpointReference, LoadedModel
from segbench.store.images import Attacked, keep_images, load_images
from segbench.store.rows import cell_key
from segbench.store.workspace import Workspace

if TYPE_CHECKING:
    from segbench.evaluation.request import DataSource, Options


class Sources:
    """Source networks on one data set, each loaded, and prepared, when it is first needed."""

    def __init__(
        self,
        data: DataSource,
        workspace: Workspace,
        options: Options,
        busy: Callable[[str], None],
    ) -> None:
        self.data, self.workspace, self.options, self.busy = data, workspace, options, busy
        self._models: dict[str, tuple[CheckpointReference, LoadedModel]] = {}
        self._workers: dict[str, Worker] = {}

    def key(self, cell: Cell, attack: TransferAttack) -> str:
        """The source's cell, under whose key the images are kept."""
        _, model = self._model(attack.source)
        return cell_key(cell_facts(model, self.data, source_cell(cell, attack), self.options))

    def images(self, cell: Cell, attack: TransferAttack, shard: int, cases: CaseCache) -> Attacked:
        """The images of a shard, as they were kept, or made and kept now."""
        key = self.key(cell, attack)
        attacked = load_images(self.workspace, key, shard)
        if attacked is None:
            reference, model = self._model(attack.source)
            if reference.name not in self._workers:
                self._workers[reference.name] = Worker(
                    reference.name, model, self.data, cases, self.workspace, self.options, self.busy
                )
            own = source_cell(cell, attack)
            self.busy(f"making the images of shard {shard + 1} against {reference.name}")
            attacked = self._workers[reference.name].attack(own, shard)
            record = cell_constants(reference.name, model, self.data, own, self.workspace)
            keep_images(self.workspace, key, shard, record, attacked)
        return attacked

    def _model(self, text: str) -> tuple[CheckpointReference, LoadedModel]:
        if text not in self._models:
            reference = find_source(text, self.workspace.root)
            self._models[text] = reference, reference.load(self.data.dataset)
        return self._models[text]
