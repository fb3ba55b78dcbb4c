"""The small picture that travels in the evidence message: the part with its outlined regions, and the verdict."""

from __future__ import annotations

import numpy as np

from inspector.images import encode_jpeg
from inspector.records import BgrImage
from reports.text import line_height_px, paint_text, shorten_middle
from reports.text_fonts import FontSet
from reports.visual import PaintedVisual, describe_origin, resize_view
from reports.visual_facts import VERDICT_WORDS, VisualFacts, format_scores
from reports.visual_header import VERDICT_COLOURS
from reports.xmp import embed_packet, write_packet

MAX_THUMBNAIL_BYTES = 32 * 1024
WIDTH_PX = 480
MAX_PICTURE_HEIGHT_PX = 360
TEXT_PX = 17
PAD_PX = 8
QUALITIES = (82, 70, 55, 40, 25, 12)


def render_thumbnail(painted: PaintedVisual, facts: VisualFacts, fonts: FontSet) -> bytes:
    """A JPEG of at most 32 KB, 480 px wide, with XMP. Nothing in it is generated."""
    thumbnail = np.vstack([_paint_band(facts, fonts), _cut_part(painted)])
    packet = write_packet(describe_origin(facts, None, "thumbnail"))
    for quality in QUALITIES:
        jpeg = embed_packet(encode_jpeg(thumbnail, quality), packet)
        if len(jpeg) <= MAX_THUMBNAIL_BYTES:
            return jpeg
    raise ValueError(f"no thumbnail below {MAX_THUMBNAIL_BYTES} bytes; the metadata alone takes {len(packet)}")


def _paint_band(facts: VisualFacts, fonts: FontSet) -> BgrImage:
    """Verdict, part id and score in the verdict's colour."""
    background, colour = VERDICT_COLOURS[facts.verdict]
    height = line_height_px(TEXT_PX) + PAD_PX
    band = np.empty((height, WIDTH_PX, 3), np.uint8)
    band[:] = background[::-1]
    score = "" if facts.score is None else f" · score {format_scores(facts.score, facts.thresholds)[0]}"
    text = f"{VERDICT_WORDS[facts.verdict]} · {facts.part_id or 'no part id'}{score}"
    size = (WIDTH_PX - 2 * PAD_PX, line_height_px(TEXT_PX))
    shown = shorten_middle(text, size[0], TEXT_PX, fonts, bold=True)
    picture = np.asarray(paint_text(shown, size, TEXT_PX, colour, background, fonts, bold=True), np.uint8)
    band[PAD_PX // 2 : PAD_PX // 2 + size[1], PAD_PX : PAD_PX + size[0]] = picture[..., ::-1]
    return band


def _cut_part(painted: PaintedVisual) -> BgrImage:
    """The picture of the part with its callouts, centred on white."""
    boxes = [painted.plan.part, *(callout.badge for callout in painted.plan.callouts)]
    x0, y0 = min(box[0] for box in boxes), min(box[1] for box in boxes)
    x1, y1 = max(box[2] for box in boxes), max(box[3] for box in boxes)
    scale = min(WIDTH_PX / (x1 - x0), MAX_PICTURE_HEIGHT_PX / (y1 - y0))
    width, height = max(1, round((x1 - x0) * scale)), max(1, round((y1 - y0) * scale))
    canvas = np.full((height, WIDTH_PX, 3), 255, np.uint8)
    left = (WIDTH_PX - width) // 2
    canvas[:, left : left + width] = resize_view(painted.pixels[y0:y1, x0:x1], (width, height))
    return canvas
