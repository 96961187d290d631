"""What segbench diagnose found out, as marks of rows and sentences of a report."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from segbench.plugins.naming import CLEAN
from segbench.store.diagnoses import VERDICTS, Diagnosis
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


@dataclass(frozen=True)
class Told:
    """What a report says of the diagnoses.

    Attributes:
        findings: a sentence per check that a network did not pass; networks that fail come first,
            then those that are suspicious.
        examined: which networks passed, a sentence for all that were examined alike; and, where
            some were, which were not.
    """

    findings: Sequence[str] = ()
    examined: Sequence[str] = ()


def describe_diagnoses(rows: DataFrame, named: DataFrame, diagnoses: Sequence[Diagnosis]) -> Told:
    """What was found out about the networks that the rows are of.

    Args:
        rows: stored rows.
        named: the same rows with the names that the report shows.
        diagnoses: of any networks.
    """
    if not diagnoses:
        return Told()
    keys = ["model", "network_sha256", "dataset"]
    shown = named[["model", "dataset"]].set_axis(["name", "data"], axis=1)
    attacked = (rows["attack"] != CLEAN) & (rows["budget_kind"] != KIND)
    subjects = rows[keys].join(shown).assign(attacked=attacked).drop_duplicates()
    names: dict[tuple[Any, ...], tuple[str, str]] = {}
    unknown: dict[tuple[Any, ...], tuple[str, str]] = {}
    for line in subjects.to_numpy().tolist():
        names[tuple(line[:3])] = line[3], line[4]
        if line[5]:
            unknown[tuple(line[:3])] = line[3], line[4]
    own = [(*names[one.subject], one) for one in diagnoses if one.subject in names]
    if not own:
        return Told()
    for *_, one in own:
        unknown.pop(one.subject, None)
    worst_first = sorted(own, key=lambda line: (-VERDICTS.index(line[2].verdict), *line[:2]))
    findings = [
        sentence
        for name, data, one in worst_first
        for sentence in _findings(f"{name} on {data}", one)
    ]
    return Told(findings, [*_passes(worst_first), *_unexamined(unknown.values())])


def _findings(who: str, diagnosis: Diagnosis) -> Iterator[str]:
    """A sentence per check that was not passed, the failed ones first."""
    checks = sorted(diagnosis.checks, key=lambda check: -VERDICTS.index(check.verdict))
    for check in checks:
        if check.verdict != "pass":
            found = "fails" if check.verdict == "fail" else "is suspicious in"
            yield (
                f"{who} {found} the check '{check.name}' of segbench diagnose ({_how(diagnosis)}; "
                f"{check.number:.3g}, threshold {check.threshold:g}): {check.meaning}"
            )


def _passes(told: Sequence[tuple[str, str, Diagnosis]]) -> Iterator[str]:
    """One sentence for all networks that passed as many checks, on the same data, asked alike."""
    alike: dict[tuple[str, str, int], list[str]] = {}
    for name, data, one in told:
        if one.verdict == "pass":
            alike.setdefault((data, _how(one), len(one.checks)), []).append(name)
    for (data, how, checks), names in sorted(alike.items()):
        yield (
            f"On {data} segbench diagnose ({how}) found nothing in {checks} checks that hides a "
            f"gradient from an attack; passed: {', '.join(names)}."
        )


def _unexamined(names: Iterable[tuple[str, str]]) -> Iterator[str]:
    by_data: dict[str, list[str]] = {}
    for name, data in sorted(names):
        by_data.setdefault(data, []).append(name)
    for data, own in sorted(by_data.items()):
        yield f"On {data} segbench diagnose has not examined {', '.join(own)}."


def _how(diagnosis: Diagnosis) -> str:
    cases = "1 case" if diagnosis.cases == 1 else f"{diagnosis.cases} cases"
    return f"{cases}, eps {diagnosis.eps}"
