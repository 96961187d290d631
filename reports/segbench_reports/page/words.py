"""The answer in words: who holds most, by how much, how sure; and numbers as a page writes them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from segbench.api import Tables
from segbench_reports.page.counted import counted, half

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
LEVEL = 0.05
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
    return f"{255 * value:.2g}/255" if kind == "linf" else f"{value:.3g}"


def answer(tables: Tables, dataset: str, split: str) -> Iterator[str]:
    """Sentences, the most telling first, of one data set."""
    lines = of_data(tables.headlines, dataset, split)
    for kind in (*NORMS, "severity"):
        own = lines[lines["of"] == kind].sort_values("value", ascending=False, kind="stable")
        if len(own):
            parts = [_best(tables, own.to_dict("records"), kind, dataset, split)]
            if own.iloc[0]["value"] >= _NOTHING:
                parts += _sure(tables, str(own.iloc[0]["model"]), kind, dataset, split)
            yield " ".join(parts)
    yield from _proved(tables, dataset, split)
    clean = lines[lines["of"] == "clean"].sort_values("value", ascending=False, kind="stable")
    if len(clean):
        named = [
            f"{line['model']} {interval(line['value'], line['low'], line['high'])}"
            + (f" (marked {line['marks']})" if line["marks"] else "")
            for line in clean.head(_NAMED).to_dict("records")
        ]
        rest = len(clean) - _NAMED
        yield f"Clean: {'; '.join(named)}{f'; and {rest} more' if rest > 0 else ''}."


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


def _best(tables: Tables, own: list[Any], kind: str, dataset: str, split: str) -> str:
    best = own[0]
    value = interval(best["value"], best["low"], best["high"])
    what = "corruptions" if kind == "severity" else f"{NORMS[kind]} attacks"
    if best["value"] < _NOTHING:
        return f"Under {what} nothing is left of any network here ({best['attack']}): {value}."
    holds = f"keeps most of {len(own)} networks" if len(own) > 1 else "keeps this"
    said = f"Under {what} {best['model']} {holds}: "
    if kind == "severity":
        said += f"the lowest Jaccard of a case ({best['attack']}) is {value} in the mean."
    else:
        halved = half(counted(tables, dataset, split, kind).get(str(best["model"]), []))
        said += f"the mean height of its curve ({best['attack']}) is {value}"
        if not math.isnan(halved):
            where = "no eps that was tried" if math.isinf(halved) else budget(halved, kind)
            said += f", and half of its clean score is lost at {where}"
        said += "."
    if best["marks"]:
        said += f" It is marked {best['marks']} and not to be trusted as it stands, see below."
    return said


def _sure(tables: Tables, model: str, kind: str, dataset: str, split: str) -> Iterator[str]:
    """How sure the first place is."""
    ranks = of_data(tables.ranks, dataset, split)
    if ranks.empty:
        return
    for line in ranks[(ranks["of"] == kind) & (ranks["model"] == model)].to_dict("records"):
        settled = line["first"] >= 1 - LEVEL
        order = "so its place is sure on these cases" if settled else "so its place is not settled"
        groups = f"resamples of the {line['groups']} groups"
        yield f"It comes first in {line['first']:.0%} of {groups}, {order}."


def of_data(frame: DataFrame, dataset: str, split: str) -> DataFrame:
    """The rows of one data set; all of an empty frame."""
    if frame.empty:
        return frame
    return frame[(frame["dataset"] == dataset) & (frame["split"] == split)]
