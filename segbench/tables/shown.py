"""Which of the stored rows a table shows, and under which names.

Rows are known by cell, case and class, and bear the names they were computed under. What a table
shows is what a run asked for, under the names it asked with: a network that was given another name,
a case that lies in another split or file, is found all the same, and shown as what it is now.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from pandas import DataFrame, concat

from segbench.store.runs import Asked, AskedCase, RunRecord
from segbench.tables.marks import OTHER_DATA, TRAINED

_SLOT = ["attack", "attack_params", "budget_kind", "budget", "seed"]
_NAMES = ["model", "dataset", "dataset_fingerprint", "split", "case_id", "group_id"]


@dataclass(frozen=True)
class LeftOut:
    """Rows of a name that are not shown, and whether others of that name are."""

    rows: int
    shown: bool


@dataclass(frozen=True, eq=False)
class Shown:
    """The rows of a table.

    Attributes:
        left_out: of each model what is not shown.
        unasked: rows that no run's record asks for.
        settings: of each model that has a card, the SHA-256 of its training's settings.
    """

    rows: DataFrame
    left_out: Mapping[str, LeftOut] = field(default_factory=dict)
    unasked: int = 0
    settings: Mapping[str, str] = field(default_factory=dict)


def rows_of_runs(rows: DataFrame, records: Sequence[RunRecord]) -> Shown:
    """Exactly what runs asked for, whoever computed it and whenever."""
    subjects: dict[tuple[str, str, str, str], list[Asked]] = {}
    for one in (one for record in records for one in record.asked):
        key = one.model, one.network_sha256, one.dataset, one.split
        subjects.setdefault(key, []).append(one)
    parts = [_named(rows, _Subject(asked)) for asked in subjects.values()]
    return Shown(_joined(rows, parts), settings=_settings(records))


def last_asked(rows: DataFrame, records: Sequence[RunRecord], *, every: bool = False) -> Shown:
    """Per name and data the network that was asked about last; with ``every``, all of them.

    Of a network all that was ever asked of it is shown, each score by the latest cell that was
    asked for under that attack, budget and seed, on the cases as they were asked for last.
    """
    versions: list[_Data] = []
    subjects: dict[tuple[str, str, _Data], dict[str, _Subject]] = {}
    for one in (one for record in records for one in record.asked):
        data = next((known for known in versions if known.holds(one)), None)
        if data is None:
            versions.append(data := _Data(one.dataset))
        data.update(one)
        networks = subjects.setdefault((one.model, one.split, data), {})
        before = networks.pop(one.network_sha256, None)  # the last one asked about comes last
        networks[one.network_sha256] = _Subject([*(before.asked if before else ()), one])
    parts: list[DataFrame] = []
    of_name: dict[str, set[str]] = {}
    shown: dict[str, set[tuple[str, str]]] = {}
    for (model, split, data), networks in subjects.items():
        for subject in networks.values():
            of_name.setdefault(model, set()).update(subject.cells)
        for subject in [*networks.values()][0 if every else -1 :]:
            part = _named(rows, subject, data.cases[split])
            parts.append(part.assign(dataset_fingerprint=data.fingerprint))
            pairs = zip(part["cell"], part["case_sha256"], strict=True)
            shown.setdefault(model, set()).update(pairs)
    asked = set().union(*of_name.values()) if of_name else set()
    return Shown(
        _joined(rows, parts),
        _count_left_out(rows, of_name, shown),
        int((~rows["cell"].isin(asked)).sum()),
        _settings(records),
    )


class _Data:
    """A data set through its versions: files were added or edited, and some are what they were.

    Two folders that are read by one spec and have nothing in common are two data sets.

    Attributes:
        fingerprint: of the version that was asked about last.
        cases: split -> case id -> ``Case.sha256``, as they were asked for last.
    """

    def __init__(self, dataset: str) -> None:
        self.dataset, self.fingerprint = dataset, ""
        self.cases: dict[str, dict[str, str]] = {}
        self._contents: set[str] = set()

    def holds(self, asked: Asked) -> bool:
        """Whether this is the data set that was asked about."""
        same = asked.dataset_fingerprint == self.fingerprint
        known = any(case.sha256 in self._contents for case in asked.cases)
        return asked.dataset == self.dataset and (same or known)

    def update(self, asked: Asked) -> None:
        """Its latest version."""
        self.fingerprint = asked.dataset_fingerprint
        found = {case.case_id: case.sha256 for case in asked.cases}
        self.cases.setdefault(asked.split, {}).update(found)
        self._contents.update(found.values())


class _Subject:
    """One network on one split of one data set, as several runs have asked about it, in order."""

    def __init__(self, asked: Sequence[Asked]) -> None:
        self.asked, self.last = asked, asked[-1]

    @property
    def cells(self) -> list[str]:
        """Every cell once, the one that was asked for last at the end."""
        cells = dict.fromkeys(cell for one in reversed(self.asked) for cell in reversed(one.cells))
        return [*reversed(cells)]

    @property
    def cases(self) -> Iterable[AskedCase]:
        """Every case as it was asked for last."""
        return {case.case_id: case for one in self.asked for case in one.cases}.values()


def _named(
    rows: DataFrame, subject: _Subject, latest: Mapping[str, str] | None = None
) -> DataFrame:
    """The rows of a subject under the names it was asked about with.

    ``latest`` is case id -> content, where a case may have been asked for as another.
    """
    order = {cell: place for place, cell in enumerate(subject.cells)}
    part = rows[rows["cell"].isin(order)]
    cells = part[["cell", *_SLOT]].drop_duplicates()
    cells = cells.assign(place=cells["cell"].map(order)).sort_values("place", kind="stable")
    cells = cells.drop_duplicates(_SLOT, keep="last")
    cases = DataFrame(
        [
            (case.sha256, case.case_id, case.group_id, case.trained)
            for case in subject.cases
            if latest is None or latest[case.case_id] == case.sha256
        ],
        columns=["case_sha256", "case_id", "group_id", "trained"],
    )
    part = part[part["cell"].isin(cells["cell"])].drop(columns=_NAMES)
    part = part.merge(cases, on="case_sha256")
    last = subject.last
    words = [
        " ".join(filter(None, (marks, trained * TRAINED, last.other_data * OTHER_DATA)))
        for marks, trained in zip(part["marks"], part["trained"], strict=True)
    ]
    names = {name: getattr(last, name) for name in _NAMES[:4]}
    return part.assign(**names, marks=words)[[*rows]]


def _joined(rows: DataFrame, parts: Sequence[DataFrame]) -> DataFrame:
    full = [part for part in parts if not part.empty]
    return concat(full, ignore_index=True) if full else rows.iloc[:0]


def _count_left_out(
    rows: DataFrame,
    of_name: Mapping[str, set[str]],
    shown: Mapping[str, set[tuple[str, str]]],
) -> dict[str, LeftOut]:
    """Of each name its rows of other networks, of edited attacks, and of cases that are others."""
    found = {}
    for model, cells in sorted(of_name.items()):
        own = rows[rows["cell"].isin(cells)]
        pairs = zip(own["cell"], own["case_sha256"], strict=True)
        hidden = sum(pair not in shown[model] for pair in pairs)
        if hidden:
            found[model] = LeftOut(hidden, bool(shown[model]))
    return found


def _settings(records: Iterable[RunRecord]) -> dict[str, str]:
    asked = [one for record in records for one in record.asked]
    return {one.model: one.training.settings_sha256 for one in asked if one.training}
