"""Batch sizes: by measured memory, never with cases that must be alone."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from segbench.engine import batching


class Wide(nn.Module):
    """Keeps exactly three activations of 16 channels for its gradient: tanh, exp, sigmoid."""

    def forward(self, images: Tensor) -> Tensor:
        x = torch.sigmoid(torch.exp(torch.tanh(images.expand(-1, 16, -1, -1))))
        return x[:, :2]


IMAGE = torch.rand(1, 1, 32, 32)


def test_saved_bytes_are_those_that_autograd_keeps(prepared: Any) -> None:
    assert prepared(Wide(), IMAGE).saved_bytes(IMAGE) == 3 * 16 * 32 * 32 * 4


def test_weights_are_not_counted_with_every_case(prepared: Any) -> None:
    network = prepared(nn.Conv2d(1, 2, 31, padding=15), IMAGE)
    assert network.saved_bytes(IMAGE) <= IMAGE.numel() * 4


@pytest.mark.parametrize(("free", "size"), [(1, 1), (1.9, 1), (2.1, 2), (7, 4), (9, 8), (1e3, 32)])
def test_the_largest_power_of_two_that_fits(
    free: float, size: int, prepared: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = prepared(Wide(), IMAGE)
    memory = free * network.saved_bytes(IMAGE) / batching._SHARE
    monkeypatch.setattr(batching, "_free_bytes", lambda device: memory)
    assert batching.choose_batch_size(network, IMAGE) == size


def test_a_network_that_mixes_cases_gets_one_at_a_time(prepared: Any) -> None:
    norm = nn.BatchNorm2d(1, track_running_stats=False)
    network = prepared(nn.Sequential(norm, nn.Conv2d(1, 2, 1)), IMAGE)
    assert batching.choose_batch_size(network, IMAGE) == 1
