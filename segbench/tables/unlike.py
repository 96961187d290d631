"""What networks met that was not alike, so that a reader knows what a ranking leaves out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np

from segbench.plugins.naming import CLEAN, eps_names
from segbench.tables.fields import DATA, SEVERITY, UNSCORED, Field, Flags, Lowest
from segbench.tables.texts import few

AGAINST = {
    CLEAN: "on clean images", "linf": "against L∞ attacks", "l2": "against L2 attacks",
    "l1": "against L1 attacks", SEVERITY: "against corruptions",
}  # fmt: skip
Names = Mapping[tuple[str, float], str]


def describe_unlike(fields: Iterable[Field], subject: Sequence[str]) -> Iterator[str]:
    """A sentence for each board whose networks met other things too, and for networks alone.

    And for each number that leaves out budgets which few cases have.
    """
    model = subject.index("model")
    for field in fields:
        names = eps_names((field.of, budget) for budget in field.met["budget"].tolist())
        models = [str(network[model]) for network in field.networks]
        where = f"{field.data[DATA.index('dataset')]} {field.data[DATA.index('split')]}"
        yield from _alone(field, where, models, names)
        for members in field.boards:
            if len(members) > 1:
                yield from _left_out(field, members, where, models, names)
            else:
                yield from _few_cases(field, members[0], where, models, names)


def _alone(field: Field, where: str, models: Sequence[str], names: Names) -> Iterator[str]:
    """Networks of which none is ranked with another."""
    alone = [members[0] for members in field.boards if len(members) == 1]
    if len(models) < 2 or not alone:
        return
    met = [f"{models[m]} {_met(field, m, names)}" for m in alone]
    which = f"the {len(models)} networks cannot be ranked: no two of them"
    if len(alone) < len(models):
        which = f"{few([models[m] for m in alone])} cannot be ranked with another network: no two"
    said = "; ".join(met[:_NAMED]) + (f"; and {len(met) - _NAMED} more" * (len(met) > _NAMED))
    same = "share a case" if field.of == CLEAN else _SAME
    yield f"{where}: {AGAINST[field.of]} {which} {same} ({said})."


_NAMED = 4
_REMEDY = " Attack all of them alike to compare them under these too."
_SAME = (
    "met the same attack at the same budget on the same case, and scores under unlike attacks are "
    "no comparison"
)


def _met(field: Field, member: int, names: Names) -> str:
    """What a network met, and on how many cases."""
    there = field.rows[member] >= 0
    scored = there & (field.scores[field.rows[member]] < UNSCORED)
    cases = _count(int(scored.any(0).sum()))
    if field.of == CLEAN:
        return f"has {cases}"
    lines = field.met[there.any(1)]
    attacks = lines["attack"].astype("str").unique().tolist()
    at = ", ".join(names[field.of, budget] for budget in sorted(set(lines["budget"].tolist())))
    return f"met {few(attacks)} at {at} on {cases}"


def _left_out(
    field: Field, members: Sequence[int], where: str, models: Sequence[str], names: Names
) -> Iterator[str]:
    """What only some networks of a board met."""
    both = field.lowest(members)
    own = field.rows[members] >= 0
    further = own & ~both.shared
    kept, cases = both.points()
    over = field.counted(both, kept, cases)[2]
    unlike = [*_attacks(field, both, further, [models[m] for m in members], names)]
    parts = [*unlike, *_further(both, further, [models[m] for m in members])]
    there: Flags = np.logical_and.reduce(both.won >= 0)
    few_have = [n for n in range(len(both.budgets)) if n not in kept and there[n].any()]
    if few_have:
        at = ", ".join(names[field.of, both.budgets[n]] for n in few_have)
        parts.append(f"{at}, which not all of these cases met")
    if not parts:
        return
    met = field.met[both.shared.any(1)]["attack"].astype("str").unique().tolist()
    many = "both" if len(members) == 2 else f"all {len(members)}"
    by = "" if field.of == CLEAN else f"by what {many} of them met ({few(met)}) "
    at = [] if field.of in (CLEAN, SEVERITY) else both.budgets[kept].tolist()
    on = f"at {', '.join(names[field.of, budget] for budget in at)} " if at else ""
    remedy = _REMEDY if unlike else ""
    yield (
        f"{where}: {AGAINST[field.of]} networks are compared {by}{on}on the "
        f"{_count(int(over.sum()))} that all have. Left out: {'; '.join(parts)}.{remedy}"
    )


def _attacks(
    field: Field, both: Lowest, further: Flags, models: Sequence[str], names: Names
) -> Iterator[str]:
    """Attacks at budgets that not all met on any case."""
    nowhere = ~both.shared.any(1)
    attacks = field.met["attack"].astype("str").to_numpy()
    for attack in dict.fromkeys(attacks[nowhere].tolist()):
        lines = nowhere & (attacks == attack)
        who = _who(further[:, lines], models)
        if not who:  # a network of another board
            continue
        at = dict.fromkeys(names[field.of, b] for b in field.met["budget"][lines].tolist())
        yield f"{attack} at {', '.join(at)} ({few(who)} only)"


def _further(both: Lowest, further: Flags, models: Sequence[str]) -> Iterator[str]:
    """More cases of what all met."""
    if who := _who(further[:, both.shared.any(1)], models):
        yield f"further cases of {few(who)}"


def _who(further: Flags, models: Sequence[str]) -> list[str]:
    """The networks of which there is any (M, K, C)."""
    return [name for name, own in zip(models, further, strict=True) if own.any()]


def _few_cases(
    field: Field, member: int, where: str, models: Sequence[str], names: Names
) -> Iterator[str]:
    """The budgets that the one number of a network leaves out."""
    own = field.lowest([member])
    kept, cases = own.points()
    there = (own.won[0] >= 0).any(1)
    left = [n for n in np.flatnonzero(there).tolist() if n not in kept]
    if left:
        over = _count(int(field.counted(own, kept, cases)[2].sum()))
        at = ", ".join(names[field.of, budget] for budget in own.budgets[left].tolist())
        yield (
            f"{where}: {AGAINST[field.of]} the one number of {models[member]} is over the "
            f"{over} that most budgets have, and leaves out {at}, which not all of these met."
        )


def _count(cases: int) -> str:
    return "1 case" if cases == 1 else f"{cases} cases"
