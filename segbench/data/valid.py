"""Cases of which something counts: slices without are left out, files without are refused."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from segbench.data.coding import NOTHING_VALID
from segbench.data.faults import BadFileError, Faults, short_name
from segbench.data.sources import Source


def with_valid(
    sources: Sequence[Source],
    valid_of: Callable[[Source], NDArray[np.bool_] | None],
    faults: Faults,
) -> list[Source]:
    """The cases that have a valid pixel.

    Slices without one are left out, which ``faults`` notes; a picture or a whole volume without one
    is a fault. ``valid_of`` gives the valid pixels (*spatial) of a case, None for all.
    """
    found: list[Source] = []
    empty: list[Source] = []
    for source in sources:
        try:
            valid = valid_of(source)
        except BadFileError as error:
            faults.catch(error)
            continue
        (found if valid is None or valid.any() else empty).append(source)
    whole = {source.pair_id for source in found}
    for source in empty:
        if source.pair_id not in whole:
            faults.add(source.roi or source.mask, NOTHING_VALID)
    left_out = [source for source in empty if source.pair_id in whole]
    if left_out:
        first, count = left_out[0], len(left_out)
        faults.note(
            f"{'1 slice is' if count == 1 else f'{count} slices are'} left out, in which nothing "
            f"is marked as valid; the first is {first.case_id} "
            f"({short_name(first.roi or first.mask)})"
        )
    return found
