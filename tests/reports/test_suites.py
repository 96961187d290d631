"""Tables that all formats share: a line is of one data set, split, network, norm and attack."""

from __future__ import annotations

from typing import Any

import pytest

from segbench.tables.build import build_tables
from segbench_reports.requested import requested
from segbench_reports.suites import Comparison, attacks_compared

WHOSE = ("Data set", "Split", "Model", "Norm")
DATA = {"dataset": "skin", "dataset_fingerprint": "ef" * 32}
L2 = {"attack": "standard:norm=l2", "attack_params": '{"norm": "l2"}', "budget_kind": "l2"}
LINF = {"attack": "standard:norm=linf", "attack_params": '{"norm": "linf"}', "budget_kind": "linf"}


@pytest.fixture
def tables(row: Any, frame: Any) -> Any:
    """A suite and an attack of one name on two data sets, two splits, and in two norms."""
    rows = []
    measured = {"nsd": 0.5, "hd95": 4.0, "nsd_tolerance": 1.0}
    clean = {"attack": "clean", "attack_params": "{}", "budget_kind": "none", "budget": 0.0}
    where: list[dict[str, Any]] = [{}, {"split": "val"}, DATA]
    for place, data in enumerate(where):
        for n in range(2 + place):
            case = {"case_id": f"c{n}", "group_id": f"g{n}", **measured, **data}
            rows.append(row(jaccard=0.9, **clean, **case))
            for norm in (LINF, L2):
                won = {"member": ("reach", "lovasz", "sea")[place]}
                rows.append(row(budget=1.0, jaccard=0.5, **won, **norm, **case))
                pgd = {**norm, "attack": norm["attack"].replace("standard", "pgd")}
                rows.append(row(budget=1.0, jaccard=0.6, **pgd, **case))
    return build_tables(frame(rows))


def lines_of(table: Comparison) -> list[dict[str, str]]:
    return [dict(zip(table.heads, line, strict=True)) for line in table.lines]


def test_no_line_is_of_two_data_sets_splits_or_norms(tables: Any) -> None:
    found = [*attacks_compared(tables), *requested(tables)]
    assert {table.title for table in found} == {
        "Optimality of attacks", "Which member of a suite won", "Boundaries",
    }  # fmt: skip
    for table in found:
        assert tuple(table.heads[: len(WHOSE)]) == WHOSE
        lines = lines_of(table)
        keys = [tuple(line.get(head) for head in (*WHOSE, "Attack", "Eps")) for line in lines]
        assert len(set(keys)) == len(keys)


def test_shares_of_a_suite_are_of_one_data_set_and_norm(tables: Any) -> None:
    (table,) = (one for one in attacks_compared(tables) if one.title.startswith("Which member"))
    cases = {("jsrt", "test"): ("reach", "2"), ("jsrt", "val"): ("lovasz", "3"),
             ("skin", "test"): ("sea", "4")}  # fmt: skip
    lines = lines_of(table)
    assert len(lines) == 2 * len(cases)
    for line in lines:
        member, count = cases[line["Data set"], line["Split"]]
        assert (line[member], line["Cases"]) == ("1.00", count)
        others = {"reach", "lovasz", "sea"} - {member}
        assert {line[name] for name in others} == {"-"}
    assert {line["Norm"] for line in lines} == {"L∞", "L2"}


def test_an_attack_left_out_stands_beside_those_compared_with_why(row: Any, frame: Any) -> None:
    clean = {"attack": "clean", "attack_params": "{}", "budget_kind": "none", "budget": 0.0}
    rows = [row(jaccard=0.9, **clean), row(jaccard=0.5), row(jaccard=0.6, attack="apgd")]
    rows.append(row(jaccard=0.8, attack="fgsm", budget=2 / 255))
    (table,) = attacks_compared(build_tables(frame(rows)))
    lines = {line["Attack"]: line for line in lines_of(table)}
    assert {name: line["Optimality"] for name, line in lines.items()} == {
        "pgd": "1.000", "apgd": "0.750", "fgsm": "-",
    }  # fmt: skip
    assert lines["fgsm"]["Of eps"] == "2/255"
    assert lines["fgsm"]["Left out"] == "it shares no eps with the others"
    assert lines["pgd"]["Left out"] == ""
