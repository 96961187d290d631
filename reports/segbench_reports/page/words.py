"""The answer in words: who holds most, by how much, how sure; and numbers as a page writes them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from segbench.api import Tables
from segbench_reports.page.counted import Board, boards, counted, half
from segbench_reports.page.svg import Value

if TYPE_CHECKING:
    from pandas import DataFrame

NORMS = {"linf": "L∞", "l2": "L2", "l1": "L1"}
KINDS = {
    "linf": "L∞ budget, eps in fractions of the [0, 1] pixel range",
    "l2": "L2 budget, eps in fractions of the [0, 1] pixel range",
    "l1": "L1 budget, eps in fractions of the [0, 1] pixel range",
    "severity": "severity of a corruption, 1 to 5",
    "area": "area of the patch, as a fraction of the image",
    "none": "clean images",
}
_AGAINST = {
    **{kind: f"{norm} attacks" for kind, norm in NORMS.items()}, "severity": "corruptions"
}  # fmt: skip
LEVEL = 0.05
DIGITS = 9  # of a mean: what differs beyond is in the order of adding
_NOTHING = 0.005  # of a mean Jaccard
_NAMED = 4  # networks that a sentence lists


def number(value: float, decimals: int = 3, sign: str = "") -> str:
    """A number, a dash where there is none."""
    return "–" if math.isnan(value) else f"{value:{sign}.{decimals}f}"


def interval(mean: float, low: float, high: float, *, sign: str = "") -> str:
    """``0.887 [0.879, 0.895]``, without brackets where there is no interval."""
    if math.isnan(low):
        return number(mean, sign=sign)
    return f"{mean:{sign}.3f} [{low:{sign}.3f}, {high:{sign}.3f}]"


def budget(value: float, kind: str) -> str:
    """A budget that lies between those that were asked for."""
    if math.isnan(value):
        return "–"
    if math.isinf(value):
        return "never"
    return f"{_short(255 * value, 2)}/255" if kind == "linf" else _short(value, 3)


def _short(value: float, digits: int) -> str:
    """With so many digits, and with all that stand before the point."""
    return f"{value:.0f}" if value >= 10**digits - 0.5 else f"{value:.{digits}g}"


def answer(tables: Tables, dataset: str, split: str) -> Iterator[str]:
    """Sentences, the most telling first, of one data set."""
    lines = of_data(tables.headlines, dataset, split)
    for kind in (*NORMS, "severity"):
        own = lines[lines["of"] == kind].sort_values("value", ascending=False, kind="stable")
        if len(own) == 1:
            curves = counted(tables, dataset, split, kind)
            yield _best(own.to_dict("records"), kind, curves, _AGAINST[kind])
        elif len(own):
            yield from _ranked(tables, own.to_dict("records"), kind, dataset, split)
    yield from _proved(tables, dataset, split)
    yield from _clean(tables, lines[lines["of"] == "clean"], dataset, split)


def _clean(tables: Tables, own: DataFrame, dataset: str, split: str) -> Iterator[str]:
    """The scores of clean images, on the cases that all have."""
    if own.empty:
        return
    lines: Sequence[Mapping[Any, Any]] = own.sort_values(["model"]).to_dict("records")
    on = ""
    found = [*boards(tables, dataset, split, "clean")]
    if len(found) == 1 and len(found[0].lines) == len(own):
        lines = found[0].lines
        on = "" if found[0].alike else f", on the {cases(lines[0]['cases'])} that all have"
    elif len(own) > 1:
        on = ", on unlike cases"
    named = [
        f"{line['model']} {interval(line['value'], line['low'], line['high'])}"
        + (f" (marked {line['marks']})" if line["marks"] else "")
        for line in lines[:_NAMED]
    ]
    rest = len(lines) - _NAMED
    yield f"Clean{on}: {'; '.join(named)}{f'; and {rest} more' if rest > 0 else ''}."


def _proved(tables: Tables, dataset: str, split: str) -> Iterator[str]:
    """The largest radius at which half of a smoothed network's clean score is certified."""
    lines = of_data(tables.certificates, dataset, split)
    if lines.empty:
        return
    lines = lines[lines["class_name"] == "all"]
    half = lines[(lines["jaccard"] >= lines["smoothed_jaccard"] / 2) & (lines["jaccard"] > 0)]
    if half.empty:
        yield "Certified: of no smoothed network here half of its clean score, at any radius."
        return
    best = half.sort_values(["radius", "jaccard"], kind="stable").to_dict("records")[-1]
    value = interval(best["jaccard"], best["jaccard_low"], best["jaccard_high"])
    clean = number(best["smoothed_jaccard"])
    yield (
        f"Certified: {best['model']}, smoothed ({best['certificate']}), keeps {value} or more of "
        f"its {clean} under every change up to an L2 norm of {best['radius']:.3g}. That is "
        "another network than the one that was attacked."
    )


def _ranked(tables: Tables, own: list[Any], kind: str, dataset: str, split: str) -> Iterator[str]:
    """Who keeps most, for each board; and the networks that cannot be ranked."""
    seen = set[str]()
    for board in boards(tables, dataset, split, kind):
        what = _AGAINST[kind]
        if not board.alike or len(board.lines) < len(own):
            many = "both" if len(board.lines) == 2 else f"all {len(board.lines)}"
            what = f"the {what} that {many} of them met ({board.lines[0]['attacks']})"
        parts = [_best(board.lines, kind, board.curves, what)]
        if board.lines[0]["value"] >= _NOTHING:
            tied = len(_first(board.lines)) > 1
            parts += [_TIED] if tied else _sure(tables, board, kind, dataset, split)
        if not board.alike:
            parts.append("What only some of them met is left out of this, see below.")
        yield " ".join(parts)
        seen |= set(board.known)
    alone = [line for line in own if line["model"] not in seen]
    if alone:
        alone.sort(key=lambda line: str(line["model"]))
        which = f"the {len(own)} networks cannot be ranked: no two of them"
        if len(alone) < len(own):
            names = few([str(line["model"]) for line in alone])
            which = f"{names} cannot be ranked with another network: no two"
        rest = len(alone) - _NAMED
        known = [f"{line['model']} {_known(line, kind)}" for line in alone[:_NAMED]]
        yield (
            f"Under {_AGAINST[kind]} {which} met the same attack at the same budget on the same "
            f"case. The lowest known of each, which is no comparison: {'; '.join(known)}"
            f"{f'; and {rest} more' if rest > 0 else ''}."
        )


def _known(line: Mapping[Any, Any], kind: str) -> str:
    value = interval(line["value"], line["low"], line["high"])
    at = f" at {listed(line['eps'])}" if line["eps"] else ""
    marked = f", marked {line['marks']}" if line["marks"] else ""
    return f"{value} (by {line['attacks']}{at}, {cases(line['cases'])}{marked})"


def listed(eps: str) -> str:
    """The budgets of a number, as a sentence has them: ``1/255, 2/255`` or ``severity 1, 2``."""
    severe = "severity " if eps.startswith("severity ") else ""
    return severe + eps.removeprefix(severe).replace(" ", ", ")


def cases(number: int) -> str:
    """So many cases."""
    return "1 case" if number == 1 else f"{number} cases"


def _best(
    own: Sequence[Mapping[Any, Any]], kind: str, curves: Mapping[str, Sequence[Value]], what: str
) -> str:
    best, first = own[0], _first(own)
    value = interval(best["value"], best["low"], best["high"])
    if best["value"] < _NOTHING:
        whom = "any network here" if what == _AGAINST[kind] else "any of them"
        return f"Under {what} nothing is left of {whom} ({best['attack']}): {value}."
    holds = f"keeps most of {len(own)} networks" if len(own) > 1 else "keeps this"
    if len(first) > 1:
        holds = "keep the same" + f", most of {len(own)} networks" * (len(first) < len(own))
    said = f"Under {what} {_and(first)} {holds}: "
    if kind == "severity":
        said += f"the lowest Jaccard of a case ({best['attack']}) is {value} in the mean."
    else:
        halved = half(curves.get(str(best["model"]), []))
        whose = "its" if len(first) == 1 else "each one's"
        said += f"the mean height of {whose} curve ({best['attack']}) is {value}"
        if len(first) == 1 and not math.isnan(halved):
            largest = str(best["eps"]).rpartition(" ")[2]
            where = f"no eps up to {largest}" if math.isinf(halved) else budget(halved, kind)
            said += f", and half of its clean score is lost at {where}"
        said += "."
    for line in own[: len(first)]:
        if line["marks"]:
            it = "It" if len(first) == 1 else line["model"]
            said += (
                f" {it} is marked {line['marks']} and not to be trusted as it stands, see below."
            )
    return said


_TIED = "None of them is ahead, so the first place is not settled."


def _first(lines: Sequence[Mapping[Any, Any]]) -> list[str]:
    """The networks, of lines that begin with the highest value, that have it."""
    best = round(lines[0]["value"], DIGITS)
    return [str(line["model"]) for line in lines if round(line["value"], DIGITS) == best]


def _and(names: Sequence[str]) -> str:
    return few(names) if len(names) != 2 else f"{names[0]} and {names[1]}"


def _sure(tables: Tables, board: Board, kind: str, dataset: str, split: str) -> Iterator[str]:
    """How sure the first place is."""
    ranks, model = of_data(tables.ranks, dataset, split), board.lines[0]["model"]
    if len(ranks):
        own = (ranks["of"] == kind) & (ranks["board"] == board.number)
        ranks = ranks[own & (ranks["model"] == model)]
    if ranks.empty:
        yield "All their common cases are of one group, so nothing tells how sure that is."
    for line in ranks.to_dict("records"):
        groups = f"resamples of the {line['groups']} groups"
        under = "" if board.alike else ", under what all of them met"
        order = "so its place is not settled"
        if not board.one_code:
            order = "but one attack was of unlike code, so its place is not settled"
        elif line["settled"]:
            order = f"so its place is sure on these cases{under}"
        elif line["first"] >= 1 - LEVEL:
            order = "but others keep more of what is known, so its place is not settled"
        yield f"It comes first in {line['first']:.0%} of {groups}, {order}."
        if board.one_code and not line["settled"] and line["first"] >= 1 - LEVEL:
            first = max(board.known.values(), key=lambda one: one["value"])
            known = f"{model} is {_known(board.known[model], kind)}"
            yield f"The lowest known of {known}, of {first['model']} {_known(first, kind)}."


def few(names: Sequence[str]) -> str:
    """The first of many names, and how many more there are."""
    rest = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {rest} more" if rest > 0 else "")


def of_data(frame: DataFrame, dataset: str, split: str) -> DataFrame:
    """The rows of one data set; all of an empty frame."""
    if frame.empty:
        return frame
    return frame[(frame["dataset"] == dataset) & (frame["split"] == split)]
