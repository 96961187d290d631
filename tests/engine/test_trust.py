"""A case that low precision misleads is attacked in fp32, though the network's probe was honest."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Any, ClassVar, Literal

import pytest
import torch
from torch import Tensor, nn

from segbench.api import Attack, Budget, Goal, Noise, Objective
from segbench.engine.fidelity import weighted
from segbench.engine.loop import attack_batch
from segbench.engine.network import Network
from segbench.engine.noise import CaseNoise
from segbench.engine.objective import NetworkObjective
from segbench.engine.outcome import Outcome
from segbench.engine.precision import Precision
from segbench.errors import UserError
from segbench.plugins.attack import load_attack

BF16, FP32 = Precision("bf16", "asked for"), Precision("fp32", "asked for")
TRAP = 3
"""The case that is bright; the probe is the first two."""


class Body(nn.Module):
    """Two logits, and a push for bright images, as precise as the logits."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.Tanh(), nn.Conv2d(4, 2, 1))
        generator = torch.Generator().manual_seed(0)
        for parameter in self.body.parameters():
            parameter.data = torch.randn(parameter.shape, generator=generator)

    def bright(self, images: Tensor) -> Tensor:
        """(B, 1, 1, 1)."""
        return images.detach().mean((1, 2, 3), keepdim=True) > 0.65

    def pushed(self, images: Tensor) -> Tensor:
        logits: Tensor = self.body(images)
        return torch.tanh(0.3 * logits + 5 * self.bright(images).to(logits.dtype))


class Saturated(Body):
    """A tanh that a bright image drives to its end: bf16 has no gradient there, fp32 has."""

    def forward(self, images: Tensor) -> Tensor:
        return self.pushed(images)


class MostlySaturated(Body):
    """The same everywhere but in a row of pixels."""

    def forward(self, images: Tensor) -> Tensor:
        return torch.cat([0.1 * self.body(images)[:, :, :1], self.pushed(images)[:, :, 1:]], 2)


class Steep(Body):
    """A division that a bright image makes one by zero, once a tanh is rounded to 1."""

    def forward(self, images: Tensor) -> Tensor:
        return 1e-3 / (1 - self.pushed(images))


def images() -> Tensor:
    """Five cases (5, 1, 16, 16); the fourth is bright."""
    found = torch.rand(5, 1, 16, 16, generator=torch.Generator().manual_seed(1))
    found[TRAP] = 0.5 + 0.5 * found[TRAP]
    return found


def prepared(module: nn.Module, precision: Precision) -> Network:
    network = Network("net", module, 2, torch.device("cpu"), precision)
    network.prepare(images()[:2])
    return network


def attacked(
    network: Network, attack: Attack, cases: slice = slice(0, 5), region: Tensor | None = None
) -> Outcome:
    clean = images()
    truth = network.as_labels(network.exact_logits(clean))[cases]
    noise = CaseNoise(0, tuple("abcde"[cases]), torch.device("cpu"))
    budget = Budget(attack.budget_kind, Fraction(8, 255))
    return attack_batch(network, attack, clean[cases], Goal(truth, truth), budget, noise, region)  # type: ignore[arg-type]


@dataclass(frozen=True)
class Ascent:
    """A whole attack: four steps along the gradient of the loss that engines weigh logits by."""

    needs: ClassVar[Literal["gradients"]] = "gradients"
    budget_kind: ClassVar[Literal["linf"]] = "linf"

    def run(
        self, objective: Objective, images: Tensor, goal: Goal, budget: Budget, noise: Noise
    ) -> Tensor:
        for _ in range(4):
            images = (
                images + 0.01 * objective.value_and_grad(images, weighted, goal).gradient.sign()
            )
        return images


ATTACKS: dict[str, Any] = {
    "pgd": load_attack("pgd:steps=6").attack,
    "twice": load_attack("pgd:steps=3,restarts=2").attack,
    "standard": load_attack("standard@4:cost=quick").attack,
    "whole": Ascent(),
}


@pytest.mark.parametrize("name", ATTACKS)
@pytest.mark.parametrize("module", [Saturated, MostlySaturated, Steep])
def test_one_case_without_a_bf16_gradient_is_attacked_as_in_fp32(
    module: type[nn.Module], name: str
) -> None:
    low, exact = prepared(module(), BF16), prepared(module(), FP32)
    mixed, whole = attacked(low, ATTACKS[name]), attacked(exact, ATTACKS[name])
    assert mixed.precisions == ["fp32" if n == TRAP else "bf16" for n in range(5)]
    truth = exact.as_labels(exact.exact_logits(images()))
    left = NetworkObjective(exact).remaining(mixed.images, Goal(truth, truth))
    assert left[TRAP] < 0.97  # with no gradient it is 1
    assert torch.equal(mixed.images[TRAP], whole.images[TRAP])
    for costs in ("forwards", "backwards", "zeros"):
        assert getattr(mixed, costs)[TRAP] == getattr(whole, costs)[TRAP]
    assert mixed.checks[TRAP]
    assert mixed.checks[TRAP] not in (mixed.checks[:TRAP])


@pytest.mark.parametrize("name", ATTACKS)
def test_it_is_decided_by_the_case_alone(name: str) -> None:
    network = prepared(Saturated(), BF16)
    together = attacked(network, ATTACKS[name])
    for place in (4, 3, 2, 1, 0):
        network = prepared(Saturated(), BF16) if place % 2 else network
        alone = attacked(network, ATTACKS[name], slice(place, place + 1))
        assert torch.equal(alone.images[0], together.images[place])
        assert alone.precisions == together.precisions[place : place + 1]
        assert alone.checks == together.checks[place : place + 1]
        assert alone.backwards == together.backwards[place : place + 1]


class Later(Body):
    """Honest on every clean image; bf16 has no gradient where an attack leads to."""

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.body(images)
        moved = (images.detach() - self.clean).abs().mean((1, 2, 3), keepdim=True) > 0.005
        return torch.tanh(0.3 * logits + 5 * (moved & self.bright(images)).to(logits.dtype))

    clean = images()[TRAP : TRAP + 1]


@pytest.mark.parametrize("name", ["pgd", "twice", "whole"])
def test_a_gradient_that_is_lost_on_the_way_is_found_again(name: str) -> None:
    low, exact = prepared(Later(), BF16), prepared(Later(), FP32)
    only = slice(TRAP, TRAP + 1)
    mixed, whole = attacked(low, ATTACKS[name], only), attacked(exact, ATTACKS[name], only)
    assert [known["d"].faithful for known in low.fidelities.values()] == [True]
    assert mixed.precisions == ["fp32"]
    assert torch.equal(mixed.images, whole.images)


class Spot(Body):
    """A tanh at its end within a square of a bright image, and nowhere else."""

    def forward(self, images: Tensor) -> Tensor:
        square = torch.zeros(1, 1, 16, 16, dtype=torch.bool)
        square[:, :, 5:10, 5:11] = True
        return torch.where(square, self.pushed(images), torch.tanh(0.3 * self.body(images)))


def test_a_confined_attack_is_judged_by_the_gradient_where_it_may_change() -> None:
    """Of all pixels few have lost theirs; of those that it may change nearly all."""
    region = torch.zeros(5, 1, 16, 16, dtype=torch.bool)
    region[:, :, 6:9, 6:10] = region[:, :, 6:7, 10:11] = True
    network = prepared(Spot(), BF16)
    assert attacked(network, ATTACKS["pgd"]).precisions[TRAP] == "bf16"
    for name in ("pgd", "whole"):
        mixed = attacked(network, ATTACKS[name], region=region)
        whole = attacked(prepared(Spot(), FP32), ATTACKS[name], region=region)
        assert mixed.precisions[TRAP] == "fp32"
        assert torch.equal(mixed.images[TRAP], whole.images[TRAP])
    assert attacked(network, ATTACKS["pgd"]).precisions[TRAP] == "bf16"


class Drawn(MostlySaturated):
    """It says that it draws noise, and that two draws are to be averaged."""

    eot_samples = 2

    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images + 0.01 * torch.randn_like(images))


def test_a_case_of_a_network_that_draws_is_judged_by_its_own_gradients() -> None:
    said = set()
    for seed in range(3):
        torch.manual_seed(seed)
        trapped = attacked(prepared(Drawn(), BF16), ATTACKS["pgd"], slice(TRAP, TRAP + 1))
        assert trapped.precisions == ["fp32"]
        said |= {*trapped.checks}
    assert len(said) == 1  # whatever it has drawn before
    assert attacked(prepared(Drawn(), BF16), ATTACKS["pgd"], slice(0, 1)).precisions == ["bf16"]


@dataclass(frozen=True)
class Pairs(Ascent):
    """The same of two images of each case at once, of which the first is kept."""

    def run(
        self, objective: Objective, images: Tensor, goal: Goal, budget: Budget, noise: Noise
    ) -> Tensor:
        both = Goal(torch.cat([goal.labels] * 2), torch.cat([goal.truth] * 2))
        pairs = super().run(objective, torch.cat([images] * 2), both, budget, noise)
        return pairs[: len(images)]


def test_of_several_images_of_a_case_at_once_gradients_are_those_of_fp32() -> None:
    """In a batch nobody knows whose image is whose, and alone it is no other attack."""
    together = attacked(prepared(Saturated(), BF16), Pairs())
    alone = attacked(prepared(Saturated(), BF16), Pairs(), slice(TRAP, TRAP + 1))
    exact = attacked(prepared(Saturated(), FP32), Pairs())
    assert together.precisions == ["fp32"] * 5
    assert alone.precisions == ["fp32"]
    assert torch.equal(together.images, exact.images)
    assert torch.equal(alone.images[0], exact.images[TRAP])


class Masked(Body):
    """Of a bright image the gradient is zero in any precision."""

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.body(images)
        return torch.where(self.bright(images), logits.detach(), logits)


def test_what_has_no_gradient_in_fp32_either_is_counted_so() -> None:
    found = attacked(prepared(Masked(), BF16), ATTACKS["pgd"])
    assert found.precisions == ["bf16"] * 5
    assert found.zeros == [6 * (n == TRAP) for n in range(5)]


class Torn(Body):
    """Of a bright image the gradient is no number, in any precision."""

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.body(images)
        gap = logits * ~self.bright(images)
        return logits + torch.sqrt(gap**2)


@pytest.mark.parametrize("name", ["pgd", "whole"])
@pytest.mark.parametrize("precision", [BF16, FP32])
def test_what_is_not_finite_in_fp32_either_is_refused_by_name(
    name: str, precision: Precision
) -> None:
    with pytest.raises(UserError, match="NaN or infinite loss or gradient on case d"):
        attacked(prepared(Torn(), precision), ATTACKS[name])
