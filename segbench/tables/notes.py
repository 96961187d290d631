"""The sentences a reader must see beside the numbers: what they mean, where not to trust them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast

import numpy as np
from pandas import DataFrame

from segbench.metrics.numbering import first_of, number_of
from segbench.metrics.stats import (
    CONFIDENCE,
    FEW,
    FEW_GROUPS,
    TELLING_GROUPS,
    THIN_TAIL,
    UNSEEN_TAIL,
)
from segbench.plugins.naming import CLEAN, point_names
from segbench.plugins.where import where_of
from segbench.tables.boundaries import Units, describe_boundaries
from segbench.tables.certified import is_certified
from segbench.tables.lesions import describe_lesions
from segbench.tables.shown import Shown
from segbench.tables.texts import distinct, few

_METHOD = (
    "A case's score is the mean over the classes its label has; a point is the mean over cases, "
    f"with its {CONFIDENCE * 100:g} % interval over groups such as patients: t of the jackknife's "
    "standard error, on the logit scale (segbench coverage prints how often it holds the truth).",
    "The relative drop is (clean - adversarial) / clean of the mean scores on the same cases, at "
    "the curve's largest eps.",
    "AUC is the area under mean Jaccard from the clean point to the curve's largest eps (or "
    "severity, with clean at 0), on a linear axis, divided by it: the mean height of the curve. "
    "The worst decile is the mean of the lowest tenth of the cases' scores, and the half-eps where "
    "the mean is half of the clean one, on the line between two points.",
)

_DOUBTS = {
    FEW_GROUPS: f"rest on fewer than {FEW} groups' worth of cases (marked {FEW_GROUPS}): they may "
    "cover less than they claim.",
    THIN_TAIL: f"owe their width to very few patients (marked {THIN_TAIL}): how often such cases "
    "come up is hardly known.",
}
_COMPARED = [
    "dataset", "split", "model", "attack", "budget", "case_id", "precision", "backwards",
]  # fmt: skip
_UNSEEN = 60  # groups, of which a failure of one patient in twenty is missing with a chance of 5 %


def collect_warnings(cases: DataFrame, curves: DataFrame, summary: DataFrame) -> list[str]:
    """What speaks against comparing the numbers, or against their intervals.

    Args:
        cases: one row per case.
        curves: one row per curve, budget and metric.
        summary: one row per curve.
    """
    needed, notes = cases[_COMPARED], list[str]()
    for (dataset, split), part in summary.groupby(["dataset", "split"], sort=True):
        where = f"{dataset} {split}"
        own = needed[(needed["dataset"] == dataset) & (needed["split"] == split)]
        points = curves[(curves["dataset"] == dataset) & (curves["split"] == split)]
        notes += [*_uneven(where, own), *_unmatched(where, own), *_spans(where, part)]
        notes += [*_precisions(where, own), *_ungrouped(where, points), *_doubtful(where, points)]
    return notes


def collect_notes(
    seeds: Mapping[tuple[str, str], Sequence[int]],
    images: Sequence[str] = (),
    overlaps: Sequence[float] = (),
    units: Units | None = None,
) -> list[str]:
    """How to read the tables.

    Args:
        seeds: (model, attack) -> its attack seeds, where there are several.
        images: what some of them are, see ``describe_confined`` and ``describe_rounded``.
        overlaps: at which lesions were counted.
        units: of distances between boundaries, see ``boundaries.units_of``.
    """
    notes = [
        f"{model} under {attack} is the mean over attack seeds {_list(values)}, per case first."
        for (model, attack), values in seeds.items()
    ]
    measured = [*describe_boundaries(units or {}), *describe_lesions(overlaps)]
    return [*notes, *images, *_METHOD, *measured]


def describe_left_out(shown: Shown, retrained: Sequence[str], *, left_out: bool) -> Iterator[str]:
    """What the tables do not show, and how to see it.

    Args:
        shown: the rows that were chosen.
        retrained: models whose checkpoint has other weights by now.
        left_out: whether those are not shown at all.
    """
    for model in retrained:
        if left_out:
            yield (
                f"{model} has been trained again and has no scores since; run `segbench attack -m "
                f"{model}`."
            )
        else:
            yield (
                f"{model} has been trained again since these scores were computed; they are of its "
                f"former weights, and `segbench attack -m {model}` computes those of the present."
            )
    for model, hidden in shown.left_out.items():
        yield (
            f"Left out: {_count(hidden.rows, 'row')} of other networks, cases or versions of "
            f"attacks that bore the name {model} before; `segbench report --all-weights` shows "
            "all networks."
        )
    for one in shown.missing:
        yield (
            f"{one.run_id} ({one.state}) asked for {_count(one.scores, 'score')} of {one.model} "
            "that are not there; of an attack that was edited, those of its former version are "
            "shown. The same command computes what is missing."
        )
    if shown.unasked:
        yield f"Left out: {_count(shown.unasked, 'row')} that no run's record asks for."


def describe_units(shown: Shown) -> Iterator[str]:
    """What 1/255 of [0, 1] is in the numbers of the files, once per data set."""
    there = set(distinct(shown.rows, ["dataset", "split"]))
    for (dataset, split), (least, greatest) in sorted(shown.spans.items()):
        if (dataset, split) in there:
            ends = dict.fromkeys(f"{span / 255:.4g}" for span in (least, greatest))
            yield f"On {dataset} {split}, 1/255 is {' to '.join(ends)} in the numbers of its files."


def _uneven(where: str, cases: DataFrame) -> Iterator[str]:
    """Where two points rest on different cases, be they as many."""
    attacked = cases[cases["attack"] != CLEAN]
    number = np.asarray(attacked["case_id"].factorize()[0])
    keys = ["model", "attack", "budget"]
    points: dict[tuple[str, float], Any] = {}
    for key, places in attacked.groupby(keys, sort=True, observed=True).indices.items():
        model, attack, budget = cast(tuple[str, str, float], key)
        points[f"{model} under {attack}", budget] = number[places]
    if len({np.unique(point).tobytes() for point in points.values()}) > 1:
        counts: dict[str, set[int]] = {}
        for (name, _), point in points.items():
            counts.setdefault(name, set()).add(len(np.unique(point)))
        parts = [f"{name} on {_span(numbers)}" for name, numbers in counts.items()]
        yield f"{where}: points rest on different cases: {'; '.join(parts)}."


def _unmatched(where: str, cases: DataFrame) -> Iterator[str]:
    """Where attacked cases have no clean score to fall from."""
    number = number_of(cases, ["model", "case_id"])
    clean = (cases["attack"] == CLEAN).to_numpy()
    lacking = np.setdiff1d(number[~clean], number[clean])
    if not len(lacking):
        return
    models = cases["model"].iloc[first_of(number)[lacking]].astype("str")
    for model, missing in sorted(Counter(models).items()):
        yield (
            f"{where}: {model} lacks the clean score of {_count(missing, 'attacked case')}"
            "; relative drops are over the others."
        )


def _spans(where: str, summary: DataFrame) -> Iterator[str]:
    """Where areas are not comparable because the curves have other eps values."""
    for kind, part in summary[~is_certified(summary)].groupby("budget_kind", sort=True):
        spans = {tuple(line) for line in part[point_names(part)].notna().to_numpy().tolist()}
        if len(spans) > 1:
            yield f"{where}: {kind} curves have different eps values, so their AUCs differ by that."


def _precisions(where: str, cases: DataFrame) -> Iterator[str]:
    """Clean scores, and attacks without gradients, are always fp32: the others are compared."""
    no_gradient = (cases["precision"] == "fp32") & (cases["backwards"] == 0)
    attacked = cases[(cases["budget"] > 0) & ~no_gradient]
    if attacked["precision"].nunique() > 1:
        names = ["model", "attack", "precision"]
        own = attacked[[*names, "case_id"]].drop_duplicates()
        whole = own[["model", "attack", "case_id"]].drop_duplicates()
        cases_of = Counter(zip(whole["model"], whole["attack"], strict=True))
        counts = Counter(own[names].itertuples(index=False, name=None))
        found: dict[str, set[str]] = {}
        for (model, attack, precision), count in counts.items():
            total = cases_of[model, attack]
            share = "" if count == total else f" ({count} of {total} cases)"
            found.setdefault(precision, set()).add(f"{model} under {attack}{share}")
        usual, *others = sorted(found, key=lambda precision: (-len(found[precision]), precision))
        parts = [f"{key} for {few(sorted(found[key]))}" for key in sorted(others)]
        yield (
            f"{where}: attack gradients are of mixed precision: {'; '.join(parts)}; {usual} for "
            "the others."
        )


def _ungrouped(where: str, curves: DataFrame) -> Iterator[str]:
    if (curves["groups"] < 2).any():
        yield f"{where}: some points rest on a single group, so they have no interval."


def _doubtful(where: str, curves: DataFrame) -> Iterator[str]:
    """Intervals that may cover less than they claim, and failures that no sample of these shows."""
    points = curves[curves["metric"] == "jaccard"]
    for doubt, meaning in _DOUBTS.items():
        marked = points[points["doubt"] == doubt]
        if len(marked):
            yield f"{where}: {len(marked)} of {len(points)} intervals of Jaccard {meaning}"
    groups = int(points["groups"].min())
    if 1 < groups <= _UNSEEN:
        unseen = 1 - 0.05 ** (1 / groups)  # "3 / groups", exactly: of two groups that is 150 %
        yield (
            f"{where}: of {groups} groups, a failure of up to {unseen:.0%} of patients may be "
            "missing altogether, and no interval knows of it (rule of three; those of fewer than "
            f"{TELLING_GROUPS} groups' worth are marked {UNSEEN_TAIL} if nothing else)."
        )


def describe_confined(rows: DataFrame) -> Iterator[str]:
    """What attacks on a part of the image are, and how many cases none of them has changed.

    Args:
        rows: as they are stored, under the names that tables show; no points of a curve.
    """
    threats = rows["attack_params"].map(where_of).astype("str").rename("where")
    confined = rows.loc[threats != "", ["dataset", "case_sha256", "linf"]]
    found = []
    for where, part in confined.groupby(threats[threats != ""], sort=True):
        furthest = part.groupby(["dataset", "case_sha256"], observed=True)["linf"].max()
        idle = int((furthest == 0).sum())
        found.append(f"{where} ({_count(idle, 'case')} unchanged)" if idle else str(where))
    if found:
        yield (
            f"Attacks with where={', '.join(found)} perturb only there and are scored everywhere; "
            "they are no rivals of attacks on the whole image, nor of one another."
        )


def _span(numbers: set[int]) -> str:
    low, high = min(numbers), max(numbers)
    return _count(low, "case") if low == high else f"{low} to {high} cases"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _list(values: Sequence[int]) -> str:
    return ", ".join(map(str, values))
