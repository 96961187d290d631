"""Searches without gradients: how near they come to known optima, and what they may see."""

from __future__ import annotations

from fractions import Fraction
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from segbench.api import Budget, Context, Feedback, Goal, State
from segbench.engine.noise import CaseNoise
from segbench.engine.objective import NetworkObjective
from segbench.evaluation import score as evaluate
from segbench.evaluation.grid import Cell
from segbench.plugins.attack import load_attack
from segbench_attacks.rays import RayS, sign_block
from segbench_attacks.square import Square, square_side
from segbench_attacks.square_l2 import moved_norm, window

EPS = 8 / 255
SIDE = 6


class Rows(nn.Module):
    """Every pixel's one logit is ``s_p (v . x) + offset``, of rank one, v without zeros."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(5)
        self.v = 0.5 + torch.rand(SIDE * SIDE, generator=generator)
        self.v[::3] *= -1
        self.s = torch.where(torch.arange(SIDE * SIDE) % 4 < 2, 0.1, -0.1)

    def forward(self, images: Tensor) -> Tensor:
        z = images.flatten(1) @ self.v + 10
        return (z[:, None] * self.s).view(-1, 1, SIDE, SIDE)

    def best(self, images: Tensor) -> Tensor:
        """With the network's own labels, every loss falls with ``v . x``."""
        return (images - EPS * self.v.sign().view(1, 1, SIDE, SIDE)).clamp(0, 1)


@pytest.mark.parametrize(("steps", "share"), [(100, 0.6), (300, 0.999)])
def test_square_comes_within_a_stated_gap_of_the_best_corner(
    steps: int, share: float, prepared: Any, run: Any
) -> None:
    """Of what the corner gains: 60 % by 100 queries for 36 pixels, 99.9 % by 300."""
    net, generator = Rows(), torch.Generator().manual_seed(6)
    images = torch.rand(3, 1, SIDE, SIDE, generator=generator)
    network = prepared(net, images)
    labels = network.as_labels(network.exact_logits(images))
    found = run(network, load_attack(f"square:steps={steps}"), images, labels)

    def height(some: Tensor) -> Tensor:
        return some.flatten(1) @ net.v

    gained = (height(images) - height(found.images)) / (height(images) - height(net.best(images)))
    assert gained.min() >= share, gained
    assert gained.max() <= 1 + 1e-4
    assert found.backwards == [0, 0, 0]


@pytest.mark.parametrize("eps", ["8/255", "1/2", "1"])
@pytest.mark.parametrize(("steps", "share"), [(100, 0.45), (300, 0.55)])
def test_square_in_l2_comes_within_a_stated_gap(
    steps: int, share: float, eps: str, prepared: Any, run: Any
) -> None:
    """45 % of the ball's best by 100 queries for 36 pixels, 55 % by 300."""
    net, generator = Rows(), torch.Generator().manual_seed(6)
    images = torch.rand(3, 1, SIDE, SIDE, generator=generator)
    network = prepared(net, images)
    labels = network.as_labels(network.exact_logits(images))
    found = run(network, load_attack(f"square:norm=l2,steps={steps}"), images, labels, eps=eps)
    fallen = ((images - found.images).flatten(1) @ net.v) / (float(Fraction(eps)) * net.v.norm())
    assert fallen.min() >= share, fallen  # of what a ball without a box would allow
    assert fallen.max() <= 1 + 1e-4
    assert found.backwards == [0, 0, 0]


def test_a_square_in_l2_keeps_the_norm_and_clears_another() -> None:
    images = torch.full((2, 3, 9, 7), 0.5)
    noise = CaseNoise(0, ("a", "b"), images.device)
    budget = Budget("l2", Fraction(1))
    labels = torch.zeros(2, 9, 7).long()
    context = Context(images, Goal(labels, labels), budget, noise)
    best = Square(norm="l2").init(context).images
    torch.testing.assert_close((best - images).flatten(1).norm(dim=1), torch.ones(2))
    assert (best != images).any()
    numbers = torch.tensor([0.0, 0.0, 0.99, 0.99, 0.2, 0.1, 0.9, 0.9]).expand(2, -1)
    found = moved_norm(context, best, numbers, 3)
    torch.testing.assert_close((found - images).flatten(1).norm(dim=1), torch.ones(2))
    assert torch.equal(found[..., 6:, 4:], images[..., 6:, 4:])  # cleared
    untouched = torch.ones(9, 7, dtype=torch.bool)
    untouched[:3, :3] = untouched[6:, 4:] = False
    torch.testing.assert_close(found[..., untouched], best[..., untouched])
    assert not torch.equal(found[..., :3, :3], best[..., :3, :3])


@pytest.mark.parametrize("side", [2, 3, 8, 9])
def test_torchattacks_has_the_same_bumps(side: int) -> None:
    torchattacks = pytest.importorskip("torchattacks", reason="torchattacks is not installed")
    theirs = torchattacks.Square(nn.Identity(), norm="L2").eta(side).cpu()
    turned = torch.equal(theirs.sign(), theirs.sign()[:1].expand_as(theirs))
    torch.testing.assert_close(theirs, window([side, side], int(turned)))


@pytest.mark.parametrize(
    ("text", "precision"),
    [("pgd", "bf16"), ("uap", "bf16"), ("square", "fp32"), ("rays", "fp32"), ("noise", "fp32"),
     ("corruption/blur", "fp32"), ("art/SquareAttack", "fp32"), (None, "fp32")],
)  # fmt: skip
def test_rows_name_the_precision_of_gradients_only_where_there_were_any(
    text: str | None, precision: str
) -> None:
    network: Any = SimpleNamespace(copies=SimpleNamespace(fast=SimpleNamespace(name="bf16")))
    cell = Cell(load_attack(text) if text else None, Budget("linf", Fraction(8, 255)))
    asked = "bf16" if text == "pgd" else ""
    outcome: Any = SimpleNamespace(images=torch.zeros(2), precisions=[asked, "fp32" * bool(asked)])
    told = (precision, "fp32" if asked else precision)
    assert evaluate._precisions(network, cell, outcome) == told


class Threshold(nn.Module):
    """A pixel is foreground above one half: each label is one pixel's own, in 2-D or 3-D."""

    def forward(self, images: Tensor) -> Tensor:
        return images[:, :1] - 0.5


@pytest.mark.parametrize("shape", [(6, 6), (3, 4, 3)])
def test_rays_turns_every_pixel_that_eps_can_turn(
    shape: tuple[int, ...], prepared: Any, run: Any
) -> None:
    """36 single flips are needed at most, after the halvings: within 10 + 2 + ... + 32 + 36."""
    generator = torch.Generator().manual_seed(7)
    images = 0.5 + 0.9 * EPS * (2 * torch.rand(2, 1, *shape, generator=generator) - 1)
    network = prepared(Threshold(), images)
    truth = network.as_labels(network.exact_logits(images))
    found = run(network, load_attack("rays:steps=108"), images, truth)
    assert (found.images[:, 0] <= 0.5)[truth == 1].all()  # a Jaccard of 0, and so the end
    out_of_reach = images.clone()
    out_of_reach.view(2, -1)[:, 0] = 1.0
    found = run(network, load_attack("rays:steps=108"), out_of_reach, (out_of_reach > 0.5).long())
    turned = (found.images > 0.5) != (out_of_reach > 0.5)
    assert turned.flatten(1)[:, 1:].all()


def test_rays_goes_to_a_target(prepared: Any, run: Any) -> None:
    generator = torch.Generator().manual_seed(7)
    images = 0.5 + 0.9 * EPS * (2 * torch.rand(2, 1, 6, 6, generator=generator) - 1)
    network = prepared(Threshold(), images)
    truth = network.as_labels(network.exact_logits(images))
    target = torch.zeros_like(truth)
    target[:, :3] = 1
    found = run(network, load_attack("rays:steps=120"), images, truth, target=target, targeted=True)
    assert torch.equal(network.as_labels(network.exact_logits(found.images)), target)


def test_blocks_of_signs_halve_and_cover_everything_at_every_level() -> None:
    turns = [sign_block(turn, 6) for turn in range(2 + 4 + 6 + 6)]
    levels = [turns[:2], turns[2:6], turns[6:12], turns[12:]]
    for level in levels:
        assert [i for block in level for i in range(6)[block]] == list(range(6))
    assert [len(range(6)[block]) for block in levels[0]] == [3, 3]
    assert sign_block(5, 1) == slice(0, 1)


@pytest.mark.parametrize(
    ("spatial", "progress", "side"),
    [
        ([224, 224], 0.0005, 200),  # sqrt(0.8) of the edge
        ([224, 224], 0.002, 142),  # half that area
        ([224, 224], 0.9, 9),  # 1/512 of it
        ([300, 20], 0.0005, 20),  # the shorter edge, not 69
        ([9, 1], 0.5, 1),
        ([10, 10, 10], 0.0005, 9),  # a cube
        ([4, 4], 0.99, 1),
    ],
)
def test_squares_shrink_by_the_published_schedule(
    spatial: list[int], progress: float, side: int
) -> None:
    assert square_side(spatial, 0.8, progress) == side


def test_a_query_changes_one_square_by_whole_eps(prepared: Any, run: Any) -> None:
    """Where neither ball nor box was left, every pixel ends at plus or minus eps."""
    images = torch.full((2, 2, 5, 5), 0.5)
    network = prepared(nn.Conv2d(2, 2, 3, padding=1), images)
    truth = network.as_labels(network.exact_logits(images))
    found = run(network, load_attack("square:steps=12"), images, truth).images
    torch.testing.assert_close(
        (found - images).abs(), torch.full_like(images, EPS), atol=1e-6, rtol=0
    )


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[State, Feedback]]:
    """What a search asked about, and what it was told."""
    seen: list[tuple[State, Feedback]] = []
    for kind in (Square, RayS):

        def step(
            self: Any, context: Context, state: State, feedback: Feedback, own: Any = kind.step
        ) -> State:
            seen.append((state, feedback))
            moved: State = own(self, context, state, feedback)
            return moved

        monkeypatch.setattr(kind, "step", step)
    return seen


@pytest.mark.parametrize("text", ["square:steps=24", "rays:steps=24"])
def test_a_search_sees_what_it_needs_and_keeps_the_worst_it_saw(
    text: str, asked: list[tuple[State, Feedback]], prepared: Any, run: Any
) -> None:
    named = load_attack(text)
    images = torch.rand(3, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    conv = nn.Conv2d(1, 2, 3, padding=1)
    nn.init.normal_(conv.weight, generator=torch.Generator().manual_seed(2))
    nn.init.zeros_(conv.bias)
    network = prepared(conv, images)
    truth = network.as_labels(network.exact_logits(images))
    cost = run(network, named, images, truth)
    assert len(asked) == 24
    assert all(not feedback.gradient.any() for _, feedback in asked)
    assert cost.backwards == [0, 0, 0]
    objective, goal = NetworkObjective(network), Goal(truth, truth)
    scores = torch.stack([objective.remaining(state.images, goal) for state, _ in asked])
    assert torch.equal(objective.remaining(cost.images, goal), scores.amin(0))
    assert (scores.amin(0) < 1).all()
    if named.attack.needs == "labels":
        assert all(feedback.logits.numel() == 0 for _, feedback in asked)
        told = torch.stack([1 - feedback.loss for _, feedback in asked])
        torch.testing.assert_close(told, scores)
