"""Which budgets are in doubt: in each norm that is judged, by attacks that are after the score."""

import math

import pytest

from segbench.tables.build import build_tables
from segbench.tables.unsettled import unsettled_budgets

WHO = "unet@jsrt#0"


def _curve(make, attack, found, **given):
    """Rows of three cases at each budget, all with that score, whose steps gained to their end."""
    return [
        make(attack=attack, budget=budget, case_id=case, group_id=case, jaccard=score,
             **{"late_gain": 0.005, **given})
        for budget, score in found.items()
        for case in "abc"
    ]  # fmt: skip


@pytest.fixture
def doubtful(frame):
    def found(rows):
        tables = build_tables(frame(rows), depth="cases")
        return dict(unsettled_budgets(tables.cases, set(tables.distances["attack"])))

    return found


@pytest.mark.parametrize(
    "sign",
    [
        {"zero_gradients": 1.0},
        {"late_gain": 0.0},
        {"late_gain": 0.2},
        {"attack": "standard", "member": "search"},
    ],
)
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_every_sign_is_seen_in_each_norm(norm, sign, row, doubtful):
    given = {"attack": "pgd", "budget_kind": norm, **sign}
    attack = given.pop("attack")
    assert doubtful(_curve(row, attack, {0.5: 0.6}, **given)) == {(WHO, norm, ""): {0.5}}


def test_a_curve_that_rises_is_in_doubt_in_its_own_norm_alone(row, doubtful):
    rows = _curve(row, "pgd:norm=l2", {0.5: 0.6, 1.0: 0.7}, budget_kind="l2",
                  attack_params='{"norm": "l2"}')  # fmt: skip
    rows += _curve(row, "pgd", {0.5: 0.6, 1.0: 0.5}, attack_params='{"norm": "linf"}')
    assert doubtful(rows) == {(WHO, "l2", ""): {1.0}}
    assert doubtful(rows[6:]) == {}


@pytest.mark.parametrize("kind", ["l1", "severity", "area"])
def test_other_budgets_are_not_judged(kind, row, doubtful):
    rows = _curve(row, "pgd", {1.0: 0.6, 2.0: 0.7}, budget_kind=kind, zero_gradients=1.0)
    assert doubtful(rows) == {}


def test_what_leads_to_a_target_leaves_nothing_in_doubt_and_settles_nothing(row, doubtful):
    led = _curve(row, "pgd:target=empty", {0.1: 0.5, 0.2: 0.7}, target_jaccard=0.9,
                 attack_params='{"target": "empty"}')  # fmt: skip
    assert doubtful(led) == {}
    lost = _curve(row, "pgd", {0.2: 0.45}, zero_gradients=1.0, attack_params='{"target": null}')
    assert doubtful(led + lost) == {(WHO, "linf", ""): {0.2}}
    sound = _curve(row, "pgd", {0.2: 0.45}, attack_params='{"target": null}')
    assert doubtful(led + sound) == {}
    beaten = _curve(row, "pgd", {0.2: 0.6}, attack_params='{"target": null}')
    assert doubtful(led + beaten) == {(WHO, "linf", ""): {0.2}}  # its images lie in the ball


def test_rounded_images_settle_nothing(row, doubtful):
    lost = _curve(row, "pgd", {0.1: 0.6}, zero_gradients=1.0)
    rounded = _curve(row, "pgd:quantized=true", {0.1: 0.9}, attack_params='{"quantized": true}')
    assert doubtful(lost + rounded) == {(WHO, "linf", ""): {0.1}}


def test_a_least_distance_settles_nothing(row, doubtful):
    clean = _curve(row, "clean", {0.0: 0.9}, budget_kind="none", attack_params="{}")
    lost = _curve(row, "pgd", {0.1: 0.6}, zero_gradients=1.0)
    nearest = _curve(row, "dag", {0.4: 0.3}, budget_kind="min-norm", linf=0.5,
                     attack_params='{"norm": "linf", "below": 0.4}')  # fmt: skip
    tables_of = clean + lost + nearest
    assert doubtful(tables_of) == {(WHO, "linf", ""): {0.1}}
    assert doubtful(clean + nearest) == {}


def test_what_takes_no_gradient_settles_nothing_unless_it_is_alone(row, doubtful):
    lost = _curve(row, "pgd", {0.1: 0.6}, zero_gradients=1.0)
    blind = _curve(row, "noise", {0.1: 0.6}, late_gain=math.nan, zero_gradients=math.nan)
    assert doubtful(blind) == {}
    assert doubtful(lost + blind) == {(WHO, "linf", ""): {0.1}}


def test_what_others_beat_settles_nothing(row, doubtful):
    lost = _curve(row, "pgd", {0.1: 0.6}, zero_gradients=1.0)
    assert doubtful(lost + _curve(row, "fgsm", {0.1: 0.604})) == {}
    assert doubtful(lost + _curve(row, "fgsm", {0.1: 0.61})) == {(WHO, "linf", ""): {0.1}}


def test_where_nobody_noted_a_gain_an_attack_is_sound(row, doubtful):
    assert doubtful(_curve(row, "square", {0.1: 0.6}, late_gain=math.nan)) == {}


def _of(rows, cases):
    return [one for one in rows if one["case_id"] in cases]


def test_an_attack_settles_a_budget_for_the_cases_that_it_has_alone(row, doubtful):
    """Whichever it failed on, did not meet, or was stopped on, is as stuck as others leave it."""
    lost = _curve(row, "fgsm", {0.1: 0.6, 0.2: 0.6})
    lost = [{**one, "zero_gradients": 1.0 if one["case_id"] == "c" else 0.0} for one in lost]
    sound = _curve(row, "pgd", {0.1: 0.6, 0.2: 0.6})
    assert doubtful(lost + sound) == {}
    assert doubtful(lost + _of(sound, "ab")) == {(WHO, "linf", ""): {0.1, 0.2}}
    at_one = [one for one in sound if one["budget"] == 0.1 or one["case_id"] != "c"]
    assert doubtful(lost + at_one) == {(WHO, "linf", ""): {0.2}}
    assert (
        doubtful(lost + _of(sound, "ab") + _of(_curve(row, "apgd", {0.1: 0.6, 0.2: 0.6}), "c"))
        == {}
    )
    blind = _curve(row, "noise", {0.1: 0.6, 0.2: 0.6}, late_gain=math.nan, zero_gradients=math.nan)
    assert doubtful(lost + _of(sound, "ab") + blind) == {(WHO, "linf", ""): {0.1, 0.2}}


@pytest.mark.parametrize("case", [{"jaccard": 0.0}, {"jaccard": math.nan}])
def test_a_case_of_which_nothing_is_left_needs_no_attack_to_settle_it(case, row, doubtful):
    lost = _curve(row, "fgsm", {0.1: 0.6}, zero_gradients=1.0)
    rows = [*lost[:2], {**lost[2], **case}, *_of(_curve(row, "pgd", {0.1: 0.6}), "ab")]
    assert doubtful(rows) == {}
    assert doubtful([*rows[:2], lost[2], *rows[3:]]) == {(WHO, "linf", ""): {0.1}}
    below = [{**lost[2], "attack": "pgd", "budget": 0.05, "jaccard": 0.0, "zero_gradients": 0.0}]
    assert doubtful([*rows[:2], lost[2], *rows[3:], *below]) == {}


def test_what_is_left_is_of_the_cases_whose_gain_was_noted(row, doubtful):
    """Of a case that left before the last half nothing is known, and it says nothing of others."""
    rows = _curve(row, "pgd", {0.1: 0.6}, late_gain=math.nan)
    rows[0] |= {"jaccard": 0.02, "late_gain": 0.0}
    assert doubtful(rows) == {}
    rows[0] |= {"jaccard": 0.3}
    assert doubtful(rows) == {(WHO, "linf", ""): {0.1}}
