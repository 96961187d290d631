"""Several runs of one request as one: nothing that any of them left out is lost, nor told twice."""

from __future__ import annotations

from typing import Any

import pytest

from segbench.errors import MachineError
from segbench.evaluation.run import refuse_failures
from segbench.store.runs import Failure, RunRecord, joined, run_ids


def record(number: int, *failed: str, **more: Any) -> RunRecord:
    """A run that left out those cases."""
    failures = [
        Failure(model="net", attack="fgsm", budget="1/255", case_id=case, reason="cannot be read")
        for case in failed
    ]
    return RunRecord(
        number=number, started=f"at {number}", finished=f"after {number}", host="here", pid=1,
        argv=("segbench",), options={"run": number}, versions={}, device="cpu", threads=1,
        failures=tuple(failures), status="done", seconds=1.5, **more,
    )  # fmt: skip


def test_a_joined_record_has_every_failure_once_and_ends_as_the_last() -> None:
    runs = [record(3, "a"), record(4), record(5, "b", "a", reason="why")]
    one = joined(runs)
    assert [failure.case_id for failure in one.failures] == ["a", "b"]
    assert (one.run_id, one.started, one.options) == ("run-00003", "at 3", {"run": 3})
    assert (one.finished, one.reason, one.seconds) == ("after 5", "why", 4.5)
    assert joined(runs[:1]) == runs[0]


def test_what_any_run_left_out_is_refused_once() -> None:
    with pytest.raises(MachineError, match=r"run-00003, run-00005 left out 2 of .*case b: cannot"):
        refuse_failures(record(3, "a"), record(4), record(5, "b", "a"))
    refuse_failures(record(3), record(4))


@pytest.mark.parametrize(
    ("numbers", "said"),
    [
        ([3], "run-00003"),
        ([3, 4, 5], "run-00003 to run-00005"),
        ([3, 5], "run-00003, run-00005"),
    ],
)
def test_runs_are_named_from_the_first_to_the_last(numbers: list[int], said: str) -> None:
    """A run of somebody else's that came between them is not theirs."""
    assert run_ids([record(number) for number in numbers]) == said
