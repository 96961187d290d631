"""Signs that an attack was stuck: the numbers themselves say that they should not be believed.

An attacked score is an upper bound. Where the same rows show that it is not tight, the curve is
marked, with a number and what to do.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import Any

import numpy as np
from pandas import Categorical, DataFrame, Series

from segbench.plugins.naming import CLEAN, eps_names
from segbench.plugins.where import where_of
from segbench.tables.curves import METRICS
from segbench.tables.texts import budgets_of, by_key
from segbench.tables.worst import KINDS, SELECTING

RISE = 0.005
"""Of a mean: an honest curve never rises, since a larger ball holds the smaller one."""

BEHIND = 0.05
"""Of a mean: what another attack finds beyond this one at the same budget, or a smaller."""

ZERO = 0.1
"""Of an attack's steps: a gradient that is zero in every pixel leads nowhere."""

LATE, LEFT = 1e-4, 0.05
"""Of a mean: what the last half of an attack's steps gained, and what it left. A search that still
has so much to win, and for half of its steps wins less than a pixel, goes nowhere. Honest networks
of width 8 to 16 lie above 4e-4 at 0.5/255 already, and above 0.01 from 2/255 on."""

LEAD = 0.15
"""Of a mean: by how much one network is ahead of every other under one attack, and under every
other attack at the same budget by less than half as much."""

STUCK = "stuck"
"""The mark of a curve with such a sign."""

_ADVICE = "give it more steps or restarts, or `-a {}`, and see segbench diagnose for a reason"
_UNUSED = {*METRICS, "linf", "l2", "forwards", "backwards", "seconds", "group_id"} - {SELECTING}
Scores = dict[float, "Series[float]"]  # by budget, of each case
Leads = dict[tuple[Any, ...], dict[str, dict[str, float]]]  # by threat and budget, model, attack
_SAME = ["dataset_fingerprint", "split", "budget_kind"]
_FEW = 3  # signs of one kind that are named for a network


def judge(cases: DataFrame, worst: DataFrame, subject: list[str]) -> tuple[list[str], DataFrame]:
    """A sentence for each sign, of every network and attack; and the cases, such curves marked.

    But an attack that merely finds less than another is not marked: the worst of both has a curve.

    Args:
        cases: one row per case, of attacks as they are.
        worst: from ``worst_cases``.
        subject: the columns that name a model and its data.
    """
    names = eps_names(budgets_of(cases))
    numbered, lowest_found = _numbered(cases, worst)
    bounded = numbered[cases["budget_kind"].isin(KINDS) & (cases["attack"] != CLEAN)]
    sentences: list[str] = []
    leads, stuck = _leads(bounded), np.zeros(len(cases), bool)
    keys = [*subject, "budget_kind"]
    lowest = dict([*lowest_found.groupby([*keys, _threats(lowest_found)], observed=True)])
    for key, part in bounded.groupby([*keys, _threats(bounded)], sort=True, observed=True):
        who, kind = f"{key[0]} on {part['dataset'].iloc[0]} {part['split'].iloc[0]}", str(key[-2])
        found = lowest.get(key, lowest_found.iloc[:0]).drop_duplicates(["budget", "case_id"])
        least = _by_budget(found)
        for attack, curve in part.groupby("attack", sort=True, observed=True):
            scores = _by_budget(curve)
            points = {budget: names[kind, budget] for budget in scores}
            own = [*_rises(scores, points)]
            further = [
                *_zero_gradients(curve, points),
                *_idle(curve, points),
                *_alone(leads, curve, points),
            ]
            if own or further:
                stuck[curve["row"].to_numpy()] = True
            if signs := [*own, *_behind(scores, least, points), *further]:
                listed = "; ".join(signs[:_FEW]) + ("; and more" if len(signs) > _FEW else "")
                sentences.append(f"{who} under {attack}: {listed}: {_advice(str(attack))}.")
    flagged = cases[["marks"]].assign(stuck=stuck)
    marks = by_key(
        flagged, ["marks", "stuck"], lambda own, on: f"{own} {STUCK}".strip() if on else own
    )
    return sentences, cases.assign(marks=marks)


def _advice(attack: str) -> str:
    """What to do: of the standard suite itself, its thorough form."""
    stronger = "standard:cost=thorough" if attack.startswith("standard") else "standard"
    return _ADVICE.format(stronger)


def stuck_budgets(cases: DataFrame) -> Mapping[tuple[str, str], set[float]]:
    """(model, where) -> the L-infinity budgets at which nothing found can be believed yet.

    Those to which a curve rises from the lowest score of any smaller budget, and those at which
    every attack met zero gradients, or gained nothing any more. An attack that shows no sign
    settles a budget.
    """
    found: dict[tuple[str, str], set[float]] = defaultdict(set)
    bounded = cases[(cases["budget_kind"] == "linf") & (cases["attack"] != CLEAN)]
    for (model, where), part in bounded.groupby(["model", _threats(bounded)], sort=True):
        curves = [curve for _, curve in part.groupby(["attack", "attack_params"], sort=True)]
        for budget in sorted(set(part["budget"].tolist())):
            there = [curve for curve in curves if (curve["budget"] == budget).any()]
            if not any(_is_sound(curve, part, budget) for curve in there):
                found[str(model), str(where)].add(budget)
    return found


def _threats(cases: DataFrame) -> Series[str]:
    """Where each row's attack may perturb: attacks on a part of the image are judged apart."""
    return by_key(cases, ["attack_params"], where_of).rename("where")


def _numbered(cases: DataFrame, worst: DataFrame) -> tuple[DataFrame, DataFrame]:
    """Both with numbers for case ids, which are found quicker than names, and each row's place."""
    needed = [name for name in cases if name not in _UNUSED]
    names = cases["case_id"].astype("category").cat.categories

    def numbers(frame: DataFrame) -> DataFrame:
        codes = Categorical(frame["case_id"], categories=names).codes.astype(np.int64)
        return frame[needed].assign(case_id=codes, row=np.arange(len(frame)))

    return numbers(cases), numbers(worst)


def _is_sound(curve: DataFrame, part: DataFrame, budget: float) -> bool:
    """Whether an attack shows no sign of being stuck at a budget, beside all that was found."""
    own = curve[curve["budget"] == budget]
    if own["zero_gradients"].mean() > ZERO or _is_idle(own):
        return False
    smaller = part[part["budget"] < budget]
    best = smaller.groupby("case_id")[SELECTING].min()
    scores = own.set_index("case_id")[SELECTING]
    common = scores.index.intersection(best.index)
    return not (scores[common] - best[common]).mean() > RISE


def _by_budget(curve: DataFrame) -> Scores:
    """Budget, ascending, -> the score of every case at it."""
    return {
        float(str(budget)): Series(point[SELECTING].to_numpy(), index=point["case_id"].to_numpy())
        for budget, point in curve.groupby("budget", sort=True)
    }


def _rises(scores: Scores, points: Mapping[float, str]) -> Iterator[str]:
    """Neighbours of a curve of which the larger budget left more, over their common cases."""
    for small, large in pairwise(scores):
        rise = (scores[large] - scores[small]).mean()
        if rise > RISE:
            yield (
                f"it leaves {rise:.3f} more at {points[large]} than at {points[small]}, which is "
                "no wider"
            )


def _behind(scores: Scores, lowest: Scores, points: Mapping[float, str]) -> Iterator[str]:
    """Budgets at which something else found far lower scores on the same cases."""
    for budget, name in points.items():
        gap = (scores[budget] - lowest[budget]).mean() if budget in lowest else 0
        if gap > BEHIND:
            yield f"at {name} others leave {gap:.3f} less"


def _zero_gradients(curve: DataFrame, points: Mapping[float, str]) -> Iterator[str]:
    """Budgets at which many of its steps met a gradient that was zero everywhere."""
    shares = curve.groupby("budget")["zero_gradients"].mean()
    for budget, name in points.items():
        share = float(shares[budget])
        if share > ZERO:
            yield f"at {name} {share:.0%} of its steps met a gradient that is zero everywhere"


def _idle(curve: DataFrame, points: Mapping[float, str]) -> Iterator[str]:
    """Budgets at which the last half of its steps found nothing, if the largest is one of them.

    A small ball may be searched to its end; the largest is where an attack has most to win.
    """
    by_budget = {float(part["budget"].iloc[0]): part for _, part in curve.groupby("budget")}
    parts = {budget: part for budget, part in by_budget.items() if _is_idle(part)}
    if parts and max(parts) == max(points):
        for budget, own in parts.items():
            yield (
                f"at {points[budget]} the last half of its steps gained "
                f"{own['late_gain'].mean():.4f}, and {own[SELECTING].mean():.3f} was left"
            )


def _is_idle(own: DataFrame) -> bool:
    """Of the rows of one attack and budget; False where nobody noted what was gained."""
    left = own[own[SELECTING] > 0]
    return bool(left["late_gain"].mean() < LATE and left[SELECTING].mean() > LEFT)


def _leads(cases: DataFrame) -> Leads:
    """How far each network is ahead of the best other, by threat and budget, then by attack.

    Over the cases that all networks have; nothing where there is one network alone.
    """
    found: Leads = defaultdict(lambda: defaultdict(dict))
    keys = [*_SAME, _threats(cases), "budget", "attack"]
    for (*threat, attack), part in cases.groupby(keys, sort=True, observed=True):
        if part["model"].nunique() < 2:
            continue
        scores = part.pivot_table(index="case_id", columns="model", values=SELECTING, observed=True)
        means = scores.dropna().mean().dropna().sort_values()
        for model, mean in means.items():
            rivals = means.drop(model)
            if len(rivals):
                found[tuple(threat)][str(model)][str(attack)] = float(mean - rivals.iloc[-1])
    return found


def _alone(leads: Leads, curve: DataFrame, points: Mapping[float, str]) -> Iterator[str]:
    """Budgets at which its network is far ahead of all others, under this attack alone."""
    facts = curve.iloc[0]
    threat = (*(facts[name] for name in _SAME), where_of(str(facts["attack_params"])))
    for budget, name in points.items():
        under = leads.get((*threat, budget), {}).get(str(facts["model"]), {})
        own = under.get(str(facts["attack"]), 0.0)
        others = {attack: lead for attack, lead in under.items() if attack != facts["attack"]}
        if own < LEAD or not others or 2 * max(others.values()) >= own:
            continue
        other = max(others, key=lambda attack: others[attack])
        yield (
            f"at {name} its network is ahead of every other by {own:.3f}, under {other} by "
            f"{others[other]:.3f} only"
        )
