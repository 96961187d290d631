"""How things are called in tables: as short as they can be and still be told apart."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from typing import TYPE_CHECKING

from segbench.plugins.naming import CLEAN, spelled, tell_apart
from segbench.tables.texts import by_key, distinct

if TYPE_CHECKING:
    from pandas import DataFrame


def name_apart(rows: DataFrame) -> DataFrame:
    """The rows with ``model``, ``dataset`` and ``attack`` renamed where a name stands for two.

    Two networks of one name become ``unet (0123abcd)`` and ``unet (4567cdef)``, likewise two data
    sets; two settings of an attack show the parameters in which they differ,
    and a transfer its source always.
    Clean is always just that.
    """
    for name, identity in (("model", "network_sha256"), ("dataset", "dataset_fingerprint")):
        bearers = Counter(own for own, _ in distinct(rows, [name, identity]))
        shared = {own for own, count in bearers.items() if count > 1}
        if shared:

            def apart(text: str, sha: str, among: Collection[str] = frozenset(shared)) -> str:
                return f"{text} ({sha[:8]})" if text in among else text

            rows = rows.assign(**{name: by_key(rows, [name, identity], apart)})
    keys = ["attack", "attack_params"]
    variants = sorted(distinct(rows, keys))
    labels = dict(zip(variants, tell_apart([spelled(*pair) for pair in variants]), strict=True))
    params = by_key(rows, keys, lambda attack, own: "{}" if attack == CLEAN else own)
    return rows.assign(attack=by_key(rows, keys, lambda *pair: labels[pair]), attack_params=params)
