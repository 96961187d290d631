"""Low-frequency PGD: where its perturbation lives, and how near it comes to the best one there."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from scipy.fft import dct, dctn
from scipy.optimize import linprog
from torch import Tensor, nn

from segbench.errors import UserError
from segbench.plugins.attack import load_attack
from segbench_attacks.frequency import low_frequencies

EPS = 8 / 255


@pytest.mark.parametrize("shape", [(3, 2, 12, 7), (2, 1, 6, 5, 8), (1, 1, 9, 1)])
@pytest.mark.parametrize("share", [0.2, 0.5])
def test_only_the_lowest_coefficients_of_each_axis_are_left(
    shape: tuple[int, ...], share: float
) -> None:
    values = torch.rand(shape, generator=torch.Generator().manual_seed(1))
    axes = tuple(range(2, len(shape)))
    before = dctn(values.numpy(), axes=axes, norm="ortho")
    after = dctn(low_frequencies(values, share).numpy(), axes=axes, norm="ortho")
    kept = [slice(math.ceil(share * length)) for length in shape[2:]]
    expected = np.zeros_like(before)
    expected[:, :, *kept] = before[:, :, *kept]
    np.testing.assert_allclose(after, expected, atol=1e-5)


class Plane(nn.Module):
    """Every pixel's logit is ``v . x + 10``."""

    def __init__(self) -> None:
        super().__init__()
        self.v = torch.randn(64, generator=torch.Generator().manual_seed(3))

    def forward(self, images: Tensor) -> Tensor:
        return (images.flatten(1) @ self.v + 10)[:, None, None, None].expand(-1, 1, 8, 8)


@pytest.mark.parametrize("share", [0.125, 0.25, 0.5])
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_it_comes_near_the_best_smooth_perturbation(
    norm: str, share: float, prepared: Any, run: Any
) -> None:
    """Within a tenth of the linear program's optimum in L-infinity, a thousandth in L2."""
    net, images = Plane(), torch.full((2, 1, 8, 8), 0.5)
    network = prepared(net, images)
    truth = torch.ones(2, 8, 8).long()
    found = run(network, load_attack(f"frequency:share={share},norm={norm}"), images, truth).images
    delta = found - images
    torch.testing.assert_close(low_frequencies(delta, share), delta, atol=1e-6, rtol=0)
    cosines = dct(np.eye(8), axis=0, norm="ortho")[: math.ceil(share * 8)]
    basis = np.kron(cosines, cosines)  # (coefficients, pixels)
    slope = basis @ net.v.numpy()
    if norm == "l2":
        best = -EPS * np.linalg.norm(slope)
    else:
        limits = np.vstack([basis.T, -basis.T]), np.full(128, EPS)
        best = linprog(slope, *limits, bounds=(None, None)).fun
    gained = (delta.flatten(1) @ net.v).numpy() / best
    assert gained.min() >= (0.999 if norm == "l2" else 0.9), gained
    assert gained.max() <= 1 + 1e-5


@pytest.mark.parametrize(
    ("text", "expected"), [("share=0", "share=0"), ("share=1.5", "share=1.5"), ("norm=l1", "l1")]
)
def test_what_it_cannot_do_is_refused(text: str, expected: str) -> None:
    with pytest.raises(UserError, match=expected):
        load_attack(f"frequency:{text}")
