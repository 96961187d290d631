"""PAdam: Adam's steps as another library takes them, clamped; and what it ascends."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from toys import Curved, Gains, dense_scene

from segbench.api import Goal
from segbench.errors import UserError
from segbench.plugins.attack import load_attack
from segbench_attacks import losses

EPS = 8 / 255


def by_torch(net: nn.Module, images: Tensor, labels: Tensor, steps: int, rate: float) -> Tensor:
    """The perturbed images after so many steps of torch's AMSGrad on the mean cross-entropy."""
    delta = torch.zeros_like(images, requires_grad=True)
    adam = torch.optim.Adam([delta], lr=rate, eps=0, amsgrad=True, maximize=True)
    for _ in range(steps):
        adam.zero_grad()
        nn.functional.cross_entropy(net(images + delta), labels).backward()
        adam.step()
        with torch.no_grad():
            delta.clamp_(-EPS, EPS)
            delta.copy_((images + delta).clamp(0, 1) - images)
    return (images + delta).detach()


def test_its_steps_are_those_of_torch(prepared: Any, run: Any) -> None:
    net, images, labels = dense_scene(9, 7)
    theirs = by_torch(net, images, labels, 12, 0.01)
    attack = load_attack("padam:steps=12,step_size=0.01,random_start=false")
    found = run(prepared(net, images, 3), attack, images, labels, eps=str(EPS)).images
    assert (found - images).abs().max() > EPS / 2
    torch.testing.assert_close(found, theirs, atol=1e-5, rtol=0)


class Faint(nn.Module):
    """A logit of that scale, the larger the brighter a pixel and the further along."""

    def __init__(self, scale: float) -> None:
        super().__init__()
        self.scale = scale

    def forward(self, images: Tensor) -> Tensor:
        z = self.scale * (images - 5) * torch.arange(1.0, 17.0).view(4, 4)
        return torch.cat([torch.zeros_like(z), z], 1)


def test_steps_are_the_same_for_a_gradient_that_is_1e25_times_smaller(
    prepared: Any, run: Any
) -> None:
    images, labels = torch.full((1, 1, 4, 4), 0.5), torch.zeros(1, 4, 4).long()
    attack = load_attack("padam:steps=3,step_size=0.002,random_start=false")
    strong, faint = (
        run(prepared(Faint(scale), images), attack, images, labels).images
        for scale in (1e-6, 1e-31)
    )
    torch.testing.assert_close(strong, images + 0.006, atol=1e-5, rtol=0)
    torch.testing.assert_close(faint, strong, atol=1e-5, rtol=0)


@pytest.mark.parametrize("start", ["false", "true"])
def test_the_cosine_is_led_to_the_corner_and_batch_mates_change_nothing(
    start: str, prepared: Any, run: Any
) -> None:
    """Of positive logits it falls with the label's and rises with all others."""
    ranked = torch.rand(3, 3, 6, 6, generator=torch.Generator().manual_seed(2)).argsort(1)
    images = 0.2 + 0.25 * ranked
    network, labels = prepared(Gains(), images, 3), images.argmax(1)
    attack = load_attack(f"padam:loss=cosine,steps=40,random_start={start}")
    found = run(network, attack, images, labels, names="abc").images
    away = 1 - 2 * nn.functional.one_hot(labels, 3).movedim(-1, 1)
    torch.testing.assert_close(found, images + EPS * away, atol=1e-5, rtol=0)
    alone = run(network, attack, images[1:2], labels[1:2], names="b").images
    torch.testing.assert_close(alone[0], found[1], atol=1e-6, rtol=0)


@pytest.mark.parametrize("targeted", [False, True])
@pytest.mark.parametrize(("spatial", "classes"), [((9, 7), 2), ((4, 5, 6), 4)])
def test_the_cosine_moves_away_within_ball_and_box_and_towards_a_target(
    spatial: Any, classes: int, targeted: bool, prepared: Any, run: Any
) -> None:
    generator = torch.Generator().manual_seed(4)
    images = torch.rand(3, 1, *spatial, generator=generator)
    labels = torch.randint(0, classes, (3, *spatial), generator=generator)
    labels[:, 0] = 255
    network = prepared(Curved(1, classes, len(spatial)), images, classes)
    attack, goal = load_attack("padam:loss=cosine,steps=20"), Goal(labels, labels, targeted, 255)
    options = {"target": labels, "targeted": targeted, "ignore_index": 255}
    found = run(network, attack, images, labels, **options).images
    before, after = (
        losses.cosine_distance(network.exact_logits(some), goal) for some in (images, found)
    )
    assert (after < before if targeted else after > before).all()
    assert (found - images).abs().max() <= EPS + 1e-7
    assert found.min() >= 0
    assert found.max() <= 1


def test_on_one_sigmoid_the_margin_takes_the_place_of_the_cosine() -> None:
    z = torch.randn(2, 1, 5, 4, generator=torch.Generator().manual_seed(1))
    labels = (z[:, 0] > 0.3).long()
    goal, attack = Goal(labels, labels), load_attack("padam:loss=cosine").attack
    one, two = torch.cat([torch.zeros_like(z), z], 1), torch.cat([-z, 2 * z], 1)
    assert torch.equal(attack.loss(one, goal, 0.0), losses.margin(one, goal))  # type: ignore[union-attr]
    assert torch.equal(attack.loss(two, goal, 0.0), losses.cosine_distance(two, goal))  # type: ignore[union-attr]


@pytest.mark.parametrize(
    "text", ["steps=0", "restarts=0", "step_size=0", "target=empty,labels=prediction", "loss=dice"]
)
def test_parameters_that_mean_nothing_are_refused(text: str) -> None:
    with pytest.raises(UserError):
        load_attack(f"padam:{text}")
