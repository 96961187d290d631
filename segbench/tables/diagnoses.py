"""What segbench diagnose found out, as marks of rows and sentences of a report."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from segbench.plugins.naming import CLEAN
from segbench.store.diagnoses import VERDICTS, Diagnosis
from segbench.tables.certified import KIND
from segbench.tables.texts import by_key, few

if TYPE_CHECKING:
    from pandas import DataFrame

MARK = "gradient-masking"
"""On every attacked row of a network that failed a check: its score may be the attack's failure."""

_VERBS = {"weak loss": "shows a weak loss in", "suspicious": "is suspicious in", "fail": "fails"}


def mark_untrusted(rows: DataFrame, diagnoses: Sequence[Diagnosis]) -> DataFrame:
    """The rows, those of attacks on a network that failed marked; others are as they were.

    Whatever else it passed, and on whichever version of the data set: what hides a gradient once is
    there. Sentences say of which examination it is.
    """
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
            then those that are suspicious,
            then those on which a loss is weak.
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
    subjects = [*_subjects(rows, named)]
    found = [_Found(who, one) for one in diagnoses for who in _meant(one, subjects)]
    if not found:
        return Told()
    examined = {one.who for one in found if one.of_these_data}
    unknown = [(who.name, who.data) for who in subjects if who.attacked and who not in examined]
    worst_first = sorted(found, key=lambda one: one.order)
    findings = [sentence for one in worst_first for sentence in _findings(one)]
    return Told([*dict.fromkeys(findings)], [*_passes(worst_first), *_unexamined(unknown)])


@dataclass(frozen=True)
class _Subject:
    """A network on a version of a data set, as it is stored and as it is shown."""

    stored: tuple[str, str, str]  # Diagnosis.subject
    fingerprint: str
    name: str
    data: str
    attacked: bool


def _subjects(rows: DataFrame, named: DataFrame) -> Iterator[_Subject]:
    keys = ["model", "network_sha256", "dataset", "dataset_fingerprint"]
    shown = named[["model", "dataset"]].set_axis(["name", "data"], axis=1)
    attacked = (rows["attack"] != CLEAN) & (rows["budget_kind"] != KIND)
    lines = rows[keys].join(shown).assign(attacked=attacked).drop_duplicates()
    found: dict[tuple[str, ...], bool] = {}
    for *names, own in lines.to_numpy().tolist():
        found[tuple(names)] = found.get(tuple(names), False) or own
    for (*stored, fingerprint, name, data), own in found.items():
        yield _Subject((stored[0], stored[1], stored[2]), fingerprint, name, data, own)


def _meant(one: Diagnosis, subjects: Sequence[_Subject]) -> Sequence[_Subject]:
    """The network on the data it was examined on, or on others if there are no rows of these."""
    own = [who for who in subjects if who.stored == one.subject]
    return [who for who in own if who.fingerprint == one.dataset_fingerprint] or own


@dataclass(frozen=True)
class _Found:
    """A diagnosis, and whose rows it speaks of."""

    who: _Subject
    one: Diagnosis

    @property
    def of_these_data(self) -> bool:
        return self.who.fingerprint == self.one.dataset_fingerprint

    @property
    def data(self) -> str:
        """On what it was examined."""
        return self.who.data if self.of_these_data else f"another version of {self.who.data}"

    @property
    def order(self) -> tuple[int, str, str]:
        """The gravest first."""
        return -VERDICTS.index(self.one.verdict), self.who.name, self.who.data


def _findings(found: _Found) -> Iterator[str]:
    """A sentence per check that was not passed, the failed ones first."""
    checks = sorted(found.one.checks, key=lambda check: -VERDICTS.index(check.verdict))
    for check in checks:
        if check.verdict != "pass":
            yield (
                f"{found.who.name} on {found.data} {_VERBS[check.verdict]} the check "
                f"'{check.name}' of segbench diagnose ({_how(found.one)}; {check.number:.3g}, "
                f"threshold {check.threshold:g}): {check.meaning}"
            )


def _passes(told: Sequence[_Found]) -> Iterator[str]:
    """One sentence for all networks that passed the same checks, on the same data, asked alike."""
    alike: dict[tuple[str, str, int, str], dict[str, None]] = {}
    for found in told:
        if found.one.verdict == "pass":
            lacking = few(found.one.lacking)
            key = found.data, _how(found.one), len(found.one.checks), lacking
            alike.setdefault(key, {})[found.who.name] = None
    for (data, how, checks, lacking), names in sorted(alike.items()):
        less = f", and did not check, as it does by now, {lacking}" if lacking else ""
        yield (
            f"On {data} segbench diagnose ({how}) found nothing in {checks} checks that hides a "
            f"gradient from an attack{less}; passed: {', '.join(names)}."
        )


def _unexamined(names: Iterable[tuple[str, str]]) -> Iterator[str]:
    by_data: dict[str, list[str]] = {}
    for name, data in sorted(names):
        by_data.setdefault(data, []).append(name)
    for data, own in sorted(by_data.items()):
        yield f"On {data} segbench diagnose has not examined {', '.join(own)}."


def _how(diagnosis: Diagnosis) -> str:
    cases = "1 case" if diagnosis.cases == 1 else f"{diagnosis.cases} cases"
    coarse = "" if diagnosis.precision == "fp32" else f", {diagnosis.precision}"
    return f"{cases}, eps {diagnosis.eps}{coarse}"
