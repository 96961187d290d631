"""Whole attacks pay for what they ask, case by case; a bad answer is the case's that gave it."""

from __future__ import annotations

from fractions import Fraction

import pytest
import torch
from torch import nn

from segbench.api import Budget, Goal
from segbench.engine.loop import attack_batch
from segbench.engine.network import Network
from segbench.engine.noise import CaseNoise
from segbench.engine.precision import Precision
from segbench.errors import UserError

BUDGET = Budget("linf", Fraction(1, 10))


def summed(logits, goal):
    return logits.flatten(1).sum(1)


class Asking:
    """Asks about all, then twice about two of them, then about one of those three times at once."""

    needs = "gradients"
    budget_kind = "linf"

    def run(self, objective, images, goal, budget, noise):
        objective.scores(images)
        some = torch.tensor([3, 1])
        own = Goal(goal.labels[some], goal.truth[some])
        chosen = objective.select(some)
        chosen.value_and_grad(images[some], summed, own)
        chosen.labels(images[some])
        chosen.select(torch.tensor([1])).scores(images[1:2].expand(3, -1, -1, -1))
        return images


@pytest.fixture
def images():
    return torch.rand(4, 1, 3, 3, generator=torch.Generator().manual_seed(1))


def network(module, images):
    found = Network("net", module, 2, torch.device("cpu"), Precision("fp32", "a test"))
    found.prepare(images[:2])
    return found


def attacked(module, attack, images):
    labels = torch.zeros(len(images), 3, 3).long()
    noise = CaseNoise(0, tuple("abcd"), images.device)
    net = network(module, torch.full_like(images, 0.5))
    return attack_batch(net, attack, images, Goal(labels, labels), BUDGET, noise)


def test_each_case_pays_for_what_is_asked_about_it(images):
    outcome = attacked(nn.Conv2d(1, 2, 1), Asking(), images)
    assert outcome.forwards == [1, 1 + 2 + 3, 1, 1 + 2]
    assert outcome.backwards == [0, 1, 0, 1]


class Broken(nn.Conv2d):
    """NaN for images with a white pixel."""

    def forward(self, images):
        bright = images.flatten(1).amax(1) > 0.99
        return super().forward(images).masked_fill(bright[:, None, None, None], torch.nan)


@pytest.mark.parametrize("bad", [1, 3])
@pytest.mark.parametrize("subset", [False, True])
def test_a_case_whose_answer_is_not_finite_is_named(bad, subset, images):
    class Once(Asking):
        def run(self, objective, images, goal, budget, noise):
            if not subset:
                objective.scores(images)
            some = torch.tensor([3, 1])
            own = Goal(goal.labels[some], goal.truth[some])
            objective.select(some).value_and_grad(images[some], summed, own)
            return images

    images = images * 0.9
    images[bad] = 1
    with pytest.raises(UserError, match=f"net gives a NaN or infinite .* on case {'abcd'[bad]}$"):
        attacked(Broken(1, 2, 1), Once(), images)
