"""The worst of what the two networks of a pair both met, as a curve to compare them under."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from pandas import DataFrame

from segbench.plugins.where import where_of
from segbench.tables.averages import SUBJECT
from segbench.tables.fields import Field, Lowest, fields_of
from segbench.tables.texts import by_key
from segbench.tables.worst import KINDS, NEEDED, describe_attacks


def fields_within_norms(cases: DataFrame) -> list[Field]:
    """What networks met within a norm, of each part of the image apart."""
    wheres = sorted(set(by_key(cases, ["attack_params"], where_of)))
    every = [field for where in wheres for field in fields_of(cases, SUBJECT, where)]
    return [field for field in every if field.of in KINDS]


def worst_points(field: Field, both: Lowest, members: Sequence[int]) -> DataFrame:
    """The budgets, by place, at which networks share several attacks, or one that is closed.

    Returns:
        ``attack``, ``attack_params`` and ``budget``: a point is named by all that was shared there
        or at a smaller budget, whose images it may show.
    """
    lines = {}
    for place, budget in enumerate(both.budgets.tolist()):
        cases = (both.won[:, place] >= 0).all(0)
        there = both.shared[:, cases]
        here = np.flatnonzero((both.at == budget) & there.any(1))
        if not len(here) or (len(here) == 1 and _is_idle(field, both, members, place, here[0])):
            continue
        credited = there.any(1) & (both.at <= budget)
        keys = field.met[credited][["attack", "attack_params"]].astype("str")
        attacks = sorted({*keys.itertuples(index=False, name=None)})
        even = len(here) == len(attacks) and bool(there[here].all())
        label, params = describe_attacks(attacks, even=even)
        lines[place] = {"attack": label, "attack_params": params, "budget": budget}
    columns = ["attack", "attack_params", "budget"]
    return DataFrame.from_dict(lines, orient="index", columns=columns)


def _is_idle(field: Field, both: Lowest, members: Sequence[int], place: int, line: int) -> bool:
    """Whether nothing at a smaller budget lowers what a single attack left of any network."""
    cases = both.shared[line]
    raw = field.scores[field.rows[members][:, line, cases]]
    closed = field.scores[both.won[:, place, cases]]
    return bool(((raw - closed).mean(1) <= NEEDED).all())
