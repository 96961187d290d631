"""Step counts and sizes, exactly as the papers and the parameters say."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from segbench.api import Budget
from segbench.errors import UserError
from segbench.plugins.attack import load_attack
from segbench.plugins.spec import parse_eps

PAPER = {"0.5/255": 1, "1/255": 2, "2/255": 3, "4/255": 5, "8/255": 10, "16/255": 20, "32/255": 36}


@pytest.mark.parametrize(("eps", "steps"), PAPER.items())
def test_kurakins_rule_from_exact_fractions(eps: str, steps: int) -> None:
    attack = load_attack("ifgsm:preset=paper").attack
    assert attack.plan(Budget("linf", parse_eps(eps))).steps == steps


class Rising(nn.Module):
    """Background everywhere, the less the brighter: every gradient step has the same sign."""

    def forward(self, images: Tensor) -> Tensor:
        return torch.cat([torch.zeros_like(images), images - 5], 1)


@pytest.mark.parametrize(
    ("spec", "eps", "steps", "reached"),
    [
        ("fgsm", "8/255", 1, "8/255"),
        ("ifgsm", "0.5/255", 1, "0.5/255"),
        ("ifgsm", "8/255", 10, "8/255"),
        ("ifgsm:preset=free", "8/255", 10, "8/255"),
        ("ifgsm:preset=free,steps=4", "8/255", 4, "8/255"),
        ("ifgsm:preset=free,steps=3,step_size=1/255", "8/255", 3, "3/255"),
        ("pgd:random_start=false,steps=3", "8/255", 3, "6/255"),
        ("pgd:random_start=false,steps=2,rel_step=0.125", "8/255", 2, "2/255"),
        ("pgd:random_start=false,steps=3,norm=l2", "1/10", 3, "3/40"),
        # Half a cosine from 0.4 to 0.2: 0.4, 0.35, 0.25 of eps.
        ("pgd:random_start=false,steps=3,schedule=cosine,first=0.4,last=0.2", "8/255", 3, "8/255"),
        (
            "pgd:random_start=false,steps=2,schedule=cosine,first=0.4,last=0.2",
            "8/255",
            2,
            "5.6/255",
        ),
        ("pgd:random_start=false,steps=3,rel_step=0.1,momentum=heavy", "10/255", 3, "3/255"),
        # Each step from 0.75 of the last move ahead: 1, then 1.75 + 1, then 2.75 + 1.3125 + 1.
        ("pgd:random_start=false,steps=2,rel_step=0.1,momentum=nesterov", "10/255", 2, "2.75/255"),
        (
            "pgd:random_start=false,steps=3,rel_step=0.1,momentum=nesterov",
            "10/255",
            3,
            "5.0625/255",
        ),
    ],
)
def test_steps_have_the_stated_number_and_size(
    spec: str, eps: str, steps: int, reached: str, prepared: Any, run: Any
) -> None:
    images, labels = torch.full((1, 1, 2, 2), 0.5), torch.zeros(1, 2, 2).long()
    outcome = run(prepared(Rising(), images), load_attack(spec), images, labels, eps=eps)
    moved = outcome.images - images
    length = moved.norm() if "l2" in spec else moved
    expected = torch.full_like(length, float(parse_eps(reached)))
    torch.testing.assert_close(length, expected, atol=1e-6, rtol=0)
    assert outcome.backwards == [steps]


@pytest.mark.parametrize(
    "text",
    [
        "pgd:steps=0",
        "pgd:restarts=0",
        "pgd:rel_step=0",
        "pgd:schedule=cosine,first=0",
        "pgd:schedule=cosine,last=0",
        "pgd:keep=best,labels=prediction",
        "ifgsm:preset=free,steps=0",
        "ifgsm:preset=free,step_size=0",
        "ifgsm:preset=paper,steps=3",
        "ifgsm:steps=3",
    ],
)
def test_parameters_that_mean_nothing_are_refused(text: str) -> None:
    with pytest.raises(UserError):
        load_attack(text)


@pytest.mark.parametrize("name", ["pgd", "frequency"])
@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ("first=0.5", "first=0.5 is not used with schedule=constant, whose steps .* rel_step"),
        ("last=0.1", "last=0.1 is not used with schedule=constant"),
        ("schedule=cosine,rel_step=0.1", "rel_step=0.1 is not used with schedule=cosine, .* first"),
        ("schedule=cosine,last=2", "last=2.0 is above first=1.0"),
        ("schedule=cosine,first=0.01", "last=0.05 is above first=0.01"),
        ("schedule=cosine,first=0", "first=0.0 must be positive"),
    ],
)
def test_a_length_that_the_schedule_would_never_look_at_is_refused(
    name: str, given: str, reason: str
) -> None:
    with pytest.raises(UserError, match=f"^{name}: {reason}"):
        load_attack(f"{name}:{given}")


def test_lengths_at_their_defaults_may_be_said_as_rows_say_them() -> None:
    for schedule in ("constant", "cosine"):
        told = load_attack(f"pgd:schedule={schedule},first=1.0,last=0.05,rel_step=0.25")
        assert told.parameters_text == load_attack(f"pgd:schedule={schedule}").parameters_text


def test_a_faint_gradient_has_the_same_direction(prepared: Any, run: Any) -> None:
    """L2 steps are the same for a loss that is 1e25 times smaller."""
    images, labels = torch.rand(1, 1, 4, 4), torch.zeros(1, 4, 4).long()
    attack = load_attack("pgd:norm=l2,steps=2,random_start=false")

    class Faint(nn.Module):
        def __init__(self, scale: float) -> None:
            super().__init__()
            self.scale = scale

        def forward(self, images: Tensor) -> Tensor:
            z = self.scale * (images - 5) * torch.arange(1.0, 17.0).view(4, 4)
            return torch.cat([torch.zeros_like(z), z], 1)

    strong, faint = (
        run(prepared(Faint(scale), images), attack, images, labels, eps="0.1").images
        for scale in (1e-6, 1e-25)
    )
    torch.testing.assert_close(faint, strong, atol=1e-4, rtol=0)


def test_l2_starts_fill_the_volume_of_the_ball(prepared: Any) -> None:
    """In d dimensions the radius to the power d is uniform."""
    from segbench.api import Context, Goal
    from segbench.engine.noise import CaseNoise

    images = torch.full((400, 1, 2, 2), 0.5)
    names = tuple(map(str, range(400)))
    labels = torch.zeros(400, 2, 2).long()
    noise = CaseNoise(0, names, torch.device("cpu"))
    context = Context(images, Goal(labels, labels), Budget("l2", Fraction(1, 10)), noise)
    start = load_attack("pgd:norm=l2").attack.init(context).images
    share = ((start - images).flatten(1).norm(dim=1) / 0.1) ** 4
    assert share.max() <= 1 + 1e-5
    expected = (torch.arange(400) + 0.5) / 400
    assert (share.sort().values - expected).abs().max() < 0.08  # Kolmogorov-Smirnov, p = 0.01
