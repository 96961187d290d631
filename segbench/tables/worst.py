"""The worst that was found, per case: a table of rows, never an attack.

What was found at a smaller budget of a norm lies in every larger ball too, and so does the clean
image. So a case's worst score at an eps is the lowest over all attacks at that eps and at every
smaller one: the curve is *closed from below*. Jaccard is the selecting metric; every other metric
is that of the same image.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pandas import DataFrame, Series, concat
from pandas.util import hash_array

from segbench.api.report import SELECTED_BY
from segbench.metrics.numbering import first_of, number_of
from segbench.plugins.naming import CLEAN, eps_names, is_rounded
from segbench.plugins.where import WHERE, where_of
from segbench.tables.texts import budgets_of, by_key, compact, distinct

SELECTING = "jaccard"
KINDS = ("linf", "l2", "l1")
NEEDED = 5e-4  # of a mean: less is rounding
Attack = tuple[str, str]  # its name, and its parameters as rows have them
Array = NDArray[np.float64]
Codes = NDArray[np.int64]
FOUND_AT = "found_at"  # the budget at which the image was found
CREDITED = "credited"  # the attacks whose images it may be, a JSON list of names
MET = "met"  # equal where cases have met the same attacks at the same budgets up to the point's
ROW = "row"


def worst_cases(cases: DataFrame, subject: Sequence[str]) -> DataFrame:
    """One row per case and budget: those of ``cases``, and ``_FURTHER``.

    ``found_at`` is a budget, ``met`` a number of what the case has met, and ``row`` the place among
    the cases of the one whose image it is. ``credited`` names the attacks of a point, a JSON list:
    whatever was met at its budget or a smaller one.

    None where there is but one attack, unless its own curve had to be closed. Each case's is the
    worst of whatever it has met. Of a network and norm there is one curve, whichever attacks its
    budgets have: ``attack`` is ``worst of N attacks``, or ``worst of up to N attacks`` where some
    case has not met all of them at every budget, or ``NAME, closed`` for a single one, and
    ``attack_params`` names them. Images that were rounded to their file's levels may lie outside
    the ball and are left out. Attacks that may perturb only a part of the image are another threat,
    and have a worst of their own for each ``where``. There is no ``target_jaccard`` where the
    attacks do not all lead to one target: its mean would be over whichever cases a targeted attack
    happened to win.

    Args:
        cases: one row per case, minimum-norm attacks as points of their norm.
        subject: the columns that name a model and its data.
    """
    slim = _slim(cases, subject)
    bounded = slim[_is_bounded(slim)]
    if bounded.empty:
        return cases.iloc[:0].assign(found_at=0.0, credited="[]", met=np.uint64(0), row=0)
    bounded = bounded.assign(where=by_key(bounded, ["attack_params"], where_of))
    bounded = bounded.assign(part=number_of(bounded, _PART))
    bounded = bounded.assign(point=number_of(bounded, ["part", "budget"]))
    points = _describe_points(bounded)
    own = _lowest_of_each(bounded).merge(points, on="point")
    closed = _closed(own, slim[slim["attack"] == CLEAN])
    closed.loc[~closed["one_target"].astype(bool), "target_jaccard"] = math.nan
    closed = closed[~closed["part"].isin(_idle_parts(bounded, closed))]
    whole = cases.iloc[closed["row"]].reset_index(drop=True)
    changed = {name: closed[name].to_numpy() for name in [*_CHANGED, *_FURTHER]}
    return compact(whole.assign(**changed))


_CHANGED = ["attack", "attack_params", "budget_kind", "budget", "target_jaccard"]
_FURTHER = [FOUND_AT, CREDITED, MET, ROW]
_PART = ["subject", "budget_kind", "where"]


def name_by_points(cases: DataFrame, subject: Sequence[str]) -> DataFrame:
    """The same, each worst named by whatever the points that it has are credited to.

    Args:
        cases: attacks as they are (``met`` is 0), and of their worst the points that were kept.
        subject: the columns that name a model and its data.
    """
    slim = cases[["attack", "attack_params", "budget_kind", "budget", "case_id", MET]]
    slim = slim.assign(
        subject=number_of(cases, subject),
        where=by_key(cases, ["attack_params"], where_of),
        row=range(len(cases)),
    )
    slim = slim.assign(part=number_of(slim, _PART))
    worst = slim[slim[MET] > 0]
    if worst.empty:
        return cases
    farthest = worst.groupby(["part", "case_id"], observed=True)["budget"].max().rename("farthest")
    under = slim[(slim[MET] == 0) & _is_bounded(slim)].join(farthest, on=["part", "case_id"])
    under = under[under["budget"] <= under["farthest"]]  # none of a case that has no point
    under = under.assign(point=number_of(under, ["part", "budget"]))
    named = _describe_points(under).merge(under[["point", "part"]].drop_duplicates(), on="point")
    named = named.drop_duplicates("part").set_index("part")
    renamed = {}
    for name in ("attack", "attack_params"):
        texts = cases[name].astype("str").to_numpy(object, copy=True)
        texts[worst["row"].to_numpy()] = worst["part"].map(named[name]).to_numpy(object)
        renamed[name] = texts
    return cases.assign(**renamed)


def _is_bounded(slim: DataFrame) -> Series[bool]:
    """Which rows are of attacks within a norm, whose images lie in their ball."""
    searched = slim["budget_kind"].isin(KINDS) & (slim["attack"] != CLEAN) & (slim["budget"] > 0)
    return searched & (by_key(slim, ["attack_params"], rounding) == "")


def _slim(cases: DataFrame, subject: Sequence[str]) -> DataFrame:
    """What is needed to choose among rows, cases and subjects as numbers, and each one's place."""
    chosen = cases[[*_CHANGED, SELECTING]]
    return chosen.assign(
        score=cases[SELECTING].fillna(cases["accuracy"]),  # of labels without foreground
        subject=number_of(cases, subject),
        case_id=cases["case_id"].factorize()[0],
        row=range(len(cases)),
    ).reset_index(drop=True)


def _describe_points(bounded: DataFrame) -> DataFrame:
    """Of each point, a part's budget: its curve, whose images it may show, and to one target."""
    pairs = _first_of_attacks(bounded)[["part", "point", "attack", "attack_params"]]
    of_part: dict[int, dict[int, list[Attack]]] = {}
    for part, point, attack, params in pairs.itertuples(index=False, name=None):
        of_part.setdefault(part, {}).setdefault(point, []).append((attack, params))
    uneven = _uneven_points(bounded)
    lines = []
    for points in of_part.values():
        every = sorted({attack for own in points.values() for attack in own})
        even = all(len(own) == len(every) and not uneven[at] for at, own in points.items())
        curve = describe_attacks(every, even=even)
        met = set[Attack]()
        for point, own in sorted(points.items()):
            met |= {*own}  # what lies in a smaller ball lies in this one
            targets = {json.loads(params).get("target") for _, params in met}
            names = json.dumps([name for name, _ in sorted(met)])
            lines.append((point, *curve, names, len(targets) == 1))
    return DataFrame(lines, columns=["point", "attack", "attack_params", CREDITED, "one_target"])


def _uneven_points(bounded: DataFrame) -> NDArray[np.bool_]:
    """Of each point whether some case has not met all of its attacks."""
    point = bounded["point"].to_numpy()
    attacks = np.bincount(_first_of_attacks(bounded)["point"], minlength=point.max() + 1)
    met = np.bincount(number_of(bounded, ["point", "case_id"]))
    cases = bounded["point"].to_numpy()[first_of(number_of(bounded, ["point", "case_id"]))]
    return np.bincount(cases, met < attacks[cases], minlength=len(attacks)) > 0


def describe_attacks(attacks: Sequence[Attack], *, even: bool = True) -> tuple[str, str]:
    """Label and parameters of the worst of those attacks."""
    facts: dict[str, Any] = {"attacks": [name for name, _ in attacks], SELECTED_BY: SELECTING}
    several = name_worst(len(attacks), even)
    if where := where_of(attacks[0][1]):
        facts, several = {**facts, WHERE: where}, f"{several}, where={where}"
    label = several if len(attacks) > 1 else f"{attacks[0][0]}, closed"
    return label, json.dumps(facts)


_UP_TO = "worst of up to "
_WHATEVER = ", each by whichever of them it has met"


def name_worst(count: int, even: bool, noun: str = "attacks") -> str:
    """What the worst of several is called; ``even``: every case has met all of them."""
    return f"{'worst of ' if even else _UP_TO}{count} {noun}"


def _lowest_of_each(bounded: DataFrame) -> DataFrame:
    """The lowest row of every point and case, of whatever it has met."""
    number = number_of(bounded, ["point", "case_id"])
    scores = bounded["score"].fillna(math.inf).to_numpy(np.float64)
    lowest = Series(scores).groupby(number, sort=True).idxmin()  # of equals the first
    names = ["point", "part", "subject", "budget_kind", "budget", "case_id", "score"]
    found = bounded[[*names, "row", "target_jaccard", SELECTING]].iloc[lowest]
    return found.assign(**{MET: _met_so_far(bounded, number)})


def _met_so_far(bounded: DataFrame, number: Codes) -> NDArray[np.uint64]:
    """Of each point and case, by its number, the sum of hashes of what it has met by then."""
    slot = number_of(bounded, ["attack", "attack_params", "budget"])
    texts = bounded[["attack", "attack_params", "budget"]].iloc[first_of(slot)].astype("str")
    met = hash_array(texts.agg("\n".join, axis=1).to_numpy(object))[slot]
    case = number_of(bounded, ["part", "case_id"])
    order = np.lexsort((bounded["point"].to_numpy(), case))
    total = np.cumsum(met[order], dtype=np.uint64)  # beyond the largest number it begins anew
    before = (total - met[order])[np.searchsorted(case[order], case[order])]  # of other cases
    found = np.zeros(int(number.max()) + 1, np.uint64)
    found[number[order]] = total - before  # the last of each point and case
    return found


def _first_of_attacks(bounded: DataFrame) -> DataFrame:
    """A row of each point and attack."""
    number = number_of(bounded, ["point", "attack", "attack_params"])
    return bounded.iloc[first_of(number)]


def _closed(own: DataFrame, clean: DataFrame) -> DataFrame:
    """The points, each case's row replaced by that of a smaller budget, or none, where lower."""
    starts = own[["part", "subject", "case_id"]].drop_duplicates().merge(
        clean[["subject", "case_id", "score", "row", "target_jaccard", SELECTING]],
        on=["subject", "case_id"],
    )  # fmt: skip
    starts = starts.assign(point=-1, budget=0.0, **{MET: np.uint64(0)})
    items = concat([starts, own], ignore_index=True)
    items = items.sort_values(["part", "case_id", "point"], kind="stable", ignore_index=True)
    lowest = _running_lowest(
        items["score"].to_numpy(np.float64), number_of(items, ["part", "case_id"])
    )
    found = items.iloc[lowest].reset_index(drop=True)
    closed = items.assign(
        row=found["row"],
        target_jaccard=found["target_jaccard"],
        **{SELECTING: found[SELECTING], FOUND_AT: found["budget"]},
    )
    closed = closed[closed["point"] >= 0]
    return closed.sort_values(["point", "case_id"], kind="stable", ignore_index=True)


def _running_lowest(scores: Array, segment: Codes) -> Codes:
    """The place of the lowest score so far within each segment (N,); of equals the latest."""
    scores = np.where(np.isnan(scores), np.inf, scores)
    place = np.arange(len(scores))
    rank = place - np.searchsorted(segment, segment)
    best = place.copy()
    for step in range(1, int(rank.max(initial=0)) + 1):
        here = np.flatnonzero(rank == step)
        before = best[here - 1]
        best[here] = np.where(scores[here] <= scores[before], here, before)
    return best


def _idle_parts(bounded: DataFrame, closed: DataFrame) -> list[int]:
    """The parts that say nothing new: of a single attack whose curve closing does not lower."""
    attacks = _first_of_attacks(bounded)[["part", "attack", "attack_params"]]
    pairs = attacks.drop_duplicates()["part"].value_counts()
    own = bounded.groupby("point")[SELECTING].mean()
    lower = closed.groupby(["part", "point"])[SELECTING].mean().reset_index()
    gained = lower[lower["point"].map(own) - lower[SELECTING] > NEEDED]
    single = set(pairs.index[pairs == 1].tolist())
    return sorted(single - set(gained["part"].tolist()))


def describe_worst(worst: DataFrame) -> Iterator[str]:
    """A sentence for each kind of curve: of which attacks, over how many cases, on which models.

    And one for each network and budget at which an image of a smaller budget was the worst.
    """
    worst = worst[worst[SELECTING].notna()]  # of labels with foreground
    yield from _describe_closing(worst)
    keys = ["dataset", "split", "budget_kind", "attack", "attack_params", "model"]
    names = eps_names(budgets_of(worst))
    models: dict[tuple[str, str], list[str]] = {}
    for (dataset, split, kind, attack, _, model), part in worst.groupby(keys, sort=True):
        points, sizes = np.unique(part["budget"].to_numpy(), return_counts=True)
        budgets = ", ".join(names[str(kind), budget] for budget in points.tolist())
        cases = sorted(set(sizes.tolist()))
        curve = f"{dataset} {split}: the {attack} ({kind} {budgets})"
        met = _WHATEVER if _UP_TO in str(attack) else " that each of them has"
        meaning = (
            f"is, per case, the lowest {SELECTING} at this budget or a smaller one of "
            f"{_credited(part, names)}, over the "
            f"{' to '.join(map(str, cases))} cases{met}"
        )
        models.setdefault((curve, meaning), []).append(str(model))
    for (curve, meaning), attacked in models.items():
        yield f"{curve} {meaning}; on {', '.join(attacked)}."


def _credited(curve: DataFrame, names: Mapping[tuple[str, float], str]) -> str:
    """The attacks of a curve, each with the budget from which on where that is not its first."""
    points = distinct(curve, ["budget_kind", "budget", CREDITED])
    since: dict[str, str] = {}
    for place, (kind, budget, attacks) in enumerate(sorted(points)):
        for attack in json.loads(attacks):
            since.setdefault(attack, f" (from {names[kind, budget]} on)" if place else "")
    return ", ".join(f"{attack}{begins}" for attack, begins in sorted(since.items()))


def _describe_closing(worst: DataFrame) -> Iterator[str]:
    names = eps_names(budgets_of(worst))
    earlier = worst[worst[FOUND_AT] < worst["budget"]]
    keys = ["dataset", "split", "model", "budget_kind"]
    for (dataset, split, model, kind), part in earlier.groupby(keys, sort=True):
        counts = sorted(Counter(part["budget"].tolist()).items())
        points = [(names[str(kind), budget], count) for budget, count in counts]
        places = ", ".join(f"{name} ({count})" for name, count in points)
        yield (
            f"{dataset} {split}: on {model} the worst image of some cases was found at a smaller "
            f"budget, and counts at the larger too, where the attacks found nothing as low: "
            f"{places} cases."
        )


def rounding(params: str) -> str:
    """Not empty for parameters that round."""
    return "rounded" if is_rounded(params) else ""
