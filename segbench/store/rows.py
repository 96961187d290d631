"""The store: one row per case and class, in small Parquet files that only ever appear whole.

A file is written under a temporary name, synced and then given its final name, and is never changed
afterwards. So a killed run loses at most the cases in flight, two processes may share a workspace,
and a reader may come at any time. Where shards are being compacted (``compaction.py``) a row is
seen twice; such are dropped by what they measure.

A row is known by its cell, the content of its case, and its class. Of rows computed twice the one
of the later run counts, by the store's own counter and never by the clock; metrics on request that
only an earlier one measured are kept.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from segbench.store import rowfile
from segbench.store.records import KEY_DIGITS, digest
from segbench.store.row_files import read_each
from segbench.store.workspace import Workspace

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray
    from pandas import DataFrame

IDENTITY = ("cell", "case_sha256", "class_id")
"""The columns that a row is known by."""

ON_REQUEST: Mapping[str, Sequence[str]] = {
    "nsd_tolerance": ("hd95", "nsd", "nsd_tolerance", "pixel_mm"),
    "lesion_overlap": ("lesions", "lesions_found", "lesions_false", "lesion_overlap"),
}
"""What is measured where it is asked for: by what it was measured at, NaN where it was not."""

_SAME = 1e-4  # of a Jaccard computed twice
_ORDER = (
    "model", "dataset", "split", "attack", "attack_params", "budget_kind", "budget", "seed",
    "case_id", "class_id", "network_sha256", "cell", "case_sha256",
)  # fmt: skip


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
