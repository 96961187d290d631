"""Which cases are train and which are test: from a CSV file, or by a seeded rule over groups."""

from __future__ import annotations

import csv
import hashlib
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from segbench.data.faults import Faults
from segbench.data.pairing import Pair, known_stem, normal
from segbench.errors import UserError


@dataclass(frozen=True)
class SplitTable:
    """What a CSV file says: each file's split, and its group where it says that too."""

    path: Path
    splits: Mapping[str, str]
    groups: Mapping[str, str]

    def of(self, case: str) -> str | None:
        """A case's split, by its name as it stands or with a suffix; None where it has none."""
        return next((self.splits[name] for name in self._names(case)), None)

    def group_of(self, case: str) -> str | None:
        """A case's group, None where the file does not say."""
        return next((self.groups[n] for n in self._names(case) if n in self.groups), None)

    def strangers(self, cases: Iterable[str]) -> list[str]:
        """The names in it that are no case's."""
        known = {name for case in cases for name in self._names(case)}
        return sorted(self.splits.keys() - known)

    def _names(self, case: str) -> list[str]:
        if case in self.splits:
            return [case]
        return [name for name in self._by_stem.get(case, ()) if name in self.splits]

    @cached_property
    def _by_stem(self) -> dict[str, list[str]]:
        found: dict[str, list[str]] = defaultdict(list)
        for name in self.splits:
            found[known_stem(name)].append(name)
        return found


def read_split_table(path: Path) -> SplitTable:
    """A CSV file with the columns ``case_id`` (or ``file``), ``split`` and optionally ``group``.

    A case may be written as a file name, with or without folder and suffix; dots in it are part of
    its name.

    Raises:
        UserError: no such file, not such a table, or a case given twice.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"the split file {path} cannot be read: {error}") from None
    columns = set(rows[0]) if rows else set()
    name = next((column for column in ("case_id", "file") if column in columns), None)
    if name is None or "split" not in columns:
        raise UserError(
            f"the split file {path} needs a header row with case_id (or file) and split"
        )
    splits: dict[str, str] = {}
    groups: dict[str, str] = {}
    for number, row in enumerate(rows, start=2):
        case, split = (row[name] or "").strip(), (row["split"] or "").strip()
        if not case or not split:
            raise UserError(f"line {number} of {path} has no {name if not case else 'split'}")
        case = normal(Path(case).name)
        if known_stem(case) in {known_stem(other) for other in splits}:
            raise UserError(f"line {number} of {path} gives the case {case!r} a second time")
        splits[case] = split
        if (row.get("group") or "").strip():
            groups[case] = str(row["group"]).strip()
    return SplitTable(path, splits, groups)


def table_splits(
    table: SplitTable, groups: Mapping[str, str], faults: Faults
) -> dict[str, list[str]]:
    """Split -> case ids, as the table says; ``groups`` maps every case to its group.

    Cases without a row, rows without a case, and groups in two splits are noted in ``faults``.
    """
    found: dict[str, list[str]] = {"train": [], "test": []}
    splits_of: dict[str, set[str]] = defaultdict(set)
    for case in sorted(groups):
        split = table.of(case)
        if split is None:
            faults.add(table.path, f"has no row for {case}")
            continue
        found.setdefault(split, []).append(case)
        splits_of[groups[case]].add(split)
    for name in table.strangers(groups):
        faults.add(table.path, f"names {name}, which is not there")
    for group, names in sorted(splits_of.items()):
        if len(names) > 1:
            faults.add(table.path, f"puts the group {group} in {' and '.join(sorted(names))}")
    return found


def seeded_splits(
    groups: Mapping[str, str], test_fraction: float, seed: int
) -> dict[str, list[str]]:
    """Split -> case ids: whole groups go to test until it has ``test_fraction`` of the cases.

    The order of groups is that of a hash of seed and name, so it depends on no other group.

    Raises:
        UserError: the fraction is not between 0 and 1.
    """
    if not 0 < test_fraction < 1:
        raise UserError(f"test_fraction={test_fraction:g} is not between 0 and 1")
    members: dict[str, list[str]] = defaultdict(list)
    for case, group in sorted(groups.items()):
        members[group].append(case)
    if len(members) < 2:  # cases of one group stay together: nothing is left to train on
        return {"train": [], "test": sorted(groups)}
    order = sorted(members, key=lambda group: hashlib.sha256(f"{seed}:{group}".encode()).digest())
    test: list[str] = []
    for group in order[:-1]:
        if test and len(test) + len(members[group]) / 2 > test_fraction * len(groups):
            break
        test.extend(members[group])
    return {"train": sorted(groups.keys() - set(test)), "test": sorted(test)}


def alternating_splits(cases: Iterable[str]) -> dict[str, list[str]]:
    """Split -> case ids: of the sorted names every second, from the first, is train."""
    names = sorted(cases)
    return {"train": names[::2], "test": names[1::2]}


def group_rule(pattern: str, table: SplitTable | None) -> Callable[[str], str]:
    """A case's group: from the table, else the part of its name that ``pattern`` finds, else it.

    ``pattern`` is a regular expression; its first parenthesis, where it has one, is the group.

    Raises:
        UserError: not a regular expression, and from the rule for a name it is not found in.
    """
    try:
        expression = re.compile(pattern)
    except re.error as error:
        raise UserError(f"group_regex={pattern!r} is not a regular expression: {error}") from None

    def group_of(case: str) -> str:
        given = table.group_of(case) if table is not None else None
        if given is not None:
            return given
        if not pattern:
            return case
        match = expression.search(case)
        found = match[1 if expression.groups else 0] if match else ""
        if not found:
            empty = "; its first parenthesis is the group, and holds nothing there" if match else ""
            raise UserError(f"group_regex={pattern!r} finds no group in the name {case!r}{empty}")
        return found

    return group_of


def split_pairs(
    pairs: Sequence[Pair],
    group_of: Callable[[str], str],
    root: Path,
    table: SplitTable | None,
    test_fraction: float,
    seed: int,
) -> dict[str, list[str]]:
    """Split -> case ids, by what the pairs say themselves, the table, or the seeded rule.

    Raises:
        UserError: the table does not fit the cases, or the rule cannot be applied.
    """
    groups = {pair.case_id: pair.group or group_of(pair.case_id) for pair in pairs}
    if pairs and all(pair.split for pair in pairs):
        said = {pair.case_id: str(pair.split) for pair in pairs}
        table = SplitTable(root, said, {})
    faults = Faults(root)
    if table is None:
        splits = seeded_splits(groups, test_fraction, seed)
    else:
        splits = table_splits(table, groups, faults)
    faults.raise_any()
    return splits
