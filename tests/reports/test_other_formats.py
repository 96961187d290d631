"""JSON, LaTeX, JUnit, evidence, figures, leaderboard: the tables' numbers, and no name obeyed."""

from __future__ import annotations

import json
import math
import re
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ET

import numpy as np
import pytest

from segbench.api import RIVALS, Picture, best_points
from segbench.plugins.naming import point_names
from segbench.plugins.registry import load
from segbench.tables.build import build_tables
from segbench_reports import evidence, junit, latex, page
from segbench_reports import json as json_report

FORMATS = ("json", "latex", "junit", "evidence", "leaderboard", "markdown", "csv")
HOSTILE = [
    "<script>",
    "a|b",
    "back\\slash{}",
    "=cmd()",
    "[red]",
    "\x1b[2J",
    "\u202egnp",
    "50%_&#$^~",
]


@pytest.fixture
def tables(grid_tables):
    return grid_tables


def _hostile(name, grid_rows, frame):
    rows = [r | {"model": name + r["model"], "dataset": name, "case_id": name + r["case_id"],
                 "attack": r["attack"] if r["attack"] == "clean" else name + r["attack"]}
            for r in grid_rows(patients=4)]  # fmt: skip
    return build_tables(frame(rows))


def test_what_speaks_against_a_number_stands_beside_it_in_every_format(grid_rows, frame, tmp_path):
    rows = grid_rows()
    for row in rows:
        if row["model"].startswith("unet") and row["attack"] == "pgd":
            row["marks"] = "stateful-network"
    tables = build_tables(frame(rows))
    marks = tables.headlines.set_index(["model", "of"])["marks"]
    assert marks["unet@jsrt#0", "linf"] == "stateful-network"
    assert marks["unet@jsrt#0", "clean"] == marks["nlcen@jsrt#0", "linf"] == ""
    text = evidence.render(tables)
    (line,) = [one for one in text.splitlines() if "unet@jsrt#0" in one and "| linf" in one]
    assert "stateful-network" in line
    assert latex.render(tables).count(r"pgd~$\dagger$") == 1
    assert "marked stateful-network" in latex.render(tables)
    assert 'message="marked stateful-network: not to be trusted' in junit.render(tables)
    seen = page.render(tables)
    assert "pgd <em>(stateful-network)</em>" in seen
    assert "unet@jsrt#0 (marked stateful-network)" in seen
    (board, _) = load("reports", "leaderboard").factory(tables, tmp_path)
    assert '<td class="marks">stateful-network' in board.read_text()


def test_evidence_says_what_is_left_at_every_eps(tables):
    text = evidence.render(tables)
    lowest = tables.curves[
        (tables.curves["metric"] == "jaccard") & (tables.curves["eps"] == "8/255")
    ]
    for _, own in lowest.groupby("model"):
        line = own.loc[own["mean"].idxmin()]
        assert f"{line['mean']:.3f} [{line['low']:.3f}, {line['high']:.3f}]" in text


def test_json_is_strict_and_holds_every_table(tables):
    def refuse(text):
        raise ValueError(text)

    found = json.loads(json_report.render(tables), parse_constant=refuse)
    assert found["schema"] == json_report.SCHEMA
    for name in json_report.TABLES:
        table = getattr(tables, name)
        assert len(found[name]) == len(table)
        assert not found[name] or set(found[name][0]) == set(table.columns)
    assert found["curves"][0]["mean"] == pytest.approx(tables.curves["mean"].iloc[0], rel=1e-11)
    assert found["summary"][0]["half_eps"] == "infinity"
    assert found["notes"] == list(tables.notes)


def test_latex_has_every_score_and_the_best_of_each_attack_in_bold(tables):
    text = latex.render(tables)
    for line in tables.summary.to_dict("records"):
        for name in point_names(tables.summary):
            assert f"{line[name]:.3f}" in text
    worst = tables.summary[tables.summary["attack"] == "pgd"]
    assert f"\\textbf{{{worst['8/255'].max():.3f}}}" in text
    assert f"\\textbf{{{worst['8/255'].min():.3f}}}" not in text
    for line in re.findall(r"^nlcen.*$", text, flags=re.MULTILINE):
        assert line.count("&") == 6
        assert line.endswith(r"\\")


def _bold(rows, frame):
    """What LaTeX, the page and the terminal call best, each as (network, point) of pgd's curves."""
    tables = build_tables(frame(rows))
    text = latex.render(tables)
    lines = [line.split(" & ") for line in text.splitlines() if " & pgd & " in line]
    heads = next(line for line in text.splitlines() if line.startswith("Network")).split(" & ")
    bold = {(line[0], heads[n]) for line in lines for n, cell in enumerate(line) if "bf{" in cell}
    scores = page.parts.scores(tables, "jsrt", "test", "linf")
    shown = {
        (latex.escape(line["model"]), scores["heads"][n])
        for line in scores["rows"]
        for n, cell in enumerate(line["cells"])
        if cell["best"] and line["attack"] == "pgd"
    }
    assert shown == bold
    return shown


def test_the_best_of_networks_is_marked_only_where_their_points_are_over_the_same_cases(row, frame):
    def curve(model, cases, budgets, level):
        return [
            row(model=model, weights_sha256=model.encode().hex()[:2] * 32, case_id=case,
                group_id=case, budget=at / 255, jaccard=level)
            for case in cases
            for at in budgets
        ]  # fmt: skip

    first = curve("a@jsrt", "uvw", (2, 8), 0.8)
    assert _bold(first + curve("b@jsrt", "uvw", (2, 8), 0.4), frame) == {
        ("a@jsrt", "2/255"), ("a@jsrt", "8/255")
    }  # fmt: skip
    assert not _bold(first + curve("b@jsrt", "xyz", (2, 8), 0.4), frame)  # as many, and others
    uneven = curve("b@jsrt", "uvw", (2,), 0.4) + curve("b@jsrt", "uvwx", (8,), 0.4)
    assert _bold(first + uneven, frame) == {("a@jsrt", "2/255")}


def test_the_best_worst_is_one_of_networks_of_which_each_case_met_the_same(grid_rows, frame):
    rows = grid_rows(models=("a@jsrt#0", "b@jsrt#0"))
    some = sorted({r["case_id"] for r in rows})[:3]

    def met(shown):
        tables = build_tables(frame([r for r in rows if shown(r)]), depth="summary")
        is_best = best_points(tables.curves)
        lines = tables.summary[tables.summary["attack"].str.startswith("worst")]
        return [is_best(line, "8/255") for line in lines.to_dict("records")]

    assert sum(met(lambda r: True)) == 1
    few = met(lambda r: r["attack"] != "ifgsm" or r["case_id"] in some)
    assert sum(few) == 1  # both met less on the same cases
    other = {"a@jsrt#0": some[:2], "b@jsrt#0": some[1:]}
    assert not any(met(lambda r: r["attack"] != "ifgsm" or r["case_id"] in other[r["model"]]))


def test_the_best_worst_is_marked_whatever_else_one_of_the_networks_has_met(grid_rows, frame):
    rows = grid_rows(models=("a@jsrt#0", "b@jsrt#0"))

    def marked(rows):
        tables = build_tables(frame(rows), depth="summary")
        is_best, points = best_points(tables.curves), point_names(tables.summary)
        lines = tables.summary[tables.summary["attack"].str.startswith("worst")]
        assert len(lines) == 2
        return {(line["model"], p) for line in lines.to_dict("records") for p in points
                if is_best(line, p)}  # fmt: skip

    alike = marked(rows)
    assert {point for _, point in alike} == {"clean", "2/255", "8/255"}
    last = ("a@jsrt#0", "pgd", 8 / 255)
    further = [
        r | {"attack": "sea", "budget": 16 / 255, "jaccard": 0.0}
        for r in rows
        if (r["model"], r["attack"], r["budget"]) == last
    ]
    assert marked(rows + further) == alike
    stronger = [r | {"budget": 2 / 255} for r in further]  # from there on a has met more
    assert {point for _, point in marked(rows + stronger)} == {"clean"}


def test_lines_of_a_summary_are_grouped_by_what_they_must_have_in_common(row, frame):
    def curve(model, attack, cases, budgets, level):
        return [
            row(model=model, weights_sha256=model.encode().hex()[:2] * 32, attack=attack,
                case_id=case, group_id=case, budget=at / 255, jaccard=level)
            for case in cases
            for at in budgets
        ]  # fmt: skip

    rows = curve("a@jsrt", "pgd", "uvw", (2, 8), 0.8) + curve("b@jsrt", "pgd", "uvw", (2, 8), 0.4)
    rows += curve("c@jsrt", "pgd", "xyz", (2, 8), 0.9)  # as many cases, and others
    rows += curve("d@jsrt", "pgd", "uvw", (2,), 0.9) + curve("d@jsrt", "pgd", "uvwx", (8,), 0.9)
    rows += curve("e@jsrt", "pgd", "uvw", (8,), 0.2)
    tables = build_tables(frame(rows), depth="summary")
    groups = tables.summary.groupby(RIVALS)["model"].agg(list)
    assert sorted(groups) == [["a@jsrt", "b@jsrt", "e@jsrt"], ["c@jsrt"], ["d@jsrt"]]
    best = tables.summary.groupby(RIVALS)[point_names(tables.summary)].max()
    for line in tables.summary[tables.summary["model"] == "a@jsrt"].to_dict("records"):
        assert line["8/255"] == best.loc[tuple(line[name] for name in RIVALS), "8/255"]
    points = tables.curves.groupby([*RIVALS, "budget", "metric"])["model"].nunique()
    assert points.max() == 3  # a, b and d at 2/255, or a, b and e at 8/255


def test_junit_fails_the_curves_that_are_not_to_be_trusted(row, frame):
    rows = [row(), row(attack="fgsm", marks="stuck"), row(attack="sea", marks="other-data")]
    suite = ET.fromstring(junit.render(build_tables(frame(rows), depth="summary")))
    failed = {
        case.get("name") for case in suite.iter("testcase") if case.find("failure") is not None
    }
    assert "unet@jsrt#0 under fgsm" in failed
    assert "unet@jsrt#0 under sea" not in failed
    assert int(suite.get("failures")) == len(failed)


def test_evidence_claims_what_was_measured_and_says_what_was_not(tables, row, frame):
    text = evidence.render(tables)
    sections = re.findall(r"^## (\d) ", text, flags=re.MULTILINE)
    assert sections == ["1", "2", "3", "4", "5", "6", "7"]
    assert "at most eps (L∞), of the [0, 1] range: 2/255, 8/255." in text
    assert re.search(r"Not tested: .*corruptions", text)
    assert "No network was examined for gradient masking" in text
    for line in tables.headlines.to_dict("records"):
        assert f"{line['value']:.3f} [{line['low']:.3f}, {line['high']:.3f}]" in text
    for sha in tables.provenance["weights"].values():
        assert sha in text
    clean = {"attack": "clean", "attack_params": "{}", "budget_kind": "none", "budget": 0.0}
    assert "None: only clean images were scored." in evidence.render(
        build_tables(frame([row(**clean)]))
    )


def _threats(text):
    section = text[text.index("## 1 ") : text.index("## 2 ")]
    return re.findall(r"^- (.*)$", section, flags=re.MULTILINE), section.split("Not tested: ")[1]


def test_evidence_names_the_threat_that_was_met_and_no_other(row, frame):
    outside = row(attack="pgd:where=outside", attack_params='{"where": "outside"}')
    (met,), missing = _threats(evidence.render(build_tables(frame([outside]))))
    assert "every pixel by at most eps (L∞), of the [0, 1] range, only in pixels of the" in met
    assert met.endswith("(where=outside): 8/255.")
    assert "may change every pixel" in missing  # of the whole image nothing is known
    both, missing = _threats(evidence.render(build_tables(frame([outside, row(budget=1 / 255)]))))
    assert [line.rpartition(": ")[2] for line in both] == ["1/255.", "8/255."]
    assert "may change every pixel" not in missing
    searched = row(budget_kind="min-norm", budget=0.5, attack="dag", attack_params='{"norm": "l2"}')
    clean = row(attack="clean", attack_params="{}", budget_kind="none", budget=0.0)
    (met,), _ = _threats(evidence.render(build_tables(frame([clean, searched]))))
    assert met == (
        "an adversary who looks for the smallest change (L2), whatever it is, that brings a case's "
        "score below 0.5."
    )


def test_evidence_says_of_no_image_that_it_was_checked_to_lie_in_a_ball_that_it_was_not(row, frame):
    claim = "in double precision, to lie within its budget"
    rounded = row(attack="pgd:quantized=true", attack_params='{"quantized": true}', linf=20 / 255)
    corrupted = row(attack="blur", attack_params="{}", budget_kind="severity", budget=3.0)
    text = evidence.render(build_tables(frame([rounded, corrupted])))
    assert claim not in text
    assert "A severity is no ball" in text
    assert "section 6 names those outside" in text
    limits = text[text.index("## 6 ") : text.index("## 7 ")]
    assert "1 lie outside their budget, at up to 2.5 times it" in limits
    assert claim in evidence.render(build_tables(frame([row(), rounded])))


@pytest.fixture(scope="module")
def twice(grid_rows, frame):
    """The tables of the same rows, stored in another order."""
    rows = grid_rows(patients=4)
    again = frame(rows[::-1]).sort_values("case_id", kind="stable")
    return build_tables(frame(rows)), build_tables(again)


@pytest.mark.parametrize("name", FORMATS)
def test_the_same_rows_give_the_same_bytes(name, twice, tmp_path):
    write = load("reports", name).factory
    first, second = write(twice[0], tmp_path / "a"), write(twice[1], tmp_path / "b")
    for one, other in zip(first, second, strict=True):
        if one.name != "rows.csv":  # in the order of the store
            assert one.read_bytes() == other.read_bytes()


@pytest.mark.parametrize("name", HOSTILE)
def test_a_name_is_text_in_every_format(name, grid_rows, frame, tmp_path):
    tables = _hostile(name, grid_rows, frame)
    texts = {}
    for form in FORMATS:
        for path in load("reports", form).factory(tables, tmp_path / form):
            texts[path.name] = path.read_text(encoding="utf-8")
    for text in texts.values():
        assert not re.search("[\x00-\x08\x0b-\x1f\x7f\u202a-\u202e\u2066-\u2069]", text)
    assert ET.fromstring(texts["report.junit.xml"]).tag == "testsuite"
    json.loads(texts["report.json"])
    assert "<script>" not in texts["evidence.md"].replace("\\<script>", "")
    assert texts["leaderboard.html"].count("<script>") == 1
    for line in texts["leaderboard.csv"].splitlines():
        assert not line.startswith(("=", "+", "-", "@"))
    body = re.sub(r"\\[a-zA-Z]+\{\}|\\[&%$#_{}]", "", texts["tables.tex"])
    assert not re.search(r"(?<!\\)[#_^~]", re.sub(r"%.*", "", body, count=1))


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="needs LaTeX")
@pytest.mark.parametrize("names", ["plain", "hostile"])
def test_latex_typesets_and_fits_the_page(names, tables, grid_rows, frame, tmp_path):
    if names == "hostile":
        tables = _hostile('[red] <script> a|b back\\slash{} =cmd() 50%_&#$^~"', grid_rows, frame)
    (path,) = latex.write(tables, tmp_path)
    needed = path.read_text().splitlines()[0].removeprefix("% Needs ").replace(" and ", "")
    whole = (
        f"\\documentclass{{article}}{needed.removesuffix('.')}"
        f"\\begin{{document}}\\input{{{path}}}\\end{{document}}"
    )
    (tmp_path / "whole.tex").write_text(whole)
    command = ["pdflatex", "-halt-on-error", "-interaction=nonstopmode", "whole.tex"]
    done = subprocess.run(command, cwd=tmp_path, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-1500:]
    said = re.findall(r"Overfull .hbox \(([\d.]+)pt too wide\) in paragraph", done.stdout)
    assert all(float(width) < 1 for width in said), done.stdout[-1500:]


def test_figures_are_drawn_the_same_for_the_same_rows(tables, tmp_path):
    pytest.importorskip("matplotlib", reason="could not import 'matplotlib'")
    write = load("reports", "figures").factory
    first, second = write(tables, tmp_path / "a"), write(tables, tmp_path / "b")
    assert {path.suffix for path in first} == {".pdf", ".svg", ".png"}
    assert len(first) == 3 * 3  # of all networks, and of each
    for one, other in zip(first, second, strict=True):
        assert one.read_bytes() == other.read_bytes()
    svg = next(path for path in first if path.suffix == ".svg").read_text()
    assert "mean Jaccard</text>" in svg  # text stays text


def test_every_figure_has_a_file_of_its_own(grid_rows, frame, tmp_path):
    """Whatever networks are called: in other letters, at length, in capitals, as a figure is."""
    pytest.importorskip("matplotlib", reason="could not import 'matplotlib'")
    names = ("größe", "grüße", "unet", "UNet", "worst", "n" * 160 + "1", "n" * 160 + "2")
    tables = build_tables(frame(grid_rows(models=names, patients=2)))
    written = load("reports", "figures").factory(tables, tmp_path)
    assert len({str(path).casefold() for path in written}) == len(written) >= 3 * len(names)


def test_a_picture_that_no_attack_has_changed_says_so(tables, tmp_path):
    pytest.importorskip("matplotlib", reason="could not import 'matplotlib'")
    line = tables.summary.iloc[0]
    view, change = np.zeros((8, 8), np.uint8), np.zeros((8, 8), np.int8)
    views = ("clean", "adversarial", "label", "clean_labels", "adversarial_label",
             "adversarial_labels")  # fmt: skip
    plane = dict.fromkeys(views, view) | {"change": change}
    picture = Picture(
        str(line["model"]), str(line["dataset"]), str(line["split"]), "alma-prox", "threshold 0.5",
        "c", "g", "worst", [plane], 0.0, {},
    )  # fmt: skip
    write = load("reports", "figures").factory
    pictured = type(tables)(**{**vars(tables), "pictures": [picture]})
    [svg] = [p for p in write(pictured, tmp_path) if p.name.endswith("pictures.svg")]
    assert "no change" in svg.read_text()


def test_without_matplotlib_figures_say_how_to_get_it(tables, tmp_path, monkeypatch):
    from segbench.errors import UserError

    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(UserError, match=r"pip install 'segbench\[figures\]'"):
        load("reports", "figures").factory(tables, tmp_path)


def test_a_half_eps_that_is_never_reached_is_infinite(tables):
    assert math.isinf(tables.summary["half_eps"].iloc[0])
