"""Runs: what was asked for, by whom, with what; one record each, written when the run starts.

<workspace>/results/run-00012.json     the twelfth run of the workspace

The number is the store's own counter: it orders runs, and so says what was asked about last. Rows
carry the number of the run that computed them; a record names the cells and cases it asked for,
whoever computed those.
"""

from __future__ import annotations

import platform
import re
import time
from collections.abc import Sequence
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from segbench.atomic import shown, write_exclusively
from segbench.errors import UserError
from segbench.store.alive import Process, has_process
from segbench.store.records import OldStoreError, read_record, record_bytes, write_record
from segbench.store.row_files import last_run, listed
from segbench.store.workspace import Workspace

Status = Literal["running", "done", "failed", "interrupted"]
_NAME = re.compile(r"run-(?P<number>\d+)\.json")
_OLD_NAME = re.compile(r"\d{8}-\d{6}-[0-9a-f]+\.json")


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Training(_Record):
    """How a network came about, as far as its card says.

    Attributes:
        network: its name without the seed.
        settings_sha256: of all settings of its card but the seed.
    """

    network: str
    seed: int
    settings_sha256: str


class AskedCase(_Record):
    """A case that was asked for; ``trained`` says whether the network was trained on it."""

    case_id: str
    group_id: str
    sha256: str
    trained: bool = False


class Asked(_Record):
    """One network on one split of one data set.

    Attributes:
        model: what tables call it.
        other_data: whether the data set is not, or no longer, the one that its card names.
        training: None where it has no card.
        cells: the keys of all its cells, in order.
        constant: the answer without an image that its clean score is no better than; "" for none.
        said: what the user was told of the network, in sentences.
        spans: least and greatest of what [0, 1] stands for in the files' units, None if not known.
    """

    model: str
    network_sha256: str
    weights_sha256: str
    dataset: str
    dataset_fingerprint: str
    split: str
    other_data: bool
    training: Training | None
    cells: tuple[str, ...]
    cases: tuple[AskedCase, ...]
    constant: str = ""
    said: tuple[str, ...] = ()
    spans: tuple[float, float] | None = None


class Failure(_Record):
    """A case that has no rows, and why."""

    model: str
    attack: str
    budget: str
    case_id: str
    reason: str


class Code(_Record):
    """The git commit of a folder that networks come from; ``dirty`` where files differ from it."""

    folder: str
    commit: str
    dirty: bool


class RunRecord(_Record):
    """A run, from its start on.

    Attributes:
        reason: why it ended otherwise than ``done``.
        machine: with ``pid`` and ``process_started`` the process, see ``alive.Process``.
        started: UTC, ISO 8601, as is ``finished``.
        argv: the command, empty where segbench was called from Python.
        options: everything that was asked for, defaults included.
        asked: each network that the run has come to so far, in order.
        code: of each project that networks of the user's own lie in.
    """

    schema_version: Literal[2] = 2
    number: int = 0
    status: Status = "running"
    reason: str | None = None
    started: str
    finished: str | None = None
    seconds: float = 0
    host: str
    pid: int
    machine: str = ""
    process_started: int = 0
    argv: tuple[str, ...]
    options: dict[str, Any]
    asked: tuple[Asked, ...] = ()
    failures: tuple[Failure, ...] = ()
    versions: dict[str, str]
    device: str
    threads: int
    code: tuple[Code, ...] = ()

    @property
    def run_id(self) -> str:
        """``run-00012``."""
        return f"run-{self.number:05d}"

    @property
    def state(self) -> str:
        """Its status; ``killed`` where it says running and its process is known to be gone."""
        if self.status != "running":
            return self.status
        if self.machine:
            gone = self.process.is_gone
        else:  # of an older segbench, or a system that does not say
            gone = self.host == platform.node() and not has_process(self.pid)
        return "killed" if gone else self.status

    @property
    def process(self) -> Process:
        """The one that it is, or was."""
        return Process(
            host=self.host, pid=self.pid, machine=self.machine, started=self.process_started
        )


def joined(records: Sequence[RunRecord]) -> RunRecord:
    """One record of several runs that one request led to, in their order.

    What was asked for and with what is the first one's, how it ended the last one's. All that any
    of them has come to is there, every failure once, and ``seconds`` are those of all.
    """
    first, last = records[0], records[-1]
    failures = dict.fromkeys(failure for record in records for failure in record.failures)
    return first.model_copy(
        update={
            **{name: getattr(last, name) for name in ("status", "reason", "finished")},
            "seconds": round(sum(record.seconds for record in records), 3),
            "asked": tuple(asked for record in records for asked in record.asked),
            "failures": tuple(failures),
        }
    )


def run_ids(records: Sequence[RunRecord]) -> str:
    """``run-00012``, ``run-00012 to run-00014``, or each where another run came between them."""
    numbers = [record.number for record in records]
    names = [record.run_id for record in records]
    in_turn = numbers == [*range(numbers[0], numbers[0] + len(numbers))]
    return f"{names[0]} to {names[-1]}" if in_turn and len(names) > 1 else ", ".join(names)


def begin_run(workspace: Workspace, record: RunRecord) -> RunRecord:
    """The record with the next free number, written; no two runs of a workspace share one.

    Raises:
        MachineError: the disk refused.
    """
    number = max([last_run(workspace), *_numbers(workspace)])
    while True:
        number += 1
        numbered = record.model_copy(update={"number": number})
        path = workspace.results / f"{numbered.run_id}.json"
        if write_exclusively(path, record_bytes(numbered.model_dump(mode="json"))):
            return numbered


def write_run(workspace: Workspace, record: RunRecord) -> None:
    """Replace the record of a run that has begun.

    Raises:
        MachineError: the disk refused.
    """
    path = workspace.results / f"{record.run_id}.json"
    write_record(path, record.model_dump(mode="json"))


def read_runs(workspace: Workspace, damaged: list[str] | None = None) -> list[RunRecord]:
    """The records of all runs, in the order in which they began.

    Raises:
        UserError: a file there is not a run's record, and ``damaged`` is None; else the sentence is
            appended to it and the file left out.
        OldStoreError: the store is of an older segbench.
    """
    records = []
    workspace.refresh_rows()
    for path in listed(workspace.results, ".json"):
        if _OLD_NAME.fullmatch(path.name):
            raise OldStoreError(workspace.results)
        try:
            if not _NAME.fullmatch(path.name):
                raise UserError(
                    f"{shown(path)} is not a run's record; move it out of the workspace"
                )
            content = read_record(path)
            if content is not None:
                records.append(RunRecord.model_validate(content))
        except (UserError, ValidationError) as error:
            sentence = str(error)
            if isinstance(error, ValidationError):
                sentence = (
                    f"{shown(path)} is not the record of a run that this segbench reads; move it "
                    "out of the workspace"
                )
            if damaged is None:
                raise UserError(sentence) from None
            damaged.append(sentence)
    return sorted(records, key=lambda record: record.number)


def now() -> str:
    """UTC, ISO 8601, to the second."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def _numbers(workspace: Workspace) -> Sequence[int]:
    names = [_NAME.fullmatch(path.name) for path in listed(workspace.results, ".json")]
    return [int(match["number"]) for match in names if match]
