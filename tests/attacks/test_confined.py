"""Every attack that can be confined changes nothing outside its region, and uses what is inside."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor, nn
from toys import Curved

from segbench.api import Budget, Context, Goal, MinimumNorm, StepAttack
from segbench.engine import ball
from segbench.engine.loop import attack_batch
from segbench.engine.noise import CaseNoise
from segbench.errors import ContractError, MachineError, UserError
from segbench.plugins.attack import NamedAttack, load_attack
from segbench.plugins.where import may_be_confined
from segbench_attacks.square import aimed

pytestmark = pytest.mark.usefixtures("brief_suites")


def scene(*shape: int, classes: int = 2) -> tuple[Tensor, Tensor]:
    """Random images (B, C, *spatial) and labels (B, *spatial) of every class."""
    generator = torch.Generator().manual_seed(4)
    images = torch.rand(shape, generator=generator)
    return images, torch.randint(0, classes, (shape[0], *shape[2:]), generator=generator)


def halves(images: Tensor) -> Tensor:
    """The upper half of every image may change, and of the last one nothing."""
    region = torch.zeros_like(images[:, :1], dtype=torch.bool)
    region[:-1, :, : images.shape[2] // 2] = True
    return region


def is_confinable(attack: NamedAttack) -> bool:
    try:
        load_attack(f"{attack.label}{',' if ':' in attack.label else ':'}where=inside")
    except UserError:
        return False
    return True


def keeps_the_last(attack: NamedAttack) -> bool:
    inner = attack.attack
    budget = Budget(inner.budget_kind, Fraction(8, 255))
    return isinstance(inner, StepAttack) and inner.plan(budget).keep == "last"


@pytest.mark.parametrize("shape", [(2, 2, 8, 8), (2, 1, 4, 5, 6)], ids=["2-D", "3-D"])
def test_nothing_changes_outside_to_the_bit_and_inside_the_attack_goes_on(
    attack: NamedAttack, shape: tuple[int, ...], prepared: Any, run: Any
) -> None:
    assert is_confinable(attack) == may_be_confined(attack.plugin.factory)
    if not is_confinable(attack) or (attack.plugin.name == "art/SquareAttack" and len(shape) == 5):
        return
    images, truth = scene(*shape, classes=3)
    network, region = prepared(Curved(shape[1], 3, len(shape) - 2), images, 3), halves(images)
    outcome = run(network, attack, images, truth, region=region)
    found = outcome.images
    eps = 1.0 if isinstance(attack.attack, MinimumNorm) else 8 / 255
    assert (found - images).abs().max() <= eps + 1e-6
    assert found.min() >= 0
    assert found.max() <= 1
    assert torch.equal(found.where(~region, 0), images.where(~region, 0))
    assert torch.equal(found[-1], images[-1])
    assert outcome.zeros[-1] == 0  # a case that may not change is not stuck
    if attack.attack.needs == "gradients" and keeps_the_last(attack):
        assert (found != images).flatten(1).any(1)[:-1].all()


def test_of_a_whole_image_the_region_changes_nothing(
    attack: NamedAttack, prepared: Any, run: Any
) -> None:
    images, truth = scene(2, 1, 8, 8)
    network = prepared(Curved(), images)
    everywhere = torch.ones_like(images, dtype=torch.bool)
    confined = run(network, attack, images, truth, region=everywhere)
    free = run(network, attack, images, truth)
    torch.testing.assert_close(confined.images, free.images, atol=1e-6, rtol=0)
    assert confined.backwards == free.backwards


class Linear(nn.Module):
    """The logit of class 1 is a weighted sum over the image, the same at every pixel."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(2)
        self.weight = nn.Parameter(torch.randn(1, 1, 8, 8, generator=generator))

    def forward(self, images: Tensor) -> Tensor:
        z = 10 + (images * self.weight).sum((1, 2, 3), keepdim=True).expand(-1, 1, 8, 8)
        return torch.cat([-z, z], 1)


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_on_a_linear_network_it_ends_at_the_optimum_of_the_region(norm: str, prepared: Any) -> None:
    images = 0.5 + 0.02 * torch.rand(2, 1, 8, 8, generator=torch.Generator().manual_seed(5))
    truth = torch.ones(2, 8, 8, dtype=torch.int64)
    module = Linear()
    network, region = prepared(module, images), halves(images).roll(1, 0)[[1, 1]]
    eps = {"linf": Fraction(1, 50), "l2": Fraction(1, 5), "l1": Fraction(2, 5)}[norm]
    attack = load_attack(f"pgd:steps=20,norm={norm},loss=margin,where=inside").attack
    budget, noise = Budget(norm, eps), CaseNoise(0, ("a", "b"), images.device)  # type: ignore[arg-type]
    goal = Goal(truth, truth)
    found = attack_batch(network, attack, images, goal, budget, noise, region).images  # type: ignore[arg-type]
    weight = (module.weight.detach() * region)[0]
    dual = {"linf": 1.0, "l2": 2.0, "l1": torch.inf}[norm]
    best = float(eps) * torch.linalg.vector_norm(weight.flatten(), ord=dual)
    reached = -((found - images) * module.weight.detach()).sum((1, 2, 3))
    torch.testing.assert_close(reached, best.expand(2), rtol=2e-2, atol=0)
    assert (reached <= best * (1 + 1e-5)).all()


@dataclass(frozen=True)
class Strayed:
    """A stranger's attack that knows nothing of regions, and moves every pixel."""

    needs: ClassVar[str] = "scores"
    budget_kind: ClassVar[str] = "linf"
    several: bool = False

    def run(self, objective: Any, images: Tensor, goal: Any, budget: Any, noise: Any) -> Tensor:
        moved = images + budget.eps
        for index in torch.arange(len(images))[:, None]:
            one = objective.select(index).scores(moved[index])
            assert torch.allclose(one, objective.scores(moved)[index], atol=1e-5)
        if self.several:
            objective.scores(torch.cat([moved, moved]))
        return moved


def test_a_strangers_attack_is_confined_by_the_engine(prepared: Any) -> None:
    images, truth = scene(3, 1, 8, 8)
    network, region = prepared(Curved(), images), halves(images)
    budget, noise = Budget("linf", Fraction(1, 50)), CaseNoise(0, ("a", "b", "c"), images.device)
    whole: Any = Strayed()
    found = attack_batch(network, whole, images, Goal(truth, truth), budget, noise, region).images
    expected = torch.where(region, (images + 0.02).clamp(0, 1), images)
    torch.testing.assert_close(found, expected, atol=1e-7, rtol=0)
    mixing: Any = Strayed(several=True)
    with pytest.raises(ContractError, match=r"where= cannot tell apart; it has to ask obj"):
        attack_batch(network, mixing, images, Goal(truth, truth), budget, noise, region)


def test_the_last_word_names_the_case_that_changed_where_it_may_not() -> None:
    images, _ = scene(3, 1, 8, 8)
    found, region = images.clone(), halves(images)
    found[1, 0, 7, 3] += 2.0**-20
    budget = Budget("linf", Fraction(1, 50))
    ball.check(found, images, budget, "mine", ("a", "b", "c"))
    with pytest.raises(MachineError, match="attack mine changed case b where it may not"):
        ball.check(found, images, budget, "mine", ("a", "b", "c"), region)


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("spatial", [(20, 24), (8, 9, 10)])
def test_squares_are_put_where_they_may_change_something(norm: str, spatial: Any) -> None:
    images = torch.full((4, 1, *spatial), 0.5)
    region = torch.zeros_like(images, dtype=torch.bool)
    region[0, 0, 0, 0], region[1, 0, -1, -1], region[2] = True, True, True
    noise = CaseNoise(0, tuple("abcd"), images.device)
    budget = Budget(norm, Fraction(1, 10))  # type: ignore[arg-type]
    nothing = Goal(torch.zeros(0), torch.zeros(0))
    context, dims = Context(images, nothing, budget, noise, region=region), len(spatial)
    for draw, side in itertools.product(range(20), (1, 3, 5)):
        numbers = noise.uniform(draw, (2 * dims + 3,))
        found = aimed(context, numbers, side, squares=2)
        room = torch.tensor(spatial) - side + 1
        for square in range(2):
            at = slice(square * dims, (square + 1) * dims)
            corner = (found[:, at] * room).floor().long()
            for case in (0, 1):
                covered = tuple(slice(c, c + side) for c in corner[case].tolist())
                assert region[case, 0][covered].any()
            assert torch.equal(found[2:, at], numbers[2:, at])  # all of it, or nothing: as ever
        assert torch.equal(found[:, 2 * dims :], numbers[:, 2 * dims :])
