"""The nearest valid name, for errors about an unknown one."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def suggest(name: str, valid: Iterable[str]) -> str:
    """The tail of an error about an unknown name: the nearest valid one, and all of them."""
    valid = sorted(valid)
    near = difflib.get_close_matches(name, valid, n=1, cutoff=0.5)
    guess = f"; did you mean {near[0]!r}?" if near else ""
    return f"{guess} (valid: {', '.join(valid) or 'none'})"
