"""A diagnosis as it is stored: one JSON file per network and data set, always the newest.

Reports join it to the rows of the very same weights and data when tables are made.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from segbench.atomic import shown
from segbench.errors import UserError
from segbench.store.records import read_record, record_path, write_record
from segbench.store.workspace import Workspace

Verdict = Literal["pass", "suspicious", "fail"]
VERDICTS: tuple[Verdict, ...] = ("pass", "suspicious", "fail")


class Check(BaseModel):
    """One check: what was measured, against what, and what it means.

    Attributes:
        number: what was measured; larger is worse in every check.
        threshold: the number from which on the verdict is not ``pass``.
        meaning: one sentence.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    verdict: Verdict
    number: float
    threshold: float
    meaning: str


class Diagnosis(BaseModel):
    """What was found out about a network on a data set, and how.

    Attributes:
        model: what reports call it.
        cases: how many it was examined on.
        eps: of the comparisons, as text: ``4/255``.
        precision: of the gradients.
        versions: of segbench and torch.
        verdict: the worst of the checks'.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: Literal[2] = 2
    model: str
    network_sha256: str
    weights_sha256: str
    dataset: str
    dataset_fingerprint: str
    split: str
    cases: int
    eps: str
    precision: str
    device: str
    versions: dict[str, str]
    verdict: Verdict
    checks: tuple[Check, ...]

    @property
    def subject(self) -> tuple[str, str, str]:
        """Whose rows it speaks of: model, network, data."""
        return self.model, self.network_sha256, self.dataset


def write_diagnosis(workspace: Workspace, diagnosis: Diagnosis) -> Path:
    """Write ``results/diagnoses/<key>.json``.

    Raises:
        MachineError: the disk refused.
    """
    path = record_path(workspace.diagnoses, {"subject": diagnosis.subject})
    write_record(path, diagnosis.model_dump(mode="json"))
    return path


def read_diagnoses(workspace: Workspace, damaged: list[str] | None = None) -> list[Diagnosis]:
    """All stored diagnoses, by model; none where there is no folder.

    Raises:
        UserError: a file is not a diagnosis that this version can read, and ``damaged`` is None;
            else the sentence is appended to it and the file left out.
        MachineError: it may not be read.
    """
    found = []
    workspace.refresh(workspace.diagnoses)
    for path in sorted(workspace.diagnoses.glob("[!.]*.json")):
        try:
            found.append(Diagnosis.model_validate(read_record(path)))
        except (UserError, ValidationError):
            sentence = (
                f"{shown(path)} is not a diagnosis of schema version 2; run segbench diagnose "
                "again, or move it out of the workspace"
            )
            if damaged is None:
                raise UserError(sentence) from None
            damaged.append(sentence)
    return sorted(found, key=lambda diagnosis: diagnosis.subject)
