"""Max-unpooling: the answer is the network's, the gradient knows where maxima could have been."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from toys import scores

from segbench.api import Goal
from segbench.art import SegmentationEstimator
from segbench.engine.precision import Precision
from segbench.engine.unpooling import Pooling, has_unpooling, with_places
from segbench.plugins.attack import load_attack
from segbench.training.recipes import load_recipe
from segbench.training.trainee import TrainedNetwork

POOL = {1: nn.MaxPool1d, 2: nn.MaxPool2d, 3: nn.MaxPool3d}
UNPOOL = {1: nn.MaxUnpool1d, 2: nn.MaxUnpool2d, 3: nn.MaxUnpool3d}


class Places(nn.Module):
    """Says where maxima are, and nothing of how large they are."""

    def __init__(self, dims: int, kernel: int = 2, **options: Any) -> None:
        super().__init__()
        self.pool = POOL[dims](kernel, return_indices=True, **options)
        self.unpool = UNPOOL[dims](kernel)

    def forward(self, images: Tensor) -> Tensor:
        values, places = self.pool(images)
        unpooled: Tensor = self.unpool(torch.ones_like(values), places, images.shape[2:])
        return unpooled - 0.5 + 0 * images


class Values(Places):
    """A smooth function of the maxima, put back."""

    def forward(self, images: Tensor) -> Tensor:
        values, places = self.pool(images)
        unpooled: Tensor = self.unpool(torch.sin(values), places, images.shape[2:])
        return unpooled


def random_images(dims: int, *, side: int = 6) -> Tensor:
    shape = (2, 1, *[side] * dims)
    return torch.rand(shape, generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize("dims", [1, 2, 3])
@pytest.mark.parametrize(("side", "kernel"), [(6, 2), (6, 3), (7, 2)])
def test_the_answer_is_the_networks_own(dims: int, side: int, kernel: int) -> None:
    images = random_images(dims, side=side)
    network = Values(dims, kernel)
    smooth = with_places(network)
    assert torch.equal(smooth(images), network(images))
    assert not any(isinstance(layer, Pooling) for layer in network.modules()), "left as it was"


@pytest.mark.parametrize("dims", [1, 2, 3])
@pytest.mark.parametrize("side", [6, 7])
def test_the_gradient_leads_from_each_maximum_to_the_pixels_beside_it(dims: int, side: int) -> None:
    images = random_images(dims, side=side).requires_grad_()
    network = Places(dims)
    (none,) = torch.autograd.grad(network(images).square().sum(), images)
    assert (none == 0).all(), "autograd knows nothing of places"
    chosen = torch.zeros_like(images)
    chosen[(slice(None), 0, *[0] * dims)] = 1  # the first pixel of the first window
    (gradient,) = torch.autograd.grad((with_places(network)(images) * chosen).sum(), images)
    window = gradient[(slice(None), 0, *[slice(2)] * dims)].flatten(1)
    assert (window[:, 0] > 0).all(), "brighter, it is likelier to be the maximum"
    assert (window[:, 1:] <= 0).all()
    assert (window < 0).any(1).all()
    outside = gradient.clone()
    outside[(slice(None), 0, *[slice(2)] * dims)] = 0
    assert (outside == 0).all()


def test_the_gradient_by_values_stays_what_it_is() -> None:
    images = torch.full((1, 1, 4, 4), 0.2)
    images[0, 0, ::2, ::2] = 0.9  # far ahead of its window, so that places are certain
    images[0, 0, 0, 1] = 0.21
    smooth, network = with_places(Values(2)), Values(2)
    leaves = [images.clone().requires_grad_() for _ in range(2)]
    for leaf, asked in zip(leaves, (network, smooth), strict=True):
        (asked(leaf) * torch.linspace(0, 1, 16).view(1, 1, 4, 4)).sum().backward()
    torch.testing.assert_close(leaves[0].grad, leaves[1].grad, atol=0.15, rtol=0)


def test_an_attack_moves_places(prepared: Any, run: Any) -> None:
    images = random_images(2, side=8)
    network = prepared(Places(2), images, 2)
    labels = network.as_labels(network.exact_logits(images))
    found = run(network, load_attack("pgd:steps=20").attack, images, labels, Fraction("0.2")).images
    assert (scores(network, found, labels) < 0.5).all()
    assert network.marks == ("unpooling",)


def test_the_estimator_for_art_follows_places_too() -> None:
    images = random_images(2, side=8)
    estimator = SegmentationEstimator(Places(2), (1, 8, 8), 2, device="cpu")
    labels = (Places(2)(images)[:, 0] > 0).long()
    gradient = estimator.loss_gradient(images.numpy(), labels.numpy())
    assert (gradient != 0).any()


def test_adversarial_training_follows_places_too() -> None:
    images = random_images(2, side=8)
    module = Places(2).train()
    precision = Precision("fp32", "as the test says")
    trainee = TrainedNetwork(module, load_recipe("quick", "jsrt"), precision)
    labels = (module(images)[:, 0] > 0).long()

    def value(logits: Tensor, goal: Goal) -> Tensor:
        margin = logits[:, 1] - logits[:, 0]
        return (margin * (1 - 2 * goal.labels)).flatten(1).sum(1)

    assert (trainee.ascent(images, value, trainee.goal(labels)) != 0).any()
    assert module.training


class Function(nn.Module):
    """The same by functions."""

    def forward(self, images: Tensor) -> Tensor:
        values, places = nn.functional.max_pool2d(images, 2, return_indices=True)
        return nn.functional.max_unpool2d(torch.ones_like(values), places, 2) - 0.5 + 0 * images


def test_unpooling_that_no_layer_shows_is_marked(prepared: Any) -> None:
    images = random_images(2, side=8)
    scripted = nn.Sequential(torch.jit.script(Function().eval()))
    for module in (Function(), scripted):
        assert prepared(module, images, 2).marks == ("hidden-routes",)


def test_a_compiled_network_is_counted_as_it_was_written(prepared: Any) -> None:
    images = random_images(2, side=8)
    for module, marks in ((Function(), ("hidden-routes",)), (nn.Conv2d(1, 2, 1), ())):
        compiled = torch.compile(module.eval(), backend="eager", fullgraph=True)
        assert prepared(compiled, images, 2).marks == marks


@pytest.mark.parametrize(
    "options", [{"stride": 1}, {"padding": 1}, {"ceil_mode": True}, {"dilation": 2}]
)
def test_windows_that_overlap_or_leave_the_image_are_left_alone(options: dict[str, Any]) -> None:
    smooth = with_places(Places(2, **options))
    assert not any(isinstance(layer, Pooling) for layer in smooth.modules())


def test_a_network_that_does_not_unpool_is_not_copied() -> None:
    network = nn.Sequential(nn.MaxPool2d(2), nn.Upsample(scale_factor=2))
    assert not has_unpooling(network)
    assert with_places(network) is network


@pytest.mark.parametrize(
    "window", [[2.5, 2.5, 1.0, 0.0], [2.5, 2.5 + 2e-7, 1, 0], [2.5] * 4, [0.0] * 4]
)
def test_maxima_that_tie_have_a_gradient_of_an_ordinary_size(window: list[float]) -> None:
    """As rounding to bf16 makes them, in a map of a single window."""
    images = torch.tensor(window).view(1, 1, 2, 2).requires_grad_()
    network = Places(2)
    answer = with_places(network)(images)
    assert torch.equal(answer, network(images))
    (gradient,) = torch.autograd.grad(answer[..., 0, 0].sum(), images)
    assert gradient.isfinite().all()
    assert gradient.abs().max() * max(*window, 1e-7) < 100


class Unused(Places):
    """Owns layers that it does not ask."""

    def forward(self, images: Tensor) -> Tensor:
        return images - 0.5


class Unfit(nn.Module):
    """Its windows are not those that were pooled."""

    def __init__(self) -> None:
        super().__init__()
        self.pool = nn.MaxPool2d(2, return_indices=True)
        self.unpool = nn.MaxUnpool2d(3, stride=2, padding=1)

    def forward(self, images: Tensor) -> Tensor:
        values, places = self.pool(images)
        unpooled: Tensor = self.unpool(torch.ones_like(values), places, images.shape[2:])
        return unpooled - 0.5 + 0 * images


@pytest.mark.parametrize(
    ("module", "marks"),
    [(Places(2), ("unpooling",)), (Unused(2), ()), (Unfit(), ("hidden-routes",))],
)
def test_a_mark_says_what_the_gradient_did(
    module: nn.Module, marks: tuple[str, ...], prepared: Any
) -> None:
    assert prepared(module, random_images(2, side=8), 2).marks == marks
