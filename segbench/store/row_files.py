"""Which files of rows a workspace has, and each of them read, though others write and compact.

Shards are what a piece of work has left, ``<cell key>-<run>-<checksum>.parquet``; run files are
what was compacted of them. The file of some shards appears first and they go after, so whoever
looks at shards first and run files second sees every row at least once.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Collection, Iterable, Iterator
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TypeVar

from segbench.atomic import shown
from segbench.errors import MachineError, UserError
from segbench.store.records import OldStoreError
from segbench.store.workspace import Workspace

_SHARD_NAME = re.compile(r"(?P<cell>[0-9a-f]+)-(?P<run>\d+)-[0-9a-f]{16}\.parquet")
_OLD_SHARD = re.compile(r"[0-9a-f]+-\d+\.parquet")

Read = TypeVar("Read")


def read_each(
    workspace: Workspace,
    read: Callable[[Path], Read | None],
    damaged: list[str] | None = None,
    cells: Collection[str] | None = None,
) -> Iterator[tuple[Path, Read]]:
    """What is read of every file of rows, one after another: shards, then run files.

    Where a file has gone since it was listed, its rows lie in another by then, so all are listed
    again until none has; none is read twice.

    Args:
        workspace: where from.
        read: gives None for a file that is gone.
        damaged: None raises the first UserError; else its sentence is appended here, and the file
            left out.
        cells: shards of others are left out; run files, which hold many cells, never are.

    Raises:
        UserError: a file there is not ours or is damaged, and ``damaged`` is None.
    """
    seen: set[Path] = set()
    said = damaged
    while True:
        gone = False
        workspace.refresh_rows()
        # A shard that vanishes before it is read is in a run file by then: runs are listed later.
        known = list_shards(workspace, said)
        shards = [path for path, cell, _ in known if cells is None or cell in cells]
        for path in chain(shards, _later(lambda: _list_runs(workspace))):
            if path in seen:
                continue
            refused: list[str] = []
            content = unless_damaged(partial(read, path), None if damaged is None else refused)
            if content is not None:
                yield path, content
            elif refused and damaged is not None:
                damaged += refused
            else:
                gone = True
                continue
            seen.add(path)
        if not gone:
            return
        said = None if damaged is None else []  # strays were named


def listed(folder: Path, suffix: str) -> list[Path]:
    """The files of a folder that are not hidden, sorted; none if there is no folder.

    Raises:
        MachineError: it may not be read.
    """
    try:
        names = os.listdir(folder)
    except FileNotFoundError:
        return []
    except OSError as error:
        raise MachineError(f"cannot read {folder}: {error.strerror}") from error
    return [
        folder / name
        for name in sorted(names)
        if name.endswith(suffix) and not name.startswith(".")
    ]


def last_run(workspace: Workspace) -> int:
    """The highest number of a run that left rows here, 0 for none."""
    workspace.refresh_rows()
    numbers = [run for _, _, run in list_shards(workspace, [])]
    names = [re.match(r"run-(\d+)", path.name) for path in _list_runs(workspace)]
    return max([0, *numbers, *(int(match[1]) for match in names if match)])


def list_shards(workspace: Workspace, damaged: list[str] | None) -> list[tuple[Path, str, int]]:
    """(path, cell key, run) of every shard that has its final name."""
    found = []
    for path in listed(workspace.shards, ".parquet"):
        match = _SHARD_NAME.fullmatch(path.name)
        if match:
            found.append((path, match["cell"], int(match["run"])))
        elif _OLD_SHARD.fullmatch(path.name):
            raise OldStoreError(workspace.results)
        else:
            unless_damaged(partial(_refuse_stray, path), damaged)
    return found


def _list_runs(workspace: Workspace) -> list[Path]:
    return listed(workspace.results, ".parquet")


def unless_damaged(read: Callable[[], Read], damaged: list[str] | None) -> Read | None:
    """What is read; None where the file is no good and there is a list to say so in."""
    try:
        return read()
    except OldStoreError:
        raise
    except UserError as error:
        if damaged is None:
            raise
        damaged.append(str(error))
        return None


def _later(listing: Callable[[], Iterable[Path]]) -> Iterator[Path]:
    """Paths that are listed when the first of them is wanted."""
    yield from listing()


def _refuse_stray(path: Path) -> None:
    raise UserError(
        f"{shown(path)} is not a segbench shard (expected <cell key>-<run>-<checksum>.parquet); "
        "move it out of the workspace"
    )
