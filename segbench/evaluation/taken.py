"""Which cases of a data set are attacked: a split, all of them, or those that a file names."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from segbench.api import Dataset, Entry
from segbench.atomic import read_regular
from segbench.data.pairing import known_stem
from segbench.errors import UserError
from segbench.evaluation.request import DataSource, Request, select_data
from segbench.plugins.registry import suggest
from segbench.plugins.spec import parse

ALL = "all"
TEST = "test"
_SPLITTING = {"test_fraction", "split_seed"}  # options that ask for the seeded rule


def entries_of(dataset: Dataset, split: str) -> Sequence[Entry]:
    """The cases of a split, or of all of them, sorted by name.

    Raises:
        UserError: there is no such split.
    """
    if split != ALL or ALL in dataset.splits:
        return dataset.entries(split)
    every = [entry for name in dataset.splits for entry in dataset.entries(name)]
    return sorted(every, key=lambda entry: entry.case_id)


def take_asked(spec: str, dataset: Dataset, request: Request, *, trained: bool) -> DataSource:
    """The cases that are asked for of a data set.

    Nobody who has trained a network of their own elsewhere has asked for a split by rule: unless
    the data or the request name one, all cases are attacked. ``trained`` says that the network was
    trained here, and its split is ``test``.

    Raises:
        UserError: it does not have that split, or no case in it, or not the cases that are named.
    """
    split = request.split or _usual_split(spec, dataset, request, trained=trained)
    if split != ALL and split not in dataset.splits:
        raise UserError(f"no split {split!r}{suggest(split, [*dataset.splits, ALL])}")
    entries = entries_of(dataset, split)
    if not entries:
        raise UserError(f"the split {split!r} has no cases")
    if request.cases is not None:
        entries = _named(entries, request.cases, split)
    return select_data(spec, dataset, split, request.limit, entries)


def _usual_split(spec: str, dataset: Dataset, request: Request, *, trained: bool) -> str:
    by_rule = (
        getattr(dataset, "splits_by_rule", False) and not _SPLITTING & parse(spec).params.keys()
    )
    return ALL if (by_rule and not trained) or request.cases is not None else TEST


def _named(entries: Sequence[Entry], path: Path, split: str) -> list[Entry]:
    """The cases whose name, or whose volume's or patient's, stands in a file, one a line.

    Raises:
        UserError: it cannot be read, or names what is not there.
    """
    try:
        lines = read_regular(path).decode("utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"the file of cases {path} cannot be read: {error}") from None
    names = {known_stem(line.strip()): line.strip() for line in lines if line.strip()}
    wanted = {*names, *names.values()}
    taken = [entry for entry in entries if {entry.case_id, entry.group_id} & wanted]
    found = {name for entry in taken for name in (entry.case_id, entry.group_id)}
    strange = [line for stem, line in names.items() if not {stem, line} & found]
    if strange or not taken:
        raise UserError(
            f"{path} names {', '.join(strange[:100]) or 'no case'}, not a case of the split {split}"
        )
    return taken
