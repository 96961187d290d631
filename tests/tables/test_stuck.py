"""Signs of a stuck attack: each is found by its number, and honest curves show none."""

from __future__ import annotations

import json
import re
from functools import partial
from typing import get_args

import pytest

from segbench.plugins import registry
from segbench.plugins.attack import load_attack
from segbench.tables.build import build_tables
from segbench.tables.curve_signs import Kind
from segbench.tables.sign_texts import advise
from segbench.tables.unsettled import unsettled_budgets

summed_up = partial(build_tables, depth="summary")  # which says what any depth says

SIGN = (
    "which is no wider|others leave|of its steps met|of its mean is of cases|"
    "without gradients found|half of its steps gained|its network is ahead"
)


def _curve(make, attack, scores, **given):
    return [
        make(attack=attack, budget=eps / 255, case_id=c, group_id=c, jaccard=score, **given)
        for eps, score in scores.items()
        for c in "abc"
    ]


def _signs(tables):
    return [note for note in tables.notes if re.search(SIGN, note)]


def _marked(tables):
    return set(tables.cases.loc[tables.cases["marks"].str.contains("stuck"), "attack"])


def test_an_honest_curve_has_no_sign(row, frame):
    rows = _curve(row, "pgd", {2: 0.8, 4: 0.804, 8: 0.2}) + _curve(row, "fgsm", {2: 0.82, 8: 0.24})
    tables = summed_up(frame(rows))
    assert _signs(tables) == []
    assert _marked(tables) == set()


def test_a_curve_that_rises_is_marked_and_says_by_how_much_and_what_to_do(row, frame):
    rows = _curve(row, "pgd", {2: 0.5, 4: 0.3, 8: 0.31}) + _curve(row, "apgd", {2: 0.5, 8: 0.29})
    tables = summed_up(frame(rows))
    (sign,) = _signs(tables)
    assert "unet@jsrt#0 on jsrt test under pgd: it leaves 0.010 more at 8/255 than at 4/255" in sign
    assert "`-a standard`" in sign
    assert _marked(tables) == {"pgd"}
    assert any("under pgd" in note and "is marked stuck" in note for note in tables.notes)


@pytest.mark.parametrize(
    ("scores", "said"),
    [
        ({2: 0.3, 4: 0.35, 8: 0.33}, "0.050 more at 4/255 than at 2/255, which is no wider (and so "
         "at 1 more budget)"),
        ({1: 0.5, 2: 0.504, 4: 0.508, 8: 0.512}, "0.012 more at 8/255 than at 1/255, which is no "
         "wider (and so at 1 more budget)"),
        ({1: 0.3, 2: 0.31, 4: 0.35, 8: 0.33}, "0.050 more at 4/255 than at 1/255, which is no "
         "wider (and so at 2 more budgets)"),
    ],
)  # fmt: skip
def test_a_rise_is_from_any_smaller_budget(row, frame, scores, said):
    """Not from the next smaller one alone, which may have risen itself, nor by small steps."""
    (sign,) = _signs(summed_up(frame(_curve(row, "pgd", scores))))
    assert f"under pgd: it leaves {said}" in sign


def test_a_curve_of_rounded_images_may_rise_since_its_balls_do_not_hold_each_other(row, frame):
    rows = _curve(row, "pgd:quantized=true", {2: 0.3, 8: 0.31}, attack_params='{"quantized": true}')
    tables = summed_up(frame(rows))
    assert _signs(tables) == []
    assert _marked(tables) == set()


def test_an_attack_that_another_beats_by_far_is_told_of_and_not_marked(row, frame):
    rows = _curve(row, "pgd", {4: 0.6, 8: 0.3}) + _curve(row, "standard", {4: 0.2, 8: 0.0})
    tables = summed_up(frame(rows))
    (sign,) = _signs(tables)
    assert "under pgd: at 4/255 others leave 0.400 less (and so at 1 more budget): " in sign
    assert "the worst of the attacks is what counts" in sign
    assert _marked(tables) == set()


@pytest.mark.parametrize(("weaker", "more"), [(2, ""), (5, ", and 2 more.")])
def test_all_that_others_beat_on_a_network_are_told_of_in_one_sentence(weaker, more, row, frame):
    """Of a benchmark of twenty attacks there would be nineteen, and no doubt be seen among them."""
    rows = _curve(row, "standard", {4: 0.2, 8: 0.0})
    for n in range(weaker):
        rows += _curve(row, f"a{n}", {8: 0.3})
    (sign,) = _signs(summed_up(frame(rows)))
    assert f"jsrt test: {weaker} attacks leave more than others, and the worst is what" in sign
    assert "a0 (at 8/255 others leave 0.300 less), a1 (at 8/255 others" in sign
    assert sign.endswith(more)


def test_a_curve_that_is_stuck_is_told_of_before_one_that_is_merely_weaker(row, frame):
    rows = _curve(row, "fgsm", {4: 0.6, 8: 0.5}) + _curve(row, "pgd", {4: 0.2, 8: 0.3})
    stuck, weaker = _signs(summed_up(frame(rows)))
    assert "under pgd: it leaves" in stuck
    assert "under fgsm: at 4/255 others" in weaker


@pytest.mark.parametrize(("share", "marked"), [(0.05, set()), (0.5, {"pgd"})])
def test_gradients_that_are_zero_everywhere_are_a_sign(share, marked, row, frame):
    tables = summed_up(frame(_curve(row, "pgd", {8: 0.6}, zero_gradients=share)))
    assert _marked(tables) == marked
    assert any("at 8/255 50% of its steps" in sign for sign in _signs(tables)) == bool(marked)


@pytest.mark.parametrize(
    ("score", "share", "marked"),
    [(0.9, 1.0, {"pgd"}), (0.9, 0.4, set()), (0.05, 1.0, set()), (0.0, 1.0, set())],
)
def test_one_case_of_twenty_that_met_no_gradient_is_a_sign(score, share, marked, row, frame):
    """Its clean score would stand in the mean, and 1 of 20 is no large share of steps."""
    rows = [
        row(case_id=f"c{n}", group_id=f"g{n}", jaccard=score if n == 7 else 0.3,
            zero_gradients=share * (n == 7))
        for n in range(20)
    ]  # fmt: skip
    tables = summed_up(frame(rows))
    assert _marked(tables) == marked
    said = (
        "at 8/255 0.045 of its mean is of cases of which most steps met a gradient that is zero "
        "everywhere: see `segbench diagnose` for a reason, or try a search without gradients, "
        "`-a square`."
    )
    assert any(said in sign for sign in _signs(tables)) == bool(marked)
    assert (unsettled_budgets(tables.cases) != {}) == bool(marked)


@pytest.mark.parametrize(
    ("member", "marked"),
    [("reach", set()), ("search", {"standard"}), ("substitute", {"standard"})],
)
def test_a_search_that_beats_every_climb_is_a_sign(member, marked, row, frame):
    tables = summed_up(frame(_curve(row, "standard", {8: 0.6}, member=member)))
    assert _marked(tables) == marked
    said = "at 8/255 a search without gradients found the worst image of 100% of its cases"
    assert any(said in sign for sign in _signs(tables)) == bool(marked)
    assert (unsettled_budgets(tables.cases) != {}) == bool(marked)


def test_where_nothing_is_left_to_do_a_gradient_may_be_zero(row, frame):
    """A hinge on what is still right has none once nothing is."""
    done = _curve(row, "pgd", {8: 0.0}, zero_gradients=0.9)
    tables = summed_up(frame(done))
    assert (_signs(tables), _marked(tables)) == ([], set())
    assert unsettled_budgets(tables.cases) == {}
    one_left = [{**done[0], "jaccard": 0.6}, *done[1:]]
    assert _marked(summed_up(frame(one_left))) == {"pgd"}


@pytest.mark.parametrize(
    ("late", "left", "marked"),
    [(0.0, 0.6, {"pgd"}), (0.01, 0.6, set()), (0.0, 0.01, set()), (float("nan"), 0.6, set())],
)
def test_a_last_half_that_gains_nothing_is_a_sign_where_there_is_much_left(
    late, left, marked, row, frame
):
    tables = summed_up(frame(_curve(row, "pgd", {4: 0.7, 8: left}, late_gain=late)))
    assert _marked(tables) == marked
    said = "at 8/255 the last half of its steps gained 0.0000, and 0.600 was left"
    assert any(said in sign for sign in _signs(tables)) == bool(marked)


def test_a_small_ball_that_is_searched_to_its_end_is_no_sign(row, frame):
    rows = _curve(row, "pgd", {1: 0.9}, late_gain=0.0) + _curve(row, "pgd", {8: 0.6}, late_gain=0.1)
    tables = summed_up(frame(rows))
    assert (_signs(tables), _marked(tables)) == ([], set())


def _of_two(row, of_one, of_other):
    return [
        one
        for model, scores in (("a@jsrt#0", of_one), ("b@jsrt#0", of_other))
        for attack, score in scores.items()
        for one in _curve(row, attack, {8: score}, model=model, weights_sha256=model[0] * 64,
                          network_sha256=model[0] * 64)
    ]  # fmt: skip


def test_a_network_far_ahead_under_one_attack_alone_is_a_sign(row, frame):
    rows = _of_two(row, {"pgd": 0.65, "fgsm": 0.65}, {"pgd": 0.10, "fgsm": 0.60})
    tables = summed_up(frame(rows))
    [sign] = [sign for sign in _signs(tables) if "ahead" in sign]
    assert "a@jsrt#0 on jsrt test under pgd" in sign
    said = "ahead of every other by 0.550, under fgsm, which leaves no more of it, by 0.050 only"
    assert f"at 8/255 its network is {said}" in sign
    assert set(tables.cases.loc[tables.cases["marks"].str.contains("stuck"), "model"]) == {
        "a@jsrt#0"
    }
    assert _marked(tables) == {"pgd"}


@pytest.mark.parametrize(
    ("of_one", "of_other"),
    [
        ({"pgd": 0.65, "fgsm": 0.65}, {"pgd": 0.10, "fgsm": 0.30}),  # ahead under both
        # The attack is the stronger one on this network too: the other hid how weak the rest is.
        ({"standard": 0.16, "pgd": 0.27}, {"standard": 0.0, "pgd": 0.26}),
        ({"standard": 0.85, "pgd": 0.88}, {"standard": 0.0, "pgd": 0.71}),
        ({"pgd": 0.65}, {"pgd": 0.10}),  # nothing to compare with
        ({"pgd": 0.30, "fgsm": 0.40}, {"pgd": 0.20, "fgsm": 0.40}),  # not far
    ],
)
def test_a_network_that_is_ahead_throughout_or_by_little_is_none(of_one, of_other, row, frame):
    tables = summed_up(frame(_of_two(row, of_one, of_other)))
    assert not any("ahead" in sign for sign in _signs(tables))


@pytest.mark.parametrize("under_fgsm", ["c", "d"])
def test_leads_under_two_attacks_are_of_the_cases_that_met_both(under_fgsm, row, frame):
    """That of one attack on hard cases and of another on easy ones is no sign of either."""
    left = {"a": 0.9, "b": 0.9, "c": 0.5, "d": 0.5}
    rows = [
        row(model=f"{model}@jsrt#0", attack=attack, case_id=c, group_id=c, jaccard=level)
        for attack, cases in (("pgd", "abc"), ("fgsm", under_fgsm))
        for c in cases
        for model, level in (("a", left[c]), ("b", 0.4))
    ]
    assert not any("ahead" in sign for sign in _signs(summed_up(frame(rows))))


@pytest.mark.parametrize("attack", ["worst", "worst/bias-field"])
def test_a_search_for_the_worst_of_smaller_severities_too_never_rises_unmarked(attack, row, frame):
    """A corruption that draws one of each may rise, and so may the mean of several."""
    rows = [
        row(attack=name, budget_kind="severity", budget=float(severity), case_id=c, group_id=c,
            jaccard=score, attack_params=params)
        for name, params in ((attack, '{"attack": "corruption/gamma", "queries": 12}'),
                             ("corruption/gamma", "{}"))
        for severity, score in ((1, 0.8), (3, 0.52), (5, 0.58))
        for c in "abc"
    ]  # fmt: skip
    tables = summed_up(frame(rows))
    (sign,) = _signs(tables)
    said = "it leaves 0.060 more at severity 5 than at severity 3, which is no wider"
    assert f"unet@jsrt#0 on jsrt test under {attack}: {said}" in sign
    assert "give it more queries" in sign
    assert _marked(tables) == {attack}


def test_worst_searches_of_unlike_corruptions_say_nothing_of_each_other(row, frame):
    """Neither which of two networks an attack was stuck on, nor that one leaves more."""
    left = {("a", "gamma"): 0.9, ("b", "gamma"): 0.1, ("a", "blur"): 0.5, ("b", "blur"): 0.5}
    rows = [
        row(model=f"{model}@jsrt#0", weights_sha256=model * 64, attack="worst", case_id=c,
            attack_params=json.dumps({"attack": f"corruption/{name}"}), group_id=c,
            budget_kind="severity", budget=5.0, jaccard=score)
        for (model, name), score in left.items()
        for c in "abc"
    ]  # fmt: skip
    assert _signs(summed_up(frame(rows))) == []


@pytest.mark.parametrize(("at_largest", "marked"), [(0.0, set()), (0.6, {"standard"})])
def test_what_is_ahead_and_falls_at_the_largest_budget_was_not_stuck(
    at_largest, marked, row, frame
):
    """The other network is the weak one, which an attack that is weaker hid."""
    levels = {
        ("a", "standard"): {2: 0.85, 8: at_largest}, ("b", "standard"): {2: 0.0, 8: 0.0},
        ("a", "pgd"): {2: 0.85, 8: 0.6}, ("b", "pgd"): {2: 0.71, 8: 0.57},
    }  # fmt: skip
    rows = [
        line
        for (model, attack), scores in levels.items()
        for line in _curve(row, attack, scores, model=f"{model}@jsrt#0")
    ]
    tables = summed_up(frame(rows))
    assert any("ahead" in sign for sign in _signs(tables)) == bool(marked)
    ours = tables.cases[tables.cases["model"] == "a@jsrt#0"]
    assert {*ours.loc[ours["marks"].str.contains("stuck"), "attack"]} >= marked
    assert marked or not ours["marks"].str.contains("stuck").any()


def test_an_attack_that_met_few_cases_takes_no_sign_from_another(row, frame):
    """Where a network is ahead under neither of two attacks, they say nothing of each other."""
    rows = _of_two(row, {"pgd": 0.65, "fgsm": 0.65}, {"pgd": 0.10, "fgsm": 0.60})
    for one in rows:
        if one["case_id"] == "a":
            one["jaccard"] = 0.2
    few = [
        one | {"attack": "ifgsm", "jaccard": 0.2}
        for one in rows
        if one["case_id"] == "a" and one["attack"] == "pgd"
    ]
    (before,), (after,) = (
        [sign for sign in _signs(summed_up(frame(some))) if "ahead" in sign]
        for some in (rows, rows + few)
    )
    assert before == after


def test_attacks_on_a_part_of_the_image_are_judged_apart(row, frame):
    inside = {"attack_params": '{"where": "inside"}'}
    rows = _curve(row, "pgd", {4: 0.2, 8: 0.1})
    rows += _curve(row, "pgd:where=inside", {4: 0.7, 8: 0.72}, **inside)
    rows += _curve(row, "sea:where=inside", {4: 0.7, 8: 0.4}, **inside)
    tables = summed_up(frame(rows))
    [sign] = _signs(tables)
    assert "under pgd:where=inside: it leaves 0.020 more at 8/255" in sign
    assert "at 8/255 others leave 0.320 less" in sign  # than sea, and not than pgd's 0.62
    assert unsettled_budgets(tables.cases) == {}  # sea settles it
    alone = summed_up(frame(rows[: -2 * 3])).cases
    assert unsettled_budgets(alone) == {("unet@jsrt#0", "linf", "inside"): {8 / 255}}


def test_of_some_networks_is_said_what_shows_beside_all(row, frame):
    scores = {"a": (0.9, 0.5), "b": (0.88, 0.6), "c": (0.1, 0.45)}
    rows = [
        made
        for model, (standard, pgd) in scores.items()
        for made in _curve(row, "standard", {8: standard}, model=model)
        + _curve(row, "pgd", {8: pgd}, model=model)
    ]
    whole, alone = (summed_up(frame(rows), only=only) for only in (None, ("a", "c")))
    assert set(alone.cases["model"]) == set(alone.curves["model"]) == {"a", "c"}
    marks = [
        {(m, a): x for m, a, x in t.summary[["model", "attack", "marks"]].to_numpy().tolist()}
        for t in (whole, alone)
    ]
    assert all(marks[0][key] == mark for key, mark in marks[1].items())
    assert not marks[1]["a", "standard"]  # ahead of c alone it would be marked
    beside_c = summed_up(frame([one for one in rows if one["model"] != "b"]))
    assert _marked(beside_c) == {"standard"}
    of_curves = [w for w in whole.warnings if w.startswith(("a ", "c "))]
    assert [w for w in alone.warnings if " under " in w and "jsrt test:" not in w] == of_curves


def test_what_was_gained_and_what_is_left_are_of_the_same_cases(row, frame):
    """Of a case that was not there in the last half nobody knows what it would have gained."""
    rows = _curve(row, "pgd", {8: 0.6}, late_gain=float("nan"))
    rows[0] |= {"jaccard": 0.02, "late_gain": 0.0}
    assert _marked(summed_up(frame(rows))) == set()
    rows[0] |= {"jaccard": 0.3}
    tables = summed_up(frame(rows))
    assert _marked(tables) == {"pgd"}
    assert "the last half of its steps gained 0.0000, and 0.300 was left" in _signs(tables)[0]


MORE, THOROUGH = "give it more", "give it `cost=thorough`"
DIAGNOSE = "see `segbench diagnose` for a reason"
IDLE = "the last half of its steps gained 0.0000, and 0.600 was left"


@pytest.mark.parametrize(
    ("attack", "params", "given", "said"),
    [
        ("pgd", {"steps": 40, "restarts": 1}, {}, f"{MORE} steps or restarts, or `-a standard`"),
        ("apgd", {"steps": 9, "restarts": 2, "where": "inside"}, {"budget_kind": "l2"},
         f"{MORE} steps or restarts, or `-a standard:norm=l2,where=inside`"),
        ("apgd:norm=l1", {"steps": 9}, {"budget_kind": "l1"}, f"{MORE} steps"),
        ("fgsm", {"labels": "truth"}, {}, "`-a standard`"),
        ("ifgsm", {"preset": "paper", "steps": None}, {}, "`-a standard`"),
        ("rse@1", {"steps": 3000, "version": 1}, {}, f"{MORE} steps, or `-a standard`"),
        ("standard@5", {"cost": "standard"}, {}, f"{THOROUGH}, or `--until-settled`"),
        ("standard@5", {"cost": "quick", "target": "empty"}, {}, THOROUGH),
        ("standard@5:cost=thorough", {"cost": "thorough"}, {}, DIAGNOSE),
    ],
)  # fmt: skip
def test_what_to_do_about_a_rise_is_what_this_attack_takes(attack, params, given, said, row, frame):
    rows = _curve(row, attack, {4: 0.3, 8: 0.34}, attack_params=json.dumps(params), **given)
    (sign,) = [note for note in summed_up(frame(rows)).notes if "which is no wider" in note]
    assert sign.partition("wider: ")[2] == f"{said}."


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"zero_gradients": 0.4}, "40% of its steps met a gradient that is zero everywhere: "
         f"{DIAGNOSE}, or try a search without gradients, `-a square`."),
        ({"member": "search"}, "a search without gradients found the worst image of 100% of its "
         f"cases, so gradients lead astray there: {DIAGNOSE}, or try a longer search, "
         "`-a square`."),
        ({"late_gain": 0.0}, f"{IDLE}: `-a standard`."),
        ({"late_gain": 0.0, "attack_params": '{"loss": "ce"}'},
         f"{IDLE}: give it another loss, or `-a standard`."),
    ],
)  # fmt: skip
def test_what_to_do_is_the_signs_own(given, said, row, frame):
    (sign,) = _signs(summed_up(frame(_curve(row, "pgd", {8: 0.6}, **given))))
    assert sign == f"unet@jsrt#0 on jsrt test under pgd: at 8/255 {said}"


def test_no_kind_of_sign_is_hidden_by_another(row, frame):
    """Of each kind one is told, the worst, and at how many budgets more it shows."""
    rows = _of_two(row, {"pgd": 0.65, "fgsm": 0.65, "apgd": 0.68}, {"pgd": 0.10, "fgsm": 0.60})
    theirs = {"member": "search", "late_gain": 0.0, "zero_gradients": 0.4}
    for one in rows:
        if (one["model"], one["attack"]) == ("a@jsrt#0", "pgd"):
            one |= theirs
    mine = {"model": "a@jsrt#0", "weights_sha256": "a" * 64, "network_sha256": "a" * 64}
    rows += _curve(row, "pgd", {1: 0.6, 2: 0.64, 4: 0.62}, late_gain=0.2, **mine)
    rows += _curve(row, "cospgd", {1: 0.5, 2: 0.1}, **mine)
    (sign,) = [sign for sign in _signs(summed_up(frame(rows))) if "a@jsrt#0 on" in sign and
               "under pgd" in sign]  # fmt: skip
    kinds = [
        "it leaves 0.050 more at 8/255 than at 1/255, which is no wider (and so at 2 more budgets)",
        "at 8/255 others leave 0.550 less (and so at 3 more budgets)",
        "at 8/255 40% of its steps met a gradient that is zero everywhere",
        "at 8/255 a search without gradients found the worst image of 100% of its cases",
        "at 8/255 the last half of its steps gained 0.0000, and 0.650 was left",
        "at 8/255 its network is ahead of every other by 0.550, under fgsm, which leaves no more "
        "of it, by 0.050 only: the other attacks are right.",
    ]  # fmt: skip
    places = [sign.index(kind) for kind in kinds]
    assert places == sorted(places)


def _attacks():
    return [load_attack(name) for name in registry.names("attacks") if name not in NEEDS_MORE]


NEEDS_MORE = {"transfer", "worst"}  # a source, an attack


@pytest.mark.parametrize("named", _attacks(), ids=lambda named: named.label)
@pytest.mark.parametrize("kind", get_args(Kind))
def test_advice_can_be_followed(kind, named):
    """Of every attack here: what it is to be given it takes, and what else to run loads."""
    norm = named.attack.budget_kind
    said = advise(kind, named.label, named.parameters_text, norm)
    assert said
    for other in re.findall(r"`-a ([^`]+)`", said):
        assert load_attack(other).attack.budget_kind == norm
    more = re.search(r"more ([a-z ]+)", said)
    for effort in more[1].strip().split(" or ") if more else ():
        larger = named.parameters[effort] + 1
        load_attack(f"{named.plugin.name}:{effort}={larger}")
    for given in re.findall(r"it `([^`]+)`", said):
        load_attack(f"{named.plugin.name}:{given}")
