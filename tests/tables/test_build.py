"""Tables: the order of averaging, the clean point, drops, areas, current weights and the notes."""

from __future__ import annotations

import math
from itertools import cycle
from typing import Any

import numpy as np
import pandas as pd
import pytest

from segbench.errors import UserError
from segbench.metrics import stats
from segbench.metrics.stats import mean_interval
from segbench.plugins.naming import attack_names, attack_spec, eps_names, point_names
from segbench.store import rows as rows_of_a_store
from segbench.store.compaction import compact_run
from segbench.store.rows import append_shard, read_rows
from segbench.store.runs import Code
from segbench.store.workspace import Workspace
from segbench.tables import comparisons
from segbench.tables.build import NOT_SUMMED_UP, SUMMED_UP_BY, build_tables
from segbench.tables.golden import golden_table
from segbench.tables.load import load_tables

NAN = math.nan


def _clean(make, **given):
    return make(attack="clean", attack_params="{}", budget_kind="none", budget=0.0, **given)


def _curve(tables, metric="jaccard", **where):
    curves = tables.curves[tables.curves["metric"] == metric]
    for column, value in where.items():
        curves = curves[curves[column] == value]
    return curves


def _noted(tables, *parts):
    return [note for note in tables.notes if all(part in note for part in parts)]


def test_a_case_is_the_mean_over_the_classes_its_label_has(row, frame):
    rows = [
        row(case_id="a", class_id=1, jaccard=0.2, specificity=0.5, false_positives=3),
        row(case_id="a", class_id=2, jaccard=0.6, specificity=1.0, false_positives=4),
        row(case_id="b", class_id=1, jaccard=0.9, specificity=0.8, group_id="q"),
        row(case_id="b", class_id=2, jaccard=NAN, specificity=0.6, group_id="q"),
    ]
    tables = build_tables(frame(rows), depth="summary")
    cases = tables.cases.set_index("case_id")
    assert cases.loc["a", "jaccard"] == pytest.approx(0.4)
    assert cases.loc["b", "jaccard"] == pytest.approx(0.9)
    assert cases.loc["b", "specificity"] == pytest.approx(0.7)
    assert cases.loc["a", "false_positives"] == 7
    # Cases count alike, however many classes they have: not (0.2 + 0.6 + 0.9) / 3.
    assert _curve(tables)["mean"].item() == pytest.approx(0.65)


def test_seeds_are_averaged_within_a_case_and_it_is_said(row, frame):
    rows = [
        row(case_id="a", seed=0, jaccard=0.2),
        row(case_id="a", seed=1, jaccard=0.4),
        row(case_id="b", seed=0, jaccard=0.9, group_id="q"),
    ]
    tables = build_tables(frame(rows), depth="summary")
    assert _curve(tables)["mean"].item() == pytest.approx((0.3 + 0.9) / 2)
    assert _curve(tables)["cases"].item() == 2
    assert tables.cases["seeds"].tolist() == [2, 1]
    assert _noted(tables, "unet@jsrt#0 under pgd", "seeds 0, 1")


def test_points_are_the_means_of_the_cases_with_their_intervals(grid_rows, frame):
    tables = build_tables(frame(grid_rows()), depth="summary")
    point = _curve(tables, model="unet@jsrt#0", attack="pgd", eps="8/255").iloc[0]
    own = tables.cases.query("model == 'unet@jsrt#0' and attack == 'pgd' and budget > 0.03")
    expected = mean_interval(own["jaccard"], own["group_id"].tolist())
    assert (point["mean"], point["low"], point["high"]) == (
        expected.mean,
        expected.low,
        expected.high,
    )
    assert (point["cases"], point["groups"]) == (24, 12)


def test_clean_is_every_attacks_point_at_zero(grid_rows, frame):
    tables = build_tables(frame(grid_rows()), depth="summary")
    assert set(tables.curves["attack"]) == {"ifgsm", "pgd", "worst of 2 attacks"}
    for model in ("nlcen@jsrt#0", "unet@jsrt#0"):
        clean = tables.cases.query("model == @model and attack == 'clean'")["jaccard"].mean()
        starts = _curve(tables, model=model, budget=0.0)
        assert len(starts) == 3
        assert starts["mean"].tolist() == pytest.approx([clean] * 3)
        assert (tables.summary.query("model == @model")["clean"] - clean).abs().max() < 1e-12


def test_the_clean_point_and_the_drop_rest_on_the_attacked_cases(row, frame):
    rows = [
        _clean(row, case_id="easy", jaccard=1.0),
        _clean(row, case_id="hard", jaccard=0.5, group_id="q"),
        row(case_id="hard", jaccard=0.4, group_id="q"),
    ]
    curve = _curve(build_tables(frame(rows), depth="summary")).set_index("budget")
    assert curve.loc[0.0, "mean"] == pytest.approx(0.5)
    assert curve["relative_drop"].iloc[-1] == pytest.approx(0.2)


def test_the_drop_leaves_out_what_has_no_clean_score_and_it_is_said(row, frame):
    rows = [
        _clean(row, case_id="a", jaccard=0.8),
        row(case_id="a", jaccard=0.6),
        row(case_id="b", jaccard=0.0, group_id="q"),
    ]
    tables = build_tables(frame(rows), depth="summary")
    assert tables.summary["relative_drop"].item() == pytest.approx(0.25)
    assert _noted(tables, "unet@jsrt#0 lacks the clean score of 1 attacked case;")


@pytest.mark.parametrize(
    ("curve", "expected"),
    [
        ({1 / 255: 0.9, 4 / 255: 0.9, 32 / 255: 0.9}, 0.9),  # a flat line: its height
        ({8 / 255: 0.1}, 0.5),  # a straight fall from 0.9: the middle
        ({0.01: 0.9, 0.04: 0.3}, (0.01 * 0.9 + 0.03 * 0.6) / 0.04),  # eps counts, not its rank
    ],
)
def test_the_area_is_that_of_the_trapezes_over_a_linear_axis(row, frame, curve, expected):
    rows = [_clean(row, jaccard=0.9), *(row(budget=b, jaccard=j) for b, j in curve.items())]
    summary = build_tables(frame(rows), depth="summary").summary
    assert summary["auc"].item() == pytest.approx(expected)
    assert summary["largest_eps"].item() == max(curve)


def test_without_clean_scores_there_is_no_area_and_no_drop(row, frame):
    tables = build_tables(frame([row(), row(budget=4 / 255)]))
    assert tables.summary[["clean", "auc", "relative_drop"]].isna().all(axis=None)
    assert _noted(tables, "lacks the clean score")


def test_clean_alone_is_a_row_of_its_own(row, frame):
    tables = build_tables(frame([_clean(row)]))
    assert tables.summary["attack"].tolist() == ["clean"]
    assert tables.summary["clean"].item() == pytest.approx(0.5)
    assert tables.attacks == {}


def test_an_attack_without_a_budget_is_the_clean_point_where_clean_is_missing(row, frame):
    rows = [row(budget=0.0, jaccard=0.9), row(budget=0.1, jaccard=0.5)]
    assert build_tables(frame(rows)).summary["auc"].item() == pytest.approx(0.7)


def test_summary_has_one_column_per_eps_in_order(grid_rows, frame):
    rows = grid_rows(budgets=(32 / 255, 0.5 / 255, 0.03, 8 / 255))
    summary = build_tables(frame(rows), depth="summary").summary
    points = point_names(summary)
    assert points == ["clean", "0.5/255", "0.03", "8/255", "32/255"]
    heights = summary[points].to_numpy()
    assert (heights[:, 1:] < heights[:, :-1]).all()
    assert summary[["model", "attack"]].values.tolist() == [
        [model, attack]
        for model in ("nlcen@jsrt#0", "unet@jsrt#0")
        for attack in ("ifgsm", "pgd", "worst of 2 attacks")
    ]


@pytest.mark.parametrize(
    ("kind", "budget", "name"),
    [
        ("linf", 0.5 / 255, "0.5/255"),
        ("linf", 8 / 255, "8/255"),
        ("linf", 0.03, "0.03"),
        ("linf", 1e-3, "0.001"),
        ("linf", 1e-6, "1e-06"),
        ("l2", 0.5, "0.5"),
        ("severity", 3.0, "severity 3"),
        ("min-norm", 0.5, "threshold 0.5"),
    ],
)
def test_eps_is_written_as_people_write_it(kind, budget, name):
    assert eps_names([(kind, budget)]) == {(kind, budget): name}


def test_two_eps_never_share_a_name():
    close = [("linf", 0.1234567), ("linf", 0.12345671), ("l2", 0.1234567)]
    names = eps_names(close)
    assert names["linf", 0.1234567] == names["l2", 0.1234567] == "0.123457"
    assert names["linf", 0.12345671] == "0.12345671"


def test_a_severity_is_never_taken_for_an_eps(row, frame):
    """They have columns, areas and a place of their own, be their values the same."""
    rows = [
        _clean(row, jaccard=0.9),
        *(row(budget_kind="l2", budget=float(n), jaccard=0.5) for n in (1, 3)),
        *(
            row(attack="corruption/blur", budget_kind="severity", budget=float(n), jaccard=0.8)
            for n in (1, 3, 5)
        ),
    ]
    tables = build_tables(frame(rows), depth="summary")
    severities = ["severity 1", "severity 3", "severity 5"]
    assert point_names(tables.summary) == ["clean", "1", "3", *severities]
    summary = tables.summary.set_index("budget_kind")
    assert summary.loc["severity", severities].tolist() == [0.8] * 3
    assert summary.loc["severity", ["1", "3"]].isna().all()
    assert summary.loc["l2", severities].isna().all()
    assert summary.loc["severity", "auc"] == pytest.approx(0.8 + 0.1 / 2 / 5)
    assert not _noted(tables, "AUCs differ")


def test_settings_of_one_attack_are_told_apart_by_what_differs(row, frame):
    settings = ['{"steps": 40, "restarts": 1}', '{"steps": 40, "restarts": 5}']
    rows = [row(attack_params=params) for params in settings]
    tables = build_tables(frame([*rows, row(attack="fgsm", attack_params="{}")]), depth="curves")
    assert dict(tables.attacks) == {
        "fgsm": {},
        "pgd:restarts=1": {"steps": 40, "restarts": 1},
        "pgd:restarts=5": {"steps": 40, "restarts": 5},
    }
    assert set(tables.rows["attack"]) == {"pgd", "fgsm"}


def test_clean_is_one_whatever_was_stored_beside_it(row, frame):
    clean = {"attack": "clean", "budget_kind": "none", "budget": 0.0, "jaccard": 0.8}
    rows = [row(**clean, attack_params=params, case_id=params) for params in ("{}", '{"a": 1}')]
    tables = build_tables(
        frame([*rows, row(case_id="{}"), row(case_id='{"a": 1}')]), depth="summary"
    )
    assert _curve(tables, eps="0")[["attack", "cases", "mean"]].values.tolist() == [["pgd", 2, 0.8]]


def test_attack_specs_are_complete_and_parse_back():
    params = '{"steps": 40, "random_start": true, "step": null, "radii": [2.0, 1.0], "norm": "l2"}'
    spec = attack_spec("pgd:steps=40", params)
    assert spec == "pgd:norm=l2,radii=2.0+1.0,random_start=true,step=none,steps=40"


@pytest.mark.parametrize(
    "names",
    [
        {"pgd:steps=40": "pgd", "fgsm:loss=ce": "fgsm"},
        {"pgd:norm=l2,steps=40": "pgd:steps=40", "pgd:norm=l2,steps=2": "pgd:steps=2"},
        # What is unset is not said ...
        {"pgd:target=none": "pgd", "pgd:target=empty": "pgd:target=empty"},
        {"pgd:steps=2,target=none": "pgd:steps=2", "pgd:steps=3,target=a": "pgd:steps=3,target=a"},
        # ... but where an older row has no such parameter at all.
        {"pgd:steps=2": "pgd", "pgd:steps=2,target=none": "pgd:target=none"},
        # A source is always said, and an attack within is named as short.
        {'transfer:attack="pgd:loss=ce,steps=40",source=a': "transfer:source=a"},
        {
            'transfer:attack="pgd:loss=ce,steps=40,target=none",source=a': (
                'transfer:attack="pgd:steps=40",source=a'
            ),
            'transfer:attack="pgd:loss=ce,steps=2,target=none",source=a': (
                'transfer:attack="pgd:steps=2",source=a'
            ),
        },
        {
            'transfer:attack="pgd:loss=ce,target=none",source=a': "transfer:attack=pgd,source=a",
            'transfer:attack="fgsm:target=none",source=b': "transfer:attack=fgsm,source=b",
        },
        # A suite's version is always said, its cost where it is not the usual one, alone or not.
        {"standard:cost=quick,version=5": "standard@5:cost=quick"},
        {"standard:cost=standard,version=5": "standard@5"},
        {
            "standard:cost=standard,version=5": "standard@5",
            "standard:cost=standard,version=1": "standard@1",
        },
        {
            "standard:cost=standard,version=5": "standard@5",
            "standard:cost=thorough,version=5": "standard@5:cost=thorough",
        },
        {"own:a=1,cost=standard": "own:a=1,cost=standard", "own:a=1": "own:a=1"},
        {"rse:steps=9,version=1": "rse@1"},
        {"mine:version=beta": "mine:version=beta"},
        {
            'transfer:attack="standard:cost=thorough,norm=linf,version=5",source=a': (
                'transfer:attack="standard@5:cost=thorough",source=a'
            ),
            'transfer:attack="pgd:loss=ce",source=a': "transfer:attack=pgd,source=a",
        },
        {"no spec: at all": "no spec: at all"},
    ],
)
def test_attacks_are_named_as_short_as_they_can_be_told_apart(names):
    assert attack_names(names) == names


def test_a_long_list_of_another_precision_is_cut(row, frame):
    attacks = [f"attack-{number}" for number in range(20)]
    rows = [row(attack=attack, precision="bf16") for attack in attacks]
    rows += [row(attack=f"search-{number}") for number in range(9)]
    (note,) = [
        n for n in build_tables(frame(rows), depth="summary").notes if "mixed precision" in n
    ]
    assert note.endswith("unet@jsrt#0 under search-2 and 6 more; bf16 for the others.")
    assert len(note) < 200


def test_cases_of_another_precision_within_one_curve_are_counted(row, frame):
    rows = [row(case_id=f"c{n}", precision="fp32" if n == 3 else "bf16") for n in range(5)]
    (note,) = [
        n for n in build_tables(frame(rows), depth="summary").notes if "mixed precision" in n
    ]
    assert note.endswith("fp32 for unet@jsrt#0 under pgd (1 of 5 cases); bf16 for the others.")


def test_a_network_that_was_trained_again_is_noted_and_left_out_of_the_gate(row, frame):
    rows = frame([row(), row(model="nlcen", weights_sha256="22" * 32)])
    current = {"unet@jsrt#0": "33" * 32, "nlcen": "22" * 32}
    assert _noted(
        build_tables(rows, current=current, depth="summary"), "unet@jsrt#0 has been trained again"
    )
    strict = build_tables(rows, current=current, strict=True, depth="summary")
    assert set(strict.summary["model"]) == {"nlcen"}
    assert _noted(strict, "unet@jsrt#0 has been trained again and has no scores since")
    with pytest.raises(UserError, match="older weights of unet@jsrt#0"):
        build_tables(frame([row()]), current=current, strict=True, depth="summary")


def test_two_networks_of_one_name_are_told_apart_be_their_weights_the_same(row, frame):
    rows = frame([row(network_sha256="11" * 32), row(network_sha256="22" * 32)])
    assert set(build_tables(rows, depth="summary").summary["model"]) == {
        "unet@jsrt#0 (11111111)",
        "unet@jsrt#0 (22222222)",
    }


def test_an_empty_store_says_what_fills_it(tmp_path):
    with pytest.raises(UserError, match=r"segbench attack --eps 0\.03"):
        load_tables(Workspace(tmp_path))


def test_different_cases_are_noted_even_if_they_are_as_many(row, frame):
    rows = [_clean(row, case_id=c) for c in "abc"]
    rows += [row(case_id="a"), row(case_id="b", budget=4 / 255)]
    assert _noted(
        build_tables(frame(rows), depth="summary"), "points rest on different cases", "on 1 case"
    )
    same = [_clean(row, case_id="a"), row(case_id="a"), row(case_id="a", budget=4 / 255)]
    assert not _noted(build_tables(frame(same), depth="summary"), "different cases")


def test_an_attack_around_a_declared_defence_is_told_apart_from_a_doubt(row, frame):
    rows = [row(marks="bpda"), row(attack="fgsm", marks="eot:8 probabilities")]
    tables = build_tables(frame(rows), depth="summary")
    assert _noted(tables, "under pgd", "attacked through the stand-ins")
    assert not _noted(tables, "under pgd", "do not trust")
    assert _noted(tables, "under fgsm", "averaged over 8 draws")
    assert _noted(tables, "under fgsm", "is marked probabilities: do not trust")


def test_marks_precisions_and_single_groups_are_noted(row, frame):
    rows = [
        _clean(row),
        row(precision="bf16", marks="random-network"),
        row(precision="fp32", attack="fgsm", marks=""),
    ]
    tables = build_tables(frame(rows), depth="summary")
    assert _noted(tables, "unet@jsrt#0 under pgd", "random-network", "do not trust")
    assert _noted(tables, "fp32 for unet@jsrt#0 under fgsm; bf16 for the others")
    assert _noted(tables, "single group")
    assert tables.summary.set_index("attack").loc["pgd", "precision"] == "bf16 + fp32"
    honest = build_tables(frame([_clean(row), row(precision="bf16")]), depth="summary")
    assert not _noted(honest, "mixed precision")  # clean scores are always fp32
    searched = row(precision="fp32", attack="square", backwards=0)
    honest = build_tables(frame([_clean(row), row(precision="bf16"), searched]), depth="summary")
    assert not _noted(honest, "mixed precision")  # and so are those of a search without gradients


def test_other_eps_values_are_noted_beside_the_areas(row, frame):
    rows = [_clean(row), row(), row(attack="fgsm", budget=0.5)]
    assert _noted(build_tables(frame(rows), depth="summary"), "AUCs")
    rows = [_clean(row), row(), row(attack="fgsm")]
    assert not _noted(build_tables(frame(rows), depth="summary"), "AUCs")


def test_kinds_of_budget_are_curves_of_their_own(row, frame):
    rows = [_clean(row), row(budget=0.03), row(budget=0.03, budget_kind="l2", jaccard=0.1)]
    summary = build_tables(frame(rows), depth="summary").summary.set_index("budget_kind")
    assert summary["0.03"].to_dict() == {"l2": 0.1, "linf": 0.5}


def test_metrics_that_were_not_asked_for_are_not_there(row, frame):
    rows = [_clean(row, hd95=4.0), row(hd95=8.0)]
    tables = build_tables(frame(rows), depth="summary")
    assert set(tables.curves["metric"]) == {
        *("jaccard", "dice", "accuracy", "sensitivity", "specificity", "hd95"),
    }
    assert _curve(tables, metric="hd95")["relative_drop"].isna().all()


def test_how_the_rows_were_stored_does_not_show(tmp_path, grid_rows):
    cells: dict[tuple[str, ...], list[Any]] = {}
    for line in grid_rows(patients=4):
        cells.setdefault((line["model"], line["attack"], line["budget"]), []).append(line)
    tables = []
    for parts in (1, 3):
        workspace = Workspace(tmp_path / str(parts))
        for number, rows in enumerate(cells.values()):
            for part in range(parts):
                append_shard(workspace, f"{number:x}", 1, {}, rows[part::parts])
        if parts == 3:
            compact_run(workspace, "run-00001", ["0", "1", "2"])
        tables.append(build_tables(read_rows(workspace), depth="summary"))
    pd.testing.assert_frame_equal(tables[0].summary, tables[1].summary)
    pd.testing.assert_frame_equal(tables[0].cases, tables[1].cases)
    assert tables[0].notes == tables[1].notes


def test_provenance_names_what_the_shown_rows_rest_on(row, frame, run_record):
    code = Code(folder="/project", commit="abc", dirty=True)
    runs = [
        run_record(number=1, versions={"torch": "2.6"}, code=(code,)),
        run_record(number=2, versions={"torch": "1.0"}),
    ]
    trace = build_tables(
        frame([row(device="cuda"), row(seed=1)]), runs=runs, depth="curves"
    ).provenance
    assert trace["versions"] == {"torch": ["2.6"]}
    assert trace["git_commits"] == ["abc (with changes)"]
    assert trace["runs"] == ["run-00001"]
    assert trace["weights"] == {"unet@jsrt#0": "ab" * 32}
    assert trace["datasets"] == {"jsrt": "cd" * 32}
    assert trace["devices"] == ["cpu", "cuda"]


def test_less_depth_is_the_same_numbers_and_computes_no_more(grid_rows, frame, monkeypatch):
    """The gate needs cases alone, a terminal no pairs of networks."""
    rows = frame(grid_rows())
    everything = build_tables(rows)
    monkeypatch.setattr(comparisons, "_chances", lambda *given: pytest.fail("permuted"))
    curves = build_tables(rows, depth="curves")
    monkeypatch.setattr(stats, "_bounds", lambda *given: pytest.fail("an interval nobody reads"))
    cases = build_tables(rows, depth="cases")
    pd.testing.assert_frame_equal(curves.curves, everything.curves)
    pd.testing.assert_frame_equal(curves.summary, everything.summary)
    assert list(curves.notes) == list(everything.notes)
    assert curves.comparisons.empty
    assert not everything.comparisons.empty
    pd.testing.assert_frame_equal(golden_table(cases), golden_table(everything))
    assert cases.curves.empty


@pytest.mark.parametrize("classes", [1, 2])
def test_a_summary_of_rows_in_its_own_order_is_that_of_any(classes, grid_rows, frame):
    """To the bit, with its notes; and nothing is computed that a terminal does not show."""
    random = np.random.default_rng(classes)
    rows = frame(
        [
            line | {"jaccard": random.random(), "class_id": label, "marks": mark}
            for seed in (0, 1, 2)
            for label in range(1, classes + 1)
            for line, mark in zip(grid_rows(seed=seed), cycle(["", "", "stuck"]), strict=False)
        ]
    )
    stored = rows.sort_values(list(rows_of_a_store._ORDER), kind="stable", ignore_index=True)
    given = rows.assign(**dict.fromkeys(NOT_SUMMED_UP, NAN))
    own = build_tables(
        given.sort_values([*SUMMED_UP_BY, "class_id"], ignore_index=True), depth="summary"
    )
    whole = build_tables(stored, depth="curves")
    pd.testing.assert_frame_equal(own.summary, whole.summary, check_exact=True)
    assert list(own.notes) == list(whole.notes)
    assert not whole.headlines.empty
    assert own.headlines.empty


def test_where_the_mean_is_half_and_the_lowest_tenth(row, frame):
    cases = [f"c{n:02d}" for n in range(11)]
    rows = [_clean(row, case_id=c, group_id=c, jaccard=0.8) for c in cases]
    rows += [
        row(case_id=c, group_id=c, budget=b / 255, jaccard=j + (n - 5) / 100)
        for b, j in ((2, 0.6), (4, 0.2))
        for n, c in enumerate(cases)
    ]
    tables = build_tables(frame(rows), depth="summary")
    line = tables.summary.iloc[0]
    assert line["half_eps"] == pytest.approx(3 / 255)
    assert line["worst_decile"] == pytest.approx((0.15 + 0.16) / 2)  # two of eleven
    assert math.isinf(build_tables(frame(rows[:22]), depth="summary").summary["half_eps"].iloc[0])


def test_what_no_group_shows_is_a_share_of_patients(row, frame):
    """Three over the number of groups, of two groups, is more patients than there are."""
    rows = [_clean(row, case_id=case, group_id=case) for case in "ab"]
    assert _noted(
        build_tables(frame(rows), depth="summary"),
        "of 2 groups, a failure of up to 78% of patients",
    )
