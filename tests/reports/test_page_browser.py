"""The page in a real browser: sort, filter, hover, keyboard, schemes, widths, and axe-core."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from segbench.tables.build import build_tables
from segbench_reports import page

playwright = pytest.importorskip("playwright.sync_api", reason="needs Playwright and Chromium")
axe_core = pytest.importorskip("axe_core_python", reason="needs Playwright and Chromium")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs Playwright and Chromium")


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as running:
        found = running.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield found
        found.close()


@pytest.fixture(scope="module")
def address(grid_rows, frame, tmp_path_factory):
    long = "ifgsm:" + "a_very_long_name_without_any_break" * 3
    rows = [r | {"attack": long if r["attack"] == "ifgsm" else r["attack"]} for r in grid_rows()]
    (path,) = page.write(build_tables(frame(rows)), tmp_path_factory.mktemp("page"))
    return path.as_uri()


@pytest.fixture
def opened(browser, address):
    """The page, with whatever it says on the console or asks of the network."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    tab, said = context.new_page(), []
    tab.on("console", lambda message: said.append(message.text))
    tab.on("pageerror", lambda error: said.append(str(error)))
    tab.on("request", lambda request: request.url.startswith("file:") or said.append(request.url))
    tab.goto(address)
    yield tab
    context.close()
    assert said == []


def test_a_click_sorts_by_the_number_and_another_turns_it_round(opened):
    table = opened.locator("table.sortable").first
    column = table.locator("thead th").all_inner_texts().index("8/255")
    head = table.locator("thead th").nth(column)
    for order, reverse in (("descending", True), ("ascending", False)):
        head.locator("button").click()
        assert head.get_attribute("aria-sort") == order
        cells = table.locator(f"tbody tr td:nth-child({column + 1})").all()
        values = [float(cell.get_attribute("data-sort")) for cell in cells]
        assert values == sorted(values, reverse=reverse)


def test_the_filter_leaves_the_rows_it_names_and_copies_them(opened):
    part = opened.locator(".scores").first
    part.locator(".filter").fill("unet worst")
    assert part.locator("tbody tr:visible").count() == 1
    assert "1 of 6 rows" in part.locator(".said").inner_text()
    part.locator("button.copy[data-as=csv]").click()
    lines = opened.evaluate("document.querySelector('.scores').dataset.copied").splitlines()
    assert len(lines) == 2
    assert lines[0].startswith("network,attack,clean,2/255,8/255,AUC")
    part.locator("button.copy[data-as=latex]").click()
    latex = opened.evaluate("document.querySelector('.scores').dataset.copied")
    assert "unet@jsrt\\#0 & worst of 2 attacks" in latex
    assert latex.startswith("\\begin{tabular}")


def test_a_point_says_its_value_to_mouse_and_keyboard(opened):
    points = opened.locator("#answer .curve").first.locator("circle")
    tip = opened.locator("#tip")
    points.nth(1).hover()
    assert tip.inner_text() == points.nth(1).locator("title").text_content()
    points.nth(0).focus()
    opened.keyboard.press("ArrowRight")
    opened.keyboard.press("ArrowRight")
    assert "8/255" in tip.inner_text()
    opened.keyboard.press("Escape")
    assert tip.is_hidden()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_axe_finds_nothing_and_nothing_is_wider_than_the_page(browser, address, scheme, width):
    context = browser.new_context(
        viewport={"width": width, "height": 900}, color_scheme=scheme, bypass_csp=True
    )
    tab = context.new_page()
    tab.goto(address)
    tab.evaluate("document.querySelectorAll('details').forEach(part => { part.open = true })")
    tab.evaluate((Path(axe_core.__file__).parent / "axe.min.js").read_text(encoding="utf-8"))
    found = tab.evaluate("axe.run()")["violations"]
    assert [(one["id"], one["nodes"][0]["html"][:200]) for one in found] == []
    assert tab.evaluate("document.documentElement.scrollWidth") <= width
    context.close()


def test_without_its_script_every_table_is_there(browser, address):
    context = browser.new_context(java_script_enabled=False)
    tab = context.new_page()
    tab.goto(address)
    assert tab.locator(".scores tbody tr").count() == 6
    assert tab.locator(".tools").first.is_hidden()
    context.close()
