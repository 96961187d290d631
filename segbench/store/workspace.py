"""The folder that holds everything segbench writes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile

from segbench.errors import MachineError


@dataclass(frozen=True)
class Workspace:
    """The folder that holds everything segbench writes; its rooms are made when first written."""

    root: Path

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


def check_writable(root: Path) -> None:
    """Refuse a folder that cannot be written before hours of work, not after.

    Raises:
        MachineError: it cannot be made or written.
    """
    try:
        root.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=root) as probe:
            probe.write(b"segbench")
    except OSError as error:
        raise MachineError(f"folder {root} cannot be written: {error.strerror}") from error
