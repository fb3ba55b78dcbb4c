"""What sits on boards: chips, resistors, cans, joints, pots, lamps, headers, shields; stamps for workpieces."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import numpy as np

from inspector.scenes.lettering import STROKES, draw_text
from inspector.scenes.relief import Relief
from inspector.scenes.samples import finishes, shapes
from inspector.scenes.samples.materials import Material, contrasting, hsv, metal, plastic
from inspector.scenes.samples.workpiece import Stamp, put, stamp_of

_LETTERS = "".join(sorted(STROKES))


def random_text(dice: np.random.Generator, count: int) -> str:
    """Characters that the strokes know."""
    return "".join(dice.choice(list(_LETTERS), count))


def resistor_stamp(dice: np.random.Generator, long: float, wide: float) -> Stamp:
    """A chip resistor or capacitor: body between two tinned ends."""
    room = long / 2 + wide
    relief = Relief((-room, -room, room, room), 1.0)
    tin = metal(dice, "tin")
    tall = wide * float(dice.uniform(0.3, 0.9))
    put(relief, relief.box(0, 0, long, wide, wide * 0.08), tin, tall)
    look = dice.random()
    colour = (
        hsv(0, 0, dice.uniform(0.08, 0.2))
        if look < 0.5
        else hsv(dice.uniform(0.07, 0.13), dice.uniform(0.25, 0.6), dice.uniform(0.5, 0.85))
    )
    middle = relief.box(0, 0, long * float(dice.uniform(0.5, 0.7)), wide * 1.02)
    put(relief, middle, Material(colour, 0.0, float(dice.uniform(0.1, 0.6))), tall * 1.06)
    if look < 0.5 and wide > 9 and dice.random() < 0.6:
        sheet = np.zeros(relief.height.shape, np.uint8)
        draw_text(sheet, random_text(dice, 3), relief.to_px(0, 0), wide * 0.5, 1)
        relief.print_mask(sheet, hsv(0, 0, 0.85), 0.8)
    return stamp_of(relief)


def chip_stamp(dice: np.random.Generator, wide: float, high: float, pins: int, four_sides: bool) -> Stamp:
    """An integrated circuit with gull-wing leads, a pin-1 mark and a laser mark."""
    room = max(wide, high) * 0.5 + 0.22 * min(wide, high) + 3
    relief = Relief((-room, -room, room, room), 1.0)
    tin, lead = metal(dice, "tin"), 0.16 * min(wide, high) + 2
    pitch = high * 0.9 / pins
    for pin in range(pins):
        y = (pin - (pins - 1) / 2) * pitch
        for sign in (-1, 1):
            x = sign * (wide / 2 + lead / 2 - 1)
            foot = relief.box(x, y, lead, max(1.5, pitch * 0.5), 0.6)
            slope = np.clip(0.5 - sign * foot.x / lead, 0, 1)
            put(relief, foot, tin, np.asarray(2.0 + 4.0 * slope**0.5, np.float32))
            if four_sides:
                foot = relief.box(y * wide / high, sign * (high / 2 + lead / 2 - 1), max(1.5, pitch * 0.5), lead, 0.6)
                slope = np.clip(0.5 - sign * foot.y / lead, 0, 1)
                put(relief, foot, tin, np.asarray(2.0 + 4.0 * slope**0.5, np.float32))
    black = Material(hsv(dice.uniform(0, 1), 0.05, dice.uniform(0.08, 0.22)), 0.0, float(dice.uniform(0.05, 0.5)))
    block = relief.box(0, 0, wide, high, 1.0)
    put(relief, block, black, np.asarray(5.0 + 5.0 * shapes.chamfer(block, 2.5), np.float32))
    notch = relief.disc(-wide * 0.36, -high * 0.36, max(1.2, 0.05 * min(wide, high)))
    finishes.groove(relief, notch, -1.0)
    sheet = np.zeros(relief.height.shape, np.uint8)
    letter = max(4.0, min(wide, high) * float(dice.uniform(0.12, 0.2)))
    fit = max(2, int(wide * 0.8 / letter))
    for row in range(int(dice.integers(1, 4))):
        spot = relief.to_px(0, (row - 1) * letter * 1.5)
        draw_text(sheet, random_text(dice, min(fit, int(dice.integers(3, 9)))), spot, letter, max(1, letter / 8))
    relief.print_mask(sheet, hsv(0, 0, dice.uniform(0.4, 0.8)), float(dice.uniform(0.4, 0.9)))
    return stamp_of(relief)


def can_stamp(dice: np.random.Generator, radius: float) -> Stamp:
    """An electrolytic capacitor from above: a sleeve, a metal top with a cross."""
    room = radius * 1.3
    relief = Relief((-room, -room, room, room), 1.0)
    sleeve = plastic(dice)
    edge = relief.disc(0, 0, radius)
    put(relief, edge, sleeve, np.asarray(8 + 6 * edge.rounded_edge(radius * 0.2), np.float32))
    top = relief.disc(0, 0, radius * 0.82)
    put(relief, top, metal(dice, "aluminium"), np.asarray(12.0 + 1.5 * top.rounded_edge(radius * 0.1), np.float32))
    turn = float(dice.uniform(0, np.pi))
    for quarter in range(int(dice.integers(2, 4))):
        cut = shapes.turned_box(relief, 0, 0, radius * 1.2, 1.6, turn + quarter * np.pi / 2)
        finishes.groove(relief, cut, -1.2)
    return stamp_of(relief)


def solder_stamp(dice: np.random.Generator, radius: float) -> Stamp:
    """A solder joint around a pin."""
    room = radius * 1.6
    relief = Relief((-room, -room, room, room), 1.0)
    pad = relief.disc(0, 0, radius * 1.15)
    put(relief, pad, metal(dice, "tin"), 0.6)
    blob = shapes.lobes(relief, 0, 0, radius, dice, 0.08)
    cone = np.clip(-blob.distance / radius, 0, 1)
    tin = Material(metal(dice, "tin").albedo, 1.0, float(dice.uniform(0.5, 0.95)))
    put(relief, blob, tin, np.asarray(0.6 + radius * 0.7 * cone**1.5, np.float32))
    if dice.random() < 0.7:
        pin = relief.disc(float(dice.normal(0, 0.05)) * radius, 0.0, radius * 0.35)
        put(relief, pin, metal(dice), np.asarray(radius * (0.5 + 0.3 * pin.rounded_edge(radius * 0.2)), np.float32))
    return stamp_of(relief)


def _room_for(long: float, wide: float) -> Relief:
    """A relief around the origin with space for a box and its leads."""
    x, y = long * 0.62 + 2, wide * 0.62 + 2
    return Relief((-x, -y, x, y), 1.0)


def _print_on(relief: Relief, dice: np.random.Generator, size: float, material: Material, count: int) -> None:
    sheet = np.zeros(relief.height.shape, np.uint8)
    draw_text(sheet, random_text(dice, count), relief.to_px(0, 0), size, max(1.0, size / 8))
    relief.print_mask(sheet, contrasting(dice, material.albedo), float(dice.uniform(0.6, 0.95)))


def trimpot_stamp(dice: np.random.Generator, long: float, wide: float) -> Stamp:
    """A trimming potentiometer: a coloured block with a slotted metal screw."""
    relief = _room_for(long, wide)
    case = finishes.smooth_plastic(dice)
    block = relief.box(0, 0, long, wide, 1.5)
    put(relief, block, case, np.asarray(8.0 + 4 * block.rounded_edge(2.5), np.float32))
    radius = 0.32 * min(long, wide)
    x = float(dice.choice([0.0, 0.25])) * long
    ring = relief.disc(x, 0, radius * 1.2)
    finishes.groove(relief, ring, -2.0)
    screw = relief.disc(x, 0, radius)
    put(relief, screw, metal(dice), np.asarray(10 + 2 * screw.rounded_edge(2.0), np.float32))
    turn = float(dice.uniform(0, np.pi))
    for quarter in range(int(dice.integers(1, 3))):
        finishes.groove(
            relief, shapes.turned_box(relief, x, 0, radius * 1.6, radius * 0.3, turn + quarter * np.pi / 2), -3.0
        )
    return stamp_of(relief)


def lamp_stamp(dice: np.random.Generator, long: float, wide: float) -> Stamp:
    """A light-emitting diode lying on its side, clear or coloured, with its leads."""
    relief = _room_for(long, wide)
    tin = metal(dice, "tin")
    for sign in (-1, 1):
        lead = shapes.capsule(relief, (-long / 2, sign * wide * 0.18), (0, sign * wide * 0.18), max(1.0, wide * 0.05))
        put(relief, lead, tin, shapes.dome(lead, max(1.0, wide * 0.05)) + 4)
    look = dice.random()
    colour = hsv(dice.uniform(0, 1), 0.05, 0.8) if look < 0.4 else hsv(dice.uniform(0, 1), 0.8, dice.uniform(0.1, 0.9))
    body = shapes.capsule(relief, (-long * 0.15, 0), (long * 0.5 - wide * 0.38, 0), wide * 0.38)
    glass = Material(colour, 0.0, 1.0)
    core = 0.4 * np.exp(-((body.x / (0.3 * long)) ** 2) - (body.y / (0.15 * wide)) ** 2)
    put(relief, body, glass, shapes.dome(body, wide * 0.38) + 2)
    relief.mark(body, np.asarray(glass.albedo * np.float32(0.3), np.float32), np.asarray(core, np.float32))
    flange = relief.box(-long * 0.2, 0, long * 0.08, wide * 0.86, 1.0)
    put(relief, flange, glass, np.asarray(wide * 0.3 * flange.rounded_edge(2.0) + 2, np.float32))
    return stamp_of(relief)


def header_stamp(dice: np.random.Generator, long: float, wide: float) -> Stamp:
    """A pin header: blocks in a row, square gold or tin pins."""
    relief = _room_for(long, wide)
    black = Material(hsv(0, 0, dice.uniform(0.06, 0.25)), 0.0, 0.4) if dice.random() < 0.7 else plastic(dice)
    count = max(2, round(long / max(5.0, wide * 0.5)))
    pitch = long / count
    pin_metal = metal(dice, str(dice.choice(["gold", "tin"])))
    rows = 2 if wide > 1.5 * pitch else 1
    for number in range(count):
        x = (number - (count - 1) / 2) * pitch
        for row in range(rows):
            y = (row - (rows - 1) / 2) * pitch
            block = shapes.regular(relief, x, y, pitch * 0.48, 8, 0.0)
            put(relief, block, black, np.asarray(5.0 + 2 * block.rounded_edge(1.5), np.float32))
            pin = relief.box(x, y, pitch * 0.3, pitch * 0.3)
            put(relief, pin, pin_metal, np.asarray(12.0 * pin.rounded_edge(pitch * 0.12) + 4, np.float32))
    return stamp_of(relief)


def shield_stamp(dice: np.random.Generator, long: float, wide: float) -> Stamp:
    """A metal can: crystal, shield or module with a laser mark."""
    relief = _room_for(long, wide)
    tin = metal(dice, str(dice.choice(["tin", "steel", "gold"])))
    round_ends = float(dice.choice([0.06, 0.5])) * min(long, wide)
    can = relief.box(0, 0, long, wide, round_ends)
    put(relief, can, tin, np.asarray(3.0 + 5 * can.rounded_edge(max(1.5, 0.1 * wide)), np.float32))
    _print_on(relief, dice, max(4.0, wide * 0.22), tin, 5)
    return stamp_of(relief)


def coil_stamp(dice: np.random.Generator, long: float, wide: float) -> Stamp:
    """An inductor: a drum of copper wire or a ferrite block."""
    size = min(long, wide)
    relief = _room_for(size, size)
    dark = Material(hsv(dice.uniform(0, 1), 0.1, dice.uniform(0.15, 0.4)), 0.0, 0.2)
    base = relief.box(0, 0, size, size, size * float(dice.uniform(0.05, 0.4)))
    put(relief, base, dark, np.asarray(6.0 * base.rounded_edge(2.0), np.float32))
    drum = relief.disc(0, 0, size * 0.45)
    radius = np.hypot(drum.x, drum.y)
    winding = np.abs(np.sin(np.pi * radius / max(2.0, size * 0.05)))
    put(relief, drum, metal(dice, "copper"), np.asarray(7.0 + 1.5 * winding, np.float32))
    core = relief.disc(0, 0, size * float(dice.uniform(0.15, 0.36)))
    put(relief, core, dark, np.asarray(9.0 + core.rounded_edge(2.0), np.float32))
    return stamp_of(relief)


def banded_stamp(dice: np.random.Generator, long: float, wide: float) -> Stamp:
    """A leaded resistor or diode with colour bands."""
    relief = _room_for(long, wide)
    wire = shapes.capsule(relief, (-long / 2, 0), (long / 2, 0), max(1.0, wide * 0.06))
    put(relief, wire, metal(dice, "tin"), shapes.dome(wire, max(1.0, wide * 0.06)) + 2)
    radius = wide * 0.28
    case = finishes.smooth_plastic(dice)
    body = shapes.capsule(relief, (-long * 0.25, 0), (long * 0.25, 0), radius)
    put(relief, body, case, shapes.dome(body, radius) + 1)
    for _ in range(int(dice.integers(1, 6))):
        band = relief.box(float(dice.uniform(-0.25, 0.25)) * long, 0, long * 0.05, 2 * radius)
        relief.mark(band, plastic(dice).albedo, 0.95)
    return stamp_of(relief)


def disc_stamp(dice: np.random.Generator, long: float, wide: float) -> Stamp:
    """A dipped capacitor or varistor lying down, or a button."""
    relief = _room_for(long, wide)
    case = finishes.smooth_plastic(dice)
    body = shapes.ellipse(relief, 0, 0, long * 0.45, wide * 0.42, 0.0)
    put(relief, body, case, np.asarray(2.0 + 0.3 * wide * body.rounded_edge(0.3 * wide), np.float32))
    _print_on(relief, dice, max(4.0, wide * 0.25), case, 3)
    return stamp_of(relief)


BoxMaker: TypeAlias = Callable[[np.random.Generator, float, float], Stamp]

BOXED: tuple[BoxMaker, ...] = (
    trimpot_stamp,
    lamp_stamp,
    header_stamp,
    shield_stamp,
    coil_stamp,
    banded_stamp,
    disc_stamp,
)
"""Stamps made to a length and a width."""
