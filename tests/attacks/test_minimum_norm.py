"""DAG, ASMA, ALMA-prox and PDPGD: near the true distance where it is known, and the clean image
where there is nothing to do or nothing to be done."""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from toys import scores

from segbench.api import Budget, Context, Goal, Plan, State
from segbench.engine.loop import attack_batch
from segbench.engine.network import Network
from segbench.engine.noise import CaseNoise
from segbench.engine.targets import target_labels
from segbench.errors import UserError
from segbench.plugins.attack import NamedAttack, attack_budgets, load_attack
from segbench_attacks.dag import DAG

NAMES = ("dag", "asma", "alma-prox", "pdpgd")
NORMS = {"linf": torch.inf, "l2": 2.0}
SIDE = 8


def named(name: str, **parameters: Any) -> NamedAttack:
    """An attack in as few steps as do."""
    steps = {"alma-prox": 300, "asma": 200, "dag": 120, "pdpgd": 200}[name]
    items = {"steps": steps, **parameters}
    return load_attack(f"{name}:" + ",".join(f"{key}={value}" for key, value in items.items()))


def attacked(
    network: Network, attack: NamedAttack, images: Tensor, labels: Tensor, **goal: Any
) -> Tensor:
    (budget,) = attack_budgets(attack, [])
    noise = CaseNoise(0, tuple("abcdefgh"[: len(images)]), images.device)
    aim = Goal(labels, goal.pop("truth", labels), **goal)
    return attack_batch(network, attack.attack, images, aim, budget, noise).images


def distance(found: Tensor, images: Tensor, norm: str) -> Tensor:
    return torch.linalg.vector_norm((found - images).flatten(1), ord=NORMS[norm], dim=1)


class Plane(nn.Module):
    """All pixels turn over at once, where ``v . x`` crosses a level."""

    def __init__(self, level: float, dims: int = 2) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(1)
        self.v = 0.5 + torch.rand(SIDE**dims, generator=generator)
        self.v[::3] *= -1
        self.level, self.shape = level, (SIDE,) * dims
        self.s = torch.where(torch.arange(SIDE**dims) % 4 < 2, 0.1, -0.1)

    def forward(self, images: Tensor) -> Tensor:
        z = images.flatten(1) @ self.v - self.level
        z = (z[:, None] * self.s).view(-1, 1, *self.shape)
        return torch.cat([-z, z], 1)

    def true_distance(self, images: Tensor, norm: str) -> Tensor:
        """|v . x - level| over the dual norm of v."""
        dual = torch.linalg.vector_norm(self.v, ord={"linf": 1.0, "l2": 2.0}[norm])
        return (images.flatten(1) @ self.v - self.level).abs() / dual


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("dims", [2, 3])
def test_where_all_pixels_turn_at_once_the_distance_is_that_to_the_plane(
    name: str, norm: str, dims: int, prepared: Any
) -> None:
    generator = torch.Generator().manual_seed(2)
    images = 0.4 + 0.2 * torch.rand(2, 1, *[SIDE] * dims, generator=generator)
    module = Plane(0.0, dims)
    module.level = float((images.flatten(1) @ module.v).min()) - 0.02 * float(module.v.abs().sum())
    network = prepared(module, images)
    labels = network.as_labels(network.exact_logits(images))
    found = attacked(network, named(name, norm=norm), images, labels)
    assert (scores(network, found, labels) < 0.5).all()
    ratio = distance(found, images, norm) / module.true_distance(images, norm)
    assert ratio.min() >= 1 - 1e-4
    assert ratio.max() <= 1.25


class Levels(nn.Module):
    """Each pixel turns over at a level of its own; K classes, of which two are at stake."""

    def __init__(self, levels: Tensor, classes: int) -> None:
        super().__init__()
        self.levels, self.classes = levels, classes

    def forward(self, images: Tensor) -> Tensor:
        z = images - self.levels
        others = [torch.full_like(z, -5.0)] * (self.classes - 2)
        return torch.cat([-z, z, *others], 1)


def least_linf(network: Network, images: Tensor, labels: Tensor, below: float) -> Tensor:
    """By trial: the radius at which the case falls when every pixel that can turn does."""
    levels, radii = network.module.levels, torch.linspace(0, 0.3, 601)
    least = torch.full((len(images),), torch.inf)
    for radius in radii.flip(0).tolist():
        turned = images + radius * (levels - images).sign()
        fell = scores(network, turned, labels) < below
        least = torch.where(fell, radius, least)
    return least


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("classes", "below"), [(2, 0.5), (3, 0.75)])
def test_where_pixels_turn_one_by_one_the_nearest_ones_do(
    name: str, classes: int, below: float, prepared: Any
) -> None:
    """Up to what is gained by turning background alone, which the closed form does not know."""
    generator = torch.Generator().manual_seed(3)
    images = 0.35 + 0.3 * torch.rand(2, 1, SIDE, SIDE, generator=generator)
    shift = 0.01 + 0.05 * torch.rand(1, 1, SIDE, SIDE, generator=generator)
    sign = torch.where(torch.rand(1, 1, SIDE, SIDE, generator=generator) < 0.5, -1.0, 1.0)
    images = images[:1] + 0.002 * torch.arange(3.0)[:, None, None, None]
    network = prepared(Levels(images[:1] + shift * sign, classes), images, classes)
    labels = network.as_labels(network.exact_logits(images))
    attack = named(name, norm="linf", below=below)
    found = attacked(network, attack, images, labels)
    assert (scores(network, found, labels) < below).all()
    ratio = distance(found, images, "linf") / least_linf(network, images, labels, below)
    assert ratio.max() <= 1.25, ratio


@pytest.mark.parametrize("name", NAMES)
def test_a_case_that_is_below_from_the_start_or_never_falls_keeps_its_image(
    name: str, prepared: Any
) -> None:
    generator = torch.Generator().manual_seed(4)
    images = 0.45 + 0.1 * torch.rand(2, 1, SIDE, SIDE, generator=generator)
    network = prepared(Levels(torch.full((1, 1, SIDE, SIDE), 0.5), 2), images)
    labels = network.as_labels(network.exact_logits(images))
    labels[0] = 1 - labels[0]  # all wrong
    stubborn = prepared(Levels(torch.full((1, 1, SIDE, SIDE), -9.0), 2), images)
    attack = named(name)
    found = attacked(network, attack, images, labels)
    assert torch.equal(found[0], images[0])
    assert not torch.equal(found[1], images[1])
    ones = torch.ones_like(labels)
    assert torch.equal(attacked(stubborn, attack, images, ones), images)


@pytest.mark.parametrize("name", NAMES)
def test_the_threshold_is_the_one_that_is_asked_for(name: str, prepared: Any) -> None:
    """The lower, the further; and just below it."""
    generator = torch.Generator().manual_seed(5)
    images = 0.3 + 0.4 * torch.rand(2, 1, SIDE, SIDE, generator=generator)
    levels = images[:1] - 0.01 - 0.05 * torch.rand(1, 1, SIDE, SIDE, generator=generator)
    network = prepared(Levels(levels, 2), images)
    labels = network.as_labels(network.exact_logits(images))
    distances = []
    for below in (0.8, 0.3):
        attack = named(name, norm="linf", below=below)
        assert attack_budgets(attack, []) == [Budget("min-norm", Fraction(str(below)))]
        found = attacked(network, attack, images, labels)
        reached = scores(network, found, labels)
        assert (reached < below).all()
        distances.append(distance(found, images, "linf"))
    assert (distances[0] < distances[1]).all()


@pytest.mark.parametrize("name", NAMES)
def test_ignored_pixels_have_no_part(name: str, prepared: Any) -> None:
    generator = torch.Generator().manual_seed(7)
    images = 0.45 + 0.1 * torch.rand(1, 1, SIDE, SIDE, generator=generator)
    levels = torch.full((1, 1, SIDE, SIDE), 0.5)
    others = levels.clone()
    others[..., :4] = 0.52
    network, other = (prepared(Levels(some, 2), images) for some in (levels, others))
    labels = network.as_labels(network.exact_logits(images))
    labels[..., :4] = 255
    found, same = (
        attacked(some, named(name), images, labels, ignore_index=255) for some in (network, other)
    )
    assert not torch.equal(found, images)
    assert torch.equal(found[..., :4], images[..., :4])
    torch.testing.assert_close(same, found, atol=1e-6, rtol=0)


@pytest.mark.parametrize("name", NAMES)
def test_a_target_is_reached_by_agreement(name: str, prepared: Any) -> None:
    generator = torch.Generator().manual_seed(6)
    images = 0.45 + 0.1 * torch.rand(2, 1, SIDE, SIDE, generator=generator)
    network = prepared(Levels(torch.full((1, 1, SIDE, SIDE), 0.5), 2), images)
    truth = network.as_labels(network.exact_logits(images))
    target = truth.roll(2, -1)
    attack = named(name, below=0.1, **({"steps": 500} if name == "alma-prox" else {}))
    found = attacked(network, attack, images, target, truth=truth, targeted=True)
    assert (scores(network, found, target) > 0.9 - 1e-9).all()


@pytest.mark.parametrize("target", ["empty", "class:0"])
@pytest.mark.parametrize("name", NAMES)
def test_a_lesion_that_is_to_vanish_has_not_before_most_of_it_has(
    name: str, target: str, prepared: Any
) -> None:
    """Of "nothing there" 15 of 16 pixels are right from the start."""
    images = torch.full((1, 1, SIDE, SIDE), 0.4)
    images[..., :2, :2] = 0.6
    network = prepared(Levels(torch.full((1, 1, SIDE, SIDE), 0.5), 2), images)
    truth = network.as_labels(network.exact_logits(images))
    wanted = target_labels(target, truth, ("background", "lesion"), None, structures=False)
    attack = named(name, below=0.5, **({"steps": 500} if name == "alma-prox" else {}))
    found = attacked(network, attack, images, wanted, truth=truth, targeted=True)
    left = network.as_labels(network.exact_logits(found)).sum()
    assert left <= 1
    assert distance(found, images, "linf") > 0.09


@pytest.mark.parametrize(
    "text",
    [
        "dag:below=0",
        "asma:below=1",
        "alma-prox:steps=0",
        "dag:step_size=0",
        "asma:tau=0",
        "pdpgd:step_size=0",
    ],
)
def test_parameters_that_mean_nothing_are_refused(text: str) -> None:
    with pytest.raises(UserError):
        load_attack(text)


@dataclass(frozen=True)
class Restarted(DAG):
    """DAG from three starts, each darker than the one before; the last is the clean image."""

    starts: int = 3

    def plan(self, budget: Budget) -> Plan:
        return replace(super().plan(budget), restarts=self.starts)

    def init(self, context: Context) -> State:
        brighter = 0.15 * (self.starts - 1 - context.restart)
        return State((context.images + brighter).clamp(0, 1))


def test_restarts_keep_the_nearest_and_not_the_lowest_score(prepared: Any) -> None:
    generator = torch.Generator().manual_seed(2)
    images = 0.4 + 0.2 * torch.rand(2, 1, SIDE, SIDE, generator=generator)
    module = Plane(0.0)
    module.level = float((images.flatten(1) @ module.v).min()) - 0.02 * float(module.v.abs().sum())
    network = prepared(module, images)
    labels = network.as_labels(network.exact_logits(images))
    dag = named("dag")
    found = []
    for attack in (Restarted(steps=120, starts=1), Restarted(steps=120)):
        mine = NamedAttack(dag.label, attack, dag.plugin)
        made = attacked(network, mine, images, labels)
        assert (scores(network, made, labels) < 0.5).all()
        found.append(distance(made, images, "linf"))
    assert (found[1] <= found[0] + 1e-6).all()
