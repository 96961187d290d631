"""What a worker process does: it reads the request again, and answers for one piece at a time."""

from __future__ import annotations

import os
import signal
import traceback
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any

from segbench.errors import MachineError, UserError

if TYPE_CHECKING:
    from segbench.evaluation.grid import Cell
    from segbench.evaluation.pieces import Piece
    from segbench.evaluation.request import Request
    from segbench.evaluation.work import ModelWork


@dataclass(frozen=True)
class Seat:
    """Where a worker computes: a device, and how many threads it may use there."""

    device: str
    threads: int


class Telling:
    """A listener that passes on to the parent what its own listener is told."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection

    def model(self, name: str, scores: int) -> None:
        """The parent has said so already."""

    def cell(self, model: str, cell: Cell) -> None:
        """The parent has said so already."""

    def busy(self, what: str) -> None:
        """Pass it on."""
        self.connection.send(("busy", what))

    def cases(self, computed: int, found: int) -> None:
        """Pass on what was computed."""
        self.connection.send(("cases", computed))

    def gradients(self, count: int) -> None:
        """Pass it on."""
        self.connection.send(("gradients", count))

    def warn(self, sentence: str) -> None:
        """Pass it on."""
        self.connection.send(("warn", sentence))


def serve(connection: Connection, request: Request, root: Path, run: int, seat: Seat) -> None:
    """Take pieces until there are no more, or the parent is gone.

    Sends ``("begun", None)`` when a piece's network is there, ``("outcome", Outcome)`` when it is
    done, ``("error", exception)`` where nothing of its network can be computed, and ``("bug",
    traceback)`` where segbench is at fault; in between what a listener is told.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent's to decide
    os.environ["OMP_NUM_THREADS"] = str(seat.threads)
    with suppress(EOFError, BrokenPipeError, ConnectionResetError), ExitStack() as opened:
        _Server(connection, replace(request, device=seat.device), root, run, seat, opened).serve()


class _Server:
    """A worker with the network that it is at."""

    def __init__(
        self,
        connection: Connection,
        request: Request,
        root: Path,
        run: int,
        seat: Seat,
        opened: ExitStack,
    ) -> None:
        from segbench.store.workspace import Workspace

        self.connection, self.request, self.run = connection, request, run
        self.workspace, self.seat, self.opened = Workspace(root), seat, opened
        self.work: ModelWork | None = None

    def serve(self) -> None:
        """Until there is no piece any more."""
        import torch

        torch.set_num_threads(self.seat.threads)
        while (piece := self.connection.recv()) is not None:
            self.connection.send(self._answer(piece))

    def _answer(self, piece: Piece) -> tuple[str, Any]:
        try:
            work = self._work(piece.model)
            self.connection.send(("begun", None))
            outcome = work.compute(piece)
        except (UserError, MachineError) as error:
            return "error", type(error)(str(error))
        except (EOFError, BrokenPipeError, ConnectionResetError):
            raise
        except Exception:
            return "bug", traceback.format_exc()
        errors = tuple((name, _plain(error)) for name, error in outcome.errors)
        return "outcome", replace(outcome, errors=errors)

    def _work(self, model: str) -> ModelWork:
        """The network of that name, loaded where it is not the one at hand.

        Raises:
            UserError, MachineError: it, or its data, cannot be used.
        """
        from segbench.evaluation.plan import find_models, pair_with_data, plan_grid
        from segbench.evaluation.work import open_work

        if self.work is None or self.work.subject.name != model:
            self.opened.close()
            pairs = pair_with_data(find_models(self.request, self.workspace), self.request)
            named = {reference.name: (reference, data) for reference, data in pairs}
            if model not in named:
                raise MachineError(f"{model} is gone from {self.workspace.root}")
            grid, told = plan_grid(self.request), Telling(self.connection)
            opening = open_work(*named[model], grid, self.workspace, self.run, self.request, told)
            self.work = self.opened.enter_context(opening)
        return self.work


def _plain(error: UserError | MachineError) -> UserError | MachineError:
    """An error that another process can read, whatever its class."""
    return (UserError if isinstance(error, UserError) else MachineError)(str(error))
