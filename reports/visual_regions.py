"""The region cards: number, name, score, size, and the crops original, twin and difference."""

from __future__ import annotations

from inspector.records import BoxPx
from reports.text import wrap_text
from reports.visual_arrange import (
    BADGE,
    CARD_PAD,
    TITLE_COLUMN,
    Arrangement,
    tile_slots,
)
from reports.visual_facts import VisualFacts, VisualRegion, format_scale, format_score, format_size
from reports.visual_part import add_badge
from reports.visual_plan import CAPTIONS, CARD, LETTERBOX, MARK, MUTED, WHITE, Content, PlanBuilder, PlannedTile

GENERATED = "GENERATED"
MARK_SIZE = 12.0
CONTEXT = 1.7
MAX_ENLARGEMENT = 8.0
CONTENTS: tuple[Content, ...] = ("original", "twin", "difference")


def plan_cards(
    builder: PlanBuilder, facts: VisualFacts, frame_size: tuple[int, int], body: Arrangement, tiles: int
) -> tuple[PlannedTile, ...]:
    """Place a card for each shown region; returns the crops to paint."""
    planned: list[PlannedTile] = []
    for number, (region, card) in enumerate(zip(facts.shown_regions(), body.cards, strict=True), start=1):
        name = f"region_{number}"
        builder.add_box(name, "body", card, CARD)
        slots = tile_slots(builder, card, body.style, tiles)
        width, height = slots[0][2] - slots[0][0], slots[0][3] - slots[0][1]
        crop = choose_crop(region.box_xyxy_px, (width, height), frame_size, builder.unit)
        scale = min(width / (crop[2] - crop[0]), height / (crop[3] - crop[1]))
        _plan_title(builder, facts, number, card, body.style, format_scale(scale))
        for content, box in zip(CONTENTS, slots, strict=False):
            planned.append(_plan_tile(builder, number, content, box, crop, region))
    return tuple(planned)


def choose_crop(region: BoxPx, tile: tuple[int, int], frame_size: tuple[int, int], unit: float) -> BoxPx:
    """What to show around a region: its surroundings too, in the tile's shape, inside the frame.

    A small region is not enlarged more than `MAX_ENLARGEMENT` canvas units a pixel, so that one still sees where it is.
    """
    width = max((region[2] - region[0]) * CONTEXT, tile[0] / (MAX_ENLARGEMENT * unit))
    height = max((region[3] - region[1]) * CONTEXT, tile[1] / (MAX_ENLARGEMENT * unit))
    scale = max(width / tile[0], height / tile[1])
    x0, x1 = _window((region[0] + region[2]) / 2, round(tile[0] * scale), frame_size[0])
    y0, y1 = _window((region[1] + region[3]) / 2, round(tile[1] * scale), frame_size[1])
    return (x0, y0, x1, y1)


def _window(centre: float, length: int, size: int) -> tuple[int, int]:
    length = max(1, min(length, size))
    start = max(0, min(round(centre - length / 2), size - length))
    return start, start + length


def _plan_title(builder: PlanBuilder, facts: VisualFacts, number: int, card: BoxPx, style: str, scale: str) -> None:
    px = builder.px
    region, name = facts.regions[number - 1], f"region_{number}"
    badge, x, y = px(BADGE), card[0] + px(CARD_PAD), card[1] + px(CARD_PAD)
    add_badge(builder, f"{name}_badge", name, number, (x, y, x + badge, y + badge))
    details = (f"score {format_score(region.score)}", format_size(region, facts.mm_per_px), scale)
    title_x = x + badge + px(6)
    if style == "side":
        room = px(TITLE_COLUMN - 8)
        score_y = y + (badge - builder.line_px(13)) // 2
        score_room = x + room - title_x
        builder.add_text(f"{name}_score", name, details[0], (title_x, score_y), score_room, 13, colour=MUTED)
        line_y = y + badge + px(3)
        for number_of_line, line in enumerate(wrap_text(region.title, room, 2, px(14), builder.fonts, True), start=1):
            line_y = builder.add_text(f"{name}_name_{number_of_line}", name, line, (x, line_y), room, 14, bold=True)
        for key, line in zip(("size", "scale"), details[1:], strict=True):
            line_y = builder.add_text(f"{name}_{key}", name, line, (x, line_y), room, 13, colour=MUTED)
        return
    room = card[2] - px(CARD_PAD) - title_x
    line_y = builder.add_text(f"{name}_name_1", name, region.title, (title_x, y - px(3)), room, 15, bold=True)
    for key, line in (("score", ", ".join(details[:2])), ("scale", details[2])):
        line_y = builder.add_text(f"{name}_{key}", name, line, (title_x, line_y), room, 13, colour=MUTED)


def _plan_tile(
    builder: PlanBuilder, number: int, content: Content, box: BoxPx, crop: BoxPx, region: VisualRegion
) -> PlannedTile:
    name = f"region_{number}_{content}"
    builder.add_box(name, f"region_{number}", box, LETTERBOX)
    at, room = (box[0], box[3] + builder.px(1)), box[2] - box[0]
    builder.add_text(f"{name}_caption", f"region_{number}", CAPTIONS[content], at, room, 13)
    if content != "original":
        _plan_mark(builder, name, box)
    picture = _fit_picture(box, crop)
    scale_x = (picture[2] - picture[0]) / (crop[2] - crop[0])
    scale_y = (picture[3] - picture[1]) / (crop[3] - crop[1])
    x0, y0, x1, y1 = region.box_xyxy_px
    outline = (
        max(picture[0], picture[0] + round((x0 - crop[0]) * scale_x)),
        max(picture[1], picture[1] + round((y0 - crop[1]) * scale_y)),
        min(picture[2], picture[0] + round((x1 - crop[0]) * scale_x)),
        min(picture[3], picture[1] + round((y1 - crop[1]) * scale_y)),
    )
    return PlannedTile(number, content, box, picture, crop, outline)


def _fit_picture(box: BoxPx, crop: BoxPx) -> BoxPx:
    """The largest box of the crop's shape in the middle of the tile."""
    room_x, room_y, wide, high = box[2] - box[0], box[3] - box[1], crop[2] - crop[0], crop[3] - crop[1]
    scale = min(room_x / wide, room_y / high)
    width, height = max(1, min(room_x, round(wide * scale))), max(1, min(room_y, round(high * scale)))
    x0, y0 = box[0] + (room_x - width) // 2, box[1] + (room_y - height) // 2
    return (x0, y0, x0 + width, y0 + height)


def _plan_mark(builder: PlanBuilder, tile: str, box: BoxPx) -> None:
    """The word GENERATED on the picture itself, in its lower left corner."""
    room = builder.width_px(GENERATED, MARK_SIZE, True)
    width, height = room + builder.px(8), builder.line_px(MARK_SIZE) + builder.px(2)
    mark = builder.add_box(f"{tile}_mark", tile, (box[0], box[3] - height, box[0] + width, box[3]), MARK)
    at = (mark[0] + builder.px(4), mark[1] + builder.px(1))
    builder.add_text(
        f"{tile}_mark_text",
        f"{tile}_mark",
        GENERATED,
        at,
        room,
        MARK_SIZE,
        bold=True,
        colour=WHITE,
        background=MARK,
    )
