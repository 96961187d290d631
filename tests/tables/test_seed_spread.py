"""Several trainings of one network: mean and spread over seeds, and only over seeds."""

from __future__ import annotations

import json
import math

import pandas as pd
import pytest

from segbench.tables.build import build_tables
from segbench.tables.shown import Shown
from segbench.tables.trainings import networks_of_seeds

NAME = "unet-width=4@jsrt"


def test_only_checkpoints_that_differ_in_their_seed_alone_belong_together():
    models = [
        "unet@jsrt#0", "unet@jsrt#11", "unet@isic2016#0", "nlcen@jsrt#0", "net.py:build", "a#1",
        "unet@jsrt#0 (0123abcd)",
    ]  # fmt: skip
    assert networks_of_seeds(models, {}) == {
        "unet@jsrt#0": ("unet@jsrt", 0),
        "unet@jsrt#11": ("unet@jsrt", 11),
    }


def test_trainings_with_other_settings_or_data_stand_apart_and_a_note_says_so(row, frame):
    models = [f"{NAME}#{seed}" for seed in range(4)]
    settings = dict(zip(models, ["aa" * 32, "aa" * 32, "bb" * 32, "bb" * 32], strict=True))
    assert networks_of_seeds(models, settings) == {
        models[0]: (f"{NAME} (aaaaaaaa)", 0),
        models[1]: (f"{NAME} (aaaaaaaa)", 1),
        models[2]: (f"{NAME} (bbbbbbbb)", 2),
        models[3]: (f"{NAME} (bbbbbbbb)", 3),
    }
    assert set(networks_of_seeds(models[:3], settings)) == {models[0], models[1]}
    rows = frame([row(model=m, weights_sha256=f"{n:02x}" * 32) for n, m in enumerate(models[:3])])
    tables = build_tables(rows, shown=Shown(rows, settings=settings), depth="curves")
    assert tables.seeds["seeds"].unique().tolist() == [2]
    (note,) = [note for note in tables.notes if "not all of one kind" in note]
    assert f"{models[0]}, {models[1]} / {models[2]}" in note


def test_mean_deviation_and_range_are_those_of_the_seeds_means(row, frame):
    means = {0: (0.2, 0.4), 1: (0.5, 0.7), 2: (0.3, 0.3)}  # two cases each: 0.3, 0.6, 0.3
    rows = [
        row(model=f"{NAME}#{seed}", weights_sha256=f"{seed:02x}" * 32, case_id=f"c{n}",
            group_id=f"c{n}", jaccard=value)
        for seed, values in means.items()
        for n, value in enumerate(values)
    ]  # fmt: skip
    rows += [row(model="nlcen@jsrt#0", weights_sha256="ff" * 32, jaccard=0.9)]
    seeds = build_tables(frame(rows), depth="curves").seeds
    line = seeds[seeds["metric"] == "jaccard"]
    assert line["model"].tolist() == [NAME]
    found = line.iloc[0]
    assert (found["mean"], found["min"], found["max"]) == pytest.approx((0.4, 0.3, 0.6))
    assert found["std"] == pytest.approx(math.sqrt((2 * 0.1**2 + 0.2**2) / 2))
    assert (found["seeds"], found["cases"], found["eps"]) == (3, 2, "8/255")


def test_a_point_that_one_seed_alone_has_is_no_spread(row, frame):
    rows = [
        row(model=f"{NAME}#{seed}", weights_sha256=f"{seed:02x}" * 32, budget=budget)
        for seed, budget in ((0, 2 / 255), (0, 8 / 255), (1, 8 / 255))
    ]
    assert set(build_tables(frame(rows), depth="curves").seeds["eps"]) == {"8/255"}


def _unlike(make, *, also=()):
    """Seed 0 on eight cases, seed 1 on four of them, on which they are equal."""
    rows = []
    for seed, count in ((0, 8), (1, 4)):
        facts = {"model": f"{NAME}#{seed}", "weights_sha256": f"{seed:02x}" * 32}
        for n in range(count):
            case = {**facts, "case_id": f"c{n}", "group_id": f"c{n}"}
            clean = {"attack": "clean", "attack_params": "{}", "budget_kind": "none", "budget": 0.0}
            rows.append(make(**case, **clean, jaccard=0.9 if n < 4 else 0.5))
            rows.append(make(**case, jaccard=0.8 if n < 4 else 0.3))
    return rows + [make(**facts) for facts in also]


def test_trainings_are_averaged_over_the_cases_that_all_of_them_have(row, frame):
    alone = {"model": f"{NAME}#0", "weights_sha256": "00" * 32, "budget": 2 / 255, "case_id": "c0"}
    tables = build_tables(frame(_unlike(row, also=[alone])), depth="curves")
    seeds = tables.seeds[tables.seeds["metric"] == "jaccard"].set_index("eps")
    assert set(seeds.index) == {"0", "8/255"}
    assert seeds["mean"].tolist() == pytest.approx([0.9, 0.8])
    assert seeds["std"].tolist() == pytest.approx([0, 0])
    assert seeds[["seeds", "cases"]].to_numpy().tolist() == [[2, 4], [2, 4]]
    (said,) = [note for note in tables.warnings if "not all trainings" in note]
    assert said.endswith(
        "over them: clean (4 cases), pgd at 2/255 (1 case), pgd at 8/255 (4 cases)."
    )


def test_who_has_two_trainings_compared_hears_of_no_mean_over_them(row, frame):
    tables = build_tables(frame(_unlike(row)), only=(f"{NAME}#0", f"{NAME}#1"))
    assert not [note for note in tables.notes if "not all trainings" in note]
    assert set(tables.comparisons["cases"]) == {4}


def test_a_worst_is_averaged_over_cases_that_met_the_same_under_every_seed(row, frame):
    rows = _unlike(row)
    rows += [r | {"attack": "fgsm", "jaccard": 0.7} for r in rows
             if r["attack"] == "pgd" and (r["model"][-1], r["case_id"]) != ("1", "c0")]  # fmt: skip
    seeds = build_tables(frame(rows), depth="curves").seeds.query(
        "metric == 'jaccard' and eps == '8/255'"
    )
    worst = seeds.set_index("attack").loc["worst of 2 attacks"]
    assert worst[["mean", "std"]].tolist() == pytest.approx([0.7, 0])
    assert worst[["seeds", "cases"]].tolist() == [2, 3]  # of c0 seed 1 has met less


@pytest.mark.parametrize("where", [{}, {"where": "outside"}])
def test_what_one_training_met_elsewhere_takes_no_mean_of_the_worst_away(row, frame, where):
    def met(seed, attack, at, level, count=6):
        facts = {"model": f"{NAME}#{seed}", "weights_sha256": f"{seed:02x}" * 32}
        facts |= {"attack": attack, "budget": at / 255, "jaccard": level - 0.1 * seed}
        if attack != "clean":
            facts["attack_params"] = json.dumps({"steps": 40, **where})
        else:
            facts |= {"attack_params": "{}", "budget_kind": "none", "jaccard": 0.9}
        return [row(**facts, case_id=f"c{n}", group_id=f"c{n}") for n in range(count)]

    scores = {("clean", 0): 0.9, ("fgsm", 1): 0.6, ("apgd", 1): 0.65,
              ("fgsm", 2): 0.5, ("apgd", 2): 0.35}  # fmt: skip
    alike = [r for seed in (0, 1) for key, level in scores.items() for r in met(seed, *key, level)]

    def worst(rows):
        seeds = build_tables(frame(rows), depth="curves").seeds.query("metric == 'jaccard'")
        return seeds[seeds["attack"].str.startswith("worst")].reset_index(drop=True)

    expected = worst(alike)
    assert expected["mean"].tolist() == pytest.approx([0.9, 0.55, 0.3])
    assert expected["std"].tolist() == pytest.approx([0, 0.1 / math.sqrt(2), 0.1 / math.sqrt(2)])
    assert {label.partition(",")[0] for label in expected["attack"]} == {"worst of 2 attacks"}
    of = json.loads(expected["attack_params"][0])["attacks"]
    assert [name.partition(":")[0] for name in of] == ["apgd", "fgsm"]
    further = met(1, "pgd", 8, 0.2)
    pd.testing.assert_frame_equal(worst(alike + further), expected)
    both = further + met(0, "sea", 8, 0.1)  # neither has met what the other has
    pd.testing.assert_frame_equal(worst(alike + both), expected)
    on_some = worst(alike + met(1, "pgd", 1, 0.2, count=2))  # of these cases it has met more
    assert on_some["cases"].tolist() == [4, 4, 4]
    pd.testing.assert_frame_equal(
        on_some.drop(columns="cases"), expected.drop(columns="cases"), check_exact=False
    )


def test_seeds_that_met_the_same_leave_nothing_out(grid_rows, frame):
    tables = build_tables(
        frame(grid_rows(models=(f"{NAME}#0", f"{NAME}#1"), patients=3)), depth="curves"
    )
    assert not [note for note in tables.notes if "not all trainings" in note]
    every = tables.curves.groupby(["attack", "eps", "metric"])["mean"].mean()
    found = tables.seeds.set_index(["attack", "eps", "metric"])["mean"]
    assert found.to_dict() == pytest.approx(every.to_dict())


def test_one_training_each_gives_no_rows(grid_rows, frame):
    assert build_tables(frame(grid_rows(patients=3)), depth="curves").seeds.empty
