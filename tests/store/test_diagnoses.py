"""A diagnosis and the tables: the very same network and data are marked and told of, no others."""

from __future__ import annotations

import pytest

from segbench.diagnosis import checks
from segbench.errors import UserError
from segbench.store.diagnoses import CHECKS, DIFFERENCES, Diagnosis, read_diagnoses, write_diagnosis
from segbench.store.records import record_path, write_record
from segbench.store.workspace import Workspace
from segbench.tables.build import build_tables
from segbench.tables.diagnoses import MARK


def diagnosis(check: checks.Check, **given: object) -> Diagnosis:
    facts = {
        "model": "unet@jsrt#0", "network_sha256": "ab" * 32, "weights_sha256": "ab" * 32,
        "dataset": "jsrt",
        "dataset_fingerprint": "cd" * 32, "split": "test", "cases": 8, "eps": "4/255",
        "cases_sha256": "ef" * 32, "precision": "fp32", "device": "cpu", "versions": {},
        "verdict": check.verdict,
        "checks": (check, *(PASSED.model_copy(update={"name": n}) for n in CHECKS - {check.name})),
    }  # fmt: skip
    return Diagnosis.model_validate(facts | given)


FAILED = checks.check_zero_gradients(1.0)
ODD = checks.check_zero_gradients(0.2)
PASSED = checks.check_zero_gradients(0.0)


def clean(row, **given):
    return row(attack="clean", attack_params="{}", budget_kind="none", budget=0.0, **given)


def test_rows_of_a_failed_network_are_marked_and_clean_ones_are_not(row, frame):
    rows = [row(weights_sha256="ab" * 32, dataset_fingerprint="cd" * 32, marks="bpda")]
    rows += [clean(row, weights_sha256="ab" * 32, dataset_fingerprint="cd" * 32)]
    tables = build_tables(frame(rows), diagnoses=[diagnosis(FAILED)], depth="summary")
    marks = dict(zip(tables.cases["attack"], tables.cases["marks"], strict=True))
    assert marks == {"pgd": "bpda gradient-masking", "clean": ""}
    assert any("is marked gradient-masking: do not trust" in note for note in tables.notes)
    told = [note for note in tables.notes if "fails the check 'exactly zero gradients'" in note]
    assert told == [note for note in told if note.startswith("unet@jsrt#0 on jsrt")]
    assert len(told) == 1
    assert FAILED.meaning in told[0]


@pytest.mark.parametrize(
    "other", [{"network_sha256": "00" * 32}, {"dataset": "isic2016"}, {"model": "net"}]
)
def test_other_networks_data_or_names_are_left_alone(row, frame, other):
    rows = [row(weights_sha256="ab" * 32, dataset_fingerprint="cd" * 32)]
    plain = build_tables(frame(rows), depth="summary")
    joined = build_tables(frame(rows), diagnoses=[diagnosis(FAILED, **other)], depth="summary")
    assert joined.notes == plain.notes
    assert (joined.cases["marks"] == "").all()


def test_a_network_that_passed_or_is_suspicious_is_told_of_and_not_marked(row, frame):
    rows = frame([row(weights_sha256="ab" * 32, dataset_fingerprint="cd" * 32)])
    passed = build_tables(rows, diagnoses=[diagnosis(PASSED)], depth="summary")
    assert passed.examined[0] == (
        "On jsrt segbench diagnose (8 cases, eps 4/255) found nothing in 23 checks that hides a "
        "gradient from an attack; passed: unet@jsrt#0."
    )
    odd = build_tables(rows, diagnoses=[diagnosis(ODD)], depth="summary")
    assert any("is suspicious in the check" in note for note in odd.notes)
    weak = ODD.model_copy(update={"verdict": "weak loss", "meaning": "Cross-entropy is weak."})
    stalled = build_tables(rows, diagnoses=[diagnosis(weak)], depth="summary")
    assert [*stalled.findings] == [
        "unet@jsrt#0 on jsrt shows a weak loss in the check 'exactly zero gradients' of segbench "
        "diagnose (8 cases, eps 4/255; 0.2, threshold 0.1): Cross-entropy is weak."
    ]
    assert not any("has not examined" in note for note in stalled.notes)
    for tables in (passed, odd, stalled):
        assert (tables.summary["marks"] == "").all()


def test_doubts_come_first_and_passes_apart_in_one_line(row, frame):
    names = ["a passed", "b odd", "c passed", "d failed", "e odd", "f never"]
    found = {"a": PASSED, "b": ODD, "c": PASSED, "d": FAILED, "e": ODD}
    rows = [row(model=name, jaccard=0.9 - 0.1 * n) for n, name in enumerate(names)]
    rows += [clean(row, model="g clean")]  # nobody attacked it
    told = [diagnosis(found[name[0]], model=name) for name in names if name[0] in found]
    tables = build_tables(frame(rows), diagnoses=told, depth="summary")
    assert [sentence[:8].strip() for sentence in tables.findings] == [
        "d failed",
        "b odd on",
        "e odd on",
    ]
    assert [*tables.warnings[:3]] == [*tables.findings]
    assert not [warning for warning in tables.warnings if "; passed:" in warning]
    passes, rest = tables.examined
    assert passes.endswith("; passed: a passed, c passed.")
    assert rest == "On jsrt segbench diagnose has not examined f never."
    assert not {*tables.examined} & {*tables.warnings}
    assert {*tables.examined} <= {*tables.notes}


def test_the_checks_that_a_network_fails_come_before_those_it_is_suspicious_in(row, frame):
    both = diagnosis(FAILED, checks=(ODD, PASSED, FAILED), verdict="fail")
    first, second = build_tables(frame([row()]), diagnoses=[both], depth="summary").findings
    assert "fails the check" in first
    assert "is suspicious in the check" in second


@pytest.fixture
def workspace(tmp_path):
    return Workspace(tmp_path)


def test_what_is_written_is_read_and_the_same_again_replaces_it(workspace):
    assert read_diagnoses(workspace) == []
    other = diagnosis(PASSED, model="aaa")
    for one in (diagnosis(FAILED), other, diagnosis(PASSED)):
        path = write_diagnosis(workspace, one)
    assert read_diagnoses(workspace) == [other, diagnosis(PASSED)]
    path.write_text("{}")
    with pytest.raises(UserError, match="is not a diagnosis"):
        read_diagnoses(workspace)


@pytest.mark.parametrize(
    "smaller",
    [
        {"cases": 1},
        {"cases_sha256": "00" * 32},
        {"eps": "1/1000"},
        {"dataset_fingerprint": "00" * 32},
        {"split": "val"},
        {"precision": "bf16"},
        {"checks": (PASSED,)},
    ],
    ids=lambda given: next(iter(given)),
)
def test_no_other_examination_takes_a_mark_away(workspace, row, frame, smaller):
    """Of fewer or other cases, at another eps, of other data, in bf16, or by fewer checks."""
    grave, light = diagnosis(FAILED), diagnosis(PASSED, **smaller)
    for one in (grave, light):
        write_diagnosis(workspace, one)
    found = read_diagnoses(workspace)
    assert sorted(found, key=str) == sorted([grave, light], key=str)
    tables = build_tables(frame([row()]), diagnoses=found, depth="summary")
    assert set(tables.cases["marks"]) == {MARK}
    assert any("fails the check 'exactly zero gradients'" in said for said in tables.findings)
    assert "passed: unet@jsrt#0" in tables.examined[0]  # each with its sentence


def test_an_examination_by_more_checks_replaces_that_by_fewer(workspace):
    fewer, more = diagnosis(FAILED, checks=(FAILED,)), diagnosis(PASSED)
    for one in (fewer, more):
        write_diagnosis(workspace, one)
    assert read_diagnoses(workspace) == [more]
    write_diagnosis(workspace, fewer)  # and later by fewer again, which found it
    assert {one.verdict for one in read_diagnoses(workspace)} == {"pass", "fail"}


def test_a_file_of_before_is_read_and_the_same_examination_replaces_it(workspace):
    old = diagnosis(FAILED, cases_sha256="")
    facts = {k: v for k, v in old.model_dump(mode="json").items() if k != "cases_sha256"}
    write_record(record_path(workspace.diagnoses, {"subject": old.subject}), facts)
    assert read_diagnoses(workspace) == [old]
    write_diagnosis(workspace, diagnosis(PASSED, cases=1))
    assert old in read_diagnoses(workspace)
    write_diagnosis(workspace, diagnosis(PASSED))
    assert read_diagnoses(workspace) == [diagnosis(PASSED, cases=1), diagnosis(PASSED)]


def test_a_check_that_a_network_cannot_be_held_to_is_not_lacking() -> None:
    """Of a network that unpools, gradients are others than its answers' by design."""
    less = tuple(PASSED.model_copy(update={"name": n}) for n in CHECKS - {DIFFERENCES})
    made = diagnosis(PASSED).model_copy(update={"checks": less})
    assert made.lacking == [DIFFERENCES]
    assert made.model_copy(update={"needless": (DIFFERENCES,)}).lacking == []


def test_of_other_data_and_by_fewer_checks_is_told_as_what_it_is(row, frame):
    rows = frame([row()])
    older = build_tables(
        rows, diagnoses=[diagnosis(PASSED, dataset_fingerprint="00" * 32)], depth="summary"
    )
    assert older.examined[0].startswith("On another version of jsrt segbench diagnose (8 cases")
    assert older.examined[1] == "On jsrt segbench diagnose has not examined unet@jsrt#0."
    failed = build_tables(
        rows, diagnoses=[diagnosis(FAILED, dataset_fingerprint="00" * 32)], depth="summary"
    )
    assert failed.findings[0].startswith("unet@jsrt#0 on another version of jsrt fails the check")
    assert set(failed.cases["marks"]) == {MARK}
    kept = [check for check in diagnosis(PASSED).checks if not check.name.startswith("standard ")]
    fewer = build_tables(rows, diagnoses=[diagnosis(PASSED, checks=tuple(kept))], depth="summary")
    assert fewer.examined == [
        "On jsrt segbench diagnose (8 cases, eps 4/255) found nothing in 21 checks that hides a "
        "gradient from an attack, and did not check, as it does by now, standard against all "
        "others, standard at twice the cost; passed: unet@jsrt#0."
    ]


def test_two_data_sets_of_one_spec_have_a_diagnosis_each(row, frame):
    rows = [row(), row(dataset_fingerprint="12" * 32)]
    tables = build_tables(frame(rows), diagnoses=[diagnosis(PASSED)], depth="summary")
    assert tables.examined[0].startswith("On jsrt (cdcdcdcd) segbench diagnose")
    assert tables.examined[1:] == [
        "On jsrt (12121212) segbench diagnose has not examined unet@jsrt#0."
    ]
