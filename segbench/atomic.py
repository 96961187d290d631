"""Files that appear whole or not at all, whatever is killed and whoever else is writing."""

from __future__ import annotations

import os
import uuid
from pathlib import Path

from segbench.errors import MachineError


def write_atomically(path: Path, content: bytes) -> None:
    """Give ``path`` this content so that no reader and no crash ever meets half of it.

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


def _write_temporary(path: Path, content: bytes) -> Path:
    """The content, synced, in a hidden file beside ``path`` that no reader looks at."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{uuid.uuid4().hex}.tmp")
    try:
        with temporary.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
    except BaseException:  # Ctrl-C too: the file is removed, the exception goes on
        temporary.unlink(missing_ok=True)
        raise
    return temporary


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
