"""The page: every number is there, nothing is loaded, no name is obeyed, bytes follow rows."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
from pandas import concat

from segbench.api import UNSCORED, Picture, plain
from segbench.plugins.naming import point_names
from segbench.tables.build import build_tables
from segbench_reports import page
from segbench_reports.page import counted, pictures, svg

HOSTILE = [
    "<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "a|b", "back\\slash", "=cmd()",
    "[red]", "\x1b[2J\x1b]0;title\x07", "\u202egnp.exe", "{{ 7 * 7 }}", "</style><b>", "'onload='x",
]  # fmt: skip


@pytest.fixture
def tables(grid_tables):
    return grid_tables


class _Page(HTMLParser):
    """What a browser would see: tags with their attributes, and the text."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.words = [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.words.append(data)


def _picture(**given):
    random = np.random.default_rng(0)
    image = random.integers(0, 256, (32, 32), dtype=np.uint8)
    mask = np.zeros((32, 32), np.uint8)
    mask[8:20, 8:20] = 1
    plane = {
        "clean": image, "adversarial": image, "label": mask, "clean_labels": mask,
        "adversarial_label": mask, "adversarial_labels": 1 - mask,
        "change": random.integers(-127, 128, (32, 32), np.int8),
    }  # fmt: skip
    facts = {
        "model": "unet@jsrt#0", "dataset": "jsrt", "split": "test", "attack": "pgd", "eps": "8/255",
        "case_id": "case-000", "group_id": "patient-000", "kind": "worst", "planes": [plane],
        "scale": 8 / 255, "facts": {"Jaccard": "0.95 to 0.12"},
    }  # fmt: skip
    return Picture(**(facts | given))


def test_every_score_of_the_summary_is_in_the_table(tables):
    text = "".join(_Page(page.render(tables)).words)
    for line in tables.summary.to_dict("records"):
        for name in point_names(tables.summary):
            shown = f"{line[name]:.3f} [{line[f'{name}_low']:.3f}, {line[f'{name}_high']:.3f}]"
            assert shown in text
    for note in tables.notes:
        assert note in text


def test_the_answer_names_the_network_that_keeps_most(tables):
    text = page.render(tables)
    lines = tables.headlines[tables.headlines["of"] == "linf"].sort_values("value")
    best = lines.iloc[-1]
    lead = re.search(r'<p class="lead">(.*?)</p>', text)[1]
    assert f"{best['model']} keeps most of 2 networks" in lead
    assert f"{best['value']:.3f} [{best['low']:.3f}, {best['high']:.3f}]" in lead


def test_nothing_is_loaded_and_only_this_style_and_script_may_run(tables):
    text = page.render(tables)
    for tag, attributes in _Page(text).tags:
        for name in ("src", "href", "srcset", "action", "data", "poster"):
            assert re.match(r"#|data:image/|$", attributes.get(name) or "")
        assert not [name for name in attributes if name.startswith("on") or name == "style"]
        assert tag not in {"link", "iframe", "object", "embed", "form", "base"}
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', text)[1].replace("&#39;", "'")
    assert policy.startswith("default-src 'none'; ")
    for tag in ("style", "script"):
        (inside,) = re.findall(rf"<{tag}>(.*?)</{tag}>", text, flags=re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(inside.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy


@pytest.fixture(scope="module")
def harmless(grid_tables):
    """The tags of a page of plain names."""
    return {tag for tag, _ in _Page(page.render(grid_tables)).tags}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_name_is_text_wherever_it_stands(name, harmless, frame, grid_rows):
    given = {"dataset": name, "class_name": name}
    rows = [
        r | given | {"attack": r["attack"] if r["attack"] == "clean" else name} for r in grid_rows()
    ]
    rows = [r | {"model": name + r["model"], "case_id": name + r["case_id"]} for r in rows]
    picture = _picture(model=name, case_id=name, group_id=name, facts={name: name})
    tables = build_tables(frame(rows))
    tables = type(tables)(
        **{**vars(tables), "pictures": [picture], "notes": [name], "warnings": [name]}
    )
    text = page.render(tables)
    seen = _Page(text)
    assert {tag for tag, _ in seen.tags} <= harmless | {"img", "strong", "dl", "dd", "dt"}
    assert plain(name) in "".join(seen.words)  # as it is, and not as what it would become
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f\u202a-\u202e\u2066-\u2069]", text)
    for _, attributes in seen.tags:
        assert not [key for key in attributes if key.startswith("on")]


def test_the_same_rows_give_the_same_bytes(grid_rows, frame, tmp_path):
    rows = grid_rows()
    first = page.write(build_tables(frame(rows)), tmp_path / "a")
    shuffled = frame(rows[::-1]).sort_values("case_id", kind="stable")
    second = page.write(build_tables(shuffled), tmp_path / "b")
    assert [path.name for path in first] == ["report.html"]
    assert first[0].read_bytes() == second[0].read_bytes()


def test_clean_rows_alone_and_a_single_case_have_a_page(row, frame):
    clean = {"attack": "clean", "attack_params": "{}", "budget_kind": "none", "budget": 0.0}
    assert "Clean: unet@jsrt#0 0.500." in page.render(build_tables(frame([row(**clean)])))
    assert "keeps this" in page.render(build_tables(frame([row()])))


def test_the_plain_worst_is_the_prominent_curve_and_confined_ones_are_faint_and_named(
    grid_rows, frame
):
    rows = grid_rows()
    inside = [
        r
        | {
            "attack_params": json.dumps(json.loads(r["attack_params"]) | {"where": "inside"}),
            "jaccard": 0.01,  # lower than all: it still is no rival
        }
        for r in rows
        if r["attack"] != "clean"
    ]
    tables = build_tables(frame([*rows, *inside]), depth="curves")
    for chart in page.parts.panels(tables, "jsrt", "test", set(tables.summary["model"])):
        weights = {line.name: line.weight for line in chart.lines}
        assert weights == {
            "ifgsm": "",
            "pgd": "",
            "worst of 2 attacks": "strong",
            "ifgsm:where=inside (confined: another threat)": "faint",
            "pgd:where=inside (confined: another threat)": "faint",
            "worst of 2 attacks, where=inside (confined: another threat)": "faint",
        }
        assert [line.name for line in chart.lines if line.band] == ["worst of 2 attacks"]
    (hero,) = page.parts.hero(tables, "jsrt", "test")
    assert min(point.y for line in hero.lines for point in line.points) < svg.upright(0.02)
    plain = build_tables(frame(rows), depth="curves")
    assert [*page.parts.hero(plain, "jsrt", "test")] == [hero]  # they do not count


@pytest.mark.parametrize(
    ("attacks", "confined", "strong"),
    [
        (["pgd"], [], {"pgd"}),
        (["pgd", "pgd in"], ["pgd in"], {"pgd"}),
        (["pgd", "pgd, closed"], [], {"pgd, closed"}),
        (["a", "b"], [], set()),
        (["a in", "worst of 2 attacks, where=inside"], ["a in", "worst of 2 attacks, where=inside"],
         set()),
    ],
)  # fmt: skip
def test_of_several_curves_the_worst_is_strong(attacks, confined, strong, tables):
    where = dict.fromkeys(confined, '{"where": "inside"}')
    point = tables.curves.query("metric == 'jaccard' and budget_kind == 'linf'").iloc[0]
    curves = [{**point, "attack": a, "attack_params": where.get(a, "{}")} for a in attacks]
    own = replace(tables, curves=type(tables.curves)(curves))
    found = counted.of_network(own, "jsrt", "test", "linf", point["model"])
    assert found.strong == strong
    assert found.faint == {f"{attack} (confined: another threat)" for attack in confined}


def test_attacks_of_one_name_are_two_lines_and_no_zigzag(tables):
    model = tables.summary["model"].iloc[0]
    whole = tables.curves.query("model == @model and budget_kind == 'linf' and attack == 'pgd'")
    twins = [whole.assign(attack_params=params) for params in ('{"steps": 1}', '{"steps": 2}')]
    own = replace(tables, curves=concat(twins))
    drawn = counted.of_network(own, "jsrt", "test", "linf", model).curves
    assert [*drawn] == ["pgd", "pgd (2)"]
    for values in drawn.values():
        budgets = [value.budget for value in values]
        assert budgets == sorted(set(budgets)) == [0, 2 / 255, 8 / 255]


def test_a_worst_of_either_norm_has_violins_of_its_own(grid_rows, frame):
    linf = grid_rows(models=("a@jsrt#0",))
    l2 = [r | {"budget_kind": "l2", "budget": 50 * r["budget"]} for r in linf if r["budget"]]
    l2 = [r | {"attack_params": '{"norm": "l2"}'} for r in l2]
    tables = build_tables(frame([*linf, *l2]))
    ((_, own),) = (
        (o["model"], o["rows"]) for o in page.parts.spreads(tables, "jsrt", "test", {"a@jsrt#0"})
    )
    points = {line["attack"]: [p["name"] for p in line["points"]] for line in own}
    assert points["worst of 2 attacks, L∞"] == ["2/255", "8/255"]
    assert len(points["worst of 2 attacks, L2"]) == 2
    assert "clean" in points


def test_what_diagnose_found_is_never_folded_and_passes_are_a_line_beneath(tables):
    given = {
        "findings": [f"finding {n}." for n in range(15)],
        "examined": ["passed: a, b."],
    }
    given["warnings"] = [*given["findings"], "weaker."]
    changed = type(tables)(**{**vars(tables), **given, "notes": [*tables.notes, "passed: a, b."]})
    text = page.render(changed)
    box = text[text.index('<section id="doubts"') : text.index('<section id="curves"')]
    before, folded = box.split("<details>")
    assert all(f"<li>{finding}</li>" in before for finding in given["findings"])
    assert "1 more, of less weight" in folded
    assert folded.index("weaker.") < folded.index("</details>") < folded.index("passed: a, b.")
    assert text.count("passed: a, b.") == 1
    alone = page.render(type(tables)(**{**vars(changed), "warnings": [], "findings": []}))
    assert 'id="doubts"' not in alone
    assert alone.count("passed: a, b.") == 1


def test_pictures_are_counted_and_capped(tables, monkeypatch):
    many = [_picture(case_id=f"c{n}", kind=("worst", "best")[n % 2]) for n in range(8)]
    shown, left_out = pictures.choose(many, 10**7)
    assert (len(shown), left_out) == (8, 0)
    assert [one.picture.case_id for one in shown] == [f"c{n}" for n in range(8)]
    size = sum(len(uri) for view in shown[0].views for uri in view)
    monkeypatch.setattr(page.room, "for_pictures", lambda data: 3 * size + 10)
    shown, left_out = pictures.choose(many, 3 * size + 10)
    assert left_out == 8 - len(shown) > 0
    assert {one.picture.kind for one in shown} == {"worst"}  # they come first
    with_pictures = type(tables)(**{**vars(tables), "pictures": many})
    text = page.render(with_pictures)
    assert text.count("data:image/webp") == 3 * len(shown)
    assert f"{left_out} more were kept" in text


def test_what_a_page_has_no_room_for_is_counted_and_the_best_are_drawn(
    grid_rows, frame, monkeypatch
):
    models = [f"net{n}@jsrt#0" for n in range(6)]
    tables = build_tables(frame(grid_rows(models=models, patients=4)))
    whole = page.render(tables)
    assert "than this page has room for" not in whole
    assert "Drawn are" not in whole
    for name, most in {"POINTS": 20, "LINES": 3, "CELLS": 40, "SENTENCES": 2, "RANKS": 4}.items():
        monkeypatch.setattr(page.room, name, most)
    small = page.render(tables)
    assert len(small) < len(whole) / 2
    assert "Drawn are the 2 of 6 networks that keep most" in small
    best = tables.headlines[tables.headlines["of"] == "linf"].nlargest(2, "value")["model"]
    titles = re.findall(r'id="curve-[\d-]+">(.*)<', small)
    drawn = {title.partition(",")[0] for title in titles}
    assert drawn == {*best}
    told = re.findall(r"<p>(\d+) more (\w+) than this page has room for", small)
    differences = int(tables.comparisons["main"].sum())
    assert (str(differences - 3), "lines") in told
    assert f"{differences} paired differences" in small  # the heading still counts all
    assert {what for _, what in told} == {"lines", "sentences"}


@pytest.mark.slow
def test_a_page_stays_under_five_megabytes_whatever_the_grid(grid_rows, frame):
    models = [f"a network with quite a long name, number {n}@jsrt#0" for n in range(120)]
    attacks = [f"an-attack-number-{n}" for n in range(12)]
    budgets = [n / 255 for n in range(1, 13)]
    rows = grid_rows(models=models, attacks=attacks, budgets=budgets, patients=3)
    tables = build_tables(frame(rows))
    many = [_picture(case_id=f"c{n}") for n in range(100)]
    text = page.render(type(tables)(**{**vars(tables), "pictures": many}))
    assert 1e6 < len(text.encode()) < 5e6


def test_outlines_and_changes_have_the_colours_that_are_explained():
    image = np.zeros((300, 300), np.uint8)
    mask = np.zeros((300, 300), np.uint8)
    mask[100:200, 100:200] = 1
    drawn = pictures.outlined(image, [(mask, (0, 158, 115))])
    assert drawn[100, 150].tolist() == [0, 158, 115]
    assert drawn[150, 150].tolist() == drawn[99, 150].tolist() == [0, 0, 0]
    red, white, blue = pictures.diverging(np.array([[127, 0, -127]], np.int8))[0].tolist()
    assert (red[0] > red[2], white, blue[2] > blue[0]) == (True, [247, 247, 247], True)


def test_no_outline_is_drawn_of_what_is_not_scored_nor_against_it():
    """By the page and the gallery of figures alike; of half a square three sides."""
    mask = np.zeros((300, 300), np.uint8)
    mask[100:200, 100:200] = 1
    mask[:, 150:] = UNSCORED
    drawn = pictures.outlined(np.zeros_like(mask), [(mask, (0, 158, 115))]).any(-1)
    assert drawn[100, 120]
    assert drawn[150, 100]
    assert not drawn[:, 150:].any()
    assert not drawn[101:199, 149].any()


def test_coordinates_are_those_of_the_values():
    values = [svg.Value(0, "clean", 1.0, 0.9, 1.0), svg.Value(8, "8/255", 0.0, 0.0, 0.1)]
    line = svg.draw("pgd", 9, values, 8, "strong")
    assert line.path == f"M{svg.LEFT} {svg.TOP}L{svg.WIDTH - svg.RIGHT} {svg.HEIGHT - svg.BOTTOM}"
    assert line.style == "c1 d1"
    assert line.points[1].said == "pgd, 8/255: 0.000 [0.000, 0.100]"
    assert line.band.endswith("Z")
    shape = svg.violin([0, 0, 4, 2], 34, 60)
    assert shape == "M17 0H25V15H33V30H17V60H17V30H1V15H9V0Z"  # the upper quarter is half as full
