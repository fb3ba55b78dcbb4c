"""Where the part and the region cards go: tries a few dozen arrangements and keeps the one that shows most."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from inspector.records import BoxPx
from reports.visual_facts import VisualFacts
from reports.visual_plan import PlanBuilder

GAP = 10.0
CARD_PAD = 8.0
TILE_GAP = 6.0
TITLE_LINES = 59.0
MIN_TITLED_WIDTH = 236.0
TITLE_COLUMN = 146.0
SIDE_CARD_HEIGHT = 122.0
CAPTION = 20.0
MIN_TILE = (118.0, 64.0)
MIN_PART_CARD = (340.0, 200.0)
PART_HEIGHT_PER_REGION = 14.0
GUTTER = 46.0
BADGE = 26.0
BADGE_STEP = 30.0
ENOUGH_TILE = (270.0, 190.0)
"""A larger tile shows no more; the room is better given to the part."""
MAX_TILE_ASPECT = 2.3
MIN_TILE_ASPECT = 0.75

CardStyle = Literal["top", "side", "column"]
CARD_STYLES: tuple[CardStyle, ...] = ("top", "side", "column")


@dataclass(frozen=True, slots=True)
class Arrangement:
    """The card of the part, a card for each region, and how a card is built: title above the tiles, beside
    them, or above a column of tiles."""

    part_card: BoxPx
    cards: tuple[BoxPx, ...]
    style: CardStyle


def arrange_body(
    builder: PlanBuilder, facts: VisualFacts, frame_size: tuple[int, int], tiles: int, body: BoxPx
) -> Arrangement | None:
    """The best arrangement inside `body`, None when even the smallest legible one does not fit."""
    gap = builder.px(GAP)
    inner = (body[0] + gap, body[1] + gap, body[2] - gap, body[3] - gap)
    count = len(facts.shown_regions())
    best, best_value = None, 0.0
    for arrangement in _candidates(builder, inner, count):
        value = _rate(builder, facts, frame_size, tiles, inner, arrangement)
        if value > best_value:
            best, best_value = arrangement, value
    return best


def _candidates(builder: PlanBuilder, inner: BoxPx, count: int) -> Iterator[Arrangement]:
    x0, y0, x1, y1 = inner
    if count == 0:
        yield Arrangement(inner, (), "top")
        return
    gap = builder.px(GAP)
    for percent in range(28, 76, 4):
        split_x = x1 - round((x1 - x0) * percent / 100)
        split_y = y1 - round((y1 - y0) * percent / 100)
        for columns in range(1, min(count, 4) + 1):
            for style in CARD_STYLES:
                beside = _grid((split_x + gap, y0, x1, y1), count, columns, gap)
                yield Arrangement((x0, y0, split_x, y1), beside, style)
                below = _grid((x0, split_y + gap, x1, y1), count, columns, gap)
                yield Arrangement((x0, y0, x1, split_y), below, style)


def _grid(panel: BoxPx, count: int, columns: int, gap: int) -> tuple[BoxPx, ...]:
    x0, y0, x1, y1 = panel
    rows = math.ceil(count / columns)
    width, height = (x1 - x0 - (columns - 1) * gap) // columns, (y1 - y0 - (rows - 1) * gap) // rows
    return tuple(
        (left, top, left + width, top + height)
        for left, top in (
            (x0 + (index % columns) * (width + gap), y0 + (index // columns) * (height + gap)) for index in range(count)
        )
    )


def _rate(
    builder: PlanBuilder,
    facts: VisualFacts,
    frame_size: tuple[int, int],
    tiles: int,
    inner: BoxPx,
    arrangement: Arrangement,
) -> float:
    """How much of the body shows pictures; 0 when something would be too small to read."""
    px = builder.px
    card = arrangement.part_card
    least_height = MIN_PART_CARD[1] + PART_HEIGHT_PER_REGION * len(arrangement.cards)
    if card[2] - card[0] < px(MIN_PART_CARD[0]) or card[3] - card[1] < px(least_height):
        return 0.0
    slot = part_slot(builder, facts, card)
    if slot[2] - slot[0] < px(80) or slot[3] - slot[1] < px(BADGE_STEP) * math.ceil(len(arrangement.cards) / 2):
        return 0.0
    scale = min((slot[2] - slot[0]) / frame_size[0], (slot[3] - slot[1]) / frame_size[1])
    area = (inner[2] - inner[0]) * (inner[3] - inner[1])
    part_share = scale * scale * frame_size[0] * frame_size[1] / area
    if not arrangement.cards:
        return part_share
    width, height = tile_size(builder, arrangement.cards[0], arrangement.style, tiles)
    if width < px(MIN_TILE[0]) or height < px(MIN_TILE[1]):
        return 0.0
    first = arrangement.cards[0]
    if arrangement.style == "side" and first[3] - first[1] < px(SIDE_CARD_HEIGHT):
        return 0.0
    if arrangement.style != "side" and first[2] - first[0] < px(MIN_TITLED_WIDTH):
        return 0.0
    useful = min(width, px(ENOUGH_TILE[0])) * min(height, px(ENOUGH_TILE[1]))
    tile_share = len(arrangement.cards) * tiles * useful / area
    return math.sqrt(part_share) + 1.15 * math.sqrt(tile_share)


def part_rows(facts: VisualFacts) -> int:
    """Lines of text below the part: its size, the scale bar, the regions without a number."""
    return 1 + (facts.mm_per_px is not None) + (len(facts.regions) > len(facts.shown_regions()))


def part_slot(builder: PlanBuilder, facts: VisualFacts, card: BoxPx) -> BoxPx:
    """Where the picture of the part may lie inside its card, margins for the callouts left free."""
    pad, gutter = builder.px(CARD_PAD), builder.px(GUTTER) if facts.shown_regions() else 0
    below = part_rows(facts) * builder.px(CAPTION)
    return (card[0] + pad + gutter, card[1] + pad, card[2] - pad - gutter, card[3] - pad - below)


def tile_slots(builder: PlanBuilder, card: BoxPx, style: CardStyle, tiles: int) -> list[BoxPx]:
    """The boxes of a card's tiles, all of one size and of a pleasant shape, captions not included."""
    width, height = tile_size(builder, card, style, tiles)
    x0, y0, _, _ = _tile_area(builder, card, style)
    if style == "column":
        step = height + builder.px(CAPTION)
        return [(x0, y0 + index * step, x0 + width, y0 + index * step + height) for index in range(tiles)]
    step = width + builder.px(TILE_GAP)
    return [(x0 + index * step, y0, x0 + index * step + width, y0 + height) for index in range(tiles)]


def tile_size(builder: PlanBuilder, card: BoxPx, style: CardStyle, tiles: int) -> tuple[int, int]:
    """Width and height of each tile, 0 when there is no room."""
    x0, y0, x1, y1 = _tile_area(builder, card, style)
    if style == "column":
        width, height = x1 - x0, (y1 - y0 - (tiles - 1) * builder.px(CAPTION)) // tiles
    else:
        width, height = (x1 - x0 - (tiles - 1) * builder.px(TILE_GAP)) // tiles, y1 - y0
    if width <= 0 or height <= 0:
        return 0, 0
    return min(width, int(height * MAX_TILE_ASPECT)), min(height, int(width / MIN_TILE_ASPECT))


def _tile_area(builder: PlanBuilder, card: BoxPx, style: CardStyle) -> BoxPx:
    px = builder.px
    left, top = (TITLE_COLUMN, 0.0) if style == "side" else (0.0, TITLE_LINES)
    return (
        card[0] + px(CARD_PAD + left),
        card[1] + px(CARD_PAD + top),
        card[2] - px(CARD_PAD),
        card[3] - px(CARD_PAD / 2 + CAPTION),
    )
