"""`worst`: the worst of what a corruption could have drawn, by search and without a gradient.

It works for any attack with severities that draws its numbers from the case's noise, whoever wrote
it: the search is over the numbers it draws. First each severity up to the budget's with the case's
own numbers, as the corruption itself has it, so that the worst is never above the corruption at
this severity or a smaller one; then, at the severity that did most, a quarter of the queries with
numbers drawn anew, and from then on the best numbers so far, moved by ever less. Uniform numbers
move around a circle and normal ones along great circles, so that each stays distributed as the
corruption draws it, and none is beyond what it could have drawn.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, Protocol, runtime_checkable

import torch
from torch import Tensor

from segbench.api import BringsBudgets, Budget, BudgetKind, Goal, Noise, Objective
from segbench.engine.ball import per_case
from segbench.errors import UserError
from segbench.plugins.attack import load_attack

_FIRST, _EACH = 2**32, 2**20  # the search's own draws: beyond a corruption's, so many a turn
_ANEW = 0.25  # of the queries
_WIDEST, _NARROWEST = 0.5, 0.02  # moves, as shares of the range of a uniform number

Key = tuple[str, int, tuple[int, ...]]
Numbers = dict[Key, Tensor]


@runtime_checkable
class Corrupts(Protocol):
    """What a corruption is here."""

    def run(
        self, objective: Objective, images: Tensor, goal: Goal, budget: Budget, noise: Noise
    ) -> Tensor:
        """The corrupted images (B, C, *spatial)."""
        ...


@dataclass(frozen=True)
class Worst:
    """The worst that a corruption could have drawn; so many forwards a case, no gradient.

    Attributes:
        attack: the corruption's spec, such as ``corruption/bias-field``; its severities are run.
        queries: images of each case that the network is asked about.
    """

    attack: str
    queries: int = 50

    needs: ClassVar[Literal["labels"]] = "labels"
    budget_kind: ClassVar[BudgetKind] = "severity"
    runs_another: ClassVar[Literal[True]] = True

    def __post_init__(self) -> None:
        inner = load_attack(self.attack).attack
        blind = inner.needs == "labels" and not isinstance(inner, Worst)
        if inner.budget_kind != "severity" or not isinstance(inner, Corrupts) or not blind:
            raise UserError(
                f"attack={self.attack!r} is no corruption; expected an attack with severities "
                "that draws its numbers, such as corruption/bias-field"
            )
        if self.queries < len(self.budgets):
            raise UserError(
                f"queries={self.queries} is less than one for each of its {len(self.budgets)} "
                "severities"
            )

    @property
    def budgets(self) -> Sequence[Budget]:
        """The corruption's."""
        inner = load_attack(self.attack).attack
        assert isinstance(inner, BringsBudgets)
        return inner.budgets

    def run(
        self, objective: Objective, images: Tensor, goal: Goal, budget: Budget, noise: Noise
    ) -> Tensor:
        """The worst images (B, C, *spatial) that were found; the clean one is not among them."""
        corruption = load_attack(self.attack).attack
        assert isinstance(corruption, Corrupts)
        allowed = [known for known in self.budgets if known.value <= budget.value]
        search = _Search(corruption, allowed, objective, images, goal)
        for severity in range(len(allowed)):
            search.ask(torch.full_like(search.severity, severity), Drawn(noise, {}))
        rest = self.queries - len(allowed)
        for turn in range(rest):
            fresh = Shifted(noise, _FIRST + turn * _EACH)
            width = None if turn < _ANEW * rest else _width(turn / rest)
            search.ask(search.severity, Drawn(fresh, search.numbers, width))
        return search.images


class Shifted:
    """The same noise, its draws numbered from elsewhere; see ``api.Noise``."""

    def __init__(self, noise: Noise, first: int) -> None:
        self.noise, self.first = noise, first

    def uniform(self, draw: int, shape: Sequence[int]) -> Tensor:
        """Of the noise, ``first`` draws on."""
        return self.noise.uniform(self.first + draw, shape)

    def normal(self, draw: int, shape: Sequence[int]) -> Tensor:
        """Of the noise, ``first`` draws on."""
        return self.noise.normal(self.first + draw, shape)

    def select(self, index: Tensor) -> Noise:
        """The same of some cases."""
        return Shifted(self.noise.select(index), self.first)


class Drawn:
    """Noise that remembers what it gave: drawn from ``noise``, or the known numbers moved.

    Attributes:
        width: by how much of a number's range those move; None draws all anew.
        numbers: what was given, by kind, draw and shape.
    """

    def __init__(self, noise: Noise, known: Numbers, width: float | None = None) -> None:
        self.noise, self.known, self.width = noise, known, width
        self.numbers: Numbers = {}

    def uniform(self, draw: int, shape: Sequence[int]) -> Tensor:
        """Uniform in [0, 1), moved around the circle."""
        return self._given("uniform", draw, shape, self.noise.uniform, _turned)

    def normal(self, draw: int, shape: Sequence[int]) -> Tensor:
        """Standard normal, moved along a great circle."""
        return self._given("normal", draw, shape, self.noise.normal, _rotated)

    def select(self, index: Tensor) -> Drawn:
        """The same of some cases."""
        known = {key: values[index] for key, values in self.known.items()}
        return Drawn(self.noise.select(index), known, self.width)

    def _given(
        self,
        kind: str,
        draw: int,
        shape: Sequence[int],
        fresh: Callable[[int, Sequence[int]], Tensor],
        move: Callable[[Tensor, Tensor, float], Tensor],
    ) -> Tensor:
        key, values = (kind, draw, tuple(shape)), fresh(draw, shape)
        if self.width is not None and key in self.known:
            values = move(self.known[key], values, self.width)
        self.numbers[key] = values
        return values


class _Search:
    """Of every case the worst image so far, and the severity and the numbers it came of."""

    def __init__(
        self,
        corruption: Corrupts,
        allowed: Sequence[Budget],
        objective: Objective,
        clean: Tensor,
        goal: Goal,
    ) -> None:
        self.corruption, self.allowed = corruption, allowed
        self.objective, self.clean, self.goal = objective, clean, goal
        self.images = clean.clone()
        self.left = torch.full(clean.shape[:1], torch.inf, device=clean.device).double()
        self.severity = torch.zeros_like(self.left, dtype=torch.int64)
        self.numbers: Numbers = {}

    def ask(self, severity: Tensor, drawn: Drawn) -> None:
        """One image of each case, at a severity (B,) of its own."""
        images, numbers = self.clean.clone(), dict[Key, Tensor]()
        for n, budget in enumerate(self.allowed):
            cases = (severity == n).nonzero()[:, 0]
            if len(cases):
                own, objective = drawn.select(cases), self.objective.select(cases)
                made = self.corruption.run(
                    objective, self.clean[cases].clone(), self.goal, budget, own
                )
                images[cases] = made.clamp(0, 1)
                for key, values in own.numbers.items():
                    empty = values.new_zeros(len(images), *values.shape[1:])
                    numbers[key] = numbers.get(key, empty).index_copy(0, cases, values)
        left = self.objective.remaining(images, self.goal)
        better = left < self.left
        self.images = torch.where(per_case(better, images), images, self.images)
        self.left = torch.where(better, left, self.left)
        self.severity = torch.where(better, severity, self.severity)
        for key, values in numbers.items():
            before = self.numbers.get(key, values)
            chosen = better.reshape(-1, *[1] * (values.dim() - 1))
            self.numbers[key] = torch.where(chosen, values, before)


def _width(progress: float) -> float:
    """From the widest to the narrowest move, evenly in ratio."""
    return float(_WIDEST * (_NARROWEST / _WIDEST) ** progress)


def _turned(known: Tensor, fresh: Tensor, width: float) -> Tensor:
    return (known + width * (2 * fresh - 1)) % 1


def _rotated(known: Tensor, fresh: Tensor, width: float) -> Tensor:
    angle = width * math.pi / 2
    return math.cos(angle) * known + math.sin(angle) * fresh
