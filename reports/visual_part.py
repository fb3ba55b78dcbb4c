"""The part as a whole: its picture, outlines, numbered callouts in the margins, scale bar."""

from __future__ import annotations

import math

from inspector.records import BoxPx
from reports.visual_arrange import BADGE, BADGE_STEP, CARD_PAD, GUTTER, part_slot
from reports.visual_facts import VisualFacts, VisualRegion, format_scale
from reports.visual_plan import ACCENT, CARD, INK, MUTED, WHITE, Callout, PlanBuilder

MIN_OUTLINE = 10.0


def plan_part(
    builder: PlanBuilder, facts: VisualFacts, frame_size: tuple[int, int], card: BoxPx
) -> tuple[BoxPx, tuple[Callout, ...], tuple[BoxPx, ...]]:
    """Place the part's card; returns the picture's box, the callouts and the outlines without a number."""
    builder.add_box("part_card", "body", card, CARD)
    slot = part_slot(builder, facts, card)
    scale = min((slot[2] - slot[0]) / frame_size[0], (slot[3] - slot[1]) / frame_size[1])
    width, height = (
        max(1, min(limit, round(size * scale)))
        for size, limit in zip(frame_size, (slot[2] - slot[0], slot[3] - slot[1]), strict=True)
    )
    x0, y0 = slot[0] + (slot[2] - slot[0] - width) // 2, slot[1] + (slot[3] - slot[1] - height) // 2
    part = builder.add_box("part", "part_card", (x0, y0, x0 + width, y0 + height))
    outlines = [_outline(builder, region, frame_size, part) for region in facts.regions]
    shown = len(facts.shown_regions())
    callouts = _plan_callouts(builder, outlines[:shown], part, slot)
    _plan_lines(builder, facts, frame_size, card, slot[3], scale)
    return part, callouts, tuple(outlines[shown:])


def _outline(builder: PlanBuilder, region: VisualRegion, frame_size: tuple[int, int], part: BoxPx) -> BoxPx:
    """The region on the canvas, large enough to be seen, inside the picture."""
    x_limits, y_limits = (part[0], part[2]), (part[1], part[3])
    x0, x1 = _span(region.box_xyxy_px[0], region.box_xyxy_px[2], frame_size[0], x_limits, builder.px(MIN_OUTLINE))
    y0, y1 = _span(region.box_xyxy_px[1], region.box_xyxy_px[3], frame_size[1], y_limits, builder.px(MIN_OUTLINE))
    return (x0, y0, x1, y1)


def _span(low: int, high: int, size: int, limits: tuple[int, int], least: int) -> tuple[int, int]:
    scale = (limits[1] - limits[0]) / size
    start, end = limits[0] + math.floor(low * scale), limits[0] + math.ceil(high * scale)
    start, end = max(limits[0], min(start, limits[1] - 1)), max(limits[0] + 1, min(end, limits[1]))
    wanted = min(max(end - start, least), limits[1] - limits[0])
    start = max(limits[0], min((start + end - wanted) // 2, limits[1] - wanted))
    return start, start + wanted


def _plan_callouts(builder: PlanBuilder, outlines: list[BoxPx], part: BoxPx, slot: BoxPx) -> tuple[Callout, ...]:
    """A numbered badge in the left or right margin for each outline, in the order of their heights."""
    step, badge = builder.px(BADGE_STEP), builder.px(BADGE)
    capacity = (slot[3] - slot[1]) // step
    middle = (part[0] + part[2]) / 2
    wants_left = sorted(range(len(outlines)), key=lambda index: (outlines[index][0] + outlines[index][2]) / 2)
    lefts = sum((outlines[index][0] + outlines[index][2]) / 2 < middle for index in wants_left)
    lefts = max(min(lefts, capacity), len(outlines) - capacity)
    callouts = []
    for side, members in (("left", wants_left[:lefts]), ("right", wants_left[lefts:])):
        members = sorted(members, key=lambda index: outlines[index][1] + outlines[index][3])
        centres = _spread([(outlines[index][1] + outlines[index][3]) // 2 for index in members], step, slot)
        x0 = part[0] - builder.px(GUTTER) if side == "left" else part[2] + builder.px(GUTTER) - badge
        for index, centre in zip(members, centres, strict=True):
            box = (x0, centre - badge // 2, x0 + badge, centre - badge // 2 + badge)
            callouts.append(_plan_callout(builder, index + 1, outlines[index], box, side == "left"))
    return tuple(sorted(callouts, key=lambda callout: callout.number))


def _plan_callout(builder: PlanBuilder, number: int, outline: BoxPx, badge: BoxPx, is_left: bool) -> Callout:
    add_badge(builder, f"callout_{number}", "part_card", number, badge)
    centre = (badge[1] + badge[3]) // 2
    start = (badge[2] if is_left else badge[0], centre)
    # Up to the outer edge of the painted outline, so that its round end stays outside.
    reach = builder.px(4)
    end_x = max(start[0], outline[0] - reach) if is_left else min(start[0], outline[2] + reach)
    end = (end_x, max(outline[1], min(centre, outline[3])))
    return Callout(number, outline, badge, (start, end))


def add_badge(builder: PlanBuilder, name: str, parent: str, number: int, box: BoxPx) -> None:
    """A disc with a number."""
    builder.add_box(name, parent, box, ACCENT, is_round=True)
    y = box[1] + (box[3] - box[1] - builder.line_px(14)) // 2
    at, room = (box[0], y), box[2] - box[0]
    builder.add_text(
        f"{name}_number", name, str(number), at, room, 14, bold=True, colour=WHITE, background=ACCENT, align="centre"
    )


def _spread(wanted: list[int], step: int, slot: BoxPx) -> list[int]:
    """Ascending heights as near to the wanted ones as the distance `step` and the slot allow."""
    low, high = slot[1] + step // 2, slot[3] - step // 2
    centres: list[int] = []
    for value in wanted:
        centres.append(max(value, low, centres[-1] + step if centres else low))
    limit = high
    for index in range(len(centres) - 1, -1, -1):
        centres[index] = min(centres[index], limit)
        limit = centres[index] - step
    return centres


def _plan_lines(
    builder: PlanBuilder, facts: VisualFacts, frame_size: tuple[int, int], card: BoxPx, top: int, scale: float
) -> None:
    """What stands below the part."""
    px = builder.px
    x, room = card[0] + px(CARD_PAD), card[2] - card[0] - 2 * px(CARD_PAD)
    y = top + px(2)
    size = f"frame {frame_size[0]} x {frame_size[1]} px, {format_scale(scale)}"
    y = builder.add_text("frame_size", "part_card", size, (x, y), room, 13, colour=MUTED)
    more = len(facts.regions) - len(facts.shown_regions())
    if more:
        note = f"{more} more region{'s' if more > 1 else ''} outlined without a number"
        y = builder.add_text("more_regions", "part_card", note, (x, y), room, 13, colour=MUTED)
    if facts.mm_per_px is not None:
        length_mm, length_px = choose_scale_bar(facts.mm_per_px / scale, room // 3)
        middle = y + builder.line_px(13) // 2
        bar = (x, middle - px(3), x + length_px, middle + px(3))
        builder.add_box("scale_bar", "part_card", bar, INK)
        at = (bar[2] + px(8), y)
        builder.add_text("scale_bar_length", "part_card", f"{length_mm:g} mm", at, room - length_px - px(8), 13)


def choose_scale_bar(mm_per_canvas_px: float, max_px: int) -> tuple[float, int]:
    """The longest of 1, 2, 5 × 10ⁿ mm that is at most `max_px` wide: (mm, canvas pixels)."""
    limit = mm_per_canvas_px * max_px
    decade = 10.0 ** math.floor(math.log10(limit))
    length = max(factor * decade for factor in (1, 2, 5) if factor * decade <= limit * (1 + 1e-9))
    return length, max(1, round(length / mm_per_canvas_px))
