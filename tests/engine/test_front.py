"""Declared defences: BPDA reaches what it would without the front, EOT the mean's gradient."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from segbench.api import Goal
from segbench.engine.objective import NetworkObjective
from segbench.errors import UserError
from segbench.networks.adapt import adapt_network
from segbench.plugins.attack import load_attack

EPS = Fraction(8, 255)
SIDE = 6


class Linear(nn.Module):
    """A 1 x 1 convolution to one logit, 8 x: the best attack darkens bright pixels' labels."""

    def forward(self, images: Tensor) -> Tensor:
        return 8 * images - 4


class Rounding(nn.Module):
    """An input layer of few levels: its gradient is zero wherever it has one."""

    def __init__(self, levels: int = 512) -> None:
        super().__init__()
        self.levels = levels

    def forward(self, images: Tensor) -> Tensor:
        return (images * self.levels).round() / self.levels


class DeclaredRounding(Rounding):
    """The same with the identity for the backward pass."""

    def stand_in(self, inputs: Tensor) -> Tensor:
        return inputs


class Detached(nn.Module):
    """A front that leaves the graph altogether, as a codec does."""

    def forward(self, images: Tensor) -> Tensor:
        return torch.from_numpy((images.detach().numpy() * 512).round() / 512)


class DeclaredDetached(Detached):
    def stand_in(self, inputs: Tensor) -> Tensor:
        return inputs


class Noisy(nn.Module):
    """Additive noise, declared."""

    def __init__(self, samples: int, scale: float = 0.1) -> None:
        super().__init__()
        self.eot_samples, self.scale = samples, scale

    def forward(self, images: Tensor) -> Tensor:
        return images + self.scale * torch.randn_like(images)


def inner() -> tuple[Tensor, Tensor]:
    """Images of 512 levels away from box and threshold, and what ``Linear`` makes of them."""
    generator = torch.Generator().manual_seed(0)
    levels = torch.randint(60, 440, (3, 1, SIDE, SIDE), generator=generator)
    images = levels / 512
    return images, (images[:, 0] > 0.5).long()


@pytest.mark.parametrize("front", [DeclaredRounding, DeclaredDetached])
@pytest.mark.parametrize("spec", ["fgsm", "ifgsm", "pgd:random_start=false", "mifgsm"])
def test_through_a_rounding_front_bpda_finds_the_corner_of_the_bare_network(
    front: Any, spec: str, prepared: Any, run: Any
) -> None:
    images, truth = inner()
    attack = load_attack(spec).attack
    best = (images + float(EPS) * (1 - 2 * truth[:, None].float())).clamp(0, 1)
    network = prepared(nn.Sequential(front(), Linear()), images)
    found = run(network, attack, images, truth, EPS).images
    torch.testing.assert_close(found, best, atol=1e-5, rtol=0)
    torch.testing.assert_close(
        found, run(prepared(Linear(), images), attack, images, truth, EPS).images
    )
    assert network.marks == ("bpda",)


def test_an_undeclared_front_leaves_the_attack_where_it_began(prepared: Any, run: Any) -> None:
    """What the declaration is for: zeros for a gradient, and no error."""
    images, truth = inner()
    network = prepared(nn.Sequential(Rounding(), Linear()), images)
    found = run(network, load_attack("ifgsm").attack, images, truth, EPS).images
    assert torch.equal(found, images)


def test_a_front_that_leaves_the_graph_is_refused_in_words(prepared: Any, run: Any) -> None:
    images, truth = inner()
    network = prepared(nn.Sequential(Detached(), nn.BatchNorm2d(1), Linear()), images)
    with pytest.raises(UserError, match=r"gives no gradient.*stand_in"):
        run(network, load_attack("fgsm").attack, images, truth, EPS)


def test_decisions_and_scores_see_the_front_itself(prepared: Any) -> None:
    images, _ = inner()
    module = nn.Sequential(DeclaredRounding(4), Linear())
    network = prepared(module, images)
    off = images + 0.05
    expected = network.canonical(module(off), off)
    assert torch.equal(NetworkObjective(network).scores(off), expected)
    assert torch.equal(network.copies.fast.module(off), module(off))


class Blur(nn.Module):
    """A front with weights of its own, then rounding; its stand-in is the blur alone."""

    def __init__(self) -> None:
        super().__init__()
        self.blur = nn.Conv2d(1, 1, 3, padding=1, bias=False)
        self.blur.weight.data = torch.full((1, 1, 3, 3), 1 / 9)

    def forward(self, images: Tensor) -> Tensor:
        return (self.stand_in(images) * 512).round() / 512

    def stand_in(self, inputs: Tensor) -> Tensor:
        blurred: Tensor = self.blur(inputs)
        return blurred


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_front_stays_fp32_and_whole_in_every_gradient_copy(precision: str, prepared: Any) -> None:
    """Folded or in bf16 behind it: the gradient is the smooth network's, the image not cut."""
    images, truth = inner()
    torch.manual_seed(0)
    body = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.Conv2d(4, 2, 1))
    defended = prepared(nn.Sequential(Blur(), body), images, precision=precision)
    bare = prepared(nn.Sequential(Blur().blur, body), images)
    assert defended.copies.fast.name == f"{precision} folded"
    goal = Goal(truth, truth)

    def loss(logits: Tensor, goal: Goal) -> Tensor:
        return logits[:, 1].flatten(1).sum(1)

    ours, wanted = (
        NetworkObjective(n).value_and_grad(images, loss, goal).gradient for n in (defended, bare)
    )
    torch.testing.assert_close(ours, wanted, atol=0.02 * float(wanted.abs().max()), rtol=0)
    seen: list[Tensor] = []
    front = next(m for m in defended.copies.fast.module.modules() if isinstance(m, Blur))
    front.register_forward_hook(lambda _m, _i, output: seen.append(output))
    with defended.copies.fast.autocast():
        defended.copies.fast.module(images)
    assert torch.equal(seen[0], Blur()(images))


def test_the_gradient_over_declared_draws_is_that_without_noise(prepared: Any) -> None:
    """E[(x + n)^2]' = 2 x: within five standard errors of the mean of N draws, and not exactly."""
    images, truth = inner()
    samples, scale = 64, 0.1

    class Square(nn.Module):
        def forward(self, inputs: Tensor) -> Tensor:
            return inputs.square()

    def loss(logits: Tensor, goal: Goal) -> Tensor:
        return logits[:, 1].flatten(1).sum(1)

    network = prepared(nn.Sequential(Noisy(samples, scale), Square()), images)
    objective = NetworkObjective(network)
    torch.manual_seed(0)
    answer = objective.value_and_grad(images, loss, Goal(truth, truth))
    error = (answer.gradient - 2 * images).abs()
    assert 0 < error.max() < 5 * 2 * scale / samples**0.5
    expected = (images.square() + scale**2).flatten(1).sum(1)
    torch.testing.assert_close(answer.loss, expected, atol=0, rtol=0.02)
    assert (objective.forwards, objective.backwards) == (3 * samples, 3 * samples)
    assert network.marks == (f"eot:{samples}",)
    assert network.one_by_one


def test_draws_are_counted_per_case(prepared: Any, run: Any) -> None:
    images, truth = inner()
    network = prepared(nn.Sequential(Noisy(3), Linear()), images)
    outcome = run(network, load_attack("ifgsm:preset=free,steps=4").attack, images, truth, EPS)
    assert outcome.backwards == [12, 12, 12]


def test_a_declaration_survives_what_is_made_of_a_strangers_network() -> None:
    """The final sigmoid is cut off by tracing; the front stays a layer with its stand-in."""

    class Own(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.front, self.noise, self.body = DeclaredRounding(), Noisy(5, 0.0), Linear()

        def forward(self, images: Tensor) -> Tensor:
            return torch.sigmoid(self.body(self.noise(self.front(images))))

    adapted = adapt_network(Own(), [(1, SIDE, SIDE)])
    assert (adapted.probabilities, adapted.stripped) == ("sigmoid", True)
    kinds = {type(layer) for layer in adapted.module.modules()}
    assert {DeclaredRounding, Noisy} <= kinds


@pytest.mark.parametrize("samples", [0, 2.5, "many"])
def test_a_number_of_draws_that_is_none_is_refused(samples: Any, prepared: Any) -> None:
    with pytest.raises(UserError, match="eot_samples"):
        prepared(nn.Sequential(Noisy(samples), Linear()), inner()[0])


def test_a_stand_in_of_another_shape_is_refused(prepared: Any) -> None:
    class Wrong(Rounding):
        def stand_in(self, inputs: Tensor) -> Tensor:
            return inputs.repeat(1, 2, 1, 1)

    with pytest.raises(UserError, match=r"stand-in of layer Wrong .*expected its own"):
        prepared(nn.Sequential(Wrong(), nn.BatchNorm2d(1), Linear()), inner()[0])
