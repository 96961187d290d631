"""Cases whose label has no foreground: they have no overlap, and are in no mean of one."""

from __future__ import annotations

from collections.abc import Iterator

from pandas import DataFrame

from segbench.tables.certified import is_certified


def describe_unscored(cases: DataFrame) -> tuple[list[str], list[str]]:
    """Warnings of data sets that have no scored case at all, and notes of those that lack some.

    Args:
        cases: one row per case.
    """
    warnings, notes = list[str](), list[str]()
    for where, unscored, count in _counted(cases):
        if unscored == count:
            warnings.append(
                f"{where}: no case has foreground in its label, so that nothing has a Jaccard and "
                "no network a number; its rows hold accuracy and specificity."
            )
        elif unscored:
            have = "has" if unscored == 1 else "have"
            notes.append(
                f"{where}: {unscored} of {count} cases {have} no foreground in the label and no "
                "Jaccard: tables and comparisons are over the others."
            )
    return warnings, notes


def _counted(cases: DataFrame) -> Iterator[tuple[str, int, int]]:
    """Of each data set and split how many cases have no score, and how many there are."""
    own = cases.loc[~is_certified(cases), ["dataset", "split", "case_id", "jaccard"]]
    for (dataset, split), part in own.groupby(["dataset", "split"], sort=True, observed=True):
        scored = part["case_id"][part["jaccard"].notna()].nunique()
        count = part["case_id"].nunique()
        yield f"{dataset} {split}", count - scored, count
