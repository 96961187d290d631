"""The losses that leave alone what cross-entropy still moves, at work in PGD."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from toys import Gains, scores

from segbench.errors import UserError
from segbench.plugins.attack import load_attack

EPS = 8 / 255
NAMES = ("masked-ce", "logit-norm", "margin")


def ranked() -> tuple[Tensor, Tensor]:
    """Images whose channels differ by 0.15 and more, far from the box; the label is the largest."""
    order = torch.rand(3, 3, 6, 6, generator=torch.Generator().manual_seed(2)).argsort(1)
    images = 0.2 + order * 0.25
    return images, images.argmax(1)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("start", ["false", "true"])
def test_the_corner_is_reached_in_every_channel_that_the_loss_sees(
    name: str, start: str, prepared: Any, run: Any
) -> None:
    images, labels = ranked()
    attack = load_attack(f"pgd:loss={name},random_start={start}")
    found = run(prepared(Gains(), images, 3), attack, images, labels).images
    first, second, third = images.topk(3, dim=1).indices.unbind(1)
    moved = found - images

    def in_channel(channel: Tensor) -> Tensor:
        return moved.gather(1, channel[:, None])

    corner = torch.full_like(in_channel(first), EPS)
    torch.testing.assert_close(in_channel(first), -corner, atol=1e-5, rtol=0)
    torch.testing.assert_close(in_channel(second), corner, atol=1e-5, rtol=0)
    if name != "margin":  # which sees but the strongest of the others
        torch.testing.assert_close(in_channel(third), corner, atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", NAMES)
def test_batch_mates_change_nothing(name: str, prepared: Any, run: Any) -> None:
    images, labels = ranked()
    labels[0, :3] = 0  # some pixels are wrong from the start
    network, attack = prepared(Gains(), images, 3), load_attack(f"pgd:loss={name}")
    together = run(network, attack, images, labels, names="abc").images
    alone = run(network, attack, images[:1], labels[:1], names="a").images
    torch.testing.assert_close(alone, together[:1], atol=1e-6, rtol=0)


def test_a_masked_loss_moves_no_pixel_that_is_already_wrong(prepared: Any, run: Any) -> None:
    images, labels = ranked()
    wrong = torch.zeros_like(labels, dtype=torch.bool)
    wrong[:, :2] = True
    labels = torch.where(wrong, (labels + 1) % 3, labels)
    attack = load_attack("pgd:loss=masked-ce,random_start=false")
    found = run(prepared(Gains(), images, 3), attack, images, labels).images
    still = (found == images).all(1)
    assert torch.equal(still, wrong)


@pytest.mark.parametrize("loss", ["logit-norm", "metric-logit-norm"])
def test_a_network_with_one_sigmoid_is_told_to_choose_another_loss(
    loss: str, prepared: Any, run: Any
) -> None:
    images, labels = torch.rand(2, 1, 4, 4), torch.ones(2, 4, 4).long()
    network = prepared(nn.Conv2d(1, 1, 1), images)
    with pytest.raises(UserError, match="choose another"):
        run(network, load_attack(f"pgd:loss={loss}"), images, labels)


def overlap_to_be_found() -> tuple[Tensor, Tensor, Tensor]:
    """Images (3, 1, 12, 12), labels, and the least Jaccard within EPS of a brightness threshold.

    Pixel by pixel: what a budget turns, it turns, true pixels away and false ones into the class.
    """
    generator = torch.Generator().manual_seed(3)
    images = 0.5 + 0.3 * (torch.rand(3, 1, 12, 12, generator=generator) - 0.5)
    labels = (images[:, 0] > 0.5).long()
    kept, joined = images[:, 0] - EPS > 0.5, images[:, 0] + EPS > 0.5
    true, false = labels == 1, labels == 0
    shared = (true & kept).flatten(1).sum(1)
    union = true.flatten(1).sum(1) + (false & joined).flatten(1).sum(1)
    assert (shared > 0).all(), "no case may fall to 0, where it would leave early"
    return images, labels, shared.double() / union


class Threshold(nn.Module):
    """Bright pixels are of class 1."""

    def forward(self, images: Tensor) -> Tensor:
        return torch.cat([torch.zeros_like(images), 40 * (images - 0.5)], 1)


ALL_PIXELS = (
    "lovasz", "soft-jaccard", "metric-ce", "metric-hinge", "metric-jsd", "reach", "weighted-ce",
)  # fmt: skip


BY_STEPS = ("schedule=cosine", "momentum=heavy,keep=best")
REACHING = [f"pgd:loss={name},random_start=false,{how}" for name in ALL_PIXELS for how in BY_STEPS]


@pytest.mark.parametrize("text", ["standard", "standard:cost=quick", *REACHING])
def test_the_least_jaccard_over_the_ball_is_reached(text: str, prepared: Any, run: Any) -> None:
    images, labels, least = overlap_to_be_found()
    network = prepared(Threshold(), images)
    found = run(network, load_attack(text), images, labels, eps=str(EPS)).images
    torch.testing.assert_close(scores(network, found, labels), least)


@pytest.mark.parametrize("name", ["scored-hinge", "soft-hinge"])
def test_the_hinges_of_the_scored_classes_reach_it_where_no_background_is_in_reach(
    name: str, prepared: Any, run: Any
) -> None:
    images, labels, _ = overlap_to_be_found()
    images = images.where(labels[:, None] == 1, images - 2 * EPS)
    least = (images[:, 0] - EPS > 0.5).flatten(1).sum(1) / labels.flatten(1).sum(1)
    network = prepared(Threshold(), images)
    attack = load_attack(f"pgd:loss={name},random_start=false,schedule=cosine")
    found = run(network, attack, images, labels, eps=str(EPS)).images
    torch.testing.assert_close(scores(network, found, labels), least.double())
    still = (found == images)[:, 0][labels == 0]
    assert still.all(), "the background is worth nothing to them"


@pytest.mark.parametrize("name", ["soft-jaccard", "metric-hinge", "reach", "scored-hinge"])
def test_a_target_within_reach_is_reached(name: str, prepared: Any, run: Any) -> None:
    images, labels = ranked()
    target = images.argmin(1)
    attack = load_attack(f"pgd:loss={name},schedule=cosine,keep=best")
    network = prepared(Gains(), images, 3)
    found = run(network, attack, images, labels, eps="0.3", target=target, targeted=True).images
    assert (scores(network, found, target) == 1).all()


@pytest.mark.parametrize("name", ALL_PIXELS)
def test_three_structures_fall_together(name: str, prepared: Any, run: Any) -> None:
    """Each by its own Jaccard: none is left alone for another."""

    class Three(nn.Module):
        output = "sigmoid"

        def forward(self, images: Tensor) -> Tensor:
            return 40 * (images - torch.tensor([0.45, 0.5, 0.55]).view(1, 3, 1, 1))

    images, *_ = overlap_to_be_found()
    network = prepared(Three(), images, 4)
    labels = network.as_labels(network.exact_logits(images))
    attack = load_attack(f"pgd:loss={name},random_start=false,schedule=cosine")
    found = run(network, attack, images, labels, eps=str(Fraction(2, 255))).images
    clean = scores(network, images, labels)
    assert (scores(network, found, labels) < clean).all()
    left = network.as_labels(network.exact_logits(found)) == labels
    turned = (~left).flatten(2).any(2)
    assert turned.all(), "every structure loses pixels"
