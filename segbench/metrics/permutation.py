"""Is a difference more than chance? Permutation of who is who, and Holm's correction for many.

If two networks are alike, each patient's difference might as well have the other sign; the p-value
is the share of all signs that give a mean difference as large (Fisher, The Design of Experiments,
1935, section 21). Of many such tests some come out small by chance: Holm's step-down procedure
(Scand. J. Stat. 6, 1979) keeps the chance of a single false finding in the family at its level.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import count

import numpy as np
from numpy.typing import ArrayLike, NDArray

LEVEL = 0.05
"""The p-value, corrected for all tests, up to which a difference counts as more than chance."""

SEED = 0  # fixed: the same rows give the same report
_EXACT = 13  # groups whose signs are tried out, all of them
_DRAWS = 10_000
_PER_TEST = 40  # draws at least: 2 / LEVEL, so that Holm's correction leaves room for a finding
_SAME = 1e-6  # of a sum: floating point

Array = NDArray[np.float64]


def sign_flip(sums: ArrayLike, tests: int = 1) -> Array:
    """Two-sided p-values (P,) of the differences of P pairs.

    Args:
        sums: (G, P), of each group its cases' differences added up; a group of which one network
            has no score adds 0.
        tests: of how many, at most, these will be corrected.
    """
    differences = np.asarray(sums, dtype=np.float64)
    observed = np.abs(differences.sum(0))  # (P,)
    signs = _signs(len(differences), draws(tests))  # (R, G)
    reached = np.zeros(differences.shape[1])
    for start in range(0, len(signs), 2000):
        some = signs[start : start + 2000].astype(np.float32)
        flipped = np.abs(some @ differences.astype(np.float32))
        reached += (flipped >= observed * (1 - _SAME) - 1e-12).sum(0)
    if len(differences) <= _EXACT:
        return reached / len(signs)
    return (reached + 1) / (len(signs) + 1)


def draws(tests: int) -> int:
    """As many draws of signs as so many tests need, where not all signs are tried."""
    return max(_DRAWS, _PER_TEST * tests)


def smallest(groups: int, tests: int = 1) -> float:
    """The smallest p-value that so many groups can have; where signs are drawn, on average."""
    if groups <= _EXACT:
        return 2.0 ** (1 - groups)
    drawn = draws(tests)
    return (drawn * 2.0 ** (1 - groups) + 1) / (drawn + 1)


def fewest_groups(tests: int) -> int:
    """The fewest groups of which a difference can be told from chance, as one of so many tests."""
    return next(n for n in count(2) if smallest(n, tests) * tests <= LEVEL)


def holm(p_values: ArrayLike) -> Array:
    """The p-values (P,) corrected for their number; NaN, a test that was not made, stays."""
    values = np.asarray(p_values, dtype=np.float64)
    made = np.flatnonzero(~np.isnan(values))
    corrected = np.full(len(values), np.nan)
    order = made[np.argsort(values[made], kind="stable")]
    factors = np.arange(len(made), 0, -1)
    corrected[order] = np.minimum(1, np.maximum.accumulate(values[order] * factors))
    return corrected


@lru_cache(maxsize=4)
def _signs(groups: int, drawn: int) -> NDArray[np.int8]:
    """All signs of few groups, or so many draws of many; (R, G) of -1 and 1."""
    if groups <= _EXACT:
        numbers = np.arange(2**groups)[:, None]
        bits = (numbers >> np.arange(groups) & 1).astype(np.int8)
    else:
        bits = np.random.default_rng(SEED).integers(0, 2, (drawn, groups), dtype=np.int8)
    return np.asarray(2 * bits - 1, np.int8)
