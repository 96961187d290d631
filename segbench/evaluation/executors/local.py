"""One piece after another, in this process."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from segbench.evaluation.executors.executor import Work
from segbench.evaluation.pieces import Outcome, Piece


class Local:
    """This process."""

    def run(
        self, work: Work, pieces: Sequence[Piece], abandoned: Callable[[Piece], bool]
    ) -> Iterator[Outcome]:
        """See ``Executor``."""
        for piece in pieces:
            if not abandoned(piece):
                work.begin(piece)
                yield work.compute(piece)

    def close(self) -> None:
        """Nothing is open."""
