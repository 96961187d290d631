"""Which curves count: of each network the lowest known, and of several what all of them met.

Attacks that may change only a part of the image do not count: they are another threat.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, count, pairwise
from typing import TYPE_CHECKING, Any

from segbench.api import Tables
from segbench.plugins.where import where_of
from segbench_reports.page.svg import Value

if TYPE_CHECKING:
    from pandas import DataFrame

_NORMS = {"linf": "L∞", "l2": "L2", "l1": "L1"}
_SAME = 5e-4  # of a mean: less is rounding


def counted(tables: Tables, dataset: str, split: str, kind: str) -> dict[str, list[Value]]:
    """Network -> the lowest known of it at every budget, the clean point first.

    Those that keep most come first.
    """
    return _curves(tables, dataset, split, kind, shared=False)


def _curves(
    tables: Tables, dataset: str, split: str, kind: str, *, shared: bool
) -> dict[str, list[Value]]:
    lines = tables.compared if shared else tables.headlines
    own = _of(lines, dataset, split, kind).sort_values("value", ascending=False, kind="stable")
    points = _of(tables.standings, dataset, split, kind)
    found: dict[str, list[Value]] = {str(model): [] for model in own["model"]}
    for point in points[points["shared"] == shared].to_dict("records"):
        found[str(point["model"])].append(_value(point))
    return found


def _of(frame: DataFrame, dataset: str, split: str, kind: str) -> DataFrame:
    there = (frame["dataset"] == dataset) & (frame["split"] == split) & (frame["of"] == kind)
    return frame[there]


@dataclass(frozen=True)
class Board:
    """Networks that met something alike, of one data set and kind of number.

    Attributes:
        number: by which the tables know it.
        lines: of ``Tables.compared``, the network that keeps most first.
        known: network -> its line of ``Tables.headlines``.
        alike: whether all met the same and nothing else, so that the two say the same.
        one_code: whether no attack that all met is of unlike code.
        curves: network -> its points by what all met; the clean one first.
    """

    number: int
    lines: Sequence[Mapping[Any, Any]]
    known: Mapping[str, Mapping[Any, Any]]
    alike: bool
    one_code: bool
    curves: Mapping[str, Sequence[Value]]


def boards(tables: Tables, dataset: str, split: str, kind: str) -> Iterator[Board]:
    """Those of two networks or more."""
    whole = _curves(tables, dataset, split, kind, shared=True)
    known = _of(tables.headlines, dataset, split, kind)
    shared = _of(tables.compared, dataset, split, kind)
    for number, part in shared.groupby("board", sort=True):
        ordered = part.sort_values("value", ascending=False, kind="stable")
        lines = ordered.to_dict("records")
        of_board = known[known["board"] == number].to_dict("records")
        own = {str(line["model"]): line for line in of_board}
        alike, one_code = bool(lines[0]["alike"]), bool(lines[0]["one_code"])
        curves = {str(line["model"]): whole[str(line["model"])] for line in lines}
        yield Board(int(str(number)), lines, own, alike, one_code, curves)


@dataclass(frozen=True)
class Frame:
    """Curves that may stand in one frame.

    Attributes:
        title: of the frame.
        curves: by their names.
        faint: those of them that may not be compared with the others.
        under: the title in few words, where some network met other attacks too.
    """

    title: str
    curves: Mapping[str, Sequence[Value]]
    faint: Collection[str] = ()
    under: str = ""


def side_by_side(tables: Tables, dataset: str, split: str, kind: str, most: int) -> Iterator[Frame]:
    """A frame for each board, or of the only network there is: like beside like.

    Where a network was attacked by more, the lowest known of it stands there too, faintly.
    """
    known = counted(tables, dataset, split, kind)
    norm = _NORMS[kind]
    if len(known) == 1:
        title = f"What is left of each network under the worst {norm} attack found"
        said = str(_of(tables.headlines, dataset, split, kind)["marks"].item())
        yield Frame(title, {_marked(name, said): own for name, own in known.items()})
    for board in boards(tables, dataset, split, kind):
        under = f"the worst {norm} attack found"
        if not board.alike:
            many = "both" if len(board.lines) == 2 else f"all {len(board.lines)}"
            under = f"the {norm} attacks that {many} of them met"
        title = f"What is left of each network under {under}"
        shown = [*board.curves.items()][:most]
        if len(shown) < len(board.curves):
            title += f" (the first {len(shown)} of {len(board.curves)})"
        marks = {str(line["model"]): str(line["marks"]) for line in board.lines}
        curves = {_marked(name, marks[name]): own for name, own in shown}
        lower = {
            _marked(f"{name}, lowest known", board.known[name]["marks"]): known[name]
            for name, own in shown
            if _is_lower(known[name], own)
        }
        if lower:
            title += "; faint: the lowest known of a network that was attacked otherwise too"
        short = "" if board.alike else ", attacks that all met"
        yield Frame(title, {**curves, **lower}, set(lower), short)


def _is_lower(known: Sequence[Value], shared: Sequence[Value]) -> bool:
    at = {value.budget: value.mean for value in shared}
    return any(abs(at[value.budget] - value.mean) > _SAME for value in known if value.budget in at)


def _marked(name: str, marks: str) -> str:
    """The name of a curve where it stands among others, with what speaks against it."""
    return f"{name} (marked {marks})" if marks else name


def proofs(tables: Tables, dataset: str, split: str) -> dict[str, dict[str, list[Value]]]:
    """Network -> what is certified of its smoothed forms, and what L2 attacks leave of itself.

    Of each by the name of its curve. Two networks stand in one frame: a curve from below may lie
    above the one from above.
    """
    whole, found = tables.certificates, dict[str, dict[str, list[Value]]]()
    if whole.empty:
        return found
    whole = whole[(whole["dataset"] == dataset) & (whole["split"] == split)]
    attacked = counted(tables, dataset, split, "l2")
    of_points = whole[whole["class_name"] == "all"].sort_values(["model", "certificate", "radius"])
    for line in of_points.to_dict("records"):
        curves = found.setdefault(str(line["model"]), {})
        name = f"certified: {line['certificate']} (lower bound, the smoothed network)"
        numbers = (float(line[f"jaccard{end}"]) for end in ("", "_low", "_high"))
        value = Value(float(line["radius"]), f"{line['radius']:.3g}", *numbers)
        curves.setdefault(name, []).append(value)
    for model in found.keys() & attacked.keys():
        found[model]["attacked (upper bound, the network itself)"] = attacked[model]
    return found


def of_network(tables: Tables, dataset: str, split: str, kind: str, model: str) -> Attacked:
    """A network's curves of one kind of budget, by their attacks."""
    own = tables.curves
    own = own[
        (own["metric"] == "jaccard")
        & (own["dataset"] == dataset)
        & (own["split"] == split)
        & (own["budget_kind"] == kind)
        & (own["model"] == model)
    ]
    curves: dict[str, list[Value]] = {}
    strong, lone, faint = set[str](), set[str](), set[str]()
    for (attack, params), part in own.groupby(["attack", "attack_params"], sort=True):
        confined = bool(where_of(str(params)))
        name = _apart(f"{attack} (confined: another threat)" if confined else str(attack), curves)
        part = part.sort_values("budget", kind="stable")
        curves[name] = [_value(point) for point in part.to_dict("records")]
        if confined:
            faint.add(name)
        elif str(attack).startswith("worst of ") or str(attack).endswith(", closed"):
            strong.add(name)
        else:
            lone.add(name)
    return Attacked(curves, strong or (lone if len(lone) == 1 else set()), faint)


@dataclass(frozen=True)
class Attacked:
    """The curves of one network and kind of budget.

    Attributes:
        curves: each of one attack with its parameters, by the name that it has in a frame.
        strong: those that say what is left of the network: the worst, or the only one.
        faint: those of attacks that may change only a part of the image: another threat.
    """

    curves: Mapping[str, Sequence[Value]]
    strong: Collection[str]
    faint: Collection[str]


def _apart(name: str, others: Collection[str]) -> str:
    """A name that none of the others has."""
    numbers = (f"{name} ({number})" for number in count(2))
    return next(own for own in chain([name], numbers) if own not in others)


def _value(point: Mapping[Any, Any]) -> Value:
    name = "clean" if point["eps"] == "0" else str(point["eps"])
    numbers = (float(point[end]) for end in ("mean", "low", "high"))
    return Value(float(point["budget"]), name, *numbers)


def half(values: Sequence[Value]) -> float:
    """The budget at which the clean score is halved, on the line between two points.

    Infinite where it never is; NaN without a clean point.
    """
    if not values or values[0].budget != 0:
        return math.nan
    wanted = values[0].mean / 2
    for before, after in pairwise(values):
        if after.mean <= wanted < before.mean:
            part = (before.mean - wanted) / (before.mean - after.mean)
            return before.budget + part * (after.budget - before.budget)
    return math.inf
