"""The worst of what a corruption could have drawn: never above it, at its cost, in its law."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from segbench.api import Budget, Goal
from segbench.engine.loop import attack_batch
from segbench.engine.network import Network
from segbench.engine.noise import CaseNoise
from segbench.engine.outcome import Outcome
from segbench.errors import UserError
from segbench.metrics import regions
from segbench.plugins.attack import load_attack
from segbench_attacks.worst_search import Drawn, Shifted, _rotated, _turned


class Bright(nn.Module):
    """Class 1 where a local mean is brighter than 0.5."""

    def forward(self, images: Tensor) -> Tensor:
        z = 20 * (nn.functional.avg_pool2d(images, 3, 1, 1, count_include_pad=False) - 0.5)
        return torch.cat([-z, z], 1)


def scene() -> tuple[Tensor, Tensor]:
    images = torch.rand(3, 1, 24, 24, generator=torch.Generator().manual_seed(6))
    images = nn.functional.avg_pool2d(images, 7, 1, 3, count_include_pad=False)
    with torch.no_grad():
        return images, Bright()(images).argmax(1)


def run(
    network: Network, text: str, severity: int, names: str = "abc", cases: Any = None
) -> Outcome:
    images, truth = scene()
    chosen = list(range(3)) if cases is None else cases
    images, truth = images[chosen], truth[chosen]
    attack: Any = load_attack(text).attack
    noise = CaseNoise(0, tuple(names[n] for n in chosen), images.device)
    budget = Budget("severity", Fraction(severity))
    return attack_batch(network, attack, images, Goal(truth, truth), budget, noise)


def score(network: Network, images: Tensor, cases: Any = slice(None)) -> Tensor:
    predicted = network.as_labels(network.exact_logits(images))
    return regions.case_score(network.score(predicted, scene()[1][cases], None))


@pytest.mark.parametrize("name", ["noise", "motion", "gamma", "bias-field", "spike", "downsample"])
def test_it_is_never_above_the_corruption_at_its_severity_or_a_smaller_one(
    name: str, prepared: Any
) -> None:
    network = prepared(Bright(), scene()[0])
    found = run(network, f"worst:attack=corruption/{name},queries=12", 3)
    drawn = [score(network, run(network, f"corruption/{name}", s).images) for s in (1, 2, 3)]
    assert (score(network, found.images) <= torch.stack(drawn).amin(0)).all()
    assert found.forwards == [12] * 3
    assert found.backwards == [0] * 3


def test_it_finds_the_side_of_gamma_that_the_coin_did_not_show(prepared: Any) -> None:
    network = prepared(Bright(), scene()[0])
    ends = []
    for seed in range(12):  # names are seeds of the coin
        names = "".join(chr(65 + 3 * seed + n) for n in range(3))
        ends.append(score(network, run(network, "corruption/gamma", 5, names).images))
    worst = score(network, run(network, "worst:attack=corruption/gamma,queries=20", 5).images)
    torch.testing.assert_close(worst, torch.stack(ends).amin(0))


def test_more_queries_find_more(prepared: Any) -> None:
    network = prepared(Bright(), scene()[0])
    few, many = (
        score(network, run(network, f"worst:attack=corruption/noise,queries={n}", 4).images).mean()
        for n in (5, 60)
    )
    assert many < few - 0.01


def test_batch_mates_and_repetition_change_nothing(prepared: Any) -> None:
    network, text = prepared(Bright(), scene()[0]), "worst:attack=corruption/motion,queries=9"
    whole = run(network, text, 4).images
    assert torch.equal(run(network, text, 4).images, whole)
    for case in range(3):
        alone = run(network, text, 4, cases=[case]).images
        torch.testing.assert_close(alone[0], whole[case], atol=1e-6, rtol=0)


def test_numbers_that_are_moved_are_distributed_as_those_that_are_drawn() -> None:
    noise = CaseNoise(0, ("a", "b"), torch.device("cpu"))
    first = Drawn(noise, {})
    first.uniform(0, (5000,)), first.normal(1, (5000,))
    second = Drawn(Shifted(noise, 2**33), first.numbers, 0.1)
    uniform, normal = second.uniform(0, (5000,)), second.normal(1, (5000,))
    assert 0 <= uniform.min() < uniform.max() < 1
    for number, moment in ((1, 1 / 2), (2, 1 / 3), (3, 1 / 4)):
        assert (uniform**number).mean().item() == pytest.approx(moment, abs=0.01)
    assert normal.mean().item() == pytest.approx(0, abs=0.03)
    assert normal.std().item() == pytest.approx(1, abs=0.03)
    before = first.numbers["uniform", 0, (5000,)]
    apart = (uniform - before).abs()
    assert torch.minimum(apart, 1 - apart).max() <= 0.1 + 1e-6  # around the circle
    assert torch.equal(_turned(before, torch.full_like(before, 0.5), 0.3), before)
    assert torch.equal(_rotated(normal, normal, 0.0), normal)
    some = second.select(torch.tensor([1]))
    assert torch.equal(some.uniform(0, (5000,)), uniform[1:])


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("worst:attack=pgd", "is no corruption"),
        ("worst:attack=worst/gamma", "is no corruption"),
        ("worst:attack=noise", "is no corruption"),
        ("worst:attack=corruption/prompt-jitter", "moves prompts and no pixel, which worst cannot"),
        ('worst:attack="worst:attack=corruption/blur"', "is no corruption"),
        ("worst:attack=corruption/blur,queries=3", "less than one for each of its 5 severities"),
        ("worst:attack=corruption/blurr", "did you mean"),
        ("worst/blur", "there is no such change"),
        ("worst/gamma:steps=0", "steps=0 must be at least 1"),
        ("worst/pose:where=inside", "a budget of kind severity"),
    ],
)
def test_what_it_cannot_search_is_refused(text: str, reason: str) -> None:
    with pytest.raises(UserError, match=reason):
        load_attack(text)


@pytest.mark.parametrize(
    ("text", "end"),
    [
        ("worst:corruption/blur", "; write worst:attack=corruption/blur"),
        ("worst:corruption/blur,queries=9", "; write worst:attack=corruption/blur,queries=9"),
        (
            "worst:corruption/blur:severities=1",
            '; write worst:attack="corruption/blur:severities=1"',
        ),
        ("worst:corruption/blur,9", "; write worst:attack=corruption/blur,key=value"),
        ("transfer:pgd,source=unet", "; write transfer:attack=pgd,source=unet"),
        ("transfer:unet", "at 'unet'; its keys are source, attack"),
        ("pgd:sea", "expected key=value at 'sea'"),
    ],
)
def test_an_attack_where_a_key_is_expected_is_told_what_to_write(text: str, end: str) -> None:
    with pytest.raises(UserError) as refused:
        load_attack(text)
    assert str(refused.value).endswith(end)


def test_its_name_holds_the_corruption_and_its_severities() -> None:
    named = load_attack('worst:attack="corruption/blur:severities=1+3",queries=9')
    assert [int(budget.value) for budget in named.attack.budgets] == [1, 3]  # type: ignore[union-attr]
    assert load_attack(named.label).parameters == named.parameters
