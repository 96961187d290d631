"""RSE: its members are the attacks of their names, the worst counts, and what it costs is known."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from typing import Any

import pytest
import torch
from torch import Tensor
from toys import Gains, dense_scene, scores

from segbench.api import Budget, Goal
from segbench.engine.ball import project
from segbench.engine.network import Network
from segbench.engine.noise import CaseNoise
from segbench.engine.whole import CaseObjective
from segbench.errors import UserError
from segbench.plugins.attack import load_attack
from segbench_attacks.alma_prox import ALMAProx
from segbench_attacks.dag import DAG
from segbench_attacks.field import Field
from segbench_attacks.padam import PAdam
from segbench_attacks.pdpgd import PDPGD
from segbench_attacks.rse import MEMBERS, OneLoss
from segbench_attacks.runs import by_steps
from segbench_attacks.sea import SEA

STEPS = 8
NAMES = [member.name for member, _ in MEMBERS]


def field_of(network: Network, images: Tensor, labels: Tensor, eps: str) -> Field:
    names = tuple("abc")
    noise = CaseNoise(0, names, images.device, names)
    objective = CaseObjective(network, noise, images)
    budget = Budget("linf", Fraction(eps))
    return Field(objective, images, Goal(labels, labels), budget, noise, "linf")


def test_the_members_are_ten_attacks_of_3000_gradients() -> None:
    assert NAMES == [
        "padam, ce", "padam, cosine", "sea, masked-ce", "sea, balanced-ce", "sea, jsd",
        "sea, logit-norm", "dag, 0.001", "dag, 0.003", "pdpgd", "alma-prox",
    ]  # fmt: skip
    made = {m.name: m.attack[1]("linf", n) for m, n in MEMBERS if m.attack}
    assert made["padam, ce"] == PAdam()
    assert made["padam, cosine"] == PAdam(loss_="cosine")
    assert [made[n].losses for n in NAMES[2:6]] == [(loss,) for loss in SEA().losses]  # type: ignore[attr-defined]
    assert all(getattr(made[n], "steps", 0) == SEA().steps for n in NAMES[2:6])
    assert made["dag, 0.003"] == DAG(0.01, 200, step_size=0.003)
    assert made["pdpgd"] == PDPGD(below=0.01, step_size=0.01)
    assert made["alma-prox"] == ALMAProx(below=0.01, step_size=1e-4)
    assert sum(steps for _, steps in MEMBERS) == 3000


def test_a_case_costs_fifteen_times_the_steps_unless_it_is_at_the_worst_score(
    prepared: Any, run: Any
) -> None:
    module, images, labels = dense_scene(9, 7)
    network, attack = prepared(module, images, 3), load_attack(f"rse:steps={STEPS}")
    outcome = run(network, attack, images, labels, eps="0.002")
    assert (scores(network, outcome.images, labels) > 0).all()
    assert all(14 * STEPS <= n <= 15 * STEPS for n in outcome.backwards)  # DAG ends with a success
    ranked = torch.rand(3, 3, 6, 6, generator=torch.Generator().manual_seed(2)).argsort(1)
    images = 0.2 + 0.25 * ranked
    gains, labels = prepared(Gains(), images, 3), images.argmax(1)
    outcome = run(gains, load_attack("rse"), images, labels, eps="0.3")
    assert (scores(gains, outcome.images, labels) == 0).all()
    assert outcome.members == ["padam, ce"] * 3
    assert max(outcome.backwards) < 60, "it left midway through the first member"


def test_it_is_at_most_what_each_member_leaves_and_credits_one_that_leaves_as_little(
    prepared: Any, run: Any
) -> None:
    module, images, labels = dense_scene(9, 7)
    network, eps = prepared(module, images, 3), "0.01"
    outcome = run(network, load_attack(f"rse:steps={STEPS}"), images, labels, eps=eps)
    worst = scores(network, outcome.images, labels)
    assert (worst < scores(network, images, labels)).all()
    for member, n in MEMBERS:
        assert member.attack
        attack = member.attack[1]("linf", n * STEPS // 200)
        found = by_steps(field_of(network, images, labels, eps), attack)
        own = torch.stack([scores(network, some, labels) for some in found]).amin(0)
        assert (worst <= own + 1e-12).all()
        credited = torch.tensor([name == member.name for name in outcome.members])
        assert (own[credited] == worst[credited]).all()
    assert set(outcome.members) <= set(NAMES)


def test_its_runs_of_sea_are_together_sea(prepared: Any, run: Any) -> None:
    module, images, labels = dense_scene(9, 7)
    network, sea = prepared(module, images, 3), load_attack("sea:steps=10")
    whole = scores(network, run(network, sea, images, labels, eps="0.01").images, labels)
    each = []
    for number in range(4):
        one = replace(sea, attack=OneLoss(10, number=number))
        each.append(scores(network, run(network, one, images, labels, eps="0.01").images, labels))
    torch.testing.assert_close(torch.stack(each).amin(0), whole)


MINIMUM_NORM = (DAG(0.4, 40, step_size=0.004), PDPGD(0.4, 60), ALMAProx(0.4, 120, step_size=0.01))


@pytest.mark.parametrize("made", MINIMUM_NORM, ids=lambda made: type(made).__name__)
def test_a_minimum_norm_member_proposes_its_result_clipped_to_the_ball(
    made: Any, prepared: Any, run: Any
) -> None:
    module, images, labels = dense_scene(9, 7)
    network = prepared(module, images, 3)
    free = field_of(network, images, labels, "1")
    result = by_steps(free, made)[-1]
    fell = scores(network, result, labels) < made.below
    engines = run(network, replace(load_attack("dag"), attack=made), images, labels).images
    assert fell.any()
    assert torch.equal(fell, (engines != images).flatten(1).any(1))
    near = field_of(network, images, labels, "0.003")
    proposed = by_steps(near, made)
    assert torch.equal(proposed[-1], project(result, images, near.budget))
    assert max(float((some - images).abs().max()) for some in proposed) <= 0.003 + 1e-7


STAYING = (SEA(12), PAdam(24), *MINIMUM_NORM[1:])  # DAG ends with its first success


@pytest.mark.parametrize("made", STAYING, ids=lambda made: type(made).__name__)
def test_cases_that_leave_leave_no_better_score_behind(made: Any, prepared: Any) -> None:
    module, images, labels = dense_scene(9, 7)
    network = prepared(module, images, 3)
    for eps in ("0.02", "0.2"):
        lowest = [
            torch.stack([scores(network, some, labels) for some in found]).amin(0)
            for found in (
                by_steps(field_of(network, images, labels, eps), made, leaving=leaving)
                for leaving in (False, True)
            )
        ]
        assert torch.equal(*lowest)


def test_a_target_is_approached(prepared: Any, run: Any) -> None:
    module, images, labels = dense_scene(9, 7)
    network, target = prepared(module, images, 3), (labels + 1) % 3
    attack = load_attack(f"rse:steps={STEPS}")
    found = run(network, attack, images, labels, eps="0.05", target=target, targeted=True).images
    assert (scores(network, found, target) > scores(network, images, target)).all()


def test_rows_record_the_version_and_none_but_that_is_known() -> None:
    assert '"version": 1' in load_attack("rse").parameters_text
    assert load_attack("rse@1").parameters_text == load_attack("rse").parameters_text
    for text in ("rse@2", "rse:steps=3", "rse:target=nothing"):
        with pytest.raises(UserError):
            load_attack(text)
