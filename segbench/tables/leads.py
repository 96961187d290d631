"""Networks far ahead of all others under one attack alone: that attack may be stuck on them.

Not where it finds less on them too than every other attack: then it is the stronger one, and what
others left of the rest was too much.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

import numpy as np
from numpy.typing import NDArray
from pandas import DataFrame, Series

from segbench.metrics.numbering import number_of
from segbench.tables.signs import THREAT
from segbench.tables.worst import SELECTING

LEAD = 0.15
"""Of a mean: so far ahead under one attack, and less than half of it under any other, is a sign."""

ALIKE = 0.005
"""Of a mean: another attack leaves no more of that network, and so does as well on it."""


class Leads:
    """How far each network is ahead of the best other, under each attack on the same threat.

    Args:
        cases: one row per case of attacks with a norm; ``case_id`` is a number, ``where`` is there.

    Attributes:
        threat: the number of the threat of each of the cases (N,).
    """

    def __init__(self, cases: DataFrame) -> None:
        self.threat: NDArray[np.int64] = number_of(cases, THREAT)
        attack = cases["attack"].astype("str").to_numpy()
        scores = DataFrame(
            {
                "threat": self.threat,
                "attack": attack,
                "group": number_of(cases, [*THREAT, "attack"]),
                "model": cases["model"].cat.codes.to_numpy(np.int64),
                "case": cases["case_id"].to_numpy(np.int64),
                "score": cases[SELECTING].to_numpy(),
            }
        ).dropna()
        self._far = _far_ahead(scores)
        wanted = scores["threat"].isin({threat for threat, _, _ in self._far})
        keys = ["threat", "attack", "model", "case"]
        self._means = scores[wanted].groupby(keys)["score"].mean()
        self._tables = cache(self._tabulate)
        self._leads = cache(self._lead)

    def ahead(self, threat: int, model: int, attack: str) -> tuple[float, str, float] | None:
        """The lead of a network under an attack that it has under no other; None of no such lead.

        Two attacks are compared on the networks and cases that met both, if it leads there. Nor is
        it told of where every other attack leaves more of the network than this one.

        Returns:
            the lead, another attack that leaves no more of the network, and its lead under that:
            of several the largest.
        """
        if (threat, model, attack) not in self._far:
            return None
        found = list[tuple[float, str, float]]()
        for other in self._tables(threat):
            own = self._leads(threat, attack, other).get(model)
            if other != attack and own is not None and own[0] >= LEAD:  # else these tell nothing
                lead, left = self._leads(threat, other, attack)[model]
                if 2 * lead >= own[0]:
                    return None
                if left <= own[1] + ALIKE:
                    found.append((own[0], other, lead))
        return max(found, key=lambda one: one[2]) if found else None

    def _tabulate(self, threat: int) -> Mapping[str, DataFrame]:
        """Attack -> its scores, a line for each network and a column for each case."""
        means = self._means.loc[threat]
        attacks = means.index.get_level_values("attack").unique()
        return {str(attack): means.loc[attack].unstack("case") for attack in attacks}

    def _lead(self, threat: int, attack: str, other: str) -> Mapping[int, tuple[float, float]]:
        """Network -> its lead under an attack and its mean, on what met another attack too.

        Nothing of a network without a rival.
        """
        tables = self._tables(threat)
        own, its = tables[attack], tables[other]
        models, cases = own.index.intersection(its.index), own.columns.intersection(its.columns)
        own, its = own.loc[models, cases], its.loc[models, cases]
        met = (own.notna() & its.notna()).all()
        if len(models) < 2 or not met.any():
            return {}
        return _ahead_of_rivals(own.loc[:, met].mean(axis=1))


def _far_ahead(scores: DataFrame) -> set[tuple[int, int, str]]:
    """(threat, network, attack) of every lead of that size, over all that met this attack alone.

    Args:
        scores: one row per case, ``group`` being the number of its threat and attack.
    """
    each = scores.groupby(["group", "case", "model"])["score"].mean().reset_index()
    rivals = each.groupby("group")["model"].transform("nunique")
    common = each[each.groupby(["group", "case"])["model"].transform("size") == rivals]
    means = common.groupby(["group", "model"])["score"].mean().reset_index()
    means = means.sort_values(["group", "score"])
    best, second = means.groupby("group").nth(-1), means.groupby("group").nth(-2)
    both = best.merge(second, on="group", suffixes=("", "_rival"))
    far = both[both["score"] - both["score_rival"] >= LEAD]
    first = scores.drop_duplicates("group").set_index("group")
    return {
        (int(first["threat"][group]), int(model), str(first["attack"][group]))
        for group, model in zip(far["group"], far["model"], strict=True)
    }


def _ahead_of_rivals(means: Series[float]) -> Mapping[int, tuple[float, float]]:
    """By how much each mean is above the highest other, and the mean."""
    values = means.to_numpy(np.float64)
    second, best = values.argsort(kind="stable")[-2:]
    rival = np.full(len(values), values[best])
    rival[best] = values[second]
    pairs = zip((values - rival).tolist(), values.tolist(), strict=True)
    return dict(zip(means.index.tolist(), pairs, strict=True))
