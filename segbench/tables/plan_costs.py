"""What a grid will cost, from what its like has cost in this workspace."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pandas import DataFrame

from segbench.plugins.naming import CLEAN


@dataclass(frozen=True)
class Cost:
    """A network under an attack, or clean.

    Attributes:
        scores: cells times cases.
        seconds: of a score, where one like it was measured here; None where none was.
        gradients: of a score.
        like: what was measured: ``itself``, or ``another network`` under the same attack.
    """

    model: str
    attack: str
    scores: int
    seconds: float | None
    gradients: float | None
    like: str


def plan_costs(
    rows: DataFrame, networks: Mapping[str, int], attacks: Sequence[tuple[str, str, str, int]]
) -> list[Cost]:
    """The cost of every network under every attack.

    Args:
        rows: what the workspace holds.
        networks: name -> how many cases it is to be attacked on.
        attacks: (label, name, parameters as stored, number of cells) of each.
    """
    found = []
    for model, cases in networks.items():
        found.append(_cost(rows, model, cases, (CLEAN, CLEAN, "", 1)))
        found += [_cost(rows, model, cases, attack) for attack in attacks]
    return found


def _cost(rows: DataFrame, model: str, cases: int, attack: tuple[str, str, str, int]) -> Cost:
    label, name, params, cells = attack
    same = rows[rows["attack"] == name]
    if name != CLEAN:
        same = same[same["attack_params"] == params]
    own = same[same["model"] == model]
    like, used = ("itself", own) if len(own) else ("another network", same)
    if used.empty:
        return Cost(model, label, cells * cases, None, None, "")
    keys = ["cell", "case_sha256"]
    once = used.drop_duplicates(keys)  # a row per class, each with the case's whole cost
    seconds, gradients = float(once["seconds"].mean()), float(once["backwards"].mean())
    return Cost(model, label, cells * cases, seconds, gradients, like)
