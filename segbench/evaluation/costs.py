"""What work has cost here: seconds of each network at each shape, and gradients of each attack.

    <workspace>/results/costs/<network>.json

Sums that every run adds to when it ends. Only a memory: whoever may not write it does without, and
a file that is damaged is as good as none.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch

from segbench.engine.precision import device_name
from segbench.errors import MachineError, UserError
from segbench.evaluation.pieces import Spent
from segbench.store.records import read_record, write_record
from segbench.store.row_files import listed
from segbench.store.workspace import Workspace

FORWARD = 1 / 3
"""A forward pass beside a gradient, which is one there and two back."""

_READY = 5.0  # seconds until a network is ready, where nothing was measured
_PIXEL = 1e-6  # seconds of a gradient for each number of an image, likewise


@dataclass(frozen=True)
class Kind:
    """What was measured together.

    Attributes:
        network: its SHA-256.
        place: see ``Spent``.
        shape: of the images, (C, *spatial).
        attack: what it is known by; "" is the network without one, and being made ready.
        direct: whether its images are not made by gradients of this network alone, so that their
            seconds say nothing of it.
    """

    network: str
    place: str
    shape: tuple[int, ...]
    attack: str = ""
    direct: bool = False

    @property
    def pixels(self) -> int:
        """Numbers of an image."""
        return math.prod(self.shape)


@dataclass(frozen=True)
class Sums:
    """Of some cases.

    Attributes:
        seconds: of making their images; without an attack, of all else that they took.
        ready: seconds of making the network ready, ``times`` often.
    """

    cases: int = 0
    seconds: float = 0.0
    gradients: int = 0
    forwards: int = 0
    ready: float = 0.0
    times: int = 0

    def __add__(self, other: Sums) -> Sums:
        mine, its = asdict(self), asdict(other)
        return Sums(**{name: mine[name] + its[name] for name in mine})

    @property
    def passes(self) -> float:
        """Gradients, and forward passes beyond theirs as what they are beside one."""
        return self.gradients + FORWARD * max(0, self.forwards - self.gradients)


def place_of(device: torch.device, threads: int) -> str:
    """Where something was measured: the hardware, and of a processor how many threads of it."""
    name = device_name(device)
    if device.type != "cpu":
        return name
    return f"{name}, {threads} thread{'s' * (threads > 1)}"


@dataclass(frozen=True)
class Estimate:
    """What a case is expected to take.

    Attributes:
        like: what was measured: ``itself``, ``another size``, ``another machine``, ``another
            network``, or ``nothing like it``, and then it is a guess.
    """

    seconds: float
    gradients: float
    like: str


GUESS = "nothing like it"
_LIKE = ("itself", "another size", "another machine", "another network", GUESS)


class Costs:
    """The memory of a workspace, and what is measured now."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace, self._folder = workspace, workspace.results / "costs"
        self._sums: dict[Kind, Sums] = {}
        self._new: dict[Kind, Sums] = {}
        self._estimates: dict[tuple[Kind, float], Estimate] = {}
        workspace.refresh(self._folder)
        for path in listed(self._folder, ".json"):
            for kind, sums in self._read(path.stem):
                self._sums[kind] = sums

    @property
    def kinds(self) -> list[Kind]:
        """What was measured."""
        return list(self._sums)

    def add(self, kind: Kind, cases: int, spent: Spent) -> None:
        """A piece of such work, of so many cases, was done."""
        bare = replace(kind, attack="", direct=False)
        rest = spent.seconds - spent.making
        self._add(bare, Sums(cases, rest, ready=spent.ready, times=int(spent.ready > 0)))
        if spent.made:
            made = Sums(spent.made, spent.making, spent.gradients, spent.forwards)
            self._add(kind, made)

    def case(self, kind: Kind, guess: float) -> Estimate:
        """What a case is expected to take; ``guess``: gradients, where none were counted."""
        if (kind, guess) not in self._estimates:
            self._estimates[kind, guess] = self._estimate(kind, guess)
        return self._estimates[kind, guess]

    def ready(self, network: str, place: str) -> float:
        """Seconds until a worker has a network ready."""
        own = [
            sums
            for kind, sums in self._sums.items()
            if sums.times and kind.place == place and kind.network == network
        ] or [sums for sums in self._sums.values() if sums.times]
        whole = sum(own, Sums())
        return whole.ready / whole.times if whole.times else _READY

    def save(self) -> None:
        """Add what was measured to what others have added meanwhile."""
        networks = {kind.network for kind in self._new}
        with suppress(MachineError):
            self._workspace.refresh(self._folder)
            for network in sorted(networks):
                sums = dict(self._read(network))
                for kind, new in self._new.items():
                    if kind.network == network:
                        sums[kind] = sums.get(kind, Sums()) + new
                facts = [asdict(kind) | asdict(some) for kind, some in sums.items()]
                write_record(self._folder / f"{network}.json", {"measured": facts})
        self._new.clear()

    def _add(self, kind: Kind, sums: Sums) -> None:
        for memory in (self._sums, self._new):
            memory[kind] = memory.get(kind, Sums()) + sums
        self._estimates.clear()

    def _estimate(self, kind: Kind, guess: float) -> Estimate:
        scored, like = self._scored(kind)
        if not kind.attack:
            return Estimate(scored, 0.0, _LIKE[like])
        counted, rank = self._nearest(kind, lambda k, s: k.attack == kind.attack and s.cases > 0)
        gradients = counted.gradients / counted.cases if rank < len(_LIKE) - 1 else guess
        if kind.direct and rank < len(_LIKE) - 1:
            return Estimate(scored + counted.seconds / counted.cases, gradients, _LIKE[rank])
        passes = counted.passes / counted.cases if counted.cases else guess
        pace, near = self._pace(kind, scored if like == 0 else None)
        return Estimate(scored + passes * pace, gradients, _LIKE[max(rank, near)])

    def _scored(self, kind: Kind) -> tuple[float, int]:
        """Seconds of a case without its images being made."""
        found, like = self._nearest(kind, lambda k, s: not k.attack and s.cases > 0)
        if not found.cases:
            return _PIXEL * kind.pixels, like
        return found.seconds / found.cases, like

    def _pace(self, kind: Kind, scored: float | None) -> tuple[float, int]:
        """Seconds of a gradient; before any was taken, about those of a clean score."""
        found, like = self._nearest(kind, lambda k, s: s.passes > 0 and not k.direct)
        if like >= _LIKE.index("another network") and scored is not None:
            return scored, len(_LIKE) - 1
        return (found.seconds / found.passes if found.passes else _PIXEL * kind.pixels), like

    def _nearest(self, kind: Kind, fits: Any) -> tuple[Sums, int]:
        """The sums of what is most alike, at this number of pixels; and how alike that is."""
        ranked: dict[int, Sums] = {}
        for other, sums in self._sums.items():
            if fits(other, sums):
                rank = _unlike(kind, other)
                scale = kind.pixels / other.pixels
                scaled = replace(sums, seconds=sums.seconds * scale)
                ranked[rank] = ranked.get(rank, Sums()) + scaled
        best = min(ranked, default=len(_LIKE) - 1)
        return ranked.get(best, Sums()), best

    def _read(self, network: str) -> Iterator[tuple[Kind, Sums]]:
        try:
            record = read_record(self._folder / f"{network}.json") or {"measured": []}
            measured = [_parsed(facts) for facts in record["measured"]]
        except (UserError, KeyError, TypeError, ValueError):
            return
        yield from measured


def _unlike(kind: Kind, other: Kind) -> int:
    """The place in ``_LIKE`` of what was measured elsewhere."""
    if kind.network != other.network:
        return 3
    if kind.place != other.place:
        return 2
    return int(kind.shape != other.shape)


def _parsed(facts: dict[str, Any]) -> tuple[Kind, Sums]:
    names = asdict(Sums())
    kind = {name: value for name, value in facts.items() if name not in names}
    shape = tuple(int(side) for side in kind.pop("shape"))
    if not shape or min(shape) < 1:
        raise ValueError(f"shape {shape}")
    return Kind(shape=shape, **kind), Sums(**{name: facts[name] for name in names})
