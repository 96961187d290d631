"""Random numbers are a function of (seed, the case's content, draw) and of nothing else."""

from __future__ import annotations

import pytest
import torch

from segbench.engine.noise import CaseNoise

CPU = torch.device("cpu")
SHAPE = (1, 30, 30)


def noise(*cases: str, seed: int = 0) -> CaseNoise:
    return CaseNoise(seed, cases, CPU)


@pytest.mark.parametrize("kind", ["uniform", "normal"])
def test_a_case_has_its_numbers_in_any_batch_order_and_time(kind: str) -> None:
    alone = getattr(noise("b"), kind)(3, SHAPE)
    torch.manual_seed(7)
    batch = getattr(noise("a", "c", "b"), kind)(3, SHAPE)
    assert torch.equal(batch[2], alone[0])
    chosen = noise("a", "c", "b").select(torch.tensor([2, 0]))
    assert torch.equal(getattr(chosen, kind)(3, SHAPE), batch[[2, 0]])


@pytest.mark.parametrize("kind", ["uniform", "normal"])
def test_any_other_seed_case_or_draw_is_unrelated(kind: str) -> None:
    streams = [
        getattr(noise("a"), kind)(0, SHAPE),
        getattr(noise("a"), kind)(1, SHAPE),
        getattr(noise("b"), kind)(0, SHAPE),
        getattr(noise("a", seed=1), kind)(0, SHAPE),
    ]
    correlation = torch.corrcoef(torch.stack([s.flatten() for s in streams]))
    assert (correlation - torch.eye(len(streams))).abs().max() < 4 / 30  # four sigma


def test_names_that_only_join_to_the_same_text_are_different_cases() -> None:
    first = CaseNoise(1, ("23",), CPU).uniform(4, SHAPE)
    second = CaseNoise(12, ("3",), CPU).uniform(4, SHAPE)
    assert not torch.equal(first, second)


def test_what_a_case_is_called_changes_nothing() -> None:
    named = CaseNoise(0, ("a", "b"), CPU, ("first", "second"))
    assert torch.equal(named.uniform(0, SHAPE), noise("a", "b").uniform(0, SHAPE))
    assert named.select(torch.tensor([1])).case_ids == ("second",)


def test_uniform_fills_the_half_open_unit_interval() -> None:
    values = noise("a").uniform(0, (100, 100)).flatten().sort().values
    assert values.min() >= 0
    assert values.max() < 1
    expected = (torch.arange(10_000) + 0.5) / 10_000
    assert (values - expected).abs().max() < 1.63 / 100  # Kolmogorov-Smirnov, p = 0.01


def test_normal_is_standard() -> None:
    values = noise("a").normal(0, (100, 100))
    assert abs(values.mean().item()) < 4 / 100
    assert abs(values.var().item() - 1) < 4 * 2**0.5 / 100


def test_shape_and_type_are_as_promised() -> None:
    both = noise("a", "b")
    assert both.uniform(0, ()).shape == (2,)
    assert both.normal(0, (3, 4, 5, 6)).shape == (2, 3, 4, 5, 6)
    assert both.uniform(0, SHAPE).dtype == both.normal(0, SHAPE).dtype == torch.float32


def test_the_numbers_are_pinned() -> None:
    """A change of generator would unpair every stored curve."""
    found = noise("case").uniform(0, (3,))[0]
    torch.testing.assert_close(found, torch.tensor([0.5473, 0.8275, 0.0982]), atol=1e-4, rtol=0)
