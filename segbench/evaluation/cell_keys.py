"""The keys of a network's cells, of which a grid may have a hundred thousand.

What depends on the attack alone is described, and written down, once for all its cells.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from segbench.api import Budget, TransferAttack
from segbench.evaluation.cell import cell_facts, transfer_facts
from segbench.evaluation.certificate import Smoothing
from segbench.evaluation.fits import Fits
from segbench.evaluation.grid import Cell
from segbench.evaluation.request import Options
from segbench.evaluation.sources import Sources
from segbench.evaluation.subject import Subject
from segbench.plugins.attack import NamedAttack
from segbench.store.records import KEY_DIGITS, SharedDigest, canonical_text


class View(NamedTuple):
    """Rows of a cell: of its images as the attack left them, or on the levels of their files."""

    key: str
    quantized: bool = False


@dataclass(frozen=True)
class _Described:
    """The cells of one attack: their keys by what is their own, and the transfer it is, if any."""

    plain: SharedDigest
    quantized: SharedDigest
    transfer: TransferAttack | None


class CellKeys:
    """Finds the keys of one network's cells."""

    def __init__(self, subject: Subject, options: Options, sources: Sources, fits: Fits) -> None:
        self._subject, self._options = subject, options
        self._sources, self._fits = sources, fits
        self._known: dict[NamedAttack | Smoothing | None, _Described] = {}
        self._texts: dict[int | tuple[str, int, int], str] = {}

    def views(self, cell: Cell) -> list[View]:
        """Of a cell every view, the first under the key of its images.

        Raises:
            UserError, MachineError: what the cell needs of other cases or networks is not there.
        """
        named = cell.attack or cell.certificate
        known = self._known.get(named)
        if known is None:
            known = self._known[named] = self._describe(cell)
        own = {
            "budget": self._text_of_budget(cell.budget),
            "seed": self._text_of_seed(cell.seed),
        }
        if known.transfer is not None:
            own["images"] = canonical_text(self._sources.key(cell, known.transfer))
        views = [View(known.plain.of(own)[:KEY_DIGITS])]
        if self._options.quantize and cell.attack:
            views.append(View(known.quantized.of(own)[:KEY_DIGITS], quantized=True))
        return views

    def _text_of_seed(self, seed: int) -> str:
        """What a seed is in facts; a hundred thousand cells have but a few."""
        if seed not in self._texts:
            self._texts[seed] = canonical_text(seed)
        return self._texts[seed]

    def _text_of_budget(self, budget: Budget) -> str:
        """What a budget is in facts, looked up without its slow hash."""
        key = budget.kind, budget.value.numerator, budget.value.denominator
        if key not in self._texts:
            self._texts[key] = canonical_text([budget.kind, budget.value])
        return self._texts[key]

    def _describe(self, cell: Cell) -> _Described:
        facts = cell_facts(self._subject, cell, self._options) | self._fits.facts(cell)
        attack, varying = cell.attack, ["budget", "seed"]
        transfer: object = attack.attack if attack else None
        if attack is not None and isinstance(transfer, TransferAttack):
            facts["attack"] = transfer_facts(attack, self._sources.workspace)
            varying.append("images")
        else:
            transfer = None
        shared = {name: value for name, value in facts.items() if name not in varying}
        quantized = {**shared, "quantized": True}
        return _Described(SharedDigest(shared, varying), SharedDigest(quantized, varying), transfer)
