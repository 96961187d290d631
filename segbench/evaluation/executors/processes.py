"""A pool of processes on this machine: one per device, or several that share the cores.

A worker loads a network once and is handed pieces of it, one after another. Where one dies, another
takes its place, and its piece is tried again in single cases, so that a case that kills whoever
computes it is found and named; see ``Deaths``. One that takes too long is ended.
"""

from __future__ import annotations

import multiprocessing
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any

import torch

from segbench.errors import MachineError
from segbench.evaluation.costs import place_of
from segbench.evaluation.executors.deaths import Deaths
from segbench.evaluation.executors.executor import Told
from segbench.evaluation.executors.serving import Seat, serve
from segbench.evaluation.pieces import Outcome, Piece
from segbench.evaluation.request import Request
from segbench.evaluation.schedule import Queue
from segbench.store.workspace import Workspace

_PATIENCE = 5.0  # seconds that a worker has to end by itself


@dataclass(eq=False)
class _Worker:
    """A process, and what it is at.

    Attributes:
        piece: what it was handed and has not answered for.
        model: the network that it has loaded, or is to load.
        begun: whether it has said that the network of its piece is there.
        deadline: when it has had enough time for that, on the monotonic clock.
    """

    process: BaseProcess
    connection: Connection
    seat: Seat
    piece: Piece | None = None
    model: str | None = None
    begun: bool = False
    deadline: float = float("inf")

    def hand(self, piece: Piece) -> None:
        """Give it a piece; the clock starts when it says that it has begun."""
        self.piece, self.model = piece, piece.model
        self.begun, self.deadline = False, float("inf")
        with suppress(BrokenPipeError, ConnectionResetError):  # whoever waits for it hears
            self.connection.send(piece)

    def stop(self) -> str:
        """End it now, if it has not ended; by what it did: a status or a signal."""
        if self.process.is_alive():
            self.process.kill()
        self.process.join()
        self.connection.close()
        code = self.process.exitcode or 0
        if code < 0:
            return signal.Signals(-code).name
        return f"status {code}"


@dataclass(eq=False)
class Processes:
    """Workers of this machine; an ``Executor``.

    Args:
        request: the whole of what is asked for; every worker reads it again.
        run: the number of the run whose rows these are.
        seats: a device and a number of threads for each worker.
        timeout: seconds that a case may take, None for any.
    """

    request: Request
    workspace: Workspace
    run_number: int
    seats: Sequence[Seat]
    timeout: float | None = None
    _idle: list[Seat] = field(default_factory=list)
    _workers: list[_Worker] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._idle = list(self.seats)
        self._deaths = Deaths(self.workers)

    @property
    def workers(self) -> int:
        """How many pieces are computed at a time."""
        return len(self.seats)

    @property
    def place(self) -> str:
        """That of the first worker."""
        return place_of(torch.device(self.seats[0].device), self.seats[0].threads)

    def run(self, queue: Queue, told: Told) -> Iterator[Outcome]:
        """See ``Executor``."""
        while queue or any(worker.piece for worker in self._workers):
            self._hand_out(queue, told)
            for worker in self._ready():
                outcome = self._hear(worker, queue, told)
                if outcome:
                    yield outcome

    def close(self) -> None:
        """Stop every worker; what they had not stored is lost."""
        for worker in self._workers:
            if worker.piece is None:
                with suppress(BrokenPipeError, ConnectionResetError):
                    worker.connection.send(None)
                worker.process.join(_PATIENCE)
            worker.stop()
        self._workers.clear()

    def _hand_out(self, queue: Queue, told: Told) -> None:
        """Give every worker that has nothing to do a piece, and begin those that are wanted."""
        self._dismiss_dead()
        for worker in [worker for worker in self._workers if worker.piece is None]:
            if piece := queue.take(worker.model):
                told.begin(piece)
                worker.hand(piece)
        while self._idle and (piece := queue.take()):
            told.begin(piece)
            self._begin(self._idle.pop(0)).hand(piece)

    def _dismiss_dead(self) -> None:
        """Free the seats of workers that died with nothing to do, so that no case is blamed."""
        for worker in list(self._workers):
            if worker.piece is None and not worker.process.is_alive():
                self._dismiss(worker)

    def _dismiss(self, worker: _Worker) -> str:
        """Another worker may take its seat; by what it ended."""
        ended = worker.stop()
        self._workers.remove(worker)
        self._idle.append(worker.seat)
        return ended

    def _begin(self, seat: Seat) -> _Worker:
        context = multiprocessing.get_context("spawn")
        here, there = context.Pipe()
        process = context.Process(
            target=serve,
            args=(there, self.request, self.workspace, self.run_number, seat),
            name=f"segbench on {seat.device}",
            daemon=True,
        )
        process.start()
        there.close()
        worker = _Worker(process, here, seat)
        self._workers.append(worker)
        return worker

    def _ready(self) -> list[_Worker]:
        """The workers that have said something, have died, or have had enough time."""
        busy = [worker for worker in self._workers if worker.piece]
        if not busy:
            return []
        first = min(worker.deadline for worker in busy)
        left = None if first == float("inf") else max(0.0, first - time.monotonic())
        said = wait([worker.connection for worker in busy], left)
        now = time.monotonic()
        return [worker for worker in busy if worker.connection in said or worker.deadline <= now]

    def _hear(self, worker: _Worker, queue: Queue, told: Told) -> Outcome | None:
        """What a worker has to say; the outcome of its piece, where that is known now."""
        if not worker.connection.poll():
            return self._replace(worker, queue, f"took longer than {self.timeout:g} s a case")
        try:
            word, value = worker.connection.recv()
        except (EOFError, ConnectionResetError):
            return self._replace(worker, queue, None)
        return self._obey(worker, word, value, queue, told)

    def _obey(
        self, worker: _Worker, word: str, value: Any, queue: Queue, told: Told
    ) -> Outcome | None:
        if word == "bug":
            raise RuntimeError(f"in a worker on {worker.seat.device}:\n{value}")
        assert worker.piece is not None
        if word == "outcome":
            piece, worker.piece = worker.piece, None
            queue.done(piece)
            outcome: Outcome = value
            return replace(outcome, piece=piece)  # the queue knows its own
        if word == "begun":
            worker.begun = True
            self._deaths.loaded(worker.piece.model)
            if self.timeout:
                worker.deadline = time.monotonic() + self.timeout * len(worker.piece.lacking)
        else:
            told.tell(word, value)
        return None

    def _replace(self, worker: _Worker, queue: Queue, slow: str | None) -> Outcome | None:
        """A worker is gone: what becomes of its piece; ``slow`` says that it had had its time."""
        piece, ended = worker.piece, self._dismiss(worker)
        assert piece is not None
        if slow and len(piece.lacking) == 1:
            queue.done(piece)
            [case_id] = piece.lacking
            return Outcome(piece, errors=((case_id, MachineError(slow)),))
        return self._deaths.judge(piece, ended, queue, begun=worker.begun)
