"""Signs that an attack was stuck: the numbers themselves say that they should not be believed.

An attacked score is an upper bound. Where the same rows show that it is not tight, the curve is
marked, with a number and what to do.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pandas import Categorical, CategoricalDtype, DataFrame, Series

from segbench.plugins.naming import CLEAN, eps_names
from segbench.plugins.where import where_of
from segbench.tables.curve_signs import Curves
from segbench.tables.fields import SEVERITY
from segbench.tables.sign_texts import advise, describe_sign
from segbench.tables.texts import budgets_of, by_key, compact
from segbench.tables.worst import KINDS, SELECTING, rounding

STUCK = "stuck"
"""The mark of a curve with such a sign."""

SIGNS = (STUCK, "rise", "zero-gradients", "searched", "idle", "alone")
"""What ``signs_by_case`` marks: every point of such a curve, and a point by its own signs."""

_WEAKER = "the worst of the attacks is what counts, not this one"
_WEAKEST = "{} attacks leave more than others, and the worst is what counts"
_NEEDED = [
    "model", "network_sha256", "weights_sha256", "dataset", "dataset_fingerprint", "split",
    "attack", "budget_kind", "budget", SELECTING, "zero_gradients", "late_gain", "member",
]  # fmt: skip
_FEW = 3  # attacks that are named for a network


@dataclass(frozen=True, eq=False)
class Judgement:
    """What the numbers say of the attacks.

    Attributes:
        cases: as they were, curves with a sign of their own marked.
        stuck: a sentence for each such curve.
        behind: a sentence for each network some of whose attacks merely leave more than others.
    """

    cases: DataFrame
    stuck: Sequence[str] = ()
    behind: Sequence[str] = ()


def judge(
    cases: DataFrame,
    worst: DataFrame,
    subject: list[str],
    only: Collection[str] | None = None,
) -> Judgement:
    """A sentence for each sign, of every network and attack.

    An attack that merely finds less than another is not marked: the worst of both has a curve.

    Args:
        cases: one row per case, of attacks as they are.
        worst: from ``worst_cases``.
        subject: the columns that name a model and its data.
        only: the networks of which there are sentences; None for all.
    """
    names = eps_names(budgets_of(cases))
    bounded, found = _bounded(cases, worst)
    if bounded.empty:
        return Judgement(cases)
    curves = Curves(bounded, [*subject, "budget_kind", "where", "attack"], found)
    stuck_by_own, behind = list[str](), dict[str, dict[str, str]]()
    for first, points, own in curves.flagged():
        facts = bounded.iloc[first]
        if only is not None and facts["model"] not in only:
            continue
        who, attack = f"{facts['model']} on {facts['dataset']} {facts['split']}", facts["attack"]
        norm, signs = str(facts["budget_kind"]), curves.signs(points)
        said = [describe_sign(sign, partial(_name, names, norm)) for sign in signs]
        if own:
            params = str(cases["attack_params"].iloc[facts["row"]])
            advice = [advise(sign.kind, str(attack), params, norm) for sign in signs]
            each = "; ".join(f"{what}: {do}" for what, do in zip(said, advice, strict=True))
            stuck_by_own.append(f"{who} under {attack}: {each}.")
        else:
            behind.setdefault(who, {})[str(attack)] = "; ".join(said)
    stuck = np.zeros(len(cases), bool)
    stuck[bounded["row"].to_numpy()[curves.rows_of_flagged()]] = True
    flagged = cases[["marks"]].assign(stuck=stuck)
    marks = by_key(
        flagged, ["marks", "stuck"], lambda own, on: f"{own} {STUCK}".strip() if on else own
    )
    sentences = [_weaker(who, attacks) for who, attacks in behind.items()]
    return Judgement(cases.assign(marks=marks), stuck_by_own, sentences)


def signs_by_case(cases: DataFrame, subject: list[str]) -> Series[Any]:
    """Of each case the signs of its point, of ``SIGNS`` and most with a number: ``rise=0.012``.

    Empty where its curve has no sign of its own.
    """
    said = np.zeros(len(cases), np.int64)
    bounded, found = _bounded(cases, cases.iloc[:0])
    texts = [""]
    if not bounded.empty:
        curves = Curves(bounded, [*subject, "budget_kind", "where", "attack"], found)
        by_point = np.zeros(curves.count, np.int64)
        for _, points, _ in curves.flagged():
            for point in points:
                by_point[point] = len(texts)
                texts.append(" ".join([STUCK, *curves.words(point, points[-1])]))
        said[bounded["row"].to_numpy()] = by_point[curves.point_of_rows]
    names = sorted({*texts})
    places = {name: place for place, name in enumerate(names)}
    codes = np.array([places[text] for text in texts])[said]
    return Series(Categorical.from_codes(codes, dtype=CategoricalDtype(names)), index=cases.index)


def judge_alone(
    cases: DataFrame, subject: list[str], only: Collection[str] | None = None
) -> Judgement:
    """As ``judge``, but no attack is held against what others found, which marks none."""
    return judge(cases, cases.iloc[:0], subject, only)


def _name(names: Mapping[tuple[str, float], str], kind: str, budget: float) -> str:
    return names[kind, budget]


def _weaker(who: str, signs: Mapping[str, str]) -> str:
    """What counts where attacks are behind others; attack -> its signs."""
    if len(signs) == 1:
        ((attack, sign),) = signs.items()
        return f"{who} under {attack}: {sign}: {_WEAKER}."
    listed = [f"{attack} ({sign})" for attack, sign in signs.items()]
    more = [f"and {len(signs) - _FEW} more"] if len(signs) > _FEW else []
    return f"{who}: {_WEAKEST.format(len(signs))}: {', '.join([*listed[:_FEW], *more])}."


def _bounded(cases: DataFrame, worst: DataFrame) -> tuple[DataFrame, DataFrame]:
    """Rows of attacks after the worst, and the worst, with what ``find_signs`` wants and ``row``.

    They are those within a norm, and searches for the worst of a severity and all that are smaller,
    each of which is a threat of its own. Cases are numbers, which are quicker to find than names.
    """
    names = {name: number for number, name in enumerate(cases["case_id"].unique())}

    def prepared(frame: DataFrame, own: NDArray[np.int64]) -> DataFrame:
        numbers = frame["case_id"].iloc[own].map(names).astype("int64")  # once a name
        part = frame[_NEEDED].iloc[own].assign(case_id=numbers, row=own)
        params = frame[["attack_params"]].iloc[own]
        rounded = by_key(params, ["attack_params"], rounding) != ""
        own_threat = part["attack"].astype("str")
        threat = threats(params).astype("str").where(part["budget_kind"] != SEVERITY, own_threat)
        return compact(part.assign(where=threat, rounded=rounded))

    bounded = cases["budget_kind"].isin(KINDS) & (cases["attack"] != CLEAN)
    severe = cases["budget_kind"] == SEVERITY
    if severe.any():
        bounded |= severe & (by_key(cases[["attack"]], ["attack"], searched_by) != "")
    own = np.flatnonzero(bounded.to_numpy())
    return prepared(cases, own), prepared(worst, np.arange(len(worst)))


def searched_by(attack: str) -> str:
    """An attack that searches a severity and all that are smaller; "" of others."""
    return attack if re.match(r"worst([:/]|$)", attack) else ""


def threats(cases: DataFrame) -> Series[str]:
    """Where each row's attack may perturb: attacks on a part of the image are judged apart."""
    return by_key(cases, ["attack_params"], where_of).rename("where")
