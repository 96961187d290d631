"""How attacks compare with each other, and who won within suites: tables that all formats share."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from segbench.api import Tables

WHOSE = ("Data set", "Split", "Model", "Norm")
"""The heads of what a line of any of these tables is about, beside its attack and eps."""

_KEY = ["dataset", "split", "model", "budget_kind"]
_NORMS = {"linf": "L∞", "l2": "L2", "l1": "L1", "none": "-"}


@dataclass(frozen=True)
class Comparison:
    """A table of texts, with its title and what it means."""

    title: str
    meaning: str
    heads: Sequence[str]
    lines: Sequence[Sequence[str]]


def whose(line: Mapping[Any, Any]) -> list[str]:
    """What a line is about, below ``WHOSE``."""
    *names, kind = (str(line[name]) for name in _KEY)
    return [*names, _NORMS.get(kind, kind)]


def attacks_compared(tables: Tables) -> Iterator[Comparison]:
    """Those that there are."""
    if not tables.optimality.empty:
        yield _optimality(tables)
    if not tables.winners.empty:
        yield _winners(tables)


def _optimality(tables: Tables) -> Comparison:
    meaning = (
        "The area between the clean score and the attack's curve of mean Jaccard over eps, as a "
        "share of the same area of the best known curve (AttackBench): each case's lowest score "
        "over all attacks here at that eps or a smaller one. 1: nothing here beats it."
    )
    some_out = tables.optimality["left_out"].ne("").any()
    lines = [
        [
            *whose(row),
            str(row["attack"]),
            "-" if row["left_out"] else f"{row['optimality']:.3f}",
            str(row["eps"]),
            str(row["cases"]),
            *([str(row["left_out"])] if some_out else []),
        ]
        for row in tables.optimality.to_dict("records")
    ]
    return Comparison(
        "Optimality of attacks",
        meaning,
        [*WHOSE, "Attack", "Optimality", "Of eps", "Cases", *(["Left out"] if some_out else [])],
        lines,
    )


def _winners(tables: Tables) -> Comparison:
    meaning = (
        "Share of the cases whose image each member of a suite found; `clean` is where nothing "
        "was found that is worse than the clean image."
    )
    won = tables.winners
    members = sorted(won["member"].unique())
    lines = []
    for key, part in won.groupby([*_KEY, "attack", "budget", "eps"], sort=True):
        point = dict(zip([*_KEY, "attack", "budget", "eps"], key, strict=True))
        shares = dict(zip(part["member"], part["share"], strict=True))
        share = [f"{shares[name]:.2f}" if name in shares else "-" for name in members]
        at = [*whose(point), str(point["attack"]), str(point["eps"])]
        lines.append([*at, *share, str(part["won"].sum())])
    return Comparison(
        "Which member of a suite won",
        meaning,
        [*WHOSE, "Attack", "Eps", *members, "Cases"],
        lines,
    )
