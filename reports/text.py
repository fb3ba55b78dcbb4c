"""Any Unicode text as something that can be measured and painted: never an empty box, never a hidden control.

Characters that no shipped font has, and characters that are invisible or turn the reading direction, are
shown as their code point, such as `<U+1F680>`. What is too long is shortened in the middle, because both
ends of a part id matter.
"""

from __future__ import annotations

import math
import unicodedata

from PIL import Image, ImageDraw

from reports.text_fonts import Face, FontSet, TextRun

ELLIPSIS = "…"
ASCENT = 1.06
DESCENT = 0.30
MAX_CHARACTERS = 400
HIDDEN_CATEGORIES = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
BLANK_LETTERS = frozenset("\u115f\u1160\u3164\uffa0\u2800")

Colour = tuple[int, int, int]
"""Red, green, blue, 0..255."""


def line_height_px(size_px: int) -> int:
    """Height of one line of text."""
    return baseline_px(size_px) + math.ceil(DESCENT * size_px)


def baseline_px(size_px: int) -> int:
    """Distance from the top of a line to its baseline."""
    return math.ceil(ASCENT * size_px)


def split_clusters(text: str, fonts: FontSet, bold: bool = False) -> list[str]:
    """What is shown for a text, in pieces that must not be torn: a letter with its accents, or one code point."""
    clusters: list[str] = []
    for character in text[:MAX_CHARACTERS]:
        shown = _show_character(character, fonts, bold)
        if shown != character or not unicodedata.category(character).startswith("M"):
            clusters.append(shown)
        elif clusters and not clusters[-1].endswith(">"):
            clusters[-1] += shown
        else:
            # An accent with no letter to sit on would be painted over its neighbour.
            clusters.append(f"<U+{ord(character):04X}>")
    if len(text) > MAX_CHARACTERS:
        clusters.append(ELLIPSIS)
    return clusters


def make_visible(text: str, fonts: FontSet, bold: bool = False) -> str:
    """The text with everything that could not be seen replaced by its code point."""
    return "".join(split_clusters(text, fonts, bold))


def _show_character(character: str, fonts: FontSet, bold: bool) -> str:
    hidden = unicodedata.category(character) in HIDDEN_CATEGORIES or character in BLANK_LETTERS
    if hidden or fonts.choose_face(character, bold) is None:
        return f"<U+{ord(character):04X}>"
    return character


def split_runs(text: str, fonts: FontSet, bold: bool = False) -> list[TextRun]:
    """Visible text as runs of one face each; accents stay with their letter where its font has them."""
    runs: list[TextRun] = []
    for character in text:
        face = fonts.choose_face(character, bold)
        if face is None:
            raise ValueError(f"U+{ord(character):04X} has no glyph; pass the text through make_visible first")
        if runs and face is not Face.FALLBACK and unicodedata.category(character).startswith("M"):
            face = runs[-1].face if runs[-1].face is not Face.FALLBACK else face
        if runs and runs[-1].face == face:
            runs[-1] = TextRun(runs[-1].text + character, face)
        else:
            runs.append(TextRun(character, face))
    return runs if fonts.shapes_scripts else [TextRun(_reverse_rtl(run.text), run.face) for run in runs]


def measure_px(text: str, size_px: int, fonts: FontSet, bold: bool = False) -> int:
    """Width of visible text on one line, in whole pixels."""
    return math.ceil(sum(_advance_px(run, size_px, fonts) for run in split_runs(text, fonts, bold)))


def shorten_middle(text: str, max_width_px: int, size_px: int, fonts: FontSet, bold: bool = False) -> str:
    """Visible text no wider than `max_width_px`: whole, or with an ellipsis in the middle, or empty."""
    clusters = split_clusters(text, fonts, bold)
    whole = "".join(clusters)
    if measure_px(whole, size_px, fonts, bold) <= max_width_px:
        return whole
    low, high, best = 0, len(clusters) - 1, ""
    while low <= high:
        kept = (low + high) // 2
        head, tail = (kept + 1) // 2, kept // 2
        shown = "".join(clusters[:head]) + ELLIPSIS + "".join(clusters[len(clusters) - tail :])
        if measure_px(shown, size_px, fonts, bold) <= max_width_px:
            best, low = shown, kept + 1
        else:
            high = kept - 1
    return best


def wrap_text(
    text: str, max_width_px: int, max_lines: int, size_px: int, fonts: FontSet, bold: bool = False
) -> list[str]:
    """Break at spaces into at most `max_lines` lines; the last one is shortened when the rest does not fit."""
    words = make_visible(text, fonts, bold).split(" ")
    lines: list[str] = []
    while words and len(lines) < max_lines - 1:
        taken = 1
        while taken < len(words) and measure_px(" ".join(words[: taken + 1]), size_px, fonts, bold) <= max_width_px:
            taken += 1
        lines.append(shorten_middle(" ".join(words[:taken]), max_width_px, size_px, fonts, bold))
        words = words[taken:]
    if words:
        lines.append(shorten_middle(" ".join(words), max_width_px, size_px, fonts, bold))
    return [line for line in lines if line]


def paint_text(
    text: str, size: tuple[int, int], size_px: int, colour: Colour, background: Colour, fonts: FontSet, bold: bool
) -> Image.Image:
    """An RGB picture of exactly `size` (width, height) with one line of visible text, cut at its border."""
    picture = Image.new("RGB", size, background)
    pen, x = ImageDraw.Draw(picture), 0.0
    for run in split_runs(text, fonts, bold):
        font = fonts.sized(run.face, size_px)
        at = (x, baseline_px(size_px))
        pen.text(at, run.text, fill=colour, font=font, anchor="ls", direction=fonts.direction)
        x += _advance_px(run, size_px, fonts)
    return picture


def _advance_px(run: TextRun, size_px: int, fonts: FontSet) -> float:
    return float(fonts.sized(run.face, size_px).getlength(run.text, direction=fonts.direction))


def _reverse_rtl(text: str) -> str:
    """Right-to-left stretches turned round, for a text engine that only paints from the left."""
    pieces: list[str] = []
    backwards = False
    for character in text:
        if unicodedata.bidirectional(character) in ("R", "AL"):
            pieces[-1:] = [character + pieces[-1]] if backwards else [*pieces[-1:], character]
            backwards = True
        else:
            pieces.append(character)
            backwards = False
    return "".join(pieces)
