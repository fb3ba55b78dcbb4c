"""Plans an annotated visual: header, the part with its callouts, a card for each region, footer. Pure.

The canvas has the frame's resolution. Frames narrower than 1280 px are enlarged by a whole factor so that
text stays legible, and a frame too flat (or with more regions than fit) gets a higher canvas: the
picture of the part is never cut and no text shrinks.
"""

from __future__ import annotations

from reports.text_fonts import FontSet
from reports.visual_arrange import Arrangement, arrange_body
from reports.visual_facts import VisualFacts
from reports.visual_header import footer_height_px, plan_footer, plan_header
from reports.visual_part import plan_part
from reports.visual_plan import PAPER, PlanBuilder, PlannedBox, VisualPlan
from reports.visual_regions import plan_cards

MIN_WIDTH_PX = 1280
MIN_HEIGHT_PX = 640
MAX_ENLARGED_PX = 12_000_000
GROWTH = 24.0


def plan_visual(
    facts: VisualFacts,
    frame_size: tuple[int, int],
    method: str | None,
    fonts: FontSet,
    fallback: str | None = None,
) -> VisualPlan:
    """Plan the visual of a frame of (width, height) px; `method` is the twin's, None when there is no twin.

    `fallback` is why the twin was painted without references.
    """
    enlargement = choose_enlargement(frame_size)
    width = max(MIN_WIDTH_PX, frame_size[0] * enlargement)
    height = max(MIN_HEIGHT_PX, frame_size[1] * enlargement)
    builder = PlanBuilder(fonts, max(1.0, min(width / 1280, height / 720)))
    header_bottom, gauge = plan_header(builder, facts, width)
    footer_height = footer_height_px(builder)
    tiles = 1 if method is None else 3
    body: Arrangement | None = None
    while body is None:
        body = arrange_body(builder, facts, frame_size, tiles, (0, header_bottom, width, height - footer_height))
        height += builder.px(GROWTH) if body is None else 0
    builder.boxes.insert(0, PlannedBox("canvas", None, (0, 0, width, height), PAPER))
    builder.add_box("body", "canvas", (0, header_bottom, width, height - footer_height))
    part, callouts, unnumbered = plan_part(builder, facts, frame_size, body.part_card)
    planned_tiles = plan_cards(builder, facts, frame_size, body, tiles)
    plan_footer(builder, facts, method, fallback, (0, height - footer_height, width, height))
    return VisualPlan(
        width,
        height,
        builder.unit,
        enlargement,
        tuple(builder.boxes),
        tuple(builder.texts),
        part,
        callouts,
        unnumbered,
        planned_tiles,
        gauge,
    )


def choose_enlargement(frame_size: tuple[int, int]) -> int:
    """The whole factor that makes a frame at least 1280 px wide, smaller where the canvas would be huge."""
    width, height = frame_size
    factor = -(-MIN_WIDTH_PX // width)
    while factor > 1 and max(MIN_WIDTH_PX, width * factor) * height * factor > MAX_ENLARGED_PX:
        factor -= 1
    return factor
