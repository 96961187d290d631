"""A diagnosis as it is stored: one JSON file per network and data set, always the newest.

Reports join it to the rows of the very same weights and data when tables are made.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from segbench.atomic import write_atomically
from segbench.diagnosis.checks import Check, Verdict
from segbench.errors import MachineError, UserError
from segbench.labels import CLEAN
from segbench.store import Workspace, cell_key

if TYPE_CHECKING:
    from pandas import DataFrame

MARK = "gradient-masking"
"""On every attacked row of a network that failed a check: its score may be the attack's failure."""


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

    schema_version: Literal[1] = 1
    model: str
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
        """Whose rows it speaks of: model, weights, data."""
        return self.model, self.weights_sha256, self.dataset_fingerprint


def write_diagnosis(workspace: Workspace, diagnosis: Diagnosis) -> Path:
    """Write ``results/diagnoses/<key>.json``.

    Raises:
        MachineError: the disk refused.
    """
    path = workspace.diagnoses / f"{cell_key({'subject': diagnosis.subject})}.json"
    write_atomically(path, (diagnosis.model_dump_json(indent=2) + "\n").encode())
    return path


def read_diagnoses(workspace: Workspace) -> list[Diagnosis]:
    """All stored diagnoses, by model; none where there is no folder.

    Raises:
        UserError: a file is not a diagnosis that this version can read.
        MachineError: it may not be read.
    """
    found = []
    for path in sorted(workspace.diagnoses.glob("[!.]*.json")):
        try:
            found.append(Diagnosis.model_validate_json(path.read_bytes()))
        except OSError as error:
            raise MachineError(f"cannot read {path}: {error.strerror}") from error
        except ValidationError:
            raise UserError(
                f"{path} is not a diagnosis of schema version 1; run segbench diagnose again, or "
                "move it out of the workspace"
            ) from None
    return sorted(found, key=lambda diagnosis: diagnosis.subject)


def mark_untrusted(rows: DataFrame, diagnoses: Sequence[Diagnosis]) -> DataFrame:
    """The rows, those of attacks on a network that failed marked; others are as they were."""
    failed = {diagnosis.subject for diagnosis in diagnoses if diagnosis.verdict == "fail"}
    if not failed:
        return rows
    subjects = zip(rows["model"], rows["weights_sha256"], rows["dataset_fingerprint"], strict=True)
    marks = [
        f"{marks} {MARK}".strip() if subject in failed and attack != CLEAN else marks
        for subject, attack, marks in zip(subjects, rows["attack"], rows["marks"], strict=True)
    ]
    return rows.assign(marks=marks)


def describe_diagnoses(
    rows: DataFrame, named: DataFrame, diagnoses: Sequence[Diagnosis]
) -> Iterator[str]:
    """A sentence per finding about the networks that the rows are of.

    Args:
        rows: stored rows.
        named: the same rows with the names that the report shows.
        diagnoses: of any networks.
    """
    keys = ["model", "weights_sha256", "dataset_fingerprint"]
    shown = named[["model", "dataset"]].set_axis(["name", "data"], axis=1)
    subjects = rows[keys].join(shown).drop_duplicates()
    names = {tuple(line[:3]): line[3:] for line in subjects.to_numpy().tolist()}
    for diagnosis in diagnoses:
        if diagnosis.subject in names:
            name, data = names[diagnosis.subject]
            yield from _sentences(f"{name} on {data}", diagnosis)


def _sentences(who: str, diagnosis: Diagnosis) -> Iterator[str]:
    how = f"{diagnosis.cases} cases, eps {diagnosis.eps}"
    if diagnosis.verdict == "pass":
        yield (
            f"{who} passed the {len(diagnosis.checks)} checks of segbench diagnose ({how}): "
            "nothing was found that hides its gradient from an attack."
        )
    for check in diagnosis.checks:
        if check.verdict != "pass":
            found = "fails" if check.verdict == "fail" else "is suspicious in"
            yield (
                f"{who} {found} the check '{check.name}' of segbench diagnose ({how}; "
                f"{check.number:.3g}, threshold {check.threshold:g}): {check.meaning}"
            )
