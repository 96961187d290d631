"""Scores of one attack's name are of one attack, or the report says that they are not."""

from __future__ import annotations

import pytest

from segbench.tables.attack_code import describe_code
from segbench.tables.build import build_tables
from segbench_reports import page

OLD, NEW = "0d" * 32, "ef" * 32


def test_networks_that_met_an_attack_before_and_after_its_edit_are_named(row, frame):
    rows = frame(
        [row(model="a", attack_sha256=OLD), row(model="b"), row(model="c"), row(attack="ifgsm")]
    )
    (sentence,) = describe_code(rows)
    assert sentence.startswith("pgd:restarts=1,steps=40 is not one attack here")
    assert "(a / b, c)" in sentence
    assert sentence in build_tables(rows, depth="summary").warnings


def test_two_eps_of_one_network_may_be_of_unlike_code(row, frame):
    rows = frame([row(budget=2 / 255, attack_sha256=OLD), row(budget=8 / 255)])
    (sentence,) = describe_code(rows)
    assert "(unet@jsrt#0 / unet@jsrt#0)" in sentence


@pytest.mark.parametrize("first", ["", NEW])
def test_nothing_is_said_of_one_attack_nor_of_rows_that_do_not_know_theirs(row, frame, first):
    other = row(model="b", attack_params='{"restarts": 2}', attack_sha256=OLD)
    rows = frame([row(model="a", attack_sha256=first), row(model="b"), other])
    assert not [*describe_code(rows)]


@pytest.mark.parametrize(
    ("codes", "one_code"), [((OLD, NEW), False), ((NEW, NEW), True), (("", NEW), True)]
)
def test_a_number_under_unlike_code_of_one_attack_settles_no_place(row, frame, codes, one_code):
    """A first place in a page or leaderboard would be no comparison."""
    rows = [
        row(
            model=f"{name}@jsrt#0",
            attack=attack,
            attack_sha256=code,
            case_id=f"c{n}",
            group_id=f"c{n}",
            jaccard=0.3 if name == "a" else 0.6,
        )
        for name, own in zip("ab", codes, strict=True)
        for attack, code in (("pgd", own), ("ifgsm", NEW))
        for n in range(3)
    ]
    tables = build_tables(frame(rows))
    found = tables.headlines
    assert found[found["of"] == "linf"]["one_code"].tolist() == [one_code] * 2
    settled = tables.ranks[tables.ranks["of"] == "linf"]["settled"]
    assert settled.any() == one_code
    assert ("one attack was of unlike code" in page.render(tables)) != one_code
