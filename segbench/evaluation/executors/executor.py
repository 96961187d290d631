"""What an executor is, and what it is given."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

from segbench.evaluation.pieces import Outcome, Piece
from segbench.evaluation.schedule import Queue


class Told(Protocol):
    """Hears how the work goes."""

    def begin(self, piece: Piece) -> None:
        """A piece begins."""
        ...

    def tell(self, word: str, value: Any) -> None:
        """What a worker said: ``busy``, ``warn``, ``cases`` or ``gradients``."""
        ...


class Executor(Protocol):
    """Works off a queue, here or elsewhere; closed by whoever made it."""

    @property
    def workers(self) -> int:
        """How many pieces are computed at a time."""
        ...

    @property
    def place(self) -> str:
        """Where they are computed; see ``Spent``."""
        ...

    def run(self, queue: Queue, told: Told) -> Iterator[Outcome]:
        """What became of each piece, in any order.

        Whoever hears of it may open and discard what waits in the queue, before the next is asked
        for.
        """
        ...

    def close(self) -> None:
        """Stop whatever still runs."""
        ...
