"""What a worker's death says of the cases that it was at.

A worker may be killed by anybody, and then its cases are as good as any; or by a case, whose
network ends the process or tears it down. So what it was at is tried again case by case, and a case
is blamed that has been alone with a worker that died more than once. A network is blamed when
nobody lives to see it loaded.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from segbench.errors import MachineError
from segbench.evaluation.pieces import Outcome, Piece
from segbench.evaluation.schedule import Queue

_OFTEN = 2  # deaths that are a case's fault
_LOADING = 3  # deaths of each worker that are a network's


@dataclass
class Deaths:
    """How often workers have died at each case alone, and at loading each network.

    Args:
        workers: how many there are at a time.
    """

    workers: int
    _counted: Counter[tuple[str, int, str]] = field(default_factory=Counter)
    _loading: Counter[str] = field(default_factory=Counter)

    def loaded(self, model: str) -> None:
        """A worker has lived to see the network loaded."""
        self._loading.pop(model, None)

    def judge(self, piece: Piece, ended: str, queue: Queue, *, begun: bool) -> Outcome | None:
        """Put a piece back whose worker has died, or the outcome of what is to blame.

        Args:
            ended: by what the worker ended: a status or a signal.
            begun: whether its network had been loaded.
        """
        if not begun:
            return self._judge_loading(piece, ended, queue)
        if len(piece.lacking) > 1:
            queue.put_back(piece, piece.cut(1))
            return None
        [case_id] = piece.lacking
        self._counted[piece.model, piece.cell, case_id] += 1
        if self._counted[piece.model, piece.cell, case_id] < _OFTEN:
            queue.put_back(piece, [piece])
            return None
        queue.done(piece)
        reason = f"ended the process that computed it ({ended})"
        return Outcome(piece, errors=((case_id, MachineError(reason)),))

    def _judge_loading(self, piece: Piece, ended: str, queue: Queue) -> Outcome | None:
        self._loading[piece.model] += 1
        if self._loading[piece.model] < _LOADING * self.workers:
            queue.put_back(piece, [piece])
            return None
        queue.done(piece)
        reason = f"{piece.model} ended every process that loaded it ({ended})"
        return Outcome(piece, fatal=MachineError(reason))
