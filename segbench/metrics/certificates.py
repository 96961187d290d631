"""Certificates of many pixels at once: binomial tests of draws, and what they prove of a Jaccard.

Randomised smoothing (Cohen, Rosenfeld & Kolter, ICML 2019, arXiv 1902.02918). Let f give every
pixel one of K classes, and let the *smoothed* network g give each pixel the class that f gives it
most often on x + N(0, σ² I). If f gives a pixel class c with probability above τ >= 1/2 at x, then
g gives it c at every x + δ with ‖δ‖₂ <= σ Φ⁻¹(τ), where that probability is above 1/2 still.

For segmentation (Fischer, Baader & Vechev, ICML 2021) that is tested for all pixels: a draw's
agreement is a coin of probability p, the null hypothesis p <= τ is rejected by the one-sided
binomial test, and the family of tests of one image is corrected, so that with probability at least
1 - α *all* its certified pixels are certified rightly. In an adaptive certificate (Anani, Lorenz,
Schiele & Fritz, ICML 2024, arXiv 2402.08400) a pixel is tested for a set of classes that contains
its finest one, chosen from other draws than the test's, so that there is still one test a pixel.
What is certified then is a network that decides from coarse to fine: of the coarser classes, and
those that are in none, the most probable, then the most probable within it. (The plain mode may lie
outside a set of probability 0.6: 0.3 and 0.3 within, 0.4 without.) A set whose probability is above
1/2 has the most of its siblings, and so has all that contains it; so the answer lies in it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Correction = Literal["holm", "bonferroni"]


def radius(sigma: float, tau: float) -> float:
    """σ Φ⁻¹(τ), in the units of the image; 0 at τ = 1/2."""
    return sigma * NormalDist().inv_cdf(tau)


def chance_of(distance: float, sigma: float) -> float:
    """The τ of that radius: Φ(radius / σ), rounded as people write it."""
    return round(NormalDist().cdf(distance / sigma), 9)


def least_draws(tau: float, alpha: float, tests: int) -> int:
    """The fewest test draws with which any of so many pixels can be certified at all.

    Where all n agree the p-value is τⁿ; the first of m tests has to be at most α / m, under Holm's
    correction as under Bonferroni's.
    """
    draws = max(1, math.ceil(math.log(alpha / max(1, tests)) / math.log(tau)))
    return draws + (tau**draws * tests > alpha)  # the logarithms are rounded


def p_values(draws: int, tau: float) -> NDArray[np.float64]:
    """(n + 1,): of each number of agreements k the chance of as many or more where p is τ."""
    from scipy.stats import binom

    found: NDArray[np.float64] = binom.sf(np.arange(draws + 1) - 1, draws, tau)
    return found


def least_count(pixels: NDArray[np.int64], tau: float, alpha: float, correction: Correction) -> int:
    """The number of agreements from which on a pixel is certified; n + 1 where none is.

    Args:
        pixels: (n + 1,), how many pixels had each number of agreements; all of them are tested.
        tau: the probability that a class must be shown to exceed.
        alpha: the chance, at most, that any pixel is certified that should not be.
        correction: Holm's steps down, or Bonferroni's.
    """
    draws, left = len(pixels) - 1, int(pixels.sum())
    chances, least = p_values(draws, tau), draws + 1
    for count in range(draws, -1, -1):
        if chances[count] * left > alpha:
            break
        least = count
        left -= int(pixels[count]) if correction == "holm" else 0
    return least


def enough_votes(votes: int, draws: int, tau: float, alpha: float, tests: int) -> int:
    """How many of the choosing draws stand for a class that its test would certify.

    The finest class with so many is tested: the share of its ``votes`` is the least share of the
    test's ``draws`` that is certified among so many tests, by Bonferroni's correction. More than
    all where no share is.
    """
    certified = np.flatnonzero(p_values(draws, tau) * tests <= alpha)
    return math.ceil(votes * int(certified[0]) / draws) if len(certified) else votes + 1


def candidates(classes: int, coarser: Sequence[Sequence[int]]) -> NDArray[np.bool_]:
    """(C, K): which classes each candidate of a test holds: each class, the coarser, then all.

    The last, all of them, is what is known of a pixel that was not certified. Coarser ones stand in
    order of their size.
    """
    held = np.zeros((classes + len(coarser) + 1, classes), bool)
    held[:classes] = np.eye(classes, dtype=bool)
    for place, members in enumerate(coarser, start=classes):
        held[place, list(members)] = True
    held[-1] = True
    return held
