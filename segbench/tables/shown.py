"""Which of the stored rows a table shows, and under which names.

Rows are known by cell, case and class, and bear the names they were computed under. What a table
shows is what a run asked for, under the names it asked with: a network that was given another name,
a case that lies in another split or file, is found all the same, and shown as what it is now.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from pandas import Categorical, CategoricalDtype, DataFrame

from segbench.store.runs import Asked, AskedCase, RunRecord
from segbench.tables.marks import CONSTANT, OTHER_DATA, TRAINED
from segbench.tables.texts import by_key, compact, stack, tidy

_SLOT = ["attack", "attack_params", "budget_kind", "budget", "seed"]
_SCORE = ["cell", "case_sha256"]
_NAMES = ["model", "dataset", "dataset_fingerprint", "split", "case_id", "group_id"]


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
    rows = compact(rows)
    parts = [_named(rows, _Subject(asked), _Data(asked)) for asked in subjects.values()]
    return Shown(_joined(rows, parts), settings=_settings(records), spans=_spans(records))


def last_asked(rows: DataFrame, records: Sequence[RunRecord], *, every: bool = False) -> Shown:
    """Per name and data the network that was asked about last; with ``every``, all of them.

    Of a network all that was ever asked of it is shown, each score by the latest cell that was
    asked for under that attack, budget and seed, on the cases as they were asked for last.
    """
    subjects: dict[tuple[str, str, _Data], dict[str, _Subject]] = {}
    for data in _data_sets([one for record in records for one in record.asked]):
        for one in data.asked:
            networks = subjects.setdefault((one.model, one.split, data), {})
            before = networks.pop(one.network_sha256, None)  # the last one asked about comes last
            networks[one.network_sha256] = _Subject([*(before.asked if before else ()), one])
    parts: list[DataFrame] = []
    of_name: dict[str, set[str]] = {}
    shown: dict[str, list[DataFrame]] = {}
    rows = compact(rows)
    stored = rows[_SCORE].drop_duplicates()
    run_of = {id(one): record for record in records for one in record.asked}
    missing: list[Missing] = []
    for (model, _, data), networks in subjects.items():
        for subject in networks.values():
            of_name.setdefault(model, set()).update(subject.cells)
        for subject in [*networks.values()][0 if every else -1 :]:
            part = _named(rows, subject, data)
            parts.append(part)
            shown.setdefault(model, []).append(part[_SCORE].drop_duplicates())
            if scores := subject.missing(data, stored):
                run = run_of[id(subject.last)]
                missing.append(Missing(model, run.run_id, run.state, scores))
    asked = set().union(*of_name.values()) if of_name else set()
    return Shown(
        _joined(rows, parts),
        _count_left_out(rows, of_name, shown),
        int((~rows["cell"].isin(asked)).sum()),
        _settings(records),
        missing,
        _spans(records),
    )


def _data_sets(asked: Sequence[Asked]) -> list[_Data]:
    """What was asked, by data set: versions of one have a fingerprint or a case in common.

    Files were added or edited, and some are what they were. Two folders that are read by one spec
    and have nothing in common are two data sets.
    """
    found: list[tuple[str, set[str], list[Asked]]] = []
    for one in asked:
        tokens = {one.dataset_fingerprint, *(case.sha256 for case in one.cases)}
        same = [data for data in found if data[0] == one.dataset and data[1] & tokens]
        joined = tokens.union(*(data[1] for data in same))
        members = [*(member for data in same for member in data[2]), one]
        place = found.index(same[0]) if same else len(found)
        found[place : place + 1] = [(one.dataset, joined, members)]
        found = [data for data in found if not any(data is other for other in same[1:])]
    order = {id(one): place for place, one in enumerate(asked)}
    return [_Data(sorted(members, key=lambda one: order[id(one)])) for _, _, members in found]


class _Data:
    """A data set, as several runs have asked about it, in order.

    Attributes:
        fingerprint: of the version that was asked about last.
    """

    def __init__(self, asked: Sequence[Asked]) -> None:
        self.asked, self.fingerprint = asked, asked[-1].dataset_fingerprint
        self._contents: dict[tuple[str, str], str] = {}
        self._names: dict[tuple[str, str], tuple[str, dict[str, str]]] = {}
        for one in asked:
            for case in one.cases:
                self._contents[one.split, case.case_id] = case.sha256
                key = one.split, case.sha256
                version, groups = self._names.get(key, ("", {}))
                if version != one.dataset_fingerprint:  # in that version it bore other names
                    groups = {}
                    self._names[key] = one.dataset_fingerprint, groups
                groups[case.case_id] = case.group_id

    def names(self, split: str, content: str) -> Mapping[str, str]:
        """Case id -> group id of the cases that have this content by now; none where it is gone."""
        groups = self._names[split, content][1]
        return {
            case_id: group
            for case_id, group in groups.items()
            if self._contents[split, case_id] == content
        }


class _Subject:
    """One network on one split of one data set, as several runs have asked about it, in order."""

    def __init__(self, asked: Sequence[Asked]) -> None:
        self.asked, self.last = asked, asked[-1]

    @property
    def cells(self) -> list[str]:
        """Every cell once, the one that was asked for last at the end."""
        cells = dict.fromkeys(cell for one in reversed(self.asked) for cell in reversed(one.cells))
        return [*reversed(cells)]

    def missing(self, data: _Data, stored: DataFrame) -> int:
        """How many scores that were asked for last are not stored, of cases still there."""
        contents = {case.sha256 for case in self.last.cases}
        there = {content for content in contents if data.names(self.last.split, content)}
        cells = {*self.last.cells}
        found = stored["cell"].isin(cells) & stored["case_sha256"].isin(there)
        return len(cells) * len(there) - int(found.sum())

    def cases(self, data: _Data) -> Iterator[AskedCase]:
        """Every case under its present name; of one that lies there twice, those asked for."""
        own: dict[str, dict[str, AskedCase]] = {}
        for case in (case for one in self.asked for case in one.cases):
            own.setdefault(case.sha256, {})[case.case_id] = case
        for content, asked in own.items():
            names = data.names(self.last.split, content)
            last = [*asked.values()][-1]
            for case_id in (asked.keys() & names.keys()) or names:
                case = asked.get(case_id, last)
                update = {"case_id": case_id, "group_id": names[case_id]}
                yield case.model_copy(update=update)


def _named(rows: DataFrame, subject: _Subject, data: _Data) -> DataFrame:
    """Which rows are a subject's, and what they are called by now.

    Returns:
        ``row`` (a place in ``rows``), ``_SCORE``, and ``_NAMES`` and ``marks`` as categories: as
        the network was asked about, and as its cases are called.
    """
    order = {cell: place for place, cell in enumerate(subject.cells)}
    there = np.flatnonzero(rows["cell"].isin(order))
    part = rows[["cell", *_SLOT]].iloc[there].assign(row=there)
    cells = part[["cell", *_SLOT]].drop_duplicates()
    cells = cells.assign(place=cells["cell"].map(order)).sort_values("place", kind="stable")
    cells = cells.drop_duplicates(_SLOT, keep="last")
    chosen = part.loc[part["cell"].isin(cells["cell"]), "row"].to_numpy()
    part = rows[[*_SCORE, "marks"]].iloc[chosen].assign(row=chosen)
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
    return part.assign(**same, marks=marks)[["row", *_SCORE, *_NAMES, "marks"]]


def _joined(rows: DataFrame, parts: Sequence[DataFrame]) -> DataFrame:
    """Those rows, under the names and with the marks that they have by now."""
    full = [part.drop(columns=_SCORE) for part in parts if not part.empty]
    if not full:
        return tidy(rows.iloc[:0])
    found = stack(full)
    places = found["row"].to_numpy()
    columns = {
        str(name): found[name].array if name in found else rows[name].array.take(places)
        for name in rows
    }
    return tidy(DataFrame(columns, copy=False))


def _count_left_out(
    rows: DataFrame,
    of_name: Mapping[str, set[str]],
    shown: Mapping[str, Sequence[DataFrame]],
) -> dict[str, LeftOut]:
    """Of each name its rows of other networks, of edited attacks, and of cases that are others."""
    found = {}
    for model, cells in sorted(of_name.items()):
        own = rows[rows["cell"].isin(cells)]
        seen = stack(shown[model]).drop_duplicates()
        hidden = len(own) - len(own[_SCORE].merge(seen, on=_SCORE))
        if hidden:
            found[model] = LeftOut(hidden, bool(len(seen)))
    return found


def _spans(records: Iterable[RunRecord]) -> dict[tuple[str, str], tuple[float, float]]:
    asked = [one for record in records for one in record.asked]
    return {(one.dataset, one.split): one.spans for one in asked if one.spans}


def _settings(records: Iterable[RunRecord]) -> dict[str, str]:
    asked = [one for record in records for one in record.asked]
    return {one.model: one.training.settings_sha256 for one in asked if one.training}
