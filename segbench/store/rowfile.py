"""One Parquet file of rows: its columns and types, and its header.

A shard's header holds its address (cell, number, time) and every column that is the same in all
its rows; a compacted file holds all columns as they are. Both read back as the same full table.
Arrow is imported only when a file is read or written.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from segbench.errors import MachineError, UserError

if TYPE_CHECKING:
    import pyarrow as pa

SCHEMA_VERSION = 1

COLUMNS: Mapping[str, str] = {
    "model": "string",
    "weights_sha256": "string",
    "dataset": "string",
    "dataset_fingerprint": "string",
    "split": "string",
    "case_id": "string",
    "group_id": "string",
    "class_id": "int32",
    "class_name": "string",
    "attack": "string",
    "attack_params": "string",  # JSON, every field of the attack
    "budget_kind": "string",
    "budget": "double",
    "seed": "int64",
    "jaccard": "double",
    "dice": "double",
    "accuracy": "double",
    "sensitivity": "double",
    "specificity": "double",
    "false_positives": "int64",
    "hd95": "double",
    "nsd": "double",
    "target_jaccard": "double",
    "linf": "double",
    "l2": "double",
    "forwards": "int64",
    "backwards": "int64",
    "seconds": "double",  # this case's share of its batch
    "precision": "string",
    "device": "string",
    "marks": "string",  # words separated by spaces, see marks.py
}
"""A row's columns in order, with their Arrow types. Floats may be NaN; nothing may be null."""

ADDRESS: Mapping[str, str] = {"cell": "string", "shard": "int64", "created": "double"}
"""Where and when (Unix time) a row was written; readers get these after ``COLUMNS``."""

_HEADER = b"segbench"  # the key of our JSON in a Parquet file's metadata


@cache
def schema() -> pa.Schema:
    """The Arrow schema of a full table: ``COLUMNS`` then ``ADDRESS``."""
    import pyarrow as pa

    types = {**COLUMNS, **ADDRESS}
    return pa.schema([pa.field(name, pa.type_for_alias(kind)) for name, kind in types.items()])


def typed_table(constants: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> pa.Table:
    """The rows as a table of those columns that are not constant.

    Raises:
        ValueError, TypeError: a column is missing, unknown, given twice, null or of the wrong
            type, which is a bug in the caller.
    """
    import pyarrow as pa

    varying = [name for name in COLUMNS if name not in constants]
    for row in rows:
        if row.keys() != set(varying):
            raise ValueError(f"columns missing or too many: {sorted(row.keys() ^ set(varying))}")
    fields = pa.schema([schema().field(name) for name in varying])
    table = pa.Table.from_pylist(list(rows), schema=fields)
    if nulls := [name for name in varying if table[name].null_count]:
        raise ValueError(f"null values in {nulls}")
    return table


def typed_constants(constants: Mapping[str, Any]) -> dict[str, Any]:
    """The constants as plain values of their columns' types.

    Raises:
        ValueError, TypeError: one is unknown or of the wrong type, which is a bug in the caller.
    """
    import pyarrow as pa

    for name, value in constants.items():
        if name not in COLUMNS or value is None:
            raise ValueError(f"{name}={value!r} cannot be a constant column")
    return {
        name: pa.scalar(value, schema().field(name).type).as_py()
        for name, value in constants.items()
    }


def to_bytes(table: pa.Table, header: Mapping[str, Any]) -> bytes:
    """A whole Parquet file, with the header as JSON in its metadata."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    text = json.dumps({"schema": SCHEMA_VERSION, **header}, sort_keys=True)
    sink = pa.BufferOutputStream()
    pq.write_table(table.replace_schema_metadata({_HEADER: text.encode()}), sink)
    content: bytes = sink.getvalue().to_pybytes()
    return content


def read_if_there(path: Path, columns: Sequence[str] | None = None) -> pa.Table | None:
    """A file's full table, or some of its columns; None if the file has been removed.

    Raises:
        UserError: it is damaged, foreign, or of a newer schema.
        MachineError: it may not be read.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with path.open("rb") as file:
            stored = pq.ParquetFile(file)
            header = _header(path, stored.schema_arrow.metadata or {})
            table = stored.read(columns=columns)  # those it stores; the header has the others
    except FileNotFoundError:
        return None
    except PermissionError as error:
        raise MachineError(f"cannot read {path}: {error.strerror}") from error
    except (pa.ArrowException, OSError) as error:
        raise UserError(
            f"{path} is damaged or not a Parquet file ({str(error).splitlines()[0]}); "
            "delete it and run the same command again"
        ) from error
    return _expand(path, table, header, columns or schema().names)


def _header(path: Path, metadata: Mapping[bytes, bytes]) -> dict[str, Any]:
    if _HEADER not in metadata:
        raise UserError(f"{path} was not written by segbench; move it out of the workspace")
    header: dict[str, Any] = json.loads(metadata[_HEADER])
    if header["schema"] > SCHEMA_VERSION:
        raise UserError(
            f"{path} has schema {header['schema']}, but this segbench reads up to "
            f"{SCHEMA_VERSION}; update segbench or use another workspace"
        )
    return header


def _expand(
    path: Path, table: pa.Table, header: Mapping[str, Any], names: Sequence[str]
) -> pa.Table:
    """Those columns in that order, from the table or, where constant, from the header."""
    import pyarrow as pa

    fixed = {**header.get("constants", {}), **{name: header.get(name) for name in ADDRESS}}
    wanted = pa.schema([schema().field(name) for name in names])
    columns = []
    for field in wanted:
        if field.name in table.column_names:
            columns.append(table[field.name])
        elif fixed.get(field.name) is not None:
            columns.append(pa.repeat(pa.scalar(fixed[field.name], field.type), len(table)))
        else:
            raise UserError(f"{path} lacks the column {field.name!r}; move it out of the workspace")
    return pa.table(columns, schema=wanted)
