"""What the marks of curves say, as sentences."""

from __future__ import annotations

from collections.abc import Iterator

from pandas import DataFrame

from segbench.api.marks import OTHER_DATA, adapted, distrusted
from segbench.tables.texts import few

_ATTACKED = ("model", "dataset", "split", "attack")


def describe_marks(summary: DataFrame, cases: DataFrame) -> Iterator[str]:
    """A sentence for the curves of a network that bear the same marks; the gravest first.

    How gradients were come by is said of attacks that took some: of no clean score, certificate,
    corruption or search without gradients.

    Args:
        summary: one row per curve.
        cases: one row per case, of attacks as they are.
    """
    taken = cases.loc[cases["backwards"] > 0, [*_ATTACKED]].drop_duplicates()
    led = {*taken.astype("str").itertuples(index=False, name=None)}
    doubted, adjusted = dict[tuple[str, ...], list[str]](), dict[tuple[str, ...], list[str]]()
    for line in summary[summary["marks"] != ""].itertuples():
        data, marks = f"{line.dataset} {line.split}", str(line.marks)
        if doubts := distrusted(marks):
            doubted.setdefault((str(line.model), data, doubts), []).append(str(line.attack))
        led_here = (str(line.model), line.dataset, line.split, str(line.attack)) in led
        if led_here and (ways := adapted(marks)):
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
