"""What fails: by structure and by its size, and how the cases of a point are spread.

The size of a structure is not stored, but follows from what is: with T pixels of it in the label,
FP false positives, sensitivity S and Jaccard J, the true positives are S T = J (T + FP), hence
T = J FP / (S - J) wherever a prediction has false positives.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from pandas import DataFrame, concat, cut

from segbench.metrics.numbering import first_of, number_of
from segbench.plugins.naming import CLEAN
from segbench.tables.certified import is_certified

THIRDS = ("small", "middle", "large")
BINS = 20
_CURVE = [
    "model", "network_sha256", "dataset", "dataset_fingerprint", "split", "attack",
    "attack_params", "budget_kind", "budget",
]  # fmt: skip
_SPENT = ["forwards", "backwards", "seconds"]
_STRUCTURE = ["dataset", "dataset_fingerprint", "split", "case_id", "class_id"]


def structure_sizes(rows: DataFrame) -> DataFrame:
    """``_STRUCTURE`` and ``pixels``, a row per structure whose size can be told."""
    room = rows["sensitivity"] - rows["jaccard"]
    told = rows[(room > 1e-6) & (rows["jaccard"] > 1e-6) & (rows["false_positives"] > 0)]
    pixels = told["jaccard"] * told["false_positives"] / room
    sizes = told[_STRUCTURE].assign(pixels=pixels.round())
    return sizes.groupby(_STRUCTURE, sort=True, observed=True)["pixels"].median().reset_index()


def by_structure(rows: DataFrame) -> DataFrame:
    """Mean Jaccard of each structure at every point, all of it and by thirds of its size.

    Args:
        rows: one row per case, class and attack seed, with the names that the tables show; seeds
            are averaged first.

    Returns:
        ``_CURVE``, ``class_name``, ``third`` (``all``, or of ``THIRDS``, from the data set's own
        structures of that name), ``smallest`` and ``largest`` of its sizes in pixels, the ``mean``
        and how many ``cases`` it is over. No thirds where fewer than nine sizes can be told.
    """
    keys = [*_CURVE, "class_name"]
    needed = dict.fromkeys([*keys, *_STRUCTURE, "jaccard", "sensitivity", "false_positives"])
    present = rows[[*needed]][rows["jaccard"].notna() & ~is_certified(rows)]
    sizes = structure_sizes(present)
    present = _over_seeds(present, keys)
    number, facts = _numbered(present, keys)
    whole = present["jaccard"].groupby(number).agg(["mean", "count"])
    whole = facts.join(whole).assign(third="all", smallest=np.nan, largest=np.nan)
    names = present[[*_STRUCTURE, "class_name"]].drop_duplicates()
    sizes = sizes.merge(names, on=_STRUCTURE)
    parts = [whole]
    for _, own in sizes.groupby(
        ["dataset", "dataset_fingerprint", "split", "class_name"], observed=True
    ):
        edges = np.quantile(own["pixels"], [0, 1 / 3, 2 / 3, 1])
        if len(own) >= 9 and len(set(edges.tolist())) == 4:
            third = cut(own["pixels"], edges.tolist(), labels=[*THIRDS], include_lowest=True)
            sized = own.assign(third=third.astype(str))
            points = present.merge(sized[[*_STRUCTURE, "pixels", "third"]], on=_STRUCTURE)
            number, facts = _numbered(points, [*keys, "third"])
            means = points["jaccard"].groupby(number).agg(["mean", "count"])
            ends = points["pixels"].groupby(number).agg(smallest="min", largest="max")
            parts.append(facts.join(means).join(ends))
    columns = [*keys, "third", "smallest", "largest", "mean", "count"]
    found = [
        part[columns].astype(dict.fromkeys([*_CURVE[:-1], "class_name", "third"], "str"))
        for part in parts
    ]
    return concat(found, ignore_index=True).rename(columns={"count": "cases"})


def _over_seeds(rows: DataFrame, keys: list[str]) -> DataFrame:
    """One row per structure of a point: its mean Jaccard over attack seeds."""
    number, own = _numbered(rows, list(dict.fromkeys([*keys, *_STRUCTURE])))
    return own.assign(jaccard=rows["jaccard"].groupby(number).mean())


def _numbered(rows: DataFrame, keys: list[str]) -> tuple[NDArray[np.int64], DataFrame]:
    """The number of each row's combination of keys, and the keys by that number."""
    number = number_of(rows, keys)
    first = first_of(number)
    return number, rows[keys].iloc[first].reset_index(drop=True)


def spread_of_cases(cases: DataFrame) -> DataFrame:
    """How many cases of each point have a Jaccard in each of 20 equal parts of [0, 1].

    Returns:
        ``_CURVE`` and ``bin00`` to ``bin19``, with ``median``, ``least`` and ``most``.
    """
    scored = cases[[*_CURVE, "jaccard"]][cases["jaccard"].notna() & ~is_certified(cases)]
    grouped = scored.groupby(_CURVE, sort=True, observed=True)
    number = grouped.ngroup().to_numpy(np.int64)
    bins = np.minimum((scored["jaccard"].to_numpy() * BINS).astype(np.int64), BINS - 1)
    counts = np.bincount(
        number * BINS + bins, minlength=(number.max() + 1) * BINS if len(number) else 0
    )
    table = grouped["jaccard"].agg(median="median", least="min", most="max").reset_index()
    parts = counts.reshape(-1, BINS)
    return table.assign(**{f"bin{n:02d}": parts[:, n] for n in range(BINS)})


def costs(rows: DataFrame) -> DataFrame:
    """What every attack on every network has taken: scores, forwards, gradients, seconds.

    Args:
        rows: one row per case, class and attack seed, with the names that the tables show; each
            class says what all of them took together.
    """
    keys = ["model", "dataset", "split", "attack"]
    attacked = rows[(rows["attack"] != CLEAN) & ~is_certified(rows)]
    every = number_of(attacked, [*keys, *_CURVE, "case_id", "seed"])
    attacked = attacked[[*keys, *_SPENT]].iloc[first_of(every)]
    grouped = attacked.groupby(keys, sort=True, observed=True)
    table = grouped[_SPENT].sum()
    return table.assign(scores=grouped.size()).reset_index()
