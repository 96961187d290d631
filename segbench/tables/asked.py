"""What runs have asked for: data sets, and networks on them, as the last of several saw them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property

from segbench.store.runs import Asked, AskedCase


def data_sets(asked: Sequence[Asked]) -> list[DataSet]:
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
    return [DataSet(sorted(members, key=lambda one: order[id(one)])) for _, _, members in found]


class DataSet:
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


class Subject:
    """One network on one split of one data set, as several runs have asked about it, in order."""

    def __init__(self, asked: Sequence[Asked]) -> None:
        self.asked, self.last = asked, asked[-1]

    @cached_property
    def cells(self) -> list[str]:
        """Every cell once, the one that was asked for last at the end."""
        cells = dict.fromkeys(cell for one in reversed(self.asked) for cell in reversed(one.cells))
        return [*reversed(cells)]

    def present(self, data: DataSet) -> set[str]:
        """The contents that were asked for last, of cases that are still there."""
        contents = {case.sha256 for case in self.last.cases}
        return {content for content in contents if data.names(self.last.split, content)}

    def cases(self, data: DataSet) -> Iterator[AskedCase]:
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
