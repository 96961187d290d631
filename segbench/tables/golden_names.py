"""Golden rows whose names are others today, as another network or data set now shares them.

Tables tell two things of one name apart by a hash: ``folder`` becomes ``folder (a9d213a6)`` once
another ``folder`` lies in the workspace, and is still what the golden file calls ``folder``.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping

from segbench.tables.golden_cases import Key, Scores

_TOLD_APART = re.compile(r" \([0-9a-f]{8}\)$")  # see labels.py


def is_told_apart(name: str) -> bool:
    """Whether a name is one that several things bear."""
    return bool(_TOLD_APART.search(name))


def namesakes(key: Key, today: Collection[Key]) -> list[Key]:
    """Today's points that bear the names of a golden row, but for what tells them apart."""
    return [own for own in today if own != key and _bare(own) == _bare(key)]


def same_by_contents(
    golden: Collection[Key],
    today: Collection[Key],
    now: Mapping[Key, Scores],
    then: Mapping[Key, Scores],
) -> dict[Key, Key]:
    """Golden row -> today's point that is the same under another name.

    One that is the only namesake over the same contents, of the only golden row without a point
    that it can be. What no content decides, as which of two networks it was, is left.
    """
    lacking, free = set(golden) - set(today), set(today) - set(golden)
    found = {}
    for key in sorted(lacking):
        same = [own for own in namesakes(key, free) if _contents(now, own) == _contents(then, key)]
        if len(same) == 1 and _contents(then, key):
            found[key] = same[0]
    claimed = [*found.values()]
    return {key: own for key, own in found.items() if claimed.count(own) == 1}


def _bare(key: Key) -> Key:
    model, dataset, *rest = key
    return (_TOLD_APART.sub("", model), _TOLD_APART.sub("", dataset), *rest)  # type: ignore[return-value]


def _contents(scores: Mapping[Key, Scores], key: Key) -> dict[str, str]:
    """Case -> content; none where one is not known."""
    own = scores.get(key)
    if own is None or not all(own.contents):
        return {}
    return dict(zip(own.case_ids, own.contents, strict=True))
