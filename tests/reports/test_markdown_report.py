"""The Markdown report: every stored number is there, the table is one, and bytes follow rows."""

from __future__ import annotations

import math
import re

import pytest

from segbench.errors import MachineError
from segbench.tables.build import build_tables
from segbench_reports import markdown


@pytest.fixture
def tables(grid_tables):
    return grid_tables


def _grids(text):
    """Every table of the text as lists of stripped cells."""
    blocks = re.findall(r"(?:^\|.*\|$\n?)+", text, flags=re.MULTILINE)
    split = re.compile(r"(?<!\\)\|")
    return [
        [[cell.strip() for cell in split.split(line)[1:-1]] for line in block.splitlines()]
        for block in blocks
    ]


def test_the_table_says_what_the_summary_says(tables):
    heads, rule, *lines = _grids(markdown.render(tables))[0]
    assert heads[:5] == ["Model", "Attack", "clean", "2/255", "8/255"]
    assert heads[5:] == ["Drop at largest eps", "AUC", "Cases"]
    assert all(re.fullmatch(r"-{2,}:?", cell) for cell in rule)
    for line, row in zip(lines, tables.summary.to_dict("records"), strict=True):
        assert line[:2] == [row["model"], row["attack"]]
        assert line[3] == f"{row['2/255']:.3f} [{row['2/255_low']:.3f}, {row['2/255_high']:.3f}]"
        assert line[5] == f"{row['relative_drop']:.1%}"
        assert line[6] == f"{row['auc']:.3f}"
        assert line[7] == "24 in 12 groups"


def test_columns_line_up_in_plain_text(tables):
    for block in re.findall(r"(?:^\|.*\|$\n?)+", markdown.render(tables), flags=re.MULTILINE):
        assert len({len(line) for line in block.splitlines()}) == 1


def test_the_same_rows_give_the_same_bytes(tables, grid_rows, frame, tmp_path):
    rows = grid_rows()
    again = build_tables(frame(rows[::-1]).sort_values("case_id", kind="stable"))
    first = markdown.write(tables, tmp_path / "a")
    second = markdown.write(again, tmp_path / "b")
    assert [path.name for path in first] == ["report.md"]
    assert first[0].read_bytes() == second[0].read_bytes()


def test_notes_attacks_and_provenance_are_complete(tables):
    text = markdown.render(tables)
    for note in tables.notes:
        assert f"- {note}" in text
    assert "- **pgd**: steps = 40" in text
    for identity in ("01" * 6, "02" * 6, "cd" * 6):
        assert f"`{identity}`" in text


def test_names_cannot_break_the_table(row, frame):
    rows = [row(model="a|b<i>*", attack="f|g")]
    heads, _, line = _grids(markdown.render(build_tables(frame(rows))))[0]
    assert len(line) == len(heads)
    assert line[:2] == [r"a\|b\<i>\*", r"f\|g"]


def test_what_is_not_known_is_a_dash_and_not_nan(row, frame):
    text = markdown.render(build_tables(frame([row(jaccard=0.25)])))
    heads, _, line = _grids(text)[0]
    assert dict(zip(heads, line, strict=True)) == {
        "Model": "unet@jsrt#0",
        "Attack": "pgd",
        "8/255": "0.250",
        "Drop at largest eps": "-",
        "AUC": "-",
        "Cases": "1",
    }
    assert not re.search(r"\bnan\b", text)


def test_marks_have_a_column_where_there_are_any(tables, row, frame):
    assert "Marks" not in markdown.render(tables)
    marked = build_tables(frame([row(marks="batch-dependent random-network")]))
    heads, _, line = _grids(markdown.render(marked))[0]
    assert dict(zip(heads, line, strict=True))["Marks"] == "batch-dependent random-network"


def test_two_networks_on_the_same_cases_are_compared_pair_by_pair(tables):
    text = markdown.render(tables)
    grid = _grids(text[text.index("## Paired differences") :])[0]  # the next is of clean images
    assert grid[0] == ["Model", "Against", "Attack", "2/255", "8/255", "Cases"]
    lines = tables.comparisons.set_index(["attack", "eps"])
    for line in grid[2:]:
        for eps, cell in zip(("2/255", "8/255"), line[3:5], strict=True):
            point = lines.loc[(line[2], eps)]
            assert line[:2] == [point["model"], point["against"]]
            assert cell.strip("*").split()[0] == f"{point['difference']:+.3f}"
            assert cell.startswith("**") == (point["p_holm"] <= 0.05)


def test_several_seeds_have_a_table_of_their_spread(grid_rows, frame):
    seeds = [f"unet@jsrt#{n}" for n in range(3)]
    tables = build_tables(frame(grid_rows(models=seeds, patients=3)))
    text = markdown.render(tables)
    assert "## Paired differences" not in text
    grid = _grids(text[text.index("## Over training seeds") :])[0]
    point = tables.seeds[(tables.seeds["metric"] == "jaccard") & (tables.seeds["eps"] == "8/255")]
    first = point[point["attack"] == grid[2][1]].iloc[0]
    cell = grid[2][grid[0].index("8/255")]
    assert cell == (
        f"{first['mean']:.3f} ± {first['std']:.3f} [{first['min']:.3f}, {first['max']:.3f}]"
    )
    assert {line[-1] for line in grid[2:]} == {"3"}


def test_every_data_set_and_kind_of_budget_has_its_own_table(row, frame):
    rows = [
        row(),
        row(budget_kind="l2", budget=1.0),
        row(dataset="isic2016", dataset_fingerprint="ef" * 32),
    ]
    text = markdown.render(build_tables(frame(rows)))
    assert text.index("## isic2016, test split") < text.index("## jsrt, test split")
    assert [grid[0][2] for grid in _grids(text)[:3]] == ["8/255", "8/255", "1"]


def test_corruptions_have_a_table_by_severity(row, frame):
    blur = {"attack": "corruption/blur", "budget_kind": "severity"}
    text = markdown.render(build_tables(frame([row(), row(**blur, budget=1.0)])))
    eps, severity = _grids(text)[:2]
    assert eps[0][2:4] == ["8/255", "Drop at largest eps"]
    assert severity[0][2:4] == ["severity 1", "Drop at largest severity"]
    assert "Mean Jaccard by severity of a corruption, 1 to 5" in text


def test_patches_have_a_table_by_area(row, frame):
    patch = row(attack="patch", budget_kind="area", budget=0.05)
    (grid,) = _grids(markdown.render(build_tables(frame([patch]))))[:1]
    assert grid[0][2:4] == ["0.05", "Drop at largest area"]


def test_a_folder_that_cannot_be_written_is_a_machine_error(tables, tmp_path):
    (tmp_path / "reports").write_text("in the way")
    with pytest.raises(MachineError, match=r"cannot write .*report\.md"):
        markdown.write(tables, tmp_path / "reports")


def test_an_attack_that_hurts_shows_a_falling_line(tables):
    _, _, *lines = _grids(markdown.render(tables))[0]
    for line in lines:
        heights = [float(cell.split()[0]) for cell in line[2:5]]
        assert heights == sorted(heights, reverse=True)
        assert not any(math.isnan(height) for height in heights)
