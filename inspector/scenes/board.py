"""The bare circuit board: laminate, copper under solder mask, pads, vias, silkscreen, holes.

Masks are drawn at the resolution of the picture and shaded once; a `Layer` comes out.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from inspector.scenes import light
from inspector.scenes.board_layout import (
    BOARD_HEIGHT_MM,
    BOARD_THICK_MM,
    BOARD_WIDTH_MM,
    HOLE_RADIUS_MM,
    LABEL_BOX,
    MOUNTING_HOLES,
    PLACEMENTS,
    RING_RADIUS_MM,
    Placement,
    route_board,
)
from inspector.scenes.lettering import draw_text, text_width
from inspector.scenes.light import F32, U8, linear
from inspector.scenes.relief import Layer, Relief, grain_noise

MASK_ON_COPPER = linear("#0d5029")
MASK_ON_LAMINATE = linear("#07321a")
LAMINATE = linear("#8a8250")
SILK = linear("#e9ebe6")
TINNED = linear("#cfd1d2")
GILT = linear("#e0b664")
MARGIN_MM = 3.2
"""Room around the board in its canvas, for the shadow it throws."""
_SHIFT = 4
_REF_MM = 0.95


@dataclass(frozen=True, slots=True)
class BareBoard:
    """The shaded board without components. `solder_mask` (H, W) uint8 says where lot shades apply."""

    layer: Layer
    solder_mask: U8
    px_per_mm: float


class _Sheet:
    """One (H, W) uint8 mask over the board, drawn in millimetres with antialiasing."""

    def __init__(self, px_per_mm: float) -> None:
        self.px_per_mm = px_per_mm
        self.mask = np.zeros(canvas_shape(px_per_mm), np.uint8)

    def point(self, x: float, y: float) -> tuple[int, int]:
        scale = self.px_per_mm * (1 << _SHIFT)
        half = (1 << _SHIFT) / 2
        return round((x + MARGIN_MM) * scale - half), round((y + MARGIN_MM) * scale - half)

    def line(self, points: tuple[tuple[float, float], ...], width_mm: float, value: int = 255) -> None:
        path = np.array([self.point(*point) for point in points], np.int32)
        thickness = max(1, round(width_mm * self.px_per_mm))
        cv2.polylines(self.mask, [path], False, (value,), thickness, cv2.LINE_AA, _SHIFT)

    def disc(self, x: float, y: float, radius: float, value: int = 255) -> None:
        reach = round(radius * self.px_per_mm * (1 << _SHIFT))
        cv2.circle(self.mask, self.point(x, y), reach, (value,), -1, cv2.LINE_AA, _SHIFT)

    def box(self, x: float, y: float, width: float, height: float, value: int = 255) -> None:
        corners = [(x + sx * width / 2, y + sy * height / 2) for sx, sy in ((-1, -1), (1, -1), (1, 1), (-1, 1))]
        path = np.array([self.point(*corner) for corner in corners], np.int32)
        cv2.fillPoly(self.mask, [path], (value,), cv2.LINE_AA, _SHIFT)

    def text(self, text: str, x: float, y: float, height: float, turns: int = 0, stroke: float = 0.15) -> None:
        spot = ((x + MARGIN_MM) * self.px_per_mm - 0.5, (y + MARGIN_MM) * self.px_per_mm - 0.5)
        draw_text(self.mask, text, spot, height * self.px_per_mm, stroke * self.px_per_mm, quarter_turns=turns)


def canvas_shape(px_per_mm: float) -> tuple[int, int]:
    """Rows and columns of the board's canvas."""
    return (
        int(np.ceil((BOARD_HEIGHT_MM + 2 * MARGIN_MM) * px_per_mm)),
        int(np.ceil((BOARD_WIDTH_MM + 2 * MARGIN_MM) * px_per_mm)),
    )


def draw_bare_board(px_per_mm: float) -> BareBoard:
    """Draw and shade the board of `board_layout`; the same every time."""
    rng = np.random.default_rng(4_711)
    shape = canvas_shape(px_per_mm)
    copper, vias = _draw_copper(px_per_mm)
    pads = _draw_pads(px_per_mm)
    rings, holes = _draw_mounting_holes(px_per_mm)
    bare = np.maximum(pads, rings)
    silk = np.minimum(_draw_silkscreen(px_per_mm), 255 - bare)
    board = _draw_outline(px_per_mm)
    under, dimples = _soften(copper, 0.035 * px_per_mm), _soften(vias, 0.03 * px_per_mm)
    worn = np.clip(1.0 + 0.10 * grain_noise(shape, rng, 0.08 * px_per_mm), 0, 1)
    prints = (
        (_share(silk) * worn, SILK),
        (_share(pads), TINNED),
        (_share(rings), GILT),
        (_edge(board, px_per_mm), LAMINATE),
    )
    albedo = _draw_albedo(under, dimples, _weave(shape, px_per_mm, rng), prints)
    height = _solder_domes(pads, px_per_mm) + 0.045 * under + 0.02 * _share(silk) - 0.05 * dimples
    height += _share(bare) * (0.006 * grain_noise(shape, rng, 0.3 * px_per_mm))
    height += 0.0016 * grain_noise(shape, rng, 0.25 * px_per_mm) + 0.003 * grain_noise(shape, rng, 2.5 * px_per_mm)
    gloss = np.float32(0.75) * (1 - _share(silk))
    full = np.broadcast_to(np.float32(1.0), shape)
    picture = light.shade(albedo, height, _share(bare), gloss, px_per_mm, full, full)
    solid = np.minimum(board, 255 - holes)
    colour = cv2.multiply(picture, cv2.merge([solid] * 3), scale=1 / 255.0)
    through = _see_through(solid, board, px_per_mm)
    lacquer = 255 - np.maximum(bare, silk)
    anchor = (MARGIN_MM * px_per_mm - 0.5, MARGIN_MM * px_per_mm - 0.5)
    return BareBoard(Layer(np.asarray(cv2.merge([*cv2.split(colour), through]), np.uint8), anchor), lacquer, px_per_mm)


def _draw_albedo(under: F32, dimples: F32, weave: F32, prints: tuple[tuple[F32, F32], ...]) -> F32:
    """Colours (3, H, W): lacquer over copper and laminate, and what is printed or bare on top."""
    tone = (1.0 + weave * (1 - 0.6 * under)) * (1.0 - 0.45 * dimples)
    albedo = np.empty((3, *under.shape), np.float32)
    for channel, plane in enumerate(albedo):
        plane[:] = (MASK_ON_LAMINATE[channel] + under * (MASK_ON_COPPER - MASK_ON_LAMINATE)[channel]) * tone
        for share, colour in prints:
            plane += share * (colour[channel] - plane)
    return albedo


def _soften(mask: U8, sigma_px: float) -> F32:
    return _share(np.asarray(cv2.GaussianBlur(mask, (0, 0), max(0.5, sigma_px)), np.uint8))


def _share(mask: U8) -> F32:
    return mask.astype(np.float32) * np.float32(1.0 / 255.0)


def _draw_copper(px_per_mm: float) -> tuple[U8, U8]:
    """Copper under the mask (planes, traces, pads) and the dimples of tented vias."""
    routed = route_board()
    copper, gaps, tracks, dimples = (_Sheet(px_per_mm) for _ in range(4))
    copper.box(BOARD_WIDTH_MM / 2, BOARD_HEIGHT_MM / 2, BOARD_WIDTH_MM - 1.0, BOARD_HEIGHT_MM - 1.0)
    for trace in routed.traces:
        gaps.line(trace, 0.62)
        tracks.line(trace, 0.22)
    for number, (x, y, width, height) in enumerate(pad for part in PLACEMENTS for pad in part.pads()):
        gaps.box(x, y, width + 0.5, height + 0.5)
        tracks.box(x, y, width, height)
        if number % 5 == 0:
            tracks.line(((x - width / 2 - 0.4, y), (x + width / 2 + 0.4, y)), 0.3)
            tracks.line(((x, y - height / 2 - 0.4), (x, y + height / 2 + 0.4)), 0.3)
    for x, y in routed.vias:
        tracks.disc(x, y, 0.36)
        dimples.disc(x, y, 0.16)
    for x, y in MOUNTING_HOLES:
        gaps.disc(x, y, RING_RADIUS_MM + 0.35)
        tracks.disc(x, y, RING_RADIUS_MM)
    plane = np.minimum(copper.mask, 255 - gaps.mask)
    return np.maximum(plane, tracks.mask), dimples.mask


def _draw_pads(px_per_mm: float) -> U8:
    sheet = _Sheet(px_per_mm)
    for part in PLACEMENTS:
        for x, y, width, height in part.pads():
            if part.package.startswith(("HDR", "TERM")):
                sheet.disc(x, y, width / 2)
            else:
                sheet.box(x, y, width, height)
    return sheet.mask


def _draw_mounting_holes(px_per_mm: float) -> tuple[U8, U8]:
    rings, holes = _Sheet(px_per_mm), _Sheet(px_per_mm)
    for x, y in MOUNTING_HOLES:
        rings.disc(x, y, RING_RADIUS_MM)
        holes.disc(x, y, HOLE_RADIUS_MM)
    for x, y in ((9.5, 3.2), (92.2, 53.8), (51.0, 55.0)):
        rings.disc(x, y, 0.55)
    return rings.mask, holes.mask


def _draw_silkscreen(px_per_mm: float) -> U8:
    sheet = _Sheet(px_per_mm)
    texts = _board_texts()
    taken = [_around(part) for part in PLACEMENTS]
    taken += [(x - 3.4, y - 3.4, x + 3.4, y + 3.4) for x, y in MOUNTING_HOLES]
    x0, y0, x1, y1 = LABEL_BOX
    taken.append((x0 - 0.6, y0 - 0.6, x1 + 0.6, y1 + 0.6))
    for text, x, y, size, stroke in texts:
        sheet.text(text, x, y, size, stroke=stroke)
        wide = text_width(text, size) / 2
        taken.append((x - wide, y - size / 2, x + wide, y + size / 2))
    for part in PLACEMENTS:
        _outline_part(sheet, part)
        for x, y, turns in _reference_spots(part):
            area = _text_area(part.ref, x, y, turns)
            inside = (
                area[1] > 0.7 and area[3] < BOARD_HEIGHT_MM - 0.7 and area[0] > 0.7 and area[2] < BOARD_WIDTH_MM - 0.7
            )
            if inside and not any(_overlap(area, other) for other in taken):
                sheet.text(part.ref, x, y, _REF_MM, turns, stroke=0.14)
                taken.append(area)
                break
    corners = ((x0 - 0.4, y0 - 0.4), (x1 + 0.4, y0 - 0.4), (x1 + 0.4, y1 + 0.4), (x0 - 0.4, y1 + 0.4))
    sheet.line((*corners, corners[0]), 0.14)
    return sheet.mask


def _board_texts() -> list[tuple[str, float, float, float, float]]:
    """Free texts of the silkscreen: text, x, y, height, stroke in millimetres."""
    texts = [("LINE CONTROL 4", 34.5, 2.8, 1.5, 0.22), ("LC4-MB REV C", 84.6, 11.2, 0.9, 0.13)]
    texts += [(name, 13.4 + 5.08 * i, 46.3, 0.9, 0.14) for i, name in enumerate(("+24V", "GND", "SIG"))]
    texts += [(f"OUT{i + 1}", 32.9 + 5.08 * i, 46.72, 0.72, 0.12) for i in range(4)]
    texts += [(name, 60.5 + 5.5 * i, 54.9, 0.9, 0.14) for i, name in enumerate(("RUN", "ERR", "COM"))]
    return texts


Area = tuple[float, float, float, float]


def _around(part: Placement) -> Area:
    """What a part and its pads occupy: x0, y0, x1, y1."""
    width, height = part.outline()
    boxes = [*part.pads(), (part.x, part.y, width, height)]
    return (
        min(x - w / 2 for x, _, w, _ in boxes),
        min(y - h / 2 for _, y, _, h in boxes),
        max(x + w / 2 for x, _, w, _ in boxes),
        max(y + h / 2 for _, y, _, h in boxes),
    )


def _overlap(one: Area, other: Area) -> bool:
    gap = 0.12
    return one[0] < other[2] + gap and other[0] < one[2] + gap and one[1] < other[3] + gap and other[1] < one[3] + gap


def _text_area(text: str, x: float, y: float, turns: int) -> Area:
    wide, tall = text_width(text, _REF_MM) / 2, _REF_MM / 2
    wide, tall = (tall, wide) if turns % 2 else (wide, tall)
    return x - wide, y - tall, x + wide, y + tall


def _reference_spots(part: Placement) -> list[tuple[float, float, int]]:
    """Where a reference may stand, best first: x, y, quarter turns."""
    x0, y0, x1, y1 = _around(part)
    wide, tall = text_width(part.ref, _REF_MM) / 2, _REF_MM / 2
    away = 0.55
    above, below = (part.x, y0 - away - tall, 0), (part.x, y1 + away + tall, 0)
    left, right = (x0 - away - tall, part.y, 1), (x1 + away + tall, part.y, 1)
    beside = [(x0 - away - wide, part.y, 0), (x1 + away + wide, part.y, 0)]
    corner = [(x0 + wide, y0 - away - tall, 0), (x1 - wide, y0 - away - tall, 0), (x0 + wide, y1 + away + tall, 0)]
    upright = part.package.startswith(("R0", "R1", "C0", "C1")) and part.turns % 2
    return [left, right, above, below, *beside] if upright else [above, below, *corner, *beside, left, right]


def _outline_part(sheet: _Sheet, part: Placement) -> None:
    """Two bars beside chips, a frame around everything bigger, a dot at pin 1."""
    x0, y0, x1, y1 = _around(part)
    if part.package.startswith(("R0", "R1", "C0", "C1", "L0")):
        inset_x, inset_y = 0.36 * (x1 - x0), 0.36 * (y1 - y0)
        if part.turns % 2:
            bars = [((x, y0 + inset_y), (x, y1 - inset_y)) for x in (x0 - 0.2, x1 + 0.2)]
        else:
            bars = [((x0 + inset_x, y), (x1 - inset_x, y)) for y in (y0 - 0.2, y1 + 0.2)]
        for bar in bars:
            sheet.line(bar, 0.14)
        return
    x0, y0, x1, y1 = x0 - 0.25, y0 - 0.25, x1 + 0.25, y1 + 0.25
    corners = ((x0, y0), (x1, y0), (x1, y1), (x0, y1))
    sheet.line((*corners, corners[0]), 0.14)
    if part.package in ("SO8", "SO16", "QFP44", "SOT23", "SMA", "TANT", "CAN"):
        sheet.disc(*corners[part.turns % 4 and 4 - part.turns % 4], 0.3)


def _weave(shape: tuple[int, int], px_per_mm: float, rng: np.random.Generator) -> F32:
    """Glass fabric that shines through the laminate, as a relative change of colour."""
    pitch = 0.55 * px_per_mm
    x = np.arange(shape[1], dtype=np.float32) * (2 * np.pi / pitch)
    y = np.arange(shape[0], dtype=np.float32)[:, None] * (2 * np.pi / pitch)
    fabric = np.cos(x) * np.cos(y)
    return np.asarray(
        0.045 * fabric
        + 0.035 * grain_noise(shape, rng, 0.15 * px_per_mm)
        + 0.04 * grain_noise(shape, rng, 6.0 * px_per_mm),
        np.float32,
    )


def _solder_domes(pads: U8, px_per_mm: float) -> F32:
    """Height of the solder left on pads: round at the rim."""
    reach = 0.28 * px_per_mm
    inside = cv2.distanceTransform((pads > 127).astype(np.uint8), cv2.DIST_L2, 3)
    rise = np.clip(inside / reach, 0, 1)
    return np.asarray(0.11 * np.sqrt(np.maximum(0.0, 1 - (1 - rise) ** 2)), np.float32)


def _draw_outline(px_per_mm: float) -> U8:
    """The board's contour with rounded corners."""
    sheet = _Sheet(px_per_mm)
    radius = 2.0
    sheet.box(BOARD_WIDTH_MM / 2, BOARD_HEIGHT_MM / 2, BOARD_WIDTH_MM - 2 * radius, BOARD_HEIGHT_MM)
    sheet.box(BOARD_WIDTH_MM / 2, BOARD_HEIGHT_MM / 2, BOARD_WIDTH_MM, BOARD_HEIGHT_MM - 2 * radius)
    for x in (radius, BOARD_WIDTH_MM - radius):
        for y in (radius, BOARD_HEIGHT_MM - radius):
            sheet.disc(x, y, radius)
    return sheet.mask


def _edge(board: U8, px_per_mm: float) -> F32:
    """Share 0..1 of raw laminate that shows along the milled edge."""
    inside = cv2.distanceTransform((board > 127).astype(np.uint8), cv2.DIST_L2, 3)
    return np.asarray(0.75 * np.clip(1.0 - inside / (0.16 * px_per_mm), 0, 1) * (board > 0), np.float32)


def _see_through(solid: U8, board: U8, px_per_mm: float) -> U8:
    """What remains of the belt: nothing under the board, its shadow beside it, little in deep holes."""
    height = _share(solid) * BOARD_THICK_MM
    lit = light.cast_shadow(height, px_per_mm, soft_mm=0.5, grid_px_per_mm=8.0)
    sky = light.ambient_occlusion(height, px_per_mm)
    in_hole = _share(np.minimum(255 - solid, board))
    remaining = (0.6 * lit + 0.4 * sky) * (1.0 - 0.72 * in_hole)
    return np.asarray(np.round(light.factor_to_u8(remaining) * (1.0 - _share(solid))), np.uint8)


def stamp_lot_code(layer: Layer, code: str, spot_px: tuple[float, float], size_px: float, turns: int) -> Layer:
    """The component with the date code of its lot lasered on; `spot_px` is relative to its origin."""
    fine = 4
    rows, columns = layer.pixels.shape[:2]
    mask = np.zeros((rows * fine, columns * fine), np.uint8)
    spot = [(at + origin + 0.5) * fine - 0.5 for at, origin in zip(spot_px, layer.anchor_px, strict=True)]
    draw_text(mask, code, (spot[0], spot[1]), size_px * fine, size_px * fine * 0.11, quarter_turns=turns)
    share = cv2.resize(mask, (columns, rows), interpolation=cv2.INTER_AREA).astype(np.float32)[..., None] * (0.6 / 255)
    laser = light.expose(linear("#98968e")[None, None])[0, 0].astype(np.float32)
    pixels = layer.pixels.astype(np.float32)
    pixels[..., :3] += share * (laser - pixels[..., :3])
    return Layer(np.asarray(np.round(pixels), np.uint8), layer.anchor_px)


def draw_label(lot_text: str, px_per_mm: float) -> Layer:
    """The white label with a matrix code, product and lot."""
    x0, y0, x1, y1 = LABEL_BOX
    width, height = x1 - x0, y1 - y0
    relief = Relief((-width / 2 - 0.4, -height / 2 - 0.4, width / 2 + 0.4, height / 2 + 0.4), px_per_mm * 2)
    paper = relief.box(0, 0, width, height, 0.3)
    relief.lay(paper, linear("#dfddd2"), 0.10, gloss=0.3)
    relief.speckle(np.random.default_rng(3), 0.015, 0.2)
    ink = np.zeros(relief.height.shape, np.uint8)
    rng = np.random.default_rng(99)
    cell = 0.32
    for row in range(16):
        for column in range(16):
            solid = column == 0 or row == 15
            dotted = (row == 0 and column % 2 == 0) or (column == 15 and row % 2 == 1)
            inner = 0 < row < 15 and 0 < column < 15 and rng.random() < 0.5
            if solid or dotted or inner:
                px, py = relief.to_px(-width / 2 + 0.6 + column * cell, -height / 2 + 0.65 + row * cell)
                side = cell * px_per_mm * 2
                ink[round(py) : round(py + side), round(px) : round(px + side)] = 255
    scale = px_per_mm * 2
    for text, y, size in (("LC4-MB", -1.75, 1.35), ("24V 0.8A", 0.15, 0.95), (lot_text, 1.9, 1.05)):
        draw_text(ink, text, relief.to_px(2.9, y), size * scale, size * scale * 0.15)
    relief.print_mask(ink, linear("#232323"), 0.92)
    return relief.photograph(oversampling=2)
