"""How things are called in tables: as short as they can be and still be told apart."""

from __future__ import annotations

from typing import TYPE_CHECKING

from segbench.plugins.naming import CLEAN, spelled, tell_apart

if TYPE_CHECKING:
    from pandas import DataFrame


def name_apart(rows: DataFrame) -> DataFrame:
    """The rows with ``model``, ``dataset`` and ``attack`` renamed where a name stands for two.

    Two networks of one name become ``unet (0123abcd)`` and ``unet (4567cdef)``, likewise two data
    sets; two settings of an attack show the parameters in which they differ,
    and a transfer its source always.
    Clean is always just that.
    """
    rows = rows.copy()
    for name, identity in (("model", "network_sha256"), ("dataset", "dataset_fingerprint")):
        pairs = rows[[name, identity]].drop_duplicates()
        shared = set(pairs.loc[pairs[name].duplicated(), name])
        full = rows[name] + " (" + rows[identity].str[:8] + ")"
        rows[name] = rows[name].where(~rows[name].isin(shared), full)
    attacks = list(zip(rows["attack"], rows["attack_params"], strict=True))
    variants = sorted(set(attacks))
    labels = dict(zip(variants, tell_apart([spelled(*pair) for pair in variants]), strict=True))
    rows = rows.assign(attack=[labels[attack] for attack in attacks])
    rows["attack_params"] = rows["attack_params"].where(rows["attack"] != CLEAN, "{}")
    return rows
