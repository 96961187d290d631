"""What segbench diagnose found out, as marks of rows and sentences of a report."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from segbench.plugins.naming import CLEAN
from segbench.store.diagnoses import Diagnosis

if TYPE_CHECKING:
    from pandas import DataFrame

MARK = "gradient-masking"
"""On every attacked row of a network that failed a check: its score may be the attack's failure."""


def mark_untrusted(rows: DataFrame, diagnoses: Sequence[Diagnosis]) -> DataFrame:
    """The rows, those of attacks on a network that failed marked; others are as they were."""
    failed = {diagnosis.subject for diagnosis in diagnoses if diagnosis.verdict == "fail"}
    if not failed:
        return rows
    subjects = zip(rows["model"], rows["network_sha256"], rows["dataset"], strict=True)
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
    keys = ["model", "network_sha256", "dataset"]
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
