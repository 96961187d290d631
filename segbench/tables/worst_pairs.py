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
        ``attack``, ``attack_params`` and ``budget``, as the curve of a worst is named.
    """
    lines = {}
    for place, budget in enumerate(both.budgets.tolist()):
        here = np.flatnonzero((both.at == budget) & both.shared.any(1))
        keys = field.met.iloc[here][["attack", "attack_params"]].astype("str")
        attacks = [*keys.itertuples(index=False, name=None)]
        if not attacks or (len(attacks) == 1 and _is_idle(field, both, members, place, here[0])):
            continue
        there = both.shared[here]
        label, params, _ = describe_attacks(attacks, even=bool((there == there.any(0)).all()))
        lines[place] = {"attack": label, "attack_params": params, "budget": budget}
    columns = ["attack", "attack_params", "budget"]
    return DataFrame.from_dict(lines, orient="index", columns=columns)


def _is_idle(field: Field, both: Lowest, members: Sequence[int], place: int, line: int) -> bool:
    """Whether nothing at a smaller budget lowers what a single attack left of any network."""
    cases = both.shared[line]
    raw = field.scores[field.rows[members][:, line, cases]]
    closed = field.scores[both.won[:, place, cases]]
    return bool(((raw - closed).mean(1) <= NEEDED).all())
