"""Certificates of many pixels: exact tests, family-wise error, and the least that can be scored."""

from __future__ import annotations

from itertools import product
from statistics import NormalDist

import numpy as np
import pytest
import torch
from scipy.stats import binomtest

from segbench.metrics.certificates import (
    candidates,
    chance_of,
    enough_votes,
    least_count,
    least_draws,
    p_values,
    radius,
)
from segbench.metrics.permutation import holm
from segbench.metrics.regions import score_regions, worst_regions

CORRECTIONS = ("holm", "bonferroni")


def counted(agreed: np.ndarray, draws: int) -> np.ndarray:
    return np.bincount(agreed, minlength=draws + 1)


def test_the_radius_is_sigma_times_the_normal_quantile() -> None:
    assert radius(0.25, 0.5) == 0
    assert radius(0.25, 0.75) == pytest.approx(0.25 * 0.6744897501960817)
    assert chance_of(radius(0.3, 0.9), 0.3) == 0.9


def test_p_values_are_those_of_the_one_sided_binomial_test() -> None:
    for count, p in enumerate(p_values(25, 0.75)):
        assert p == pytest.approx(binomtest(count, 25, 0.75, "greater").pvalue, rel=1e-9)


@pytest.mark.parametrize("correction", CORRECTIONS)
@pytest.mark.parametrize(
    ("tau", "alpha", "pixels"), [*product((0.5, 0.75, 0.95), (0.001, 0.05), (1, 4096, 10**8))]
)
def test_fewer_draws_than_the_least_certify_nothing_and_the_least_do(
    correction: str, tau: float, alpha: float, pixels: int
) -> None:
    least = least_draws(tau, alpha, pixels)
    for draws, certified in ((least - 1, False), (least, True)):
        if draws:
            all_agree = np.zeros(draws + 1, np.int64)
            all_agree[-1] = pixels
            assert (least_count(all_agree, tau, alpha, correction) <= draws) is certified


@pytest.mark.parametrize("draws", [20, 60, 137])
def test_certified_pixels_are_those_of_the_correction_done_one_by_one(draws: int) -> None:
    random = np.random.default_rng(draws)
    for _ in range(40):
        chances = random.choice([0.7, 0.8, 0.97, 1.0], size=random.integers(1, 300))
        agreed = random.binomial(draws, chances)
        p = p_values(draws, 0.75)[agreed]
        by_holm = agreed >= least_count(counted(agreed, draws), 0.75, 0.05, "holm")
        np.testing.assert_array_equal(by_holm, holm(p) <= 0.05)
        plain = agreed >= least_count(counted(agreed, draws), 0.75, 0.05, "bonferroni")
        np.testing.assert_array_equal(plain, p * len(p) <= 0.05)


@pytest.mark.parametrize("correction", CORRECTIONS)
@pytest.mark.parametrize("easy", [0, 150])
def test_the_family_wise_error_is_at_most_alpha(correction: str, easy: int) -> None:
    """Pixels whose probability is tau itself, the hardest that must not be certified; and others
    that are, which leave Holm's correction fewer tests for the rest."""
    draws, tau, alpha, images = 120, 0.75, 0.1, 3000
    chances = np.r_[np.full(150, tau), np.ones(easy)]
    random, wrong = np.random.default_rng(7), 0
    for _ in range(images):
        agreed = random.binomial(draws, chances)
        least = least_count(counted(agreed, draws), tau, alpha, correction)
        wrong += bool((agreed[:150] >= least).any())
    assert wrong / images <= alpha + 3 * np.sqrt(alpha * (1 - alpha) / images)
    uncorrected = np.mean([
        (random.binomial(draws, chances[:150]) >= np.flatnonzero(p_values(draws, tau) <= alpha)[0])
        .any()
        for _ in range(100)
    ])  # fmt: skip
    assert uncorrected > 0.9  # the law is no empty one


def test_a_class_is_chosen_that_the_test_would_certify_by_the_share_of_its_votes() -> None:
    draws, tau, alpha, pixels = 100, 0.75, 0.001, 1024
    votes = enough_votes(50, draws, tau, alpha, pixels)
    certified = [k for k in range(draws + 1) if p_values(draws, tau)[k] * pixels <= alpha]
    assert votes / 50 >= certified[0] / draws > (votes - 1) / 50
    assert enough_votes(50, 10, tau, alpha, pixels) == 51  # nothing is


def test_candidates_are_every_class_the_coarser_and_all() -> None:
    held = candidates(4, [(1, 2), (1, 2, 3)])
    wanted = ["1000", "0100", "0010", "0001", "0110", "0111", "1111"]
    assert ["".join(str(int(one)) for one in line) for line in held] == wanted


def test_no_answer_that_agrees_with_what_is_known_scores_lower_than_the_worst() -> None:
    """Every answer of six pixels and three classes; the worst of a class is reached."""
    held = candidates(3, [(1, 2)])
    random = np.random.default_rng(3)
    for _ in range(12):
        truth = torch.from_numpy(random.integers(0, 3, 6))
        certified = torch.from_numpy(random.choice([0, 1, 2, 3, 4, 4], 6))
        allowed = [np.flatnonzero(held[c]) for c in certified.tolist()]
        answers = torch.tensor(list(product(*allowed)))
        each = score_regions(answers, truth.expand(len(answers), -1), 3)
        numbers = []
        for label in (1, 2):
            own = truth == label
            may = torch.from_numpy(held[:, label])[certified]
            hit = own & (certified == label)
            numbers.append([int(x.sum()) for x in (hit, own, ~own & may)] + [6])
        worst = worst_regions(*torch.tensor(numbers, dtype=torch.float64)[None].unbind(-1))
        for name in ("jaccard", "dice", "accuracy", "sensitivity", "specificity"):
            least = getattr(each, name).amin(0)
            torch.testing.assert_close(getattr(worst, name)[0], least, equal_nan=True)
        assert torch.equal(worst.false_positives[0], each.false_positives.amax(0))


def test_quantiles_are_the_normal_distributions() -> None:
    assert radius(1.0, NormalDist().cdf(1.0)) == pytest.approx(1.0)
