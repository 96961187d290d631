"""Signs of a stuck attack: each is found by its number, and honest curves show none."""

from __future__ import annotations

import pytest

from segbench.tables.build import build_tables


def _curve(make, attack, scores, **given):
    return [
        make(attack=attack, budget=eps / 255, case_id=c, group_id=c, jaccard=score, **given)
        for eps, score in scores.items()
        for c in "abc"
    ]


def _signs(tables):
    return [note for note in tables.notes if "give it more steps" in note]


def _marked(tables):
    return set(tables.cases.loc[tables.cases["marks"].str.contains("stuck"), "attack"])


def test_an_honest_curve_has_no_sign(row, frame):
    rows = _curve(row, "pgd", {2: 0.8, 4: 0.804, 8: 0.2}) + _curve(row, "fgsm", {2: 0.82, 8: 0.24})
    tables = build_tables(frame(rows))
    assert _signs(tables) == []
    assert _marked(tables) == set()


def test_a_curve_that_rises_is_marked_and_says_by_how_much_and_what_to_do(row, frame):
    rows = _curve(row, "pgd", {2: 0.5, 4: 0.3, 8: 0.31}) + _curve(row, "apgd", {2: 0.5, 8: 0.29})
    tables = build_tables(frame(rows))
    (sign,) = _signs(tables)
    assert "unet@jsrt#0 on jsrt test under pgd: it leaves 0.010 more at 8/255 than at 4/255" in sign
    assert "`-a standard`" in sign
    assert _marked(tables) == {"pgd"}
    assert any("under pgd" in note and "is marked stuck" in note for note in tables.notes)


def test_an_attack_that_another_beats_by_far_is_told_of_and_not_marked(row, frame):
    rows = _curve(row, "pgd", {4: 0.6, 8: 0.3}) + _curve(row, "standard", {4: 0.2, 8: 0.0})
    tables = build_tables(frame(rows))
    (sign,) = _signs(tables)
    assert "under pgd: at 4/255 others leave 0.400 less; at 8/255 others leave 0.300 less" in sign
    assert _marked(tables) == set()


@pytest.mark.parametrize(("share", "marked"), [(0.05, set()), (0.5, {"pgd"})])
def test_gradients_that_are_zero_everywhere_are_a_sign(share, marked, row, frame):
    tables = build_tables(frame(_curve(row, "pgd", {8: 0.6}, zero_gradients=share)))
    assert _marked(tables) == marked
    assert any("at 8/255 50% of its steps" in sign for sign in _signs(tables)) == bool(marked)
