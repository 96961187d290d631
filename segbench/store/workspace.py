"""The folder that holds everything segbench writes, and where it is a copy, of what."""

from __future__ import annotations

import atexit
import hashlib
import os
import re
import tempfile
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from tempfile import TemporaryFile
from typing import TYPE_CHECKING, Any

from segbench.atomic import copy_of, shown
from segbench.errors import MachineError, UserError

if TYPE_CHECKING:
    from segbench.store.mirror import Mirror

_mirrors: dict[Path, Mirror] = {}
_OTHERS = "gcs|s3a|az|abfss?|adl|hdfs|dbfs|oss|https?|s?ftp|ssh|file"  # none of them a folder's

_HALF_A_URL = re.compile(rf"((s3|gs|memory):|({_OTHERS}):[/\\]).*", re.IGNORECASE)


@dataclass(frozen=True)
class Workspace:
    """The folder that holds everything segbench writes; its rooms are made when first written.

    Of a workspace in an object store it is this machine's copy, and ``mirror`` keeps it one; see
    ``open_workspace``. Another process opens it anew, with a copy of its own machine's.
    """

    root: Path
    mirror: Mirror | None = field(default=None, compare=False, repr=False)

    def __str__(self) -> str:
        """Its folder, or its URL."""
        return shown(self.root)

    def __reduce__(self) -> tuple[Any, ...]:
        """For another process, which need not ask whether the store is there."""
        return reopen, (str(self),)

    @property
    def models(self) -> Path:
        """Checkpoints: ``<model>@<data>#<seed>/``."""
        return self.root / "models"

    @property
    def results(self) -> Path:
        """Runs: ``<run-id>.json``, and their rows in ``<run-id>-<checksum>.parquet``."""
        return self.root / "results"

    @property
    def shards(self) -> Path:
        """Rows of runs that have not been compacted."""
        return self.results / "shards"

    @property
    def diagnoses(self) -> Path:
        """What segbench diagnose found out, a file per network and data set."""
        return self.results / "diagnoses"

    @property
    def adversarial(self) -> Path:
        """Adversarial images, where asked for."""
        return self.root / "adversarial"

    @property
    def certified(self) -> Path:
        """Votes of the draws that certificates were made of."""
        return self.root / "certified"

    @property
    def pictures(self) -> Path:
        """Small pictures of a few cases of every cell."""
        return self.root / "pictures"

    @property
    def reports(self) -> Path:
        """Rendered reports."""
        return self.root / "reports"

    def refresh(self, *folders: Path, deep: bool = False, only: str = "") -> None:
        """Let folders of a copy be what they are in the store; see ``Mirror.refresh``."""
        if self.mirror:
            self.mirror.refresh(*folders, deep=deep, only=only)

    def refresh_rows(self) -> None:
        """The same of rows and records of runs; shards, which become run files, come first."""
        self.refresh(self.shards, self.results)


def open_workspace(text: str | Path) -> Workspace:
    """The workspace in a folder or at a URL, which need not be there yet.

    Raises:
        UserError: no workspace can lie at such a URL, it is half of one, or what it needs is not
            installed.
    """
    if "://" in str(text):
        return _open_url(text)
    require_no_url(str(text))
    return Workspace(Path(text))


def require_no_url(text: str) -> None:
    """Refuse ``s3:/bucket`` and ``s3:bucket`` as a folder; ``./s3:/bucket`` is one.

    Raises:
        UserError: it is such a text.
    """
    if half_a_url(text):
        scheme, _, rest = text.partition(":")
        rest = rest.lstrip("/\\")
        raise UserError(
            f"workspace {text!r} is half a URL; did you mean {scheme.lower()}://{rest}? (a folder "
            f"of that name is written ./{text})"
        )


def half_a_url(text: str) -> bool:
    """Whether it begins as the URL of another place than a folder does, with a slash too few."""
    return _HALF_A_URL.fullmatch(text) is not None


def reopen(text: str) -> Workspace:
    """The same in another process than the one that began the work."""
    return _open_url(text, met=True) if "://" in text else Workspace(Path(text))


def check_writable(root: Path) -> None:
    """Refuse a folder that cannot be written before hours of work, not after.

    Raises:
        MachineError: it cannot be made or written.
        UserError: it is a copy, and what it is the copy of may not be written or reached.
    """
    for folder, mirror in _mirrors.items():
        if root.is_relative_to(folder):
            mirror.check_writable()
    try:
        root.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=root) as probe:
            probe.write(b"segbench")
    except OSError as error:
        raise MachineError(f"folder {root} cannot be written: {error.strerror}") from error


def _open_url(text: str | Path, *, met: bool = False) -> Workspace:
    from segbench.store.mirror import Mirror
    from segbench.store.objects import Objects, normal_url

    url = normal_url(str(text))
    root = _copy_in(url)
    mirror = Mirror(root, Objects(url, met=met))
    copy_of(root, mirror)
    _mirrors[root] = mirror
    return Workspace(root, mirror)


def _copy_in(url: str) -> Path:
    """Where the copy lies: in the user's cache, or for this process alone."""
    if url.startswith("memory://"):
        return _copy_in_memory(url)
    given = os.environ.get("SEGBENCH_CACHE_DIR")
    general = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    cache_folder = Path(given) if given else Path(general) / "segbench"
    name = re.sub(r"[^A-Za-z0-9.-]+", "_", url)[:80]
    digest = hashlib.sha256(url.encode()).hexdigest()[:8]
    return (cache_folder / "workspaces" / f"{name}-{digest}").resolve()


@cache
def _copy_in_memory(url: str) -> Path:
    folder = tempfile.TemporaryDirectory(prefix="segbench-")
    atexit.register(folder.cleanup)
    return Path(folder.name).resolve()
