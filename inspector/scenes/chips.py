"""Small parts of a board: chip resistors and capacitors, diodes, and everything with gull-wing legs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from inspector.scenes.lettering import draw_text
from inspector.scenes.light import F32, linear
from inspector.scenes.relief import Relief

SOLDER = linear("#d2d4d5")
TIN = linear("#c6c7c3")
EPOXY = linear("#262627")
LASER = linear("#98968e")
SHADOW_ROOM = 0.95
"""Millimetres of shadow a millimetre of height throws."""


@dataclass(frozen=True, slots=True)
class ChipBody:
    """Dimensions (mm) and colours of a two-terminal chip."""

    length: float
    width: float
    height: float
    terminal: float
    body: str
    top: str | None = None


RESISTOR_0805 = ChipBody(2.0, 1.25, 0.50, 0.38, "#cfcbbf", "#26262b")
RESISTOR_1206 = ChipBody(3.2, 1.6, 0.55, 0.48, "#cfcbbf", "#232327")
CAPACITOR_0805 = ChipBody(2.0, 1.25, 0.90, 0.45, "#a58a66")
CAPACITOR_1206 = ChipBody(3.2, 1.6, 1.20, 0.55, "#97805f")
FERRITE_0805 = ChipBody(2.0, 1.25, 0.85, 0.45, "#4a4c50")


def room_for(width: float, height: float, tall: float) -> tuple[float, float, float, float]:
    """The relief box of a thing of this size, with room for its shadow in any quarter turn."""
    room = 0.6 + SHADOW_ROOM * tall
    return -width / 2 - room, -height / 2 - room, width / 2 + room, height / 2 + room


def chip(spec: ChipBody, label: str, px_per_mm: float, rng: np.random.Generator) -> Relief:
    """A chip resistor (with `top` and a code) or capacitor, soldered: fillets climb its terminals."""
    pad_length = spec.terminal + 0.55
    relief = Relief(room_for(spec.length + 1.6, spec.width + 0.4, spec.height), px_per_mm)
    for side in (-1.0, 1.0):
        _lay_fillet(relief, side, spec, pad_length)
    body = relief.box(0, 0, spec.length, spec.width, 0.06)
    edge = body.rounded_edge(0.10)
    relief.lay(body, linear(spec.body), spec.height * (0.75 + 0.25 * edge), gloss=0.35)
    if spec.top is not None:
        film = relief.box(0, 0, spec.length - 2 * spec.terminal + 0.12, spec.width - 0.06, 0.05)
        relief.lay(film, linear(spec.top), spec.height + 0.03 * film.rounded_edge(0.08), gloss=0.8)
    for side in (-1.0, 1.0):
        middle = side * (spec.length - spec.terminal) / 2
        cap = relief.box(middle, 0, spec.terminal, spec.width + 0.02, 0.08)
        bulge = spec.height * (0.72 + 0.28 * cap.rounded_edge(0.16)) + 0.015
        relief.lay(cap, TIN, bulge, metal=1.0)
    relief.speckle(rng, 0.05, 0.12)
    if label and spec.top is not None:
        engrave(relief, label, (0, 0), min(0.78, spec.length * 0.21, spec.width * 0.5), 0.085, linear("#d8d8d2"), 0.85)
    relief.roughen_metal(rng)
    return relief


def tombstone(spec: ChipBody, px_per_mm: float, rng: np.random.Generator) -> Relief:
    """The chip standing on one terminal, seen from above: a tin square, tall, with a long shadow."""
    tall = spec.length * 0.92
    relief = Relief(room_for(spec.length + 1.6, spec.width + 0.4, tall), px_per_mm)
    middle = -(spec.length - spec.terminal) / 2
    foot = relief.box(middle - 0.1, 0, spec.height + 0.6, spec.width + 0.2, 0.2)
    relief.lay(foot, SOLDER, 0.3 * foot.rounded_edge(0.35), metal=1.0)
    lean = relief.box(middle + 0.28, 0, spec.height + 0.25, spec.width, 0.06)
    relief.lay(lean, linear(spec.body), tall * 0.7 + 0.0 * lean.x, gloss=0.3)
    top = relief.box(middle, 0, spec.height, spec.width, 0.08)
    relief.lay(top, TIN, tall * (0.93 + 0.07 * top.rounded_edge(0.15)), metal=1.0)
    relief.speckle(rng, 0.05, 0.12)
    relief.roughen_metal(rng)
    return relief


def diode(label: str, px_per_mm: float, rng: np.random.Generator) -> Relief:
    """An SMA diode: black body, cathode bar, two flat legs."""
    relief = Relief(room_for(5.4, 2.8, 2.0), px_per_mm)
    for side in (-1.0, 1.0):
        leg = relief.box(side * 2.25, 0, 1.0, 1.5, 0.1)
        relief.lay(leg, TIN, 0.15 + 0.35 * np.clip(-side * leg.x + 0.4, 0, 1), metal=1.0)
    lay_epoxy(relief, 4.2, 2.6, 2.0, rng)
    bar = relief.box(-1.45, 0, 0.45, 2.2)
    relief.mark(bar, linear("#b9b7ae"), 0.8)
    engrave(relief, label, (0.35, 0), 0.75, 0.1, LASER, 0.55)
    return relief


def tantalum(label: str, px_per_mm: float, rng: np.random.Generator) -> Relief:
    """A moulded tantalum capacitor: ochre body with a brown polarity bar."""
    relief = Relief(room_for(6.6, 3.4, 2.5), px_per_mm)
    for side in (-1.0, 1.0):
        leg = relief.box(side * 3.0, 0, 0.8, 2.2, 0.1)
        relief.lay(leg, TIN, 0.35 - 0.2 * np.clip(side * leg.x, 0, 1), metal=1.0)
    body = relief.box(0, 0, 5.8, 3.2, 0.12)
    relief.lay(body, linear("#d0932f"), 2.2 + 0.3 * body.rounded_edge(0.35), gloss=0.35)
    relief.speckle(rng, 0.05, 0.1)
    relief.mark(relief.box(-2.35, 0, 0.75, 3.0), linear("#6b3c14"), 0.9)
    engrave(relief, label, (0.4, -0.55), 0.85, 0.11, linear("#5a3413"), 0.9)
    engrave(relief, "16V", (0.4, 0.65), 0.75, 0.11, linear("#5a3413"), 0.9)
    return relief


def led(label: str, px_per_mm: float, rng: np.random.Generator) -> Relief:
    """A chip LED: white housing with a clear lens over its phosphor."""
    del label
    relief = Relief(room_for(3.6, 1.7, 0.8), px_per_mm)
    spec = ChipBody(2.0, 1.3, 0.35, 0.4, "#e6e4da")
    for side in (-1.0, 1.0):
        _lay_fillet(relief, side, spec, 0.95)
    body = relief.box(0, 0, 2.0, 1.3, 0.05)
    relief.lay(body, linear("#dedbcd"), 0.35 + 0.0 * body.x, gloss=0.4)
    lens = relief.box(0, 0, 1.25, 1.15, 0.15)
    relief.lay(lens, linear("#c9c58d"), 0.5 + 0.3 * lens.rounded_edge(0.35), gloss=1.0)
    relief.mark(relief.disc(0, 0, 0.33), linear("#d8b53a"), 0.7)
    for side in (-1.0, 1.0):
        end = relief.box(side * 0.86, 0, 0.3, 1.3, 0.04)
        relief.lay(end, linear("#c9a24a"), 0.37, metal=1.0)
    relief.speckle(rng, 0.03, 0.1)
    return relief


@dataclass(frozen=True, slots=True)
class LegPackage:
    """A moulded body with legs; legs are (x, y, direction x, direction y) where they leave the body."""

    width: float
    height: float
    tall: float
    legs: tuple[tuple[float, float, float, float], ...]
    leg_width: float
    reach: float

    def pads(self) -> tuple[tuple[float, float, float, float], ...]:
        """Pads (x, y, width, height) of the footprint."""
        length = self.reach * 0.62 + 0.7
        out = self.reach - 0.2
        pads = []
        for x, y, dx, dy in self.legs:
            wide = self.leg_width * 1.35
            size = (length, wide) if dx else (wide, length)
            pads.append((x + dx * out, y + dy * out, *size))
        return tuple(pads)


def two_row_package(pins: int, pitch: float, width: float, height: float, tall: float, leg: float) -> LegPackage:
    """A small-outline package: legs along the two long sides, left and right."""
    half = pins // 2
    rows = [(i - (half - 1) / 2) * pitch for i in range(half)]
    legs = [(-width / 2, y, -1.0, 0.0) for y in rows] + [(width / 2, y, 1.0, 0.0) for y in reversed(rows)]
    return LegPackage(width, height, tall, tuple(legs), leg, 1.1)


def four_side_package(pins: int, pitch: float, size: float) -> LegPackage:
    """A quad flat package."""
    side = pins // 4
    spots = [(i - (side - 1) / 2) * pitch for i in range(side)]
    half = size / 2
    legs = [(-half, s, -1.0, 0.0) for s in spots] + [(half, s, 1.0, 0.0) for s in spots]
    legs += [(s, -half, 0.0, -1.0) for s in spots] + [(s, half, 0.0, 1.0) for s in spots]
    return LegPackage(size, size, 1.4, tuple(legs), 0.36, 1.0)


def transistor_package() -> LegPackage:
    """SOT-23: two legs on one side, one on the other."""
    legs = ((-0.65, -0.95, -1.0, 0.0), (-0.65, 0.95, -1.0, 0.0), (0.65, 0.0, 1.0, 0.0))
    return LegPackage(1.3, 2.9, 1.0, legs, 0.42, 0.6)


def regulator_package() -> LegPackage:
    """SOT-223: three legs and a wide tab."""
    legs = tuple((-1.75, y, -1.0, 0.0) for y in (-2.3, 0.0, 2.3))
    return LegPackage(3.5, 6.5, 1.6, (*legs, (1.75, 0.0, 1.0, 0.0)), 0.75, 1.6)


def leg_part(spec: LegPackage, lines: tuple[str, ...], px_per_mm: float, rng: np.random.Generator) -> Relief:
    """An integrated circuit with bent legs, solder at their feet, laser-marked with `lines`."""
    relief = Relief(
        room_for(spec.width + 2 * spec.reach + 0.8, spec.height + 2 * spec.reach + 0.8, spec.tall), px_per_mm
    )
    for x, y, dx, dy in spec.legs:
        _lay_leg(relief, spec, (x, y), (dx, dy), 4.0 if spec.leg_width == 0.75 and dx > 0 else 1.0)
    lay_epoxy(relief, spec.width, spec.height, spec.tall, rng)
    small = min(spec.width, spec.height)
    upright = spec.height > spec.width * 1.15
    dimple = relief.disc(
        -spec.width / 2 + 0.13 * small, -spec.height / 2 + 0.13 * small, min(0.5, 0.055 * small + 0.08)
    )
    if small > 2.0:
        relief.lay(dimple, EPOXY * 0.8, spec.tall - 0.12 * dimple.rounded_edge(0.15), gloss=0.5)
    _mark_lines(relief, spec, lines, upright)
    relief.roughen_metal(rng)
    return relief


def _mark_lines(relief: Relief, spec: LegPackage, lines: tuple[str, ...], upright: bool) -> None:
    across, along = (spec.width, spec.height) if upright else (spec.height, spec.width)
    longest = max((len(line) for line in lines), default=1)
    size = min(0.62 * across / max(1, len(lines)) / 1.25, 0.80 * along / max(1, longest) / 0.93, 1.25)
    for index, line in enumerate(lines):
        offset = (index - (len(lines) - 1) / 2) * size * 1.55
        spot = (offset, 0.0) if upright else (0.0, offset)
        engrave(relief, line, spot, size, max(0.07, size * 0.11), LASER, 0.62, turns=1 if upright else 0)


def _lay_leg(
    relief: Relief, spec: LegPackage, start: tuple[float, float], direction: tuple[float, float], wide: float
) -> None:
    reach, half = spec.reach, spec.reach / 2
    x, y = start[0] + direction[0] * half, start[1] + direction[1] * half
    width = spec.leg_width * wide
    foot_x, foot_y = start[0] + direction[0] * (reach * 0.8), start[1] + direction[1] * (reach * 0.8)
    size = (reach * 0.75, width * 1.22) if direction[0] else (width * 1.22, reach * 0.75)
    solder = relief.box(foot_x, foot_y, *size, min(size) / 3)
    relief.lay(solder, SOLDER, 0.16 * solder.rounded_edge(0.22), metal=1.0)
    size = (reach, width) if direction[0] else (width, reach)
    leg = relief.box(x, y, *size, 0.04)
    along = (leg.x * direction[0] + leg.y * direction[1]) / reach + 0.5
    shoulder = min(0.75, spec.tall * 0.55)
    bend = 0.16 + (shoulder - 0.16) * smooth_step(0.62, 0.28, along)
    relief.lay(leg, TIN, np.asarray(bend, np.float32) + 0.03 * leg.rounded_edge(0.07), metal=1.0)


def lay_epoxy(relief: Relief, width: float, height: float, tall: float, rng: np.random.Generator) -> None:
    body = relief.box(0, 0, width, height, 0.10)
    slope = np.clip(-body.distance / 0.22, 0, 1)
    relief.lay(body, EPOXY, np.asarray(tall * 0.62 + tall * 0.38 * slope, np.float32), gloss=0.32)
    window = (body.rows, body.columns)
    grain = rng.standard_normal(body.x.shape).astype(np.float32)
    relief.height[window] += 0.0035 * grain * (slope > 0.98)
    relief.albedo[:, body.rows, body.columns] *= 1.0 + 0.06 * grain * body.cover


def _lay_fillet(relief: Relief, side: float, spec: ChipBody, pad_length: float) -> None:
    middle = side * (spec.length / 2 + 0.55 - pad_length / 2)
    pad = relief.box(middle, 0, pad_length + 0.1, spec.width + 0.12, 0.15)
    outward = np.clip((pad.x * side + pad_length / 2) / pad_length, 0, 1)
    climb = spec.height * 0.75 * (1.0 - outward) ** 1.7 + 0.07
    relief.lay(pad, SOLDER, np.asarray(climb * pad.rounded_edge(0.28), np.float32), metal=1.0)


def engrave(
    relief: Relief,
    text: str,
    spot: tuple[float, float],
    size: float,
    stroke: float,
    colour: F32,
    opacity: float,
    turns: int = 0,
) -> None:
    mask = np.zeros(relief.height.shape, np.uint8)
    scale = relief.px_per_mm
    draw_text(mask, text, relief.to_px(*spot), size * scale, stroke * scale, quarter_turns=turns)
    relief.print_mask(mask, colour, opacity)


def smooth_step(low: float, high: float, value: NDArray[np.floating]) -> F32:
    share = np.clip((value - low) / (high - low), 0.0, 1.0)
    return np.asarray(share * share * (3 - 2 * share), np.float32)
