"""The leaderboard: networks with a place where they met the same, and without one elsewhere."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

from segbench.api import Tables
from segbench_reports.page import words

if TYPE_CHECKING:
    from pandas import DataFrame

_KEY = ["dataset", "split", "of", "dataset_fingerprint"]
_NETWORK = [*_KEY, "model", "network_sha256"]
_SHARED = ["attacks", "eps", "value", "low", "high", "cases", "groups", "doubt", "marks"]


def placed(tables: Tables) -> DataFrame:
    """Every network's number, and where it stands by what all of its board met (``_shared``)."""
    lines = tables.headlines.merge(
        tables.compared[[*_NETWORK, *_SHARED]], on=_NETWORK, suffixes=("", "_shared"), how="left"
    )
    boards = lines.assign(value_shared=lines["value_shared"].round(words.DIGITS))
    ranks = boards.groupby([*_KEY, "board"])["value_shared"].rank(ascending=False, method="min")
    whole = {name: lines[name].astype("Int64") for name in ("cases_shared", "groups_shared")}
    lines = lines.assign(place=ranks.astype("Int64"), **whole)
    return lines.sort_values([*_KEY, "board", "place", "model"], ignore_index=True)


def boards_of(tables: Tables) -> Iterator[dict[str, Any]]:
    """For each data set, version, split and kind a board of those that met something alike.

    A network that shares nothing with another stands on a board of its own, without a place.
    """
    for key, part in placed(tables).groupby(_KEY, sort=True):
        dataset, split, of, sha = cast(tuple[str, str, str, str], key)
        kind = words.KINDS.get(of, of).partition(",")[0]
        title = f"{dataset} ({sha[:8]}), {split} split: {kind}"
        alone = []
        for _, own in part.groupby("board", sort=True):
            if len(own) == 1:
                alone += own.to_dict("records")
                continue
            yield _ranked(own.to_dict("records"), title)
        if alone:
            alone.sort(key=lambda line: str(line["model"]))
            many = len(part) > 1
            said = "No other network met the same; these have no place." if many else ""
            yield {"title": title, "said": said, "lines": alone, "ranked": False}


def _ranked(found: Sequence[Mapping[Any, Any]], title: str) -> dict[str, Any]:
    """Networks with their places by what all of them met."""
    first = found[0]
    count = int(first["groups_shared"])
    groups = f"{count} group{'s' * (count != 1)}"
    at = f" at {words.listed(first['eps_shared'])}" if first["eps_shared"] else ""
    by = f"{first['attacks_shared']}{at}, " if first["of"] != "clean" else ""
    said = f"Places are by what all {len(found)} met: {by}{words.cases(int(first['cases_shared']))}"
    return {"title": title, "said": f"{said} in {groups}.", "lines": found, "ranked": True}
