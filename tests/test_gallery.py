"""The gallery of twins in a real browser: every picture is there, at 100 % zoom, and nothing is loaded."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.browser import MISSING, has_browser, open_browser
from tests.part_images import paint_board, paint_surface, write_images
from tools.gallery import CROP_PX, choose_crop

pytestmark = [pytest.mark.browser, pytest.mark.skipif(not has_browser(), reason=MISSING)]

PICTURES = """
return [...document.images].map(i => {
  const shown = i.getBoundingClientRect();
  return [i.naturalWidth, i.naturalHeight, Math.round(shown.width), Math.round(shown.height), i.alt.length]; });
"""
ROWS = """
return [...document.querySelectorAll('.row')]
  .map(row => [...row.querySelectorAll('figcaption')].map(caption => caption.textContent));
"""


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The gallery of a set with a pose and of one without."""
    folder = tmp_path_factory.mktemp("gallery")
    for name, paint in (("boards", paint_board), ("metal", paint_surface)):
        root = folder / "sets" / name
        write_images(root / "train" / "good", [paint(seed) for seed in range(10)])
        write_images(root / "test" / "good", [paint(seed) for seed in range(50, 53)])
        write_images(root / "test" / "flaw", [paint(seed, defect=True) for seed in range(70, 73)])
    command = [sys.executable, "-m", "tools.gallery", str(folder / "sets"), str(folder / "out"), "--threads", "1"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=170)
    assert done.stdout.strip().endswith("gallery.html")
    return folder / "out" / "gallery.html"


def test_every_picture_is_shown_at_100_percent(page: Path) -> None:
    """No picture is broken, scaled or without a description, also in a narrow window; nothing is asked for."""
    with open_browser() as browser:
        browser.requested()
        browser.complaints()
        for width_px in (1600, 500):
            browser.show(page, width_px)
            pictures = browser.run(PICTURES)
            assert len(pictures) > 60
            for wide, high, shown_wide, shown_high, words in pictures:
                assert 0 < wide == shown_wide <= CROP_PX and 0 < high == shown_high <= CROP_PX and words > 8
            assert browser.run("return document.documentElement.scrollWidth <= window.innerWidth")
        assert browser.complaints() == []
        assert set(browser.requested()) == {page.resolve().as_uri()}
        rows = browser.run(ROWS)
    assert 20 <= len(rows) < 60
    for row in rows:
        names = " ".join(row)
        assert row[0].startswith("original") and row[1].startswith("mask") and row[-1].startswith("difference")
        assert "telea" in names and "ours" in names
        assert re.search(r"\d dB, SSIM \d|score \d+\.\d\d → \d", names)
    assert sum("paste" in " ".join(row) for row in rows) >= 10


def test_the_worst_rows_are_marked_and_the_rule_is_told(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert text.count('class="row worst"') == 2 * 2
    assert "none by hand" in text and "drawn at random" in text
    assert "nearest: a surface without a pose has no nearest good image" in text


def test_a_crop_shows_the_surroundings_and_stays_inside() -> None:
    """A small box gets a margin, one at the corner is not cut off, one larger than the crop shows its middle."""
    assert choose_crop((100, 100, 120, 110), 500, 400) == (76, 76, 144, 134)
    assert choose_crop((0, 0, 20, 20), 500, 400) == (0, 0, 68, 68)
    x0, y0, x1, y1 = choose_crop((100, 50, 900, 700), 1000, 800)
    assert (x1 - x0, y1 - y0) == (CROP_PX, CROP_PX) and (x0 + x1) // 2 == 500
