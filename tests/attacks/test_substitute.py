"""The substitute: what it learns, what it asks for, and that it goes where no gradient leads."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from typing import Any

import pytest
import torch
from brief import shorten_suites
from torch import Tensor, nn
from toys import scores

from segbench.api import Budget, Goal
from segbench.engine.noise import CaseNoise
from segbench.engine.whole import CaseObjective
from segbench.errors import UserError
from segbench.plugins.attack import load_attack
from segbench_attacks.answer_model import AnswerModel, coarser, finer
from segbench_attacks.field import Field
from segbench_attacks.race import Member, Race
from segbench_attacks.substitute import Substitute, by_substitute

EPS = 0.06


class Blurred(nn.Module):
    """An organ where the image is bright over some pixels, behind a scanner of 64 gray levels."""

    def forward(self, images: Tensor) -> Tensor:
        levels = (63 * images[:, :1]).round() / 63
        return 30 * (nn.functional.avg_pool2d(levels, 5, 1, 2) - 0.5)


def scene() -> tuple[Tensor, Tensor]:
    """Two images (2, 1, 24, 24) of a faint disc, and where it is."""
    rows, columns = torch.meshgrid(torch.arange(24.0), torch.arange(24.0), indexing="ij")
    labels = torch.stack([(rows - r).square() + (columns - 12).square() < 49 for r in (10, 13)])
    draw = torch.Generator().manual_seed(3)
    images = 0.45 + 0.1 * labels[:, None] + 0.1 * torch.rand(2, 1, 24, 24, generator=draw) - 0.05
    return images, labels.long()


def case_of(images: Tensor, logits: Tensor) -> AnswerModel:
    """A model of one case's answers."""
    noise = CaseNoise(0, ("a",), images.device)
    return AnswerModel(images, logits, EPS, noise)


def test_it_leaves_less_than_as_many_squares_where_the_gradient_is_zero(
    prepared: Any, run: Any
) -> None:
    images, labels = scene()
    network = prepared(Blurred(), images)
    left = {}
    for text in ("substitute:steps=30", "square:steps=30", "square:steps=150", "pgd:steps=4"):
        found = run(network, load_attack(text), images, labels, eps=str(EPS))
        left[text] = scores(network, found.images, labels).mean().item()
        assert text.startswith("pgd") or found.backwards == [0, 0]
    assert left["substitute:steps=30"] < left["square:steps=30"] - 0.1, left
    assert left["substitute:steps=30"] < left["square:steps=150"], left
    assert left["pgd:steps=4"] > 0.9, "its gradient is zero"


@pytest.mark.parametrize("steps", [1, 2, 7])
def test_it_asks_no_more_than_it_says(
    steps: int, prepared: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The clean image is a query too."""
    shorten_suites(monkeypatch)
    images, labels = scene()
    network = prepared(Blurred(), images)
    asked: list[int] = []
    network.module.register_forward_pre_hook(lambda _, given: asked.append(len(given[0])))
    noise = CaseNoise(0, ("a", "b"), images.device)
    objective = CaseObjective(network, noise, images)
    budget = Budget("linf", Fraction(EPS))
    Substitute(steps).run(objective, images, Goal(labels, labels), budget, noise)
    assert sum(asked) == 2 * steps


def test_a_later_run_asks_what_no_earlier_one_asked(
    prepared: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """But for the clean image and where it starts."""
    shorten_suites(monkeypatch)
    images, labels = scene()
    images, labels = images[:1], labels[:1]
    network = prepared(Blurred(), images)
    goal, noise = Goal(labels, labels), CaseNoise(0, ("a",), images.device)
    objective = CaseObjective(network, noise, images)
    field = Field(objective, images, goal, Budget("linf", Fraction(EPS)), noise, "linf")
    asked: list[list[bytes]] = []
    network.module.register_forward_pre_hook(
        lambda _, given: asked[-1].append(given[0].numpy().tobytes())
    )
    start = images
    for number in (0, 10):
        asked.append([])
        start = by_substitute(field, start, 10, number)
    assert [len({*run}) for run in asked] == [10, 10]
    assert len({*asked[0]} & {*asked[1]}) == 2


def test_no_change_of_the_image_is_no_change_of_the_answer() -> None:
    images, logits = torch.rand(1, 2, 9, 7), 5 * torch.randn(1, 3, 9, 7)
    assert torch.equal(case_of(images, logits)(images), logits)


@pytest.mark.parametrize("shape", [(3, 9, 7), (2, 5, 6, 7), (2, 3, 70, 65)])
def test_it_learns_what_it_is_told(shape: tuple[int, ...]) -> None:
    """Classes in 2-D and 3-D, also of images larger than the grid that it learns on."""
    generator = torch.Generator().manual_seed(1)
    images, slope = torch.rand(1, 1, *shape[1:], generator=generator), 40.0
    logits = torch.randn(1, *shape, generator=generator)
    model = case_of(images, logits)

    def answer(some: Tensor) -> Tensor:
        return logits + slope * (some - images)

    signs = torch.ones(4, 1, *shape[1:])
    signs[1], signs[2, ..., :3], signs[3, ..., 3:] = -1, -1, -1
    shown = [images + EPS * sign[None] for sign in signs]
    for some in shown:
        model.tell(some, answer(some))

    def error() -> float:
        return float((model(shown[-1]) - answer(shown[-1])).detach().abs().mean())

    before = error()
    model.fit(100)
    after = error()
    assert after < 0.3 * before


def test_overlapping_structures_keep_their_places() -> None:
    images, logits = torch.rand(1, 1, 6, 8), torch.randn(1, 2, 3, 6, 8)
    model = case_of(images, logits)
    assert model(images.repeat(2, 1, 1, 1)).shape == (2, 2, 3, 6, 8)


def test_no_random_number_is_drawn_but_from_the_case_s_noise() -> None:
    images, logits = torch.rand(1, 1, 8, 8), torch.randn(1, 2, 8, 8)
    before = torch.get_rng_state()
    models = [case_of(images, logits) for _ in range(2)]
    for model in models:
        model.tell(images + EPS, logits + 1)
        model.fit(3)
    assert torch.equal(torch.get_rng_state(), before)
    answers = [model(images + EPS) for model in models]
    assert torch.equal(*answers)


@pytest.mark.parametrize("block", [1, 2, 3])
@pytest.mark.parametrize("spatial", [(7,), (6, 5), (4, 3, 5)])
def test_a_block_is_a_mean_and_a_mean_a_block(block: int, spatial: tuple[int, ...]) -> None:
    grid = torch.rand(2, 3, *[-(-length // block) for length in spatial])
    whole = [block * length for length in grid.shape[2:]]
    torch.testing.assert_close(coarser(finer(grid, block, whole), block), grid)
    assert finer(grid, block, spatial).shape == (2, 3, *spatial)
    assert coarser(torch.rand(2, 3, *spatial), block).shape == grid.shape


@pytest.mark.parametrize("value", ["0", "-3"])
def test_it_needs_a_query(value: str) -> None:
    with pytest.raises(UserError, match="must be at least 1"):
        load_attack(f"substitute:steps={value}")


def test_members_are_told_apart_by_where_they_start() -> None:
    members = {
        "reach": Member("reach"),
        "reach from a random start": Member("reach", start="random"),
        "reach from a universal direction": Member("reach", start="universal"),
        "reach from a smaller ball": Member("reach", radii=(0.5, 1.0)),
        "search": Member(None),
        "substitute": Member(None, learns=True),
    }
    assert {name: member.name for name, member in members.items()} == {n: n for n in members}


def test_what_it_finds_does_not_hide_that_gradients_do_not_lead(prepared: Any) -> None:
    """A search that brings as much as climbs is a sign, whatever a substitute brings beside it."""
    images, labels = scene()
    network = prepared(Blurred(), images)
    goal, noise = Goal(labels, labels), CaseNoise(0, ("a", "b"), images.device)
    field = Field(
        CaseObjective(network, noise, images), images, goal, Budget("linf", Fraction(EPS)), noise,
        "linf",
    )  # fmt: skip
    race = Race(field, [Member("reach"), Member(None), Member(None, learns=True)])
    fallen = torch.tensor([[0.003, 0.011, 0.085], [0.3, 0.01, 0.4]])
    race.lowest = race.clean[:, None] - fallen
    race.standing = replace(race.standing, left=race.lowest.amin(1))
    assert race._unled().tolist() == [True, False]
