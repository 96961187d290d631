"""All masks of a data set read once, for what their values are."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from segbench.data.coding import count_values
from segbench.data.faults import BadFileError, Faults
from segbench.data.pairing import Pair
from segbench.data.rasters import read_mask, read_mask_and_palette
from segbench.data.sources import structure_bits
from segbench.data.survey import MAX_VALUES, MaskValues, Survey, survey_masks
from segbench.data.volumes import read_label_volume
from segbench.errors import UserError


def read_all_masks(
    pairs: Sequence[Pair],
    faults: Faults,
    *,
    volumes: bool,
    why_bad: Callable[[Pair, NDArray[np.integer]], str],
) -> Survey:
    """The values of every pair's mask; of several masks, a bit for each.

    ``why_bad`` says what is wrong with a pair's mask that can be read, "" where nothing is.

    Raises:
        UserError: masks that cannot be used, all of them named, or of palettes and numbers both.
    """
    found: list[MaskValues] = []
    values: set[int] = set()
    for pair in pairs:
        try:
            mask, indices = _read(pair, volumes=volumes)
        except BadFileError as error:
            faults.catch(error)
            continue
        found.append(MaskValues(pair.mask, count_values(mask), indices))
        values |= found[-1].counts.keys()
        if reason := why_bad(pair, mask):
            faults.add(pair.mask, reason)
        if len(values) > 2 * MAX_VALUES:  # not a coding; the rest need not be read
            break
    faults.raise_any()
    try:
        return survey_masks(found)
    except UserError as error:
        raise UserError(f"{faults.root}: {error}") from None


def _read(pair: Pair, *, volumes: bool) -> tuple[NDArray[np.integer], dict[int, int]]:
    if len(pair.masks) > 1:
        read = read_label_volume if volumes else read_mask
        return structure_bits([read(path) for path in pair.masks], pair.masks), {}
    if volumes:
        return read_label_volume(pair.mask), {}
    return read_mask_and_palette(pair.mask)
