"""Which member of a suite found the images that count."""

from __future__ import annotations

from pandas import DataFrame

from segbench.plugins.naming import eps_names
from segbench.tables.texts import budgets_of

_KEYS = ["model", "dataset", "split", "attack", "budget_kind", "budget"]


def winners(cases: DataFrame) -> DataFrame:
    """One row per point of a suite and member: its share of the cases, and of how many.

    ``clean`` is where nothing was found that is worse than the clean image.

    Args:
        cases: one row per case; ``member`` is "" for an attack that is no suite.
    """
    won = cases[[*_KEYS, "member"]][cases["member"] != ""]
    names = eps_names(budgets_of(won))
    counts = won.groupby([*_KEYS, "member"], observed=True, sort=True).size().rename("won")
    table = counts.reset_index()
    table["cases"] = table.groupby(_KEYS, observed=True)["won"].transform("sum")
    table["share"] = table["won"] / table["cases"]
    points = zip(table["budget_kind"], table["budget"], strict=True)
    return table.assign(eps=[names[str(kind), budget] for kind, budget in points])
