"""A pool of Ray actors, one per GPU or per group of cores, on this machine or on a whole cluster.

Without ``RAY_ADDRESS`` Ray runs on this machine for as long as the pool is open; with it the pool
is on the cluster there, whose nodes see the workspace, the data and the current folder under the
same names; a workspace at a URL each of them opens by itself. An actor that dies is replaced where
there is room; see ``Deaths`` for its piece. When a node dies no case is to blame.
"""

from __future__ import annotations

import os
import re
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from segbench.errors import MachineError
from segbench.evaluation.costs import place_of
from segbench.evaluation.executors.deaths import Deaths
from segbench.evaluation.executors.executor import Told
from segbench.evaluation.executors.ray_cluster import Share, join_cluster, share_out
from segbench.evaluation.pieces import Outcome, Piece
from segbench.evaluation.request import Request
from segbench.evaluation.schedule import Queue
from segbench.store.workspace import Workspace

_LOOK = 1.0  # seconds between two looks at the clock
_PATIENCE = 20.0  # seconds without a worker before that is said
_STILLBORN = 3  # actors of each seat that die before they begin


@dataclass(eq=False)
class _Actor:
    """An actor, and what it is at.

    Attributes:
        begins: what it answers with its node, once it lives; None afterwards.
        piece: what it was handed; ``loading`` until its network is there, ``computing`` to its end.
        deadline: when it has had enough time for that, on the monotonic clock.
    """

    handle: Any
    begins: Any
    node: str = ""
    piece: Piece | None = None
    model: str | None = None
    loading: Any = None
    computing: Any = None
    deadline: float = float("inf")

    def hand(self, piece: Piece) -> None:
        """Give it a piece; the clock starts when its network is there."""
        self.piece, self.model, self.deadline = piece, piece.model, float("inf")
        self.loading = self.handle.load.remote(piece.model)
        self.computing = self.handle.compute.remote(piece)

    @property
    def awaited(self) -> list[Any]:
        """What it is to answer."""
        return [one for one in (self.begins, self.loading, self.computing) if one is not None]


class RayActors:
    """Actors of a cluster; an ``Executor``.

    Args:
        request: the whole of what is asked for; every actor reads it again.
        run: the number of the run whose rows these are.
    """

    def __init__(self, request: Request, workspace: Workspace, run: int) -> None:
        self._ray, self._own = join_cluster(request.workers)
        self._share: Share = share_out(self._ray, request)
        where = str(workspace) if workspace.mirror else str(workspace.root.resolve())
        settings = {k: v for k, v in os.environ.items() if k.startswith("SEGBENCH_")}
        self._arguments = (request, Path.cwd(), where, settings, run, self._share.seat)
        self._timeout = request.case_timeout
        self._actors: list[_Actor] = []
        self._deaths, self._stillborn = Deaths(self.workers), 0
        self._homeless: Counter[Piece] = Counter()
        self._heard = time.monotonic()

    @property
    def workers(self) -> int:
        """How many pieces are computed at a time, where the whole cluster is there."""
        return self._share.workers

    @property
    def place(self) -> str:
        """That of an actor, were it here."""
        seat = self._share.seat
        if seat.device != "cpu" and not torch.accelerator.is_available():
            return seat.device
        return place_of(torch.device(seat.device), seat.threads)

    def run(self, queue: Queue, told: Told) -> Iterator[Outcome]:
        """See ``Executor``."""
        while queue or any(actor.piece for actor in self._actors):
            self._hand_out(queue, told)
            self._say_waiting(told)
            for actor in self._ready():
                outcome = self._hear(actor, queue, told)
                if outcome:
                    yield outcome

    def close(self) -> None:
        """Stop every actor; what they had not stored is lost."""
        for actor in self._actors:
            self._ray.kill(actor.handle)
        self._actors.clear()
        if self._own:
            self._ray.shutdown()

    def _hand_out(self, queue: Queue, told: Told) -> None:
        """Give every living actor without one a piece, and begin those that are wanted."""
        for actor in self._actors:
            if not actor.begins and actor.piece is None and (piece := queue.take(actor.model)):
                told.begin(piece)
                actor.hand(piece)
        busy = sum(actor.piece is not None for actor in self._actors)
        for _ in range(min(self.workers, busy + len(queue)) - len(self._actors)):
            handle = self._share.actor(self._ray).remote(*self._arguments)
            self._actors.append(_Actor(handle, handle.node.remote()))

    def _say_waiting(self, told: Told) -> None:
        """Now and then, while no actor lives.

        Raises:
            MachineError: none ever will.
        """
        now = time.monotonic()
        if any(not actor.begins for actor in self._actors):
            self._heard = now
        elif now - self._heard > _PATIENCE:
            self._heard = now
            if not any(node["Alive"] for node in self._ray.nodes()):
                raise MachineError(
                    "every node of Ray's is gone; what is finished is kept, and the same command "
                    "goes on"
                )
            told.tell("busy", f"waiting for Ray to have room for a worker ({self._share.wanted})")

    def _ready(self) -> list[_Actor]:
        """The actors that have answered something, have died, or have had enough time."""
        awaited = [one for actor in self._actors for one in actor.awaited]
        done, _ = self._ray.wait(awaited, num_returns=len(awaited), timeout=0)
        if not done:
            done, _ = self._ray.wait(awaited, num_returns=1, timeout=_LOOK)
        now, said = time.monotonic(), set(done)
        return [a for a in self._actors if said.intersection(a.awaited) or a.deadline <= now]

    def _hear(self, actor: _Actor, queue: Queue, told: Told) -> Outcome | None:
        """What an actor has to say; the outcome of its piece, where that is known now."""
        try:
            if self._take(actor, "begins"):
                self._stillborn = 0
            if self._take(actor, "loading") and actor.piece:
                self._deaths.loaded(actor.piece.model)
                if self._timeout:
                    allowed = self._timeout * len(actor.piece.lacking)
                    actor.deadline = time.monotonic() + allowed
            answered = self._take(actor, "computing")
        except self._ray.exceptions.RayActorError as error:
            return self._replace(actor, queue, error)
        except self._ray.exceptions.RayTaskError as error:
            raise RuntimeError(f"in a worker of Ray's:\n{error}") from error
        if answered:
            words, outcome = answered
            return self._done(actor, words, outcome, queue, told)
        if actor.deadline <= time.monotonic():
            self._ray.kill(actor.handle)
            return self._end_slow(actor, queue)
        return None

    def _take(self, actor: _Actor, name: str) -> Any:
        """An answer that is there, which then is no longer waited for; None where it is not."""
        awaited = getattr(actor, name)
        if awaited is None or not self._ray.wait([awaited], timeout=0)[0]:
            return None
        answer = self._ray.get(awaited)
        setattr(actor, name, None)
        if name == "begins":
            actor.node = answer
        return answer

    def _done(
        self,
        actor: _Actor,
        words: list[tuple[str, Any]],
        outcome: Outcome,
        queue: Queue,
        told: Told,
    ) -> Outcome:
        piece = self._release(actor)
        queue.done(piece)
        for word, value in words:
            told.tell(word, value)
        return Outcome(piece, outcome.unreadable, outcome.errors, outcome.fatal, outcome.spent)

    def _end_slow(self, actor: _Actor, queue: Queue) -> Outcome | None:
        piece = self._release(actor)
        self._actors.remove(actor)
        if len(piece.lacking) > 1:
            queue.put_back(piece, piece.cut(1))
            return None
        queue.done(piece)
        [case_id] = piece.lacking
        error = MachineError(f"took longer than {self._timeout:g} s a case")
        return Outcome(piece, errors=((case_id, error),))

    def _replace(self, actor: _Actor, queue: Queue, error: Any) -> Outcome | None:
        """An actor is dead: what becomes of its piece; another one is begun where there is room."""
        self._actors.remove(actor)
        if actor.piece is None:
            if actor.begins:
                self._refuse_stillborn(error)
            return None
        begun = actor.loading is None
        piece = self._release(actor)
        if self._node_is_dead(actor.node, error) and not self._homeless[piece]:
            self._homeless[piece] += 1
            queue.put_back(piece, [piece])
            return None
        return self._deaths.judge(piece, _ended(error), queue, begun=begun)

    def _release(self, actor: _Actor) -> Piece:
        piece, actor.piece = actor.piece, None
        actor.loading = actor.computing = None
        actor.deadline = float("inf")
        assert piece is not None
        return piece

    def _refuse_stillborn(self, error: Any) -> None:
        """Raise where actors die one after another before they begin."""
        self._stillborn += 1
        if error.actor_init_failed or self._stillborn >= _STILLBORN * self.workers:
            raise MachineError(f"a worker of Ray's could not begin: {_ended(error)}") from None

    def _node_is_dead(self, node: str, error: Any) -> bool:
        alive = {one["NodeID"] for one in self._ray.nodes() if one["Alive"]}
        return node not in alive or "node has died" in str(error)


def _ended(error: Any) -> str:
    """What Ray says of an actor's end, in a few words."""
    text = str(error)
    for pattern in (r"Worker exit detail: (.+)", r"(\w*Error: .+)\s*$"):
        if found := re.search(pattern, text):
            return " ".join(found[1].split())[:200]
    return " ".join(text.split())[-200:]
