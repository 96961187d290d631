"""The loop: restarts, early ends, memory, counting; choices are made by the original in fp32."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from toys import scores

from segbench.api import Context, Plan, State
from segbench.engine.objective import NetworkObjective
from segbench.engine.prepare import GradientCopy
from segbench.errors import MachineError, UserError
from segbench.plugins.attack import load_attack

PGD: Any = type(load_attack("pgd").attack)


class Blobs(nn.Module):
    """Finds bright blobs, with a smooth, wiggly boundary that restarts can explore."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(6)
        self.enter, self.head = nn.Conv2d(1, 8, 3, padding=1), nn.Conv2d(8, 2, 1)
        for parameter in self.parameters():
            parameter.data = torch.randn(parameter.shape, generator=generator)
        self.mean = nn.AvgPool2d(5, 1, 2)

    def forward(self, images: Tensor) -> Tensor:
        wiggle = 0.3 * self.head(torch.sin(3 * self.enter(images)))
        z = 40 * (self.mean(images) - 0.48)
        logits: Tensor = torch.cat([torch.zeros_like(z), z], 1) + wiggle
        return logits


@dataclass(frozen=True)
class OneRestart(PGD):
    """PGD that runs a given restart only."""

    which: int = 0

    def init(self, context: Context) -> State:
        state: State = super().init(replace(context, restart=self.which))
        return state


@dataclass(frozen=True)
class Patient(PGD):
    """PGD that goes on when nothing can get worse."""

    def plan(self, budget: Any) -> Plan:
        return replace(super().plan(budget), stop_early=False)


def test_restarts_keep_the_best_single_restart_of_every_case(
    prepared: Any, run: Any, textured: Any
) -> None:
    images, truth = textured(6)
    network = prepared(Blobs(), images)
    several = run(network, PGD(steps=3, restarts=4), images, truth).images
    single = [run(network, OneRestart(steps=3, which=r), images, truth).images for r in range(4)]
    each = torch.stack([scores(network, found, truth) for found in single])
    found = scores(network, several, truth)
    assert torch.equal(found, each.min(0).values)
    assert (each.max(0).values > found).any(), "the restarts do not differ; the test is empty"
    first = each.argmin(0)
    for b in range(6):
        torch.testing.assert_close(several[b], single[first[b]][b], atol=1e-6, rtol=0)


def test_restarts_are_chosen_by_the_original_and_not_by_the_copy(
    prepared: Any, run: Any, textured: Any
) -> None:
    """A copy that says of every image that nothing is left of the mask is not believed."""

    class Lying(nn.Module):
        def __init__(self, honest: nn.Module) -> None:
            super().__init__()
            self.honest = honest

        def forward(self, images: Tensor) -> Tensor:
            logits = self.honest(images)
            return logits - torch.tensor([-1e3, 0.0]).view(1, 2, 1, 1)

    images, truth = textured(6)
    honest = prepared(Blobs(), images)
    lying = prepared(Blobs(), images)
    copy = lying.copies.fast
    lying.copies.fast = GradientCopy(Lying(copy.module), copy.name, copy.autocast)
    # Saturated by 1000, its loss has no gradient at background: it attacks otherwise and worse,
    # but no case may stop at its start.
    outcome = run(lying, PGD(steps=3), images, truth)
    assert outcome.backwards == [3] * 6
    best = run(lying, PGD(steps=3, restarts=3), images, truth).images
    each = [
        scores(honest, run(lying, OneRestart(steps=3, which=r), images, truth).images, truth)
        for r in range(3)
    ]
    assert torch.equal(scores(honest, best, truth), torch.stack(each).min(0).values)


def test_ending_early_changes_no_score_and_saves_work(
    prepared: Any, run: Any, textured: Any
) -> None:
    images, truth = textured(6)
    network = prepared(Blobs(), images)
    eager = run(network, PGD(steps=20), images, truth, eps=load_eps("36/255"))
    patient = run(network, Patient(steps=20), images, truth, eps=load_eps("36/255"))
    found = scores(network, eager.images, truth)
    torch.testing.assert_close(found, scores(network, patient.images, truth), atol=0, rtol=0)
    over = found == 0
    assert over.any(), "no case is at the worst score; the test is empty"
    assert not over.all(), "every case is; the test is empty"
    for b in range(6):
        assert patient.backwards[b] == 20
        assert eager.backwards[b] < 20 if over[b] else eager.backwards[b] == 20
        if not over[b]:
            torch.testing.assert_close(eager.images[b], patient.images[b], atol=1e-6, rtol=0)


def load_eps(text: str) -> Any:
    from segbench.plugins.spec import parse_eps

    return parse_eps(text)


class Small(Blobs):
    """A network for which the machine has memory for two cases."""

    largest = 2

    def forward(self, images: Tensor) -> Tensor:
        if len(images) > self.largest:
            raise torch.OutOfMemoryError("made up")
        return super().forward(images)


@pytest.mark.parametrize("spec", ["pgd:steps=3,restarts=2", "fgsm:labels=prediction"])
def test_too_little_memory_loses_nothing(spec: str, sharing: Any, run: Any, textured: Any) -> None:
    images, truth = textured(7)
    attack = load_attack(spec).attack
    roomy = run(sharing(Blobs(), images), attack, images, truth)
    tight = run(sharing(Small(), images), attack, images, truth)
    torch.testing.assert_close(tight.images, roomy.images, atol=1e-6, rtol=0)
    assert (tight.forwards, tight.backwards) == (roomy.forwards, roomy.backwards)


def test_the_batch_that_fitted_is_remembered(sharing: Any, textured: Any) -> None:
    images, _ = textured(7)
    network = sharing(Small(), images)
    objective, sizes = NetworkObjective(network), []
    network.module.register_forward_pre_hook(lambda _m, inputs: sizes.append(len(inputs[0])))
    objective.scores(images)
    assert sizes == [7, 3, 1, 1, 1, 1, 1, 1, 1]
    objective.scores(images)
    assert sizes[9:] == [1] * 7


def test_a_case_that_does_not_fit_alone_is_the_machines_failure(
    prepared: Any, run: Any, textured: Any
) -> None:
    images, truth = textured(3)
    network = prepared(Small(), images)
    network.module.largest = network.copies.fast.module.largest = 0
    with pytest.raises(MachineError, match="does not fit in memory"):
        run(network, PGD(steps=1), images, truth)


def test_another_error_of_the_network_is_not_taken_for_memory(
    prepared: Any, run: Any, textured: Any
) -> None:
    images, truth = textured(3)
    network = prepared(Blobs(), images)

    def fail(*_: Any) -> None:
        raise RuntimeError("shapes do not match")

    network.copies.fast.module.register_forward_pre_hook(fail)
    with pytest.raises(RuntimeError, match="shapes do not match"):
        run(network, PGD(steps=1), images, truth)


def test_every_question_is_counted(sharing: Any, run: Any, textured: Any) -> None:
    """One gradient is a forward and a backward; a prediction or a restart's score is a forward."""
    images, truth = textured(3)
    network, asked = sharing(Blobs(), images), {"exact": 0, "gradient": 0}
    network.copies.fast = replace(network.copies.fast, module=Blobs().eval())

    def counting(name: str) -> Any:
        return lambda _m, inputs: asked.update({name: asked[name] + len(inputs[0])})

    network.module.register_forward_pre_hook(counting("exact"))
    network.copies.fast.module.register_forward_pre_hook(counting("gradient"))
    attack = load_attack("pgd:steps=6,restarts=3,labels=prediction").attack
    outcome = run(network, attack, images, truth, eps=load_eps("36/255"))
    assert sum(outcome.backwards) == asked["gradient"]
    assert sum(outcome.forwards) == asked["gradient"] + asked["exact"]


@dataclass(frozen=True)
class Broken(PGD):
    """Its iterates are NaN from the second step on."""

    def step(self, context: Any, state: State, feedback: Any) -> State:
        return State(state.images * torch.nan)


def test_the_model_is_not_blamed_for_an_attack_that_makes_nan(
    prepared: Any, run: Any, textured: Any
) -> None:
    from segbench.engine import ball

    images, truth = textured(2)
    network, attack = prepared(Blobs(), images), Broken(steps=4)
    found = run(network, attack, images, truth).images
    budget = replace_budget(attack)
    with pytest.raises(MachineError, match=r"attack broken left its linf ball on case a"):
        ball.check(found, images, budget, "broken", ("a", "b"))


def replace_budget(attack: Any) -> Any:
    from fractions import Fraction

    from segbench.api import Budget

    return Budget(attack.budget_kind, Fraction(8, 255))


@dataclass(frozen=True)
class Whole:
    """An attack with a loop of its own, that leaves the ball."""

    needs = "gradients"
    budget_kind = "linf"

    def run(self, objective: Any, images: Tensor, goal: Any, budget: Any, noise: Any) -> Tensor:
        objective.labels(images)
        images.add_(7)  # its own copy
        return images


def test_a_whole_attack_is_projected_and_counted(prepared: Any, run: Any, textured: Any) -> None:
    images, truth = textured(3)
    before = images.clone()
    outcome = run(prepared(Blobs(), images), Whole(), images, truth)
    assert torch.equal(images, before)
    torch.testing.assert_close(outcome.images, (images + 8 / 255).clamp(0, 1))
    assert (outcome.forwards, outcome.backwards) == ([1] * 3, [0] * 3)


def test_nan_behind_the_first_step_is_found_too(prepared: Any, run: Any, textured: Any) -> None:
    class Brittle(Blobs):
        def forward(self, images: Tensor) -> Tensor:
            logits = super().forward(images)
            corner = (images[:, 0, 0, 0] - 0.5).abs()
            return logits.masked_fill((corner > 1.5 / 255)[:, None, None, None], torch.nan)

    images, truth = textured(3)
    images[:, 0, 0, 0] = 0.5
    network = prepared(Brittle(), images)
    assert network.exact_logits(images).isfinite().all()
    with pytest.raises(UserError, match=r"model net .*case a$"):
        run(network, load_attack("ifgsm").attack, images, truth)
