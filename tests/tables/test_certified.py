"""Certified rows in tables: they stand beside attacks, and change nothing that is said of these."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pandas as pd
import pytest

from segbench.api import Tables
from segbench.metrics.certificates import radius
from segbench.store.diagnoses import Check, Diagnosis
from segbench.tables.build import build_tables
from segbench.tables.diagnoses import MARK

Rows = list[dict[str, Any]]
SETTINGS = {"sigma": 0.25, "n": 100, "n0": 10, "alpha": 0.001, "correction": "holm",
            "hierarchy": ""}  # fmt: skip


@pytest.fixture
def proved(grid_rows: Callable[..., Rows]) -> Callable[..., Rows]:
    """Certified rows at some tau for every case of two networks; their scores are all the same."""

    def make(tau: float, jaccard: float, **settings: Any) -> Rows:
        given = {
            "attack": "smoothing:sigma=0.25",
            "attack_params": json.dumps({**SETTINGS, **settings}, sort_keys=True),
            "budget_kind": "certified",
            "budget": radius(0.25, tau),
            "jaccard": jaccard,
            "smoothed_jaccard": 0.9,
            "abstained": 0.1,
            "abstained_inside": 0.2,
            "coarse": 0.0,
            "linf": float("nan"),
            "l2": float("nan"),
        }
        return grid_rows(attacks=(), **given)

    return make


@pytest.fixture
def attacked(grid_rows: Callable[..., Rows]) -> Rows:
    """Clean rows, and two attacks at two L2 budgets, one within the radius of tau 0.75."""
    rows = grid_rows(budgets=(0.1, 0.4), budget_kind="l2")
    return [r | {"budget_kind": "none" if r["attack"] == "clean" else "l2"} for r in rows]


def test_nothing_that_is_said_of_attacks_changes(
    attacked: Rows, proved: Callable[..., Rows], frame: Callable[..., pd.DataFrame]
) -> None:
    alone = build_tables(frame(attacked))
    both = build_tables(frame([*attacked, *proved(0.75, 0.01), *proved(0.9, 0.0)]))
    for name in ("headlines", "ranks", "comparisons", "optimality", "costs", "structures",
                 "spread", "distances", "winners"):  # fmt: skip
        pd.testing.assert_frame_equal(getattr(both, name), getattr(alone, name))
    assert both.attacks == alone.attacks
    others = both.curves[both.curves["budget_kind"] != "certified"].reset_index(drop=True)
    kept = [name for name in others if name in alone.curves]
    pd.testing.assert_frame_equal(others[kept], alone.curves)
    assert [w for w in both.warnings if "under" in w] == [w for w in alone.warnings if "under" in w]
    assert alone.certificates.empty
    assert not any("certified" in note for note in alone.notes)


def test_a_line_says_what_is_proved_and_what_attacks_within_the_radius_left(
    attacked: Rows, proved: Callable[..., Rows], frame: Callable[..., pd.DataFrame]
) -> None:
    confined = [
        r | {"attack": "pgd:where=inside", "attack_params": '{"where": "inside"}', "jaccard": 0.0}
        for r in attacked
        if r["attack"] == "pgd" and r["budget"] == 0.1
    ]
    rounded = [
        r | {"attack": "pgd:quantized=true", "attack_params": '{"quantized": true}', "jaccard": 0.0,
             "l2": 0.9}  # on levels that lie outside the ball
        for r in attacked
        if r["attack"] == "pgd" and r["budget"] == 0.1
    ]  # fmt: skip
    tables = build_tables(
        frame([*attacked, *confined, *rounded, *proved(0.75, 0.25)]), depth="summary"
    )
    lines = tables.certificates[tables.certificates["class_name"] == "all"]
    assert lines["jaccard"].tolist() == [0.25, 0.25]
    assert lines["smoothed_jaccard"].tolist() == pytest.approx([0.9, 0.9])
    assert lines["tau"].tolist() == [0.75, 0.75]
    near = [r["jaccard"] for r in attacked if r["attack"] == "pgd" and r["budget"] == 0.1]
    half = len(near) // 2
    means = [sum(part) / half for part in (near[:half], near[half:])]
    assert lines["attacked"].tolist() == pytest.approx(means)
    curve = tables.curves[tables.curves["budget_kind"] == "certified"]
    assert (curve["budget"] > 0).all()  # no clean point of the network that is smoothed
    summary = tables.summary[tables.summary["budget_kind"] == "certified"]
    assert summary[["auc", "relative_drop", "half_eps"]].isna().all(axis=None)


def test_of_a_network_that_is_certified_alone_the_clean_score_stays(
    grid_rows: Callable[..., Rows],
    proved: Callable[..., Rows],
    frame: Callable[..., pd.DataFrame],
) -> None:
    tables: Tables = build_tables(
        frame([*grid_rows(attacks=()), *proved(0.75, 0.5)]), depth="summary"
    )
    assert sorted(tables.summary["attack"].unique()) == ["clean", "smoothing:sigma=0.25"]
    assert tables.certificates["attacked"].isna().all()


def test_a_network_that_hides_its_gradient_is_certified_all_the_same(
    attacked: Rows, proved: Callable[..., Rows], frame: Callable[..., pd.DataFrame]
) -> None:
    first = attacked[0]
    check = Check(name="zeros", verdict="fail", number=1.0, threshold=0.1, meaning="it hides")
    failed = Diagnosis(
        model=first["model"], network_sha256=first["network_sha256"],
        weights_sha256=first["weights_sha256"], dataset=first["dataset"],
        dataset_fingerprint=first["dataset_fingerprint"], split="test", cases=8, eps="4/255",
        precision="fp32", device="cpu", versions={}, verdict="fail", checks=(check,),
    )  # fmt: skip
    tables = build_tables(
        frame([*attacked, *proved(0.75, 0.5)]), diagnoses=[failed], depth="summary"
    )
    marked = tables.curves[tables.curves["marks"].str.contains(MARK)]
    assert set(marked["budget_kind"]) == {"l2"}


def test_seeds_are_averaged_per_case_first_and_each_of_them_is_a_certificate(
    attacked: Rows, proved: Callable[..., Rows], frame: Callable[..., pd.DataFrame]
) -> None:
    first = proved(0.75, 0.5)
    case = first[0]["case_id"]
    again = [r | {"seed": 1} for r in proved(0.75, 0.1) if r["case_id"] == case]
    tables = build_tables(frame([*attacked, *first, *again]), depth="summary")
    cases = len({r["case_id"] for r in first})
    expected = (0.5 * (cases - 1) + 0.3) / cases
    for _, lines in tables.certificates.groupby(tables.certificates["class_name"] == "all"):
        assert lines["cases"].tolist() == [cases] * len(lines)
        assert lines["jaccard"].tolist() == pytest.approx([expected] * len(lines))
    assert set(tables.certificates["seeds"].dropna()) == {2}
    said = " ".join(tables.notes)
    assert "holds with the sum of their alphas (here of up to 2 seeds)" in said
    assert "here of up to 2 certificates" in said


def test_several_certificates_of_a_network_are_said_to_share_no_alpha(
    attacked: Rows, proved: Callable[..., Rows], frame: Callable[..., pd.DataFrame]
) -> None:
    rows = [*attacked, *proved(0.75, 0.5), *proved(0.75, 0.5, n=200)]
    tables = build_tables(frame(rows), depth="summary")
    (note,) = [note for note in tables.notes if "the sum of their alphas" in note]
    assert "up to 2 certificates" in note
    names = set(tables.certificates["certificate"])
    assert names == {"smoothing:n=100,sigma=0.25", "smoothing:n=200,sigma=0.25"}


def test_how_gradients_were_come_by_is_said_of_attacks_that_took_some_alone(
    attacked: Rows, proved: Callable[..., Rows], frame: Callable[..., pd.DataFrame]
) -> None:
    """Every row of a network bears the mark, those for which nobody took a gradient too."""
    marked = [r | {"marks": "bpda eot:4"} for r in [*attacked, *proved(0.75, 0.5)]]
    spent = [r | {"backwards": 40 * (r["attack"] == "pgd")} for r in marked]
    for rows, under in (
        (spent, {"pgd"}),
        ([r for r in spent if not r["backwards"]], set()),
    ):
        notes = [
            note
            for note in build_tables(frame(rows), depth="summary").notes
            if "was attacked through" in note
        ]
        assert {note.partition(" on ")[0].partition(" under ")[2] for note in notes} == under
        assert all("by gradients averaged over 4 draws" in note for note in notes)
