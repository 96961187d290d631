"""The store: one row per case and class, in small Parquet files that only ever appear whole.

A file is written under a temporary name, synced and then given its final name, and is never changed
afterwards. So a killed run loses at most the cases in flight, two processes may share a workspace,
and a reader may come at any time. Shards are compacted when a run ends, and a thousand at a time
while it goes on: the file of them appears first and the shards go after, so whoever looks at shards
first and run files second sees every row at least once; rows seen twice are dropped by what they
measure.

A row is known by its cell, the content of its case, and its class. Of rows computed twice the one
of the later run counts, by the store's own counter and never by the clock; metrics on request that
only an earlier one measured are kept.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from segbench.atomic import remove, shown
from segbench.errors import MachineError, UserError
from segbench.store import rowfile
from segbench.store.records import OldStoreError, digest
from segbench.store.workspace import Workspace

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray
    from pandas import DataFrame

IDENTITY = ("cell", "case_sha256", "class_id")
"""The columns that a row is known by."""

ON_REQUEST: Mapping[str, Sequence[str]] = {
    "nsd_tolerance": ("hd95", "nsd", "nsd_tolerance"),
    "lesion_overlap": ("lesions", "lesions_found", "lesions_false", "lesion_overlap"),
}
"""What is measured where it is asked for: by what it was measured at, NaN where it was not."""

KEY_DIGITS = 32  # hexadecimal
SHARDS_OF_A_FILE = 1000
_SAME = 1e-4  # of a Jaccard computed twice
_ORDER = (
    "model", "dataset", "split", "attack", "attack_params", "budget_kind", "budget", "seed",
    "case_id", "class_id", "network_sha256", "cell", "case_sha256",
)  # fmt: skip
_SHARD_NAME = re.compile(r"(?P<cell>[0-9a-f]+)-(?P<run>\d+)-[0-9a-f]{16}\.parquet")
_OLD_SHARD = re.compile(r"[0-9a-f]+-\d+\.parquet")

Read = TypeVar("Read")


def cell_key(facts: Mapping[str, Any]) -> str:
    """What a cell is known by: the first digits of the facts' SHA-256, see ``digest``."""
    return digest(facts)[:KEY_DIGITS]


def append_shard(
    workspace: Workspace,
    key: str,
    run: int,
    constants: Mapping[str, Any],
    rows: Sequence[Mapping[str, Any]],
) -> Path:
    """Write ``results/shards/<key>-<run>-<checksum>.parquet``: complete and on disk, or not there.

    Args:
        workspace: where to.
        key: the cell, from ``cell_key``.
        run: the number of the run that computed them.
        constants: the columns that are the same in every row; kept once, in the file's header.
        rows: all other columns of ``rowfile.COLUMNS``, one mapping per case and class.

    Raises:
        MachineError: the disk refused; nothing is left behind.
        ValueError, TypeError: a column is missing, unknown, null or of the wrong type, which is a
            bug in the caller.
    """
    header = {
        "cell": key,
        "run": run,
        "created": time.time(),
        "constants": rowfile.typed_constants(constants),
    }
    table = rowfile.typed_table(constants, rows)
    return rowfile.write(workspace.shards, f"{key}-{run}", table, header)


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
        known = _list_shards(workspace, said)
        shards = [path for path, cell, _ in known if cells is None or cell in cells]
        for path in chain(shards, _later(lambda: _list_runs(workspace))):
            if path in seen:
                continue
            refused: list[str] = []
            content = _unless_damaged(
                lambda path=path: read(path),  # type: ignore[misc]
                None if damaged is None else refused,
            )
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


def compact_run(workspace: Workspace, run_id: str, cells: Collection[str]) -> Path | None:
    """Gather the shards of some cells into files of the run, a thousand in each, and remove them.

    Killed in between, it leaves rows twice, which readers drop. Damaged shards stay where they are.

    Returns:
        the last ``results/<run-id>-<checksum>.parquet``, None where these cells have no shards.

    Raises:
        MachineError: the disk refused; every shard that is in no file is still there.
    """
    workspace.refresh_rows()
    wanted = [path for path, cell, _ in _list_shards(workspace, []) if cell in cells]
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
        with suppress(
            MachineError
        ):  # tidiness alone stops no run; its end tries again, and says so
            self._workspace.refresh_rows()
            own = [path for path, _, run in _list_shards(self._workspace, []) if run == self._run]
            _gather(self._workspace, self._run_id, own)


def _gather(workspace: Workspace, run_id: str, shards: Sequence[Path]) -> Path | None:
    """One file of those shards that can be read, which are removed then; None where none can."""
    import pyarrow as pa

    gathered: dict[Path, pa.Table] = {}
    for path in shards:
        # A shard that is gone was compacted by another process, which answers for it.
        table = _unless_damaged(lambda p=path: rowfile.read_if_there(p), [])  # type: ignore[misc]
        if table is not None:
            gathered[path] = table
    if not gathered:
        return None
    whole = pa.concat_tables(gathered.values())
    path = rowfile.write(workspace.results, run_id, whole, {"compacted": run_id})
    for shard in gathered:
        remove(shard)
    return path


def read_rows(
    workspace: Workspace,
    damaged: list[str] | None = None,
    *,
    categories: bool = False,
    without: Collection[str] = (),
    by: Sequence[str] = (),
) -> DataFrame:
    """Every stored row, once: ``rowfile.COLUMNS`` then ``rowfile.ADDRESS``, in a fixed order.

    An empty or absent workspace gives no rows. With ``categories`` texts are such, in alphabetical
    order, which takes a fifth of the memory. Metrics ``without`` which whoever asks can do are not
    read, and NaN in every row. Rows are sorted ``by`` these columns first, if any.

    Raises:
        UserError: a file there is not ours or is damaged, and ``damaged`` is None; else the
            sentence is appended to it and the file left out.
    """
    from segbench.store.columns import gather, in_order, with_nothing

    schema = rowfile.schema(categories=True)
    wanted = [name for name in schema.names if name not in without]

    def read(path: Path) -> pa.Table | None:
        return rowfile.read_if_there(path, wanted, categories=True)

    tables = (table for _, table in read_each(workspace, read, damaged))
    frame = gather(chain([schema.empty_table().select(wanted)], tables))
    order = [*by, *(name for name in _ORDER if name not in by)]
    frame = with_nothing(in_order(frame, order, _once(frame)), schema.names)
    if categories:
        return frame
    texts = [str(name) for name in frame.select_dtypes("category")]
    return frame.astype(dict.fromkeys(texts, "str"))


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
    numbers = [run for _, _, run in _list_shards(workspace, [])]
    names = [re.match(r"run-(\d+)", path.name) for path in _list_runs(workspace)]
    return max([0, *numbers, *(int(match[1]) for match in names if match)])


def _once(rows: DataFrame) -> NDArray[np.bool_]:
    """Which of rows in any order are the last run's of their identity, (N,).

    What only earlier runs measured of the same score is put into them.
    """
    from segbench.store.columns import repeated

    again = repeated(rows, IDENTITY)
    if not again.any():
        return ~again
    several = rows[again].sort_values(["run", "created"], kind="stable")
    newest = several.drop_duplicates([*IDENTITY], keep="last")
    for at, columns in ON_REQUEST.items():
        if at in rows:
            there = [name for name in columns if name in rows]
            newest = _with_earlier(newest, several, at, there)
            for name in there:
                values = rows[name].to_numpy(copy=True)
                values[newest.index] = newest[name]
                rows[name] = values
    kept = ~again
    kept[newest.index] = True
    return kept


def _with_earlier(newest: DataFrame, rows: DataFrame, at: str, columns: Sequence[str]) -> DataFrame:
    """The newest rows with what only earlier ones measured, of the same score."""
    measured = rows[rows[at].notna()].drop_duplicates([*IDENTITY], keep="last")
    lacking = newest[at].isna()
    if measured.empty or not lacking.any():
        return newest
    earlier = measured.set_index([*IDENTITY])[["jaccard", *columns]]
    wanted = newest.loc[lacking, [*IDENTITY]]
    earlier = earlier.reindex(list(wanted.itertuples(index=False, name=None)))
    change = abs(earlier["jaccard"].to_numpy() - newest.loc[lacking, "jaccard"].to_numpy())
    same = ~(change > _SAME)  # a class that the label lacks has no Jaccard to compare
    newest = newest.copy()
    for column in columns:
        values = earlier[column].where(same).to_numpy()
        newest.loc[lacking, column] = values
    return newest


def _later(listing: Callable[[], Iterable[Path]]) -> Iterator[Path]:
    """Paths that are listed when the first of them is wanted."""
    yield from listing()


def _unless_damaged(read: Callable[[], Read], damaged: list[str] | None) -> Read | None:
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


def _list_shards(workspace: Workspace, damaged: list[str] | None) -> list[tuple[Path, str, int]]:
    """(path, cell key, run) of every shard that has its final name."""
    found = []
    for path in listed(workspace.shards, ".parquet"):
        match = _SHARD_NAME.fullmatch(path.name)
        if match:
            found.append((path, match["cell"], int(match["run"])))
        elif _OLD_SHARD.fullmatch(path.name):
            raise OldStoreError(workspace.results)
        else:
            _unless_damaged(lambda p=path: _refuse_stray(p), damaged)  # type: ignore[misc]
    return found


def _refuse_stray(path: Path) -> None:
    raise UserError(
        f"{shown(path)} is not a segbench shard (expected <cell key>-<run>-<checksum>.parquet); "
        "move it out of the workspace"
    )


def _list_runs(workspace: Workspace) -> list[Path]:
    return listed(workspace.results, ".parquet")
