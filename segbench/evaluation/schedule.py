"""Who computes what next: longest first, over all networks of a grid at once.

A worker stays with its network while there is work of it, since loading one costs seconds, and
takes its longest piece first. One that is free goes where most is left for each worker there. So
networks end at about the same time, and what is begun last is short.
"""

from __future__ import annotations

import heapq
import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from segbench.evaluation.pieces import CASES_AT_ONCE, Piece

Cost = Callable[[Piece], float]
"""Expected seconds of a piece."""

_PARTS = 8  # pieces of each worker, where the work can be cut so
_WORTH = 2.0  # seconds of work that are worth a piece of their own


@dataclass
class _Line:
    """What of one network waits.

    Attributes:
        clean: pieces of the clean cell, which come before all others.
        pieces: the others, the longest last.
        opened: whether they may be begun.
        left: their seconds, with those of the clean ones.
        flying: pieces that somebody is at.
        dropped: whether nothing of it is wanted any more.
    """

    clean: list[Piece] = field(default_factory=list)
    pieces: list[Piece] = field(default_factory=list)
    opened: bool = False
    left: float = 0.0
    flying: list[Piece] = field(default_factory=list)
    dropped: bool = False

    def __iter__(self) -> Iterator[Piece]:
        return iter([*self.pieces, *self.clean])


class Queue:
    """Pieces that wait for a worker.

    Args:
        cost: of a piece; where all cost the same they are taken in the order in which they came.
    """

    def __init__(self, cost: Cost = lambda piece: 0.0) -> None:
        self._cost = cost
        self._costs: dict[Piece, float] = {}
        self._lines: dict[str, _Line] = {}
        self._making: Counter[tuple[str, str]] = Counter()

    def __len__(self) -> int:
        """How many pieces wait."""
        return sum(len(line.clean) + len(line.pieces) for line in self._lines.values())

    def add(self, model: str, pieces: Iterable[Piece]) -> None:
        """All pieces of a network; its attacks wait for ``open``."""
        line = self._lines[model] = _Line()
        for piece in pieces:
            (line.clean if piece.clean else line.pieces).append(piece)
        line.clean.reverse()
        line.pieces.reverse()
        self._sort(model)

    def open(self, model: str) -> None:
        """Let the attacks on a network begin; they are put in order by what is known by now."""
        self._lines[model].opened = True
        self._sort(model)

    def clean_left(self, model: str) -> bool:
        """Whether clean pieces of a network wait or are under way."""
        line = self._lines[model]
        return bool(line.clean) or any(piece.clean for piece in line.flying)

    def take(self, at_hand: str | None = None) -> Piece | None:
        """The next piece for a worker that has this network loaded; None while there is none."""
        for model in sorted(self._lines, key=lambda m: self._appeal(m, at_hand), reverse=True):
            line = self._lines[model]
            for waiting in (line.clean, line.pieces if line.opened else []):
                for n in range(len(waiting) - 1, -1, -1):
                    if not self._is_being_made(waiting[n]):
                        return self._begin(line, waiting.pop(n))
        under_way = any(line.flying for line in self._lines.values())
        assert under_way or not self, "pieces wait for clean scores that nobody computes"
        return None

    def done(self, piece: Piece) -> None:
        """A piece is no longer under way."""
        self._lines[piece.model].flying.remove(piece)
        self._making.subtract(_images(piece))
        self._making += Counter()  # forgets zeros

    def put_back(self, piece: Piece, parts: Iterable[Piece]) -> None:
        """A piece that was taken waits again before all others, in parts; if it is wanted."""
        self.done(piece)
        line = self._lines[piece.model]
        for again in [] if line.dropped else reversed(list(parts)):
            part = replace(again, again=True)
            (line.clean if part.clean else line.pieces).append(part)
            self._costs[part] = self._cost(part)
            line.left += self._costs[part]

    def discard(self, model: str, cell: int | None = None) -> list[Piece]:
        """Take what waits of a network, for good, or of one of its cells, out; that."""
        line = self._lines[model]
        line.dropped |= cell is None
        out = [piece for piece in line if cell in (None, piece.cell)]
        line.clean = [piece for piece in line.clean if cell not in (None, piece.cell)]
        line.pieces = [piece for piece in line.pieces if cell not in (None, piece.cell)]
        line.left -= sum(map(self._costs.pop, out))
        return out

    def _sort(self, model: str) -> None:
        """What costs the same stays as it is: the first that came is the last in the list."""
        line = self._lines[model]
        costs = {piece: self._cost(piece) for piece in line}
        line.clean.sort(key=costs.__getitem__)
        line.pieces.sort(key=costs.__getitem__)
        line.left = sum(costs.values())
        self._costs |= costs

    def _appeal(self, model: str, at_hand: str | None) -> tuple[bool, float]:
        line = self._lines[model]
        return model == at_hand, line.left / (1 + len(line.flying))

    def _is_being_made(self, piece: Piece) -> bool:
        return any(key in self._making for key in _images(piece))

    def _begin(self, line: _Line, piece: Piece) -> Piece:
        line.flying.append(piece)
        line.left -= self._costs.pop(piece)
        self._making.update(_images(piece))
        return piece


def _images(piece: Piece) -> list[tuple[str, str]]:
    return [(piece.images, name) for name in piece.lacking] if piece.images else []


def cut(pieces: Sequence[Piece], workers: int, cost: Cost) -> list[Piece]:
    """The same work in pieces that so many workers can share.

    Each is a small part of what a worker has to do, so that none is left with much at the end, and
    of a few cases at most; but never shorter than it is worth.
    """
    wanted = workers * _PARTS
    aim = max(_WORTH, sum(map(cost, pieces)) / wanted)
    few = sum(len(piece.lacking) for piece in pieces) < wanted * CASES_AT_ONCE
    return [part for piece in pieces for part in _parts(piece, workers if few else 1, aim, cost)]


def _parts(piece: Piece, share: int, aim: float, cost: Cost) -> Iterable[Piece]:
    """A piece in at least ``share`` parts, and none longer than the aim."""
    if piece.fitted:
        return [piece]
    cases = len(piece.lacking)
    each = cost(piece) / cases
    fitting = int(aim / each) if each else cases
    return piece.cut(max(1, min(CASES_AT_ONCE, -(-cases // share), fitting)))


@dataclass(frozen=True)
class Schedule:
    """How a queue would be worked off.

    Attributes:
        makespan: seconds until the last worker is done.
        ideal: seconds that no schedule could do without: the work, each network loaded once, evenly
            divided, or the longest piece where that is longer.
        busy: seconds that each worker works.
        loads: how often a network was loaded.
        shares: the pieces that each worker took, in order.
    """

    makespan: float
    ideal: float
    busy: tuple[float, ...]
    loads: int
    shares: tuple[tuple[Piece, ...], ...]


def simulate(
    pieces: Sequence[Piece], workers: int, cost: Cost, ready: Mapping[str, float]
) -> Schedule:
    """Work off pieces on a clock of its own, as the executors do.

    Args:
        ready: seconds that a worker takes to load a network, by its name.
    """
    queue = Queue(cost)
    models: dict[str, list[Piece]] = {}
    for one in pieces:
        models.setdefault(one.model, []).append(one)
    for model, own in models.items():
        queue.add(model, own)
    closed = set(models)
    at: list[str | None] = [None] * workers
    busy, loads = [0.0] * workers, 0
    idle, ends, now = list(range(workers)), list[tuple[float, int, int]](), 0.0
    taken: list[Piece] = []
    shares: list[list[Piece]] = [[] for _ in range(workers)]
    while queue or ends:
        for model in [model for model in closed if not queue.clean_left(model)]:
            closed.remove(model)
            queue.open(model)
        for worker in list(idle):
            if piece := queue.take(at[worker]):
                idle.remove(worker)
                warm = at[worker] == piece.model
                seconds = cost(piece) + (0.0 if warm else ready[piece.model])
                at[worker], loads = piece.model, loads + (not warm)
                busy[worker] += seconds
                heapq.heappush(ends, (now + seconds, len(taken), worker))
                taken.append(piece)
                shares[worker].append(piece)
        now, number, worker = heapq.heappop(ends)
        queue.done(taken[number])
        idle.append(worker)
    work = math.fsum([*map(cost, pieces), *(ready[model] for model in models)])
    longest = max((cost(piece) + ready[piece.model] for piece in pieces), default=0.0)
    dealt = tuple(map(tuple, shares))
    return Schedule(now, max(work / workers, longest), tuple(busy), loads, dealt)
