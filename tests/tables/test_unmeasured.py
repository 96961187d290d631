"""What was measured on request for some images of a point only has no mean there, and is named."""

from __future__ import annotations

import math
from typing import Any

import pytest

from segbench.tables.build import build_tables
from segbench_reports import markdown

NAN = float("nan")
BOUNDARY = {"nsd": 0.5, "hd95": 4.0, "nsd_tolerance": 1.0}
LESIONS = {"lesions": 2.0, "lesions_found": 1.0, "lesions_false": 0.0, "lesion_overlap": 0.1}
MEASURED = {"--boundary": (BOUNDARY, "nsd"), "--lesions": (LESIONS, "lesion_f1")}


def clean(row: Any, case: str, jaccard: float = 0.9, **given: Any) -> Any:
    facts = {"attack": "clean", "attack_params": "{}", "budget_kind": "none", "budget": 0.0}
    return row(case_id=case, group_id=case, jaccard=jaccard, **facts, **given)


def attacked(row: Any, case: str, attack: str, jaccard: float, **given: Any) -> Any:
    return row(case_id=case, group_id=case, attack=attack, jaccard=jaccard, **given)


def points(tables: Any, metric: str) -> dict[tuple[str, str], int]:
    """Curve and eps -> cases."""
    own = tables.curves[tables.curves["metric"] == metric]
    return {(line["attack"], line["eps"]): line["cases"] for line in own.to_dict("records")}


@pytest.mark.parametrize("option", MEASURED)
def test_a_worst_over_attacks_of_which_one_was_measured_has_no_mean(
    row: Any, frame: Any, option: str
) -> None:
    measured, metric = MEASURED[option]
    rows = [clean(row, case, **measured) for case in "abcd"]
    rows += [attacked(row, case, "ifgsm", 0.3, **measured) for case in "abcd"]
    lowest = {"a": 0.1, "b": 0.5, "c": 0.5, "d": 0.5}  # of pgd, which none of it was asked of
    rows += [attacked(row, case, "pgd", jaccard) for case, jaccard in lowest.items()]
    tables = build_tables(frame(rows), depth="summary")
    assert points(tables, metric) == {
        ("ifgsm", "0"): 4, ("ifgsm", "8/255"): 4, ("pgd", "0"): 4, ("worst of 2 attacks", "0"): 4,
    }  # fmt: skip
    assert points(tables, "jaccard")["worst of 2 attacks", "8/255"] == 4
    (warning,) = [said for said in tables.warnings if option in said]
    assert "unet@jsrt#0 under worst of 2 attacks at 8/255" in warning
    assert warning.endswith("to measure the others (unet@jsrt#0 under pgd).")
    for one in rows:
        one.update(measured)
    tables = build_tables(frame(rows), depth="summary")
    assert points(tables, metric)["worst of 2 attacks", "8/255"] == 4
    assert not [said for said in tables.warnings if option in said]


def test_a_minimum_norm_attack_is_no_mean_of_those_that_did_not_fall(row: Any, frame: Any) -> None:
    rows = [clean(row, case, **BOUNDARY) for case in "ab"]
    for case, distance in (("a", 3 / 255), ("b", 9 / 255)):
        facts = {"attack_params": '{"below": 0.5, "norm": "linf"}', "budget_kind": "min-norm"}
        rows.append(attacked(row, case, "dag", 0.4, budget=0.5, linf=distance, **facts))
        budgets = (2 / 255, 4 / 255)
        rows += [attacked(row, case, "pgd", 0.6, budget=at, **BOUNDARY) for at in budgets]
    tables = build_tables(frame(rows), depth="summary")
    found = points(tables, "nsd")
    assert found["dag", "2/255"] == 2  # nobody has fallen: all images are clean ones
    assert ("dag", "4/255") not in found
    (warning,) = [said for said in tables.warnings if "--boundary" in said]
    assert "under dag at 4/255" in warning


def test_a_case_of_two_seeds_of_which_one_was_measured_is_lacking(row: Any, frame: Any) -> None:
    rows = [clean(row, case, **BOUNDARY) for case in "ab"]
    rows += [attacked(row, case, "pgd", 0.3, seed=0, **BOUNDARY) for case in "ab"]
    rows += [attacked(row, "b", "pgd", 0.3, seed=1)]
    assert ("pgd", "8/255") not in points(build_tables(frame(rows), depth="summary"), "nsd")


def test_a_label_without_foreground_lacks_nothing(row: Any, frame: Any) -> None:
    empty = {"jaccard": NAN, "nsd": NAN, "hd95": NAN, "nsd_tolerance": 1.0}
    rows = [clean(row, "a", **BOUNDARY), clean(row, "b", **empty)]
    tables = build_tables(frame(rows))
    assert points(tables, "nsd") == {("clean", "0"): 1}
    assert not [said for said in tables.warnings if "--boundary" in said]


def test_networks_are_ranked_by_nsd_only_where_all_images_have_it(row: Any, frame: Any) -> None:
    rows = []
    for n, model in enumerate("ab"):
        facts = {"model": f"{model}@jsrt#0", "weights_sha256": f"{n:02x}" * 32}
        facts |= {**BOUNDARY, "nsd": 0.3 + n / 10}
        for case in "abc":
            rows.append(clean(row, case, 0.9, **facts))
            rows.append(attacked(row, case, "pgd", 0.3 + n / 10, **facts))
    known = build_tables(frame(rows), depth="curves").ranks.set_index("of").loc["linf", "tau_nsd"]
    assert known.tolist() == pytest.approx([1, 1])
    rows[1].update(nsd=math.nan, hd95=math.nan)
    assert (
        build_tables(frame(rows), depth="curves")
        .ranks.set_index("of")
        .loc["linf", "tau_nsd"]
        .isna()
        .all()
    )


def test_counts_of_a_line_are_those_of_each_metric(row: Any, frame: Any) -> None:
    none = {"lesions": 0.0, "lesions_found": 0.0, "lesions_false": 1.0, "lesion_overlap": 0.1}
    rows = [clean(row, "a", **LESIONS), clean(row, "b", jaccard=NAN, **none)]
    text = markdown.render(build_tables(frame(rows)))
    assert "Sensitivity 1 / 1, False a case 2 / 2, F1 1 / 1" in text
