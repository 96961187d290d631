"""The grid: models x attacks x eps x seeds on one data set, expanded into cells. Pure; no torch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cached_property

from segbench.api import Budget, Entry
from segbench.evaluation.certificate import Smoothing
from segbench.plugins.attack import CLEAN, NamedAttack, attack_budgets

SHARD_CASES = 32


@dataclass(frozen=True, eq=False)
class Cell:
    """One model, attack, budget and seed; ``attack`` is None for the clean cell (budget 0).

    So it is for a certificate, which is no attack: its images are the clean ones.
    """

    attack: NamedAttack | None
    budget: Budget
    seed: int = 0
    certificate: Smoothing | None = None

    @property
    def label(self) -> str:
        """The attack's label, or the certificate's, ``clean`` for neither."""
        named = self.attack or self.certificate
        return named.label if named else CLEAN


@dataclass(frozen=True, eq=False)
class Grid:
    """What is to be evaluated on one model and data set.

    Attributes:
        eps: exact values, for attacks without budgets of their own; an eps of 0 is the clean cell,
            which is always there once.
    """

    attacks: Sequence[NamedAttack]
    eps: Sequence[Fraction]
    seeds: Sequence[int] = (0,)
    clean: Budget = field(default=Budget("none", Fraction(0)))
    certificates: Sequence[Smoothing] = ()

    @cached_property
    def cells(self) -> Sequence[Cell]:
        """What ``expand_grid`` gives, once for all networks that are asked the same."""
        return tuple(expand_grid(self))


def expand_grid(grid: Grid) -> Iterator[Cell]:
    """The clean cell first, then every attack over its budgets, each seed in turn, all once.

    Certificates come last.
    """
    yield Cell(None, grid.clean)
    for attack in {attack.label: attack for attack in grid.attacks}.values():
        budgets = attack_budgets(attack, grid.eps)
        for seed in dict.fromkeys(grid.seeds):
            for budget in budgets:
                yield Cell(attack, budget, seed)
    for certificate in dict.fromkeys(grid.certificates):
        for seed in dict.fromkeys(grid.seeds):
            yield Cell(None, certificate.budget, seed, certificate)


def take_cases(entries: Sequence[Entry], limit: int | None) -> list[Entry]:
    """At most ``limit`` cases, evenly spread over the split, so that no end of it is favoured."""
    if limit is None or limit >= len(entries):
        return list(entries)
    return [entries[i * len(entries) // limit] for i in range(limit)]


def cut_shards(entries: Sequence[Entry]) -> list[list[Entry]]:
    """Shards of at most 32 cases, all of one shape; the order depends on the entries alone."""
    buckets: dict[tuple[int, ...], list[Entry]] = {}
    for entry in entries:
        buckets.setdefault(entry.shape, []).append(entry)
    return [
        bucket[start : start + SHARD_CASES]
        for bucket in buckets.values()
        for start in range(0, len(bucket), SHARD_CASES)
    ]
