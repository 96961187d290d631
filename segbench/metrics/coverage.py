"""Do the intervals hold what they claim? Samples from known distributions, counted.

For shapes of scores such as attacks leave behind, for a number of groups, of one case each or of
one to twelve, the share of samples whose interval holds the true mean: of the interval that is
used, and beside it of the plain t interval over cases' groups and of the percentile bootstrap. A
failure that is rare is missing from many small samples altogether; those are counted too, for no
interval that is made from a sample can know of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from scipy.special import ndtri
from scipy.stats import beta, expon, uniform
from scipy.stats import t as student

from segbench.metrics.quantiles import quantile_interval
from segbench.metrics.stats import Range, mean_intervals

GROUPS = (4, 8, 12, 16, 24, 48, 123)
SIZES = ("equal", "unequal")
FALLING = (*SIZES, "alike")
"""Groups of distances: of one case, of several, or of forty that fall at once or never, but for 5 %
strays, which fall each by itself.
"""

_RESAMPLES = 1000
_ALIKE, _STRAYS = 40, 0.05
_NOISE = 0.3  # of the way to the nearer end of the range: cases of a group about its mean

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Shape:
    """A distribution of group means.

    Attributes:
        draw: so many of them.
        mean: the true one.
        tail: which of them are the rare ones, None where there are none.
    """

    name: str
    draw: Callable[[Generator, tuple[int, int]], Array]
    mean: float
    tail: Callable[[Array], NDArray[np.bool_]] | None = None
    of: Range = "unit"


def _mixture(share: float, rare: tuple[float, float], usual: tuple[float, float]) -> Callable:  # type: ignore[type-arg]
    """Beta distributions, of which ``rare`` has that share."""

    def draw(random: Generator, shape: tuple[int, int]) -> Array:
        return np.where(
            random.random(shape) < share, random.beta(*rare, shape), random.beta(*usual, shape)
        )

    return draw


def _mean(share: float, rare: tuple[float, float], usual: tuple[float, float]) -> float:
    return float(share * beta.mean(*rare) + (1 - share) * beta.mean(*usual))


_BIMODAL = (0.5, (30.0, 4.0), (4.0, 20.0))
_RARE = (0.08, (2.0, 18.0), (60.0, 5.0))
_FALLEN = (0.15, (8.0, 6.0), (0.5, 20.0))

SHAPES = (
    Shape("flat", lambda random, shape: random.uniform(0.5, 1, shape), uniform.mean(0.5, 0.5)),
    Shape("skewed", lambda random, shape: random.beta(12, 1.2, shape), beta.mean(12, 1.2)),
    Shape("bimodal", _mixture(*_BIMODAL), _mean(*_BIMODAL)),
    Shape("rare failures", _mixture(*_RARE), _mean(*_RARE), lambda x: x < 0.5),
    Shape("few survivors", _mixture(*_FALLEN), _mean(*_FALLEN), lambda x: x > 0.3),
    Shape(
        "difference",
        lambda random, shape: 0.08 * (random.exponential(1, shape) - 1) + 0.02,
        0.08 * (expon.mean() - 1) + 0.02,
        of="signed",
    ),
)


@dataclass(frozen=True)
class Coverage:
    """What a simulation counted, as shares of its samples.

    Attributes:
        effective: groups, on average.
        unmarked: share of intervals without a mark that hold the truth; NaN where all are marked.
        missed: neither marked nor holding the truth.
        unseen: samples in which nothing of the tail is to be seen.
    """

    shape: str
    sizes: str
    groups: int
    effective: float
    used: float
    unmarked: float
    marked: float
    missed: float
    unseen: float
    t: float
    percentile: float


def simulate(shape: Shape, sizes: str, groups: int, trials: int, seed: int = 0) -> Coverage:
    """Coverage of the interval of a mean, of samples of that many groups."""
    random = np.random.default_rng([seed, groups, len(shape.name), len(sizes)])
    level = shape.draw(random, (trials, groups))
    size = np.ones((trials, groups), np.int64)
    if sizes == "unequal":
        size = random.integers(1, 13, (trials, groups))
    place = np.repeat(np.arange(trials * groups), size.ravel())
    values = level.ravel()[place]
    if sizes == "unequal":
        room = np.minimum(values, 1 - values) if shape.of == "unit" else np.full(len(values), 0.1)
        values = values + random.uniform(-1, 1, len(values)) * _NOISE * room
    found = mean_intervals(values, place // groups, place % groups, trials, of=shape.of)
    holds = (found.low <= shape.mean) & (shape.mean <= found.high)
    marked = found.doubt != ""
    sums = np.bincount(place, values, minlength=trials * groups).astype(np.float64)
    sums, sizes_of = sums.reshape(trials, groups), size.astype(np.float64)
    plain, resampled = _plain_t(sums, sizes_of), _percentile(sums, sizes_of, random)
    unseen = ~shape.tail(level).any(1) if shape.tail else np.zeros(trials, bool)
    return Coverage(
        shape.name,
        sizes,
        groups,
        effective=float(found.effective.mean()),
        used=float(holds.mean()),
        unmarked=float(holds[~marked].mean()) if not marked.all() else float("nan"),
        marked=float(marked.mean()),
        missed=float((~holds & ~marked).mean()),
        unseen=float(unseen.mean()),
        t=_share(plain, shape.mean),
        percentile=_share(resampled, shape.mean),
    )


def simulate_quantile(
    level: float, sizes: str, groups: int, trials: int, seed: int = 0, *, falling: float = 1.0
) -> float:
    """Coverage of the interval of a quantile of distances, lognormal between and within groups.

    Args:
        sizes: one of ``FALLING``.
        falling: the share of all cases that ever fall; the others' distance is infinite.
    """
    random = np.random.default_rng([seed, groups, int(100 * level), len(sizes)])
    spread = np.sqrt(0.5) if sizes == "unequal" else 1.0
    truth, most = np.exp(ndtri(level)), np.exp(ndtri(falling))
    truth = truth if level <= falling else np.inf
    held = 0
    for _ in range(trials):
        size = np.full(groups, _ALIKE if sizes == "alike" else 1)
        if sizes == "unequal":
            size = random.geometric(0.3, groups)
        member = np.repeat(np.arange(groups), size)
        logs = random.normal(0, spread, groups)[member]
        if sizes == "unequal":
            logs = logs + random.normal(0, spread, len(member))
        if sizes == "alike":
            stray = random.random(len(member)) < _STRAYS
            logs = np.where(stray, random.normal(0, spread, len(member)), logs)
        distances = np.exp(logs)
        distances[distances > most] = np.inf
        _, low, high = quantile_interval(distances, member, level)
        held += low <= truth <= high
    return held / trials


def simulate_all(trials: int) -> Iterator[Coverage]:
    """Every shape, sizes and number of groups."""
    for shape in SHAPES:
        for sizes in SIZES:
            for groups in GROUPS:
                yield simulate(shape, sizes, groups, trials)


def _share(bounds: tuple[Array, Array], truth: float) -> float:
    return float(((bounds[0] <= truth) & (truth <= bounds[1])).mean())


def _plain_t(sums: Array, sizes: Array) -> tuple[Array, Array]:
    """Mean ± t standard errors of the ratio, with G - 1 degrees of freedom; all (T, G)."""
    groups = sums.shape[1]
    mean = sums.sum(1) / sizes.sum(1)
    residual = (sums - mean[:, None] * sizes) / sizes.sum(1, keepdims=True)
    error = np.sqrt(groups / (groups - 1) * (residual**2).sum(1))
    reach = student.ppf(0.975, groups - 1) * error
    return mean - reach, mean + reach


def _percentile(sums: Array, sizes: Array, random: Generator) -> tuple[Array, Array]:
    """The percentile bootstrap over groups, the same resamples for all trials."""
    groups = sums.shape[1]
    drawn = random.multinomial(groups, [1 / groups] * groups, _RESAMPLES).astype(np.float64)
    ratios = (drawn @ sums.T) / (drawn @ sizes.T)  # (_RESAMPLES, T)
    low, high = np.percentile(ratios, [2.5, 97.5], axis=0)
    return low, high
