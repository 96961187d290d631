"""Every attack on an accelerator: the same laws, the same numbers, the same twice over."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor
from toys import Curved, Dense, scores

from segbench.api import MinimumNorm
from segbench.engine.network import Network
from segbench.engine.outcome import Outcome
from segbench.engine.precision import Precision, require_ieee_fp32
from segbench.plugins.attack import NamedAttack, load_attack

pytestmark = pytest.mark.gpu

CPU = torch.device("cpu")
SCENES = {
    "two classes": ((3, 1, 16, 16), 2),
    "three classes, two channels": ((3, 2, 16, 16), 3),
    "three dimensions": ((2, 1, 6, 8, 7), 2),
}


@dataclass(frozen=True, eq=False)
class Attacked:
    """What an attack made of a scene."""

    network: Network
    images: Tensor
    labels: Tensor
    outcome: Outcome

    @property
    def score(self) -> float:
        """The mean Jaccard with the labels."""
        return float(scores(self.network, self.outcome.images, self.labels).mean())

    @property
    def farthest(self) -> list[float]:
        """The largest change of a pixel, by case."""
        distances = (self.outcome.images - self.images).abs().flatten(1).amax(1)
        return [float(distance) for distance in distances]


@pytest.fixture
def attacked(run: Any) -> Callable[..., Attacked]:
    """An attack on a scene's network, whose labels it has mostly right, on a device."""

    def on(device: torch.device, name: str, attack: NamedAttack, precision: Any) -> Attacked:
        require_ieee_fp32()
        shape, classes = SCENES[name]
        generator = torch.Generator().manual_seed(5)
        images = torch.rand(shape, generator=generator)
        module = (Dense() if classes == 3 else Curved(shape[1], classes, len(shape) - 2)).eval()
        with torch.no_grad():
            labels = module(images).argmax(1)
        wrong = torch.rand(labels.shape, generator=generator) < 0.1
        labels = torch.where(wrong, 1 - labels.clamp(max=1), labels).to(device)
        wanted = Precision(precision, "the test asks for it")
        network = Network("net", module.to(device), classes, device, wanted)
        images = images.to(device)
        network.prepare(images[:2])
        return Attacked(network, images, labels, run(network, attack, images, labels))

    return on


def test_an_accelerator_finds_what_the_cpu_finds(
    attack: NamedAttack, attacked: Any, device: torch.device
) -> None:
    """Rounding moves an iterate, and an attack that goes by comparisons takes another path."""
    name = "three classes, two channels"
    here, there = (attacked(place, name, attack, "fp32") for place in (device, CPU))
    assert here.outcome.images.device.type == device.type
    assert here.outcome.images.min() >= 0
    assert here.outcome.images.max() <= 1
    assert here.score == pytest.approx(there.score, abs=0.06)
    if not isinstance(attack.attack, MinimumNorm):
        assert here.farthest == pytest.approx(there.farthest, abs=0.02)


@pytest.mark.parametrize("name", SCENES)
@pytest.mark.parametrize("spec", ["pgd", "apgd:norm=l2", "standard@2", "square:steps=50", "dag"])
def test_an_attack_repeats_itself_to_the_bit(
    spec: str, name: str, attacked: Any, device: torch.device
) -> None:
    first, again = (attacked(device, name, load_attack(spec), "bf16").outcome for _ in range(2))
    assert torch.equal(first.images, again.images)
    assert (first.forwards, first.backwards) == (again.forwards, again.backwards)


@pytest.mark.parametrize("spec", ["pgd", "standard@2", "standard@2:norm=l2", "standard:cost=quick"])
def test_bf16_gradients_lose_nothing(spec: str, attacked: Any, device: torch.device) -> None:
    for name in SCENES:
        found = {}
        for precision in ("fp32", "bf16"):
            found[precision] = attacked(device, name, load_attack(spec), precision).score
        assert found["bf16"] <= found["fp32"] + 0.03
