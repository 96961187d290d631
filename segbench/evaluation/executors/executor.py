"""What an executor is, and what it is given."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

from segbench.evaluation.pieces import Outcome, Piece


class Work(Protocol):
    """One network on its data, ready to work in this process."""

    def begin(self, piece: Piece) -> None:
        """Tell whoever listens that a piece begins."""
        ...

    def compute(self, piece: Piece) -> Outcome:
        """Store the rows of a piece's cases.

        Raises:
            UserError, MachineError: nothing of this network can be computed.
        """
        ...

    def tell(self, word: str, value: Any) -> None:
        """Tell whoever listens what was said elsewhere: ``busy``, ``warn`` or ``cases``."""
        ...


class Executor(Protocol):
    """Works off pieces, here or elsewhere; closed by whoever made it."""

    def run(
        self, work: Work, pieces: Sequence[Piece], abandoned: Callable[[Piece], bool]
    ) -> Iterator[Outcome]:
        """What became of each piece, in any order; those that are abandoned by then are left out.

        Raises:
            UserError, MachineError: no piece of this network can be computed.
        """
        ...

    def close(self) -> None:
        """Stop whatever still runs."""
        ...
