"""The headlines of several workspaces as one table; other data are never mixed in."""

from __future__ import annotations

from collections.abc import Sequence

from pandas import DataFrame, concat

from segbench.api import Tables
from segbench.store.workspace import Workspace
from segbench.tables.load import load_tables

_NETWORK = ["network_sha256", "dataset_fingerprint", "split", "of", "largest"]


def merged_tables(workspaces: Sequence[Workspace]) -> Tables:
    """Tables of which only ``headlines`` and ``notes`` hold anything.

    A network that several workspaces have counts as the last one has it; two networks of one name
    are told apart.

    Raises:
        UserError: a workspace holds no rows.
    """
    parts, notes = [], []
    for workspace in workspaces:
        tables = load_tables(workspace, depth="curves")
        parts.append(tables.headlines)
        notes += [f"{workspace}: {warning}" for warning in tables.warnings]
    merged = concat(parts, ignore_index=True).drop_duplicates(_NETWORK, keep="last")
    order = ["dataset", "split", "of", "largest", "dataset_fingerprint"]
    merged = merged.sort_values([*order, "model", "network_sha256"], ignore_index=True)
    nothing = DataFrame()
    return Tables(
        nothing, nothing, nothing, nothing, nothing, nothing, nothing,
        notes=[*dict.fromkeys(notes)],
        headlines=_told_apart(merged),
    )  # fmt: skip


def _told_apart(lines: DataFrame) -> DataFrame:
    pairs = lines[["model", "network_sha256"]].drop_duplicates()
    shared = set(pairs.loc[pairs["model"].duplicated(), "model"])
    names = [
        f"{model} ({sha[:8]})" if model in shared else model
        for model, sha in zip(lines["model"], lines["network_sha256"], strict=True)
    ]
    return lines.assign(model=names)
