"""The worst of several attacks, per case: a table of rows, never an attack.

At each budget of one norm, a case's score under the worst of the attacks is that of the attack that
left it the lowest Jaccard, which is the selecting metric: every other metric is that attack's too.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence

from pandas import DataFrame, concat

from segbench.plugins.naming import CLEAN, eps_names

SELECTING = "jaccard"
KINDS = ("linf", "l2", "l1")


def worst_cases(cases: DataFrame, subject: Sequence[str]) -> DataFrame:
    """One row per case and budget, columns as in ``cases``; none where there is but one attack.

    Only over the cases that each attack of the budget has. ``attack`` is ``worst of N attacks`` and
    ``attack_params`` names them, so that budgets with other attacks are another curve. Images that
    were rounded to their file's levels may lie outside the ball and are left out. There is no
    ``target_jaccard`` where the attacks do not all lead to one target: its mean would be over
    whichever cases a targeted attack happened to win.

    Args:
        cases: one row per case, minimum-norm attacks as points of their norm.
        subject: the columns that name a model and its data.
    """
    bounded = cases[cases["budget_kind"].isin(KINDS) & (cases["attack"] != CLEAN)]
    rounded = bounded["attack_params"].map(_is_rounded).astype(bool)
    bounded = bounded[(bounded["budget"] > 0) & ~rounded]
    points = bounded.groupby([*subject, "budget_kind", "budget"], sort=True)
    found = [worst for _, point in points for worst in _of_one_budget(point)]
    return concat(found, ignore_index=True) if found else cases.iloc[:0]


def describe_worst(worst: DataFrame) -> Iterator[str]:
    """A sentence for each kind of curve: of which attacks, over how many cases, on which models."""
    keys = ["dataset", "split", "budget_kind", "attack", "attack_params", "model"]
    names = eps_names(zip(worst["budget_kind"], worst["budget"].tolist(), strict=True))
    models: dict[tuple[str, str], list[str]] = {}
    for (dataset, split, kind, attack, params, model), part in worst.groupby(keys, sort=True):
        budgets = ", ".join(
            names[str(kind), budget] for budget in sorted(set(part["budget"].tolist()))
        )
        cases = sorted({len(point) for _, point in part.groupby("budget")})
        curve = f"{dataset} {split}: the {attack} ({kind} {budgets})"
        meaning = (
            f"is, per case, the lowest {SELECTING} of "
            f"{', '.join(json.loads(str(params))['attacks'])}, over the "
            f"{' to '.join(map(str, cases))} cases that each of them has"
        )
        models.setdefault((curve, meaning), []).append(str(model))
    for (curve, meaning), attacked in models.items():
        yield f"{curve} {meaning}; on {', '.join(attacked)}."


def _of_one_budget(point: DataFrame) -> Iterator[DataFrame]:
    """The worst of one model's attacks at one budget, if there are two."""
    attacks = sorted(set(zip(point["attack"], point["attack_params"], strict=True)))
    common = point.groupby("case_id")["attack"].transform("size") == len(attacks)
    if len(attacks) < 2 or not common.any():
        return
    score = point[SELECTING].fillna(point["accuracy"])  # of labels without foreground
    least = score[common].groupby(point.loc[common, "case_id"]).idxmin()
    facts = {"attacks": [name for name, _ in attacks], "selected by": SELECTING}
    worst = point.loc[least].assign(
        attack=f"worst of {len(attacks)} attacks", attack_params=json.dumps(facts)
    )
    one_target = len({json.loads(params).get("target") for _, params in attacks}) == 1
    yield worst if one_target else worst.assign(target_jaccard=float("nan"))


def _is_rounded(params: str) -> bool:
    return bool(json.loads(params).get("quantized"))
