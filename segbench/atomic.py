"""Files that appear whole or not at all, whatever is killed and whoever else is writing.

And files that are read only where they are files: a named pipe would be waited for, for ever.
"""

from __future__ import annotations

import os
import re
import stat
import time
import uuid
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from segbench.errors import MachineError

_TEMPORARY = re.compile(r"\.[0-9a-f]{32}\.tmp")
_ABANDONED_AFTER = 24 * 60 * 60  # seconds; no write takes so long
_KINDS = {
    stat.S_IFIFO: "a named pipe",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFSOCK: "a socket",
    stat.S_IFDIR: "a folder",
}

_swept: set[Path] = set()


def require_regular(path: Path) -> None:
    """Refuse to open what is no file.

    Raises:
        OSError: there is nothing at ``path``, or a folder, a named pipe, a device or a socket.
    """
    kind = stat.S_IFMT(path.stat().st_mode)
    if kind != stat.S_IFREG:
        raise OSError(f"it is {_KINDS.get(kind, 'no file')}; expected a regular file")


def read_regular(path: Path) -> bytes:
    """The content of a file, once it is known to be one.

    Raises:
        OSError: see ``require_regular``, or it cannot be read.
    """
    require_regular(path)
    return path.read_bytes()


def write_atomically(path: Path, content: bytes | Iterable[bytes]) -> None:
    """Give ``path`` this content so that no reader and no crash ever meets half of it.

    Of content that is too large to be held, its parts one after another.

    Raises:
        MachineError: naming the path and the reason; the temporary file is removed.
    """
    try:
        temporary = _write_temporary(path, content)
        try:
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
        _sync_folder(path.parent)
    except OSError as error:
        raise _refused(path, error) from error


def write_exclusively(path: Path, content: bytes) -> bool:
    """The same where nothing has that name yet; False, and nothing is written, where something has.

    Raises:
        MachineError: naming the path and the reason; the temporary file is removed.
    """
    try:
        temporary = _write_temporary(path, content)
        try:
            claimed = _claim(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
        _sync_folder(path.parent)
    except OSError as error:
        raise _refused(path, error) from error
    return claimed


def _write_temporary(path: Path, content: bytes | Iterable[bytes]) -> Path:
    """The content, synced, in a hidden file beside ``path`` that no reader looks at."""
    path.parent.mkdir(parents=True, exist_ok=True)
    _sweep(path.parent)
    temporary = path.with_name(f".{uuid.uuid4().hex}.tmp")
    try:
        with temporary.open("xb") as file:
            for part in [content] if isinstance(content, bytes) else content:
                file.write(part)
            file.flush()
            os.fsync(file.fileno())
    except BaseException:  # Ctrl-C too: the file is removed, the exception goes on
        temporary.unlink(missing_ok=True)
        raise
    return temporary


def _sweep(folder: Path) -> None:
    """Remove what killed processes left in a folder, the first time this one writes there."""
    if folder in _swept:
        return
    _swept.add(folder)
    oldest = time.time() - _ABANDONED_AFTER
    with suppress(OSError):  # tidiness alone never stops a write
        for path in folder.iterdir():
            if _TEMPORARY.fullmatch(path.name) and path.lstat().st_mtime < oldest:
                path.unlink()


def _claim(temporary: Path, path: Path) -> bool:
    """Give the file the name unless it is taken; a hard link decides between two processes."""
    try:
        os.link(temporary, path)
    except FileExistsError:
        return False
    except OSError:  # a file system without hard links: rename, having looked
        if path.exists():
            return False
        os.replace(temporary, path)
    return True


def _sync_folder(folder: Path) -> None:
    """Make the names in a folder durable; only POSIX can open one."""
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _refused(path: Path, error: OSError) -> MachineError:
    return MachineError(f"cannot write {path}: {error.strerror or error}")
