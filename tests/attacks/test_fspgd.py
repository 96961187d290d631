"""FSPGD: its loss by the paper's formula, and images whose features are not what they were."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from segbench.api import Budget, Goal
from segbench.engine.features import find_layer
from segbench.engine.loop import attack_batch
from segbench.engine.network import Network
from segbench.engine.noise import CaseNoise
from segbench.engine.objective import NetworkObjective
from segbench.engine.outcome import Outcome
from segbench.errors import UserError
from segbench.plugins.attack import load_attack
from segbench_attacks.fspgd import feature_dissimilarity


class Hourglass(nn.Module):
    """Down to a bottleneck of a quarter, and up again."""

    def __init__(self, dims: int = 2) -> None:
        super().__init__()
        conv: Any = nn.Conv2d if dims == 2 else nn.Conv3d
        self.down = nn.Sequential(conv(1, 4, 3, 2, 1), nn.Tanh(), conv(4, 8, 3, 2, 1))
        self.middle = nn.Sequential(nn.Tanh(), conv(8, 8, 3, 1, 1), nn.Tanh())
        self.head = conv(8, 2, 1)
        generator = torch.Generator().manual_seed(1)
        for parameter in self.parameters():
            parameter.data = 0.6 * torch.randn(parameter.shape, generator=generator)

    def forward(self, images: Tensor) -> Tensor:
        deep = self.middle(self.down(images))
        logits: Tensor = self.head(nn.functional.interpolate(deep, images.shape[2:]))
        return logits


def scene(*spatial: int) -> tuple[Tensor, Tensor]:
    images = torch.rand(3, 1, *spatial, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        return images, Hourglass(len(spatial))(images).argmax(1)


def run(network: Network, text: str, images: Tensor, truth: Tensor, names: str = "abc") -> Outcome:
    attack: Any = load_attack(text).attack
    noise = CaseNoise(0, tuple(names), images.device)
    budget = Budget(attack.budget_kind, Fraction(8, 255))
    return attack_batch(network, attack, images, Goal(truth, truth), budget, noise)


def test_the_loss_is_the_papers() -> None:
    """Place by place, pair by pair."""
    generator = torch.Generator().manual_seed(0)
    clean, now = (torch.randn(2, 3, 2, 4, generator=generator) for _ in range(2))
    found = feature_dissimilarity(now, clean, 0.3, 60)
    for case in range(2):
        before, after = clean[case].flatten(1).T, now[case].flatten(1).T
        same = sum(torch.cosine_similarity(a, b, dim=0) for a, b in zip(after, before, strict=True))
        products = [
            after[i] @ after[j]
            for i in range(8)
            for j in range(8)
            if i != j and torch.cosine_similarity(before[i], before[j], dim=0) > 0.5
        ]
        together = sum(products) / len(products) / 2
        expected = -0.3 * same / 8 - 0.7 * together
        torch.testing.assert_close(found[case], expected)


def test_a_large_map_is_averaged_down_and_an_unlike_one_has_no_pairs() -> None:
    wide = torch.randn(1, 4, 80, 60, generator=torch.Generator().manual_seed(0))
    assert feature_dissimilarity(wide, wide, 1.0).item() == pytest.approx(-1, abs=1e-5)
    unlike = torch.eye(4).reshape(1, 4, 2, 2)
    assert feature_dissimilarity(unlike, unlike, 0.0).item() == 0


@pytest.mark.parametrize("spatial", [(32, 24), (12, 16, 8)])
def test_features_are_led_away_and_other_cases_change_nothing(spatial: Any, prepared: Any) -> None:
    images, truth = scene(*spatial)
    network = prepared(Hourglass(len(spatial)), images)
    objective, layer = NetworkObjective(network), network.layer_named("deepest")
    assert layer == "middle.1"

    def similarity(made: Tensor) -> float:
        now, before = objective.features(made, layer), objective.features(images, layer)
        return float(torch.cosine_similarity(now, before, dim=1).mean())

    outcome = run(network, "fspgd:steps=8", images, truth)
    assert (outcome.images - images).abs().max() <= 8 / 255 + 1e-6
    noise = run(network, "noise", images, truth).images
    assert similarity(outcome.images) < similarity(noise) - 0.005
    assert (outcome.forwards, outcome.backwards) == ([9] * 3, [8] * 3)
    alone = run(network, "fspgd:steps=8", images[1:2], truth[1:2], "b").images
    torch.testing.assert_close(alone[0], outcome.images[1], atol=1e-6, rtol=0)


def test_it_sees_no_label(prepared: Any) -> None:
    images, truth = scene(32, 24)
    network = prepared(Hourglass(), images)
    first = run(network, "fspgd:steps=3", images, truth).images
    assert torch.equal(run(network, "fspgd:steps=3", images, 1 - truth).images, first)


def test_a_layer_is_named_by_its_end_if_no_other_ends_so() -> None:
    image, module = torch.rand(1, 1, 16, 16), Hourglass()
    assert find_layer(module, "middle.1", image, "net") == "middle.1"
    assert find_layer(module, "down.2", image, "net") == "down.2"
    assert find_layer(nn.Sequential(module), "head", image, "net") == "0.head"
    for layer, reason in (
        ("0", r"means down.0, middle.0 of model net"),
        ("neck", r"is none of its layers of model net; name one, such as .*head, or deepest"),
    ):
        with pytest.raises(UserError, match=reason):
            find_layer(module, layer, image, "net")
    with pytest.raises(UserError, match="shows no convolution to look into"):
        find_layer(nn.Sequential(nn.Tanh()), "deepest", image, "net")


class Twice(Hourglass):
    """Asks one layer twice."""

    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images) + super().forward(images.flip(-1)).flip(-1)


def test_a_layer_without_one_answer_is_refused() -> None:
    with pytest.raises(UserError, match="gives no one feature map"):
        find_layer(Twice(), "head", torch.rand(1, 1, 16, 16), "net")


@pytest.mark.parametrize("text", ["fspgd:steps=0", "fspgd:angle=0", "fspgd:rel_step=0"])
def test_what_makes_no_sense_is_refused(text: str) -> None:
    with pytest.raises(UserError, match="must"):
        load_attack(text)
