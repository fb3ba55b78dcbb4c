"""Stroke lettering for silkscreen and laser marks: the same strokes whatever the version of OpenCV.

OpenCV 5 replaced its stroke fonts by outlines; board printers and lasers draw strokes.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

STROKES: dict[str, str] = {
    "A": "06 01 10 30 41 46|03 43",
    "B": "06 00 30 41 42 33 03|33 44 45 36 06",
    "C": "41 30 10 01 05 16 36 45",
    "D": "06 00 20 42 44 26 06",
    "E": "40 00 06 46|03 33",
    "F": "40 00 06|03 33",
    "G": "41 30 10 01 05 16 36 45 43 23",
    "H": "00 06|40 46|03 43",
    "I": "20 26",
    "J": "40 45 36 16 05",
    "K": "00 06|40 03 46",
    "L": "00 06 46",
    "M": "06 00 23 40 46",
    "N": "06 00 46 40",
    "O": "10 30 41 45 36 16 05 01 10",
    "P": "06 00 30 41 42 33 03",
    "Q": "10 30 41 45 36 16 05 01 10|24 46",
    "R": "06 00 30 41 42 33 03|23 46",
    "S": "41 30 10 01 02 13 33 44 45 36 16 05",
    "T": "00 40|20 26",
    "U": "00 05 16 36 45 40",
    "V": "00 26 40",
    "W": "00 16 23 36 40",
    "X": "00 46|40 06",
    "Y": "00 23 40|23 26",
    "Z": "00 40 06 46",
    "0": "10 30 41 45 36 16 05 01 10",
    "1": "11 20 26|16 36",
    "2": "01 10 30 41 42 06 46",
    "3": "01 10 30 41 42 33 13|33 44 45 36 16 05",
    "4": "36 30 04 44",
    "5": "40 00 02 32 43 45 36 16 05",
    "6": "40 20 02 05 16 36 45 44 33 03",
    "7": "00 40 16",
    "8": "13 02 01 10 30 41 42 33 13 04 05 16 36 45 44 33",
    "9": "06 26 44 41 30 10 01 02 13 43",
    "-": "13 33",
    "+": "13 33|22 24",
    ".": "26 26",
    "/": "06 40",
    ":": "22 22|25 25",
    "_": "06 46",
}
"""Each glyph as polylines of "xy" digit pairs on a 4 x 6 grid, x to the right, y down."""

ADVANCE = 5.6 / 6.0
"""Width of a character in units of its height."""

_SHIFT = 4


def text_width(text: str, height: float) -> float:
    """Width of a line of text in the unit of `height`."""
    return max(0.0, len(text) * ADVANCE - ADVANCE + 4.0 / 6.0) * height


def draw_text(
    canvas: NDArray[np.uint8],
    text: str,
    centre_xy: tuple[float, float],
    height_px: float,
    stroke_px: float,
    *,
    quarter_turns: int = 0,
    value: int = 255,
) -> None:
    """Draw `text` centred at `centre_xy` (pixels) onto a (H, W) uint8 canvas, in place, antialiased.

    `quarter_turns` turns it counter-clockwise. Characters without a glyph are left blank.
    """
    unit = height_px / 6.0
    left, top = -text_width(text, height_px) / 2.0, -height_px / 2.0
    thickness = max(1, round(stroke_px))
    lines: list[NDArray[np.int32]] = []
    for position, character in enumerate(text.upper()):
        for stroke in STROKES.get(character, "").split("|"):
            points = [
                (left + position * ADVANCE * height_px + int(pair[0]) * unit, top + int(pair[1]) * unit)
                for pair in stroke.split()
            ]
            if points:
                lines.append(_place(np.array(points), centre_xy, quarter_turns))
    cv2.polylines(canvas, lines, False, (value,), thickness, cv2.LINE_AA, _SHIFT)


def _place(points: NDArray[np.float64], centre_xy: tuple[float, float], quarter_turns: int) -> NDArray[np.int32]:
    x, y = points[:, 0], points[:, 1]
    for _ in range(quarter_turns % 4):
        x, y = y, -x
    turned = np.stack([x + centre_xy[0], y + centre_xy[1]], axis=1)
    return np.round(turned * (1 << _SHIFT)).astype(np.int32)
