"""Boards from bare board and components: lots, tolerances and what goes wrong in assembly."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import cv2
import numpy as np

from inspector.scenes import marks
from inspector.scenes.board import BareBoard, draw_bare_board, draw_label, stamp_lot_code
from inspector.scenes.board_layout import (
    BOARD_HEIGHT_MM,
    BOARD_WIDTH_MM,
    CHIP_SPECS,
    HOLE_RADIUS_MM,
    LABEL_BOX,
    LOT_CODE_REFS,
    MOUNTING_HOLES,
    PLACEMENTS,
    RING_RADIUS_MM,
    Placement,
    draw_component,
)
from inspector.scenes.chips import SOLDER, tombstone
from inspector.scenes.defects import MadeDefect, PlannedDefect, change_canvas
from inspector.scenes.light import F32, U8, linear
from inspector.scenes.product import AssembledPart
from inspector.scenes.relief import Layer, Relief, lay_over
from inspector.scenes.variation import Lot

FIXED_PACKAGES = ("USB", "TERM3", "TERM4", "HDR8X2", "HDR10", "XTAL", "KEY")
"""Parts held by pins through the board: they stand where the holes are."""
LOOSE = tuple(part for part in PLACEMENTS if part.package not in FIXED_PACKAGES)
PLACEMENT_DEVIATION_MM, PLACEMENT_LIMIT_MM = 0.025, 0.07
ROTATION_DEVIATION_DEG, ROTATION_LIMIT_DEG = 0.45, 1.2
_ATTEMPTS = 60
_Choice = TypeVar("_Choice")

Spot = tuple[float, float, float]
"""Where a component stands: x and y on the canvas (px), turned by (degrees)."""
Maker = Callable[["_Workpiece", np.random.Generator, float], MadeDefect | None]


class BoardProduct:
    """The board at one scale; implements `product.Product`."""

    part_prefix = "BRD"

    def __init__(self, px_per_mm: float) -> None:
        self.px_per_mm = px_per_mm
        self.bare: BareBoard = draw_bare_board(px_per_mm)
        self.oversampling = 2 if px_per_mm >= 20 else 4
        self.layers: dict[str, Layer] = {}
        drawn: dict[tuple[str, str, int], Layer] = {}
        for part in PLACEMENTS:
            look = (part.package, part.value, part.turns)
            if look not in drawn:
                drawn[look] = self.photograph(draw_component(part, px_per_mm * self.oversampling))
            self.layers[part.ref] = drawn[look]
        self.covered = self._draw_covered()
        origin = self.bare.layer.anchor_px
        self.centre_px = (origin[0] + BOARD_WIDTH_MM / 2 * px_per_mm, origin[1] + BOARD_HEIGHT_MM / 2 * px_per_mm)

    def photograph(self, relief: Relief) -> Layer:
        """The picture of a relief drawn `oversampling` times too large."""
        return relief.photograph(oversampling=self.oversampling)

    def _draw_covered(self) -> U8:
        """Where components stand, (H, W) uint8."""
        open_sheet = np.zeros_like(self.bare.layer.pixels)
        open_sheet[..., 3] = 255
        for part in PLACEMENTS:
            lay_over(open_sheet, self.layers[part.ref], *self.to_px(part.x, part.y))
        solid = np.asarray(open_sheet[..., 3] < 60, np.uint8) * 255
        return np.asarray(cv2.dilate(solid, np.ones((5, 5), np.uint8)), np.uint8)

    def to_px(self, x_mm: float, y_mm: float) -> tuple[float, float]:
        """Board millimetres to canvas pixels."""
        origin = self.bare.layer.anchor_px
        return origin[0] + x_mm * self.px_per_mm, origin[1] + y_mm * self.px_per_mm

    def stock_for(self, lot: Lot) -> BoardStock:
        """Bare boards in the shade of the lot with label and pin-through parts, and its marked components."""
        return BoardStock(self, lot)


class BoardStock:
    """What the parts of one lot are made from; implements `product.LotStock`."""

    def __init__(self, product: BoardProduct, lot: Lot) -> None:
        self.product = product
        rng = np.random.default_rng([lot.number, lot.week])
        self.base = _shade_lacquer(product.bare, lot.shade)
        x0, y0, x1, y1 = LABEL_BOX
        label = draw_label(f"LOT {lot.number % 10_000:04d}", product.px_per_mm)
        lay_over(self.base, label, *product.to_px((x0 + x1) / 2, (y0 + y1) / 2), float(rng.normal(0, 0.4)))
        for part in PLACEMENTS:
            if part.package in FIXED_PACKAGES:
                lay_over(self.base, product.layers[part.ref], *product.to_px(part.x, part.y))
        shades = {package: float(rng.normal(1.0, 0.025)) for package in sorted({part.package for part in LOOSE})}
        self.layers = {}
        for part in LOOSE:
            gain = shades[part.package]
            layer = product.layers[part.ref].tinted((gain, gain, gain))
            self.layers[part.ref] = (
                _mark_date(layer, part, lot, product.px_per_mm) if part.ref in LOT_CODE_REFS else layer
            )

    def assemble(
        self, rng: np.random.Generator, planned: tuple[PlannedDefect, ...], defect_rng: np.random.Generator
    ) -> AssembledPart:
        """Place every component within its tolerance, then let things go wrong."""
        piece = _Workpiece(self, _place_components(self.product, rng))
        for part in LOOSE:
            piece.put(piece.canvas, part, piece.spots[part.ref])
        made = [piece.spoil(plan, defect_rng) for plan in planned]
        marks.dust(piece.canvas, rng, self.product.px_per_mm, 70)
        return AssembledPart(piece.canvas, tuple(defect for defect in made if defect is not None))


class _Workpiece:
    """One board while it is being made."""

    def __init__(self, stock: BoardStock, spots: dict[str, Spot]) -> None:
        self.stock, self.product, self.px_per_mm = stock, stock.product, stock.product.px_per_mm
        self.canvas = stock.base.copy()
        self.spots = spots

    def put(self, canvas: U8, part: Placement, spot: Spot, origin: tuple[int, int] = (0, 0)) -> None:
        """Lay a component onto a canvas whose corner is at `origin` of the board's canvas."""
        lay_over(canvas, self.stock.layers[part.ref], spot[0] - origin[0], spot[1] - origin[1], spot[2])

    def spoil(self, plan: PlannedDefect, rng: np.random.Generator) -> MadeDefect | None:
        """Make the planned defect where it shows; None in the unlikely case that no place is found."""
        for _ in range(_ATTEMPTS):
            made = _MAKERS[plan.kind](self, rng, plan.severity)
            if made is not None:
                return MadeDefect(plan.kind, plan.severity, made.mask, made.origin_px)
        return None

    def rebuild(self, part: Placement, replacement: Callable[[U8, tuple[int, int]], None]) -> MadeDefect | None:
        """The board as it would be with something else in the place of one component."""
        reach = self.stock.layers[part.ref].pixels.shape
        x, y, _ = self.spots[part.ref]
        wide, tall = reach[1] * 0.75 + 2 * self.px_per_mm, reach[0] * 0.75 + 2 * self.px_per_mm
        window = _window_around(x, y, wide, tall, self.canvas)

        def change(after: U8) -> None:
            origin = (window[0], window[1])
            after[:] = self.stock.base[window[1] : window[3], window[0] : window[2]]
            for other in LOOSE:
                if other is part:
                    replacement(after, origin)
                else:
                    self.put(after, other, self.spots[other.ref], origin)

        return change_canvas(self.canvas, window, change)

    def lay(self, layer: Layer, x: float, y: float, angle_deg: float = 0.0) -> MadeDefect | None:
        """The board with one more thing on it."""
        rows, columns = layer.pixels.shape[:2]
        window = _window_around(x, y, 1.6 * max(rows, columns), 1.6 * max(rows, columns), self.canvas)
        return change_canvas(
            self.canvas, window, lambda after: lay_over(after, layer, x - window[0], y - window[1], angle_deg)
        )

    def window_mm(self, x: float, y: float, size: float) -> tuple[int, int, int, int]:
        """A square window of `size` mm around a point of the board."""
        return _window_around(*self.product.to_px(x, y), size * self.px_per_mm, size * self.px_per_mm, self.canvas)

    def surface(self, window: tuple[int, int, int, int]) -> F32:
        """Where the bare board lies open in a window, 0..1: components stand in the way of a scratch."""
        x0, y0, x1, y1 = window
        return np.asarray(1.0 - self.product.covered[y0:y1, x0:x1].astype(np.float32) / 255.0, np.float32)


def _window_around(x: float, y: float, wide: float, tall: float, canvas: U8) -> tuple[int, int, int, int]:
    x0, y0 = max(0, int(x - wide / 2)), max(0, int(y - tall / 2))
    return x0, y0, min(canvas.shape[1], int(x + wide / 2)), min(canvas.shape[0], int(y + tall / 2))


def _shade_lacquer(bare: BareBoard, shade: float) -> U8:
    """The bare board with the lot's tint of solder mask: `shade` -1..1 is duller and bluer, or fresher."""
    pixels = bare.layer.pixels
    shaded = bare.layer.tinted((1.0 - 0.05 * shade, 1.0 + 0.05 * shade, 1.0 + 0.03 * shade)).pixels
    return np.asarray(cv2.copyTo(shaded, bare.solder_mask, pixels.copy()), np.uint8)


def _mark_date(layer: Layer, part: Placement, lot: Lot, px_per_mm: float) -> Layer:
    """Laser the date code where the layout left the last line free."""
    size = 0.8 if part.package == "QFP44" else 0.62
    away = 2.55 if part.package == "QFP44" else 1.05
    return stamp_lot_code(layer, f"{lot.date_code} A{lot.week % 10}K", (0.0, away * px_per_mm), size * px_per_mm, 0)


def _place_components(product: BoardProduct, rng: np.random.Generator) -> dict[str, Spot]:
    """Where the placement machine put the loose components of one board."""
    shifts = rng.normal(0, PLACEMENT_DEVIATION_MM, (len(LOOSE), 2)).clip(-PLACEMENT_LIMIT_MM, PLACEMENT_LIMIT_MM)
    turns = rng.normal(0, ROTATION_DEVIATION_DEG, len(LOOSE)).clip(-ROTATION_LIMIT_DEG, ROTATION_LIMIT_DEG)
    return {
        part.ref: (*product.to_px(part.x + float(shift[0]), part.y + float(shift[1])), float(turn))
        for part, shift, turn in zip(LOOSE, shifts, turns, strict=True)
    }


# --- what goes wrong --------------------------------------------------------------------------------


def _miss_component(piece: _Workpiece, rng: np.random.Generator, severity: float) -> MadeDefect | None:
    part = _pick(rng, LOOSE)
    return piece.rebuild(part, lambda after, origin: None)


def _shift_component(piece: _Workpiece, rng: np.random.Generator, severity: float) -> MadeDefect | None:
    part = _pick(rng, LOOSE)
    x, y, turn = piece.spots[part.ref]
    way = float(rng.uniform(0, 2 * np.pi))
    far = (0.25 + 0.55 * severity) * piece.px_per_mm * float(rng.uniform(0.5, 1.0))
    twist = float(rng.choice([-1.0, 1.0])) * (4.0 + 22.0 * severity) * float(rng.uniform(0.5, 1.0))
    moved = (x + far * np.cos(way), y + far * np.sin(way), turn + twist)
    return piece.rebuild(part, lambda after, origin: piece.put(after, part, moved, origin))


def _raise_tombstone(piece: _Workpiece, rng: np.random.Generator, severity: float) -> MadeDefect | None:
    part = _pick(rng, tuple(part for part in LOOSE if part.package in CHIP_SPECS))
    relief = tombstone(CHIP_SPECS[part.package], piece.px_per_mm * piece.product.oversampling, rng)
    layer = piece.product.photograph(relief.turned(part.turns + 2 * int(rng.integers(0, 2))))
    x, y, turn = piece.spots[part.ref]
    lean = turn + float(rng.normal(0, 2 + 4 * severity))
    return piece.rebuild(part, lambda after, origin: lay_over(after, layer, x - origin[0], y - origin[1], lean))


def _bridge_solder(piece: _Workpiece, rng: np.random.Generator, severity: float) -> MadeDefect | None:
    part = _pick(rng, tuple(part for part in LOOSE if part.package in ("SO8", "SO16", "QFP44")))
    pads = part.pads()
    pairs = [
        (one, two) for one in pads for two in pads if one < two and np.hypot(one[0] - two[0], one[1] - two[1]) < 1.4
    ]
    one, two = _pick(rng, tuple(pairs))
    relief = _draw_bridge(piece, rng, severity, (two[0] - one[0], two[1] - one[1]), min(one[2], one[3]))
    x, y = piece.product.to_px((one[0] + two[0]) / 2, (one[1] + two[1]) / 2)
    return piece.lay(piece.product.photograph(relief), x, y)


def _draw_bridge(
    piece: _Workpiece, rng: np.random.Generator, severity: float, span: tuple[float, float], pad_width: float
) -> Relief:
    relief = Relief((-1.8, -1.8, 1.8, 1.8), piece.px_per_mm * piece.product.oversampling)
    along = 1.0 if abs(span[0]) > abs(span[1]) else 0.0
    slide = float(rng.uniform(-0.3, 0.3))
    blobs = [(0.5, 0.55 + 0.25 * severity), (-0.5, 0.55 + 0.25 * severity), (0.0, 0.40 + 0.35 * severity)]
    for share, size in blobs:
        x, y = span[0] * share + slide * (1 - along), span[1] * share + slide * along
        wide, tall = (0.75, size) if along else (size, 0.75)
        blob = relief.box(x, y, wide + 0.3 * pad_width, tall + 0.3 * pad_width, 0.3)
        height = relief.height[blob.rows, blob.columns]
        relief.lay(blob, SOLDER, np.maximum(height, 0.38 * blob.rounded_edge(0.4)), metal=1.0)
    relief.roughen_metal(rng, 0.01, 0.3)
    return relief


def _scratch_board(piece: _Workpiece, rng: np.random.Generator, severity: float) -> MadeDefect | None:
    x, y = float(rng.uniform(8, BOARD_WIDTH_MM - 8)), float(rng.uniform(8, BOARD_HEIGHT_MM - 8))
    window = piece.window_mm(x, y, 8 + 14 * severity)
    free = piece.surface(window)
    if float(free.mean()) < 0.72:
        return None
    bright = ("#c4cdb0", "#d3a069", "#a9c3a2")[int(rng.integers(0, 3))]
    return change_canvas(
        piece.canvas, window, lambda after: marks.scratch(after, rng, severity, piece.px_per_mm, bright, free)
    )


def _leave_residue(piece: _Workpiece, rng: np.random.Generator, severity: float) -> MadeDefect | None:
    x, y = float(rng.uniform(6, BOARD_WIDTH_MM - 6)), float(rng.uniform(6, BOARD_HEIGHT_MM - 6))
    window = piece.window_mm(x, y, 3.5 + 5 * severity)
    free = piece.surface(window)
    if float(free.mean()) < 0.55:
        return None
    tint = ("#9a7a34", "#c3c6b4", "#7d5a26")[int(rng.integers(0, 3))]
    return change_canvas(
        piece.canvas, window, lambda after: marks.stain(after, rng, severity, piece.px_per_mm, tint, free)
    )


def _crack_board(piece: _Workpiece, rng: np.random.Generator, severity: float) -> MadeDefect | None:
    size = 6.0 + 9.0 * severity
    inward = float(rng.choice([0, 1, 2, 3])) * np.pi / 2
    if abs(np.cos(inward)) > 0.5:
        x, y = (0.0 if np.cos(inward) > 0 else BOARD_WIDTH_MM), float(rng.uniform(8, BOARD_HEIGHT_MM - 8))
    else:
        x, y = float(rng.uniform(8, BOARD_WIDTH_MM - 8)), (0.0 if np.sin(inward) > 0 else BOARD_HEIGHT_MM)
    heading = inward + float(rng.uniform(-0.6, 0.6))
    middle = (x + np.cos(heading) * size / 2, y + np.sin(heading) * size / 2)
    window = piece.window_mm(middle[0], middle[1], size * 1.25)
    free = piece.surface(window)
    if float(free.mean()) < 0.80:
        return None
    at = piece.product.to_px(x, y)
    start = (at[0] - window[0], at[1] - window[1])
    return change_canvas(
        piece.canvas, window, lambda after: marks.crack(after, rng, severity, piece.px_per_mm, start, heading, free)
    )


def _plug_hole(piece: _Workpiece, rng: np.random.Generator, severity: float) -> MadeDefect | None:
    x, y = _pick(rng, MOUNTING_HOLES)
    room = HOLE_RADIUS_MM + 0.6
    relief = Relief((-room, -room, room, room), piece.px_per_mm * piece.product.oversampling)
    plug = relief.disc(0, 0, HOLE_RADIUS_MM + 0.05)
    relief.lay(plug, linear("#4d5a2c"), -0.12 * plug.rounded_edge(0.3), gloss=0.5)
    relief.speckle(rng, 0.10, 0.3)
    return piece.lay(piece.product.photograph(relief), *piece.product.to_px(x, y))


def _tarnish_pad(piece: _Workpiece, rng: np.random.Generator, severity: float) -> MadeDefect | None:
    x, y = _pick(rng, MOUNTING_HOLES)
    window = piece.window_mm(x, y, 2 * RING_RADIUS_MM + 0.8)
    centre = piece.product.to_px(x, y)
    rows, columns = np.mgrid[window[1] : window[3], window[0] : window[2]].astype(np.float32)
    away = np.hypot(columns - centre[0], rows - centre[1]) / piece.px_per_mm
    ring = np.clip((RING_RADIUS_MM - away) / 0.05, 0, 1) * np.clip((away - HOLE_RADIUS_MM) / 0.05, 0, 1)
    return change_canvas(
        piece.canvas, window, lambda after: marks.tarnish(after, rng, severity, np.asarray(ring, np.float32))
    )


def _drop_fibre(piece: _Workpiece, rng: np.random.Generator, severity: float) -> MadeDefect | None:
    x, y = float(rng.uniform(8, BOARD_WIDTH_MM - 8)), float(rng.uniform(8, BOARD_HEIGHT_MM - 8))
    window = piece.window_mm(x, y, 6 + 8 * severity)
    return change_canvas(piece.canvas, window, lambda after: marks.fibre(after, rng, severity, piece.px_per_mm))


def _pick(rng: np.random.Generator, choices: tuple[_Choice, ...]) -> _Choice:
    return choices[int(rng.integers(0, len(choices)))]


_MAKERS: dict[str, Maker] = {
    "missing_component": _miss_component,
    "shifted_component": _shift_component,
    "tombstone": _raise_tombstone,
    "solder_bridge": _bridge_solder,
    "scratch": _scratch_board,
    "flux_residue": _leave_residue,
    "crack": _crack_board,
    "missing_hole": _plug_hole,
    "pad_discoloration": _tarnish_pad,
    "foreign_fibre": _drop_fibre,
}
