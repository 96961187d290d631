"""Files that appear whole or not at all, whatever is killed and whoever else is writing.

And files that are read only where they are files: a named pipe would be waited for, for ever.

A folder may be the copy of another place, such as a bucket of an object store: then whatever is
written there lies in that place, whole, before it gets its name here, and goes there first.
"""

from __future__ import annotations

import os
import re
import stat
import time
import uuid
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Protocol, TypeVar

from segbench.errors import MachineError, UserError

Read = TypeVar("Read")

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


class Original(Protocol):
    """What a folder is the copy of."""

    def put(self, path: Path, content: Path, *, new: bool = False) -> bool:
        """Store that file's content as what ``path`` is the copy of; whole or not at all.

        False, and nothing is stored, where it is to be new and something has that name.

        Raises:
            MachineError: it may not be stored, or the place cannot be reached.
        """
        ...

    def remove(self, path: Path) -> None:
        """Remove what ``path`` is the copy of, if it is there.

        Raises:
            MachineError: see ``put``.
        """
        ...

    def restore(self, path: Path) -> bool:
        """Let the file be again what it is the copy of; whether it was anything else.

        Raises:
            MachineError: see ``put``.
        """
        ...

    def name(self, path: Path) -> str:
        """What ``path`` is the copy of, for people."""
        ...


_originals: dict[Path, Original] = {}


def copy_of(folder: Path, original: Original) -> None:
    """From now on the folder, an absolute path, is a copy in this process."""
    _originals[folder] = original


def shown(path: Path) -> str:
    """A file or folder for people: by the name of what it is the copy of, where it is one."""
    original = _original_of(path)
    return original.name(path) if original else str(path)


def _original_of(path: Path) -> Original | None:
    for folder, original in _originals.items():
        if path.is_relative_to(folder):
            return original
    return None


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


def read_whole(path: Path, read: Callable[[], Read]) -> Read:
    """What ``read`` gives of a file; of one that is a damaged copy, what it gives of a new copy.

    A disk that spoils a copy spoils nothing of what it is the copy of, and nobody is told to
    delete that.

    Raises:
        UserError: of ``read``, where the file is no copy, or what it is the copy of is no better.
        MachineError: it cannot be copied.
    """
    try:
        return read()
    except UserError:
        original = _original_of(path)
        if original is None or not original.restore(path):
            raise
    return read()


def write_atomically(path: Path, content: bytes | Iterable[bytes]) -> None:
    """Give ``path`` this content so that no reader and no crash ever meets half of it.

    Of content that is too large to be held, its parts one after another.

    Raises:
        MachineError: naming the path and the reason; the temporary file is removed.
    """
    try:
        temporary = _write_temporary(path, content)
        try:
            if original := _original_of(path):
                original.put(path, temporary)
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


def remove(path: Path) -> None:
    """Remove a file, if it is there.

    Raises:
        MachineError: naming the path and the reason.
    """
    if original := _original_of(path):
        original.remove(path)
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise MachineError(f"cannot remove {path}: {error.strerror or error}") from error


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
    if original := _original_of(path):
        if not original.put(path, temporary, new=True):
            return False
        os.replace(temporary, path)
        return True
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
