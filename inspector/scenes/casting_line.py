"""Castings: lots, the skin of each part, and what goes wrong in foundry and machining."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np

from inspector.scenes import casting, light, marks
from inspector.scenes.casting import (
    BOLT_HOLES,
    BOSS_RADIUS,
    CHAMFER_MM,
    DOWEL_HOLES,
    DOWEL_RADIUS,
    HEIGHT_MM,
    HOLE_RADIUS,
    SPOT_RADIUS,
    WIDTH_MM,
)
from inspector.scenes.defects import MadeDefect, PlannedDefect, change_canvas
from inspector.scenes.light import F32, U8
from inspector.scenes.product import AssembledPart
from inspector.scenes.relief import Layer, Relief, grain_noise, lay_over
from inspector.scenes.variation import Lot

_ATTEMPTS = 60
_CLOUD_ROOM = 0.12

Window = tuple[int, int, int, int]
Maker = Callable[["_Blank", np.random.Generator, float], MadeDefect | None]


class CastingProduct:
    """The cover at one scale; implements `product.Product`."""

    part_prefix = "CST"

    def __init__(self, px_per_mm: float) -> None:
        self.px_per_mm = px_per_mm
        self.layer = casting.draw_casting(px_per_mm)
        self.centre_px = self.layer.anchor_px
        rows, columns = self.layer.pixels.shape[:2]
        self.cloud = casting.cast_cloud((int(rows * (1 + _CLOUD_ROOM)), int(columns * (1 + _CLOUD_ROOM))), px_per_mm)

    def to_px(self, x_mm: float, y_mm: float) -> tuple[float, float]:
        """Millimetres from the middle of the part to canvas pixels."""
        return self.centre_px[0] + x_mm * self.px_per_mm, self.centre_px[1] + y_mm * self.px_per_mm

    def stock_for(self, lot: Lot) -> CastingStock:
        """Castings in the shade of the lot with its code."""
        return CastingStock(self, lot)


class CastingStock:
    """The parts of one lot; implements `product.LotStock`."""

    def __init__(self, product: CastingProduct, lot: Lot) -> None:
        self.product = product
        gain = 1.0 + 0.03 * lot.shade
        self.base = product.layer.tinted((gain * (1 - 0.012 * lot.shade), gain, gain)).pixels
        code = casting.mark_lot(f"{lot.date_code} {lot.number % 1000:03d}", product.px_per_mm)
        lay_over(self.base, code, *product.centre_px)

    def assemble(
        self, rng: np.random.Generator, planned: tuple[PlannedDefect, ...], defect_rng: np.random.Generator
    ) -> AssembledPart:
        """Cast and machine one part, then let things go wrong."""
        rows, columns = self.base.shape[:2]
        top = int(rng.integers(0, self.product.cloud.shape[0] - rows + 1))
        left = int(rng.integers(0, self.product.cloud.shape[1] - columns + 1))
        cloud = self.product.cloud[top : top + rows, left : left + columns]
        even = np.full_like(cloud, 128)
        canvas = cv2.multiply(self.base, cv2.merge([cloud, cloud, cloud, even]), scale=1.0 / 128.0)
        blank = _Blank(np.asarray(canvas, np.uint8), self.product)
        made = [blank.spoil(plan, defect_rng) for plan in planned]
        marks.dust(blank.canvas, rng, self.product.px_per_mm, 60)
        return AssembledPart(blank.canvas, tuple(defect for defect in made if defect is not None))


class _Blank:
    """One casting while it is being made."""

    def __init__(self, canvas: U8, product: CastingProduct) -> None:
        self.canvas, self.product, self.px_per_mm = canvas, product, product.px_per_mm

    def spoil(self, plan: PlannedDefect, rng: np.random.Generator) -> MadeDefect | None:
        """Make the planned defect where it shows; None in the unlikely case that no place is found."""
        for _ in range(_ATTEMPTS):
            made = _MAKERS[plan.kind](self, rng, plan.severity)
            if made is not None:
                return MadeDefect(plan.kind, plan.severity, made.mask, made.origin_px)
        return None

    def window_mm(self, x: float, y: float, size: float) -> Window:
        """A square window of `size` mm around a point of the part."""
        px, py = self.product.to_px(x, y)
        reach = size * self.px_per_mm / 2
        rows, columns = self.canvas.shape[:2]
        return (
            max(0, int(px - reach)),
            max(0, int(py - reach)),
            min(columns, int(px + reach)),
            min(rows, int(py + reach)),
        )

    def distance_mm(self, window: Window, x: float, y: float) -> tuple[F32, F32]:
        """Distance to a point of the part and direction from it (radians) for each pixel of a window."""
        px, py = self.product.to_px(x, y)
        rows, columns = np.mgrid[window[1] : window[3], window[0] : window[2]].astype(np.float32)
        away = np.hypot(columns - px, rows - py) / self.px_per_mm
        return np.asarray(away, np.float32), np.asarray(np.arctan2(rows - py, columns - px), np.float32)

    def metal(self, window: Window) -> F32:
        """Where the part shows a surface and not a hole, 0..1."""
        x0, y0, x1, y1 = window
        pixels = self.product.layer.pixels[y0:y1, x0:x1]
        dark = (pixels[..., 1] < 45) | (pixels[..., 3] > 20)
        solid = cv2.erode((~dark).astype(np.uint8) * 255, np.ones((5, 5), np.uint8))
        return np.asarray(cv2.GaussianBlur(solid, (3, 3), 0).astype(np.float32) / 255.0, np.float32)


# --- what goes wrong --------------------------------------------------------------------------------


def _anywhere(rng: np.random.Generator, inset: float) -> tuple[float, float]:
    return (
        float(rng.uniform(-WIDTH_MM / 2 + inset, WIDTH_MM / 2 - inset)),
        float(rng.uniform(-HEIGHT_MM / 2 + inset, HEIGHT_MM / 2 - inset)),
    )


def _machined_spot(rng: np.random.Generator) -> tuple[float, float]:
    """A place on the flange or on the face of the boss."""
    if rng.random() < 0.5:
        angle, radius = float(rng.uniform(0, 2 * np.pi)), float(rng.uniform(13.0, BOSS_RADIUS - 1.0))
        return radius * float(np.cos(angle)), radius * float(np.sin(angle))
    if rng.random() < 0.65:
        return float(rng.uniform(-38, 38)), float(rng.choice([-1.0, 1.0])) * (HEIGHT_MM / 2 - 5.5)
    return float(rng.choice([-1.0, 1.0])) * (WIDTH_MM / 2 - 5.5), float(rng.uniform(-15, 15))


def _scratch(blank: _Blank, rng: np.random.Generator, severity: float) -> MadeDefect | None:
    window = blank.window_mm(*_anywhere(rng, 7), 8 + 14 * severity)
    free = blank.metal(window)
    if float(free.mean()) < 0.8:
        return None
    bright = ("#f2f3f2", "#3b3c3d")[int(rng.random() < 0.35)]
    return change_canvas(
        blank.canvas, window, lambda after: marks.scratch(after, rng, severity, blank.px_per_mm, bright, free)
    )


def _dent(blank: _Blank, rng: np.random.Generator, severity: float) -> MadeDefect | None:
    x, y = _anywhere(rng, 5)
    size = 1.6 + 3.4 * severity
    window = blank.window_mm(x, y, 2.4 * size)
    free = blank.metal(window)
    if float(free.mean()) < 0.9:
        return None
    away, direction = blank.distance_mm(window, x, y)
    shape = (
        1.0
        + 0.22 * np.sin(direction * 2 + float(rng.uniform(0, 6)))
        + 0.05 * grain_noise(away.shape, rng, 0.5 * blank.px_per_mm)
    )
    bowl = np.clip(1.0 - (away / (0.5 * size * shape)) ** 2, 0, 1)
    depth = np.asarray(
        -0.17 * size * bowl + 0.025 * size * np.exp(-((away / (0.56 * size) - 1) ** 2) / 0.02), np.float32
    )
    return change_canvas(blank.canvas, window, lambda after: _shade_relief(after, depth, blank.px_per_mm, free))


def _shade_relief(window: U8, height_mm: F32, px_per_mm: float, free: F32) -> None:
    """Change the light of a flat surface to that of a relief, in place."""
    smooth = np.asarray(cv2.GaussianBlur(height_mm, (0, 0), max(0.8, 0.14 * px_per_mm)), np.float32)
    dx, dy = light.slopes(smooth, px_per_mm)
    up = 1.0 / np.sqrt(1.0 + dx * dx + dy * dy)
    normal_x, normal_y = np.asarray(-dx * up, np.float32), np.asarray(-dy * up, np.float32)
    there = light.reflect(normal_x, normal_y, 0.35) / light.reflect(np.zeros_like(dx), np.zeros_like(dx), 0.35)
    occlusion = light.ambient_occlusion(smooth, px_per_mm)
    factor = np.clip(there * occlusion, 0.05, 3.0) ** (1.0 / light.GAMMA)
    marks.scale_light(window, np.asarray(1.0 + (factor - 1.0) * free, np.float32))


def _porosity(blank: _Blank, rng: np.random.Generator, severity: float) -> MadeDefect | None:
    x, y = _machined_spot(rng)
    size = 3.0 + 6.0 * severity
    window = blank.window_mm(x, y, size)
    free = blank.metal(window)
    if float(free.mean()) < 0.8:
        return None
    shape = (window[3] - window[1], window[2] - window[0])
    pits = np.zeros(shape, np.uint8)
    for _ in range(int(5 + 22 * severity)):
        radius = float(np.clip(rng.gamma(2.0, 0.07), 0.07, 0.42)) * blank.px_per_mm
        spot = rng.normal(0.5, 0.17, 2) * (shape[1], shape[0])
        axes = (max(1, round(radius * 16)), max(1, round(radius * float(rng.uniform(0.55, 1.0)) * 16)))
        centre = (round(float(spot[0]) * 16), round(float(spot[1]) * 16))
        cv2.ellipse(pits, centre, axes, float(rng.uniform(0, 180)), 0, 360, (255,), -1, cv2.LINE_AA, 4)
    share = pits.astype(np.float32) / 255.0 * free
    glint = np.clip(np.roll(share, (2, 2), axis=(0, 1)) - share, 0, 1)

    def change(after: U8) -> None:
        marks.blend(after, np.asarray(0.6 * glint * free, np.float32), marks.exposed("#f4f4f2"))
        marks.blend(after, np.asarray(0.93 * share, np.float32), marks.exposed("#17181a"))

    return change_canvas(blank.canvas, window, change)


def _crack(blank: _Blank, rng: np.random.Generator, severity: float) -> MadeDefect | None:
    size = 5.0 + 9.0 * severity
    if rng.random() < 0.6:
        hole = BOLT_HOLES[int(rng.integers(0, len(BOLT_HOLES)))]
        heading = float(rng.uniform(0, 2 * np.pi))
        x, y = hole[0] + HOLE_RADIUS * 1.2 * np.cos(heading), hole[1] + HOLE_RADIUS * 1.2 * np.sin(heading)
    else:
        (x, y), heading = _anywhere(rng, 10), float(rng.uniform(0, 2 * np.pi))
    middle = (x + np.cos(heading) * size / 2, y + np.sin(heading) * size / 2)
    window = blank.window_mm(middle[0], middle[1], 1.2 * size)
    free = blank.metal(window)
    if float(free.mean()) < 0.72:
        return None
    at = blank.product.to_px(x, y)
    start = (at[0] - window[0], at[1] - window[1])
    return change_canvas(
        blank.canvas,
        window,
        lambda after: marks.crack(after, rng, severity, blank.px_per_mm, start, heading, free, "#8f9294"),
    )


def _burr(blank: _Blank, rng: np.random.Generator, severity: float) -> MadeDefect | None:
    """Torn metal left standing on the edge of a hole, bending into it."""
    holes = [(x, y, HOLE_RADIUS) for x, y in BOLT_HOLES] + [(x, y, DOWEL_RADIUS) for x, y in DOWEL_HOLES]
    x, y, radius = holes[int(rng.integers(0, len(holes)))]
    window = blank.window_mm(x, y, 2 * radius + 3.0)
    away, direction = blank.distance_mm(window, x, y)
    table = np.clip(0.5 + 0.5 * grain_noise((1, 256), rng, 5.0)[0], 0.05, 1.6)
    middle, half = float(rng.uniform(-np.pi, np.pi)), 0.35 + 1.1 * severity
    turn = np.abs(np.angle(np.exp(1j * (direction - middle))))
    ragged = np.interp(direction, np.linspace(-np.pi, np.pi, 256), table)
    reach = (0.35 + 0.65 * severity) * ragged * np.clip(1.6 * (1 - turn / half), 0, 1)
    inner, outer = radius - reach, radius + 0.25 * reach + CHAMFER_MM * 0.5
    share = (
        np.clip((away - inner) * blank.px_per_mm, 0, 1)
        * np.clip((outer - away) * blank.px_per_mm, 0, 1)
        * (reach > 0.04)
    )
    tone = np.clip(
        0.55 + 0.45 * (ragged - 0.3) * np.clip((away - inner) / 0.4, 0, 1) + 0.35 * (away - inner), 0.2, 1.15
    )

    def change(after: U8) -> None:
        shadow = cv2.GaussianBlur(np.roll(share, (4, 4), axis=(0, 1)), (0, 0), 2.0)
        marks.scale_light(after, np.asarray(1.0 - 0.35 * np.clip(shadow - share, 0, 1), np.float32))
        after[..., 3] = np.round(after[..., 3] * (1 - share))
        marks.blend(after, np.asarray(share, np.float32), marks.exposed("#e4e6e8") * tone[..., None].astype(np.float32))

    return change_canvas(blank.canvas, window, change)


def _stain(blank: _Blank, rng: np.random.Generator, severity: float) -> MadeDefect | None:
    window = blank.window_mm(*_anywhere(rng, 7), 5 + 8 * severity)
    free = blank.metal(window)
    if float(free.mean()) < 0.75:
        return None
    tint = ("#6d5736", "#4b4238", "#7a7256")[int(rng.integers(0, 3))]
    return change_canvas(
        blank.canvas, window, lambda after: marks.stain(after, rng, severity, blank.px_per_mm, tint, free)
    )


def _missing_hole(blank: _Blank, rng: np.random.Generator, severity: float) -> MadeDefect | None:
    """A seat that was spot-faced and never drilled."""
    x, y = BOLT_HOLES[int(rng.integers(0, len(BOLT_HOLES)))]
    layer = _draw_undrilled_seat(blank.px_per_mm, rng)
    window = blank.window_mm(x, y, 2 * SPOT_RADIUS + 1.0)
    spot = blank.product.to_px(x, y)
    return change_canvas(
        blank.canvas, window, lambda after: lay_over(after, layer, spot[0] - window[0], spot[1] - window[1])
    )


def _draw_undrilled_seat(px_per_mm: float, rng: np.random.Generator) -> Layer:
    room = SPOT_RADIUS + 1.5
    relief = Relief((-room, -room, room, room), px_per_mm)
    relief.height[:] = casting.FLANGE_TOP
    casting.lay_bolt_seat(relief, 0.0, 0.0, rng)
    hidden = HOLE_RADIUS + CHAMFER_MM + 0.3
    disc = relief.disc(0, 0, hidden)
    relief.coverage[:] = 0
    relief.coverage[disc.rows, disc.columns] = disc.cover
    return Layer(
        _unshadowed(relief.photograph().pixels, relief.coverage), (room * px_per_mm - 0.5, room * px_per_mm - 0.5)
    )


def _unshadowed(pixels: U8, coverage: F32) -> U8:
    """The layer without the shadow around it: it fills a hole and stands above nothing."""
    rows, columns = pixels.shape[:2]
    pixels = pixels.copy()
    pixels[..., 3] = np.round(255 * (1 - coverage[:rows, :columns]))
    return pixels


_MAKERS: dict[str, Maker] = {
    "scratch": _scratch,
    "dent": _dent,
    "porosity": _porosity,
    "crack": _crack,
    "burr": _burr,
    "stain": _stain,
    "missing_hole": _missing_hole,
}
