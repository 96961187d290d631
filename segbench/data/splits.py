"""Which cases are train and which are test: from a CSV file, or by a seeded rule over groups."""

from __future__ import annotations

import csv
import hashlib
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from segbench.data.faults import Faults
from segbench.data.pairing import stem_of
from segbench.data.sources import Source
from segbench.errors import UserError


@dataclass(frozen=True)
class SplitTable:
    """What a CSV file says: each file's split, and its group where it says that too."""

    path: Path
    splits: Mapping[str, str]
    groups: Mapping[str, str]


def read_split_table(path: Path) -> SplitTable:
    """A CSV file with the columns ``case_id`` (or ``file``), ``split`` and optionally ``group``.

    A case may be written as a file name, with or without folder and suffix.

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
        stem = stem_of(Path(case))
        if stem in splits:
            raise UserError(f"line {number} of {path} gives the case {stem!r} a second time")
        splits[stem] = split
        if (row.get("group") or "").strip():
            groups[stem] = str(row["group"]).strip()
    return SplitTable(path, splits, groups)


def table_splits(
    table: SplitTable, groups: Mapping[str, str], faults: Faults
) -> dict[str, list[str]]:
    """Split -> case ids, as the table says; ``groups`` maps every case to its group.

    Cases without a row, rows without a case, and groups in two splits are noted in ``faults``.
    """
    for stem in sorted(groups.keys() - table.splits.keys()):
        faults.add(table.path, f"has no row for {stem}")
    for stem in sorted(table.splits.keys() - groups.keys()):
        faults.add(table.path, f"names {stem}, which is not there")
    found: dict[str, list[str]] = {"train": [], "test": []}
    splits_of: dict[str, set[str]] = defaultdict(set)
    for stem in sorted(groups.keys() & table.splits.keys()):
        found.setdefault(table.splits[stem], []).append(stem)
        splits_of[groups[stem]].add(table.splits[stem])
    for group, names in sorted(splits_of.items()):
        if len(names) > 1:
            faults.add(table.path, f"puts the group {group} in {' and '.join(sorted(names))}")
    for name in ("train", "test"):
        if not found[name]:
            faults.add(table.path, f"puts no case in {name}")
    return found


def seeded_splits(
    groups: Mapping[str, str], test_fraction: float, seed: int
) -> dict[str, list[str]]:
    """Split -> case ids: whole groups go to test until it has ``test_fraction`` of the cases.

    The order of groups is that of a hash of seed and name, so it depends on no other group.

    Raises:
        UserError: the fraction is not between 0 and 1, or there is only one group.
    """
    if not 0 < test_fraction < 1:
        raise UserError(f"test_fraction={test_fraction:g} is not between 0 and 1")
    members: dict[str, list[str]] = defaultdict(list)
    for case, group in sorted(groups.items()):
        members[group].append(case)
    if len(members) < 2:
        raise UserError(
            f"there is only one group ({next(iter(members), 'none')}); a split into train and "
            "test needs two, since cases of one group stay together"
        )
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
        if table is not None and case in table.groups:
            return table.groups[case]
        if not pattern:
            return case
        match = expression.search(case)
        if not match:
            raise UserError(f"group_regex={pattern!r} finds no group in the name {case!r}")
        return match[1] if expression.groups else match[0]

    return group_of


def split_sources(
    sources: Sequence[Source],
    root: Path,
    table: SplitTable | None,
    test_fraction: float,
    seed: int,
) -> dict[str, list[Source]]:
    """Split -> cases, by the table if there is one, else by the seeded rule.

    Raises:
        UserError: the table does not fit the cases, or the rule cannot be applied.
    """
    faults = Faults(root)
    groups = {stem_of(source.image): source.group_id for source in sources}
    if table is None:
        splits = seeded_splits(groups, test_fraction, seed)
    else:
        splits = table_splits(table, groups, faults)
    faults.raise_any()
    split_of = {stem: name for name, stems in splits.items() for stem in stems}
    found: dict[str, list[Source]] = {name: [] for name in splits}
    for source in sources:
        found[split_of[stem_of(source.image)]].append(source)
    return found
