"""How attacks compare with each other, and who won within suites: tables that all formats share."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from segbench.api import Tables


@dataclass(frozen=True)
class Comparison:
    """A table of texts, with its title and what it means."""

    title: str
    meaning: str
    heads: Sequence[str]
    lines: Sequence[Sequence[str]]


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
    lines = [
        [
            str(row["model"]),
            str(row["attack"]),
            f"{row['optimality']:.3f}",
            str(row["eps"]),
            str(row["cases"]),
        ]
        for row in tables.optimality.to_dict("records")
    ]
    return Comparison(
        "Optimality of attacks",
        meaning,
        ["Model", "Attack", "Optimality", "Of eps", "Cases"],
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
    for key, part in won.groupby(["model", "attack", "budget", "eps"], sort=True):
        shares = dict(zip(part["member"], part["share"], strict=True))
        share = [f"{shares[name]:.2f}" if name in shares else "-" for name in members]
        lines.append([str(key[0]), str(key[1]), str(key[3]), *share, str(part["won"].sum())])
    return Comparison(
        "Which member of a suite won",
        meaning,
        ["Model", "Attack", "Eps", *members, "Cases"],
        lines,
    )
