"""A folder of this machine as the copy of a workspace in an object store.

Everything works on the copy; the store's objects are what counts. A file is put there before it
gets its name here (see ``atomic``), so that the copy never holds what they lack, and may be deleted
at any time. Whoever reads a part of the workspace has it refreshed first: what is new there is
fetched, and what is gone there goes here. What a run writes once has a name that no other content
has; anything else is compared by its version.
"""

from __future__ import annotations

import filecmp
import hashlib
import json
import os
import re
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock

from segbench.errors import MachineError, UserError
from segbench.store.objects import Objects, Stored

_NEVER_CHANGES = re.compile(r".+-([0-9a-f]{16}|[0-9a-f]{64})\.(parquet|safetensors)")
_VERSIONS, _LOCK = ".versions.json", ".lock"
_AT_ONCE = 16  # objects that are fetched


class Mirror:
    """The copy in ``root`` of what ``objects`` has."""

    def __init__(self, root: Path, objects: Objects) -> None:
        self.root, self.objects = root, objects

    def name(self, path: Path) -> str:
        """The URL of what ``path`` is the copy of."""
        return f"{self.objects.url}/{self._relative(path)}".removesuffix("/.")

    def put(self, path: Path, content: Path, *, new: bool = False) -> bool:
        """See ``atomic.Original``."""
        return self.objects.upload(self._relative(path), content, new=new)

    def remove(self, path: Path) -> None:
        """See ``atomic.Original``."""
        self.objects.remove(self._relative(path))

    def restore(self, path: Path) -> bool:
        """See ``atomic.Original``."""
        try:
            with self._temporary(path) as file:
                if not self.objects.download(self._relative(path), file):
                    return False
                if path.exists() and filecmp.cmp(path, file, shallow=False):
                    return False
                os.replace(file, path)
                return True
        except OSError as error:
            raise MachineError(f"cannot write {path}: {error.strerror or error}") from error

    def folders(self, folder: Path) -> list[str]:
        """The folders that are there in a folder.

        Raises:
            UserError, MachineError: the store cannot be reached, or refuses.
        """
        return self.objects.folders(self._relative(folder))

    def refresh(self, *folders: Path, deep: bool = False, only: str = "") -> None:
        """Make folders here what they are there; they are listed there in this order.

        What is new appears before what is gone goes. A reader that looks in the same order
        therefore finds at least once what is moved, there or here, from an earlier folder to a
        later one.

        Args:
            folders: of the workspace.
            deep: all folders in them too.
            only: files of that name alone.

        Raises:
            UserError, MachineError: the store cannot be reached, or refuses.
            MachineError: the disk refused.
        """
        try:
            with self._locked():
                while not self._refreshed(folders, deep, only):
                    pass
        except OSError as error:
            reason = error.strerror or error
            raise MachineError(f"cannot write {self.root}: {reason}") from error

    def check_writable(self) -> None:
        """Refuse a store that may not be written.

        Raises:
            UserError: it says so, or cannot be reached.
        """
        self.objects.listed("results")
        probe = f".{uuid.uuid4().hex}.tmp"
        with self._temporary(self.root / "probe") as file:
            file.write_bytes(b"segbench")
            try:
                self.objects.upload(probe, file)
                self.objects.remove(probe)
            except MachineError as error:
                raise UserError(str(error)) from error

    def _refreshed(self, folders: tuple[Path, ...], deep: bool, only: str) -> bool:
        """Whether nothing has gone from there since it was listed."""
        before = {name for folder in folders for name in self._here(folder, deep)}
        there: dict[str, Stored] = {}
        for folder in folders:
            there |= self.objects.listed(self._relative(folder), deep=deep)
        known = self._versions()
        versions = dict(known)
        lacking = [
            name
            for name, stored in there.items()
            if only in ("", name.rpartition("/")[2]) and not self._has(name, stored, versions)
        ]
        fetched = self._fetch(lacking)
        versions |= {n: there[n].version for n in fetched if not _NEVER_CHANGES.fullmatch(n)}
        if versions != known:
            self._write_versions(versions)
        if len(fetched) < len(lacking):
            return False
        if before and not there:
            self.objects.require_bucket()  # of one that is gone, this may be all that is left
        for name in before - there.keys():
            (self.root / name).unlink(missing_ok=True)
        return True

    def _here(self, folder: Path, deep: bool) -> Iterator[str]:
        """The names of the files of a folder here that are not hidden."""
        for path in folder.rglob("[!.]*") if deep else folder.glob("[!.]*"):
            if path.is_file():
                yield self._relative(path)

    def _has(self, name: str, stored: Stored, versions: dict[str, str]) -> bool:
        """Whether this object is the file here; of one that is known by its hash, notes it."""
        path = self.root / name
        try:
            if path.stat().st_size != stored.size:
                return False
        except FileNotFoundError:
            return False
        if _NEVER_CHANGES.fullmatch(name) or versions.get(name) == stored.version:
            return True
        if re.fullmatch("[0-9a-f]{32}", stored.version):  # what S3 calls a small object
            content = path.read_bytes()
            if hashlib.md5(content, usedforsecurity=False).hexdigest() == stored.version:
                versions[name] = stored.version
                return True
        return False

    def _fetch(self, names: list[str]) -> list[str]:
        """Those that were still there."""
        if not names:
            return []
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            try:
                there = [*pool.map(self._fetch_one, names)]
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise
        return [name for name, found in zip(names, there, strict=True) if found]

    def _fetch_one(self, name: str) -> bool:
        path = self.root / name
        with self._temporary(path) as file:
            found = self.objects.download(name, file)
            if found:
                os.replace(file, path)
        return found

    @contextmanager
    def _temporary(self, path: Path) -> Iterator[Path]:
        """A hidden name beside ``path``; ``atomic`` sweeps those that a kill leaves."""
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.with_name(f".{uuid.uuid4().hex}.tmp")
        try:
            yield file
        finally:
            file.unlink(missing_ok=True)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """One process of this machine refreshes at a time; the others find what it has fetched."""
        self.root.mkdir(parents=True, exist_ok=True)
        with FileLock(self.root / _LOCK):
            yield

    def _versions(self) -> dict[str, str]:
        """Of every file that may change the version that was fetched."""
        with suppress(OSError, ValueError):
            versions = json.loads((self.root / _VERSIONS).read_bytes())
            if isinstance(versions, dict):
                return {str(name): str(version) for name, version in versions.items()}
        return {}

    def _write_versions(self, versions: dict[str, str]) -> None:
        kept = {name: own for name, own in versions.items() if (self.root / name).exists()}
        with self._temporary(self.root / _VERSIONS) as file:
            file.write_text(json.dumps(kept, indent=0, sort_keys=True))
            os.replace(file, self.root / _VERSIONS)

    def _relative(self, path: Path) -> str:
        return path.relative_to(self.root).as_posix()
