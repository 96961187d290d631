"""What fitted attacks have learnt of the train split, each fit made once and kept."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from typing import Any

from segbench.api import Entry, FittedAttack, TransferAttack
from segbench.atomic import remove
from segbench.engine.network import Network
from segbench.errors import UserError
from segbench.evaluation.case_cache import CaseCache
from segbench.evaluation.case_index import CaseIndex, Known
from segbench.evaluation.cell import cell_facts
from segbench.evaluation.file_axes import axes_facts, axes_met
from segbench.evaluation.fitting import Fit, Fitted, fit_path
from segbench.evaluation.grid import Cell, cut_shards, take_cases
from segbench.evaluation.request import Options
from segbench.evaluation.subject import Subject
from segbench.plugins.attack import NamedAttack, load_attack
from segbench.store.records import digest
from segbench.store.rows import cell_key
from segbench.store.workspace import Workspace


class Fits:
    """The fits of one network on one data set."""

    def __init__(self, subject: Subject, workspace: Workspace, options: Options) -> None:
        self.subject, self.workspace, self.options = subject, workspace, options
        self._fits: dict[str, Fitted] = {}
        self._contents: dict[int, str] = {}
        self._learnt: dict[int, frozenset[str]] = {}
        self._made: set[str] = set()

    def facts(self, cell: Cell) -> dict[str, Any]:
        """What a fit adds to the facts of its cell: the cases it is made on. Else nothing.

        Raises:
            UserError: they are not all of the shape of those to be attacked, or one is unreadable.
        """
        attack: object = cell.attack.attack if cell.attack else None
        if not isinstance(attack, FittedAttack):
            return {}
        count = attack.schedule().cases
        if count not in self._contents:
            self._contents[count] = self._hash_cases(cell, count)
        # Rows of one that was fitted on their own case once bore no mark of it, and all of them
        # once named the network's precision in place of the fit's.
        return {"fitted_on": self._contents[count], "marked": True, "gradients_of": "fit"}

    def learnt(self, attack: NamedAttack | None) -> frozenset[str]:
        """The contents of the cases that an attack is fitted on, be it a transfer's; else none."""
        inner: object = attack.attack if attack else None
        if isinstance(inner, TransferAttack):
            inner = load_attack(inner.attack).attack
        if not isinstance(inner, FittedAttack):
            return frozenset()
        count = inner.schedule().cases
        if count not in self._learnt:
            known = self._know(take_cases(self.subject.data.dataset.entries("train"), count))
            self._learnt[count] = frozenset(case.sha256 for case in known.values())
        return self._learnt[count]

    def fitted(
        self, cell: Cell, network: Network, size: int, busy: Callable[[str], None]
    ) -> Fitted | None:
        """What a fitted attack has learnt, ``size`` cases at a time; None for any other attack."""
        attack: object = cell.attack.attack if cell.attack else None
        if not isinstance(attack, FittedAttack):
            return None
        facts = cell_facts(self.subject, cell, self.options) | self.facts(cell) | {"fit": True}
        del facts["marked"], facts["gradients_of"]  # what is learnt is the same
        key = cell_key(facts)
        if key not in self._fits:
            dataset = self.subject.data.dataset
            entries = take_cases(dataset.entries("train"), attack.schedule().cases)
            cases = [dataset.load(entry.case_id) for entry in entries]
            fit, path = Fit(network, cell, attack, cases, size, busy), fit_path(self.workspace, key)
            self.workspace.refresh(path.parent)
            if self.options.fresh and key not in self._made:
                remove(path)
            self._made.add(key)
            self._fits = {key: fit.run(path)}
        return self._fits[key]

    def _hash_cases(self, cell: Cell, count: int) -> str:
        data = self.subject.data
        entries = take_cases(data.dataset.entries("train"), count)
        shapes = {entry.shape for entry in (*entries, *data.entries)}
        if len(shapes) > 1:
            raise UserError(
                f"attack {cell.label} makes one perturbation for all images, and these have the "
                f"shapes {', '.join(map(str, sorted(shapes)))}; bring them to one with size="
            )
        learnt = self._know(entries)
        axes = axes_met(self.subject.model, ((n, c.sha256, c.axes) for n, c in learnt.items()))
        return digest({"cases": [case.sha256 for case in learnt.values()], **axes_facts(axes)})

    def _know(self, entries: Sequence[Entry]) -> Mapping[str, Known]:
        """Case id -> what each of these cases is known by.

        Raises:
            UserError: one cannot be read.
        """
        dataset = self.subject.data.dataset
        with closing(CaseCache(dataset, cut_shards(entries))) as cases:
            known = CaseIndex(dataset, self.workspace).know(cases)
            if cases.unreadable:
                raise UserError(next(iter(cases.unreadable.values())))
        return {entry.case_id: known[entry.case_id] for entry in entries}
