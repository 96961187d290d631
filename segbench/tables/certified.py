"""Certified scores in tables: lower bounds of smoothed networks, beside what attacks have left.

They are of another network than its attacked and clean scores, and no attack: no worst, no sign of
a stuck attack and no headline is made of them, and their curves have no clean point of the network
that is smoothed.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from pandas import DataFrame, Series

from segbench.metrics.certificates import chance_of
from segbench.plugins.where import where_of
from segbench.store.rowfile import CERTIFIED
from segbench.tables.texts import by_key
from segbench.tables.worst import rounding

KIND = "certified"
MEASURED = ("jaccard", *CERTIFIED)
ALL = "all"
"""Of a line that is of the mean over classes, as other scores are."""

_SETTINGS = ("sigma", "n", "n0", "alpha", "correction", "hierarchy")
_POINT = ["attack", "attack_params", "budget"]
_SPENT = ("forwards", "seconds")
_ROUNDING = 1e-6  # of a radius: an attack may be told a rounded one
COLUMNS = (
    "certificate", "class_name", *_SETTINGS, "tau", "radius",
    *(f"{name}{end}" for name in MEASURED for end in ("", "_low", "_high")),
    "attacked", "attacked_cases", "cases", "groups", "seeds", *_SPENT, "marks",
)  # fmt: skip
"""Those of a table of certificates, after the columns that name a model and its data."""


def is_certified(frame: DataFrame) -> Series[bool]:
    """Which rows are of certificates."""
    return frame["budget_kind"] == KIND


def tabulate(
    rows: DataFrame, cases: DataFrame, curves: DataFrame, subject: Sequence[str]
) -> DataFrame:
    """One line per certificate and radius of the mean over classes, and one per class.

    ``subject`` then ``COLUMNS``: the certified Jaccard as ``jaccard``, ``smoothed_jaccard`` on the
    clean image, the shares that were ``abstained`` from, ``abstained_inside`` the class, and
    certified as a ``coarse`` class alone, with intervals of the first kind of line; ``attacked`` is
    the mean of the lowest Jaccard that L2 attacks on the whole image have left of the network that
    is smoothed, at this radius or a smaller one, over those of the cases that were attacked. Of
    several ``seeds`` scores are means, per case first.

    Args:
        rows: one row per case and class, as they are named in tables.
        cases: one row per case.
        curves: one row per curve, budget and metric.
        subject: the columns that name a model and its data.
    """
    names = [*subject, *_POINT]
    lines = list[dict[str, Any]]()
    own_rows, own_cases = rows[is_certified(rows)], cases[is_certified(cases)]
    measured = curves[is_certified(curves) & curves["metric"].isin(MEASURED)]
    if own_rows.empty and measured.empty:
        return _table(lines, subject)
    by_point = dict(iter(own_cases.groupby(names, sort=True, observed=True)))
    for key, part in measured.groupby(names, sort=True, observed=True):
        facts = _facts(names, key)
        line = {**facts, "class_name": ALL, "marks": part["marks"].iloc[0]}
        for point in part.to_dict("records"):
            name = point["metric"]
            line |= {
                name: point["mean"],
                f"{name}_low": point["low"],
                f"{name}_high": point["high"],
            }
            if name == "jaccard":
                line |= {"cases": point["cases"], "groups": point["groups"]}
        line |= {name: float(by_point[key][name].sum()) for name in _SPENT}
        line["seeds"] = float(by_point[key]["seeds"].max())
        lines.append(line | _attacked(cases, by_point[key], subject, facts["radius"]))
    keys = [*names, "class_name"]
    grouped = own_rows.groupby(keys, sort=True, observed=True)
    for key, part in grouped:
        present = part[part["jaccard"].notna()].groupby("case_id", observed=True)
        own = present[[*MEASURED]].mean()  # over seeds, per case first
        line = {**_facts(names, key[:-1]), "class_name": key[-1], "cases": len(own)}
        lines.append({**line, **{name: float(own[name].mean()) for name in MEASURED}})
    return _table(lines, subject)


def _table(lines: Sequence[dict[str, Any]], subject: Sequence[str]) -> DataFrame:
    found = DataFrame(lines, columns=[*subject, *COLUMNS])
    return found.astype({"attacked_cases": "float64"}).fillna({"marks": ""})


def _facts(names: Sequence[str], key: Any) -> dict[str, Any]:
    """What a line says of its certificate."""
    said = dict(zip(names, key, strict=True))
    settings = json.loads(said.pop("attack_params"))
    radius = float(said.pop("budget"))
    return {
        **said,
        "certificate": said.pop("attack"),
        **{name: settings[name] for name in _SETTINGS},
        "tau": chance_of(radius, settings["sigma"]),
        "radius": radius,
    }


def _attacked(
    cases: DataFrame, own: DataFrame, subject: Sequence[str], radius: float
) -> dict[str, float]:
    """What L2 attacks within the radius have left of the certified cases.

    Images that were rounded to their file's levels may lie outside the ball and are left out.
    """
    near = cases[(cases["budget_kind"] == "l2") & (cases["budget"] <= radius * (1 + _ROUNDING))]
    first = own.iloc[0]
    for name in subject:
        near = near[near[name] == first[name]]
    near = near[near["case_id"].isin(own["case_id"])]
    near = near[by_key(near, ["attack_params"], lambda own: where_of(own) + rounding(own)) == ""]
    lowest = near.groupby("case_id", observed=True)["jaccard"].min().dropna()
    return {
        "attacked": float(lowest.mean()) if len(lowest) else np.nan,
        "attacked_cases": float(len(lowest)),
    }


def describe(certificates: DataFrame) -> Iterator[str]:
    """How to read certified scores, where there are any."""
    if certificates.empty:
        return
    whole = certificates[certificates["class_name"] == ALL]
    alphas = " or ".join(f"{alpha:g}" for alpha in sorted(set(whole["alpha"])))
    yield (
        "A certified score is a lower bound, and of the smoothed network, which is another than "
        "the network that was attacked and whose clean score is shown: it answers, pixel by pixel, "
        "what that network answers most often under normal noise of standard deviation sigma. With "
        f"probability 1 - alpha over the draws (alpha {alphas}; of every case and every line by "
        "itself, and of all N cases of a mean at once with 1 - N alpha at least) all certified "
        "pixels of a case keep their class under every change of its image whose L2 norm, in "
        "[0, 1] units, is at most the radius. What is not certified counts as "
        "answered as wrongly as can be. The smoothed score is that on the clean image, where a "
        "pixel that was abstained from is of no class."
    )
    if (whole["attacked_cases"] > 0).any():
        yield (
            "Beside certificates, attacked is the lowest that L2 attacks within the radius have "
            "left of the network itself, not of the smoothed one: it may lie below what is "
            "certified of the other."
        )
    if (whole["hierarchy"] != "").any():
        yield (
            "With a hierarchy the smoothed network decides from coarse to fine, and a pixel that "
            "is certified as a coarser class alone may be answered with any class within it."
        )
    keys = ["model", "dataset", "split"]
    several = whole.groupby(keys)["seeds"].sum()
    if (whole["seeds"] > 1).any():
        yield (
            "A certificate of several seeds is several: its line is the mean of their bounds, per "
            "case first, and holds with the sum of their alphas "
            f"(here of up to {whole['seeds'].max():.0f} seeds)."
        )
    if len(several) and several.max() > 1:
        yield (
            "Each certificate holds by itself; of several of one network, all at once or the one "
            "that came out best, with the sum of their alphas (here of up to "
            f"{several.max():.0f} certificates)."
        )
