"""torch.export archives (``.pt2``), opened so that nothing in one runs by being read.

torch itself unpickles whatever its tensors cannot be read from otherwise, loads compiled libraries,
evaluates the graph's shape expressions as Python, and writes the graph's names into Python source.
So an archive is read here first: sample inputs and guards, which no network needs, are left out;
pickles must be tensors alone; and of the graph, names must be names, expressions arithmetic, and
functions operators of torch's. torch is then given a copy of what was checked and nothing else.

The network's own operators run when the network does, as those of any network.
"""

from __future__ import annotations

import ast
import io
import json
import logging
import re
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from segbench.training.records import RecordsError, check_records

_PROGRAMS = ("/models/model.json", "serialized_exported_program.json")  # now, and up to torch 2.7
_NAMES = frozenset({"name", "as_name", "forward_arg_names"})
_NAMED = ("_name",)  # parameter_name, buffer_name, ...: quoted in the source
_FUNCTIONS = frozenset({"target", "as_operator"})
_KEYED = frozenset(
    {
        "tensor_values", "sym_int_values", "sym_bool_values", "sym_float_values",
        "custom_obj_values",
    }
)  # fmt: skip
_FREE = frozenset({"metadata", "as_string", "as_strings", "out_spec", "torch_version"})

_NAME = re.compile(r"[\w.]*")
_QUOTED = re.compile(r"[^\"'\\\x00-\x1f\x7f]*")
_TREE = re.compile(r'[\w."\[\]{},: -]*')
_OPERATOR = re.compile(
    r"torch\.ops\.(?!debugprims\.)\w+\.(?!(save|from_file)\b)\w+(\.\w+)?"  # those two write files
    r"|torch\._?sym_\w+|math\.\w+|_operator\.(getitem|add|sub|mul|truediv|floordiv|mod|pow|neg|pos|abs"
    r"|eq|ne|lt|le|gt|ge|and_|or_|xor|not_|inv|invert|lshift|rshift)"  # others call what they get
)
_ARITHMETIC = (
    ast.Expression, ast.Call, ast.keyword, ast.Name, ast.Load, ast.Constant, ast.Tuple,
    ast.BinOp, ast.UnaryOp, ast.BoolOp, ast.Compare,
    ast.operator, ast.unaryop, ast.boolop, ast.cmpop,
)  # fmt: skip
_CALLED = re.compile(r"[A-Z]\w*|floor|ceiling")  # sympy's; no function of Python's own is so named
_LOGGERS = ("torch.export", "torch.export.pt2_archive._package", "torch._export.serde.serialize")


class HostileArchiveError(ValueError):
    """An archive that holds code; the message says where."""


def load_exported(content: bytes) -> nn.Module:
    """The program in an archive, on the devices it names.

    Raises:
        HostileArchiveError: something in it would run, or could.
        Exception: anything at all, where it is no archive of torch.export.
    """
    with _silent():
        return torch.export.load(io.BytesIO(checked_copy(content))).module()


def checked_copy(content: bytes) -> bytes:
    """The archive without what only could do harm.

    Raises:
        HostileArchiveError: something is left that would run, or could.
        RecordsError, ValueError, KeyError: it is no archive.
    """
    names = check_records(io.BytesIO(content))
    if not any(name.endswith(_PROGRAMS) for name in names):
        raise RecordsError("it holds no exported program")
    copy = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as records, zipfile.ZipFile(copy, "w") as copied:
        raw = _raw_records(records, names)
        for name in names:
            record = records.read(name)
            if _is_sample(name):
                record = b""
            elif "/aotinductor/" in name:
                raise HostileArchiveError(f"{name} is compiled code")
            elif name.endswith(".json"):
                record = _checked_graph(record, name)
            elif name in raw or _is_label(name):
                pass
            else:
                _check_pickle(record, name)
            copied.writestr(name, record)
    return copy.getvalue()


def _is_sample(name: str) -> bool:
    return "/sample_inputs/" in name or name == "serialized_example_inputs.pt"


def _is_label(name: str) -> bool:
    """Whether a record says what the archive is: its version, its byte order, extra notes."""
    last = name.rpartition("/")[2]
    labels = {"archive_format", "archive_version", "byteorder", "version", "serialization_id"}
    return last in labels or "/extra/" in name or name.startswith("extra_files/")


def _raw_records(records: zipfile.ZipFile, names: list[str]) -> set[str]:
    """Those that torch reads as bare numbers, as the archive's own lists say of them."""
    raw: set[str] = set()
    pickled: set[str] = set()
    for name in names:
        if name.endswith("_config.json"):
            folder = name.rpartition("/")[0]
            for payload in json.loads(records.read(name))["config"].values():
                if re.match("custom_obj_|opaque_obj_", payload["path_name"]):
                    raise HostileArchiveError(f"{payload['path_name']} is an object, not a tensor")
                kind = pickled if payload["use_pickle"] else raw
                kind.add(f"{folder}/{payload['path_name']}")
    return raw - pickled


def _check_pickle(record: bytes, name: str) -> None:
    """A record that torch would unpickle, as far as anyone can tell, must be tensors alone."""
    try:
        if record:
            torch.load(io.BytesIO(record), map_location="cpu", weights_only=True)
    except Exception as error:  # torch's reader fails in any way at all on foreign bytes
        raise HostileArchiveError(f"{name} is no tensor, and was not unpickled") from error


def _checked_graph(record: bytes, name: str) -> bytes:
    """The graph, or a list of tensors, without its guards, which are Python."""
    content = json.loads(record)
    if isinstance(content, dict) and "guards_code" in content:
        content["guards_code"] = []
    _check_graph(content, name)
    return json.dumps(content).encode()


def _check_graph(value: Any, where: str, key: str = "") -> None:
    """Every text that torch would write into Python source, or evaluate."""
    if isinstance(value, dict):
        for name, item in value.items():
            if key in _KEYED:
                _require(_NAME.fullmatch(name), "a name", name, where)
            if name not in _FREE:
                _check_graph(item, where, name)
    elif isinstance(value, list):
        for item in value:
            _check_graph(item, where, key)
    elif isinstance(value, str):
        _check_text(value, where, key)


def _check_text(text: str, where: str, key: str) -> None:
    if key in _NAMES:
        _require(_NAME.fullmatch(text), "a name", text, where)
    elif key.endswith(_NAMED):
        _require(_QUOTED.fullmatch(text), "a name", text, where)
    elif key in _FUNCTIONS:
        _require(_OPERATOR.fullmatch(text), "an operator of torch's", text, where)
    elif key == "expr_str":
        _require(_is_arithmetic(text), "arithmetic", text, where)
    elif key == "in_spec":
        _require(_TREE.fullmatch(_unquoted(text)), "a tree of inputs", text, where)


def _unquoted(text: str) -> str:
    """The text of a tree of inputs, whose own texts are JSON once more."""
    return text.replace('\\"', '"')


def _is_arithmetic(text: str) -> bool:
    """Whether an expression is numbers, symbols and sympy's functions of them, and no more."""
    try:
        nodes = list(ast.walk(ast.parse(text, mode="eval")))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    for node in nodes:
        if not isinstance(node, _ARITHMETIC):
            return False
        if isinstance(node, ast.Call):
            name = node.func.id if isinstance(node.func, ast.Name) else ""
            if not _CALLED.fullmatch(name):
                return False
        value = node.value if isinstance(node, ast.Constant) else None
        if isinstance(value, str | bytes) and not re.fullmatch(r"[\w.+-]*", str(value)):
            return False
    return True


def _require(holds: Any, what: str, text: str, where: str) -> None:
    if not holds:
        raise HostileArchiveError(f"{where} has {text[:60]!r} where only {what} may stand")


@contextmanager
def _silent() -> Iterator[None]:
    """torch logs what it fails at, traceback and all; what it raises says the same."""
    loggers = [logging.getLogger(name) for name in _LOGGERS]
    before = [logger.disabled for logger in loggers]
    for logger in loggers:
        logger.disabled = True
    try:
        yield
    finally:
        for logger, disabled in zip(loggers, before, strict=True):
            logger.disabled = disabled
