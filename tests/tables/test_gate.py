"""The gate and doubt: a score that is no longer to be trusted, or of other data, never passes."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from click.testing import CliRunner

from segbench.api.marks import CONSTANT, TRAINED
from segbench.cli import gate_formats, main
from segbench.tables.build import build_tables
from segbench.tables.gate import Gate, hold_gate
from segbench.tables.golden import golden_table, read_golden, write_golden
from segbench.tables.golden_cases import case_file, read_cases, scores_by_case, write_cases
from segbench.tables.golden_gaps import describe_gaps

KEPT = Path(__file__).parents[2] / "reports/golden/jsrt-standard.csv"
CASES = 20


@pytest.fixture(scope="module")
def tables(row, frame):
    """Of 20 patients under one attack at two budgets; ``facts`` are of the larger one alone.

    They are only read, and those of the same arguments are computed once.
    """
    known = {}

    def make(jaccard=0.6, **given):
        key = repr((jaccard, sorted(given.items())))
        if key not in known:
            known[key] = compute(jaccard, **given)
        return known[key]

    def compute(
        jaccard, depth="cases", contents="", edited=(), facts=None, groups=CASES, seeds=(0,)
    ):
        rows = [
            row(
                case_id=(name := f"c{n:02d}"),
                case_sha256=f"{'edited' * (name in edited)}{contents}{n:016x}",
                group_id=f"g{n % groups:02d}",
                budget=budget / 255,
                seed=seed,
                jaccard=jaccard - budget / 100,
                dice=jaccard - budget / 100,
                **((facts or {}) if budget == 8 else {}),
            )
            for budget in (4, 8)
            for n in range(CASES)
            for seed in seeds
        ]
        return build_tables(frame(rows), depth=depth)

    return make


@pytest.fixture
def against(tmp_path):
    """The gate through its files; ``older`` drops what older files do not hold."""

    def hold(before, after, older=False) -> Gate:
        path = tmp_path / "golden.csv"
        golden = golden_table(before)
        write_golden(path, golden)
        write_cases(case_file(path), scores_by_case(before))
        if older:
            golden.drop(columns="marks").to_csv(path, index=False)
            lines = [json.loads(line) for line in case_file(path).read_text().splitlines()]
            lines[0]["cases"] = [case[:2] for case in lines[0]["cases"]]
            for line in lines[1:]:
                del line["seeds"], line["code"]
            case_file(path).write_text("".join(f"{json.dumps(line)}\n" for line in lines))
        return hold_gate(after, read_golden(path), read_cases(case_file(path)), 0.01)

    return hold


def verdicts(gate: Gate) -> list[str]:
    """Of Jaccard, at the smaller budget and at the larger."""
    jaccard = gate.comparison.query("metric == 'jaccard'")
    return jaccard.sort_values("budget")["verdict"].tolist()


NO_GRADIENT = {"zero_gradients": 1.0}
DOUBTS = [
    NO_GRADIENT,
    {"member": "search"},
    {"late_gain": 0.0},
    *({"marks": mark} for mark in (TRAINED, CONSTANT, "hidden-routes", "random-network", "else")),
]


@pytest.mark.parametrize("facts", DOUBTS, ids=str)
@pytest.mark.parametrize("rise", [0.0, 0.1])
def test_a_score_that_is_doubtful_now_fails_however_high_it_is(tables, against, facts, rise):
    gate = against(tables(), tables(0.6 + rise, facts=facts))
    assert verdicts(gate)[1] == "DOUBTFUL"
    assert gate.failed
    # A curve that is stuck is so at every budget; a mark is of its own rows.
    assert verdicts(gate)[0] == (("better" if rise else "ok") if "marks" in facts else "DOUBTFUL")
    assert "as it was not then, so do not trust it" in gate.comparison["sentence"].iloc[-1]


@pytest.mark.parametrize("facts", DOUBTS, ids=str)
def test_the_same_doubt_as_then_passes_and_is_told(tables, against, facts):
    gate = against(tables(facts=facts), tables(facts=facts))
    assert verdicts(gate) == ["ok", "ok"]
    assert "as it was then" in gate.comparison["sentence"].iloc[-1]
    assert verdicts(against(tables(facts=facts), tables())) == ["ok", "ok"]  # one doubt fewer


def test_another_sign_of_a_stuck_attack_is_another_doubt(tables, against):
    """As of a linear network, whose climb has long ended, that begins to round."""
    idle = {"late_gain": 0.0}
    both = against(tables(facts=idle), tables(0.65, facts=idle | NO_GRADIENT))
    assert verdicts(both) == ["better", "DOUBTFUL"]
    assert "zero-gradients=1" in both.comparison["sentence"].iloc[-1]


def test_a_sign_that_is_twice_as_large_is_another_one(tables, against):
    then = tables(facts={"zero_gradients": 0.2})
    for share, verdict in ((0.15, "ok"), (0.4, "ok"), (0.45, "DOUBTFUL")):
        assert verdicts(against(then, tables(facts={"zero_gradients": share})))[1] == verdict


def test_a_doubtful_fall_is_a_regression_and_no_acknowledged_one_hides_a_doubt(tables, against):
    fallen = against(tables(), tables(0.5, facts=NO_GRADIENT))
    assert verdicts(fallen) == ["REGRESSION", "REGRESSION"]
    assert "but marked stuck, zero-gradients=1" in fallen.comparison["sentence"].iloc[-1]
    golden = golden_table(tables()).assign(acknowledged="smaller", until="2999-12-31")
    assert verdicts(hold_gate(tables(0.5), golden, None, 0.01)) == ["acknowledged"] * 2
    hidden = hold_gate(tables(0.5, facts=NO_GRADIENT), golden, None, 0.01)
    assert verdicts(hidden) == ["DOUBTFUL"] * 2


def test_few_groups_are_remarked_where_nothing_fell_too(tables, against):
    (remark,) = against(tables(groups=5), tables(groups=5)).remarks
    assert remark.startswith("4 of 4 scores rest on 5 groups, and fewer than 8 groups' worth")
    assert not against(tables(groups=8), tables(groups=8)).remarks
    assert verdicts(against(tables(groups=5), tables(0.58, groups=5))) == ["REGRESSION"] * 2


def test_the_reason_is_told_once(tables, against):
    gate = against(tables(), tables(facts=NO_GRADIENT))
    (reason,) = gate.remarks
    assert "100% of its steps met a gradient that is zero everywhere" in reason


def test_every_depth_of_tables_knows_the_same_doubts(tables):
    for facts in (NO_GRADIENT, {"marks": TRAINED}):
        marks = [golden_table(tables(depth=d, facts=facts))["marks"].tolist() for d in DEPTHS]
        assert marks[0] == marks[1]
        assert any(marks[0])


DEPTHS = ("cases", "all")


def test_an_older_golden_file_fails_nobody_and_says_what_it_cannot_tell(tables, against):
    gate = against(tables(), tables(facts=NO_GRADIENT), older=True)
    assert verdicts(gate) == ["marked", "marked"]
    assert not gate.failed
    assert gate.verdict == "no regression in 4 scores, 4 of them not to be trusted"
    assert any("does not say which of its scores were marked" in said for said in gate.remarks)
    assert any("known by name alone" in said for said in gate.remarks)
    quiet = against(tables(), tables(contents="f"), older=True)
    assert verdicts(quiet) == ["ok", "ok"]
    assert len(quiet.remarks) == 4
    assert "over which attack seeds 4 of 4 scores are means" in quiet.remarks[-2]
    assert "of 4 of 4 attacked scores the attack's code is not known" in quiet.remarks[-1]


def test_the_golden_files_of_before_are_read_as_they_are():
    golden, cases = read_golden(KEPT), read_cases(case_file(KEPT))
    assert set(golden["marks"]) == {"?"}
    assert len(cases) == len(golden)
    assert {content for point in cases.values() for content in point.contents} == {""}


def test_other_data_under_the_same_names_never_pass(tables, against):
    gate = against(tables(), tables(0.7, contents="f"))
    assert verdicts(gate) == ["CASES", "CASES"]
    told = gate.comparison["sentence"].iloc[0]
    assert "c00, c01, c02 and 17 more hold another image or another truth than then" in told
    one = against(tables(), tables(edited=("c07",)))
    assert verdicts(one) == ["CASES", "CASES"]
    assert "other cases: c07 holds another image" in one.comparison["sentence"].iloc[0]
    assert verdicts(against(tables(contents="f"), tables(contents="f"))) == ["ok", "ok"]


def test_a_gate_without_cases_says_that_it_cannot_tell_data_apart(tables):
    gate = hold_gate(tables(contents="f"), golden_table(tables()), None, 0.01)
    assert verdicts(gate) == ["ok", "ok"]
    assert any("no cases lie beside the golden file" in remark for remark in gate.remarks)


def test_new_scores_are_counted_apart_as_they_are_compared_with_nothing(tables):
    gate = hold_gate(tables(), golden_table(tables()).iloc[:1], None, 0.01)
    assert gate.verdict == "no regression in 1 score; 3 more are new and not compared"
    assert json.loads(gate_formats.badge(gate))["message"] == gate.verdict
    suite = ET.fromstring(gate_formats.junit(gate))
    assert (suite.get("tests"), suite.get("skipped"), suite.get("failures")) == ("4", "3", "0")
    assert len(suite.findall("testcase/skipped")) == 3
    worse = hold_gate(tables(0.5), golden_table(tables()).iloc[:1], None, 0.01)
    assert worse.verdict == "1 of 1 score fail; 3 more are new and not compared"


def _two(row, frame, name: str, jaccard: float = 0.6):
    """A network on a data set; and once more, where the name is of another network or data set."""
    rows = [
        row(case_id=f"c{n}", group_id=f"g{n}", case_sha256=f"{content}{n:016x}", jaccard=jaccard,
            dice=jaccard, **(other if content else {}))
        for content, other in (("", {}), ("5", {name: "5e" * 32}))
        for n in range(CASES)
    ]  # fmt: skip
    if name == "network_sha256":
        rows = [line | {"case_sha256": line["case_sha256"][-16:]} for line in rows]
    return tuple(build_tables(frame(part), depth="cases") for part in (rows[:CASES], rows))


def test_a_second_data_set_of_the_name_leaves_the_first_what_it_is(row, frame, against):
    alone, both = _two(row, frame, "dataset_fingerprint")
    worse = _two(row, frame, "dataset_fingerprint", 0.5)
    for before, after in ((alone, both), (both, alone)):
        gate = against(before, after)
        compared = gate.comparison[gate.comparison["verdict"] == "ok"]
        assert sorted(compared["metric"]) == ["dice", "jaccard"]
    assert against(alone, both).failed == 0
    assert set(against(both, alone).comparison["verdict"]) == {"ok", "MISSING"}
    assert against(alone, worse[1]).failed == 2
    assert {*against(alone, worse[1]).comparison["verdict"]} == {"REGRESSION", "new"}


def test_which_of_two_networks_of_a_name_it_was_is_not_guessed(row, frame, against):
    alone, both = _two(row, frame, "network_sha256")
    missing = against(alone, both).comparison.query("verdict == 'MISSING'")
    assert len(missing) == 2
    for sentence in missing["sentence"]:
        assert (
            "not measured under these names, which several networks or data sets share" in sentence
        )
        assert "unet@jsrt#0 (5e5e5e5e)" in sentence


def test_every_format_tells_of_doubt(tables, against):
    gate = against(tables(), tables(0.7, facts=NO_GRADIENT))
    lines = [*gate_formats.github_annotations(gate, "golden.csv")]
    assert [line.split()[0] for line in lines] == ["::error"] * 4 + ["::notice"]
    assert "so do not trust it" in lines[0]
    assert "zero everywhere" in lines[-1]
    summary = gate_formats.github_summary(gate)
    assert summary.startswith("### segbench: 4 of 4 scores fail\n\n- ")
    assert summary.count("| DOUBTFUL |") == 4
    suite = ET.fromstring(gate_formats.junit(gate))
    assert {failure.get("type") for failure in suite.findall("testcase/failure")} == {"DOUBTFUL"}
    assert "zero everywhere" in suite.findtext("system-out")
    assert json.loads(gate_formats.badge(gate))["color"] == "red"
    older = against(tables(), tables(0.7, facts=NO_GRADIENT), older=True)
    lines = [*gate_formats.github_annotations(older, "golden.csv")]
    assert [line.split()[0] for line in lines] == ["::warning"] * 4 + ["::notice"] * 5
    assert json.loads(gate_formats.badge(older))["color"] == "yellow"
    assert not ET.fromstring(gate_formats.junit(older)).findall("testcase/failure")


def _keep_lines(path, keep) -> None:
    """Of a case file the first line, its cases, and those of its points that are to be kept."""
    head, *lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join([head, *filter(keep, lines)]))


def test_scores_that_have_no_cases_are_counted(tables, against, tmp_path):
    """By the gate and by who only reads the file: of these other data pass, and it is said."""
    assert not against(tables(), tables()).remarks
    golden = tmp_path / "golden.csv"
    _keep_lines(case_file(golden), lambda line: '"dice"' in line)
    gate = hold_gate(tables(contents="f"), read_golden(golden), read_cases(case_file(golden)), 0.01)
    assert verdicts(gate) == ["ok", "ok"]  # of Jaccard, which has none
    assert gate.failed == 2
    (remark,) = gate.remarks
    assert remark.startswith("the cases beside the golden file lack 2 of its 4 scores")
    said = _validate(golden)
    assert "4 golden scores, 2 of them by case" in said
    assert "Note: the cases beside the golden file lack 2 of its 4 scores" in said


def test_scores_with_cases_of_no_content_are_counted(tables, against, tmp_path):
    against(tables(), tables())
    golden = tmp_path / "golden.csv"
    head, *lines = case_file(golden).read_text().splitlines()
    cases = json.loads(head)
    cases["cases"][3][2] = ""
    one = json.loads(lines[0])
    one["values"][3] = None
    lines[0] = json.dumps(one)  # of this point that case has no score
    case_file(golden).write_text("\n".join([json.dumps(cases), *lines]) + "\n")
    then = read_cases(case_file(golden))
    (remark,) = describe_gaps(read_golden(golden), then)
    assert "cases, of 3 of 4 scores, are known by name alone" in remark
    assert "of 3 of 4 scores, are known by name alone" in _validate(case_file(golden))


def _validate(path) -> str:
    result = CliRunner().invoke(main, ["check", "--validate", str(path)])
    assert result.exit_code == 0
    return " ".join(result.output.split())


def test_a_mean_over_other_attack_seeds_is_told_though_it_passes(tables, against):
    gate = against(tables(seeds=(3, 4)), tables(seeds=(4,)))
    assert verdicts(gate) == ["ok", "ok"]
    (remark,) = gate.remarks
    assert remark.startswith("4 of 4 scores are means over other attack seeds than then: over 4")
    assert "over 3, 4 in the golden file" in remark
    assert not against(tables(seeds=(4, 3)), tables(seeds=(3, 4))).remarks


def test_a_weakened_attack_of_the_same_name_is_told_though_its_scores_are_better(tables, against):
    weaker = {"attack_sha256": "12" * 32}
    gate = against(tables(), tables(jaccard=0.9, facts=weaker))
    assert verdicts(gate) == ["better", "better"]
    (remark,) = gate.remarks
    assert remark.startswith("2 of 4 attacked scores are of attacks whose code, libraries or")
    assert "pgd:restarts=1,steps=40" in remark
    assert not against(tables(facts=weaker), tables(facts=weaker)).remarks
    (unknown,) = against(tables(), tables(facts={"attack_sha256": ""})).remarks
    assert "of 2 of 4 attacked scores the attack's code is not known" in unknown


def test_clean_scores_have_no_attack_whose_code_could_be_unknown(row, frame, against):
    clean = {"attack": "clean", "attack_params": "{}", "budget_kind": "none", "budget": 0.0}
    rows = [row(case_id=f"c{n}", group_id=f"g{n}", attack_sha256="", **clean) for n in range(CASES)]
    scores = build_tables(frame(rows), depth="cases")
    assert not against(scores, scores).remarks


def test_points_of_a_minimum_norm_attack_know_its_seeds(row, frame):
    nearest = {"attack_params": '{"norm": "linf"}', "budget_kind": "min-norm", "budget": 0.5}
    clean = {"attack_params": "{}", "budget_kind": "none", "budget": 0.0}
    rows = [row(attack="clean", **clean), row(seed=2), row(attack="alma", seed=5, **nearest)]
    scores = scores_by_case(build_tables(frame(rows), depth="cases"))
    seeds = {key[3].partition(":")[0]: point.seeds for key, point in scores.items()}
    assert seeds == {"clean": (0,), "pgd": (2,), "alma": (5,)}
