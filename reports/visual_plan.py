"""The plan of an annotated visual: named rectangles and measured texts, and the builder that places them.

A plan is a tree: every element names its parent, lies inside it, and overlaps no sibling. Nothing here
touches a pixel, so all of it can be checked before anything is painted. All values are canvas pixels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from inspector.records import BoxPx
from reports.text import Colour, line_height_px, measure_px, shorten_middle
from reports.text_fonts import FontSet

Point = tuple[int, int]
Content = Literal["original", "twin", "difference"]
CAPTIONS: dict[Content, str] = {"original": "original", "twin": "twin (generated)", "difference": "difference"}

WHITE: Colour = (255, 255, 255)
INK: Colour = (23, 27, 33)
MUTED: Colour = (82, 91, 104)
PAPER: Colour = (233, 236, 241)
CARD: Colour = (255, 255, 255)
ACCENT: Colour = (200, 0, 62)
MARK: Colour = (23, 27, 33)
LETTERBOX: Colour = (214, 219, 226)


@dataclass(frozen=True, slots=True)
class PlannedBox:
    """A rectangle, painted in `fill` when it has one. `round` ones are painted as discs."""

    name: str
    parent: str | None
    box: BoxPx
    fill: Colour | None = None
    round: bool = False


@dataclass(frozen=True, slots=True)
class PlannedText:
    """One line of text exactly as shown, with its measured box and the colour it stands on."""

    name: str
    parent: str
    box: BoxPx
    text: str
    size_px: int
    bold: bool
    colour: Colour
    background: Colour


@dataclass(frozen=True, slots=True)
class Callout:
    """A numbered region on the part: its outline, and the leader from the number in the margin."""

    number: int
    outline: BoxPx
    badge: BoxPx
    leader: tuple[Point, Point]


@dataclass(frozen=True, slots=True)
class PlannedTile:
    """One enlarged crop: `crop` (frame pixels) is shown at `picture` inside the tile `box`.

    `outline` is the region itself on the canvas. What the picture leaves of the tile stays `LETTERBOX`.
    """

    region: int
    content: Content
    box: BoxPx
    picture: BoxPx
    crop: BoxPx
    outline: BoxPx


@dataclass(frozen=True, slots=True)
class Gauge:
    """The score bar: where the review and NG zones begin and where the score lies, as canvas x."""

    bar: BoxPx
    review_x: int
    ng_x: int
    score_x: int
    pointer: BoxPx


@dataclass(frozen=True, slots=True)
class VisualPlan:
    """Everything `render_visual` paints. `enlargement` is the integer factor between frame and canvas width."""

    width_px: int
    height_px: int
    unit: float
    enlargement: int
    boxes: tuple[PlannedBox, ...]
    texts: tuple[PlannedText, ...]
    part: BoxPx
    callouts: tuple[Callout, ...]
    unnumbered: tuple[BoxPx, ...]
    tiles: tuple[PlannedTile, ...]
    gauge: Gauge | None


class PlanBuilder:
    """Collects elements. `unit` is the canvas size of one layout unit (1 on a 1280×720 canvas)."""

    def __init__(self, fonts: FontSet, unit: float) -> None:
        self.fonts = fonts
        self.unit = unit
        self.boxes: list[PlannedBox] = []
        self.texts: list[PlannedText] = []

    def px(self, units: float) -> int:
        """Layout units as whole canvas pixels, at least 1."""
        return max(1, round(units * self.unit))

    def add_box(
        self, name: str, parent: str | None, box: BoxPx, fill: Colour | None = None, *, is_round: bool = False
    ) -> BoxPx:
        """Place a rectangle."""
        self.boxes.append(PlannedBox(name, parent, box, fill, is_round))
        return box

    def line_px(self, size: float) -> int:
        """Height of a line of text of `size` units."""
        return line_height_px(self.px(size))

    def width_px(self, text: str, size: float, bold: bool = False) -> int:
        """Width of a visible text of `size` units."""
        return measure_px(text, self.px(size), self.fonts, bold)

    def add_text(
        self,
        name: str,
        parent: str,
        text: str,
        at: Point,
        max_width_px: int,
        size: float,
        *,
        bold: bool = False,
        colour: Colour = INK,
        background: Colour = CARD,
        align: Literal["left", "right", "centre"] = "left",
    ) -> int:
        """Place one line, its left top at `at`, shortened to `max_width_px`; returns the y below it."""
        size_px = self.px(size)
        below = at[1] + line_height_px(size_px)
        shown = shorten_middle(text, max_width_px, size_px, self.fonts, bold)
        width = measure_px(shown, size_px, self.fonts, bold)
        if not shown or width == 0:
            return below
        spare = max_width_px - width
        x0 = at[0] + {"left": 0, "right": spare, "centre": spare // 2}[align]
        box = (x0, at[1], x0 + width, below)
        self.texts.append(PlannedText(name, parent, box, shown, size_px, bold, colour, background))
        return below
