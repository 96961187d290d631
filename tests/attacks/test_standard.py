"""The standard attack: its cost, its strength beside others, and what no gradient can hide."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from functools import cache
from itertools import pairwise
from typing import Any

import pytest
import torch
from brief import shorten_suites
from torch import Tensor, nn
from toys import Dense, Gains, dense_scene, scores

from segbench.api import Budget, Goal
from segbench.engine.loop import attack_batch
from segbench.engine.network import Network
from segbench.engine.noise import CaseNoise
from segbench.engine.outcome import Outcome
from segbench.engine.whole import CaseObjective
from segbench.errors import UserError
from segbench.plugins.attack import load_attack
from segbench_attacks import answer_model, climbs, race, standard, substitute
from segbench_attacks.field import Field
from segbench_attacks.runs import by_steps
from segbench_attacks.sea import SEA
from segbench_attacks.standard import PROGRAMMES, Programme

LONG = ("reach", "scored-hinge", "lovasz")
COSTS = {"quick": 32, "standard": 245, "thorough": 1000}
EVERY_COST = ["quick", "standard", pytest.param("thorough", marks=pytest.mark.slow)]


class Solid(nn.Module):
    """Three classes in 3-D, which a filter of neighbours decides."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.head = nn.Conv3d(1, 6, 3, padding=1), nn.Conv3d(6, 3, 1)
        generator = torch.Generator().manual_seed(5)
        for parameter in self.parameters():
            parameter.data = torch.randn(parameter.shape, generator=generator)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.head(torch.sin(2 * self.body(images)))
        return logits


class Structures(Dense):
    """Three overlapping structures."""

    output = "sigmoid"


class Levels(Dense):
    """The same network behind a scanner of 64 gray levels: its gradient is 0 everywhere."""

    def forward(self, images: Tensor) -> Tensor:
        return super().forward((63 * images).round() / 63)


def scene(name: str, prepared: Any) -> tuple[Network, Tensor, Tensor]:
    """A network, images, and labels that it has mostly right."""
    if name == "hidden":
        images = torch.rand(3, 2, 8, 8, generator=torch.Generator().manual_seed(4))
        network = prepared(Levels(), images, 3)
        return network, images, network.as_labels(network.exact_logits(images))
    if name == "3-D":
        images = torch.rand(3, 1, 6, 7, 5, generator=torch.Generator().manual_seed(6))
        network = prepared(Solid(), images, 3)
        return network, images, network.as_labels(network.exact_logits(images))
    module, images, labels = dense_scene(9, 7)
    if name == "three classes":
        return prepared(module, images, 3), images, labels
    network = prepared(Structures(), images, 4)
    return network, images, network.as_labels(network.exact_logits(images))


RIVALS = ("pgd:steps=40", "apgd:steps=40", "segpgd", "mifgsm", "standard@4:cost=quick")
SCENES = ("three classes", "3-D", "structures")
# L2 climbs as L-infinity does, by other steps: one network shows it, the others are slow.
EVERYWHERE = [
    ("three classes", "linf"),
    ("three classes", "l2"),
    ("3-D", "linf"),
    ("structures", "linf"),
]
EVERYWHERE += [pytest.param(name, "l2", marks=pytest.mark.slow) for name in SCENES[1:]]


@pytest.fixture(scope="module")
def found(prepared: Any, run: Any) -> Callable[..., Outcome]:
    """What an attack finds on a scene, computed once for all that is said of it."""

    @cache
    def look(name: str, text: str, eps: str) -> Outcome:
        network, images, labels = scene(name, prepared)
        outcome: Outcome = run(network, load_attack(text), images, labels, eps=eps)
        return outcome

    return lambda name, text, eps: look(name, load_attack(text).label, eps)


@pytest.fixture
def quarter(monkeypatch: pytest.MonkeyPatch) -> None:
    """The suite in a quarter of its steps."""
    shorten_suites(monkeypatch, 4)


@pytest.mark.parametrize(("name", "norm"), EVERYWHERE)
def test_it_is_at_least_as_strong_as_any_other(
    name: str, norm: str, prepared: Any, found: Any
) -> None:
    network, _, labels = scene(name, prepared)
    low = ("0.01",) if name == "three classes" else ()
    for eps in (*low, "0.03") if norm == "linf" else ("0.4",):
        left = []
        for text in ("standard", *RIVALS):
            attack = f"{text}{',' if ':' in text else ':'}norm={norm}"
            left.append(scores(network, found(name, attack, eps).images, labels).mean())
        assert left[0] <= min(left) + 1e-6


@pytest.mark.parametrize("name", SCENES)
def test_its_curve_falls(
    name: str, prepared: Any, run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    shorten_suites(monkeypatch, 8)
    network, images, labels = scene(name, prepared)
    attacked = [
        run(network, load_attack("standard"), images, labels, eps=eps).images
        for eps in ("0.01", "0.02", "0.08")
    ]
    means = [scores(network, found, labels) for found in (images, *attacked)]
    for before, after in pairwise(means):
        assert after.mean() <= before.mean() + 0.005


@pytest.mark.parametrize("cost", COSTS)
def test_it_costs_what_it_says(
    cost: str, prepared: Any, run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(race, "LED", 2.0)  # of so few pixels a search turns many
    network, images, labels = scene("three classes", prepared)
    eps = "0.01" if cost == "quick" else "0.002"
    attack = load_attack(f"standard:cost={cost}")
    outcome = run(network, attack, images[:1], labels[:1], eps=eps)
    assert {cost for programmes in PROGRAMMES.values() for cost in programmes} == set(COSTS)
    for spent in outcome.backwards:
        assert 0.8 * COSTS[cost] <= spent <= 1.05 * COSTS[cost]


def test_a_case_at_the_worst_score_costs_no_more(prepared: Any, run: Any) -> None:
    images = torch.rand(3, 3, 6, 6, generator=torch.Generator().manual_seed(2))
    network, labels = prepared(Gains(), images, 3), images.argmax(1)
    outcome = run(network, load_attack("standard"), images, labels, eps="0.6")
    assert (scores(network, outcome.images, labels) == 0).all()
    assert max(outcome.backwards) <= PROGRAMMES[3]["standard"].openings[0][1]


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_a_gradient_that_is_hidden_hides_nothing(norm: str, prepared: Any, found: Any) -> None:
    network, _, labels = scene("hidden", prepared)
    eps = "0.1" if norm == "linf" else "0.8"
    standard = found("hidden", f"standard:norm={norm}", eps).images
    assert (scores(network, standard, labels) < 1).all()
    pgd = found("hidden", f"pgd:random_start=false,norm={norm}", eps).images
    assert (scores(network, pgd, labels) == 1).all(), "PGD is fooled here"


@pytest.mark.usefixtures("quarter")
def test_a_target_is_approached_by_every_cost(prepared: Any, run: Any) -> None:
    network, images, labels = scene("three classes", prepared)
    target = (labels + 1) % 3
    for cost in ("quick", "standard"):
        attack = load_attack(f"standard:cost={cost}")
        found = run(network, attack, images, labels, eps="0.1", target=target, targeted=True)
        rival = run(
            network, load_attack("pgd:keep=best"), images, labels, "0.1", target=target,
            targeted=True,
        )  # fmt: skip
        reached = scores(network, found.images, target).mean()
        assert reached >= scores(network, rival.images, target).mean() - 0.02
        assert reached > scores(network, images, target).mean()


def test_rows_record_the_version_and_none_but_that_is_known() -> None:
    assert '"version": 5' in load_attack("standard").parameters_text
    assert load_attack("standard@5").parameters_text == load_attack("standard").parameters_text
    for version in (1, 2, 3, 4):
        assert f'"version": {version}' in load_attack(f"standard@{version}").parameters_text
    with pytest.raises(UserError, match="version='8' is not one of 1"):
        load_attack("standard@8")


def test_a_cost_is_of_the_version_in_which_it_changed_last() -> None:
    """So a number keeps its name while it is the same, and no number has two."""
    labels = {
        "standard": "standard",
        "standard@5": "standard",
        "standard:cost=quick": "standard:cost=quick",
        "standard:cost=thorough": "standard:cost=thorough,version=7",
        "standard@7:cost=thorough": "standard:cost=thorough,version=7",
        "standard@6:cost=thorough": "standard:cost=thorough,version=6",
        "standard@5:cost=thorough": "standard:cost=thorough",
        "standard@1": "standard:version=1",
    }
    assert {text: load_attack(text).label for text in labels} == labels
    for text in ("standard@6", "standard@6:cost=quick", "standard@7"):
        with pytest.raises(UserError, match=r"version \d changed other costs than .* version 5"):
            load_attack(text)


@pytest.mark.parametrize("version", ["", "@6", "@7"])
def test_thorough_is_the_default_and_then_more(version: str) -> None:
    """By its programme, so on every case of every network."""
    thorough, default = (
        load_attack(text).attack.programme  # type: ignore[attr-defined]
        for text in (f"standard{version}:cost=thorough", "standard")
    )
    assert told(replace(thorough, further=None)) == told(default)
    assert thorough.further is not None


@pytest.mark.parametrize("name", SCENES)
def test_thorough_is_nowhere_above_the_default(
    name: str, prepared: Any, run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    shorten_suites(monkeypatch)
    network, images, labels = scene(name, prepared)
    default, thorough = (
        run(network, load_attack(text), images, labels, eps="0.02")
        for text in ("standard", "standard:cost=thorough")
    )
    before, after = (scores(network, outcome.images, labels) for outcome in (default, thorough))
    assert (after <= before).all()
    more = torch.tensor(thorough.backwards) > torch.tensor(default.backwards)
    assert (more == (before > 0)).all()


REACH, LOVASZ = "reach (1.25, 1.0) clean", "lovasz (1.25, 1.0) clean"
BRIEFLY, SEARCH, LATE_SEARCH = "lovasz (1.0,) clean", "None (1.0,) clean", "None (1.0,) clean late"
AGAIN, HINGE = "reach (1.5, 1.25, 1.0, 1.0) random", "metric-hinge (1.25, 1.0) clean"
SCORED, BREAK = "scored-reach (1.25, 1.0) clean", "scored-hinge (1.25, 1.0, 1.0) clean"
RELEASED = "weighted-ce (1.0,) clean sea"
BREAKING = "reach, scored-hinge (1.25, 1.0, 1.0)"
ANY = "reach, lovasz, scored-hinge (1.25, 1.0, 1.0)"
RUNGS = [("rung", 50), ("rung", 50)]
QUICK = [(REACH, 30)]
STANDARD_5 = [
    (REACH, 185), (LOVASZ, 60), (SEARCH, 10), ("search again", 300),
    ("scored-hinge (1.25, 1.0, 1.0)", 300), (ANY, 600),
]  # fmt: skip
AS_CITED = {
    (1, "quick"): QUICK,
    (1, "standard"): [(REACH, 85), (BRIEFLY, 15), (LATE_SEARCH, 10)],
    (1, "thorough"): [
        (REACH, 250), (AGAIN, 150), (SCORED, 150), (HINGE, 100), (BRIEFLY, 100), (RELEASED, 150),
        (LATE_SEARCH, 200), *RUNGS,
    ],
    (2, "quick"): QUICK,
    (2, "standard"): [(REACH, 185), (BRIEFLY, 15), (LATE_SEARCH, 10)],
    (2, "thorough"): [
        (REACH, 450), (AGAIN, 100), (SCORED, 100), (HINGE, 50), (BRIEFLY, 50), (RELEASED, 150),
        (LATE_SEARCH, 200), *RUNGS,
    ],
    (3, "quick"): QUICK,
    (3, "standard"): [
        (REACH, 185), (BRIEFLY, 15), (LATE_SEARCH, 10), ("scored-hinge (1.25, 1.0, 1.0)", 300),
        (BREAKING, 600),
    ],
    (3, "thorough"): [
        (REACH, 300), (BREAK, 250), (AGAIN, 100), (SCORED, 50), (BRIEFLY, 50), (RELEASED, 150),
        (LATE_SEARCH, 200), (BREAKING, 900), *RUNGS,
    ],
    (4, "quick"): QUICK,
    (4, "standard"): [
        (REACH, 185), (LOVASZ, 60), (LATE_SEARCH, 10), ("scored-hinge (1.25, 1.0, 1.0)", 300),
        (ANY, 600),
    ],
    (4, "thorough"): [
        (REACH, 300), (BREAK, 250), (AGAIN, 100), (LOVASZ, 100), (RELEASED, 150),
        (LATE_SEARCH, 200), (ANY, 900), *RUNGS,
    ],
    (5, "quick"): [(REACH, 32), (SEARCH, 10), ("onward", 0), *STANDARD_5],
    (5, "standard"): STANDARD_5,
    (5, "thorough"): [
        (REACH, 300), (BREAK, 250), (AGAIN, 100), (LOVASZ, 100), (RELEASED, 150), (SEARCH, 200),
        ("search again", 1000), (ANY, 900), *RUNGS,
    ],
    (6, "thorough"): [
        *STANDARD_5, ("further", 0), (BREAK, 250), (AGAIN, 200), (RELEASED, 150), (SEARCH, 200),
        ("search again", 1000), (ANY, 900), *RUNGS,
    ],
    (7, "thorough"): [
        *STANDARD_5, ("further", 0), (BREAK, 200), (AGAIN, 150),
        ("reach (1.25, 1.0) universal", 80), ("reach (0.5, 1.0, 1.0) clean", 80), (RELEASED, 150),
        (SEARCH, 200), ("None (1.0,) clean learns", 60), ("search again", 1000), (ANY, 900), *RUNGS,
    ],
}  # fmt: skip
AT_MOST = {
    "standard@1": 100,
    "standard@1:cost=quick": 30,
    "standard@1:cost=thorough": 1000,
    "standard@2": 200,
    "standard@2:cost=quick": 30,
    "standard@2:cost=thorough": 1000,
    "standard@3": 1100,
    "standard@3:cost=quick": 30,
    "standard@3:cost=thorough": 1900,
    "standard@4": 1145,
    "standard@4:cost=quick": 30,
    "standard@4:cost=thorough": 1900,
    "standard@5": 1145,
    "standard@5:cost=quick": 1177,
    "standard@5:cost=thorough": 1900,
    "standard@6:cost=thorough": 2745,
    "standard@7:cost=thorough": 2805,
}


def told(programme: Programme) -> list[tuple[str, int]]:
    """All of a programme, in the order in which it is run, and the steps or queries of each."""
    lines = []
    for member, steps in programme.openings:
        words = [str(member.loss), str(member.radii), member.start]
        words += [member.attack[0]] if member.attack else []
        words += [word for word in ("late", "leaving", "learns") if getattr(member, word)]
        lines.append((" ".join(words), steps))
    lines += [("search again", programme.queries)] if programme.queries else []
    for sequel in programme.sequels:
        names = ", ".join(member.name for member in sequel.members)
        lines.append((f"{names} {sequel.radii}", sequel.steps))
    lines += [("rung", steps) for steps in programme.rungs]
    for name, other in (("onward", programme.onward), ("further", programme.further)):
        lines += [(name, 0), *told(other)] if other else []
    return lines


def test_a_version_stays_as_it_was_cited() -> None:
    programmes = {
        (version, cost): told(programme)
        for version, costs in PROGRAMMES.items()
        for cost, programme in costs.items()
    }
    assert programmes == AS_CITED
    for text, gradients in AT_MOST.items():
        assert load_attack(text).attack.gradients == gradients
    assert standard.released("l2", 150) == SEA(50, "l2", preset="eccv2024")
    assert (standard.STILL, race.DECISIVE, race.LED) == (0.005, 16, 0.25)
    assert (race.FIRST, race.AGAIN, climbs.LAST, climbs.QUERIES) == (1.0, 0.5, 0.05, 1000)
    assert (race.DIRECTION, substitute.EXPLORING, substitute.CLIMB) == (10, 0.4, 10)
    assert (substitute.SIDES, substitute.LESSON, substitute.FURTHER) == ((1, 2, 4, 8, 16), 120, 20)
    learnt = answer_model.PLACES, answer_model.WIDTH, answer_model.LEVELS, answer_model.RATE
    assert learnt == (4096, 16, 4, 3e-3)


FOUND = {
    ("three classes", 1): [0.530, 0.418, 0.324],
    ("three classes", 2): [0.530, 0.418, 0.324],
    ("three classes", 3): [0.530, 0.418, 0.324],
    ("three classes", 4): [0.487, 0.418, 0.324],
    ("three classes", 5): [0.487, 0.418, 0.324],
    ("hidden", 4): [0.671, 0.663, 0.852],
    ("hidden", 5): [0.489, 0.5015, 0.4904],
}


@pytest.mark.parametrize(("name", "version"), FOUND)
def test_a_version_finds_what_it_found(name: str, version: int, prepared: Any, found: Any) -> None:
    """To a pixel; so a change anywhere below it, in a loss or a search, is seen here."""
    network, _, labels = scene(name, prepared)
    images = found(name, f"standard@{version}", "0.1" if name == "hidden" else "0.05").images
    left = scores(network, images, labels).tolist()
    assert left == pytest.approx(FOUND[name, version], abs=6e-4)


def test_the_members_of_a_race_begin_with_those_of_the_openings() -> None:
    for programmes in PROGRAMMES.values():
        for programme in programmes.values():
            opening = [member for member, _ in programme.openings]
            assert programme.members[: len(opening)] == opening


def test_a_case_goes_on_while_its_best_climb_gains_and_by_its_own_numbers_alone(
    prepared: Any, run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(standard, "STILL", 0.009)
    network, images, labels = scene("3-D", prepared)
    images, labels = images[:2], labels[:2]
    attack, eps = load_attack("standard@3"), "0.05"
    first = run(network, load_attack("standard@2"), images, labels, eps=eps)
    whole = run(network, attack, images, labels, eps=eps)
    before, after = (scores(network, outcome.images, labels) for outcome in (first, whole))
    assert (after <= before).all()
    for case, spent in enumerate(whole.backwards):
        assert first.members[case] == "reach"
        done = before[case] == 0 or first.late_gain[case] <= 0.009
        assert (spent == first.backwards[case]) == done
        assert torch.equal(whole.images[case], first.images[case]) or not done
        one = images[case : case + 1], labels[case : case + 1]
        alone = run(network, attack, *one, eps=eps, names="ab"[case])
        assert (alone.backwards, alone.members) == ([spent], [whole.members[case]])
    assert min(whole.backwards) == 200 < max(whole.backwards) <= 1100, "some stop, some go on"


@pytest.mark.parametrize(
    ("name", "eps"), [("three classes", "0.05"), ("3-D", "0.003"), ("structures", "0.05")]
)
def test_quick_ends_where_its_climb_did_and_goes_on_as_the_default_does(
    name: str, eps: str, prepared: Any, run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(race, "LED", 2.0)  # of so few pixels a search turns many
    network, images, labels = scene(name, prepared)
    whole = run(network, load_attack("standard"), images, labels, eps=eps)
    quick = run(network, load_attack("standard:cost=quick"), images, labels, eps=eps)
    lowest, left = (scores(network, outcome.images, labels) for outcome in (whole, quick))
    ended = torch.tensor([spent == 32 for spent in quick.backwards])
    assert ended.any()
    assert not ended.all()
    assert all(gain <= 0.005 for gain, end in zip(quick.late_gain, ended, strict=True) if end)
    assert (left[~ended] <= lowest[~ended]).all()
    assert (left - lowest <= 0.02).all()


class Loud(Dense):
    """What decides is rounded; what a gradient moves only makes the answer louder."""

    def forward(self, images: Tensor) -> Tensor:
        decided = super().forward((63 * images[:, :2]).round() / 63)
        return decided * (1 + images[:, 2:].mean((1, 2, 3), keepdim=True))


class Liar(Dense):
    """Rounded, with a gradient that leads back."""

    def forward(self, images: Tensor) -> Tensor:
        decided = super().forward((63 * images).round() / 63)
        return decided - 1e-3 * (images - images.detach()).sum(1, keepdim=True)


# Each cost and each network; the other pairs are slow. What is hidden from `standard` by `Levels`
# stands in test_a_gradient_that_is_hidden_hides_nothing too.
HIDDEN = [("quick", Levels), ("standard", Loud), ("standard", Liar)]
HIDDEN += [
    pytest.param(cost, masked, marks=pytest.mark.slow)
    for cost in COSTS
    for masked in (Levels, Loud, Liar)
    if (cost, masked) not in HIDDEN
]


@pytest.mark.parametrize(("cost", "masked"), HIDDEN)
def test_where_gradients_lie_it_searches_as_well_as_a_search(
    cost: str, masked: type[nn.Module], prepared: Any, run: Any
) -> None:
    channels = 3 if masked is Loud else 2
    images = torch.rand(4, channels, 8, 8, generator=torch.Generator().manual_seed(4))
    network = prepared(masked(), images, 3)
    labels = network.as_labels(network.exact_logits(images))
    left = [
        scores(network, run(network, load_attack(text), images, labels, eps="0.1").images, labels)
        for text in (f"standard:cost={cost}", "square:steps=200,loss=soft-jaccard")
    ]
    assert (left[0] < 1).all()
    assert left[0].mean() <= left[1].mean() + 0.05


@pytest.mark.usefixtures("quarter")
@pytest.mark.parametrize("cost", EVERY_COST)
def test_a_search_draws_the_same_in_every_company(cost: str, prepared: Any, run: Any) -> None:
    images = torch.rand(3, 2, 8, 8, generator=torch.Generator().manual_seed(4))
    network = prepared(Liar(), images, 3)
    labels = network.as_labels(network.exact_logits(images))
    labels[0] = (labels[0] + 1) % 3  # at the worst score from the start: it takes no part
    attack = load_attack(f"standard:cost={cost}")
    whole = run(network, attack, images, labels, eps="0.1")
    for case in (1, 2):
        one = images[case : case + 1], labels[case : case + 1]
        alone = run(network, attack, *one, eps="0.1", names="abc"[case])
        assert alone.members == [whole.members[case]]
        torch.testing.assert_close(alone.images[0], whole.images[case])


def test_a_case_without_a_gradient_does_not_go_on(found: Any) -> None:
    outcome = found("hidden", "standard", "0.1")
    assert "search" in outcome.members
    assert max(outcome.backwards) == 245


BY_AGE = [f"standard@{version}" for version in (1, 2, 3, 4, 5)]


# That thorough is no less than the default holds by its programme, see above.
@pytest.mark.parametrize(
    "suites", [BY_AGE, pytest.param(["standard", "standard:cost=thorough"], marks=pytest.mark.slow)]
)
def test_a_suite_is_never_less_than_the_one_before(
    suites: list[str], prepared: Any, found: Any
) -> None:
    network, _, labels = scene("three classes", prepared)
    left = [scores(network, found("three classes", text, "0.03").images, labels) for text in suites]
    for before, after in pairwise(left):
        assert after.mean() <= before.mean() + 0.005


def test_every_case_is_credited_to_the_member_that_found_its_image(found: Any) -> None:
    outcome = found("three classes", "standard", "0.03")
    assert len(outcome.members) == len(outcome.images)
    assert set(outcome.members) <= {"reach", "scored-hinge", "lovasz", "search", "clean"}
    assert found("three classes", "pgd:steps=2", "8/255").members == []


def test_where_no_gradient_leads_the_search_is_credited(prepared: Any, found: Any) -> None:
    _, images, _ = scene("hidden", prepared)
    outcome = found("hidden", "standard", "0.1")
    changed = (outcome.images != images).flatten(1).any(1).tolist()
    assert outcome.members == ["search" if moved else "clean" for moved in changed]
    assert any(changed)


@pytest.mark.usefixtures("quarter")
def test_rows_say_what_the_end_of_the_climb_that_found_an_image_gained(
    prepared: Any, run: Any
) -> None:
    network, images, labels = scene("3-D", prepared)
    outcome = run(network, load_attack("standard"), images, labels, eps="0.05")
    before = scores(network, images, labels)
    for member, gain, score in zip(outcome.members, outcome.late_gain, before, strict=True):
        assert (0 <= gain <= score) if member in LONG else math.isnan(gain)
    assert max(outcome.late_gain) > 0
    short = run(network, load_attack("standard@4:cost=quick"), images, labels, eps="0.05")
    assert all(0 <= gain <= score for gain, score in zip(short.late_gain, before, strict=True))


def test_a_search_that_lowers_a_case_a_little_does_not_end_what_climbs_were_gaining(
    prepared: Any, run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    network, images, labels = scene("3-D", prepared)
    images, labels = images[:1], labels[:1]
    before = run(network, load_attack("standard@1"), images, labels, eps="0.05")
    lower = run(network, load_attack("standard"), images, labels, eps="0.05").images
    monkeypatch.setattr(race, "search", lambda *_: lower)
    after = run(network, load_attack("standard@1"), images, labels, eps="0.05")
    assert before.members == ["reach"]
    assert after.members == ["search"]
    assert after.late_gain == before.late_gain > [0]


@pytest.mark.usefixtures("quarter")
def test_a_climb_without_a_gradient_gains_nothing_at_its_end(prepared: Any, run: Any) -> None:
    network, images, labels = scene("hidden", prepared)
    outcome = run(network, load_attack("standard"), images, labels, eps="0.00001")
    assert outcome.members == ["clean"] * 3
    assert outcome.late_gain == [0, 0, 0]


def test_an_attack_by_steps_is_run_as_the_engine_runs_it(prepared: Any, run: Any) -> None:
    network, images, labels = scene("three classes", prepared)
    noise = CaseNoise(0, ("a", "b", "c"), images.device, ("a", "b", "c"))
    budget, goal = Budget("linf", Fraction("0.02")), Goal(labels, labels)
    sea = SEA(12, preset="eccv2024")
    field = Field(CaseObjective(network, noise, images), images, goal, budget, noise, "linf")
    own = [scores(network, found, labels) for found in by_steps(field, sea)]
    engines = attack_batch(network, sea, images, goal, budget, noise).images
    torch.testing.assert_close(torch.minimum(*own), scores(network, engines, labels))
