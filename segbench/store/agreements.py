"""How far a network's clean scores were found from those that came with it.

<workspace>/results/agreements/<key>.json     one for each network and data set, the newest

``segbench inspect`` scores what its maker scored; ``segbench attack`` says how far apart they came
out.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from segbench.errors import UserError
from segbench.store.records import read_record, record_path, write_record
from segbench.store.workspace import Workspace


class Agreement(BaseModel):
    """What was found.

    Attributes:
        weights_sha256: of the network.
        cases: how many were compared.
        apart: the largest difference of a Dice.
        agrees: whether that is none, but for rounding.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: Literal[2] = 2
    model: str
    weights_sha256: str
    dataset: str
    dataset_fingerprint: str
    cases: int
    apart: float
    agrees: bool

    @property
    def sentence(self) -> str:
        """In words."""
        verdict = "agrees" if self.agrees else "does NOT agree"
        return (
            f"its clean Dice {verdict} with what came with it, on {self.cases} cases: at most "
            f"{self.apart:.4f} apart"
        )


def write_agreement(workspace: Workspace, found: Agreement) -> None:
    """Keep it.

    Raises:
        MachineError: the disk refused.
    """
    path = _path(workspace, found.weights_sha256, found.dataset_fingerprint)
    write_record(path, found.model_dump(mode="json"))


def read_agreement(
    workspace: Workspace, weights_sha256: str, dataset_fingerprint: str
) -> Agreement | None:
    """What was found of a network on data; None where nothing was, or it cannot be read."""
    path = _path(workspace, weights_sha256, dataset_fingerprint)
    workspace.refresh(path.parent)
    try:
        record = read_record(path)
        return Agreement.model_validate(record) if record else None
    except (UserError, ValidationError):
        return None


def _path(workspace: Workspace, weights_sha256: str, dataset_fingerprint: str) -> Path:
    facts = {"weights": weights_sha256, "data": dataset_fingerprint}
    return record_path(workspace.results / "agreements", facts)
