"""Every registered attack of this distribution, in every variant, and tiny networks to attack."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from typing import Any, Literal, get_args, get_origin

import pytest
import torch
from brief import shorten_suites
from torch import Tensor, nn

from segbench.api import BringsBudgets, Budget, Goal, MinimumNorm, StepAttack
from segbench.engine.loop import attack_batch
from segbench.engine.network import Network
from segbench.engine.noise import CaseNoise
from segbench.engine.outcome import Outcome
from segbench.engine.precision import Precision
from segbench.errors import UserError
from segbench.plugins import registry, spec
from segbench.plugins.attack import NamedAttack, load_attack
from segbench_attacks.corruptions import CORRUPTIONS
from segbench_attacks.standard import PROGRAMMES, Version
from segbench_attacks.worst import CHANGES

ARGUMENTS = {
    "attack": "",
    "any_attack": "",
    "other_aim": "",
    "linf_attack": "linf",
    "l2_attack": "l2",
    "l1_attack": "l1",
}
# These losses leave alone what cross-entropy still moves (pixels already wrong, all classes but
# the strongest), so that its laws do not hold for them: no ``attack`` is by one of them, an
# ``any_attack`` by all, an ``other_aim`` by these alone. What they reach: test_chosen_losses.py.
OTHER_AIMS = (
    "masked-ce", "weighted-ce", "logit-norm", "margin", "scored-hinge", "soft-hinge", "lovasz",
    "soft-jaccard", "metric-ce", "metric-hinge", "metric-jsd", "metric-logit-norm", "reach",
    "scored-reach",
)  # fmt: skip
MEMBERS = [f"corruption/{name}" for name in CORRUPTIONS]
MEMBERS += [f"worst/{name}" for name in CHANGES]
SEARCHES = ("worst:attack=corruption/gamma,queries=6", "worst:attack=corruption/motion,queries=7")
ART = (
    "art/FastGradientMethod",
    "art/FastGradientMethod:norm=2",
    "art/BasicIterativeMethod:max_iter=8",
    "art/MomentumIterativeMethod:max_iter=8",
    "art/ProjectedGradientDescent:max_iter=8,num_random_init=2",
    "art/ProjectedGradientDescentNumpy:max_iter=8,norm=2",
    "art/SquareAttack:max_iter=8",
)
OWN = ("fspgd", "worst")  # test_fspgd.py: it aims at no label; and SEARCHES
BETWEEN = [f"version={number}" for number in range(2, max(PROGRAMMES))]
BRIEF = 12  # steps
BRIEF_OF = {
    "square": 20,  # queries
    "sea": 5,  # once per loss
    "rse": 4,  # and so, or per member and more
    "worst": 2,  # ten times at the highest severity
}
ENOUGH = 40  # steps, for an optimum on a linear network
FP32 = Precision("fp32", "the tests compare numbers")


def variants() -> Iterator[NamedAttack]:
    """Each attack with its defaults, then with every other choice of one parameter at a time."""
    for name in [*registry.names("attacks"), *MEMBERS]:
        plugin = registry.load("attacks", name)
        if plugin.distribution != "segbench" or not _runs(plugin.factory) or name in OWN:
            continue
        plain = load_attack(name)
        yield plain
        for key, parameter in spec.parameters(plugin.factory).items():
            choices = get_args(Version) if key == "version" else _choices(parameter.annotation)
            for choice in choices:
                # A loss is the same function in every attack: one of them tries them all.
                skipped = key == "loss" and (name != "pgd" or choice in OTHER_AIMS)
                if choice != parameter.default and not skipped:
                    try:
                        chosen = load_attack(f"{name}:{key}={str(choice).lower()}")
                    except UserError:
                        continue  # this choice needs another key beside it
                    if chosen.label != plain.label:
                        yield chosen
    yield from map(load_attack, (*ART, *SEARCHES))


def _runs(kind: type) -> bool:
    """Others are trained, or made on another network: test_fitted.py, test_transfers.py."""
    return any(callable(getattr(kind, name, None)) for name in ("step", "run"))


def is_gradient_attack(attack: NamedAttack, kind: str) -> bool:
    """Whether a step attack on gradients within a ball of this kind."""
    inner = attack.attack
    return (
        isinstance(inner, StepAttack) and inner.needs == "gradients" and inner.budget_kind == kind
    )


def _choices(annotation: Any) -> tuple[Any, ...]:
    if annotation is bool:
        return (True, False)
    return get_args(annotation) if get_origin(annotation) is Literal else ()


def at_most(attack: NamedAttack, steps: int) -> NamedAttack:
    """The same attack in few steps, for laws that do not depend on their number."""
    if steps == BRIEF:
        steps = BRIEF_OF.get(attack.plugin.name.partition("/")[0], steps)
    if (getattr(attack.attack, "steps", None) or 0) <= steps:
        return attack
    given = spec.parse(attack.label)
    less = {"steps": str(steps)}
    if isinstance(attack.attack, MinimumNorm):
        less["below"] = "0.4"  # random labels may be below the default from the start
        less |= {key: "0.004" for key in ("step_size", "tau") if hasattr(attack.attack, key)}
    return load_attack(str(spec.Spec(given.name, {**given.params, **less})))


@pytest.fixture(scope="module")
def brief_suites() -> Iterator[None]:
    """The standard attack in few steps; all that it does it does there too."""
    with pytest.MonkeyPatch.context() as patched:
        shorten_suites(patched)
        yield


def whole_band(attack: NamedAttack) -> NamedAttack:
    """Without its limit on frequencies, which keeps an attack from corners of the ball."""
    if getattr(attack.attack, "share", 1) == 1:
        return attack
    params = {**spec.parse(attack.label).params, "share": "1"}
    return load_attack(str(spec.Spec(attack.label.partition(":")[0], params)))


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test that takes ``attack`` runs for every variant, ``linf_attack`` for those in L-inf."""
    for fixture in ARGUMENTS:
        if fixture in metafunc.fixturenames:
            metafunc.parametrize(fixture, attacks_of(fixture), ids=lambda attack: attack.label)


@cache
def attacks_of(fixture: str) -> tuple[Any, ...]:
    """What that argument stands for, made once for all tests that take it."""
    kinds = ARGUMENTS[fixture]
    others = [load_attack(f"pgd:loss={name},steps=6") for name in OTHER_AIMS]
    every = [] if fixture == "other_aim" else [*variants()]
    every += others if fixture in ("any_attack", "other_aim") else []
    chosen = [a for a in every if not kinds or is_gradient_attack(a, kinds)]
    chosen = [whole_band(at_most(a, ENOUGH)) if kinds else at_most(a, BRIEF) for a in chosen]
    return (*map(_as_long, chosen),)


def _as_long(attack: NamedAttack) -> Any:
    """A parameter; a suite's thorough form takes as long as all other costs together.

    Of its frozen versions the first stands for those between it and today's.
    """
    slow = any(name in attack.label for name in ("cost=thorough", *BETWEEN))
    return pytest.param(attack, marks=pytest.mark.slow) if slow else attack


@pytest.fixture(scope="session")
def prepared() -> Callable[..., Network]:
    """A module as the engine sees it, in fp32."""

    def make(module: nn.Module, images: Tensor, classes: int = 2) -> Network:
        network = Network("net", module, classes, torch.device("cpu"), FP32)
        network.prepare(images[:2])
        return network

    return make


@pytest.fixture(scope="session")
def run() -> Callable[..., Outcome]:
    """Run an attack on a batch of cases named a, b, c ..., away from the given labels."""

    def attacked(
        network: Network,
        attack: NamedAttack,
        images: Tensor,
        labels: Tensor,
        eps: str = "8/255",
        names: str = "abcdefgh",
        **goal: Any,
    ) -> Outcome:
        budget = Budget(attack.attack.budget_kind, spec.parse_eps(eps))
        if isinstance(attack.attack, BringsBudgets):
            budget = attack.attack.budgets[-1]
        noise = CaseNoise(0, tuple(names[: len(images)]), images.device)
        region = goal.pop("region", None)
        aim = Goal(goal.pop("target", labels), labels, **goal)
        return attack_batch(network, attack.attack, images, aim, budget, noise, region)

    return attacked
