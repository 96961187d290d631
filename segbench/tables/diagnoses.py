"""What segbench diagnose found out, as marks of rows and sentences of a report."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from segbench.plugins.naming import CLEAN
from segbench.store.diagnoses import Diagnosis
from segbench.tables.certified import KIND
from segbench.tables.texts import by_key

if TYPE_CHECKING:
    from pandas import DataFrame

MARK = "gradient-masking"
"""On every attacked row of a network that failed a check: its score may be the attack's failure."""


def mark_untrusted(rows: DataFrame, diagnoses: Sequence[Diagnosis]) -> DataFrame:
    """The rows, those of attacks on a network that failed marked; others are as they were."""
    failed = {diagnosis.subject for diagnosis in diagnoses if diagnosis.verdict == "fail"}
    if not failed:
        return rows

    def marked(attack: str, kind: str, marks: str, *subject: str) -> str:
        attacked = attack != CLEAN and kind != KIND  # a certificate asks for no gradient
        return f"{marks} {MARK}".strip() if subject in failed and attacked else marks

    keys = ["attack", "budget_kind", "marks", "model", "network_sha256", "dataset"]
    return rows.assign(marks=by_key(rows, keys, marked))


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
