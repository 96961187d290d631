"""The worst that was found, per case: a table of rows, never an attack.

What was found at a smaller budget of a norm lies in every larger ball too, and so does the clean
image. So a case's worst score at an eps is the lowest over all attacks at that eps and at every
smaller one: the curve is *closed from below*. Jaccard is the selecting metric; every other metric
is that of the same image.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

from pandas import DataFrame, concat

from segbench.plugins.naming import CLEAN, eps_names
from segbench.plugins.where import WHERE, where_of
from segbench.tables.texts import budgets_of, compact

SELECTING = "jaccard"
KINDS = ("linf", "l2", "l1")
_NEEDED = 5e-4  # of a mean: less is rounding
FOUND_AT = "found_at"  # the budget at which the image was found


def worst_cases(cases: DataFrame, subject: Sequence[str]) -> DataFrame:
    """One row per case and budget, columns as in ``cases`` and ``found_at``, a budget.

    None where there is but one attack, unless its own curve had to be closed. Only over the cases
    that each attack of the budget has. ``attack`` is ``worst of N attacks``, or ``NAME, closed``
    for a single one, and ``attack_params`` names them, so that budgets with other attacks are
    another curve. Images that were rounded to their file's levels may lie outside the ball and are
    left out. Attacks that may perturb only a part of the image are another threat, and have a
    worst of their own for each ``where``. There is no ``target_jaccard`` where the attacks do not
    all lead to one target: its mean would be over whichever cases a targeted attack happened to
    win.

    Args:
        cases: one row per case, minimum-norm attacks as points of their norm.
        subject: the columns that name a model and its data.
    """
    slim = _slim(cases, subject)
    bounded = slim[slim["budget_kind"].isin(KINDS) & (slim["attack"] != CLEAN)]
    rounded = bounded["attack_params"].map(is_rounded).astype(bool)
    bounded = bounded[(bounded["budget"] > 0) & ~rounded]
    clean = dict([*slim[slim["attack"] == CLEAN].groupby("subject")])
    found, threats = [], bounded["attack_params"].map(where_of).rename("where")
    for key, part in bounded.groupby(["subject", "budget_kind", threats], sort=True):
        found += list(_closed(part, clean.get(key[0], slim.iloc[:0])))
    if not found:
        return cases.iloc[:0].assign(**{FOUND_AT: 0.0})
    points = concat(found, ignore_index=True)
    whole = cases.iloc[points["row"]].reset_index(drop=True)
    return compact(whole.assign(**{name: points[name] for name in [*_CHANGED, FOUND_AT]}))


_CHANGED = ["attack", "attack_params", "budget_kind", "budget", "target_jaccard"]


def _slim(cases: DataFrame, subject: Sequence[str]) -> DataFrame:
    """What is needed to choose among rows, cases and subjects as numbers, and each one's place."""
    chosen = cases[[*_CHANGED, SELECTING, "accuracy"]]
    return chosen.assign(
        subject=cases.groupby([*subject], sort=True, observed=True).ngroup(),
        case_id=cases["case_id"].factorize()[0],
        row=range(len(cases)),
    ).reset_index(drop=True)


def _closed(part: DataFrame, clean: DataFrame) -> Iterator[DataFrame]:
    """Of one network and norm the points of its worst curve, from the smallest budget on."""
    least = clean.assign(**{FOUND_AT: 0.0})
    points = []
    for budget, point in part.groupby("budget", sort=True):
        own = _of_one_budget(point)
        if own.empty:
            continue
        before = least[least["case_id"].isin(own["case_id"])]
        both = concat([own.assign(**{FOUND_AT: budget}), before], ignore_index=True)
        score = both[SELECTING].fillna(both["accuracy"])  # of labels without foreground
        lowest = both.loc[score.groupby(both["case_id"]).idxmin()]  # of equals, this budget's own
        names = {name: own[name].iloc[0] for name in ("attack", "attack_params", "budget_kind")}
        points.append(lowest.assign(budget=budget, **names))
        rest = least[~least["case_id"].isin(own["case_id"])]
        least = concat([rest, lowest], ignore_index=True)
    single = part[["attack", "attack_params"]].drop_duplicates().shape[0] == 1
    if single and not any(_gain(point, part) > _NEEDED for point in points):
        return
    yield from points


def _gain(point: DataFrame, part: DataFrame) -> float:
    """How much lower closing has made a point of a single attack, in the mean."""
    own = part[part["budget"] == point["budget"].iloc[0]]
    return float(own[SELECTING].mean() - point[SELECTING].mean())


def describe_worst(worst: DataFrame) -> Iterator[str]:
    """A sentence for each kind of curve: of which attacks, over how many cases, on which models.

    And one for each network and budget at which an image of a smaller budget was the worst.
    """
    yield from _describe_closing(worst)
    keys = ["dataset", "split", "budget_kind", "attack", "attack_params", "model"]
    names = eps_names(budgets_of(worst))
    models: dict[tuple[str, str], list[str]] = {}
    for (dataset, split, kind, attack, params, model), part in worst.groupby(keys, sort=True):
        budgets = ", ".join(
            names[str(kind), budget] for budget in sorted(set(part["budget"].tolist()))
        )
        cases = sorted({len(point) for _, point in part.groupby("budget")})
        curve = f"{dataset} {split}: the {attack} ({kind} {budgets})"
        meaning = (
            f"is, per case, the lowest {SELECTING} at this budget or a smaller one of "
            f"{', '.join(json.loads(str(params))['attacks'])}, over the "
            f"{' to '.join(map(str, cases))} cases that each of them has"
        )
        models.setdefault((curve, meaning), []).append(str(model))
    for (curve, meaning), attacked in models.items():
        yield f"{curve} {meaning}; on {', '.join(attacked)}."


def _describe_closing(worst: DataFrame) -> Iterator[str]:
    names = eps_names(budgets_of(worst))
    earlier = worst[worst[FOUND_AT] < worst["budget"]]
    keys = ["dataset", "split", "model", "budget_kind"]
    for (dataset, split, model, kind), part in earlier.groupby(keys, sort=True):
        budgets = part["budget"].tolist()
        points = [(names[str(kind), b], budgets.count(b)) for b in sorted(set(budgets))]
        places = ", ".join(f"{name} ({count})" for name, count in points)
        yield (
            f"{dataset} {split}: on {model} the worst image of some cases was found at a smaller "
            f"budget, and counts at the larger too, where the attacks found nothing as low: "
            f"{places} cases."
        )


def _of_one_budget(point: DataFrame) -> DataFrame:
    """The worst of one model's attacks at one budget, a row per case that all of them have."""
    pairs = point[["attack", "attack_params"]].drop_duplicates()
    attacks = sorted(pairs.itertuples(index=False, name=None))
    common = point.groupby("case_id")["attack"].transform("size") == len(attacks)
    score = point[SELECTING].fillna(point["accuracy"])  # of labels without foreground
    least = score[common].groupby(point.loc[common, "case_id"]).idxmin()
    facts: dict[str, Any] = {"attacks": [name for name, _ in attacks], "selected by": SELECTING}
    several = f"worst of {len(attacks)} attacks"
    if where := where_of(attacks[0][1]):
        facts, several = {**facts, WHERE: where}, f"{several}, where={where}"
    worst = point.loc[least].assign(
        attack=several if len(attacks) > 1 else f"{attacks[0][0]}, closed",
        attack_params=json.dumps(facts),
    )
    one_target = len({json.loads(params).get("target") for _, params in attacks}) == 1
    return worst if one_target else worst.assign(target_jaccard=float("nan"))


def is_rounded(params: str) -> bool:
    """Whether images under these parameters were rounded to their file's levels."""
    return bool(json.loads(params).get("quantized"))
