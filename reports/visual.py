"""Paints a planned visual and encodes it: the picture that explains one inspection to a manager."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from inspector.generator.repairer import Twin
from inspector.images import encode_jpeg
from inspector.records import BgrImage, BoxPx
from reports.text import Colour, paint_text
from reports.text_fonts import FontSet
from reports.visual_facts import VisualFacts
from reports.visual_layout import plan_visual
from reports.visual_plan import ACCENT, INK, WHITE, Gauge, PlannedTile, Point, VisualPlan
from reports.xmp import PictureOrigin, embed_packet, write_packet

JPEG_QUALITY = 90
DIFFERENCE_FULL_SCALE = 80.0
"""Grey levels of difference shown at full strength."""
HAIRLINE: Colour = (190, 196, 205)
GAUGE_COLOURS: tuple[Colour, Colour, Colour] = ((46, 160, 84), (250, 176, 20), (206, 32, 54))


@dataclass(frozen=True, slots=True)
class PaintedVisual:
    """A painted plan: `pixels` is (H, W, 3) uint8 BGR."""

    pixels: BgrImage
    plan: VisualPlan


def render_visual(frame: BgrImage, twin: Twin | None, facts: VisualFacts, fonts: FontSet | None = None) -> bytes:
    """One JPEG with XMP that explains an inspection.

    `frame` is (H, W, 3) uint8 BGR and is not altered; `twin` belongs to it. Loading fonts takes a tenth of a
    second: who paints many pictures passes them. Raises `ValueError` for a twin of another size.
    """
    return encode_visual(paint_visual(frame, twin, facts, fonts or FontSet()), twin, facts)


def paint_visual(frame: BgrImage, twin: Twin | None, facts: VisualFacts, fonts: FontSet) -> PaintedVisual:
    """Plan and paint."""
    if twin is not None and twin.pixels.shape != frame.shape:
        raise ValueError(f"the twin is {twin.pixels.shape}, the frame {frame.shape}")
    size = (frame.shape[1], frame.shape[0])
    plan = plan_visual(facts, size, twin.method if twin else None, fonts, twin.fallback if twin else None)
    return PaintedVisual(paint_plan(plan, frame, twin, fonts), plan)


def encode_visual(painted: PaintedVisual, twin: Twin | None, facts: VisualFacts) -> bytes:
    """The painted visual as JPEG with its XMP packet."""
    packet = write_packet(describe_origin(facts, twin, "visual"))
    return embed_packet(encode_jpeg(painted.pixels, JPEG_QUALITY), packet)


def describe_origin(facts: VisualFacts, twin: Twin | None, kind: str) -> PictureOrigin:
    """What the XMP packet says."""
    title = f"{facts.verdict.value} – part {facts.part_id or 'without id'}"
    return PictureOrigin(
        title=title,
        kind=kind,
        created_utc_us=facts.decided_utc_us,
        software=f"line-inspector {facts.software_version}".strip(),
        inspection_id=facts.inspection_id,
        frame_sha256=facts.frame_sha256,
        part_id=facts.part_id,
        twin_method=twin.method if twin else None,
        twin_fallback=twin.fallback if twin else None,
        twin_peel=twin.peel if twin else None,
        generated_regions=tuple(region.box_xyxy_px for region in facts.regions) if twin else (),
    )


def paint_plan(plan: VisualPlan, frame: BgrImage, twin: Twin | None, fonts: FontSet) -> BgrImage:
    """Paint every element of a plan."""
    canvas = np.empty((plan.height_px, plan.width_px, 3), np.uint8)
    for box in plan.boxes:
        if box.fill is not None and not box.round:
            _fill(canvas, box.box, box.fill)
    _paint_hairline(canvas, plan.part, plan.unit)
    _paste(canvas, plan.part, resize_view(frame, _size(plan.part)))
    for tile in plan.tiles:
        _paint_tile(canvas, tile, frame, twin, plan.unit)
    _paint_annotations(canvas, plan)
    if plan.gauge is not None:
        _paint_gauge(canvas, plan.gauge, plan.unit)
    for box in plan.boxes:
        if box.fill is not None and (box.round or box.name.endswith("_mark")):
            _fill_disc(canvas, box.box, box.fill) if box.round else _fill(canvas, box.box, box.fill)
    for text in plan.texts:
        picture = paint_text(text.text, _size(text.box), text.size_px, text.colour, text.background, fonts, text.bold)
        _paste(canvas, text.box, np.asarray(picture, np.uint8)[..., ::-1])
    return canvas


# --- tiles ------------------------------------------------------------------------------------------


def _paint_tile(canvas: BgrImage, tile: PlannedTile, frame: BgrImage, twin: Twin | None, unit: float) -> None:
    original = _view(frame, tile.crop, _size(tile.picture))
    if tile.content == "original" or twin is None:
        _paste(canvas, tile.picture, original)
        _draw_outline(canvas, tile.outline, tile.picture, unit, thin=True)
        return
    generated = _view(twin.pixels, tile.crop, _size(tile.picture))
    _paste(canvas, tile.picture, generated if tile.content == "twin" else show_difference(original, generated))


def show_difference(original: BgrImage, generated: BgrImage) -> BgrImage:
    """Where and how much two pictures differ: pale grey original, differences from yellow to dark red over it.

    A value that the other picture shows one pixel further does not count: edges of two good parts never fall
    on exactly the same pixels.
    """
    grey = cv2.cvtColor(cv2.cvtColor(original, cv2.COLOR_BGR2GRAY), cv2.COLOR_GRAY2BGR)
    reach = np.ones((3, 3), np.uint8)
    above = cv2.subtract(original, cv2.dilate(generated, reach))
    below = cv2.subtract(cv2.erode(generated, reach), original)
    difference = cv2.GaussianBlur(cv2.max(above, below).max(axis=2), (0, 0), 1.0)
    strength = np.clip(difference.astype(np.float32) / DIFFERENCE_FULL_SCALE, 0.0, 1.0)
    backdrop = 150.0 + 0.35 * grey.astype(np.float32)
    ramp = np.array([[40, 220, 255], [0, 120, 240], [20, 0, 170]], np.float32)
    position = strength[..., None] * 2.0
    heat = np.where(
        position < 1.0,
        ramp[0] + (ramp[1] - ramp[0]) * position,
        ramp[1] + (ramp[2] - ramp[1]) * (position - 1.0),
    )
    cover = np.clip(strength * 6.0 - 0.5, 0.0, 1.0)[..., None]
    return np.asarray(np.clip(backdrop + cover * (heat - backdrop), 0, 255), np.uint8)


def _view(image: BgrImage, crop: BoxPx, size: tuple[int, int]) -> BgrImage:
    return resize_view(image[crop[1] : crop[3], crop[0] : crop[2]], size)


def resize_view(image: BgrImage, size: tuple[int, int]) -> BgrImage:
    """An image at another (width, height): cubic when enlarged, without aliasing when reduced.

    A strong reduction averages whole blocks first: area averaging by any other factor takes ten times as long.
    """
    block = min(image.shape[1] // size[0], image.shape[0] // size[1])
    if block >= 2:
        width, height = image.shape[1] // block, image.shape[0] // block
        whole = image[: height * block, : width * block]
        image = np.asarray(cv2.resize(whole, (width, height), interpolation=cv2.INTER_AREA), np.uint8)
    method = cv2.INTER_CUBIC if size[0] > image.shape[1] else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(image, size, interpolation=method), np.uint8)


# --- drawing ----------------------------------------------------------------------------------------


def _paint_annotations(canvas: BgrImage, plan: VisualPlan) -> None:
    for outline in plan.unnumbered:
        _draw_outline(canvas, outline, plan.part, plan.unit, thin=True)
    for callout in plan.callouts:
        _draw_line(canvas, callout.leader, plan.unit)
    for callout in plan.callouts:
        _draw_outline(canvas, callout.outline, plan.part, plan.unit, thin=False)


def _draw_outline(canvas: BgrImage, outline: BoxPx, inside: BoxPx, unit: float, *, thin: bool) -> None:
    """A red line between two white ones, seen on any background; nothing is painted outside `inside`."""
    core = max(1, round((1.2 if thin else 2.2) * unit))
    casing = max(1, round((0.9 if thin else 1.4) * unit))
    view = canvas[inside[1] : inside[3], inside[0] : inside[2]]
    x0, y0, x1, y1 = (edge - inside[index % 2] for index, edge in enumerate(outline))
    for reach, thickness, colour in ((core + casing, core + 2 * casing, WHITE), (core, core, ACCENT)):
        _draw_frame(view, (x0 - reach, y0 - reach, x1 + reach, y1 + reach), thickness, colour)


def _draw_frame(view: BgrImage, box: BoxPx, thickness: int, colour: Colour) -> None:
    """A rectangular frame whose outer edge is `box`, clipped to the view."""
    height, width = view.shape[:2]
    x0, y0, x1, y1 = max(0, box[0]), max(0, box[1]), min(width, box[2]), min(height, box[3])
    bgr = colour[::-1]
    view[y0 : y0 + thickness, x0:x1] = bgr
    view[max(y0, y1 - thickness) : y1, x0:x1] = bgr
    view[y0:y1, x0 : x0 + thickness] = bgr
    view[y0:y1, max(x0, x1 - thickness) : x1] = bgr


def _paint_hairline(canvas: BgrImage, box: BoxPx, unit: float) -> None:
    """A grey edge around a picture, so that a white background does not flow into the page."""
    width = max(1, round(unit))
    _fill(canvas, (box[0] - width, box[1] - width, box[2] + width, box[3] + width), HAIRLINE)


def _draw_line(canvas: BgrImage, line: tuple[Point, Point], unit: float) -> None:
    core = max(1, round(2.0 * unit))
    cv2.line(canvas, line[0], line[1], WHITE[::-1], core + 2 * max(1, round(1.4 * unit)), cv2.LINE_AA)
    cv2.line(canvas, line[0], line[1], ACCENT[::-1], core, cv2.LINE_AA)


def _paint_gauge(canvas: BgrImage, gauge: Gauge, unit: float) -> None:
    x0, y0, x1, y1 = gauge.bar
    edges = (x0, gauge.review_x, gauge.ng_x, x1)
    for start, end, colour in zip(edges, edges[1:], GAUGE_COLOURS, strict=False):
        _fill(canvas, (start, y0, end, y1), colour)
    tick = max(1, round(1.5 * unit))
    for x in (gauge.review_x, gauge.ng_x):
        left = min(max(x0, x - tick // 2), x1 - tick)
        _fill(canvas, (left, y0, left + tick, y1), WHITE)
    left, top, right, bottom = gauge.pointer
    corners = np.array([(left, top), (right - 1, top), (gauge.score_x, bottom - 1)], np.int32)
    cv2.fillConvexPoly(canvas, corners, INK[::-1], cv2.LINE_AA)
    half = max(1, round(1.5 * unit))
    start = min(max(x0, gauge.score_x - half), x1 - 2 * half)
    _fill(canvas, (start, y0, start + 2 * half, y1), INK)


def _fill_disc(canvas: BgrImage, box: BoxPx, colour: Colour) -> None:
    radius = (min(box[2] - box[0], box[3] - box[1]) - 1) // 2
    centre = ((box[0] + box[2]) // 2, (box[1] + box[3]) // 2)
    cv2.circle(canvas, centre, radius, colour[::-1], -1, cv2.LINE_AA)


def _fill(canvas: BgrImage, box: BoxPx, colour: Colour) -> None:
    if box[2] > box[0] and box[3] > box[1]:
        cv2.rectangle(canvas, (box[0], box[1]), (box[2] - 1, box[3] - 1), colour[::-1], cv2.FILLED)


def _paste(canvas: BgrImage, box: BoxPx, picture: NDArray[np.uint8]) -> None:
    canvas[box[1] : box[3], box[0] : box[2]] = picture


def _size(box: BoxPx) -> tuple[int, int]:
    return box[2] - box[0], box[3] - box[1]
