"""One training per checkpoint folder at a time: its files belong together, and are several."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from segbench.errors import MachineError, UserError

LOCK_FILE = ".lock"


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """The folder is this process's while the block runs; a process that dies gives it back.

    Raises:
        UserError: it is another's now.
        MachineError: the folder cannot be made or written.
    """
    lock = FileLock(folder / LOCK_FILE, timeout=0)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except Timeout:
        raise UserError(
            f"{folder} is being trained by another process; wait for it to finish, or give "
            "another --workspace or --seed"
        ) from None
    except OSError as error:
        raise MachineError(f"cannot write {lock.lock_file}: {error.strerror or error}") from error
    try:
        yield
    finally:
        lock.release()
