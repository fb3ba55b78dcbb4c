"""The report in a real browser: nothing overflows, nothing is loaded, everything can be read."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from inspector.images import encode_jpeg
from inspector.records import Purpose, RecipeRef
from pipelines.report import write_report
from reports.pictures import shrink
from tests.browser import MISSING, Browser, has_browser, open_browser
from tests.report_line import (
    BOX,
    NG,
    NOT_INSPECTED,
    OK,
    REVIEW,
    START_US,
    US_PER_S,
    RecordedLine,
    open_line,
    part_picture,
    plant,
)

pytestmark = [pytest.mark.browser, pytest.mark.skipif(not has_browser(), reason=MISSING)]

WIDTHS_PX = (360, 700, 780, 1280)
PAPER_PX = 703

OVERFLOWING = """
const wide = document.documentElement.clientWidth;
return [...document.querySelectorAll('body *')]
  .filter(e => e.checkVisibility() && !e.closest('.unseen, thead, svg'))
  .filter(e => e.getBoundingClientRect().right > wide + 1 || e.scrollWidth > e.clientWidth + 1 && e.clientWidth > 0
               && getComputedStyle(e).display !== 'inline')
  .map(e => e.tagName + '.' + e.className + ': ' + e.textContent.trim().slice(0, 40));
"""

LOW_CONTRAST = """
const parse = c => (c.match(/[\\d.]+/g) || []).map(Number);
const light = ([r, g, b]) => {
  const f = v => { v /= 255; return v <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4; };
  return .2126 * f(r) + .7152 * f(g) + .0722 * f(b); };
const behind = e => { for (; e; e = e.parentElement) { const c = parse(getComputedStyle(e).backgroundColor);
  if (c.length === 3 || c[3] === 1) return c; } return [255, 255, 255]; };
const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT), bad = new Set();
while (texts.nextNode()) {
  const e = texts.currentNode.parentElement;
  if (!texts.currentNode.data.trim() || !e.checkVisibility() || e.closest('title, desc')) continue;
  const style = getComputedStyle(e), ink = parse(e.closest('svg') ? style.fill : style.color);
  const [a, b] = [light(ink), light(behind(e))].sort((x, y) => y - x), ratio = (a + .05) / (b + .05);
  if (ratio < 4.5) bad.add(ratio.toFixed(2) + ' ' + e.className + ': ' + texts.currentNode.data.trim().slice(0, 30));
}
return [...bad];
"""

SMALL_TEXT = """
const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT), bad = [];
while (texts.nextNode()) {
  const e = texts.currentNode.parentElement;
  if (!texts.currentNode.data.trim() || !e.checkVisibility() || e.closest('title, desc, .unseen, thead')) continue;
  const svg = e.closest('svg'), scale = svg ? svg.getBoundingClientRect().width / svg.viewBox.baseVal.width : 1;
  if (parseFloat(getComputedStyle(e).fontSize) * scale < 11) bad.push(texts.currentNode.data.trim());
}
return bad;
"""

TABLE_SUMS = """
return [...document.querySelectorAll('#where .panel')].slice(0, 2).map(panel => {
  const rows = [...panel.querySelectorAll('tbody tr')].map(row => [...row.querySelectorAll('td')]
    .map(cell => Number(cell.textContent.replaceAll(',', ''))));
  return { parts: rows.slice(0, -1), total: rows.at(-1) };
});
"""


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report with one of everything, and with part ids that are long or hostile."""
    folder = tmp_path_factory.mktemp("report")
    line = open_line(folder / "data")
    second = RecordedLine(line.db, station="plant/line1/station-with-the-longest-allowed")
    thumbnail, visual = shrink(part_picture(1)).content or b"", encode_jpeg(part_picture(1))
    odd_ids = ("W" * 400, "<img src=x onerror=alert(1)>", "部品-№7-ünï", None)
    for number in range(40):
        kind = (OK, OK, OK, NG, OK, REVIEW, OK, NOT_INSPECTED)[number % 8]
        made = {"names": ("scratch", "bent lead"), "recipe": RecipeRef("board", 1 + number // 20, "ab" * 32)}
        part = line.part(kind, lot="L" * 60 if number == 3 else "L1", inspect=made)
        if kind is NG:
            line.show(part, thumbnail, visual)
    for part_id in odd_ids:
        line.part(NG, part_id=part_id, inspect={"score": 5.0, "reasons": ("z" * 300, "<b>bold</b>")})
    truth = {"defective": True, "defects": [{"kind": "scratch", "box_xyxy_px": list(BOX)}]}
    for kind, frame in ((NG, None), (OK, None), (OK, part_picture(3))):
        line.part(kind, purpose=Purpose.SIMULATED, inspect={"truth": truth, "keep_frame": frame})
    line.accept()
    second.part(NOT_INSPECTED, inspect={"reasons": ("a_reason_without_any_space_" * 6,)})
    for sample in range(30):
        line.camera_sample(START_US + sample * 10 * US_PER_S, connected=sample != 9, reason="no route" * 20)
    line.db.close()
    return write_report(plant(), folder / "data", folder / "report.html").path


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with open_browser() as opened:
        yield opened


def open_details(browser: Browser) -> None:
    browser.run("document.querySelectorAll('details').forEach(d => d.open = true)")


@pytest.mark.parametrize("width_px", WIDTHS_PX)
def test_nothing_leaves_the_page(browser: Browser, page: Path, width_px: int) -> None:
    """From a small phone to a desk: no horizontal scrolling, and no element wider than its place."""
    browser.show(page, width_px)
    open_details(browser)
    assert browser.run("return document.documentElement.scrollWidth") <= width_px
    assert browser.run(OVERFLOWING) == []


def test_every_picture_is_shown_and_nothing_is_requested(browser: Browser, page: Path) -> None:
    """All pictures are inside the file; the page itself is the only address; the console stays silent."""
    browser.requested()
    browser.complaints()
    browser.show(page, 1280)
    open_details(browser)
    pictures: list[Any] = browser.run("return [...document.images].map(i => [i.naturalWidth, i.clientWidth])")
    assert len(pictures) == 5 + 1
    assert all(natural > 100 and shown > 100 for natural, shown in pictures)
    assert set(browser.requested()) == {page.as_uri()}
    assert browser.complaints() == []


def test_hostile_part_ids_are_shown_and_do_nothing(browser: Browser, page: Path) -> None:
    """Markup in a part id is read as text; no element and no handler comes of it."""
    browser.show(page, 1280)
    titles = browser.run("return [...document.querySelectorAll('.part h3')].map(e => e.innerText)")
    assert "<img src=x onerror=alert(1)>" in titles
    assert "部品-№7-ünï" in titles
    assert browser.run("return document.querySelectorAll('script, [onerror], img[src=x]').length") == 0


def test_the_totals_of_the_page_add_up(browser: Browser, page: Path) -> None:
    """The sum, and the columns and rows of both tables, as a reader would check them."""
    browser.show(page, 1280)
    triggers = int(browser.run("return document.querySelector('#sum-triggers').value"))
    terms = browser.run("return [...document.querySelectorAll('.sum-term')].map(e => Number(e.value))")
    assert triggers == sum(terms) == 49
    for table in browser.run(TABLE_SUMS):
        assert [sum(column) for column in zip(*table["parts"], strict=True)] == table["total"]
        assert all(sum(row[:-1]) == row[-1] for row in [*table["parts"], table["total"]])
        assert table["total"][-1] == triggers


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_all_text_has_contrast(browser: Browser, page: Path, dark: bool) -> None:
    """At least 4.5:1 for every text against what is behind it, by day and by night."""
    browser.prefer(dark=dark)
    browser.show(page, 1280)
    open_details(browser)
    found = browser.run(LOW_CONTRAST)
    browser.prefer()
    assert found == []


def test_text_can_be_read_on_a_phone(browser: Browser, page: Path) -> None:
    """No text below 11 px at 360 px width, those of the charts as they are scaled."""
    browser.show(page, 360)
    open_details(browser)
    assert browser.run(SMALL_TEXT) == []


def test_the_first_screen_has_what_matters(browser: Browser, page: Path) -> None:
    """On a desk and on a phone the sentence and the yield are there without scrolling, on a desk the sum too."""
    for width_px, selectors in ((1280, ("#summary", "#headline", "#sum")), (390, ("#summary", "#headline .figure"))):
        browser.show(page, width_px, 844)
        for selector in selectors:
            bottom = browser.run(f"return document.querySelector('{selector}').getBoundingClientRect().bottom")
            assert bottom <= 844, (width_px, selector)


def test_what_is_folded_is_printed(browser: Browser, page: Path) -> None:
    """Paper cannot be unfolded nor scrolled: the figures behind the chart are printed and fit, links are left out."""
    browser.show(page, PAPER_PX)
    browser.prefer(media="print")
    width = browser.run("return document.documentElement.scrollWidth")
    heights = browser.run("return [...document.querySelectorAll('details .table')].map(e => e.offsetHeight)")
    hidden = browser.run("return getComputedStyle(document.querySelector('nav.contents')).display")
    browser.prefer()
    assert width <= PAPER_PX
    assert heights and min(heights) > 40
    assert hidden == "none"
