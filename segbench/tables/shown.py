"""Which of the stored rows a table shows, and under which names.

Rows are known by cell, case and class, and bear the names they were computed under. What a table
shows is what a run asked for, under the names it asked with: a network that was given another name,
a case that lies in another split or file, is found all the same, and shown as what it is now.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from pandas import Categorical, CategoricalDtype, DataFrame, unique

from segbench.api.marks import CONSTANT, OTHER_DATA, TRAINED
from segbench.metrics.numbering import number_of
from segbench.store.runs import Asked, RunRecord
from segbench.tables.asked import DataSet, Subject, data_sets
from segbench.tables.texts import by_key, compact, stack, tidy

_SLOT = ["attack", "attack_params", "budget_kind", "budget", "seed"]
_NAMES = ["model", "dataset", "dataset_fingerprint", "split", "case_id", "group_id"]

Numbers = NDArray[np.int64]


@dataclass(frozen=True)
class LeftOut:
    """Rows of a name that are not shown, and whether others of that name are."""

    rows: int
    shown: bool


@dataclass(frozen=True)
class Missing:
    """Scores, each of a cell on a case, that a run has asked for last and that are not there."""

    model: str
    run_id: str
    state: str
    scores: int


@dataclass(frozen=True, eq=False)
class Shown:
    """The rows of a table.

    Attributes:
        left_out: of each model what is not shown.
        unasked: rows that no run's record asks for.
        settings: of each model that has a card, the SHA-256 of its training's settings.
        missing: what was asked for last and is not there.
        spans: of each data set and split, least and greatest of what [0, 1] stands for in its
            files.
    """

    rows: DataFrame
    left_out: Mapping[str, LeftOut] = field(default_factory=dict)
    unasked: int = 0
    settings: Mapping[str, str] = field(default_factory=dict)
    missing: Sequence[Missing] = ()
    spans: Mapping[tuple[str, str], tuple[float, float]] = field(default_factory=dict)


def rows_of_runs(rows: DataFrame, records: Sequence[RunRecord]) -> Shown:
    """Exactly what runs asked for, whoever computed it and whenever."""
    subjects: dict[tuple[str, str, str, str], list[Asked]] = {}
    for one in (one for record in records for one in record.asked):
        key = one.model, one.network_sha256, one.dataset, one.split
        subjects.setdefault(key, []).append(one)
    stored = _Stored(rows)
    parts = [_named(stored, Subject(asked), DataSet(asked)) for asked in subjects.values()]
    return Shown(_joined(stored, parts), settings=_settings(records), spans=_spans(records))


def last_asked(rows: DataFrame, records: Sequence[RunRecord], *, every: bool = False) -> Shown:
    """Per name and data the network that was asked about last; with ``every``, all of them.

    Of a network all that was ever asked of it is shown, each score by the latest cell that was
    asked for under that attack, budget and seed, on the cases as they were asked for last.
    """
    subjects: dict[tuple[str, str, DataSet], dict[str, Subject]] = {}
    for data in data_sets([one for record in records for one in record.asked]):
        for one in data.asked:
            networks = subjects.setdefault((one.model, one.split, data), {})
            before = networks.pop(one.network_sha256, None)  # the last one asked about comes last
            networks[one.network_sha256] = Subject([*(before.asked if before else ()), one])
    parts: list[DataFrame] = []
    of_name: dict[str, set[str]] = {}
    shown: dict[str, list[Numbers]] = {}
    stored = _Stored(rows)
    run_of = {id(one): record for record in records for one in record.asked}
    missing: list[Missing] = []
    for (model, _, data), networks in subjects.items():
        for subject in networks.values():
            of_name.setdefault(model, set()).update(subject.cells)
        for subject in [*networks.values()][0 if every else -1 :]:
            part = _named(stored, subject, data)
            parts.append(part)
            shown.setdefault(model, []).append(part["row"].to_numpy())
            if scores := stored.count_missing(subject.last.cells, subject.present(data)):
                run = run_of[id(subject.last)]
                missing.append(Missing(model, run.run_id, run.state, scores))
    asked = set().union(*of_name.values()) if of_name else set()
    return Shown(
        _joined(stored, parts),
        _count_left_out(stored, of_name, shown),
        int((stored.places(asked) < 0).sum()),
        _settings(records),
        missing,
        _spans(records),
    )


class _Stored:
    """The stored rows, which may be a million; their cells and contents as numbers.

    Attributes:
        cells: the number of each row's, (N,).
        slots: the number of each row's attack, budget and seed, (N,).
    """

    def __init__(self, rows: DataFrame) -> None:
        self.rows = compact(rows)
        cells, contents = (self.rows[name].cat for name in ("cell", "case_sha256"))
        self._contents = contents.categories.tolist()
        self._cells = {cell: number for number, cell in enumerate(cells.categories.tolist())}
        self.cells = cells.codes.to_numpy(np.int64)
        self.slots = number_of(self.rows, _SLOT)

    @cached_property
    def _scores(self) -> tuple[Numbers, Numbers]:
        """The cell and the content of every score."""
        contents = self.rows["case_sha256"].cat.codes.to_numpy(np.int64)
        size = max(1, len(self._contents))
        cell, content = np.divmod(unique(self.cells * size + contents), size)
        return cell, content

    def places(self, cells: Iterable[str]) -> Numbers:
        """Of each row the place of its cell among some, -1 for none; (N,)."""
        return self._place_of(cells)[self.cells]

    def count_missing(self, cells: Iterable[str], contents: set[str]) -> int:
        """How many scores of these cells on these contents are not stored."""
        wanted = {*cells}
        cell, content = self._scores
        there = np.array([content in contents for content in self._contents], bool)
        found = (self._place_of(wanted)[cell] >= 0) & there[content]
        return len(wanted) * len(contents) - int(found.sum())

    def _place_of(self, cells: Iterable[str]) -> Numbers:
        """Of each number of a cell its place among some, -1 for none."""
        places = np.full(len(self._cells), -1, np.int64)
        for place, cell in enumerate(cells):
            number = self._cells.get(cell)
            if number is not None:
                places[number] = place
        return places


def _named(stored: _Stored, subject: Subject, data: DataSet) -> DataFrame:
    """Which rows are a subject's, and what they are called by now.

    Returns:
        ``row`` (a place in the stored rows), and ``_NAMES`` and ``marks`` as categories: as the
        network was asked about, and as its cases are called.
    """
    chosen = _chosen(stored, subject)
    part = stored.rows[["case_sha256", "marks"]].iloc[chosen].assign(row=chosen)
    cases = DataFrame(
        [(case.sha256, case.case_id, case.group_id, case.trained) for case in subject.cases(data)],
        columns=["case_sha256", "case_id", "group_id", "trained"],
    )
    cases = cases[cases["case_sha256"].isin(part["case_sha256"].cat.categories)]
    cases = compact(cases).astype({"case_sha256": part["case_sha256"].dtype})
    part = part.merge(cases, on="case_sha256")
    last = subject.last
    of_all = last.other_data * OTHER_DATA, bool(last.constant) * CONSTANT
    marks = by_key(
        part,
        ["marks", "trained"],
        lambda own, trained: " ".join(filter(None, (own, trained * TRAINED, *of_all))),
    )
    names = {name: getattr(last, name) for name in _NAMES[:4]}
    names["dataset_fingerprint"] = data.fingerprint
    nothing = np.zeros(len(part), np.int8)
    same = {
        name: Categorical.from_codes(nothing, dtype=CategoricalDtype([text]))
        for name, text in names.items()
    }
    return part.assign(**same, marks=marks)[["row", *_NAMES, "marks"]]


def _chosen(stored: _Stored, subject: Subject) -> Numbers:
    """The rows of its cells; of cells alike in attack, budget and seed those asked for last."""
    place = stored.places(subject.cells)
    there = np.flatnonzero(place >= 0)
    own, slots = place[there], stored.slots
    latest = np.full(len(slots) and int(slots.max()) + 1, -1, np.int64)
    np.maximum.at(latest, slots[there], own)
    last = np.zeros(len(subject.cells), bool)
    last[latest[latest >= 0]] = True
    return there[last[own]]


def _joined(stored: _Stored, parts: Sequence[DataFrame]) -> DataFrame:
    """Those rows, under the names and with the marks that they have by now."""
    rows, full = stored.rows, [part for part in parts if not part.empty]
    if not full:
        return tidy(rows.iloc[:0])
    found = stack(full)
    places = found["row"].to_numpy()
    everything = np.array_equal(places, np.arange(len(rows)))
    columns = {
        str(name): found[name].array
        if name in found
        else rows[name].array
        if everything
        else rows[name].array.take(places)
        for name in rows
    }
    return tidy(DataFrame(columns, copy=False))


def _count_left_out(
    stored: _Stored,
    of_name: Mapping[str, set[str]],
    shown: Mapping[str, Sequence[Numbers]],
) -> dict[str, LeftOut]:
    """Of each name its rows of other networks, of edited attacks, and of cases that are others."""
    found = {}
    for model, cells in sorted(of_name.items()):
        hidden = stored.places(cells) >= 0
        seen = np.concatenate(shown[model])
        hidden[seen] = False
        if hidden.any():
            found[model] = LeftOut(int(hidden.sum()), bool(len(seen)))
    return found


def _spans(records: Iterable[RunRecord]) -> dict[tuple[str, str], tuple[float, float]]:
    asked = [one for record in records for one in record.asked]
    return {(one.dataset, one.split): one.spans for one in asked if one.spans}


def _settings(records: Iterable[RunRecord]) -> dict[str, str]:
    asked = [one for record in records for one in record.asked]
    return {one.model: one.training.settings_sha256 for one in asked if one.training}
