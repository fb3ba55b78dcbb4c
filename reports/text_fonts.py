"""The fonts shipped with the package, and which characters each of them can show.

DejaVu Sans carries Latin, Greek, Cyrillic, Hebrew, Arabic and many symbols; Droid Sans Fallback carries
Chinese, Japanese and Korean (the variant with Hangul; the rare ideographs of Extension A are not in it).
Their licences lie beside them in `reports/fonts/`.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from importlib import resources

from PIL import ImageFont, features


class Face(IntEnum):
    """One font file."""

    REGULAR = 0
    BOLD = 1
    FALLBACK = 2


FONT_FILES = {
    Face.REGULAR: "DejaVuSans.ttf",
    Face.BOLD: "DejaVuSans-Bold.ttf",
    Face.FALLBACK: "DroidSansFallback.ttf",
}


@dataclass(frozen=True, slots=True)
class TextRun:
    """Consecutive characters of one face."""

    text: str
    face: Face


class FontSet:
    """The shipped fonts, loaded once and handed to whoever measures or paints. Not for use by two threads at once."""

    def __init__(self) -> None:
        folder = resources.files("reports") / "fonts"
        self._files = {face: (folder / name).read_bytes() for face, name in FONT_FILES.items()}
        self._coverage = {face: read_coverage(content) for face, content in self._files.items()}
        self._sized: dict[tuple[Face, int], ImageFont.FreeTypeFont] = {}
        # Arabic joins its letters and runs from the right only with Raqm, which needs the system's FriBiDi.
        self.shapes_scripts = bool(features.check("raqm"))

    @property
    def direction(self) -> str | None:
        """Direction of a line; right-to-left words inside it still read from the right. None: engine cannot."""
        return "ltr" if self.shapes_scripts else None

    def sized(self, face: Face, size_px: int) -> ImageFont.FreeTypeFont:
        """One face at one size."""
        key = (face, size_px)
        if key not in self._sized:
            engine = ImageFont.Layout.RAQM if self.shapes_scripts else ImageFont.Layout.BASIC
            self._sized[key] = ImageFont.truetype(io.BytesIO(self._files[face]), size_px, layout_engine=engine)
        return self._sized[key]

    def choose_face(self, character: str, bold: bool) -> Face | None:
        """The first face that has a glyph, None when no shipped font has one."""
        order = (Face.BOLD, Face.REGULAR, Face.FALLBACK) if bold else (Face.REGULAR, Face.FALLBACK)
        return next((face for face in order if ord(character) in self._coverage[face]), None)


def read_coverage(font_file: bytes) -> frozenset[int]:
    """The code points a TrueType file has glyphs for, from its Unicode `cmap` (formats 4 and 12)."""
    (count,) = struct.unpack_from(">H", font_file, 4)
    tables = {}
    for index in range(count):
        tag, _, offset, _ = struct.unpack_from(">4sIII", font_file, 12 + 16 * index)
        tables[tag] = offset
    start = tables[b"cmap"]
    (subtables,) = struct.unpack_from(">H", font_file, start + 2)
    points: set[int] = set()
    for index in range(subtables):
        platform, encoding, offset = struct.unpack_from(">HHI", font_file, start + 4 + 8 * index)
        if (platform, encoding) in ((3, 1), (3, 10)) or platform == 0:
            points.update(_mapped_points(font_file, start + offset))
    return frozenset(points)


def _mapped_points(font_file: bytes, at: int) -> Iterator[int]:
    (table_format,) = struct.unpack_from(">H", font_file, at)
    if table_format == 12:
        (groups,) = struct.unpack_from(">I", font_file, at + 12)
        for index in range(groups):
            first, last, glyph = struct.unpack_from(">III", font_file, at + 16 + 12 * index)
            yield from range(first + (glyph == 0), last + 1)
    elif table_format == 4:
        yield from _mapped_segments(font_file, at)


def _mapped_segments(font_file: bytes, at: int) -> Iterator[int]:
    (doubled,) = struct.unpack_from(">H", font_file, at + 6)
    segments = doubled // 2
    ends = struct.unpack_from(f">{segments}H", font_file, at + 14)
    starts = struct.unpack_from(f">{segments}H", font_file, at + 16 + doubled)
    deltas = struct.unpack_from(f">{segments}H", font_file, at + 16 + 2 * doubled)
    ranges_at = at + 16 + 3 * doubled
    ranges = struct.unpack_from(f">{segments}H", font_file, ranges_at)
    for index, (first, last, delta, reach) in enumerate(zip(starts, ends, deltas, ranges, strict=True)):
        for point in range(first, min(last, 0xFFFE) + 1):
            glyph = point
            if reach:
                (glyph,) = struct.unpack_from(">H", font_file, ranges_at + 2 * index + reach + 2 * (point - first))
            if reach == 0 or glyph:
                glyph = (glyph + delta) & 0xFFFF
            if glyph:
                yield point
