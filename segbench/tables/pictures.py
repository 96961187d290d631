"""The pictures that attacks kept, with the names and numbers that tables have for them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from pandas import DataFrame

from segbench.api import Picture
from segbench.plugins.naming import CLEAN, eps_names
from segbench.store.pictures import Kept, kept_pictures, load_picture, pictured_cells
from segbench.store.workspace import Workspace
from segbench.tables.texts import budgets_of

MOST = 60
"""Pictures that are read; a page has room for no more."""

_CELL = ["cell", "model", "dataset", "split", "attack", "budget_kind", "budget"]


def read_pictures(workspace: Workspace, named: DataFrame) -> list[Picture]:
    """Pictures of the most telling cells of every network, in turn.

    Args:
        named: one row per case and class, with the names that the tables show.
    """
    folders = pictured_cells(workspace)
    if not folders:
        return []
    own = named[named["cell"].isin(folders)]
    if own.empty:
        return []
    names = eps_names(budgets_of(named))
    found: list[Picture] = []
    for cell in _in_turn(own):
        rows = own[own["cell"] == cell["cell"]]
        clean = named[(named["model"] == cell["model"]) & (named["attack"] == CLEAN)]
        for picture in _of_cell(workspace, cell, rows, clean, names):
            found.append(picture)
            if len(found) == MOST:
                return sorted(found, key=_order)
    return sorted(found, key=_order)


def _order(picture: Picture) -> tuple[str, ...]:
    return picture.dataset, picture.split, picture.model, picture.attack, picture.eps


def _in_turn(own: DataFrame) -> Iterator[dict[Any, Any]]:
    """Each network's cells, what left least at its middle budget first; one of each in turn."""
    scores = own.groupby(_CELL, sort=True, observed=True)["jaccard"].mean().reset_index()
    queues = []
    for _, part in scores.groupby(["model", "dataset", "split"], sort=True, observed=True):
        budgets = sorted(set(part["budget"]))
        middle = budgets[len(budgets) // 2]
        away = (part["budget"] != middle).to_numpy()
        order = np.lexsort((part["jaccard"].to_numpy(), away))
        queues.append(part.iloc[order].to_dict("records"))
    for place in range(max(map(len, queues))):
        yield from (queue[place] for queue in queues if place < len(queue))


def _of_cell(
    workspace: Workspace,
    cell: dict[Any, Any],
    rows: DataFrame,
    clean: DataFrame,
    names: dict[tuple[str, float], str],
) -> Iterator[Picture]:
    by_case = rows.groupby("case_sha256", observed=True)["jaccard"].mean().dropna()
    before = clean.groupby("case_sha256", observed=True)["jaccard"].mean()
    ranked = by_case.sort_values(kind="stable")
    place = {str(content): rank for rank, content in enumerate(ranked.index)}
    kept = {c: p for c, p in kept_pictures(workspace, cell["cell"]).items() if c in place}
    for content in _three(sorted(kept, key=lambda content: place[content]), place):
        picture = load_picture(kept[content])
        if picture is not None:
            row = rows[rows["case_sha256"] == content].iloc[0]
            moved = f"{before.get(content, float('nan')):.3f} to {by_case[content]:.3f}"
            yield Picture(
                model=str(cell["model"]),
                dataset=str(cell["dataset"]),
                split=str(cell["split"]),
                attack=str(cell["attack"]),
                eps=names[cell["budget_kind"], cell["budget"]],
                case_id=str(row["case_id"]),
                group_id=str(row["group_id"]),
                kind=_kind(place[content], len(place)),
                planes=picture.planes,
                scale=picture.scale,
                facts=_facts(picture, moved),
            )


def _three(contents: list[str], place: dict[str, int]) -> list[str]:
    """The lowest, the one nearest to the middle of all cases, and the highest of those kept."""
    if len(contents) < 3:
        return contents
    middle = min(contents[1:-1], key=lambda content: abs(place[content] - (len(place) - 1) / 2))
    return [contents[0], middle, contents[-1]]


def _kind(rank: int, count: int) -> str:
    """``worst``, ``best``, ``median``, or which one it is, counted from the worst."""
    if rank in (0, count - 1):
        return "worst" if rank == 0 else "best"
    middle = abs(rank - (count - 1) / 2) <= 0.5
    return "median" if middle else f"{rank + 1}th worst of {count}"


def _facts(picture: Kept, moved: str) -> dict[str, str]:
    largest = f"{255 * picture.scale:.3g}/255"
    return {"Jaccard": moved, "largest change": largest, **picture.facts}
