"""A prepared network, and what it makes of loaded cases."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from math import inf
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from segbench.api import Case
from segbench.api.marks import FITTED
from segbench.data.quantize import require_levels
from segbench.engine.batching import choose_batch_size
from segbench.evaluation.batch import Batch, collate
from segbench.evaluation.fits import Fits
from segbench.evaluation.grid import Cell
from segbench.evaluation.requested import Extra
from segbench.evaluation.score import attack_cases, predict_cases, rounded, score_cases
from segbench.evaluation.subject import Subject
from segbench.store.images import Attacked, join

if TYPE_CHECKING:
    from segbench.evaluation.request import Options


WORTH_STORING = 10.0
"""Seconds of work."""


class Worker:
    """One network on its data.

    Attributes:
        probe: cases of one shape that the network is made ready on, and asked again about.
    """

    def __init__(
        self,
        subject: Subject,
        probe: Sequence[Case],
        fits: Fits,
        options: Options,
        busy: Callable[[str], None],
    ) -> None:
        self.subject, self.fits, self.options, self.busy = subject, fits, options, busy
        self._sizes: dict[tuple[int, ...], int] = {}
        self._pace = inf  # seconds that a case takes to be scored
        if options.quantize:
            require_levels(probe[0])
        self.network = subject.prepare(probe, options)

    def attack(self, cell: Cell, cases: Sequence[Case], seconds: float = inf) -> Attacked:
        """The adversarial images of cases of one shape, or of the first of them.

        Args:
            cell: whose attack it is.
            cases: as many as there are.
            seconds: after which no further batch is begun.
        """
        fitted = self.fits.fitted(cell, self.network, self._size(cases), self.busy)
        begun, made = time.monotonic(), list[Attacked]()
        for _, batch in self._batches(cases):
            made.append(attack_cases(self.network, batch, cell, fitted))
            if time.monotonic() - begun > seconds:
                break
        return join(made)

    def score(
        self, cell: Cell, cases: Sequence[Case], attacked: Attacked, *, quantized: bool = False
    ) -> list[dict[str, Any]]:
        """The rows of cases of one shape under their images, as they are or on file levels."""
        rows = []
        for start, batch in self._batches(cases):
            some = attacked.part(start, start + len(batch.cases))
            some = rounded(batch, some) if quantized else some
            extra = Extra(self.options.boundary, self.options.lesions)
            rows += score_cases(self.network, batch, cell, some, extra)
        learnt = self.fits.learnt(cell.attack)
        for row in rows:
            if row["case_sha256"] in learnt:
                row["marks"] = f"{row['marks']} {FITTED}".strip()
        return rows

    def worth_scoring(self, cases: Sequence[Case]) -> int:
        """How many of these, in whole batches, are worth storing once they are scored."""
        size = self._size(cases)
        return max(size, int(WORTH_STORING / self._pace) // size * size)

    def scored(self, cases: int, seconds: float) -> None:
        """Remember how long it takes to score and to store one."""
        self._pace = max(seconds / cases, 1e-6)

    def with_labels(self, cell: Cell, cases: Sequence[Case], attacked: Attacked) -> Attacked:
        """The same with what the network makes of the images, and of the clean ones."""
        labels: list[Tensor] = []
        clean: list[Tensor] = []
        for start, batch in self._batches(cases):
            images = attacked.images[start : start + len(batch.cases)]
            labels.append(predict_cases(self.network, batch, cell, images))
            clean.append(predict_cases(self.network, batch, cell))
        return replace(attacked, labels=torch.cat(labels), clean_labels=torch.cat(clean))

    def _batches(self, cases: Sequence[Case]) -> Iterator[tuple[int, Batch]]:
        """Consecutive batches, each with the place of its first case."""
        size = self._size(cases)
        for start in range(0, len(cases), size):
            yield start, collate(cases[start : start + size], self.network)

    def _size(self, cases: Sequence[Case]) -> int:
        """Cases that are computed at once."""
        if self.network.one_by_one:
            return 1
        return self.options.batch_size or self._measured_size(cases[0])

    def _measured_size(self, case: Case) -> int:
        """Measured once per shape."""
        shape = case.image.shape
        if shape not in self._sizes:
            measured = torch.from_numpy(case.image)[None].to(self.network.device)
            self._sizes[shape] = choose_batch_size(self.network, measured)
        return self._sizes[shape]
