"""What a worker does: it reads the request again, and answers for one piece at a time."""

from __future__ import annotations

import os
import signal
import traceback
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Any

from segbench.errors import MachineError, UserError

if TYPE_CHECKING:
    from segbench.evaluation.grid import Cell
    from segbench.evaluation.pieces import Outcome, Piece
    from segbench.evaluation.request import Request
    from segbench.evaluation.work import ModelWork
    from segbench.store.workspace import Workspace

Tell = Callable[[str, Any], None]


@dataclass(frozen=True)
class Seat:
    """Where a worker computes: a device, and how many threads it may use there."""

    device: str
    threads: int


class Telling:
    """A listener that passes on what only a worker can know."""

    def __init__(self, tell: Tell) -> None:
        self._tell = tell

    def model(self, name: str, scores: int) -> None:
        """The parent has said so already."""

    def cell(self, model: str, cell: Cell) -> None:
        """The parent has said so already."""

    def busy(self, what: str) -> None:
        """Pass it on."""
        self._tell("busy", what)

    def cases(self, computed: int, found: int) -> None:
        """Pass on what was computed."""
        self._tell("cases", computed)

    def gradients(self, count: int) -> None:
        """Pass it on."""
        self._tell("gradients", count)

    def warn(self, sentence: str) -> None:
        """Pass it on."""
        self._tell("warn", sentence)


class Server:
    """A worker with the network that it is at.

    Args:
        tell: takes what a listener is told, and ``begun`` when a piece's network is there.
        request: the whole of what is asked for.
    """

    def __init__(
        self, tell: Tell, request: Request, workspace: Workspace, run: int, seat: Seat
    ) -> None:
        import torch

        os.environ["OMP_NUM_THREADS"] = str(seat.threads)
        torch.set_num_threads(seat.threads)
        self._request, self._run = replace(request, device=seat.device), run
        self._workspace, self._tell = workspace, tell
        self._opened = ExitStack()
        self._work: ModelWork | None = None

    def answer(self, piece: Piece) -> Outcome:
        """Compute a piece; what comes back can be read by another process."""
        from segbench.evaluation.pieces import Outcome

        try:
            work = self._work_on(piece.model)
            self._tell("begun", None)
            outcome = work.compute(piece)
        except (UserError, MachineError) as error:
            return Outcome(piece, fatal=_plain(error))
        errors = tuple((name, _plain(error)) for name, error in outcome.errors)
        return replace(outcome, errors=errors)

    def load(self, model: str) -> bool:
        """Whether a network is there, loaded if it was not; why not, its next piece will say."""
        try:
            self._work_on(model)
        except (UserError, MachineError):
            return False
        return True

    def close(self) -> None:
        """Let go of the network."""
        self._work = None
        self._opened.close()

    def _work_on(self, model: str) -> ModelWork:
        """The network of that name, loaded where it is not the one at hand.

        Raises:
            UserError, MachineError: it, or its data, cannot be used.
        """
        from segbench.evaluation.plan import find_models, pair_with_data, plan_grid
        from segbench.evaluation.work import open_work

        if self._work is None or self._work.subject.name != model:
            self.close()
            pairs = pair_with_data(find_models(self._request, self._workspace), self._request)
            named = {reference.name: (reference, data) for reference, data in pairs}
            if model not in named:
                raise MachineError(f"{model} is gone from {self._workspace}")
            grid, told = plan_grid(self._request), Telling(self._tell)
            opening = open_work(
                *named[model], grid, self._workspace, self._run, self._request, told
            )
            self._work = self._opened.enter_context(opening)
        return self._work


def serve(
    connection: Connection, request: Request, workspace: Workspace, run: int, seat: Seat
) -> None:
    """Take pieces until there are no more, or the parent is gone.

    Sends ``("outcome", Outcome)`` when one is done, and ``("bug", traceback)`` where segbench is at
    fault; in between what ``Server`` tells.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent's to decide

    def tell(word: str, value: Any) -> None:
        connection.send((word, value))

    with suppress(EOFError, BrokenPipeError, ConnectionResetError):
        server = Server(tell, request, workspace, run, seat)
        while (piece := connection.recv()) is not None:
            try:
                connection.send(("outcome", server.answer(piece)))
            except (EOFError, BrokenPipeError, ConnectionResetError):
                raise
            except Exception:
                connection.send(("bug", traceback.format_exc()))


def _plain(error: UserError | MachineError) -> UserError | MachineError:
    """An error that another process can read, whatever its class."""
    return (UserError if isinstance(error, UserError) else MachineError)(str(error))
