"""A diagnosis as it is stored: one JSON file per examination, and no other makes it undone.

An examination is of a network, on some cases of a data set, at an eps, by some checks: fewer cases
or a smaller eps may well find nothing where more found much. The same one again replaces it, and so
does one with more checks. Reports join all that count to the rows of the very same network.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from segbench.atomic import remove, shown
from segbench.errors import UserError
from segbench.store.records import read_record, record_path, write_record
from segbench.store.workspace import Workspace

Verdict = Literal["pass", "weak loss", "suspicious", "fail"]
VERDICTS: tuple[Verdict, ...] = ("pass", "weak loss", "suspicious", "fail")
"""The gravest last. Of a ``weak loss`` attacks by that loss come less far than others do."""

OF_A_LOSS = (
    "exactly zero gradients",
    "loss still rising at the end",
    "many steps against one",
    "gradients against noise",
    "twice the steps",
    "damage grows with eps",
    "a huge eps reaches chance",
    "gradients against black box",
)
TRANSFER = "own gradients against transfer"  # where there are other networks
STANDARD = (
    "standard against all others",
    "standard's climbs against its search",
    "standard at twice the cost",
)
ROUTES = "routes without a gradient"  # not of a network that draws
DIFFERENCES = "gradients against finite differences"  # nor of one that brings its own gradients
CHECKS = frozenset(
    {
        "two identical forwards",
        ROUTES,
        "saturated logits",
        DIFFERENCES,
        *OF_A_LOSS,
        *(f"{name} (scored-hinge)" for name in OF_A_LOSS),
        *STANDARD,
    }
)
"""What is checked of every network that can be differentiated; an older segbench checked less."""


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
        cases_sha256: of their contents; "" in files of an older segbench.
        eps: of the comparisons, as text: ``4/255``.
        precision: of the gradients.
        versions: of segbench and torch.
        verdict: the worst of the checks'.
        needless: the checks that such a network cannot be held to.
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
    cases_sha256: str = ""
    eps: str
    precision: str
    device: str
    versions: dict[str, str]
    verdict: Verdict
    checks: tuple[Check, ...]
    needless: tuple[str, ...] = ()

    @property
    def subject(self) -> tuple[str, str, str]:
        """Whose rows it speaks of: model, network, data."""
        return self.model, self.network_sha256, self.dataset

    @property
    def made(self) -> frozenset[str]:
        """The names of its checks."""
        return frozenset(check.name for check in self.checks)

    @property
    def lacking(self) -> list[str]:
        """The checks that are made by now and were not."""
        return sorted(CHECKS - self.made - {*self.needless})

    @property
    def _asked(self) -> tuple[Any, ...]:
        """What was examined, and how; but for which of as many cases."""
        data = self.dataset_fingerprint, self.split, self.cases
        return *self.subject, *data, self.eps, self.precision

    def replaces(self, earlier: Diagnosis) -> bool:
        """Whether it is that examination again, with all of its checks."""
        same = self._asked == earlier._asked and self.made >= earlier.made
        return same and earlier.cases_sha256 in ("", self.cases_sha256)

    @property
    def key(self) -> dict[str, Any]:
        """What is one file."""
        return {
            "asked": self._asked,
            "cases": self.cases_sha256,
            "checks": sorted(self.made),
        }


def write_diagnosis(workspace: Workspace, diagnosis: Diagnosis) -> Path:
    """Write ``results/diagnoses/<key>.json``, then remove those that it replaces.

    Raises:
        MachineError: the disk refused.
    """
    path = record_path(workspace.diagnoses, diagnosis.key)
    write_record(path, diagnosis.model_dump(mode="json"))
    for other, earlier in _read(workspace, []):
        if other != path and diagnosis.replaces(earlier):
            remove(other)
    return path


def read_diagnoses(workspace: Workspace, damaged: list[str] | None = None) -> list[Diagnosis]:
    """All stored diagnoses, by model; none where there is no folder.

    Raises:
        UserError: a file is not a diagnosis that this version can read, and ``damaged`` is None;
            else the sentence is appended to it and the file left out.
        MachineError: it may not be read.
    """
    found = [one for _, one in _read(workspace, damaged)]
    return sorted(found, key=lambda one: (*one.subject, *map(str, one.key.values())))


def _read(workspace: Workspace, damaged: list[str] | None) -> Iterator[tuple[Path, Diagnosis]]:
    workspace.refresh(workspace.diagnoses)
    for path in sorted(workspace.diagnoses.glob("[!.]*.json")):
        try:
            record = read_record(path)
            if record is not None:  # it has been replaced meanwhile
                yield path, Diagnosis.model_validate(record)
        except (UserError, ValidationError):
            sentence = (
                f"{shown(path)} is not a diagnosis of schema version 2; run segbench diagnose "
                "again, or move it out of the workspace"
            )
            if damaged is None:
                raise UserError(sentence) from None
            damaged.append(sentence)
