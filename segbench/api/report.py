"""What a report is given, and what it does with it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from pandas import DataFrame

TELLING = 0.02
"""A difference of mean Jaccard that a comparison of two networks should tell apart from none."""

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
class Tables:
    """Everything a report may show, computed once from the stored rows (see ``tables/build.py``).

    Attributes:
        rows: one row per case and class, the store's columns.
        cases: one row per case: every metric averaged over the classes its label has; minimum-norm
            attacks as points at the eps values of others.
        curves: one row per model, data set, attack and budget: mean, interval, drop, cases; the
            worst of several attacks is one more.
        summary: one row per model, data set and attack: one column per eps, area under the curve.
        distances: one row per minimum-norm attack: the median and quartiles of its distances, and
            how many cases fell.
        seeds: mean and spread over the training seeds of a network, at every point of its curves.
        comparisons: paired differences of two networks' Jaccard, at every point of both curves,
            with p-values and the groups they would need; ``main`` says whether a page has room.
        transfers: who is fooled by whose images, a matrix per attack and eps.
        notes: sentences that a reader must see beside the numbers.
        attacks: attack label -> its complete parameters.
        provenance: versions, devices, weights and fingerprints behind the rows.
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


class Report(Protocol):
    """A plug-in of the group ``segbench.reports``: a pure function of the stored rows."""

    def __call__(self, tables: Tables, directory: Path) -> Sequence[Path]:
        """Write the report's files into ``directory`` and return their paths."""
        ...


def csv_text(table: DataFrame) -> str:
    """A table as CSV, of which a spreadsheet computes nothing when it is opened.

    A text that a spreadsheet would take for a formula, such as a case called ``=cmd()``, gets a
    ``'`` before it, as does one that begins with ``'``; whoever reads the file takes one away. A
    carriage return, at which readers of CSV may begin a line, is written out.
    """
    texts = {
        str(name): [_as_text(value) for value in column]
        for name, column in table.items()
        if column.dtype.kind not in "biufcM"
    }
    written: str = table.assign(**texts).to_csv(index=False, lineterminator="\n")
    return written


def _as_text(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    text = value.replace("\r", "\\r")
    return f"'{text}" if text.startswith(_FORMULA) else text
