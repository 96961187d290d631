"""The configuration of a MONAI bundle, read without evaluating a word of it.

MONAI itself gives texts that begin with ``$`` to Python and imports whatever ``_target_`` names.
Here references (``@key``, ``%key``) are followed within the file, and a text with ``$`` is taken
only where it is a plain number, list or text; anything else that is needed is refused by its key.
"""

from __future__ import annotations

import ast
import io
import json
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from segbench.atomic import read_regular
from segbench.errors import UserError

_ENDINGS = (".json", ".yaml", ".yml")
_LARGEST_CONFIG = 4 << 20  # bytes; they are some kilobytes
_LARGEST_SHARE = 50  # of a compressed record, what it may unpack to
_DEPTH = 20  # of references to references
_NOT_ARGUMENTS = ("_target_", "_disabled_", "_requires_", "_desc_", "_mode_")


@dataclass(frozen=True, eq=False)
class Bundle:
    """A bundle's files: a folder, or a zip of one."""

    path: Path
    metadata: Mapping[str, Any]
    config: Config

    def read(self, name: str) -> bytes | None:
        """The content of a file of it, None where it has none of that name."""
        return _read(self.path, name)


@dataclass(frozen=True, eq=False)
class Config:
    """The content of a configuration file."""

    file: str
    content: Mapping[str, Any]

    def has(self, key: str) -> bool:
        """Whether there is such a key at the top."""
        return key in self.content

    def plain(self, value: Any, key: str, depth: int = 0) -> Any:
        """A value with its references followed, everything in it plain.

        Raises:
            UserError: it would have to be evaluated; ``key`` says where.
        """
        if depth > _DEPTH:
            raise UserError(f"{self.file}: {key} refers to itself")
        if isinstance(value, dict):
            return {name: self.plain(v, f"{key}::{name}", depth) for name, v in value.items()}
        if isinstance(value, list):
            return [self.plain(v, f"{key}::{n}", depth) for n, v in enumerate(value)]
        if isinstance(value, str) and value[:1] in "@%" and value:
            return self.plain(self.at(value[1:], key), key, depth + 1)
        if isinstance(value, str) and value.startswith("$"):
            return self._literal(value, key)
        return value

    def at(self, address: str, key: str) -> Any:
        """The value at ``a::b`` or ``a#b``.

        Raises:
            UserError: there is none.
        """
        found: Any = self.content
        for step in address.replace("#", "::").split("::"):
            try:
                found = found[int(step)] if isinstance(found, list) else found[step]
            except (KeyError, IndexError, TypeError, ValueError):
                raise UserError(
                    f"{self.file}: {key} refers to {address!r}, which is not in it"
                ) from None
        return found

    def part(self, value: Any, key: str) -> tuple[str, dict[str, Any]] | None:
        """The last name of a ``_target_``, and its arguments; None where it is disabled.

        Raises:
            UserError: it has none, or arguments that would have to be evaluated.
        """
        if isinstance(value, str) and value[:1] in ("@", "%"):
            return self.part(self.at(value[1:], key), key)
        if not isinstance(value, dict) or not isinstance(value.get("_target_"), str):
            raise UserError(
                f"{self.file}: {key} is no part of MONAI's (_target_), but {value!r:.60}"
            )
        if value.get("_disabled_", False) is True:
            return None
        arguments = {
            name: self.plain(argument, f"{key}::{name}")
            for name, argument in value.items()
            if name not in _NOT_ARGUMENTS
        }
        return value["_target_"], arguments

    def _literal(self, value: str, key: str) -> Any:
        try:
            return ast.literal_eval(value[1:].strip())
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            raise UserError(
                f"{self.file}: {key} = {value!r:.80} is Python, and is not run; write the value "
                "itself there"
            ) from None


def open_bundle(path: Path, config: str) -> Bundle:
    """The bundle in a folder or zip.

    Args:
        config: the name of the configuration, without its ending.

    Raises:
        UserError: it lacks a file, or one of them cannot be read.
    """
    metadata = _parsed(path, "configs/metadata.json")
    if metadata is None:
        raise UserError(f"{path} is no MONAI bundle: it has no configs/metadata.json")
    for ending in _ENDINGS:
        name = f"configs/{config}{ending}"
        content = _parsed(path, name)
        if content is not None:
            return Bundle(path, metadata, Config(f"{path}/{name}", content))
    raise UserError(f"{path} has no configs/{config}.json or .yaml")


def _parsed(path: Path, name: str) -> dict[str, Any] | None:
    content = _read(path, name)
    if content is None:
        return None
    if len(content) > _LARGEST_CONFIG:
        raise UserError(f"{path}/{name} has {len(content)} bytes, which no configuration has")
    try:
        parsed = _yaml(content) if name.endswith((".yaml", ".yml")) else json.loads(content)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}/{name} cannot be read: {str(error).splitlines()[0]}") from None
    if not isinstance(parsed, dict):
        raise UserError(f"{path}/{name} holds no table")
    return parsed


def _yaml(content: bytes) -> Any:
    try:
        import yaml
    except ImportError:
        raise UserError("bundles in YAML need PyYAML; pip install PyYAML") from None
    try:
        return yaml.safe_load(content)
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from None


def _read(path: Path, name: str) -> bytes | None:
    """A file of a bundle; in a zip it may lie within the one folder that is zipped."""
    try:
        if path.is_dir():
            file = path / name
            return read_regular(file) if file.exists() else None
        with zipfile.ZipFile(io.BytesIO(read_regular(path))) as records:
            found = [
                record
                for record in records.infolist()
                if record.filename == name or record.filename.partition("/")[2] == name
            ]
            if not found:
                return None
            if found[0].file_size > _LARGEST_SHARE * max(found[0].compress_size, 1 << 20):
                raise UserError(f"{path} has {name} packed beyond reason; it is not unpacked")
            return records.read(found[0])
    except (OSError, zipfile.BadZipFile, NotImplementedError, RuntimeError) as error:
        raise UserError(f"{path} cannot be read: {error}") from None
