"""Boards, chips, connectors, transistors, cables, solder: makers of workpieces for the "electronics" samples."""

from __future__ import annotations

import cv2
import numpy as np

from inspector.scenes.lettering import draw_text
from inspector.scenes.light import F32
from inspector.scenes.relief import Relief
from inspector.scenes.samples import fields, finishes, shapes
from inspector.scenes.samples.board_parts import BOXED, can_stamp, chip_stamp, random_text, resistor_stamp, solder_stamp
from inspector.scenes.samples.materials import Material, hsv, metal, plastic
from inspector.scenes.samples.workpiece import Grain, Placement, Stamp, Workpiece, board_of, cover_with, put, stamp_of


def _mask_colour(dice: np.random.Generator) -> Material:
    look = dice.random()
    if look < 0.4:
        colour = hsv(dice.uniform(0.33, 0.45), dice.uniform(0.6, 0.95), dice.uniform(0.2, 0.5))
    elif look < 0.65:
        colour = hsv(dice.uniform(0.55, 0.65), dice.uniform(0.6, 0.95), dice.uniform(0.25, 0.65))
    elif look < 0.75:
        colour = hsv(dice.uniform(0.97, 1.0), dice.uniform(0.6, 0.9), dice.uniform(0.35, 0.65))
    elif look < 0.85:
        colour = hsv(0, 0, dice.uniform(0.06, 0.16))
    elif look < 0.93:
        colour = hsv(0, 0, dice.uniform(0.8, 0.95))
    else:
        colour = hsv(dice.uniform(0.08, 0.14), dice.uniform(0.5, 0.8), dice.uniform(0.5, 0.8))
    return Material(colour, 0.0, float(dice.uniform(0.2, 0.9)))


def _tracks(shape: tuple[int, int], dice: np.random.Generator, pitch: float, width: float, count: int) -> F32:
    """Routed tracks of 45 degree bends on a grid, 0..1."""
    sheet = np.zeros(shape, np.uint8)
    steps = [(1, 0), (1, 1), (0, 1), (-1, 1), (-1, 0), (-1, -1), (0, -1), (1, -1)]
    for _ in range(count):
        heading = int(dice.integers(0, 4)) * 2
        bundle = int(dice.integers(1, 6))
        start = np.array([dice.integers(0, int(shape[1] / pitch)), dice.integers(0, int(shape[0] / pitch))]) * pitch
        path = [start]
        for _ in range(int(dice.integers(1, 5))):
            path.append(path[-1] + np.array(steps[heading]) * pitch * int(dice.integers(2, 12)))
            heading = (heading + int(dice.choice([-1, 1]))) % 8
        aside = np.array([1.0, 1.0]) if abs(path[1][0] - path[0][0]) == abs(path[1][1] - path[0][1]) else None
        for line in range(bundle):
            offset = np.array([line, line]) * pitch * 0.7 if aside is None else np.array([0, line]) * pitch
            points = np.round((np.array(path) + offset) * 16).astype(np.int32)
            cv2.polylines(sheet, [points], False, (255,), max(1, round(width)), cv2.LINE_AA, 4)
    return np.asarray(sheet.astype(np.float32) / 255.0, np.float32)


def _bare_board(dice: np.random.Generator, relief: Relief, side: float, scale: float) -> None:
    """Solder mask over copper tracks, vias and silkscreen over the whole relief."""
    mask = _mask_colour(dice)
    cover_with(relief, mask)
    copper = _tracks(relief.height.shape, dice, 6 * scale, 2.2 * scale, int(dice.integers(4, 22)))
    bright = float(dice.uniform(1.1, 1.7)) if dice.random() < 0.8 else 0.7
    relief.albedo *= 1.0 + (bright - 1.0) * copper
    relief.height += 0.7 * copper
    for _ in range(int(dice.integers(0, 40))):
        x, y = dice.uniform(0, side, 2)
        ring = relief.disc(x, y, 2.6 * scale)
        put(relief, ring, metal(dice, "tin"), 0.8)
        put(relief, relief.disc(x, y, 1.3 * scale), Material(hsv(0, 0, 0.08), 0.0, 0.0), -2.0)


def _silkscreen(dice: np.random.Generator, relief: Relief, side: float, scale: float) -> None:
    sheet = np.zeros(relief.height.shape, np.uint8)
    for _ in range(int(dice.integers(2, 14))):
        spot = (float(dice.uniform(0, side)), float(dice.uniform(0, side)))
        size = float(dice.uniform(5, 11)) * scale
        text = random_text(dice, int(dice.integers(2, 7)))
        draw_text(sheet, text, spot, size, max(1.0, size / 8), quarter_turns=int(dice.integers(0, 4)))
    ink = hsv(0, 0, 0.95) if relief.albedo.mean() < 0.5 else hsv(0, 0, 0.1)
    relief.print_mask(sheet, ink, float(dice.uniform(0.7, 0.98)))


def pcb(dice: np.random.Generator, side: int) -> Workpiece:
    """A populated board, close up; now and then its edge and the ground are seen."""
    work = Workpiece(board_of(side))
    relief, whole = work.relief, float(side + 24)
    scale = float(np.exp(dice.uniform(np.log(0.7), np.log(2.0)))) * side / 288
    if dice.random() < 0.35:
        finishes.lay_ground(work, dice)
        under = (relief.albedo.copy(), relief.height.copy(), relief.metal.copy(), relief.gloss.copy())
        board = relief.box(
            whole * float(dice.uniform(0.35, 0.65)),
            whole * float(dice.uniform(0.35, 0.65)),
            *shapes.pair(whole * dice.uniform(0.6, 0.9, 2)),
            float(dice.uniform(0, 10)),
        )
        cover = finishes.sheet_of(relief, board)
        _bare_board(dice, relief, whole, scale)
        _silkscreen(dice, relief, whole, scale)
        relief.height += 5.0
        for mine, old in zip((relief.albedo, relief.height, relief.metal, relief.gloss), under, strict=True):
            mine[:] = old + cover * (mine - old)
    else:
        cover = np.ones(relief.height.shape, np.float32)
        _bare_board(dice, relief, whole, scale)
        _silkscreen(dice, relief, whole, scale)
    relief.coverage[:] = cover
    _populate(work, dice, whole, scale, cover)
    finishes.speckle(work, dice, cover, 0.4)
    if dice.random() < 0.5:
        finishes.dust(work, dice)
    return work


def _populate(work: Workpiece, dice: np.random.Generator, whole: float, scale: float, cover: F32) -> None:
    relief = work.relief
    taken = cover < 0.99
    stock: list[tuple[Stamp, float, float]] = []
    for _ in range(int(dice.integers(1, 4))):
        wide, high = dice.uniform(30, 75) * scale, dice.uniform(30, 75) * scale
        pins = int(np.clip(high / (dice.uniform(5, 9) * scale), 3, 16))
        stock.append((chip_stamp(dice, wide, high, pins, bool(dice.random() < 0.3)), wide * 1.4, high * 1.4))
    radius = float(dice.uniform(10, 26)) * scale
    stock.append((can_stamp(dice, radius), 2.2 * radius, 2.2 * radius))
    for number in dice.permutation(len(BOXED))[: int(dice.integers(1, 5))]:
        long = float(dice.uniform(18, 50)) * scale
        wide = long * float(dice.uniform(0.4, 1.0))
        stock.append((BOXED[int(number)](dice, long, wide), long * 1.15, wide * 1.2))
    large = len(stock)
    for _ in range(3):
        long = float(dice.uniform(9, 24)) * scale
        wide = long * float(dice.uniform(0.45, 0.65))
        stock.append((resistor_stamp(dice, long, wide), long * 1.25, wide * 1.4))
    for _ in range(2):
        radius = float(dice.uniform(4, 9)) * scale
        stock.append((solder_stamp(dice, radius), 2.6 * radius, 2.6 * radius))
    tin = metal(dice, "tin")
    for attempt in range(int(dice.integers(25, 100))):
        stamp, wide, high = stock[attempt % large if attempt < 2 * large else int(dice.integers(large, len(stock)))]
        quarter = int(dice.integers(0, 4))
        if quarter % 2:
            wide, high = high, wide
        x, y = dice.uniform(0, whole, 2)
        x0, y0, x1, y1 = (
            int(max(0, x - wide / 2)),
            int(max(0, y - high / 2)),
            int(min(whole, x + wide / 2)) + 1,
            int(min(whole, y + high / 2)) + 1,
        )
        if taken[y0:y1, x0:x1].any():
            continue
        taken[y0:y1, x0:x1] = True
        pad = relief.box(x, y, wide * 0.98, high * 0.95, 1.0)
        if wide < 40 * scale and high < 40 * scale:
            put(relief, pad, tin, relief.height[pad.rows, pad.columns] + 0.5)
        work.placements.append(Placement(stamp, x, y, 90.0 * quarter, float(dice.uniform(0.2, 1.0)), 1.0))


def bare_board(dice: np.random.Generator, side: int) -> Workpiece:
    """Copper or binarised artwork: tracks, pads and holes."""
    work = Workpiece(board_of(side))
    relief, whole = work.relief, float(side + 24)
    scale = float(np.exp(dice.uniform(np.log(0.8), np.log(2.5)))) * side / 288
    binary = dice.random() < 0.4
    ground = Material(hsv(0, 0, 0.02), 0.0, 0.0) if binary else _mask_colour(dice)
    copper = Material(hsv(0, 0, 1.0), 0.0, 0.0) if binary else metal(dice, str(dice.choice(["copper", "gold", "tin"])))
    cover_with(relief, ground)
    tracks = _tracks(relief.height.shape, dice, 8 * scale, 3.2 * scale, int(dice.integers(12, 36)))
    for plane, colour in zip(relief.albedo, copper.albedo, strict=True):
        plane += tracks * (colour - plane)
    relief.metal += tracks * (copper.metal - relief.metal)
    relief.gloss += tracks * (copper.gloss - relief.gloss)
    relief.height += 1.0 * tracks
    for _ in range(int(dice.integers(5, 40))):
        x, y = (dice.integers(0, int(whole / (8 * scale)) + 1, 2)) * 8 * scale
        radius = float(dice.uniform(3, 7)) * scale
        pad = relief.disc(x, y, radius) if dice.random() < 0.6 else relief.box(x, y, 2 * radius, 1.4 * radius)
        put(relief, pad, copper, 1.0)
        if dice.random() < 0.6:
            put(relief, relief.disc(x, y, radius * 0.45), ground, -1.0)
    relief.coverage[:] = 1.0
    if not binary:
        finishes.brush(work, dice, np.asarray(tracks, np.float32), amount=0.6)
        finishes.speckle(work, dice, None, 0.5)
    return work


def connector(dice: np.random.Generator, side: int) -> Workpiece:
    """A moulded housing with rows of pins in cavities."""
    work = Workpiece(board_of(side))
    relief, whole = work.relief, float(side + 24)
    finishes.lay_ground(work, dice)
    housing = plastic(dice)
    columns, rows = int(dice.integers(2, 9)), int(dice.integers(1, 4))
    pitch = whole * float(dice.uniform(0.6, 0.85)) / max(columns, rows + 1)
    wide, high = columns * pitch + 0.4 * pitch, rows * pitch + 0.5 * pitch
    x, y = whole / 2 + dice.uniform(-0.05, 0.05) * whole, whole / 2 + dice.uniform(-0.05, 0.05) * whole
    block = relief.box(x, y, wide, high, pitch * 0.08)
    cover = finishes.body(work, dice, block, housing, 0.3 * pitch, 0.06 * pitch)
    for _ in range(int(dice.integers(0, 4))):
        rib = relief.box(
            x + dice.uniform(-0.4, 0.4) * wide, y + dice.choice([-0.5, 0.5]) * high, 0.4 * pitch, 0.3 * pitch
        )
        finishes.body(work, dice, rib, housing, 0.25 * pitch, 2.0)
    pin_metal, round_pin = metal(dice, str(dice.choice(["gold", "tin", "brass"]))), bool(dice.random() < 0.5)
    size = float(dice.uniform(0.2, 0.35)) * pitch
    dark = Material(np.asarray(housing.albedo * 0.35, np.float32), 0.0, 0.1)
    room = size * 1.3
    pin_relief = Relief((-room, -room, room, room), 1.0)
    pin = pin_relief.disc(0, 0, size / 2) if round_pin else pin_relief.box(0, 0, size, size, size * 0.1)
    put(pin_relief, pin, pin_metal, np.asarray(0.2 * pitch * pin.rounded_edge(size * 0.4), np.float32))
    stamp = stamp_of(pin_relief)
    for row in range(rows):
        for column in range(columns):
            px = x + (column - (columns - 1) / 2) * pitch
            py = y + (row - (rows - 1) / 2) * pitch
            cavity = (
                relief.disc(px, py, 0.36 * pitch) if round_pin else relief.box(px, py, 0.66 * pitch, 0.66 * pitch, 2)
            )
            put(relief, cavity, dark, 0.0)
            work.placements.append(Placement(stamp, px, py, 0.0, 0.5, 2.0))
    finishes.finish(work, dice, housing, cover)
    return work


def transistor(dice: np.random.Generator, side: int) -> Workpiece:
    """A power package with a tab and three leads, some in a perforated board."""
    work = Workpiece(board_of(side))
    relief, whole = work.relief, float(side + 24)
    look = finishes.lay_ground(work, dice)
    unit = whole * float(dice.uniform(0.3, 0.42))
    x = whole / 2 + float(dice.normal(0, 0.02)) * whole
    if look in ("grey", "colour", "wood", "light"):
        pitch = unit / 3
        for row in range(int(whole / pitch) + 1):
            for column in range(int(whole / pitch) + 1):
                hole = relief.disc(column * pitch, row * pitch, pitch * 0.22)
                put(relief, hole, Material(hsv(0, 0, 0.06), 0.0, 0.0), -4.0)
    tin = metal(dice, "tin")
    top = whole * 0.45
    for number in range(3):
        lean = float(dice.normal(0, 0.02)) * whole
        px = x + (number - 1) * unit * 0.32
        wire = shapes.capsule(relief, (px, top + unit * 0.2), (px + lean, whole * 0.93), unit * 0.05)
        put(relief, wire, tin, shapes.dome(wire, unit * 0.05) + 3.0)
    if dice.random() < 0.6:
        tab = relief.box(x, top - unit * 0.55, unit, unit * 0.5, unit * 0.05)
        finishes.body(work, dice, tab, metal(dice), 6.0, 2.0)
        put(relief, relief.disc(x, top - unit * 0.6, unit * 0.14), Material(hsv(0, 0, 0.1), 0.0, 0.1), 0.0)
    black = Material(hsv(0, 0, dice.uniform(0.08, 0.2)), 0.0, float(dice.uniform(0.1, 0.5)))
    block = relief.box(x, top, unit, unit * float(dice.uniform(0.7, 0.95)), unit * 0.04)
    cover = finishes.body(work, dice, block, black, 0.16 * unit, 0.05 * unit)
    sheet = fields.text_sheet((relief.height.shape[0], relief.height.shape[1]))
    for row in range(2):
        draw_text(sheet, random_text(dice, 5), (x, top + (row - 0.5) * unit * 0.25), unit * 0.15, max(1, unit / 70))
    relief.print_mask(sheet, hsv(0, 0, 0.75), float(dice.uniform(0.4, 0.9)))
    finishes.cast_skin(work, dice, cover, 0.25)
    return work


def cable(dice: np.random.Generator, side: int) -> Workpiece:
    """A cut cable from its end: insulated cores with bundles of strands in a jacket."""
    work = Workpiece(board_of(side))
    relief, whole = work.relief, float(side + 24)
    finishes.lay_ground(work, dice, str(dice.choice(["black", "grey", "light", "white"])))
    centre, radius = whole / 2, whole * float(dice.uniform(0.34, 0.45))
    jacket = plastic(dice)
    finishes.body(work, dice, shapes.lobes(relief, centre, centre, radius, dice, 0.02), jacket, 12.0, 3.0)
    cores = int(dice.choice([1, 2, 3, 3, 4, 5]))
    core = radius * (0.75 if cores == 1 else min(0.44, 0.95 * np.sin(np.pi / cores) / (1 + np.sin(np.pi / cores))))
    start = dice.uniform(0, 2 * np.pi)
    wire = metal(dice, str(dice.choice(["copper", "copper", "tin"])))
    strand = core * float(dice.uniform(0.09, 0.2))
    for number in range(cores):
        angle, ring = start + 2 * np.pi * number / cores, 0.0 if cores == 1 else radius * 0.94 - core
        cx, cy = centre + ring * np.cos(angle), centre + ring * np.sin(angle)
        finishes.body(work, dice, relief.disc(cx, cy, core), plastic(dice), 4.0, 2.0)
        hollow = relief.disc(cx, cy, core * 0.66)
        put(relief, hollow, Material(hsv(0, 0, 0.05), 0.0, 0.1), 4.0)
        rows = int(core * 0.66 / strand) + 1
        for row in range(-rows, rows + 1):
            for column in range(-rows, rows + 1):
                sx = (column + 0.5 * (row % 2)) * strand * 1.95 + dice.normal(0, 0.12) * strand
                sy = row * strand * 1.72 + dice.normal(0, 0.12) * strand
                if np.hypot(sx, sy) < core * 0.66 - strand:
                    end = relief.disc(cx + sx, cy + sy, strand)
                    tone = Material(np.asarray(wire.albedo * dice.uniform(0.6, 1.0), np.float32), 1.0, wire.gloss)
                    put(relief, end, tone, 10.0 + float(dice.normal(0, 2)) + shapes.dome(end, strand * 0.5))
    finishes.peel(work, dice, None)
    finishes.speckle(work, dice, None, 0.6)
    work.pliable_px = float(dice.uniform(0, 0.6))
    return work


def solder_side(dice: np.random.Generator, side: int) -> Workpiece:
    """The underside of a board: rows of solder joints."""
    work = Workpiece(board_of(side))
    relief, whole = work.relief, float(side + 24)
    scale = float(np.exp(dice.uniform(np.log(0.8), np.log(2.2)))) * side / 288
    _bare_board(dice, relief, whole, scale)
    pitch = float(dice.uniform(14, 26)) * scale
    stock = [solder_stamp(dice, pitch * float(dice.uniform(0.26, 0.4))) for _ in range(4)]
    relief.coverage[:] = 1.0
    filled = float(dice.uniform(0.3, 0.95))
    for row in range(int(whole / pitch) + 1):
        run = dice.random() < filled
        for column in range(int(whole / pitch) + 1):
            if run and dice.random() < 0.9:
                stamp = stock[int(dice.integers(0, len(stock)))]
                work.placements.append(Placement(stamp, column * pitch, row * pitch, dice.uniform(0, 360), 0.6, 20.0))
    finishes.speckle(work, dice, None, 0.5)
    flux = fields.spectrum(finishes.roomy(relief), dice, 1.6)
    work.grains.append(Grain(flux, albedo=float(dice.uniform(0.0, 0.1)), gloss=0.1))
    return work


MAKERS = {
    "pcb": pcb,
    "bare_board": bare_board,
    "connector": connector,
    "transistor": transistor,
    "cable": cable,
    "solder_side": solder_side,
}
"""Every maker of this file by the kind it makes."""
