"""The tables of scores on terminals of several widths and in a pipe, kept as text."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path
from statistics import NormalDist

import pytest
from rich.console import Console

from segbench.cli import summary
from segbench.cli.consoles import PlainConsole
from segbench.cli.plugin_page import written
from segbench.plugins import registry
from segbench.tables.build import build_tables

KEPT = Path(__file__).parent / "summaries"
LONG = "transferred"


@pytest.fixture
def tables(grid_rows, frame):
    rows = grid_rows(attacks=("ifgsm", "pgd", LONG), patients=6)
    rows += [
        r | {"attack": "corruption/blur", "attack_params": "{}", "budget_kind": "severity",
             "budget": float(level), "jaccard": r["jaccard"] - level / 10}
        for r in grid_rows(patients=6) if r["attack"] == "clean" for level in range(1, 6)
    ]  # fmt: skip
    for row in rows:
        if row["attack"] == LONG:
            row["attack"] = "a-long-name:of=an,attack=that,has=no,room=anywhere"
        if row["model"].startswith("unet") and row["attack"] == "pgd":
            row["marks"] = "batch-dependent"
    return build_tables(frame(rows))


def _shown(tables, monkeypatch, width, **how):
    file = io.StringIO()
    console = Console.__new__(PlainConsole)
    Console.__init__(
        console, file=file, width=width, markup=False, emoji=False, highlight=False, **how
    )
    monkeypatch.setattr(summary, "console", console)
    summary.show_summary(tables)
    return file.getvalue()


@pytest.mark.parametrize("width", [60, 80, 120])
def test_the_text_is_the_one_that_is_kept(tables, monkeypatch, width, request):
    text = _shown(tables, monkeypatch, width)
    kept = KEPT / f"{width}.txt"
    assert text == kept.read_text(encoding="utf-8"), f"look at it, then keep it in {kept}"


def test_a_bullet_stays_with_its_sentence_and_certificates_fit_60_columns(row, frame, monkeypatch):
    assert summary.wrapped(f"• {'x' * 70} and more", 60)[0] == f"• {'x' * 70}"
    smoothed = {"budget_kind": "certified", "attack": "smoothing", "smoothed_jaccard": 0.9,
                "abstained": 0.1, "abstained_inside": 0.1, "coarse": 0.0}  # fmt: skip
    settings = {"alpha": 0.001, "correction": "holm", "n": 200, "n0": 10, "sigma": 0.25}
    params = json.dumps(settings | {"hierarchy": ""})
    clean = row(attack="clean", attack_params="{}", budget_kind="none", budget=0.0)
    rows = [clean, row(**smoothed, attack_params=params, budget=0.25 * NormalDist().inv_cdf(0.75))]
    text = _shown(build_tables(frame(rows)), monkeypatch, 60)
    block = text[text.index("Certified on") :].split("\n\n")[0].splitlines()[1:]
    assert max(map(len, block)) <= 60


def test_a_pipe_gets_what_a_terminal_gets_but_for_its_colours(tables, monkeypatch):
    terminal = _shown(
        tables, monkeypatch, 80, force_terminal=True, color_system="standard", legacy_windows=False
    )
    assert "\x1b[1m" in terminal
    plain = re.sub("\x1b\\[[0-9;]*m", "", terminal)
    assert plain == _shown(tables, monkeypatch, 80)


def test_no_word_is_broken_and_only_long_words_are_wider_than_the_screen(tables, monkeypatch):
    for width in (40, 60, 80):
        for line in _shown(tables, monkeypatch, width).splitlines():
            assert len(line) <= width or len(line.strip().split()) <= 2
    words = {word for note in tables.notes for word in note.split()}
    assert words <= set(_shown(tables, monkeypatch, 40).split())


def test_a_spark_line_is_as_high_as_the_scores():
    assert summary.spark([1.0, 0.5, 0.0, float("nan"), 0.13]) == "█▅▁ ▂"


def test_one_plug_in_is_shown_whole_with_defaults_as_people_write_them(segbench):
    text = segbench("list", "attacks", "pgd").output
    assert "projected gradient ascent from random starts (Madry et al., ICLR 2018" in text
    assert "steps = 40   (a whole number)" in text
    assert "restarts" in text
    assert "segbench attack -a pgd:" in text
    assert "first = 1.0   (a number)\n      see schedule." in text  # told with another key
    assert "what is ascended" in text  # of loss, whose field is loss_
    assert segbench("list", "attacks", "pdg").exit_code == 2
    assert segbench("list", "runs", "pgd").exit_code == 2


@pytest.mark.parametrize("kind", ["models", "attacks", "datasets", "reports"])
def test_every_plug_in_has_a_page(segbench, kind):
    for name in registry.names(kind):
        text = segbench("list", kind, name).output
        assert name in text
        assert not re.search(r"\d\.\d{12,}", text)


@pytest.mark.parametrize(
    ("default", "text"), [(1 / 510, "1/510"), (8 / 255, "8/255"), (0.05, "0.05"), (None, "none")]
)
def test_a_default_is_written_as_people_do(default, text):
    assert written(default) == text


@pytest.mark.parametrize(
    ("attack", "confined", "example"),
    [
        ("pgd", True, "segbench attack -a pgd:steps=40 --eps 4/255"),
        ("patch", True, "segbench attack -a patch:epochs=20"),
        ("worst", False, "segbench attack -a worst:attack=..."),
        ("frequency", False, "segbench attack -a frequency:steps=40 --eps 4/255"),
    ],
)
def test_an_attacks_page_says_whether_it_can_be_confined_and_how_it_is_run(
    segbench, attack, confined, example
):
    text = segbench("list", "attacks", attack).output
    assert ("where = none   (inside, outside, border:R or mask:FOLDER)" in text) == confined
    assert text.rstrip().endswith(example)
