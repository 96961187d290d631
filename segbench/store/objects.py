"""An object store at a URL, by fsspec: what a workspace needs of S3, of Google's, of this memory.

An object is there whole or not at all, and one that must be new is refused where its name is taken:
S3 and Google's decide that between two machines (``If-None-Match``, ``ifGenerationMatch``). Where
the answer to such a request is lost their libraries ask again, and are told that the name is taken:
by this very request. So it leaves a word of its own beside the object, by which it is known again.
"""

from __future__ import annotations

import logging
import uuid
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from segbench.errors import MachineError, UserError

_PACKAGES = {"s3": "s3fs", "gs": "gcsfs", "memory": "fsspec"}
_BESIDE = {"s3": "Metadata", "gs": "metadata"}  # an object, in words of their libraries
_CLAIM = "segbench-claim"
_EXPECTED = "expected a folder, s3://BUCKET/NAME, gs://BUCKET/NAME or memory://NAME"


@dataclass(frozen=True)
class Stored:
    """An object as it is listed: its size in bytes, and what tells its contents apart."""

    size: int
    version: str


class Objects:
    """The objects whose names begin with that of a URL.

    Args:
        url: see ``normal_url``.
        met: whether it has been reached before, as by the process that starts this one. Until then
            what goes wrong is the user's to mend, and afterwards the machine's.

    Raises:
        UserError: the package for such URLs is not installed.
    """

    def __init__(self, url: str, *, met: bool = False) -> None:
        self.url, self._met = url, met
        self._scheme, _, self._base = url.partition("://")
        self._fs: Any = _open(self._scheme, url)

    def listed(self, folder: str, *, deep: bool = False) -> dict[str, Stored]:
        """The objects of a folder, or with ``deep`` of all folders in it too, by name.

        Hidden ones are left out, and names that are no file's here.

        Raises:
            UserError, MachineError: the store cannot be reached, or refuses.
        """
        path = f"{self._base}/{folder}".rstrip("/")
        with self._translated(f"cannot be read at {folder or 'all'}"):
            try:
                if deep:
                    found = self._fs.find(path, detail=True).values()
                else:
                    found = self._fs.ls(path, detail=True)
            except FileNotFoundError:
                found = []
            if not found and not self._met:
                self._look_for_bucket()
        self._met = True
        listed = {self._name(info["name"]): info for info in found if info["type"] == "file"}
        return {
            name: Stored(info["size"] or 0, _version(info))
            for name, info in listed.items()
            if _is_plain(name)
        }

    def folders(self, folder: str) -> list[str]:
        """The names of the folders in a folder.

        Raises:
            UserError, MachineError: see ``listed``.
        """
        with self._translated(f"cannot be read at {folder}"):
            try:
                found = self._fs.ls(f"{self._base}/{folder}", detail=True)
            except FileNotFoundError:
                return []
        return [Path(info["name"]).name for info in found if info["type"] == "directory"]

    def require_bucket(self) -> None:
        """Refuse a store whose bucket is gone: that nothing is in it does not mean it is empty.

        Raises:
            UserError, MachineError: it is gone, or cannot be reached.
        """
        with self._translated("cannot be read"):
            self._look_for_bucket()

    def download(self, name: str, to: Path) -> bool:
        """An object as a file; False where it is gone.

        Raises:
            MachineError: it cannot be read, or the disk refused.
        """
        with self._translated(f"cannot be read at {name}"):
            try:
                self._fs.get_file(f"{self._base}/{name}", str(to))
            except FileNotFoundError:
                return False
        return True

    def upload(self, name: str, file: Path, *, new: bool = False) -> bool:
        """A file as an object; False where it is to be new and there is one of that name.

        Raises:
            MachineError: the store cannot be reached, or refuses.
        """
        path, claim = f"{self._base}/{name}", uuid.uuid4().hex
        how: dict[str, Any] = {"mode": "create" if new else "overwrite"}
        if new and self._scheme in _BESIDE:
            how[_BESIDE[self._scheme]] = {_CLAIM: claim}
        with self._translated(f"cannot be written at {name}"):
            try:
                self._fs.put_file(str(file), path, **how)
            except FileExistsError:
                if self._claim(path) != claim:
                    return False
        self._met = True
        return True

    def remove(self, name: str) -> None:
        """No object of that name is left.

        Raises:
            MachineError: the store cannot be reached, or refuses.
        """
        with self._translated(f"cannot be changed at {name}"):
            try:
                self._fs.rm_file(f"{self._base}/{name}")
            except FileNotFoundError:
                return

    def _claim(self, path: str) -> str | None:
        """The word that whoever created an object left beside it."""
        try:
            if self._scheme == "s3":
                beside = self._fs.metadata(path)
            else:
                beside = self._fs.info(path).get("metadata") or {}
        except FileNotFoundError:
            return None
        claim: str | None = beside.get(_CLAIM)
        return claim

    def _name(self, path: str) -> str:
        return path.lstrip("/").removeprefix(f"{self._base}/")

    def _look_for_bucket(self) -> None:
        bucket = self._base.partition("/")[0]
        if self._scheme != "memory" and not self._fs.exists(bucket):
            raise UserError(
                f"workspace {self.url}: there is no bucket {bucket!r}; create it, or name another"
            )

    @contextmanager
    def _translated(self, doing: str) -> Iterator[None]:
        """Whatever the library of such a store raises, as a sentence."""
        try:
            yield
        except UserError:
            raise
        except Exception as error:
            reason = " ".join(str(error).split())[:200] or type(error).__name__
            kind = MachineError if self._met else UserError
            raise kind(f"workspace {self.url} {doing} ({reason})") from error


def normal_url(text: str) -> str:
    """The one way in which a URL is written here: ``s3://bucket/name``, without a slash at its end.

    Raises:
        UserError: it is not one of a store that is known here.
    """
    scheme, _, rest = text.partition("://")
    parts = rest.rstrip("/").split("/")
    if scheme not in _PACKAGES or not all(parts) or not _is_plain("/".join(parts)):
        raise UserError(f"workspace {text!r}: {_EXPECTED}")
    return f"{scheme}://{'/'.join(parts)}"


def _open(scheme: str, url: str) -> Any:
    logging.getLogger(_PACKAGES[scheme]).addHandler(logging.NullHandler())  # errors are ours to say
    try:
        import fsspec

        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # Google's, of a Python's last years
            # What others do is to be seen: no listing is remembered.
            return fsspec.filesystem(scheme, skip_instance_cache=True, use_listings_cache=False)
    except ImportError:
        raise UserError(
            f"workspace {url} needs {_PACKAGES[scheme]}, which is not installed: pip install "
            "'segbench[remote]'"
        ) from None


def _version(info: dict[str, Any]) -> str:
    """What changes with an object's content: a hash of the store's, or else when it was written."""
    for name in ("ETag", "etag", "md5Hash"):
        if info.get(name):
            return str(info[name]).strip('"')
    return f"{info['size']} {info.get('created')}"


def _is_plain(name: str) -> bool:
    """Whether it can only be a file within a folder, and no hidden one."""
    parts = name.split("/")
    return all(part and not part.startswith(".") and "\\" not in part for part in parts)
