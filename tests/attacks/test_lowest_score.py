"""On a linear network that decides each pixel by itself the lowest Jaccard can be computed."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from toys import scores

from segbench.plugins.attack import load_attack

EPS, TEXT = 8 / 255, "8/255"
REACHING = ["lovasz", "soft-jaccard", "metric-hinge", "reach", "ce"]


class Linear(nn.Module):
    """What is brighter than a half is the organ."""

    def forward(self, images: Tensor) -> Tensor:
        return 20 * (images - 0.5)


def noisy() -> tuple[Tensor, Tensor]:
    """Images (3, 1, 12, 12) around the threshold, and labels that are those but for noise."""
    draw = torch.Generator().manual_seed(1)
    images = 0.3 + 0.4 * torch.rand(3, 1, 12, 12, generator=draw)
    labels = images[:, 0] + 0.06 * torch.randn(3, 12, 12, generator=draw) > 0.5
    return images, labels.long()


def clear() -> tuple[Tensor, Tensor]:
    """Images (3, 1, 12, 12) of which no background is within reach of the threshold."""
    images, _ = noisy()
    labels = images[:, 0] > 0.5
    return torch.where(labels[:, None], images, images - EPS - 0.01), labels.long()


def jaccard(answer: Tensor, truth: Tensor) -> Tensor:
    both, either = ((answer & truth).flatten(1), (answer | truth).flatten(1))
    return both.sum(1) / either.sum(1)


def answers(images: Tensor) -> tuple[Tensor, Tensor]:
    """Where the network can be made to see the organ, and where it cannot but see it."""
    return images[:, 0] + EPS > 0.5, images[:, 0] - EPS > 0.5


@pytest.mark.parametrize("loss", ["scored-hinge", *REACHING])
def test_it_is_reached_by_pixels_of_the_classes_alone_where_no_background_can_be_turned(
    loss: str, prepared: Any, run: Any
) -> None:
    images, labels = clear()
    truth, (can, must) = labels.bool(), answers(images)
    assert not (can & ~truth).any()
    lowest = jaccard(must & truth, truth)
    network = prepared(Linear(), images)
    attack = load_attack(f"pgd:loss={loss},schedule=cosine,random_start=false")
    found = run(network, attack, images, labels, eps=TEXT).images
    torch.testing.assert_close(scores(network, found, labels), lowest.to(torch.float64))
    assert (lowest < 0.95).all()


@pytest.mark.parametrize(
    "text", [f"pgd:loss={loss},schedule=cosine,random_start=false" for loss in REACHING]
    + ["standard@4:cost=quick", "sea:steps=20"],
)  # fmt: skip
def test_it_is_reached(text: str, prepared: Any, run: Any) -> None:
    """Each true pixel that can be lost is, and each false one that can join has joined."""
    images, labels = noisy()
    truth, (can, must) = labels.bool(), answers(images)
    lowest = jaccard(torch.where(truth, must, can), truth)
    network = prepared(Linear(), images)
    found = run(network, load_attack(text), images, labels, eps=TEXT).images
    torch.testing.assert_close(scores(network, found, labels), lowest.to(torch.float64))
    assert (lowest < jaccard(images[:, 0] > 0.5, truth) - 0.05).all()


def test_the_scored_hinge_loses_every_true_pixel_and_lets_none_join(
    prepared: Any, run: Any
) -> None:
    images, labels = noisy()
    truth, (_, must) = labels.bool(), answers(images)
    network = prepared(Linear(), images)
    attack = load_attack("pgd:loss=scored-hinge,schedule=cosine,random_start=false")
    found = run(network, attack, images, labels, eps=TEXT).images
    expected = torch.where(truth, must, images[:, 0] > 0.5)
    assert torch.equal(found[:, 0] > 0.5, expected)
