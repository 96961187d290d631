"""Two networks in the terminal, and several workspaces on one board."""

from __future__ import annotations

import shutil

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

from segbench.cli import main
from segbench.store.rows import read_rows
from segbench.store.workspace import Workspace


def attack(segbench, workspace, *more):
    words = ("attack", "-a", "ifgsm", "--eps", "2/255,8/255", "--workspace", workspace, *more)
    result = segbench(*words)
    assert result.exit_code == 0, result.output


@pytest.fixture(scope="module")
def two(trained, tmp_path_factory):
    """A workspace with two networks under one attack; copy it before changing it."""

    def segbench(*args):
        return CliRunner().invoke(main, [*map(str, args)])

    workspace = shutil.copytree(trained, tmp_path_factory.mktemp("two") / "runs")
    (first,) = (workspace / "models").iterdir()
    data = first.name.partition("@")[2].partition("#")[0]
    spec = "phantom-cxr:size=32,train_cases=24,test_cases=6"
    assert data.startswith("phantom-cxr")
    result = segbench("train", "unet:width=6,depth=2", "--dataset", spec, "--epochs", "3",
                      "--workspace", workspace)  # fmt: skip
    assert result.exit_code == 0, result.output
    attack(segbench, workspace, "--no-pictures")
    return workspace


def test_a_pair_is_compared_by_parts_of_its_names(segbench, two):
    result = segbench("compare", "width=4", "width=6", "--workspace", two)
    assert result.exit_code == 0, result.output
    assert " minus " in " ".join(result.output.split())
    shown = result.output.splitlines()
    assert max(map(len, shown)) <= 80
    place = shown.index("  ifgsm")
    assert [line.split()[0] for line in shown[place + 1 : place + 3]] == ["2/255", "8/255"]
    rows = read_rows(Workspace(two))
    means = rows.groupby(["model", "attack", "budget"])["jaccard"].mean()
    clean = means.xs("clean", level="attack").droplevel("budget")
    said = next(line for line in result.output.splitlines() if line.startswith("    clean"))
    assert f"{abs(clean.iloc[0] - clean.iloc[1]):.3f}" in said
    assert "corrected by Holm for these 3 tests" in " ".join(result.output.split())


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (("unet", "width=6"), "all bear it"),
        (("nlcen", "width=6"), "there are unet"),
        (("width=6", "width=6"), "are one network"),
    ],
)
def test_a_name_that_means_no_one_network_is_refused(segbench, two, names, said):
    result = segbench("compare", *names, "--workspace", two)
    assert result.exit_code == 2
    assert said in result.output


def test_two_trainings_of_one_network_are_compared_with_each_other(segbench, workspace):
    spec = "phantom-cxr:size=32,train_cases=24,test_cases=6"
    result = segbench("train", "unet:width=4,depth=2", "--dataset", spec, "--epochs", "12",
                      "--seed", "1", "--workspace", workspace)  # fmt: skip
    assert result.exit_code == 0, result.output
    attack(segbench, workspace, "--no-pictures")
    result = segbench("compare", "#0", "#1", "--workspace", workspace)
    assert result.exit_code == 0, result.output
    title = " ".join(result.output.split("eps")[0].split())
    assert {word.strip(",")[-2:] for word in title.split() if "#" in word} == {"#0", "#1"}
    means = read_rows(Workspace(workspace)).query("attack == 'clean'").groupby("model")["jaccard"]
    said = next(line for line in result.output.splitlines() if line.startswith("    clean"))
    assert f"{abs(np.subtract(*means.mean())):.3f}" in said


def test_workspaces_are_merged_by_network_and_other_data_stand_apart(segbench, workspace, tmp_path):
    attack(segbench, workspace, "--no-pictures")
    again = shutil.copytree(workspace, tmp_path / "again")
    other = shutil.copytree(workspace / "models", tmp_path / "other" / "models").parent
    more = "phantom-cxr:size=32,train_cases=24,test_cases=9"
    attack(segbench, other, "--dataset", more, "--no-pictures")
    out = tmp_path / "board"
    result = segbench("leaderboard", workspace, again, other, "--out", out)
    assert result.exit_code == 0, result.output
    table = pd.read_csv(out / "leaderboard.csv")
    assert len(table) == 4  # clean and L-infinity, of either data; the copy counts once
    assert table["dataset_fingerprint"].nunique() == 2
    page = (out / "leaderboard.html").read_text(encoding="utf-8")
    assert page.count('<section aria-labelledby="board-') == 4
    assert "Content-Security-Policy" in page


def test_a_board_has_places_only_by_what_all_met_in_whichever_workspace(segbench, two, tmp_path):
    """A further attack, budgets and fewer cases elsewhere: places are by what is common."""
    first, second = sorted(path.name for path in (two / "models").iterdir())
    other = shutil.copytree(two / "models" / second, tmp_path / "b" / "models" / second).parents[1]
    for attack_of, eps in (("fgsm", "4/255,8/255"), ("ifgsm", "8/255")):
        words = ("-m", second, "-a", attack_of, "--eps", eps, "--limit", "4", "--no-pictures")
        assert segbench("attack", *words, "--workspace", other).exit_code == 0
    alone = shutil.copytree(two / "models" / first, tmp_path / "a" / "models" / first).parents[1]
    words = ("-m", first, "-a", "ifgsm", "--eps", "2/255,8/255", "--no-pictures")
    assert segbench("attack", *words, "--workspace", alone).exit_code == 0
    out = tmp_path / "board"
    result = segbench("leaderboard", alone, other, "--out", out)
    assert result.exit_code == 0, result.output
    table = pd.read_csv(out / "leaderboard.csv").query("of == 'linf'").set_index("model")
    assert sorted(table["place"]) == [1, 2]
    assert set(table["attacks_shared"]) == {"ifgsm"}
    assert set(table["eps_shared"]) == {"8/255"}
    assert set(table["cases_shared"]) == {4}
    assert table.loc[second, "attacks"] == "fgsm, ifgsm"
    rows = read_rows(Workspace(two)).query("attack in ('ifgsm', 'clean') and budget != 2 / 255")
    limited = set(read_rows(Workspace(other))["case_sha256"])
    rows = rows[rows["case_sha256"].isin(limited)]
    height = rows.groupby(["model", "case_id", "budget"])["jaccard"].mean().groupby("model").mean()
    for model in (first, second):
        assert table.loc[model, "value_shared"] == pytest.approx(height[model])
    page = (out / "leaderboard.html").read_text(encoding="utf-8")
    assert "Places are by what all 2 met: ifgsm at 8/255, 4 cases in 4 groups." in page
    assert "fgsm at 4/255, 8/255 (" in page
    reverse = segbench("leaderboard", other, alone, "--out", out)
    assert reverse.exit_code == 0
    again = pd.read_csv(out / "leaderboard.csv").query("of == 'linf'").set_index("model")
    pd.testing.assert_frame_equal(again.sort_index(), table.sort_index())
