"""One training per checkpoint folder at a time: its files belong together, and are several.

On one machine the file system says who trains. Of a workspace in an object store a file says it to
other machines: ``training-<n>.json``, whose owner writes it anew every minute. One that was not for
five is of a machine that is gone; whoever creates the next number, which one alone can, goes on.
Of a process of this machine that was killed that is known at once; see ``alive``.
Clocks that differ by minutes would make that too early, or too late.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from segbench.atomic import remove, shown, write_exclusively
from segbench.errors import MachineError, UserError
from segbench.store.alive import Process, this_process
from segbench.store.records import read_record, record_bytes, write_record
from segbench.store.workspace import Workspace

LOCK_FILE = ".lock"
_LEASE = re.compile(r"training-(\d+)\.json")
_RENEWED, _ABANDONED = 60.0, 300.0  # seconds


@contextmanager
def locked(workspace: Workspace, folder: Path) -> Iterator[None]:
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
            f"{shown(folder)} is being trained by another process; wait for it to finish, or give "
            "another --workspace or --seed"
        ) from None
    except OSError as error:
        raise MachineError(f"cannot write {lock.lock_file}: {error.strerror or error}") from error
    try:
        if not workspace.mirror:
            yield
            return
        with _leased(workspace, folder):
            yield
    finally:
        lock.release()


@contextmanager
def _leased(workspace: Workspace, folder: Path) -> Iterator[None]:
    """The same among machines, none of which sees the other's locks."""
    path, former = _take(workspace, folder)
    done = threading.Event()
    renewing = threading.Thread(target=_renew, args=(path, done), daemon=True)
    renewing.start()
    try:
        for old in former:
            remove(old)
        workspace.refresh(folder)  # what its last owner left
        yield
    finally:
        done.set()
        renewing.join()
        remove(path)


def _take(workspace: Workspace, folder: Path) -> tuple[Path, list[Path]]:
    """A lease of one's own, and those of owners that are gone.

    Raises:
        UserError: another machine has one.
    """
    while True:
        workspace.refresh(folder)
        former = {int(match[1]): p for p in folder.iterdir() if (match := _LEASE.fullmatch(p.name))}
        for path in former.values():
            _refuse_living(path, folder)
        path = folder / f"training-{max(former, default=0) + 1}.json"
        if write_exclusively(path, record_bytes(_owner())):
            return path, list(former.values())


def _refuse_living(path: Path, folder: Path) -> None:
    """Raise where the owner of a lease may still be there."""
    try:
        lease = read_record(path) or {}
        owner = Process.model_validate(lease)
        silent = time.time() - float(lease["renewed"])
    except (UserError, KeyError, TypeError, ValueError):
        return  # whatever is no lease is nobody's
    if silent < _ABANDONED and not owner.is_gone:
        ago = max(0.0, silent)  # of a clock that is ahead
        raise UserError(
            f"{shown(folder)} is being trained on {owner.host}, which said so {ago:.0f} s ago; "
            f"wait for it to finish, or, if it is gone, until that is {_ABANDONED:.0f} s"
        )


def _renew(path: Path, done: threading.Event) -> None:
    while not done.wait(_RENEWED):
        with suppress(MachineError):  # what cannot be reached now may be in a minute
            write_record(path, _owner())


def _owner() -> dict[str, Any]:
    return this_process().model_dump() | {"renewed": time.time()}
