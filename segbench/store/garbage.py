"""When Python need not look for garbage: while much is made of which nothing is thrown away."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def none_expected() -> Iterator[None]:
    """Imports, and the cells of a large grid: looking through all of it takes a third of the time.

    Only references in circles wait; whatever else is no longer used goes at once, as always.
    """
    before = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if before:
            gc.enable()
