"""Projection onto ball and box, and the last check."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from segbench.api import Budget
from segbench.engine import ball
from segbench.errors import MachineError

KINDS = ("linf", "l2")
BUDGETS = st.builds(
    Budget,
    st.sampled_from(KINDS),
    st.sampled_from(
        [Fraction(0), Fraction(1, 510), Fraction(8, 255), Fraction(3, 10), Fraction(5)]
    ),
)


def pair(seed: int, *shape: int) -> tuple[Tensor, Tensor]:
    """A clean image with pixels on the box, and something far from it."""
    generator = torch.Generator().manual_seed(seed)
    clean = (2 * torch.rand(shape, generator=generator) - 0.5).clamp(0, 1)
    return clean, clean + 10 ** (6 * torch.rand((), generator=generator) - 5) * torch.randn(
        shape, generator=generator
    )


def names(count: int) -> tuple[str, ...]:
    return tuple(f"case-{n}" for n in range(count))


@settings(max_examples=50, deadline=None)
@given(BUDGETS, st.integers(0, 1000))
def test_what_is_projected_passes_the_check_and_stays_where_it_is(
    budget: Budget, seed: int
) -> None:
    clean, far = pair(seed, 3, 2, 5, 7)
    once = ball.project(far, clean, budget)
    ball.check(once, clean, budget, "attack", names(3))
    torch.testing.assert_close(ball.project(once, clean, budget), once, atol=1e-6, rtol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_what_lies_inside_is_not_moved(kind: Any) -> None:
    clean, _ = pair(0, 3, 2, 5, 7)
    inside = (clean + 0.001 * torch.randn_like(clean)).clamp(0, 1)
    found = ball.project(inside, clean, Budget(kind, Fraction(1)))
    torch.testing.assert_close(found, inside, atol=1e-7, rtol=0)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("eps", [Fraction(1, 10), Fraction(100)])
def test_large_images_pass_too(kind: Any, eps: Fraction) -> None:
    """Sums of half a million squares in fp32 keep their promise in float64."""
    clean, far = pair(1, 1, 1, 80, 80, 80)
    budget = Budget(kind, eps)
    ball.check(ball.project(far, clean, budget), clean, budget, "attack", names(1))


def test_l2_distances_are_those_of_numpy() -> None:
    import numpy as np

    clean, far = pair(2, 3, 1, 4, 4)
    found = ball.project(far, clean, Budget("l2", Fraction(1, 4)))
    ball.check(found, clean, Budget("l2", Fraction(1, 4)), "attack", names(3))
    linf, l2 = ball.distances(found, clean)
    delta = (found.numpy().astype(np.float64) - clean.numpy()).reshape(3, -1)
    np.testing.assert_allclose(l2.numpy(), np.linalg.norm(delta, axis=1), rtol=1e-12)
    np.testing.assert_allclose(linf.numpy(), np.abs(delta).max(1), rtol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_an_image_outside_its_ball_is_an_error_by_name(kind: Any) -> None:
    clean = torch.full((3, 1, 4, 4), 0.5)
    tampered = clean.clone()
    tampered[1, 0, 2, 2] += 0.1 * 1.0001
    with pytest.raises(MachineError, match=rf"liar left its {kind} ball on case case-1"):
        ball.check(tampered, clean, Budget(kind, Fraction(1, 10)), "liar", names(3))


@pytest.mark.parametrize("value", [-1e-7, 1 + 1e-6, float("inf")])
def test_an_image_outside_the_box_is_an_error_by_name(value: float) -> None:
    clean = torch.full((3, 1, 4, 4), 0.5)
    tampered = clean.clone()
    tampered[2, 0, 0, 0] = value
    with pytest.raises(MachineError, match=r"liar left .* on case case-2"):
        ball.check(tampered, clean, Budget("linf", Fraction(1)), "liar", names(3))


@pytest.mark.parametrize("kind", ["linf", "l2", "none"])
def test_an_image_that_is_nan_is_an_error_by_name(kind: Any) -> None:
    clean = torch.full((2, 1, 4, 4), 0.5)
    tampered = clean.clone()
    tampered[1, 0, 3, 3] = torch.nan
    with pytest.raises(MachineError, match=r"liar left .* on case case-1"):
        ball.check(tampered, clean, Budget(kind, Fraction(1)), "liar", names(2))
