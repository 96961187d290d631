"""A label without foreground has no overlap: it is counted in no number, and that is said."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from segbench.errors import UserError
from segbench.tables.build import build_tables
from segbench.tables.golden import golden_table, read_golden, write_golden
from segbench.tables.golden_cases import case_file, read_cases, scores_by_case, write_cases
from segbench_reports import page

NAN = float("nan")
CLEAN = {"attack": "clean", "attack_params": "{}", "budget_kind": "none", "budget": 0.0}


@pytest.fixture
def made(row: Any, frame: Any) -> Any:
    """Tables of two networks; of ``scored`` cases with foreground and of ``empty`` without."""

    def make(scored: int, empty: int, **given: Any) -> Any:
        rows = []
        for place, model in enumerate("ab"):
            facts = {"model": f"{model}@jsrt#0", "weights_sha256": f"{place:02x}" * 32, **given}
            for n in range(scored + empty):
                case = {"case_id": f"c{n:02d}", "group_id": f"g{n:02d}", "accuracy": 0.8}
                has = {"jaccard": 0.5, "dice": 0.6} if n < scored else {"jaccard": NAN, "dice": NAN}
                rows.append(row(**facts, **case, **has, **CLEAN))
                met = ("pgd", "sea")[: 2 - place]
                rows += [row(attack=attack, **facts, **case, **has) for attack in met]
        return build_tables(frame(rows))

    return make


def test_a_comparison_says_the_number_of_cases_that_it_is_over(made: Any) -> None:
    tables = made(10, 1)
    assert set(tables.compared["cases"]) == {10}
    (said,) = [one for one in tables.warnings if "networks are compared by" in one]
    assert "on the 10 cases that all have" in said
    (worst,) = [one for one in tables.notes if "worst of 2 attacks" in one]
    assert "over the 10 cases" in worst
    assert any("1 of 11 cases has no foreground in the label" in note for note in tables.notes)
    assert not any("foreground" in note for note in made(3, 0).notes)


def test_where_no_case_has_foreground_everything_says_so(made: Any, tmp_path: Path) -> None:
    tables = made(0, 1)
    (warning,) = [one for one in tables.warnings if "foreground" in one]
    assert warning.startswith("jsrt test: no case has foreground in its label")
    text = page.render(tables)
    assert "No case here has a score" in text
    assert warning in text
    with pytest.raises(UserError, match="attack a data set that has some"):
        write_golden(tmp_path / "golden.csv", golden_table(tables))


def test_a_golden_file_is_of_the_points_that_have_a_score(
    row: Any, frame: Any, tmp_path: Path
) -> None:
    path = tmp_path / "golden.csv"
    none = row(dataset="skin", dataset_fingerprint="ef" * 32, jaccard=NAN, dice=NAN)
    tables = build_tables(frame([row(), none]), depth="summary")
    golden = golden_table(tables)
    write_golden(path, golden)
    write_cases(case_file(path), scores_by_case(tables))
    assert set(read_golden(path)["dataset"]) == {"jsrt"}
    assert {key[1] for key in read_cases(case_file(path)) or {}} == {"jsrt"}
