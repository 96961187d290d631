"""JSON files of the store: written whole, and read only as they were written."""

from __future__ import annotations

import hashlib
import json
import stat
from collections.abc import Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

from segbench.atomic import read_whole, shown, write_atomically
from segbench.errors import MachineError, UserError

KEY_DIGITS = 32  # hexadecimal, of a digest that things are known by
_CHECKSUM = "sha256"
_ENCODER = json.JSONEncoder(sort_keys=True, separators=(",", ":"), allow_nan=False)
_SLOT = "\0"  # in no JSON, which escapes it
_LONG = 10_000  # characters
_KEPT = 1000  # hashes that have begun
_PLAIN = frozenset({str, int, bool, type(None)})


class OldStoreError(UserError):
    """The results are of an older segbench, whose rows mean something else by the same columns."""

    def __init__(self, results: Path) -> None:
        super().__init__(
            f"{results} was written by an older segbench (store of schema 1), which knew cases and "
            f"networks by name; nothing of it is deleted or mixed with new results: set it aside "
            f"with `mv {results} {results}-1` and run the same command again"
        )


def canonical(value: Any) -> Any:
    """JSON that is equal exactly where the facts are equal.

    A tuple is a list, 1.0 is 1, and a Fraction ``"n/d"``.

    Raises:
        TypeError: a key is not text.
    """
    if type(value) in _PLAIN:
        return value
    if isinstance(value, list | tuple):
        if {*map(type, value)} <= _PLAIN:  # as a hundred thousand keys are
            return [*value]
        return [canonical(item) for item in value]
    if isinstance(value, Mapping):
        if not all(isinstance(key, str) for key in value):
            raise TypeError(f"keys must be text: {list(value)}")
        return {key: canonical(item) for key, item in value.items()}
    if isinstance(value, Fraction):
        return f"{value.numerator}/{value.denominator}"
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value


def digest(facts: Mapping[str, Any]) -> str:
    """SHA-256 (hex) of the facts' canonical JSON.

    The order of keys, list or tuple, and 1 or 1.0 make no difference. Anything but text, numbers,
    booleans, None, lists and mappings is refused with TypeError, and NaN with ValueError.
    """
    return _hashed({key: canonical_text(value) for key, value in facts.items()})


class SharedDigest:
    """The digests of facts that differ in a few values alone, one at least.

    What is shared is written once, and hashed once as far as it stands before what varies.
    """

    def __init__(self, shared: Mapping[str, Any], varying: Sequence[str]) -> None:
        texts = {key: canonical_text(value) for key, value in shared.items()}
        *self._names, self._last = sorted(varying)
        pieces = _joined(texts | dict.fromkeys(varying, _SLOT)).split(_SLOT)
        start, *self._after = (piece.encode() for piece in pieces)
        self._start = hashlib.sha256(start)
        self._begun: dict[tuple[str, ...], Any] = {}

    def of(self, texts: Mapping[str, str]) -> str:
        """``digest`` of the shared facts and those that vary, given as ``canonical_text``."""
        most = tuple([texts[name] for name in self._names])
        begun = self._begun.get(most)
        if begun is None:
            begun = self._begin(most)
        whole = begun.copy()
        whole.update(texts[self._last].encode() + self._after[-1])
        found: str = whole.hexdigest()
        return found

    def _begin(self, most: tuple[str, ...]) -> Any:
        """The hash up to the last that varies, kept for others of which the same is so."""
        begun = self._start.copy()
        for text, after in zip(most, self._after, strict=False):
            begun.update(text.encode() + after)
        if len(self._begun) >= _KEPT:
            self._begun.clear()
        self._begun[most] = begun
        return begun


def canonical_text(value: Any) -> str:
    """The text of ``canonical``; NaN is refused with ValueError."""
    return _ENCODER.encode(canonical(value))


def _hashed(texts: Mapping[str, str]) -> str:
    return hashlib.sha256(_joined(texts).encode()).hexdigest()


def _joined(texts: Mapping[str, str]) -> str:
    """The mapping of those canonical texts, as one."""
    if not all(isinstance(key, str) for key in texts):
        raise TypeError(f"keys must be text: {list(texts)}")
    pairs = (f"{canonical_text(key)}:{text}" for key, text in sorted(texts.items()))
    return "{" + ",".join(pairs) + "}"


def record_bytes(facts: Mapping[str, Any]) -> bytes:
    """The facts as JSON that people can read, with their checksum; what is long stays on a line.

    They come back as canonical JSON has them. NaN is refused with ValueError.
    """
    texts = {key: canonical_text(value) for key, value in facts.items()}
    texts[_CHECKSUM] = canonical_text(_hashed(texts))
    lines = [f"  {canonical_text(key)}: {_spread(text)}" for key, text in sorted(texts.items())]
    return ("{\n" + ",\n".join(lines) + "\n}\n").encode()


def _spread(text: str) -> str:
    """The same JSON over several lines, unless there would be hundreds of them."""
    if len(text) > _LONG:
        return text
    return json.dumps(json.loads(text), indent=2).replace("\n", "\n  ")


def record_path(folder: Path, facts: Mapping[str, Any]) -> Path:
    """Where the record lies of which there is one, the newest, for such facts."""
    return folder / f"{digest(facts)[:KEY_DIGITS]}.json"


def write_record(path: Path, facts: Mapping[str, Any]) -> None:
    """Write the facts; whole or not at all.

    Raises:
        MachineError: the disk refused.
    """
    write_atomically(path, record_bytes(facts))


def read_record(path: Path) -> dict[str, Any] | None:
    """The facts of a file, None where there is none.

    Raises:
        UserError: it is not as it was written.
        MachineError: it may not be read.
    """
    return read_whole(path, lambda: _read(path))


def _read(path: Path) -> dict[str, Any] | None:
    try:
        require_regular(path)
        content: Any = json.loads(path.read_bytes())
        if not isinstance(content, dict):
            raise ValueError("no mapping")
        if content.pop(_CHECKSUM, None) != digest(content):
            raise ValueError("its checksum is not that of its content")
    except FileNotFoundError:
        return None
    except OSError as error:
        raise MachineError(f"cannot read {path}: {error.strerror or error}") from error
    except (ValueError, TypeError, RecursionError) as error:
        raise UserError(
            f"{shown(path)} is damaged or was not written by segbench ({error}); move it out of "
            "the workspace"
        ) from None
    return content


def require_regular(path: Path) -> None:
    """Refuse what would wait for ever, such as a named pipe; a missing file raises as opening does.

    Raises:
        UserError: it is no file.
    """
    if not stat.S_ISREG(path.stat().st_mode):
        raise UserError(f"{shown(path)} is not a regular file; move it out of the workspace")
