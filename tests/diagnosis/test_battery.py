"""A masked network is caught, whatever hides its gradient; an honest and a declared one pass."""

from __future__ import annotations

from collections.abc import Callable, Collection
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
from brief import shorten_suites
from torch import Tensor, nn

from segbench.api import Case
from segbench.diagnosis import battery
from segbench.diagnosis.checks import overall
from segbench.diagnosis.examination import Examination, Traced, late_rise
from segbench.engine.network import Network
from segbench.engine.precision import Precision
from segbench.plugins.attack import load_attack
from segbench.store.diagnoses import CHECKS, Check

EPS = Fraction(16, 255)
SIDE, CASES = 12, 8
FEW = 2  # of a network that draws, which is asked one case at a time


class Blobs(nn.Module):
    """Finds bright blobs by a local mean: honest, smooth, wrong at the rim."""

    def __init__(self) -> None:
        super().__init__()
        self.mean = nn.Conv2d(1, 1, 3, padding=1, padding_mode="replicate", bias=False)
        self.mean.weight.data = torch.full((1, 1, 3, 3), 1 / 9)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = 30 * (self.mean(images) - 0.5)
        return logits


class Louder(Blobs):
    """Logits times 10 000."""

    def forward(self, images: Tensor) -> Tensor:
        return 1e4 * super().forward(images)


class Squashed(Blobs):
    """Logits of an ordinary size that have come through a saturated tanh."""

    def forward(self, images: Tensor) -> Tensor:
        return 10 * torch.tanh(1e3 * super().forward(images))


class Emptied(Blobs):
    """Background beyond doubt: where it answers "empty", cross-entropy is saturated."""

    def forward(self, images: Tensor) -> Tensor:
        logits = super().forward(images)
        return torch.where(logits < 0, 1e4 * logits, logits)


class Nowhere(Blobs):
    """A max-pool whose larger entry, by a hair, is a copy outside the graph."""

    def forward(self, images: Tensor) -> Tensor:
        pair = torch.stack([images, images.detach() + 1e-6], 2)
        return super().forward(nn.functional.max_pool3d(pair, (2, 1, 1))[:, :, 0])


class Pooled(nn.Module):
    """Honest: the largest of four features of each neighbourhood."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Conv2d(1, 4, 3, padding=1, padding_mode="replicate", bias=False)
        weight = torch.full((4, 1, 3, 3), 1 / 9)
        for n, place in enumerate([(0, 0), (0, 2), (2, 0), (2, 2)]):
            weight[n, 0][place] = 2 / 9
        self.features.weight.data = weight * 0.9

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = 30 * (self.features(images).amax(1, keepdim=True) - 0.5)
        return logits


class Leaky(Blobs):
    """Honest: kinked."""

    def forward(self, images: Tensor) -> Tensor:
        return nn.functional.leaky_relu(super().forward(images), 0.2)


class Blurred(Blobs):
    """Honest: linear, by a smooth kernel, on which steps by cross-entropy stall in a corner."""

    def __init__(self) -> None:
        super().__init__()
        row = torch.tensor([1.0, 2.0, 1.0])
        self.mean.weight.data = (row[:, None] * row / 16)[None, None]


class Softened(Blobs):
    """Honest: a tanh in the range where it bends."""

    def forward(self, images: Tensor) -> Tensor:
        return 4 * torch.tanh(super().forward(images) / 4)


class Normalised(Blobs):
    """Honest: behind a batch norm."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(1)
        self.norm.running_mean.fill_(0.45)  # type: ignore[union-attr]
        self.norm.running_var.fill_(0.01)  # type: ignore[union-attr]

    def forward(self, images: Tensor) -> Tensor:
        return super().forward(self.norm(images) / 10 + 0.45)


class Flat(Blobs):
    """Logits through a tanh that is 1 in bf16, with a gradient of 0, and not in fp32."""

    def forward(self, images: Tensor) -> Tensor:
        return 10 * torch.tanh(2.5 * super().forward(images))


class Rounded(Blobs):
    """Images of a few levels."""

    def front(self, images: Tensor) -> Tensor:
        return (images * 16).round() / 16

    def forward(self, images: Tensor) -> Tensor:
        return super().forward(self.front(images))


class Codec(Rounded):
    """The same outside the graph."""

    def front(self, images: Tensor) -> Tensor:
        return super().front(images).detach()


class Astray(Rounded):
    """The same with a gradient that leads back."""

    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images) - 1e-2 * (images - images.detach())


class Voting(Blobs):
    """Half of its evidence is by how many pixels around are brighter than their neighbour."""

    def forward(self, images: Tensor) -> Tensor:
        brighter = (images > images.roll(1, -1)).to(images)
        return super().forward(images) + 15 * (self.mean(brighter) - 0.5)


class Shattered(Blobs):
    """Logits with a ripple too small to see, whose slope hides all others and turns at a step."""

    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images) + 0.01 * torch.sin(1e4 * images)


class Shaken(Blobs):
    """Images with noise of its own."""

    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images + 0.1 * torch.randn_like(images))


class DeclaredShaken(Shaken):
    eot_samples = 2


class Levels(nn.Module):
    def forward(self, images: Tensor) -> Tensor:
        return (images * 64).round() / 64

    def stand_in(self, images: Tensor) -> Tensor:
        return images


class DeclaredRounded(Blobs):
    def __init__(self) -> None:
        super().__init__()
        self.front = Levels()

    def forward(self, images: Tensor) -> Tensor:
        return super().forward(self.front(images))


@pytest.fixture(autouse=True)
def _few_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(battery, "STEPS", 16)


@pytest.fixture
def brief_suites(monkeypatch: pytest.MonkeyPatch) -> None:
    shorten_suites(monkeypatch, 12)


@pytest.fixture
def examine() -> Callable[[nn.Module], Examination]:
    """A network on blobs, bright on dark, each a patient's."""

    def make(module: nn.Module, policy: str = "fp32", count: int = CASES) -> Examination:
        random, cases = np.random.default_rng(0), []
        down, right = np.mgrid[:SIDE, :SIDE]
        for number in range(count):
            row, column = random.uniform(4, 8, 2)
            blob = (down - row) ** 2 + (right - column) ** 2 < 10
            image = 0.4 + 0.2 * blob + random.uniform(-0.05, 0.05, blob.shape)
            name = f"case-{number}"
            cases.append(
                Case(name, name, image[None].astype(np.float32), blob.astype(np.int64), ("b", "f"))
            )
        network = Network(
            "net", module, 2, torch.device("cpu"), Precision(policy, "as the test says")
        )
        network.prepare(torch.from_numpy(np.stack([case.image for case in cases[:2]])))
        return Examination(network, cases)

    return make


def made(examined: Examination, others: Any = (), until: Collection[str] = ()) -> dict[str, Check]:
    """All checks by name; with names those up to the last of them, of which none may lack."""
    found: dict[str, Check] = {}
    for check in battery._Battery(examined, EPS, others).checks():
        found[check.name] = check
        if until and found.keys() >= {*until}:
            break
    assert found.keys() >= {*until}
    return found


def verdicts(
    examined: Examination, others: Any = (), until: Collection[str] = ()
) -> dict[str, str]:
    found = made(examined, others, until)
    verdict = {name: check.verdict for name, check in found.items()}
    return verdict | {"overall": overall([*found.values()])}


@pytest.mark.usefixtures("brief_suites")
@pytest.mark.parametrize("honest", [Blobs, Pooled, Leaky, Softened, Normalised])
def test_an_honest_network_passes_every_check(honest: Any, examine: Any) -> None:
    found = verdicts(examine(honest()), [examine(Blobs())])
    assert set(found.values()) == {"pass"}, {k: v for k, v in found.items() if v != "pass"}
    assert {name for name in found if "transfer" not in name} == CHECKS | {"overall"}
    asked = {"gradients against noise", "own gradients against transfer"}
    assert asked | {f"{name} (scored-hinge)" for name in asked} <= found.keys()
    assert {
        "standard against all others",
        SEARCHED,
        "standard at twice the cost",
    } <= found.keys()


@pytest.mark.usefixtures("brief_suites")
@pytest.mark.parametrize(
    ("honest", "eps", "check"),
    [
        (Blurred, EPS, "gradients against black box"),
        (Leaky, Fraction(24, 255), "many steps against one"),
    ],
)
def test_steps_by_cross_entropy_that_stall_on_an_honest_network_mask_nothing(
    honest: Any, eps: Fraction, check: str, examine: Any
) -> None:
    found = battery.run_checks(examine(honest()), eps, (), lambda done: None)
    told = {one.name: one for one in found if one.verdict != "pass"}
    assert {name: one.verdict for name, one in told.items()} == {check: "weak loss"}
    assert told[check].number > told[check].threshold


SEARCHED = "standard's climbs against its search"


@pytest.mark.parametrize("masked", [Astray, Shattered])
def test_gradients_that_lead_astray_or_cancel_are_told_by_the_search_of_the_suite(
    masked: Any, examine: Any
) -> None:
    found = verdicts(examine(masked(), count=4), until=[SEARCHED])
    assert found[SEARCHED] == "fail"
    assert found[DIFFERENCES] == "fail"
    assert found["overall"] == "fail"


@pytest.mark.parametrize(("suite", "steps"), [("standard@4:cost=quick", 15), ("standard@1", 50)])
def test_as_many_gradients_again_are_those_that_the_suite_took(
    suite: str, steps: int, examine: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(battery, "STANDARD", suite)
    made = battery._Battery(examine(Blobs(), count=2), EPS, ())
    made._under("fgsm")
    assert len(list(made._standard())) == 3
    again = [name for name in made.scores if name.startswith("pgd:keep=best")]
    assert [load_attack(name).parameters["steps"] for name in again] == [steps, steps]


def test_a_gradient_that_is_zero_in_bf16_alone_hides_nothing(examine: Any) -> None:
    """The fast copy is compared, found unfit, and fp32 serves: the scores are the same."""
    fast, exact = examine(Flat(), "bf16"), examine(Flat())
    attack = load_attack("pgd:steps=8").attack
    np.testing.assert_allclose(fast.attacked(attack, EPS), exact.attacked(attack, EPS), atol=0.02)
    assert {"fp32"} == {name.partition(" ")[0] for name in fast.network.copies.used}
    assert "lost" in str(fast.network.copies.used)
    zero = "exactly zero gradients"
    assert verdicts(fast, until=[zero])[zero] == verdicts(exact, until=[zero])[zero]


ROUTES, DIFFERENCES = "routes without a gradient", "gradients against finite differences"


@pytest.mark.parametrize(
    ("masked", "checks"),
    [
        (Louder, {"saturated logits"}),
        (Squashed, {"exactly zero gradients", DIFFERENCES}),
        (Emptied, {"saturated logits"}),
        (
            Nowhere,
            {
                "exactly zero gradients",
                "exactly zero gradients (scored-hinge)",
                ROUTES,
                DIFFERENCES,
            },
        ),
        (Voting, {ROUTES, DIFFERENCES}),
        (Rounded, {"loss still rising at the end", DIFFERENCES}),
        (Codec, {"exactly zero gradients"}),
        (Shaken, {"two identical forwards"}),
    ],
)
def test_a_masked_network_fails_by_name(masked: Any, checks: set[str], examine: Any) -> None:
    found = verdicts(examine(masked(), count=FEW if masked is Shaken else CASES), until=checks)
    assert {found[check] for check in checks} == {"fail"}, found
    assert found["overall"] == "fail"


@pytest.mark.usefixtures("brief_suites")
@pytest.mark.parametrize("declared", [DeclaredRounded, DeclaredShaken])
def test_a_declared_defence_is_attacked_around_and_does_not_fail(
    declared: Any, examine: Any
) -> None:
    found = verdicts(examine(declared(), count=FEW if declared is DeclaredShaken else CASES))
    assert "fail" not in found.values(), found


def test_a_network_that_draws_or_is_declared_is_not_held_to_what_is_moot(examine: Any) -> None:
    for module, needless in (
        (Blobs(), ()),
        (DeclaredRounded(), (DIFFERENCES,)),
        (Shaken(), (ROUTES, DIFFERENCES)),
    ):
        examined = examine(module, count=FEW)
        assert examined.needless == needless
        assert (examined.unforetold() is None) == bool(needless)


def test_images_of_an_honest_twin_unmask_a_network(examine: Any) -> None:
    """What its own gradient does not find, that of the same network without the front does."""
    transfer = "own gradients against transfer"
    found = verdicts(examine(Rounded()), [examine(Blobs())], until=[transfer])
    assert found[transfer] == "fail"


def test_the_same_examination_gives_the_same_numbers(examine: Any) -> None:
    """Also where the network draws."""
    for kind in (Blobs, Shaken):
        first, second = (
            examine(kind()).attacked(load_attack("pgd:steps=3").attack, EPS) for _ in range(2)
        )
        np.testing.assert_array_equal(first, second)


def test_a_traced_attack_is_never_weaker_and_its_loss_is_noted_at_every_step(examine: Any) -> None:
    examined, attack = examine(Blobs()), load_attack("ifgsm:preset=free,steps=6").attack
    traced = Traced(attack)
    assert (examined.attacked(traced, EPS) <= examined.attacked(attack, EPS)).all()
    assert [losses.shape[1] for losses in traced.losses] == [6] * len(examined.batches)
    assert all((losses[:, -1] > losses[:, 0]).all() for losses in traced.losses)


def test_chance_is_the_score_of_labels_at_random_places(examine: Any) -> None:
    """p / (2 - p) for a share p of foreground, within the spread of 144 pixels."""
    examined = examine(Blobs())
    share = torch.cat([batch.truth for batch in examined.batches]).double().mean().item()
    assert examined.chance().mean() == pytest.approx(share / (2 - share), abs=0.05)


def test_late_rise_of_known_curves() -> None:
    steps = torch.arange(41.0)
    assert late_rise([steps[None]]) == pytest.approx(0.25)  # evenly
    assert late_rise([steps.clamp_max(10)[None]]) == 0  # converged
    assert late_rise([torch.ones(1, 41)]) == 1  # never
    assert late_rise([-steps[None]]) == 1  # the wrong way
    swinging = steps.clamp_max(10) - 3 * (steps % 2)
    assert late_rise([swinging[None]]) == 0
    assert late_rise([steps[None], torch.ones(3, 41)]) == pytest.approx((0.25 + 3) / 4)


def test_it_is_said_what_an_attack_would_have_reported_that_does_not_know_of_the_front(
    examine: Any,
) -> None:
    """Of one that rounds it finds no gradient, so that it leaves the clean score."""
    examined, name = examine(DeclaredRounded()), "an attack that does not know of the front"
    told = made(examined, until=[name])[name]
    assert told.verdict == "pass"
    assert told.number > 0.2
    still = examined.scores([image for batch in examined.batches for image in batch.images])
    reported = float(told.meaning.partition("Jaccard of ")[2].partition(";")[0])
    assert reported == pytest.approx(still.mean(), abs=0.05)
