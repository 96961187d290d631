"""A pool of processes on this machine: one per device, or several that share the cores.

A worker loads a network once and is handed pieces of it, one after another. One that dies, or takes
too long, costs its piece: the piece is cut into single cases, so that the case that killed it is
found and named, and another worker takes its place.
"""

from __future__ import annotations

import multiprocessing
import signal
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any

from segbench.errors import MachineError
from segbench.evaluation.executors.executor import Work
from segbench.evaluation.executors.serving import Seat, serve
from segbench.evaluation.pieces import CASES_AT_ONCE, Outcome, Piece
from segbench.evaluation.request import Request
from segbench.store.workspace import Workspace

_PATIENCE = 5.0  # seconds that a worker has to end by itself


@dataclass(eq=False)
class _Worker:
    """A process, and what it is at.

    Attributes:
        piece: what it was handed and has not answered for.
        deadline: when it has had enough time for that, on the monotonic clock.
    """

    process: BaseProcess
    connection: Connection
    seat: Seat
    piece: Piece | None = None
    deadline: float = float("inf")

    def hand(self, piece: Piece) -> None:
        """Give it a piece; the clock starts when it says that it has begun."""
        self.piece, self.deadline = piece, float("inf")
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

    def run(
        self, work: Work, pieces: Sequence[Piece], abandoned: Callable[[Piece], bool]
    ) -> Iterator[Outcome]:
        """See ``Executor``; pieces are begun in their order."""
        waiting = deque(part for piece in pieces for part in self._parts(piece))
        while waiting or any(worker.piece for worker in self._workers):
            self._hand_out(work, waiting, abandoned)
            for worker in self._ready():
                outcome = self._hear(work, worker, waiting)
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

    def _parts(self, piece: Piece) -> Iterator[Piece]:
        """What is handed out at once: so many cases that every worker has something to do."""
        if piece.fitted:
            return iter([piece])
        share = -(-len(piece.lacking) // len(self.seats))
        return piece.cut(max(1, min(CASES_AT_ONCE, share)))

    def _hand_out(
        self, work: Work, waiting: deque[Piece], abandoned: Callable[[Piece], bool]
    ) -> None:
        """Give every worker that has nothing to do a piece, and begin those that are wanted."""
        self._dismiss_dead()
        free = [worker for worker in self._workers if worker.piece is None]
        while waiting and (free or self._idle):
            piece = waiting.popleft()
            if abandoned(piece):
                continue
            worker = free.pop() if free else self._begin(self._idle.pop(0))
            work.begin(piece)
            with suppress(BrokenPipeError, ConnectionResetError):  # whoever waits for it hears
                worker.hand(piece)

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
            args=(there, self.request, self.workspace.root, self.run_number, seat),
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

    def _hear(self, work: Work, worker: _Worker, waiting: deque[Piece]) -> Outcome | None:
        """What a worker has to say; the outcome of its piece, where that is known now.

        Raises:
            UserError, MachineError: nothing of this network can be computed.
        """
        if not worker.connection.poll():
            return self._replace(worker, waiting, f"took longer than {self.timeout:g} s a case")
        try:
            word, value = worker.connection.recv()
        except (EOFError, ConnectionResetError):
            return self._replace(worker, waiting, None)
        return self._obey(work, worker, word, value)

    def _obey(self, work: Work, worker: _Worker, word: str, value: Any) -> Outcome | None:
        if word == "error":
            raise value
        if word == "bug":
            raise RuntimeError(f"in a worker on {worker.seat.device}:\n{value}")
        if word == "outcome":
            piece, worker.piece = worker.piece, None
            assert piece is not None
            return Outcome(piece, value.unreadable, value.errors)
        assert worker.piece is not None
        if word == "begun" and self.timeout:
            worker.deadline = time.monotonic() + self.timeout * len(worker.piece.lacking)
        elif word in ("busy", "warn", "cases", "gradients"):
            work.tell(word, value)
        return None

    def _replace(self, worker: _Worker, waiting: deque[Piece], why: str | None) -> Outcome | None:
        """A worker is gone: its piece, case by case, goes back; a single case is at fault."""
        piece, ended = worker.piece, self._dismiss(worker)
        assert piece is not None
        if len(piece.lacking) > 1:
            waiting.extendleft(reversed(list(piece.cut(1))))
            return None
        [case_id] = piece.lacking
        reason = why or f"ended the process that computed it ({ended})"
        return Outcome(piece, errors=((case_id, MachineError(reason)),))
