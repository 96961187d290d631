"""What the marks of curves say: as sentences, and beside the one number of a network."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pandas import DataFrame

from segbench.api.marks import OTHER_DATA, adapted, distrusted
from segbench.plugins.naming import CLEAN
from segbench.tables.texts import few


def describe_marks(summary: DataFrame) -> Iterator[str]:
    """A sentence for the curves of a network that bear the same marks; the gravest first.

    Args:
        summary: one row per curve.
    """
    doubted, adjusted = dict[tuple[str, ...], list[str]](), dict[tuple[str, ...], list[str]]()
    for line in summary[summary["marks"] != ""].itertuples():
        data, marks = f"{line.dataset} {line.split}", str(line.marks)
        if doubts := distrusted(marks):
            doubted.setdefault((str(line.model), data, doubts), []).append(str(line.attack))
        if ways := adapted(marks):
            key = str(line.model), data, " and ".join(ways)
            adjusted.setdefault(key, []).append(str(line.attack))
    for (model, data, doubts), attacks in doubted.items():
        yield (
            f"{model} under {few(attacks)} on {data} is marked {doubts}: do not trust these "
            "numbers as they stand."
        )
    of_other = summary["marks"].map(lambda marks: OTHER_DATA in marks.split()).astype(bool)
    names = summary.loc[of_other, ["model", "dataset", "split"]].drop_duplicates()
    for model, dataset, split in names.itertuples(index=False, name=None):
        yield f"{model} was trained on other data than {dataset} {split}, or a version of it."
    for (model, data, how), attacks in adjusted.items():
        yield f"{model} under {few(attacks)} on {data} was attacked {how}."


def doubts_of(curves: DataFrame, subject: Sequence[str]) -> dict[tuple[str, ...], str]:
    """What speaks against a curve: by ``subject``, kind of budget (``clean`` of none) and attack.

    Args:
        curves: one row per curve, budget and metric.
        subject: the columns that name a model and its data.
    """
    found: dict[tuple[str, ...], set[str]] = {}
    marked = curves.loc[
        curves["marks"] != "", [*subject, "budget_kind", "budget", "attack", "marks"]
    ]
    marked = marked.assign(budget=marked["budget"] != 0)  # of clean scores or not: a few lines
    for line in marked.drop_duplicates().to_dict("records"):
        curve = (line["budget_kind"], line["attack"]) if line["budget"] else (CLEAN, CLEAN)
        key = *(str(line[name]) for name in subject), *map(str, curve)
        found.setdefault(key, set()).update(distrusted(str(line["marks"])).split())
    return {key: " ".join(sorted(words)) for key, words in found.items()}
