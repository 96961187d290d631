"""A prepared network and the loaded cases that it attacks and scores."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import torch

from segbench.api import FittedAttack
from segbench.data.quantize import require_levels
from segbench.engine.batching import choose_batch_size
from segbench.errors import UserError
from segbench.evaluation.batch import Batch, collate
from segbench.evaluation.case_cache import CaseCache
from segbench.evaluation.cell import cell_facts
from segbench.evaluation.fitting import Fit, Fitted, fit_path
from segbench.evaluation.grid import Cell, take_cases
from segbench.evaluation.prepare import prepare_network
from segbench.evaluation.score import attack_cases, rounded, score_cases
from segbench.networks import LoadedModel
from segbench.store.images import Attacked, join
from segbench.store.rows import cell_key
from segbench.store.workspace import Workspace

if TYPE_CHECKING:
    from segbench.evaluation.request import DataSource, Options


class Worker:
    """One network on one data set, whose cases come in shards; each is loaded once."""

    def __init__(
        self,
        name: str,
        model: LoadedModel,
        data: DataSource,
        cases: CaseCache,
        workspace: Workspace,
        options: Options,
        busy: Callable[[str], None],
    ) -> None:
        self.model, self.data, self.cases, self.busy = model, data, cases, busy
        self.workspace, self.options = workspace, options
        self._fits: dict[str, Fitted] = {}
        self.fingerprint = data.dataset.fingerprint()
        self._sizes: dict[tuple[int, ...], int] = {}
        first = self.cases.load(0)
        if options.quantize:
            require_levels(first[0])
        self.network = prepare_network(name, model, data, first[:2], options)

    def attack(self, cell: Cell, shard: int) -> Attacked:
        """The adversarial images of one shard of a cell."""
        fitted = self._fitted(cell)
        return join(
            [
                attack_cases(self.network, batch, cell, self.fingerprint, fitted)
                for _, batch in self._batches(shard)
            ]
        )

    def score(
        self, cell: Cell, shard: int, attacked: Attacked, *, quantized: bool = False
    ) -> list[dict[str, Any]]:
        """The rows of one shard of a cell under its images, as they are or on file levels."""
        rows = []
        for start, batch in self._batches(shard):
            some = attacked.part(start, start + len(batch.cases))
            some = rounded(batch, some) if quantized else some
            rows += score_cases(
                self.network,
                batch,
                cell,
                some,
                self.fingerprint,
                boundary=self.options.boundary,
            )
        return rows

    def _fitted(self, cell: Cell) -> Fitted | None:
        """What a fitted attack has learnt of the train split; None for every other attack."""
        attack: object = cell.attack.attack if cell.attack else None
        if not isinstance(attack, FittedAttack):
            return None
        entries = take_cases(self.data.dataset.entries("train"), attack.schedule().cases)
        shapes = {entry.shape for entry in (*entries, *self.data.entries)}
        if len(shapes) > 1:
            raise UserError(
                f"attack {cell.label} makes one perturbation for all images, and these have the "
                f"shapes {', '.join(map(str, sorted(shapes)))}; bring them to one with size="
            )
        facts = cell_facts(self.model, self.data, cell, self.options)
        names = [entry.case_id for entry in entries]
        facts |= {"split": "train", "cases": names, "boundary": False, "fit": True}
        key = cell_key(facts)
        if key not in self._fits:
            cases = [self.data.dataset.load(name) for name in names]
            size = self._size(0)
            fit = Fit(self.network, cell, attack, cases, self.fingerprint, size, self.busy)
            self._fits = {key: fit.run(fit_path(self.workspace, key))}
        return self._fits[key]

    def _batches(self, shard: int) -> Iterator[tuple[int, Batch]]:
        """Consecutive batches of a shard, each with the place of its first case."""
        cases = self.cases.load(shard)
        size = self._size(shard)
        for start in range(0, len(cases), size):
            yield start, collate(cases[start : start + size], self.network)

    def _size(self, shard: int) -> int:
        """Cases that are computed at once."""
        if self.network.one_by_one:
            return 1
        return self.options.batch_size or self._batch_size(shard)

    def _batch_size(self, shard: int) -> int:
        """Measured once per shape."""
        image = self.cases.load(shard)[0].image
        if image.shape not in self._sizes:
            measured = torch.from_numpy(image)[None].to(self.network.device)
            self._sizes[image.shape] = choose_batch_size(self.network, measured)
        return self._sizes[image.shape]
