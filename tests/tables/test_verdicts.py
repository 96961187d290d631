"""The gate by cases: what is a regression and what is noise, and what it says to machines."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from datetime import date

import numpy as np
import pandas as pd
import pytest

from segbench.cli import gate_formats
from segbench.errors import UserError
from segbench.tables.build import build_tables
from segbench.tables.gate import Gate
from segbench.tables.gate_power import SINGLE, SPREADS, simulate_gate
from segbench.tables.golden import golden_table, read_golden, write_golden
from segbench.tables.golden_cases import case_file, read_cases, scores_by_case, write_cases
from segbench.tables.golden_pairs import TESTED
from segbench.tables.verdicts import compare_golden, require_agreement

HOSTILE = ["<b>|", "\x1b[2J", "a\nb", "100%", "::error::x", "\u202ex", "]]>"]


@pytest.fixture
def store(row, frame):
    """Tables of 40 patients under one attack, each score moved by what is given."""

    def make(moves=0.0, cases=40, **given):
        levels = np.random.default_rng(0).uniform(0.4, 0.8, 40)
        scores = np.broadcast_to(levels + moves, 40)[:cases]
        return build_tables(
            frame(
                [
                    row(
                        **{"case_id": f"c{n:02d}", "group_id": f"g{n:02d}"} | given,
                        jaccard=float(score),
                        dice=float(score),
                    )
                    for n, score in enumerate(scores)
                ]
            ),
            depth="cases",
        )

    return make


def _compare(before, after, tmp_path, tolerance=0.01, today=None):
    """Through the files."""
    path = tmp_path / "golden.csv"
    write_golden(path, golden_table(before))
    write_cases(case_file(path), scores_by_case(before))
    then = read_cases(case_file(path))
    now = scores_by_case(after)
    golden = read_golden(path)
    return compare_golden(golden_table(after), golden, tolerance, now=now, then=then, today=today)


def test_a_fall_of_all_cases_is_a_regression_and_a_few_wild_ones_are_noise(store, tmp_path):
    fallen = _compare(store(), store(-0.02), tmp_path)
    assert set(fallen["verdict"]) == {"REGRESSION"}
    assert (fallen["high"] < 0).all()
    assert "beyond 0.01 and chance" in fallen["sentence"].iloc[0]
    wild = np.zeros(40)
    wild[[3, 17]] = -0.3
    noise = _compare(store(), store(wild), tmp_path)
    assert noise["difference"].iloc[0] == pytest.approx(-0.015, abs=1e-4)
    assert set(noise["verdict"]) == {"noise"}
    assert "which cannot be told from chance with 40 groups" in noise["sentence"].iloc[0]
    gate = Gate(noise)
    assert gate.verdict == "no regression in 2 scores, 2 of them lower, which may be chance"
    assert set(_compare(store(), store(-0.009), tmp_path)["verdict"]) == {"ok"}
    assert set(_compare(store(), store(0.02), tmp_path)["verdict"]) == {"better"}


@pytest.mark.parametrize("tolerance", [0.0, 1e-6])
def test_what_has_not_changed_passes_at_any_tolerance(store, tmp_path, tolerance):
    compared = _compare(store(), store(), tmp_path, tolerance)
    assert set(compared["verdict"]) == {"ok"}
    assert compared["difference"].abs().max() <= 1e-9
    fallen = _compare(store(), store(-0.001), tmp_path, tolerance)
    assert set(fallen["verdict"]) == {"REGRESSION"}


@pytest.mark.parametrize("groups", [1, 2, 5, TESTED - 1])
def test_of_few_groups_the_tolerance_alone_decides_and_it_is_said(store, tmp_path, groups):
    """As of five patients, of which half the cases fell by 0.2: a test found p 0.2, and passed."""
    moves = np.where(np.arange(groups) % 2, 0.0, -0.2)
    moves = np.concatenate([moves, np.zeros(40 - groups)])
    compared = _compare(store(cases=groups), store(moves, cases=groups), tmp_path)
    assert set(compared["verdict"]) == {"REGRESSION"}
    assert compared["p"].isna().all()
    assert "too few to be told from chance" in compared["sentence"].iloc[0]
    kept = _compare(store(cases=groups), store(-0.009, cases=groups), tmp_path)
    assert set(kept["verdict"]) == {"ok"}


def test_few_groups_are_told_apart_from_many_by_simulation():
    """A fall of five tolerances, of one score, is found nine times of ten from so many on."""
    assert simulate_gate(TESTED, 0.05, 1000, SINGLE).paired >= 0.89
    assert simulate_gate(TESTED - 2, 0.05, 1000, SINGLE).paired < 0.85


def test_other_cases_are_named_be_they_as_many(store, tmp_path):
    gone = _compare(store(), store(cases=39), tmp_path)
    assert set(gone["verdict"]) == {"CASES"}
    assert "1 are gone, for example c39" in gone["sentence"].iloc[0]


def test_another_attack_is_not_a_missing_one(store, tmp_path):
    compared = _compare(store(), store(attack_params='{"restarts": 5, "steps": 40}'), tmp_path)
    assert compared["verdict"].tolist() == ["OTHER-ATTACK"] * 2 + ["new"] * 2
    both = [store(attack_params=f'{{"steps": {steps}}}') for steps in (10, 20)]
    golden = pd.concat([golden_table(tables) for tables in both])
    kept = compare_golden(golden_table(both[0]), golden, 0.01)
    assert kept["verdict"].tolist() == ["ok"] * 2 + ["MISSING"] * 2
    other = _compare(store(), store(attack="sea"), tmp_path)
    assert other["verdict"].tolist() == ["MISSING"] * 2 + ["new"] * 2


def test_an_acknowledged_regression_passes_until_its_day(store, tmp_path):
    path = tmp_path / "golden.csv"
    golden = golden_table(store()).assign(acknowledged="new front, reviewed", until="2027-01-31")
    write_golden(path, golden_table(store()))
    golden.to_csv(path, index=False)
    write_cases(case_file(path), scores_by_case(store()))
    read, then = read_golden(path), read_cases(case_file(path))
    for day, verdict in ((date(2027, 1, 31), "acknowledged"), (date(2027, 2, 1), "REGRESSION")):
        after = store(-0.05)
        found = compare_golden(
            golden_table(after), read, 0.01, now=scores_by_case(after), then=then, today=day
        )
        assert set(found["verdict"]) == {verdict}
        assert "new front, reviewed" in found["sentence"].iloc[0]
    golden.assign(until="soon").to_csv(path, index=False)
    with pytest.raises(UserError, match="expected a reason and a day such as 2027-01-31"):
        read_golden(path)


def test_the_case_file_changes_in_the_lines_of_what_changed(store, tmp_path):
    path = tmp_path / "a.cases.jsonl"
    texts = []
    for moves in (0.0, np.where(np.arange(40) == 7, -0.1, 0)):
        write_cases(path, scores_by_case(store(moves)))
        texts.append(path.read_text().splitlines())
    assert sum(a != b for a, b in zip(*texts, strict=True)) == 2  # of jaccard, and of dice
    assert len(texts[0]) == 3
    assert max(map(len, texts[0][1:])) < 40 * 7 + 180


def _scored(values: str = "[0.5]", seeds: str = "[0]", budget: str = "0.5") -> str:
    line = f'"metric":"dice","seeds":{seeds},"values":{values}'
    return f'{{"model":"m","attack":"a","budget":["linf",{budget}],{line}}}'


DATA = '{"dataset":"d","split":"s","cases":[["a","g"]]}'


@pytest.mark.parametrize(
    "text",
    ["{", '{"model": "a"}', "[]", '{"cases": 3}', "[" * 100_000,
     '{"dataset":"d","split":"s","cases":[["a","g"],["a","g"]]}', f"{DATA}\n{_scored('[null]')}",
     f"{DATA}\n{_scored(seeds='[Infinity]')}", f"{DATA}\n{_scored(budget='1' + '0' * 400)}",
     f"{DATA}\n{_scored(f'[1{400 * chr(48)}]')}", f"{DATA}\n{_scored()}\n{_scored()}"],
)  # fmt: skip
def test_a_bad_case_file_is_named_with_its_line(tmp_path, text):
    path = tmp_path / "a.cases.jsonl"
    path.write_text(text + "\n")
    with pytest.raises(UserError, match=r"line \d of .* is not one of a golden file's cases"):
        read_cases(path)


def test_a_case_file_that_is_no_text_is_bad_input(tmp_path):
    path = tmp_path / "a.cases.jsonl"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match="is not a golden file's cases"):
        read_cases(path)


def test_a_golden_file_and_its_cases_agree_on_how_many_there_are(store, tmp_path):
    with pytest.raises(UserError, match=r"has 40 cases of dice .*, its case file 39"):
        require_agreement(golden_table(store()), scores_by_case(store(cases=39)))


def test_the_gate_raises_few_false_alarms_and_misses_no_fall():
    for spreads in (SPREADS, SINGLE):
        quiet = simulate_gate(123, 0.0, 200, spreads)
        assert quiet.paired <= 0.05
        assert simulate_gate(123, 0.02, 200, spreads).paired >= 0.9
    assert simulate_gate(48, 0.0, 200).plain > 0.2  # a tolerance alone cries wolf


@pytest.mark.parametrize("name", HOSTILE)
def test_no_name_breaks_out_of_what_a_machine_reads(store, tmp_path, name):
    compared = _compare(store(model=name), store(-0.05, model=name), tmp_path)
    assert set(compared["verdict"]) == {"REGRESSION"}
    for line in gate_formats.github_annotations(Gate(compared), f"{name}.csv"):
        assert line.startswith("::error file=")
        assert "\n" not in line
        assert "\x1b" not in line
    suite = ET.fromstring(gate_formats.junit(Gate(compared)))
    assert suite.get("failures") == "2"
    assert len(suite.findall("testcase/failure")) == 2
    summary = gate_formats.github_summary(Gate(compared))
    assert "<b>" not in summary.replace("\\<b\\>", "")
    assert not any(mark in summary for mark in ("\x1b", "\u202e"))


def test_annotations_are_ten_and_the_summary_has_its_limit(grid_rows, frame, tmp_path, monkeypatch):
    before = build_tables(frame(grid_rows()), depth="cases")
    worse = [r | {"jaccard": r["jaccard"] - 0.1, "dice": r["dice"] - 0.1} for r in grid_rows()]
    compared = _compare(before, build_tables(frame(worse), depth="cases"), tmp_path)
    lines = [*gate_formats.github_annotations(Gate(compared), "golden.csv")]
    assert len(compared) == 20
    assert len(lines) == 10
    assert "11 more verdicts" in lines[-1]
    monkeypatch.setattr(gate_formats, "_SUMMARY_BYTES", 600)
    assert len(gate_formats.github_summary(Gate(compared)).encode()) < 800
    assert "are left out" in gate_formats.github_summary(Gate(compared))
    badge = json.loads(gate_formats.badge(Gate(compared)))
    assert badge == {
        "schemaVersion": 1, "label": "robustness", "color": "red",
        "message": "20 of 20 scores fail",
    }  # fmt: skip
