"""A die-cast aluminium cover: cast skin, milled flange, turned boss, drilled and chamfered holes.

Tool marks are relief, so that the way they catch the light comes from the light alone. Millimetres from
the middle of the part.
"""

from __future__ import annotations

import cv2
import numpy as np

from inspector.scenes import light
from inspector.scenes.lettering import draw_text
from inspector.scenes.light import F32, U8, linear
from inspector.scenes.relief import Layer, Patch, Relief, grain_noise

WIDTH_MM, HEIGHT_MM, CORNER_MM = 100.0, 55.0, 9.0
FLANGE_WIDTH_MM = 9.0
FLANGE_TOP, POCKET_FLOOR, BOSS_TOP, BORE_FLOOR, SPOT_TOP = 10.0, 6.2, 11.5, 4.5, 9.75
BOSS_RADIUS, BORE_RADIUS, PORT_RADIUS = 18.5, 11.5, 3.6
HOLE_RADIUS, CHAMFER_MM, SPOT_RADIUS = 2.5, 0.5, 4.0
BOLT_HOLES = ((-44.2, -21.7), (0.0, -23.2), (44.2, -21.7), (-44.2, 21.7), (0.0, 23.2), (44.2, 21.7))
DOWEL_HOLES = ((-45.5, 0.0), (45.5, 0.0))
DOWEL_RADIUS = 1.6
PLATE = (30.5, -10.5, 14.0, 4.6)
"""The milled plate for the lot code: x, y, width, height."""
MARGIN_MM = 9.5

CAST = linear("#a3a5a6")
MILLED = linear("#c3c6c8")
TURNED = linear("#c9cbcc")
DARK = linear("#2a2a2a")


def draw_casting(px_per_mm: float) -> Layer:
    """The whole part, shaded; the same every time."""
    rng = np.random.default_rng(815)
    box = (-WIDTH_MM / 2 - MARGIN_MM, -HEIGHT_MM / 2 - MARGIN_MM, WIDTH_MM / 2 + MARGIN_MM, HEIGHT_MM / 2 + MARGIN_MM)
    relief = Relief(box, px_per_mm)
    _lay_body(relief, rng)
    _lay_flange(relief, rng)
    _lay_pocket_features(relief)
    _roughen_cast(relief, rng)
    _lay_boss(relief, rng)
    plate = relief.box(*PLATE, 0.8)
    _lay_milled(relief, plate, POCKET_FLOOR + 1.2, rng)
    for x, y in BOLT_HOLES:
        lay_bolt_seat(relief, x, y, rng)
        drill(relief, x, y, HOLE_RADIUS)
    for x, y in DOWEL_HOLES:
        drill(relief, x, y, DOWEL_RADIUS)
    drill(relief, 0.0, 0.0, PORT_RADIUS, top=BORE_FLOOR)
    return relief.photograph(shadow_grid_px_per_mm=10.0)


def lay_bolt_seat(relief: Relief, x: float, y: float, rng: np.random.Generator) -> None:
    """A spot-faced seat around a bolt hole, without the hole."""
    seat = relief.disc(x, y, SPOT_RADIUS)
    wall = np.clip(-seat.distance / 0.12, 0, 1)
    radius = seat.distance + SPOT_RADIUS
    height = FLANGE_TOP + (SPOT_TOP - FLANGE_TOP) * wall + turned_grooves(radius, rng, 0.11, 0.0075)
    relief.lay(seat, TURNED, np.asarray(height, np.float32), metal=0.85)


def drill(relief: Relief, x: float, y: float, radius: float, top: float | None = None) -> None:
    """A through hole with a chamfer; its wall darkens quickly with depth."""
    rim = relief.disc(x, y, radius + CHAMFER_MM)
    at = rim.distance + radius + CHAMFER_MM
    surface = relief.height[rim.rows, rim.columns] if top is None else np.full_like(at, top)
    slope = np.clip(at - radius, 0, CHAMFER_MM) - CHAMFER_MM
    relief.lay(rim, TURNED * np.float32(0.95), np.asarray(surface + slope, np.float32), metal=0.9)
    hole = relief.disc(x, y, radius)
    window = (hole.rows, hole.columns)
    depth = np.clip(-hole.distance / 0.5, 0, 1)
    relief.lay(hole, DARK * np.float32(0.35), np.asarray(2.0 - 2.0 * depth, np.float32), metal=0.15, gloss=0.0)
    relief.coverage[window] *= 1.0 - 0.25 * hole.cover * depth


def turned_grooves(radius: F32, rng: np.random.Generator, feed_mm: float, depth_mm: float) -> F32:
    """Relief of a turned face as a function of the radius (mm): a feed rhythm with chatter."""
    table = grain_noise((1, 4096), rng, 4.0)[0] * 0.7 + grain_noise((1, 4096), rng, 40.0)[0] * 0.5
    position = np.clip(radius * (4096 / 48.0), 0, 4095)
    rough = np.interp(position, np.arange(4096), table)
    rhythm = np.sin(radius * (2 * np.pi / feed_mm))
    return np.asarray(depth_mm * (0.45 * rhythm + 0.8 * rough), np.float32)


def mark_lot(code: str, px_per_mm: float) -> Layer:
    """The lot code, needled into the milled plate dot by dot; origin at the middle of the part."""
    x, y, width, height = PLATE
    relief = Relief((x - width / 2, y - height / 2, x + width / 2, y + height / 2), px_per_mm)
    ink = np.zeros(relief.height.shape, np.uint8)
    draw_text(ink, code, relief.to_px(x, y), 1.55 * px_per_mm, 0.22 * px_per_mm)
    rows, columns = np.mgrid[0 : ink.shape[0], 0 : ink.shape[1]].astype(np.float32)
    pitch = 0.30 * px_per_mm
    dots = np.cos(rows * 2 * np.pi / pitch) * np.cos(columns * 2 * np.pi / pitch)
    share = ink.astype(np.float32) / 255.0 * np.clip(0.72 + 0.28 * dots, 0, 1)
    lower = np.roll(share, (1, 1), axis=(0, 1))
    colour = light.expose(linear("#4c4d4e")[None, None])[0, 0].astype(np.float32)
    glint = np.clip(lower - share, 0, 1)[..., None] * 150.0
    pixels = np.concatenate(
        [share[..., None] * colour * 0.8 + 0.5 * glint, 255.0 * (1 - 0.8 * share[..., None])], axis=2
    )
    anchor = (-relief.box_mm[0] * px_per_mm - 0.5, -relief.box_mm[1] * px_per_mm - 0.5)
    return Layer(np.asarray(np.round(pixels), np.uint8), anchor)


def cast_cloud(shape: tuple[int, int], px_per_mm: float) -> U8:
    """Uneven tone of casting skins, (H, W) uint8 around 128: each part shows another stretch of it."""
    rng = np.random.default_rng(44)
    cloud = 0.5 * grain_noise(shape, rng, 9.0 * px_per_mm) + 0.35 * grain_noise(shape, rng, 1.6 * px_per_mm)
    cloud += 0.5 * grain_noise(shape, rng, 0.16 * px_per_mm)
    return np.asarray(np.round(np.clip(128 * (1 + 0.022 * cloud), 90, 166)), np.uint8)


def _lay_body(relief: Relief, rng: np.random.Generator) -> None:
    body = relief.box(0, 0, WIDTH_MM, HEIGHT_MM, CORNER_MM)
    relief.lay(body, CAST, FLANGE_TOP - 1.6 + 1.4 * body.rounded_edge(1.6), metal=0.42, gloss=0.25)
    pocket = _pocket(relief)
    wall = np.clip(-pocket.distance / 1.3, 0, 1)
    smooth = wall * wall * (3 - 2 * wall)
    floor = FLANGE_TOP + (POCKET_FLOOR - FLANGE_TOP) * smooth
    relief.lay(pocket, CAST, np.asarray(floor, np.float32), metal=0.42, gloss=0.25)


def _pocket(relief: Relief) -> Patch:
    width, height = WIDTH_MM - 2 * FLANGE_WIDTH_MM, HEIGHT_MM - 2 * FLANGE_WIDTH_MM
    return relief.box(0, 0, width, height, 6.0)


def _lay_flange(relief: Relief, rng: np.random.Generator) -> None:
    outer = relief.box(0, 0, WIDTH_MM - 3.0, HEIGHT_MM - 3.0, CORNER_MM - 1.5)
    pocket_width, pocket_height = WIDTH_MM - 2 * FLANGE_WIDTH_MM + 0.6, HEIGHT_MM - 2 * FLANGE_WIDTH_MM + 0.6
    qx, qy = np.abs(outer.x) - (pocket_width / 2 - 6.3), np.abs(outer.y) - (pocket_height / 2 - 6.3)
    inner = np.hypot(np.maximum(qx, 0), np.maximum(qy, 0)) + np.minimum(np.maximum(qx, qy), 0) - 6.3
    distance = np.maximum(outer.distance, -inner)
    ring = Patch(outer.rows, outer.columns, outer.x, outer.y, np.asarray(distance, np.float32), relief.px_per_mm)
    _lay_milled(relief, ring, FLANGE_TOP, rng)


def _lay_milled(relief: Relief, patch: Patch, top: float, rng: np.random.Generator) -> None:
    """A face-milled surface: arcs of a cutter that travelled along x."""
    reach = 38.0
    arcs = patch.x - np.sqrt(np.maximum(0.0, reach**2 - np.minimum(np.abs(patch.y - 6.0), reach - 1) ** 2))
    marks = turned_grooves(np.asarray(np.mod(arcs + 200.0, 48.0), np.float32), rng, 0.42, 0.0075)
    edge = -0.25 * (1.0 - np.clip(-patch.distance / 0.25, 0, 1))
    relief.lay(patch, MILLED, np.asarray(top + marks + edge, np.float32), metal=0.85)


def _lay_pocket_features(relief: Relief) -> None:
    """Cast ribs, ejector marks and raised letters."""
    for x in (-29.0, 29.0):
        rib = relief.box(x, 0.0, 24.0, 2.2, 1.0)
        relief.lay(rib, CAST, POCKET_FLOOR + 2.4 * rib.rounded_edge(1.0), metal=0.42, gloss=0.25)
    for x, y in ((-37.0, 14.0), (37.5, 14.0), (-22.0, -14.0), (20.5, 14.0)):
        ejector = relief.disc(x, y, 2.0)
        relief.lay(ejector, CAST, POCKET_FLOOR - 0.18 * ejector.rounded_edge(0.12), metal=0.42, gloss=0.25)
    letters = np.zeros(relief.height.shape, np.uint8)
    scale = relief.px_per_mm
    for text, x, y, size in (("AL4-210", -28.6, -8.5, 2.7), ("LC", -30.0, 8.0, 4.0), ("G ALSI9", 29.5, 8.0, 2.2)):
        draw_text(letters, text, relief.to_px(x, y), size * scale, size * scale * 0.19)
    raised = cv2.GaussianBlur(letters, (0, 0), 0.10 * scale).astype(np.float32) / 255.0
    relief.height += 0.55 * raised


def _roughen_cast(relief: Relief, rng: np.random.Generator) -> None:
    """The skin of a casting: fine grain, flow lines, a pore here and there."""
    scale, shape = relief.px_per_mm, relief.height.shape
    skin = np.clip((0.7 - relief.metal) / 0.25, 0, 1) * relief.coverage
    grain = 0.016 * grain_noise(shape, rng, 0.22 * scale) + 0.010 * grain_noise(shape, rng, 0.09 * scale)
    waves = 0.05 * grain_noise(shape, rng, 3.0 * scale)
    relief.height += skin * (grain + waves)
    tone = 1.0 + skin * (0.05 * grain_noise(shape, rng, 0.3 * scale) + 0.05 * grain_noise(shape, rng, 5.0 * scale))
    relief.albedo *= tone


def _lay_boss(relief: Relief, rng: np.random.Generator) -> None:
    """The turned boss with its bore: face, chamfer, wall, turned floor."""
    skirt = relief.disc(0, 0, BOSS_RADIUS + 1.4)
    rise = np.clip(-skirt.distance / 1.4, 0, 1)
    relief.lay(skirt, CAST, POCKET_FLOOR + (BOSS_TOP - 0.5 - POCKET_FLOOR) * rise, metal=0.42, gloss=0.25)
    face = relief.disc(0, 0, BOSS_RADIUS)
    radius = face.distance + BOSS_RADIUS
    top = BOSS_TOP + turned_grooves(radius, rng, 0.30, 0.011) - 0.4 * (1 - np.clip(-face.distance / 0.4, 0, 1))
    groove = np.clip(1.0 - np.abs(radius - 15.2) / 0.75, 0, 1)
    relief.lay(face, TURNED, np.asarray(top - 1.2 * np.minimum(1.0, 2.5 * groove), np.float32), metal=0.85)
    chamfer = relief.disc(0, 0, BORE_RADIUS + 0.9)
    at = chamfer.distance + BORE_RADIUS + 0.9
    slope = np.clip(at - BORE_RADIUS, 0, 0.9) - 0.9
    relief.lay(chamfer, TURNED, np.asarray(BOSS_TOP + slope, np.float32), metal=0.9)
    floor = relief.disc(0, 0, BORE_RADIUS)
    radius = floor.distance + BORE_RADIUS
    bottom = BORE_FLOOR + turned_grooves(radius, rng, 0.22, 0.009)
    wall = np.clip(1.0 - (BORE_RADIUS - radius) / 0.35, 0, 1)
    relief.lay(floor, TURNED * np.float32(0.9), np.asarray(bottom + 3.0 * wall, np.float32), metal=0.85)
