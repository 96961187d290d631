"""When Python need not look for garbage: while much is made of which nothing is thrown away."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def none_expected() -> Iterator[None]:
    """The cells of a large grid, and the like: looking through all of it takes a third of the time.

    Only references in circles wait; whatever else is no longer used goes at once, as always.
    """
    before = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if before:
            gc.enable()


@contextmanager
def importing() -> Iterator[None]:
    """Imports: hundreds of thousands of objects that stay as long as the process does.

    They are set apart, and never looked through, not even at the end, which takes half a second.
    Where everything had been imported before, nothing is. What was computed since the last time,
    such as a training, is looked through before, so that no garbage stays with them.
    """
    before = len(sys.modules)
    with none_expected():
        yield
        if len(sys.modules) > before:
            if gc.get_freeze_count():
                gc.collect()
            gc.freeze()
