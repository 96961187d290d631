"""segbench certify as a user meets it: rows in the same store, shown as what they are."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

from segbench.store.rows import read_rows
from segbench.store.workspace import Workspace

SMALL = ("--sigma", "0.02", "--n", "80")


@pytest.fixture
def certified(segbench, workspace: Path):
    result = segbench("certify", *SMALL, "--tau", "0.75,0.8", "--workspace", workspace)
    assert result.exit_code == 0, result.output
    return result


def test_certificates_are_stored_once_and_shown_as_lower_bounds_of_another_network(
    segbench, workspace: Path, certified
) -> None:
    said = " ".join(certified.output.split())
    assert "of smoothed networks, L2, lower bounds" in said
    assert "18 scores computed" in said  # clean, and two radii, of six cases
    assert "A certified score is a lower bound, and of the smoothed network" in said
    rows = read_rows(Workspace(workspace))
    own = rows[rows["budget_kind"] == "certified"]
    assert sorted(own["budget"].unique().round(5)) == [0.01349, 0.01683]
    assert (own["jaccard"] <= own["smoothed_jaccard"]).all()
    assert own[["linf", "l2", "backwards"]].fillna(0).eq(0).all(axis=None)
    wide, narrow = (own[own["budget"] == b] for b in sorted(own["budget"].unique(), reverse=True))
    assert (wide["jaccard"].to_numpy() <= narrow["jaccard"].to_numpy()).all()
    again = segbench("certify", *SMALL, "--tau", "0.8,0.75", "--workspace", workspace)
    assert "0 scores computed, 18 found" in " ".join(again.output.split())
    other = segbench("certify", "--sigma", "0.03", "--n", "80", "--workspace", workspace)
    assert "6 scores computed, 6 found" in " ".join(other.output.split())


def test_reports_show_them_beside_attacks_and_never_among_them(
    segbench, workspace: Path, certified, tmp_path: Path
) -> None:
    attacks = ("-a", "pgd:norm=l2,steps=3", "-a", "sea:norm=l2,steps=6", "--eps", "0.01,0.5")
    assert segbench("attack", *attacks, "--workspace", workspace).exit_code == 0
    formats = ("markdown", "json", "html", "csv", "latex", "evidence", "junit")
    asked = [part for name in formats for part in ("-f", name)]
    done = segbench("report", *asked, "--workspace", workspace, "--out", tmp_path)
    assert done.exit_code == 0, done.output
    page = (tmp_path / "report.md").read_text()
    assert "## Certificates" in page
    assert "worst of 2 attacks" in page
    assert "worst of 3" not in page
    assert "**smoothing" not in page.partition("## Attacks")[2]
    found = json.loads((tmp_path / "report.json").read_text())
    whole = [line for line in found["certificates"] if line["class_name"] == "all"]
    assert [line["tau"] for line in whole] == [0.75, 0.8]
    of = {line["attack"]: line for line in found["curves"] if line["metric"] == "jaccard"}
    upper = of["worst of 2 attacks"]["eps"]
    assert upper
    small = min(
        line["mean"] for line in found["curves"]
        if line["metric"] == "jaccard" and line["budget_kind"] == "l2" and line["budget"] == 0.01
    )  # fmt: skip
    assert whole[0]["attacked"] == pytest.approx(small, abs=1e-3)  # that at 0.5 is not within it
    for name in ("costs", "structures", "comparisons"):
        assert all("smoothing" not in str(line) for line in found[name])
    html = (tmp_path / "report.html").read_text()
    assert "certified and attacked, L2" in html
    best = whole[1]  # the larger radius; half of the clean score is left there
    assert best["jaccard"] >= best["smoothed_jaccard"] / 2
    assert f"keeps {best['jaccard']:.3f}" in html
    assert "under every change up to an L2 norm of 0.0168" in html
    assert "attacked (upper bound, the network itself)" in html
    assert "certified of the smoothed network" in (tmp_path / "tables.tex").read_text()
    assert "section 5 certifies" in (tmp_path / "evidence.md").read_text()


def test_the_gate_and_the_list_know_them(segbench, workspace: Path, certified, tmp_path) -> None:
    golden = tmp_path / "golden.csv"
    assert (
        segbench("check", "--golden", golden, "--update", "--workspace", workspace).exit_code == 0
    )
    assert "certified" in golden.read_text()
    held = segbench("check", "--golden", golden, "--workspace", workspace)
    assert held.exit_code == 0
    assert "code is not known" not in " ".join(held.output.split())  # there is no attack
    listed = json.loads(segbench("list", "cells", "--json", "--workspace", workspace).output)
    kinds = [cell["budget_kind"] for cell in listed["cells"]]
    assert sorted(kinds) == ["certified", "certified", "none"]
    table = pd.read_csv(golden)
    proved = (table["budget_kind"] == "certified") & (table["metric"] == "jaccard")
    table.loc[proved, "value"] += 0.02
    table.to_csv(golden, index=False)
    golden.with_suffix(".cases.jsonl").unlink()  # so that the tolerance alone decides
    worse = segbench("check", "--golden", golden, "--workspace", workspace)
    assert worse.exit_code == 1
    assert worse.output.count("REGRESSION") >= 2


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        (["--sigma", "0"], "sigma = 0 is no noise"),
        (["--sigma", "1e38"], "sigma = 1e+38 leaves nothing of an image"),
        (["--sigma", "0.25,64"], "sigma = 64 leaves nothing of an image"),
        (["--sigma", "nan"], "sigma has the entry nan; expected a finite number"),
        (["--tau", "1"], "tau = 1 is no probability"),
        (["--alpha", "1"], "alpha = 1 is no chance of error"),
        (["--n", "40"], "n = 40 draws can certify nothing of the 1024 places"),
        (["--n", "40"], "it takes at least n = 49"),
        (["--hierarchy", "lungs"], "expected name={class, class}"),
        (["--hierarchy", "lungs={1,2}"], "lungs has '2', no class"),
    ],
)
def test_what_cannot_be_is_one_sentence(segbench, workspace: Path, asked, words: str) -> None:
    result = segbench("certify", *asked, "--workspace", workspace)
    assert result.exit_code == 2
    assert words in " ".join(result.output.split())
    rows = read_rows(Workspace(workspace))
    assert rows.empty


def test_a_plan_says_what_it_will_cost_and_processes_give_the_same_rows(
    segbench, workspace: Path, tmp_path: Path
) -> None:
    planned = segbench("certify", *SMALL, "--plan", "--workspace", workspace)
    assert planned.exit_code == 0, planned.output
    assert "smoothing:sigma=0.02" in planned.output
    grid = tmp_path / "grid.toml"
    grid.write_text("attacks = []\nreports = []\n[certify]\nsigma = 0.02\nn = 80\n")
    ran = segbench("run", grid, "--workspace", workspace)
    assert ran.exit_code == 0, ran.output
    found = segbench("certify", *SMALL, "--workspace", workspace)
    assert "0 scores computed, 12 found" in " ".join(found.output.split())
