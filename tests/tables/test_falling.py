"""A score that was still falling when the gradients ran out is told of; nothing else is."""

import math
from functools import partial

import pytest

from segbench.tables.build import build_tables
from segbench.tables.unsettled import unsettled_budgets

summed_up = partial(build_tables, depth="summary")  # which says what any depth says


def _rows(make, attack, budget, found, **given):
    """One row a case, of (score, what the last half gained)."""
    return [
        make(attack=attack, budget=budget / 255, case_id=case, group_id=case, jaccard=score,
             late_gain=gain, **given)
        for case, (score, gain) in zip("abc", found, strict=True)
    ]  # fmt: skip


def _said(tables):
    return [warning for warning in tables.warnings if "still falling" in warning]


def test_the_budgets_and_the_mean_gain_are_named(row, frame):
    rows = _rows(row, "standard", 2, [(0.8, 0.004), (0.7, 0.002), (0.75, 0.01)])
    rows += _rows(row, "standard", 3, [(0.4, 0.06), (0.5, 0.03), (0.0, 0.5)])
    [sentence] = _said(tables := summed_up(frame(rows)))
    assert "unet@jsrt#0 on jsrt test: its lowest mean jaccard was still falling" in sentence
    assert "at 3/255 by 0.030, so" in sentence  # a case at the worst score has come to its end
    assert "2/255" not in sentence
    assert unsettled_budgets(tables.cases) == {("unet@jsrt#0", "linf", ""): {3 / 255}}
    assert set(tables.cases["marks"]) == {""}


SETTLED = "`segbench attack --until-settled` spends more there, or "


@pytest.mark.parametrize(
    ("ran", "given", "said"),
    [
        (["pgd"], {}, f"{SETTLED}`-a standard` does, or `standard:cost=thorough`."),
        (["pgd", "standard"], {}, f"{SETTLED}`-a standard:cost=thorough` does."),
        (
            ["pgd", "standard"],
            {"budget_kind": "l2"},
            f"{SETTLED}`-a standard:cost=thorough,norm=l2` does.",
        ),
        (
            ["pgd"],
            {"attack_params": '{"where": "inside"}'},
            f"{SETTLED}`-a standard:where=inside` does, or `standard:cost=thorough,where=inside`.",
        ),
        (["pgd"], {"budget_kind": "l1"}, "more steps or restarts would tell."),
        (
            ["standard"],
            {"attack_params": '{"cost": "thorough"}'},
            "`standard:cost=thorough` spends the most of all attacks here, and was run.",
        ),
    ],
)
def test_what_spends_more_is_what_was_not_run_yet(ran, given, said, row, frame):
    rows = [r for name in ran for r in _rows(row, name, 3, [(0.4, 0.06)] * 3, **given)]
    [sentence] = _said(summed_up(frame(rows)))
    assert sentence.endswith(f"so the worst case may well lie lower: {said}")


def test_a_suite_that_led_to_a_target_spent_nothing_on_the_score(row, frame):
    rows = _rows(row, "pgd", 3, [(0.4, 0.06)] * 3)
    rows += _rows(
        row, "standard:target=empty", 3, [(0.5, 0.0)] * 3, target_jaccard=0.5,
        attack_params='{"cost": "standard", "target": "empty"}',
    )  # fmt: skip
    [sentence] = _said(summed_up(frame(rows)))
    assert sentence.endswith(f"{SETTLED}`-a standard` does, or `standard:cost=thorough`.")


def test_of_several_attacks_the_lowest_counts_case_by_case(row, frame):
    pgd = _rows(row, "pgd", 4, [(0.8, 0.2), (0.8, 0.2), (0.2, 0.09)])
    settled = _rows(row, "standard", 4, [(0.3, 0.0), (0.3, 0.0), (0.4, 0.3)])
    assert "by 0.163, so" in _said(summed_up(frame(pgd)))[0]
    assert "by 0.030, so" in _said(summed_up(frame(pgd + settled)))[0]
    assert not _said(summed_up(frame(settled[:2] + pgd[:2])))


@pytest.mark.parametrize(
    "given", [{"target_jaccard": 0.5}, {"budget_kind": "severity"}, {"attack": "clean"}]
)
def test_what_bounds_no_score_within_a_norm_says_nothing(given, row, frame):
    rows = _rows(row, "standard", 4, [(0.3, 0.0)] * 3)
    attack = {"attack": "pgd", **given}.pop("attack")
    facts = {key: value for key, value in given.items() if key != "attack"}
    rows += _rows(row, attack, 0 if attack == "clean" else 4, [(0.2, 0.2)] * 3, **facts)
    assert not _said(summed_up(frame(rows)))


def test_where_nobody_noted_a_gain_nothing_is_said(row, frame):
    assert not _said(summed_up(frame(_rows(row, "square", 4, [(0.2, math.nan)] * 3))))


def test_a_part_of_the_image_is_another_threat(row, frame):
    inside = _rows(row, "pgd:where=inside", 4, [(0.5, 0.1)] * 3,
                   attack_params='{"where": "inside"}')  # fmt: skip
    rows = inside + _rows(row, "pgd", 4, [(0.2, 0.005)] * 3)
    [sentence] = _said(tables := summed_up(frame(rows)))
    assert "(where=inside)" in sentence
    assert unsettled_budgets(tables.cases) == {("unet@jsrt#0", "linf", "inside"): {4 / 255}}


def test_a_case_that_is_lower_within_a_smaller_ball_waits_for_nothing(row, frame):
    rows = _rows(row, "pgd", 2, [(0.1, 0.0005)] * 3) + _rows(row, "pgd", 4, [(0.5, 0.2)] * 3)
    rows += _rows(row, "pgd", 3, [(0.3, 0.1)] * 3)
    for order in (rows, rows[::-1], rows[1::2] + rows[::2]):
        assert not _said(summed_up(frame(order)))
    [sentence] = _said(summed_up(frame(rows[3:])))  # without the smallest, 3/255 is the lowest
    assert "at 3/255 by 0.100, so" in sentence


def test_images_rounded_to_their_files_levels_count_for_nothing(row, frame):
    rows = _rows(row, "pgd", 4, [(0.1, 0.2)] * 3, attack_params='{"quantized": true}')
    assert not _said(summed_up(frame(rows)))


def test_of_equal_scores_the_one_that_came_to_rest_counts_whatever_it_is_called(row, frame):
    for first, second in (("apgd", "pgd"), ("pgd", "apgd")):
        falling = _rows(row, first, 4, [(0.3, 0.2)] * 3)
        rest = _rows(row, second, 4, [(0.3, 0.0)] * 3)
        unknown = _rows(row, second, 4, [(0.3, math.nan)] * 3)
        assert not _said(summed_up(frame(falling + rest)))
        assert "by 0.200, so" in _said(summed_up(frame(falling + unknown)))[0]
