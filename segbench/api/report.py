"""What a report is given, and what it does with it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from segbench.api.texts import plain

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from pandas import DataFrame, Series

TELLING = 0.02
"""A difference of mean Jaccard that a comparison of two networks should tell apart from none."""

_END = "\x1e\n"  # in no text, which has the first written out; the second is to be quoted
_AT_ONCE = 50_000  # rows
_FORMULA = ("=", "+", "-", "@", "\t", "'")


@dataclass(frozen=True, eq=False)
class TransferMatrix:
    """Mean Jaccard of every target (columns) on the images made against every source (rows)."""

    dataset: str
    split: str
    attack: str
    eps: str
    scores: DataFrame


@dataclass(frozen=True, eq=False)
class Picture:
    """A case before and after an attack, small, as 8-bit images.

    Attributes:
        kind: ``worst``, ``median`` or ``best`` of its cell's cases.
        planes: of a volume three planes through the structure, of an image the one: each a mapping
            of ``clean``, ``adversarial`` (uint8 (H, W) or (H, W, 3)), ``label``, ``clean_labels``,
            ``adversarial_labels``, ``adversarial_label`` (uint8 (H, W), classes, and UNSCORED
            where nothing is scored, in truth and answer alike; the last is the truth of the
            adversarial image, another than ``label`` where an attack moves it) and
            ``change`` (int8 (H, W): the largest change of any channel, in units of ``scale`` /
            127).
        scale: the largest change there is, in fractions of [0, 1].
        facts: numbers and words to be shown beside it, in order.
    """

    model: str
    dataset: str
    split: str
    attack: str
    eps: str
    case_id: str
    group_id: str
    kind: str
    planes: Sequence[Mapping[str, NDArray[Any]]]
    scale: float
    facts: Mapping[str, str]


def _nothing() -> DataFrame:
    from pandas import DataFrame

    return DataFrame()


UNSCORED = 255
"""In the labels of a picture: what is ignored, or outside the valid region."""

RIVALS = ["attack", "attack_params", "over"]
"""What lines of a summary, or points of curves, have in common where one may be the best of them.

Those of a worst are best marked by ``best_points``, which does not ask what else a curve has met.
"""

SELECTED_BY = "selected by"
"""Among the parameters of a worst of several attacks: the metric by which it is the worst."""

_CURVE = ("dataset", "split", "model", "budget_kind", "attack", "attack_params")


def best_points(curves: DataFrame) -> Callable[[Mapping[Any, Any], str], bool]:
    """Whether a curve's point is the best of two or more: the same attack, on the same cases.

    Of a worst, what each case has met by then is in ``over``; what its curve met elsewhere, and is
    called by, does not matter.

    Args:
        curves: ``Tables.curves``.

    Returns:
        of a line of ``Tables.summary`` and the name of one of its points: whether no other there
        has a higher mean Jaccard, and there are others.
    """
    jaccard = curves[curves["metric"] == "jaccard"]
    kinds = jaccard[["attack", "attack_params"]].drop_duplicates()
    threats = {key: _threat(*key) for key in kinds.itertuples(index=False, name=None)}
    keys = zip(jaccard["attack"], jaccard["attack_params"], strict=True)
    jaccard = jaccard.assign(threat=[threats[key] for key in keys])
    alike = ["dataset", "split", "budget_kind", "budget", "threat", "over"]
    rivals = jaccard.groupby(alike)["mean"]
    first = (jaccard["mean"] == rivals.transform("max")) & (rivals.transform("size") > 1)
    best = {*jaccard.loc[first, [*_CURVE, "eps"]].itertuples(index=False, name=None)}

    def is_best(line: Mapping[Any, Any], point: str) -> bool:
        return (*(line[name] for name in _CURVE), "0" if point == "clean" else point) in best

    return is_best


def _threat(attack: str, params: str) -> str:
    """What was done to the cases of a curve, as far as ``over`` does not tell it."""
    facts = json.loads(params)
    return str(facts.get("where", "")) if SELECTED_BY in facts else f"{attack} {params}"


@dataclass(frozen=True, eq=False)
class Tables:
    """Everything a report may show, computed once from the stored rows (see ``tables/build.py``).

    Attributes:
        rows: one row per case and class, the store's columns; texts, here and in ``cases``, are
            pandas categories.
        cases: one row per case: every metric averaged over the classes its label has; minimum-norm
            attacks as points at the eps values of others.
        curves: one row per model, data set, attack and budget: mean, interval, drop, cases; the
            worst of several attacks is one more. ``over`` is equal where two points of one attack
            are over the same cases, and these, for a worst, have met the same.
        summary: one row per model, data set and attack: one column per eps, area under the curve;
            ``over`` is equal where two curves of one attack are, at every point.
        distances: one row per minimum-norm attack: the median and quartiles of its distances, and
            how many cases fell.
        falls: one row per case of such an attack and attack seed: the distance at which it fell,
            infinity where it never did.
        seeds: mean and spread over the training seeds of a network, at every point of its curves,
            on what all of them have met.
        comparisons: paired differences of two networks' Jaccard, at every point of both curves,
            with p-values and the groups they would need; ``main`` says whether a page has room,
            ``seeds`` and ``seeds_against`` over how many trainings each is a mean.
        certificates: what is proved of smoothed networks, a line per radius: a lower bound of
            Jaccard, and beside it what L2 attacks have left of the network itself.
        transfers: who is fooled by whose images, a matrix per attack and eps.
        notes: sentences that a reader must see beside the numbers, ``warnings`` among them.
        attacks: attack label -> its complete parameters.
        provenance: versions, devices, weights and fingerprints behind the rows.
        warnings: those that speak against a number, or against comparing it: against a network or
            a curve first, the gravest at the head.
        findings: of the warnings what ``segbench diagnose`` found, the first of all.
        examined: of the notes which networks it passed, and which it has not examined.
        headlines: one number a network for clean images, for the attacks of each norm (mean height
            of the lowest curve known) and for corruptions (each case's lowest score), with its
            interval, the attacks that it is made of, and its ``board``: networks of one board met
            something alike.
        compared: the same numbers by what all networks of a board met, on the cases that all have:
            these may be compared.
        standings: the points of the curves of both: ``shared`` or not.
        ranks: who comes first by what all of a board met, and how surely.
        structures: mean Jaccard of each structure at every point, and by thirds of its size.
        spread: how the cases of every point are spread over [0, 1].
        costs: scores, forwards, gradients and seconds of every attack on every network.
        optimality: how close each attack comes to the best that is known of a network; of one that
            shares too little with the others, NaN and why it is ``left_out``.
        winners: of suites, the share of cases whose image each member found, at every point.
        pictures: cases to look at; only of some, where pictures were kept.
    """

    rows: DataFrame
    cases: DataFrame
    curves: DataFrame
    summary: DataFrame
    distances: DataFrame
    seeds: DataFrame
    comparisons: DataFrame
    transfers: Sequence[TransferMatrix] = ()
    notes: Sequence[str] = ()
    attacks: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)
    warnings: Sequence[str] = ()
    findings: Sequence[str] = ()
    examined: Sequence[str] = ()
    headlines: DataFrame = field(default_factory=_nothing)
    compared: DataFrame = field(default_factory=_nothing)
    standings: DataFrame = field(default_factory=_nothing)
    ranks: DataFrame = field(default_factory=_nothing)
    structures: DataFrame = field(default_factory=_nothing)
    spread: DataFrame = field(default_factory=_nothing)
    costs: DataFrame = field(default_factory=_nothing)
    optimality: DataFrame = field(default_factory=_nothing)
    winners: DataFrame = field(default_factory=_nothing)
    pictures: Sequence[Picture] = ()
    certificates: DataFrame = field(default_factory=_nothing)
    falls: DataFrame = field(default_factory=_nothing)


class Report(Protocol):
    """A plug-in of the group ``segbench.reports``: a pure function of the stored rows."""

    def __call__(self, tables: Tables, directory: Path) -> Sequence[Path]:
        """Write the report's files into ``directory`` and return their paths."""
        ...


def csv_text(table: DataFrame) -> str:
    """A table as CSV, of which a spreadsheet computes nothing when it is opened.

    A text that a spreadsheet would take for a formula, such as a case called ``=cmd()``, gets a
    ``'`` before it, as does one that begins with ``'``; whoever reads the file takes one away. A
    carriage return, at which readers of CSV may begin a line, and whatever a terminal would obey
    are written out.
    """
    if table.shape[1] < 2:  # a field that is alone and empty is written otherwise
        only = {str(name): [_as_text(value) for value in own] for name, own in table.items()}
        alone: str = table.assign(**only).to_csv(index=False, lineterminator="\n")
        return alone
    header = table.iloc[:0].to_csv(index=False, lineterminator="\n")
    columns = [_as_fields(table.iloc[:, place]) for place in range(table.shape[1])]
    parts = [header]
    for start in range(0, len(table), _AT_ONCE):
        fields = (names[codes[start : start + _AT_ONCE]].tolist() for codes, names in columns)
        parts += [f"{line}\n" for line in map(",".join, zip(*fields, strict=True))]
    return "".join(parts)


def csv_parts(table: DataFrame) -> Iterator[bytes]:
    """``csv_text`` of a table that is too large for one text, encoded, some rows at a time."""
    for start in range(0, max(1, len(table)), _AT_ONCE):
        text = csv_text(table.iloc[start : start + _AT_ONCE])
        yield (text if start == 0 else text.partition("\n")[2]).encode()


def _as_fields(column: Series[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Of each row the number of its value, and every value as it stands in a file of CSV.

    A value is written once, however many rows bear it. Nothing, which has number -1, is the last.
    """
    import numpy as np
    from pandas import DataFrame

    codes, found = _numbered(column)
    values = [_as_text(value) for value in found] if column.dtype.kind not in "biufcM" else found
    written = DataFrame({"value": values, "end": 0}).to_csv(
        index=False, header=False, lineterminator=_END
    )
    fields = [field.removesuffix(",0") for field in written.split(_END)[:-1]]
    return codes, np.array([*fields, ""], object)


def _numbered(column: Series[Any]) -> tuple[NDArray[Any], Any]:
    """Of each row the number of its value, -1 for nothing, and the values; alike are the same."""
    import numpy as np
    from pandas import factorize

    kind = column.dtype.kind
    if kind == "O" and not hasattr(column, "cat"):  # anything: True and 1 are not written alike
        return np.arange(len(column)), column.tolist()
    if kind == "f" and column.dtype == np.float64:
        codes, bits = factorize(column.to_numpy().view(np.int64))  # nor are 0.0 and -0.0
        return codes, bits.view(np.float64)
    return factorize(column)


def _as_text(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    text = plain(value.replace("\r", "\\r"))
    return f"'{text}" if text.startswith(_FORMULA) else text
