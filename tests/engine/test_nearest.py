"""The nearest fallen image: decided by the score alone, and halved towards the clean one."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from segbench.engine.nearest import Nearest


def score(images: Tensor, cases: Tensor) -> Tensor:
    """Each case falls where its mean has moved by more than its own limit."""
    limit = torch.tensor([0.1, 0.2, 9.0])[cases]
    return 1 - ((images - 0.5).flatten(1).mean(1) / limit).clamp(0, 1)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_the_line_is_halved_to_where_each_case_falls(norm: str) -> None:
    clean, cases = torch.full((3, 1, 2, 2), 0.5), torch.arange(3)
    record = Nearest(clean, 0.5, norm, score)
    record.update(cases, clean + 0.4, torch.zeros(3))  # suggested for all, true of two
    assert record.found.tolist() == [True, True, False]
    record.update(cases, clean + 0.5, torch.zeros(3))  # further away: no part
    found = record.narrowed(cases)
    moved = (found - clean).flatten(1).amax(1)
    torch.testing.assert_close(moved, torch.tensor([0.05, 0.1, 0.0]), atol=0.4 / 1024, rtol=0)
    assert (score(found, cases)[:2] < 0.5).all()
    assert torch.equal(found[2], clean[2])
    expected = moved if norm == "linf" else 2 * moved
    torch.testing.assert_close(record.distance[:2], expected[:2])


def test_nothing_is_scored_that_does_not_seem_to_fall() -> None:
    def never(images: Tensor, cases: Tensor) -> Tensor:
        raise AssertionError

    clean = torch.full((2, 1, 2, 2), 0.5)
    Nearest(clean, 0.5, "linf", never).update(torch.arange(2), clean + 0.1, torch.ones(2))
