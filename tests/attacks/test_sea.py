"""SEA: its schedule, its losses, and that it is at least as strong as each of its parts."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from toys import scores

from segbench.api import Budget, Context, Feedback, Goal, State
from segbench.engine.network import Network
from segbench.errors import UserError
from segbench.plugins.attack import load_attack
from segbench_attacks import losses
from segbench_attacks.sea import SEA, SEAState

EPS = "0.03"


class Wavy(nn.Module):
    """Three classes and a rough loss."""

    def __init__(self, outputs: int = 3) -> None:
        super().__init__()
        self.enter, self.head = nn.Conv2d(1, 6, 3, padding=1), nn.Conv2d(6, outputs, 1)
        generator = torch.Generator().manual_seed(14)
        for parameter in self.parameters():
            parameter.data = 2 * torch.randn(parameter.shape, generator=generator)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.head(torch.sin(2 * self.enter(images)))
        return logits


@dataclass(frozen=True)
class Watched(SEA):
    """SEA whose every question is noted, and that never ends early."""

    asked: Any = field(default=None, repr=False)  # or each step would write it out

    def plan(self, budget: Budget) -> Any:
        return replace(super().plan(budget), stop_early=False)

    def step(self, context: Context, state: State, feedback: Feedback) -> State:
        assert isinstance(state, SEAState)
        self.asked.append((state.images.clone(), feedback.logits, state.asked))
        return super().step(context, state, feedback)


def scene(prepared: Any, outputs: int = 3) -> tuple[Network, Tensor, Tensor]:
    images = torch.rand(2, 1, 8, 8, generator=torch.Generator().manual_seed(16))
    network = prepared(Wavy(outputs), images, max(outputs, 2))
    return network, images, network.as_labels(network.exact_logits(images))


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_iterates_lie_in_balls_of_2_then_1_5_then_1_eps(norm: Any, prepared: Any, run: Any) -> None:
    network, images, labels = scene(prepared)
    asked: list[tuple[Tensor, Tensor, int]] = []
    eps = 0.03 if norm == "linf" else 0.3
    attack = replace(load_attack(f"sea:norm={norm}"), attack=Watched(10, norm, asked=asked))
    outcome = run(network, attack, images, labels, eps=str(eps))
    assert [step for _, _, step in asked] == list(range(40))
    order = torch.inf if norm == "linf" else 2
    for some, _, step in asked:
        share = 2 if step % 10 < 3 else 1.5 if step % 10 < 6 else 1
        distance = torch.linalg.vector_norm((some - images).flatten(1), ord=order, dim=1)
        assert distance.max() <= share * eps * (1 + 1e-5)
        if step % 10 == 0 and norm == "linf":
            assert distance.min() > 1.5 * eps  # a fresh start for every loss
    inside = torch.stack([scores(network, s, labels) for s, _, step in asked if step % 10 >= 6])
    assert (scores(network, outcome.images, labels) <= inside.amin(0)).all()
    assert outcome.backwards == [40] * 2


def test_a_ball_starts_from_the_least_accurate_iterate_of_the_one_before(
    prepared: Any, run: Any
) -> None:
    network, images, labels = scene(prepared)
    asked: list[tuple[Tensor, Tensor, int]] = []
    attack = replace(load_attack("sea"), attack=Watched(10, asked=asked))
    run(network, attack, images, labels, eps=EPS)
    for run_start in range(0, 40, 10):
        for first, last, share in ((0, 3, 1.5), (3, 6, 1.0)):
            stage = asked[run_start + first : run_start + last]
            counts = torch.stack([(z.argmax(1) == labels).sum((1, 2)) for _, z, _ in stage])
            after = asked[run_start + last][0]
            for b in range(2):
                least = [i for i in range(3) if counts[i, b] == counts[:, b].amin()]
                limit = share * float(EPS)
                starts = [stage[i][0][b].clamp(images[b] - limit, images[b] + limit) for i in least]
                assert any(torch.allclose(after[b], start, atol=1e-6) for start in starts)


PRESETS = {
    "arxiv": ("masked-ce", "balanced-ce", "jsd", "logit-norm"),
    "eccv2024": ("weighted-ce", "masked-ce", "jsd"),
}


@pytest.mark.parametrize(
    ("preset", "run_number"), [(p, n) for p, names in PRESETS.items() for n in range(len(names))]
)
def test_each_run_ascends_its_loss(preset: Any, run_number: int) -> None:
    generator = torch.Generator().manual_seed(1)
    logits = torch.randn(2, 3, 5, 4, generator=generator)
    labels = torch.randint(0, 3, (2, 5, 4), generator=generator)
    goal, attack = Goal(labels, labels), SEA(steps=10, preset=preset)
    name, runs = PRESETS[preset][run_number], len(PRESETS[preset])
    for step in range(10):
        found = attack.loss(logits, goal, (10 * run_number + step) / (10 * runs))
        expected = losses.named_loss(name, logits, goal, step / 10)  # type: ignore[arg-type]
        assert torch.equal(found, expected)


def test_on_one_sigmoid_the_margin_takes_the_last_place() -> None:
    z = torch.randn(2, 1, 5, 4, generator=torch.Generator().manual_seed(1))
    logits, labels = torch.cat([torch.zeros_like(z), z], 1), (z[:, 0] > 0.3).long()
    goal = Goal(labels, labels)
    assert torch.equal(SEA(steps=10).loss(logits, goal, 0.9), losses.margin(logits, goal))


def test_the_released_losses_are_three_runs(prepared: Any, run: Any) -> None:
    network, images, labels = scene(prepared)
    outcome = run(network, load_attack("sea:steps=10,preset=eccv2024"), images, labels, eps="0.001")
    assert outcome.backwards == [30] * 2


@pytest.mark.parametrize("outputs", [1, 3])
def test_it_is_at_least_as_strong_as_apgd_with_each_loss(
    outputs: int, prepared: Any, run: Any
) -> None:
    """On average over the cases, at equal steps per loss, up to the luck of the starts."""
    network, images, labels = scene(prepared, outputs)
    worst = scores(
        network, run(network, load_attack("sea:steps=40"), images, labels, eps=EPS).images, labels
    )
    for loss in ("ce", "masked-ce", "balanced-ce", "jsd"):
        single = load_attack(f"apgd:steps=40,loss={loss}")
        found = run(network, single, images, labels, eps=EPS).images
        assert worst.mean() <= scores(network, found, labels).mean() + 0.03


def test_too_few_steps_for_three_balls_are_refused() -> None:
    with pytest.raises(UserError, match="at least 4"):
        load_attack("sea:steps=3")
