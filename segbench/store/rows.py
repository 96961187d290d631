"""The store: one row per case and class, in small Parquet files that only ever appear whole.

A file is written under a temporary name, synced and then given its final name, and a run file is
never changed afterwards. So a killed run loses at most the shards in flight, two processes may
share a workspace, and a reader may come at any time. When a run ends its shards are compacted into
one file: that file appears first and the shards go after, so whoever looks at shards first and
run files second sees every row at least once; rows seen twice are dropped by what they measure.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import time
from collections.abc import Collection, Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

from segbench.atomic import write_atomically, write_new
from segbench.errors import MachineError, UserError
from segbench.store import rowfile
from segbench.store.workspace import Workspace

if TYPE_CHECKING:
    from pandas import DataFrame

_IDENTITY = (
    "weights_sha256", "dataset_fingerprint", "attack", "attack_params", "budget_kind", "budget",
    "seed", "case_id", "class_id",
)  # fmt: skip
_ORDER = (
    "model", "dataset", "split", "attack", "attack_params", "budget_kind", "budget", "seed",
    "case_id", "class_id", "weights_sha256", "dataset_fingerprint",
)  # fmt: skip
_SHARD_NAME = re.compile(r"(?P<cell>[0-9a-f]+)-(?P<number>\d+)\.parquet")


def cell_key(facts: Mapping[str, Any]) -> str:
    """32 hexadecimal digits of the SHA-256 of the facts' canonical JSON.

    The order of keys, list or tuple, and 1 or 1.0 make no difference; a Fraction is ``"n/d"``.
    Anything but text, numbers, booleans, None, lists and mappings is refused with TypeError, and
    NaN with ValueError.
    """
    text = json.dumps(_canonical(facts), sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def append_shard(
    workspace: Workspace,
    key: str,
    n: int,
    constants: Mapping[str, Any],
    rows: Sequence[Mapping[str, Any]],
) -> Path:
    """Write ``results/shards/<key>-<n>.parquet``: complete and on disk, or not there at all.

    Args:
        workspace: where to.
        key: the cell, from ``cell_key``.
        n: which of the cell's shards.
        constants: the columns that are the same in every row; kept once, in the file's header.
        rows: all other columns of ``rowfile.COLUMNS``, one mapping per case and class.

    Raises:
        MachineError: the disk refused; nothing is left behind.
        ValueError, TypeError: a column is missing, unknown, null or of the wrong type, which is a
            bug in the caller.
    """
    header = {
        "cell": key,
        "shard": n,
        "created": time.time(),
        "constants": rowfile.typed_constants(constants),
    }
    path = workspace.shards / f"{key}-{n}.parquet"
    write_atomically(path, rowfile.to_bytes(rowfile.typed_table(constants, rows), header))
    return path


def finished_shards(workspace: Workspace) -> set[tuple[str, int]]:
    """(cell key, shard number) of all that need not be computed again; reads no scores.

    Raises:
        UserError: a file there is not ours or is damaged.
    """
    found = {(cell, number) for _, cell, number in _list_shards(workspace)}
    for path in _list_runs(workspace):
        table = rowfile.read_if_there(path, columns=["cell", "shard"])
        if table is not None:
            pairs = table.group_by(["cell", "shard"]).aggregate([]).to_pydict()
            found.update(zip(pairs["cell"], pairs["shard"], strict=True))
    return found


def write_run(workspace: Workspace, run_id: str, record: Mapping[str, Any]) -> Path:
    """Write ``results/<run-id>.json``: the record (grid, versions, device, commit) and schema.

    A record that lists its ``cells`` is shown in reports only where their rows are.

    Raises:
        MachineError: the disk refused.
    """
    content = {"schema": rowfile.SCHEMA_VERSION, **_canonical(record)}
    path = workspace.results / f"{run_id}.json"
    write_atomically(path, (json.dumps(content, indent=2, sort_keys=True) + "\n").encode())
    return path


def read_runs(workspace: Workspace) -> dict[str, dict[str, Any]]:
    """The records of all runs by run id, in the order of their ids.

    Raises:
        UserError: a file there is not a run's record.
    """
    records = {}
    for path in _listed(workspace.results, ".json"):
        try:
            record = json.loads(path.read_bytes())
        except OSError as error:
            raise MachineError(f"cannot read {path}: {error.strerror}") from error
        except ValueError:
            record = None
        if not isinstance(record, dict) or "schema" not in record:
            raise UserError(f"{path} is not a run's record; move it out of the workspace")
        records[path.stem] = record
    return records


def compact_run(workspace: Workspace, run_id: str, cells: Collection[str]) -> Path | None:
    """Gather the shards of some cells into ``results/<run-id>.parquet``, then remove them.

    Killed in between, it leaves rows twice, which readers drop. Where that name is taken, by
    another process or an earlier compaction, the next free one is used (``<run-id>.2.parquet``).

    Returns:
        The new file, None where these cells have no shards.

    Raises:
        MachineError: the disk refused; every shard is still there.
        UserError: a shard is damaged; every shard is still there.
    """
    import pyarrow as pa

    wanted = [path for path, cell, _ in _list_shards(workspace) if cell in cells]
    # A shard that is gone was compacted by another process, which answers for it.
    tables = {path: rowfile.read_if_there(path) for path in wanted}
    gathered = {path: table for path, table in tables.items() if table is not None}
    if not gathered:
        return None
    content = rowfile.to_bytes(pa.concat_tables(gathered.values()), {"compacted": run_id})
    path = write_new(workspace.results, run_id, ".parquet", content)
    try:
        for shard in gathered:
            shard.unlink(missing_ok=True)
    except OSError as error:
        raise MachineError(f"cannot remove {shard}: {error.strerror}") from error
    return path


def read_rows(workspace: Workspace) -> DataFrame:
    """Every stored row, once: ``rowfile.COLUMNS`` then ``rowfile.ADDRESS``, in a fixed order.

    Of rows that measure the same (weights, data, attack, budget, seed, case and class) the newest
    is kept. An empty or absent workspace gives no rows.

    Raises:
        UserError: a file there is not ours or is damaged.
    """
    import pyarrow as pa

    # Shards before runs: a shard that vanishes in between is in a run file by then.
    tables = [rowfile.read_if_there(path) for path, _, _ in _list_shards(workspace)]
    tables += [rowfile.read_if_there(path) for path in _list_runs(workspace)]
    present = [table for table in tables if table is not None]
    everything = pa.concat_tables([rowfile.schema().empty_table(), *present])
    frame: DataFrame = everything.to_pandas()
    frame = frame.sort_values(["created", "cell", "shard"], kind="stable")
    frame = frame.drop_duplicates([*_IDENTITY], keep="last")
    return frame.sort_values([*_ORDER], kind="stable", ignore_index=True)


def _canonical(value: Any) -> Any:
    """JSON that is equal exactly where the facts are equal."""
    if isinstance(value, Mapping):
        if not all(isinstance(key, str) for key in value):
            raise TypeError(f"keys must be text: {list(value)}")
        return {key: _canonical(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_canonical(item) for item in value]
    if isinstance(value, Fraction):
        return f"{value.numerator}/{value.denominator}"
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value


def _list_shards(workspace: Workspace) -> list[tuple[Path, str, int]]:
    """(path, cell key, number) of every shard that has its final name."""
    found = []
    for path in _listed(workspace.shards, ".parquet"):
        match = _SHARD_NAME.fullmatch(path.name)
        if not match:
            raise UserError(
                f"{path} is not a segbench shard (expected <cell key>-<number>.parquet); "
                "move it out of the workspace"
            )
        found.append((path, match["cell"], int(match["number"])))
    return found


def _list_runs(workspace: Workspace) -> list[Path]:
    return _listed(workspace.results, ".parquet")


def _listed(folder: Path, suffix: str) -> list[Path]:
    """The files of a folder that are not hidden, sorted; none if there is no folder."""
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
