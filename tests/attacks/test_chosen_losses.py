"""The losses that leave alone what cross-entropy still moves, at work in PGD."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from toys import Gains

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


def test_a_network_with_one_sigmoid_is_told_to_choose_another_loss(prepared: Any, run: Any) -> None:
    images, labels = torch.rand(2, 1, 4, 4), torch.ones(2, 4, 4).long()
    network = prepared(nn.Conv2d(1, 1, 1), images)
    with pytest.raises(UserError, match="choose another"):
        run(network, load_attack("pgd:loss=logit-norm"), images, labels)
