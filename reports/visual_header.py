"""The band at the top of a visual: verdict, facts, score gauge and the reason; and the footer."""

from __future__ import annotations

import math

from inspector.records import BoxPx, Thresholds, VerdictKind
from reports.text import Colour, wrap_text
from reports.visual_facts import (
    METHOD_MEANINGS,
    VERDICT_MEANINGS,
    VERDICT_WORDS,
    VisualFacts,
    explain_verdict,
    format_scores,
    format_time,
)
from reports.visual_plan import CARD, MUTED, PAPER, WHITE, Gauge, PlanBuilder

VERDICT_COLOURS: dict[VerdictKind, tuple[Colour, Colour]] = {
    VerdictKind.OK: ((22, 112, 58), WHITE),
    VerdictKind.NG: ((190, 18, 40), WHITE),
    VerdictKind.REVIEW: ((176, 84, 0), WHITE),
    VerdictKind.NOT_INSPECTED: ((82, 91, 104), WHITE),
}
"""Background and text of the verdict block."""

PAD = 14.0
VERDICT_WIDTH = 206.0
GAUGE_WIDTH = 292.0
ROW = 25.0
LABEL_WIDTH = 74.0
REASON_LINES = 2


def plan_header(builder: PlanBuilder, facts: VisualFacts, width_px: int) -> tuple[int, Gauge | None]:
    """Place the header at the top of a canvas; returns its height and the gauge."""
    px = builder.px
    left, gauge_left = px(VERDICT_WIDTH + PAD), width_px - px(GAUGE_WIDTH + PAD)
    rows_bottom = px(PAD - 4) + 4 * px(ROW)
    reason_top = rows_bottom + px(3)
    reasons = wrap_text(
        explain_verdict(facts), width_px - left - px(PAD + LABEL_WIDTH), REASON_LINES, px(15), builder.fonts
    )
    height = reason_top + max(1, len(reasons)) * builder.line_px(15) + px(8)
    builder.add_box("header", "canvas", (0, 0, width_px, height), CARD)
    _plan_verdict(builder, facts, (0, 0, px(VERDICT_WIDTH), height))
    _plan_facts(builder, facts, (left, px(PAD - 4), gauge_left - px(2 * PAD), rows_bottom))
    gauge = _plan_gauge(builder, facts, (gauge_left, px(PAD - 4), width_px - px(PAD), rows_bottom))
    builder.add_text("label_reason", "header", "Why", (left, reason_top), px(LABEL_WIDTH - 6), 15, colour=MUTED)
    y = reason_top
    for number, line in enumerate(reasons, start=1):
        x = left + px(LABEL_WIDTH)
        y = builder.add_text(f"reason_{number}", "header", line, (x, y), width_px - px(PAD) - x, 15)
    return height, gauge


def _plan_verdict(builder: PlanBuilder, facts: VisualFacts, box: BoxPx) -> None:
    background, colour = VERDICT_COLOURS[facts.verdict]
    builder.add_box("verdict", "header", box, background)
    word, room = VERDICT_WORDS[facts.verdict], box[2] - box[0] - 2 * builder.px(PAD)
    size = next((size for size in (50, 44, 38, 32, 26, 22, 20) if builder.width_px(word, size, True) <= room), 18)
    block = builder.line_px(size) + builder.line_px(15)
    at = (box[0] + builder.px(PAD), box[1] + (box[3] - box[1] - block) // 2)
    y = builder.add_text(
        "verdict_word", "verdict", word, at, room, size, bold=True, colour=colour, background=background, align="centre"
    )
    meaning, at = VERDICT_MEANINGS[facts.verdict], (at[0], y)
    builder.add_text(
        "verdict_meaning", "verdict", meaning, at, room, 15, colour=colour, background=background, align="centre"
    )


def _plan_facts(builder: PlanBuilder, facts: VisualFacts, box: BoxPx) -> None:
    """Four rows of two labelled values."""
    attempt = str(facts.attempt) if facts.purpose == "production" else f"{facts.attempt} ({facts.purpose})"
    left = (
        ("part_id", "Part", facts.part_id or "-"),
        ("recipe", "Recipe", facts.recipe or "-"),
        ("station", "Station", facts.station),
        ("time", "Time", format_time(facts.decided_utc_us, facts.timezone)),
    )
    right = [("lot", "Lot", facts.lot or "-"), ("attempt", "Attempt", attempt), ("camera", "Camera", facts.camera)]
    if facts.opinion is not None:
        right.append(("opinion", "Opinion", facts.opinion))
    gap = builder.px(PAD)
    middle = box[0] + round((box[2] - box[0]) * 0.57)
    for column, x0, x1 in ((left, box[0], middle - gap), (right, middle, box[2])):
        for row, (name, label, value) in enumerate(column):
            y = box[1] + row * builder.px(ROW)
            value_x = x0 + builder.px(LABEL_WIDTH)
            builder.add_text(f"label_{name}", "header", label, (x0, y), builder.px(LABEL_WIDTH - 6), 15, colour=MUTED)
            builder.add_text(name, "header", value, (value_x, y), x1 - value_x, 15, bold=name == "part_id")


def _plan_gauge(builder: PlanBuilder, facts: VisualFacts, box: BoxPx) -> Gauge | None:
    px = builder.px
    score, review, ng = format_scores(facts.score, facts.thresholds)
    room = box[2] - box[0]
    y = builder.add_text("score", "header", f"Score {score}", box[:2], room, 22, bold=True)
    if facts.thresholds is None or facts.score is None or not math.isfinite(facts.score):
        builder.add_text("gauge_none", "header", "no score for this part", (box[0], y), room, 15, colour=MUTED)
        return None
    pointer_height = px(9)
    bar = (box[0], y + pointer_height + px(4), box[2], y + pointer_height + px(18))
    positions = [bar[0] + round(share * (bar[2] - bar[0])) for share in _gauge_shares(facts.score, facts.thresholds)]
    builder.add_box("gauge", "header", bar)
    tip = min(max(positions[2], bar[0] + px(7)), bar[2] - px(7))
    pointer_box = (tip - px(7), bar[1] - px(2) - pointer_height, tip + px(7), bar[1] - px(2))
    pointer = builder.add_box("gauge_pointer", "header", pointer_box)
    labels_y, half = bar[3] + px(3), room // 2 - px(4)
    builder.add_text("review_threshold", "header", f"review from {review}", (box[0], labels_y), half, 14, colour=MUTED)
    at = (box[2] - half, labels_y)
    builder.add_text("ng_threshold", "header", f"NG from {ng}", at, half, 14, colour=MUTED, align="right")
    return Gauge(bar, positions[0], positions[1], tip, pointer)


def _gauge_shares(score: float, thresholds: Thresholds) -> tuple[float, float, float]:
    """Review, NG and score along the bar, 0..1; a score far beyond ends at the right end."""
    full = min(max(1.6 * thresholds.ng, 1.1 * score), 4.0 * thresholds.ng)
    if full <= 0:
        return 0.0, 0.0, min(max(score, 0.0), 1.0)
    review, ng, value = (min(max(item / full, 0.0), 1.0) for item in (thresholds.review, thresholds.ng, score))
    return review, ng, value


def plan_footer(builder: PlanBuilder, facts: VisualFacts, method: str | None, fallback: str | None, box: BoxPx) -> None:
    """The line at the bottom: what is generated, and which inspection this is."""
    builder.add_box("footer", "canvas", box, PAPER)
    label, pad = "inspection", builder.px(PAD)
    label_width, id_width = builder.width_px(label, 13) + 2, builder.width_px(facts.inspection_id, 13) + 2
    id_width = min(id_width, (box[2] - box[0]) // 3)
    id_x = box[2] - pad - id_width
    label_x = id_x - builder.px(6) - label_width
    y = box[1] + (box[3] - box[1] - builder.line_px(13)) // 2
    if method is None:
        note = "Nothing here is generated: all pictures are the camera's."
    else:
        said = f"; {fallback}" if fallback else ""
        meaning = METHOD_MEANINGS.get(method, method)
        note = f"GENERATED = not a photograph: the same place without a defect, {meaning}{said}."
    x = box[0] + pad
    for name, text, at, room in (
        ("generated_note", note, (x, y), label_x - pad - x),
        ("label_inspection", label, (label_x, y), label_width),
        ("inspection_id", facts.inspection_id, (id_x, y), id_width),
    ):
        builder.add_text(name, "footer", text, at, room, 13, colour=MUTED, background=PAPER)


def footer_height_px(builder: PlanBuilder) -> int:
    """How much room the footer takes."""
    return builder.line_px(13) + builder.px(8)
