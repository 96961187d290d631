"""The gate: every verdict, at its edge; a golden file that means nothing is refused."""

from __future__ import annotations

import math

import pandas as pd
import pytest

from segbench.errors import MachineError, UserError
from segbench.tables.build import build_tables
from segbench.tables.golden import golden_table, read_golden, write_golden
from segbench.tables.verdicts import FAILURES, compare_golden

HEADER = "model,dataset,split,attack,budget_kind,budget,metric,value,cases\n"
LINE = "unet,jsrt,test,pgd:steps=40,linf,0.03,jaccard,0.5,12\n"


@pytest.fixture
def golden(grid_rows, frame):
    return golden_table(build_tables(frame(grid_rows()), depth="cases"))


def _verdicts(current, golden, tolerance=0.01):
    return compare_golden(current, golden, tolerance)["verdict"].tolist()


def test_the_table_holds_every_point_once_and_names_attacks_completely(golden):
    # 2 models x (clean + 2 attacks x 2 eps) x 2 metrics
    assert len(golden) == 2 * (1 + 2 * 2) * 2
    assert set(golden["attack"]) == {"clean", "ifgsm:steps=40", "pgd:steps=40"}
    assert set(golden["metric"]) == {"jaccard", "dice"}
    assert (golden["cases"] == 24).all()
    assert not golden.duplicated(golden.columns[:7].tolist()).any()


def test_golden_values_are_the_curves_means(grid_rows, frame):
    tables = build_tables(frame(grid_rows()), depth="summary")
    golden = golden_table(tables).query("metric == 'jaccard' and budget > 0")
    curves = tables.curves.query("metric == 'jaccard' and budget > 0")
    curves = curves[curves["attack"].isin(["ifgsm", "pgd"])]  # the worst of both is not gated
    assert sorted(golden["value"]) == pytest.approx(sorted(curves["mean"]), abs=1e-15)


def test_names_do_not_depend_on_what_else_is_stored(row, frame):
    alone = golden_table(build_tables(frame([row()]), depth="cases"))
    beside = golden_table(
        build_tables(frame([row(), row(attack_params='{"steps": 10}')]), depth="cases")
    )
    key = ["attack", "metric"]
    assert alone.set_index(key).index.isin(beside.set_index(key).index).all()


def test_scores_pass_against_themselves_through_the_file(golden, tmp_path):
    path = tmp_path / "golden" / "jsrt.csv"
    write_golden(path, golden)
    back = read_golden(path)
    assert set(back["acknowledged"]) == set(back["marks"]) == {""}
    back = back[[*golden]]
    pd.testing.assert_frame_equal(back, golden, check_dtype=False, check_exact=True)
    assert set(_verdicts(golden, back, tolerance=0)) == {"ok"}
    first = path.read_bytes()
    write_golden(path, back.sample(frac=1, random_state=0))
    assert path.read_bytes() == first


@pytest.mark.parametrize(
    ("value", "verdict"),
    [
        (0.90, "ok"),
        (0.89, "ok"),  # 0.89 - 0.90 < -0.01 in floating point
        (0.91, "ok"),
        (0.8899, "REGRESSION"),
        (0.9101, "better"),
        (math.nan, "REGRESSION"),
    ],
)
def test_a_verdict_at_its_edge(golden, value, verdict):
    one = golden.head(1)
    compared = compare_golden(one.assign(value=value), one.assign(value=0.90), 0.01)
    assert compared["verdict"].item() == verdict
    assert (verdict in FAILURES) == (verdict == "REGRESSION")
    if not math.isnan(value):
        assert compared["difference"].item() == pytest.approx(value - 0.90)


def test_other_cases_fail_whatever_the_score(golden):
    fewer = golden.assign(cases=golden["cases"] - 1, value=golden["value"] + 0.5)
    assert set(_verdicts(fewer, golden)) == {"CASES"}
    assert "CASES" in FAILURES


def test_missing_rows_fail_and_new_ones_do_not(golden):
    compared = compare_golden(golden.iloc[2:], golden.iloc[:-1], 0.01)
    assert compared["verdict"].tolist() == ["MISSING"] * 2 + ["ok"] * (len(golden) - 3) + ["new"]
    assert set(compared["verdict"]) & FAILURES == {"MISSING"}
    assert compared["value"].isna().tolist()[:2] == [True, True]
    assert math.isnan(compared["golden"].iloc[-1])


def test_a_changed_default_is_another_attack_and_never_compared(row, frame):
    before = golden_table(build_tables(frame([row(attack_params='{"steps": 40}')]), depth="cases"))
    after = golden_table(build_tables(frame([row(attack_params='{"steps": 10}')]), depth="cases"))
    assert _verdicts(after, before) == ["OTHER-ATTACK"] * 2 + ["new"] * 2


@pytest.mark.parametrize("tolerance", [-0.01, math.nan, math.inf])
def test_a_tolerance_that_passes_anything_or_nothing_is_refused(golden, tolerance):
    with pytest.raises(UserError, match="tolerance"):
        compare_golden(golden, golden, tolerance)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "is not a golden file"),
        ("model,dataset\na,b\n", "has no column split, attack"),
        (HEADER + LINE.replace("0.5", "half"), "is not a golden file"),
        (HEADER + LINE.replace(",12", ",12.5"), "is not a golden file"),
        (HEADER + '"', "is not a golden file"),
        (b"\xff\xfe\x00", "is not a golden file"),
        (HEADER, "holds no rows"),
        (HEADER + LINE + LINE, "twice"),
        (HEADER + LINE.rstrip() + ",known,2027-01-31\n", "is not a golden file"),
        *(
            (HEADER + LINE.replace("0.5", value), "expected a mean score between 0 and 1")
            for value in ("nan", "-inf", "inf", "-5", "-0.0001", "1.0001", "1e300")
        ),
        *(
            (HEADER + LINE.replace("0.03", budget), "expected a number of zero or more")
            for budget in ("nan", "inf", "-1")
        ),
        *((HEADER + LINE.replace(",12", f",{n}"), "expected one or more") for n in ("0", "-3")),
        (HEADER + LINE.replace(",12", "," + 30 * "9"), "is not a golden file"),
    ],
)
def test_a_bad_golden_file_is_named_in_one_sentence(tmp_path, content, message):
    path = tmp_path / "golden.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(UserError, match=message) as caught:
        read_golden(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_names_that_look_like_nothing_stay_names(tmp_path):
    path = tmp_path / "golden.csv"
    path.write_text(HEADER + LINE.replace("unet", "NA") + LINE.replace("unet", "007"))
    assert read_golden(path)["model"].tolist() == ["NA", "007"]


def test_no_spreadsheet_takes_a_name_for_a_formula(golden, tmp_path):
    path = tmp_path / "golden.csv"
    names = ["=cmd()", "+1", "-1", "@SUM(A1)", "\tx", "'x", "x=1", "ünet"]
    named = golden.head(len(names)).assign(model=names)
    write_golden(path, named)
    lines = path.read_text().splitlines()[1:]
    assert not [line for line in lines if line.lstrip('"').startswith(("=", "+", "-", "@", "\t"))]
    assert set(_verdicts(named, read_golden(path), tolerance=0)) == {"ok"}


def test_an_absent_golden_file_says_how_to_write_it(tmp_path):
    with pytest.raises(UserError, match=r"does not exist; .*--update"):
        read_golden(tmp_path / "none.csv")
    with pytest.raises(MachineError, match="cannot read"):
        read_golden(tmp_path)


def test_what_is_not_a_number_cannot_become_a_reference(golden, tmp_path):
    with pytest.raises(UserError, match="is not a number"):
        write_golden(tmp_path / "golden.csv", golden.assign(value=math.nan))
    assert not (tmp_path / "golden.csv").exists()
