"""One Parquet file of rows: its columns and types, its header, and its checksum.

A file's header holds every column that is the same in all its rows; a shard's its address (cell,
run, time) too, which in a compacted file are columns. Both read back as the same full table. A
file's name ends in the SHA-256 of its bytes, so that no flipped bit is ever read as a score. Arrow
is imported only when a file is read or written.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from segbench.atomic import read_whole, shown, write_atomically
from segbench.errors import MachineError, UserError
from segbench.store.records import OldStoreError, require_regular

if TYPE_CHECKING:
    import pyarrow as pa

SCHEMA_VERSION = 2

COLUMNS: Mapping[str, str] = {
    "model": "string",
    "weights_sha256": "string",
    "network_sha256": "string",  # weights, architecture and all that is put around them
    "dataset": "string",
    "dataset_fingerprint": "string",
    "split": "string",
    "case_id": "string",
    "case_sha256": "string",  # Case.sha256
    "group_id": "string",
    "class_id": "int32",
    "class_name": "string",
    "attack": "string",
    "attack_params": "string",  # JSON, every field of the attack
    "attack_sha256": "string",  # its code, and that of what it runs; "" of no attack
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
    "nsd_tolerance": "double",  # in mm, or pixels without spacing; NaN: hd95 and nsd not asked for
    "pixel_mm": "double",  # longest side of a pixel, 0: hd95 and nsd_tolerance are in pixels
    "lesions": "double",  # see metrics/lesions.py; NaN, as of all four: not asked for
    "lesions_found": "double",
    "lesions_false": "double",
    "lesion_overlap": "double",  # intersection over union that found means more than
    "target_jaccard": "double",
    "smoothed_jaccard": "double",  # of a certificate: on the clean image, abstained is no class
    "abstained": "double",  # share of the case where nothing is certified; NaN, as of all four,
    "abstained_inside": "double",  # of other rows. The same of the class's own pixels,
    "coarse": "double",  # and the share that is certified as a coarser class
    "linf": "double",
    "l2": "double",
    "forwards": "int64",
    "backwards": "int64",
    "zero_gradients": "double",  # share of them that were zero in every pixel; NaN of none
    "late_gain": "double",  # fall of its lowest score in the last half of its steps, NaN of none
    "member": "string",  # of a suite, which of its members found the image; "" of other attacks
    "seconds": "double",  # this case's share of its batch
    "precision": "string",
    "gradient_check": "string",  # how gradients of lower precision compare with those of fp32
    "device": "string",
    "marks": "string",  # words separated by spaces, see marks.py
}
"""A row's columns in order, with their Arrow types. Floats may be NaN; nothing may be null."""

CERTIFIED = ("smoothed_jaccard", "abstained", "abstained_inside", "coarse")
"""What only the rows of certificates have; NaN in all others."""

LATER: Mapping[str, str | float] = {
    "attack_sha256": "",
    "gradient_check": "",
    "late_gain": float("nan"),
    "member": "",
    "pixel_mm": float("nan"),
    **dict.fromkeys(("lesions", "lesions_found", "lesions_false", "lesion_overlap"), float("nan")),
    **dict.fromkeys(CERTIFIED, float("nan")),
}
"""Columns that older files of this schema lack, and what is read there."""

ADDRESS: Mapping[str, str] = {"cell": "string", "run": "int64", "created": "double"}
"""The cell of a row, the run that computed it and when (Unix time); after ``COLUMNS``."""

_TEXTS = [name for name, kind in {**COLUMNS, **ADDRESS}.items() if kind == "string"]
_CHECKSUM = re.compile(r"-([0-9a-f]{16})\.parquet$")
_NOT_ITS_NAME = "its checksum is not that of its name"
_CONSTANTS = "constants"
_HEADER = b"segbench"  # the key of our JSON in a Parquet file's metadata


@cache
def schema(categories: bool = False) -> pa.Schema:
    """The Arrow schema of a full table: ``COLUMNS`` then ``ADDRESS``; texts may be dictionaries."""
    import pyarrow as pa

    types = {name: pa.type_for_alias(kind) for name, kind in {**COLUMNS, **ADDRESS}.items()}
    if categories:
        named = pa.dictionary(pa.int32(), pa.string())
        types = {n: named if kind == pa.string() else kind for n, kind in types.items()}
    return pa.schema([pa.field(name, kind) for name, kind in types.items()])


@cache
def _part(names: tuple[str, ...], categories: bool) -> pa.Schema:
    """The schema of those columns, in that order."""
    import pyarrow as pa

    return pa.schema([schema(categories).field(name) for name in names])


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


def write(folder: Path, stem: str, table: pa.Table, header: Mapping[str, Any]) -> Path:
    """Write ``<stem>-<checksum>.parquet``, the header as JSON in its metadata; whole or not at all.

    Where the header does not say which columns are constant, those that are go into it.

    Raises:
        MachineError: the disk refused.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    if _CONSTANTS not in header:
        constants = _constants(table)
        table, header = table.drop_columns([*constants]), {**header, _CONSTANTS: constants}
    text = json.dumps({"schema": SCHEMA_VERSION, **header}, sort_keys=True)
    sink = pa.BufferOutputStream()
    pq.write_table(table.replace_schema_metadata({_HEADER: text.encode()}), sink)
    content: bytes = sink.getvalue().to_pybytes()
    path = folder / f"{stem}-{_checksum(content)}.parquet"
    write_atomically(path, content)
    return path


def _constants(table: pa.Table) -> dict[str, Any]:
    """The columns that are the same in all rows, with their value; to the bit."""
    import pyarrow.compute as pc

    found = {}
    for name in table.column_names:
        if name not in ADDRESS and len(values := pc.unique(table[name])) == 1:
            found[name] = values[0].as_py()
    return found


def read_if_there(
    path: Path, columns: Sequence[str] | None = None, *, categories: bool = False
) -> pa.Table | None:
    """A file's full table, or some of its columns; None if the file has been removed.

    With ``categories`` texts are dictionaries.

    Raises:
        UserError: it is damaged, foreign, or of another schema.
        MachineError: it may not be read.
    """
    return read_whole(path, lambda: _read(path, columns, categories))


def _read(path: Path, columns: Sequence[str] | None, categories: bool) -> pa.Table | None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    content = _content(path)
    if content is None:
        return None
    named = _CHECKSUM.search(path.name)
    if named:  # before a word of it is believed
        _verify(path, content, named[1])
    try:
        source = pa.BufferReader(content)
        facts = pq.read_metadata(source)
        header = _header(path, facts.metadata or {})
        if not named:
            raise _damaged(path, _NOT_ITS_NAME)
        there = set(facts.schema.names)
        dictionaries = [name for name in _TEXTS if name in there] if categories else None
        stored = pq.ParquetFile(source, metadata=facts, read_dictionary=dictionaries)
        wanted = [*(columns or schema().names)]
        table = stored.read(columns=[name for name in wanted if name in there])
    except (pa.ArrowException, OSError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise _damaged(path, reason) from error
    return _expand(path, table, header, _part(tuple(wanted), categories))


def _content(path: Path) -> bytes | None:
    try:
        require_regular(path)
        return path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise MachineError(f"cannot read {path}: {error.strerror or error}") from error


def _verify(path: Path, content: bytes, checksum: str) -> None:
    """Refuse a file whose bytes are not those it was written with."""
    if checksum != _checksum(content):
        raise _damaged(path, _NOT_ITS_NAME)


def _checksum(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]


def _damaged(path: Path, reason: str) -> UserError:
    return UserError(
        f"{shown(path)} is damaged or not a Parquet file of segbench ({reason}); delete it and run "
        "the same command again"
    )


def _header(path: Path, metadata: Mapping[bytes, bytes]) -> dict[str, Any]:
    if _HEADER not in metadata:
        raise UserError(f"{shown(path)} was not written by segbench; move it out of the workspace")
    try:
        header: dict[str, Any] = json.loads(metadata[_HEADER])
        version = int(header["schema"])
    except (ValueError, KeyError, TypeError) as error:
        raise _damaged(path, f"its header cannot be read: {type(error).__name__}") from None
    if version < SCHEMA_VERSION:
        raise OldStoreError(path.parent if path.parent.name == "results" else path.parent.parent)
    if version > SCHEMA_VERSION:
        raise UserError(
            f"{shown(path)} has schema {version}, but this segbench reads up to "
            f"{SCHEMA_VERSION}; update segbench or use another workspace"
        )
    return header


def _expand(path: Path, table: pa.Table, header: Mapping[str, Any], wanted: pa.Schema) -> pa.Table:
    """Those columns in that order, from the table or, where constant, from the header."""
    import pyarrow as pa

    fixed = {**header.get(_CONSTANTS, {}), **{name: header.get(name) for name in ADDRESS}}
    stored = dict(zip(table.column_names, table.columns, strict=True))
    columns = []
    for field in wanted:
        if field.name in stored:
            columns.append(stored[field.name])
        elif fixed.get(field.name) is not None:
            columns.append(_repeat(fixed[field.name], field.type, len(table)))
        elif field.name in LATER:
            columns.append(_repeat(LATER[field.name], field.type, len(table)))
        else:
            raise _damaged(path, f"it lacks the column {field.name!r}")
    return pa.table(columns, schema=wanted)


def _repeat(value: Any, kind: pa.DataType, count: int) -> pa.Array:
    import pyarrow as pa

    if not pa.types.is_dictionary(kind):
        return pa.repeat(pa.scalar(value, kind), count)
    places = pa.repeat(pa.scalar(0, kind.index_type), count)
    return pa.DictionaryArray.from_arrays(places, pa.array([value], kind.value_type))
