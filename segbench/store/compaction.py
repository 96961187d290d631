"""Many small shards of rows become a few files: when a run ends, and now and then while it goes on.

A file of shards appears first and the shards go after, so that whoever is killed in between leaves
rows twice, never none.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from segbench.atomic import remove
from segbench.errors import MachineError
from segbench.store import rowfile
from segbench.store.row_files import list_shards, unless_damaged
from segbench.store.workspace import Workspace

if TYPE_CHECKING:
    import pyarrow as pa

SHARDS_OF_A_FILE = 1000


def compact_run(workspace: Workspace, run_id: str, cells: Collection[str]) -> Path | None:
    """Gather the shards of some cells into files of the run, a thousand in each, and remove them.

    Killed in between, it leaves rows twice, which readers drop. Damaged shards stay where they are.

    Returns:
        the last ``results/<run-id>-<checksum>.parquet``, None where these cells have no shards.

    Raises:
        MachineError: the disk refused; every shard that is in no file is still there.
    """
    workspace.refresh_rows()
    wanted = [path for path, cell, _ in list_shards(workspace, []) if cell in cells]
    last = None
    for start in range(0, len(wanted), SHARDS_OF_A_FILE):
        some = wanted[start : start + SHARDS_OF_A_FILE]
        last = _gather(workspace, run_id, some) or last
    return last


class Compactor:
    """Keeps the files of a run few while it goes on.

    Only its own shards are touched: of another process that works on the same cells, each answers
    for what it wrote.
    """

    def __init__(self, workspace: Workspace, run: int, run_id: str) -> None:
        self._workspace, self._run, self._run_id = workspace, run, run_id
        self._pieces = 0

    def note_piece(self) -> None:
        """A piece is stored, in one shard or a few; now and then all of them become one file."""
        self._pieces += 1
        if self._pieces < SHARDS_OF_A_FILE:
            return
        self._pieces = 0
        # Tidiness alone stops no run; its end tries again, and says so.
        with suppress(MachineError):
            self._workspace.refresh_rows()
            own = [path for path, _, run in list_shards(self._workspace, []) if run == self._run]
            _gather(self._workspace, self._run_id, own)


def _gather(workspace: Workspace, run_id: str, shards: Sequence[Path]) -> Path | None:
    """One file of those shards that can be read, which are removed then; None where none can."""
    import pyarrow as pa

    gathered: dict[Path, pa.Table] = {}
    for path in shards:
        # A shard that is gone was compacted by another process, which answers for it.
        table = unless_damaged(partial(rowfile.read_if_there, path), [])
        if table is not None:
            gathered[path] = table
    if not gathered:
        return None
    whole = pa.concat_tables(gathered.values())
    path = rowfile.write(workspace.results, run_id, whole, {"compacted": run_id})
    for shard in gathered:
        remove(shard)
    return path
