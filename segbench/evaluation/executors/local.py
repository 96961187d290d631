"""One piece after another, in this process."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from segbench.errors import MachineError, UserError
from segbench.evaluation.executors.executor import Told
from segbench.evaluation.pieces import Outcome, Piece
from segbench.evaluation.schedule import Queue


class Work(Protocol):
    """One network on its data, ready to work in this process."""

    def compute(self, piece: Piece) -> Outcome:
        """Store the rows of a piece's cases.

        Raises:
            UserError, MachineError: nothing of this network can be computed.
        """
        ...


@dataclass(frozen=True, eq=False)
class Local:
    """This process, with one network at a time."""

    work: Work
    place: str = ""

    @property
    def workers(self) -> int:
        """One."""
        return 1

    def run(self, queue: Queue, told: Told) -> Iterator[Outcome]:
        """See ``Executor``."""
        while piece := queue.take():
            told.begin(piece)
            try:
                outcome = self.work.compute(piece)
            except (UserError, MachineError) as error:
                outcome = Outcome(piece, fatal=error)
            queue.done(piece)
            yield outcome

    def close(self) -> None:
        """Nothing is open."""
