"""Joined and wrapped things: wires, welds, glue, rings, cylinders, seams, panels, wafers; makers for "joined"."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from inspector.scenes.lettering import draw_text
from inspector.scenes.relief import Patch, Relief
from inspector.scenes.samples import fields, finishes, shapes
from inspector.scenes.samples.board_parts import random_text
from inspector.scenes.samples.materials import Material, any_material, contrasting, hsv, metal, natural, plastic
from inspector.scenes.samples.workpiece import Grain, Placement, Workpiece, board_of, cover_with, put, stamp_of

Path = NDArray[np.float64]


def _start(dice: np.random.Generator, side: int, look: str | None = None) -> tuple[Workpiece, Relief, float]:
    work = Workpiece(board_of(side))
    finishes.lay_ground(work, dice, look)
    return work, work.relief, float(side + 24)


def _sheet(relief: Relief) -> NDArray[np.uint8]:
    return fields.text_sheet((relief.height.shape[0], relief.height.shape[1]))


def _curve(dice: np.random.Generator, start: Path, end: Path, sag: float, steps: int = 14) -> Path:
    """A smooth path between two points that wanders by up to about `sag`."""
    share = np.linspace(0, 1, steps)[:, None]
    across = np.array([-(end - start)[1], (end - start)[0]]) / max(1e-6, float(np.hypot(*(end - start))))
    swing = np.zeros_like(share)
    for order in (1, 2, 3):
        swing += dice.normal(0, sag / order) * np.sin(order * np.pi * share)
    return start + share * (end - start) + across * swing


def _tube(relief: Relief, path: Path, radius: float) -> Patch:
    """A round rod along a path, over the whole relief."""
    ys, xs = np.mgrid[0 : relief.height.shape[0], 0 : relief.height.shape[1]].astype(np.float32)
    gap = np.full(relief.height.shape, 1e3, np.float32)
    for one, two in pairwise(path):
        axis = two - one
        low, high = np.minimum(one, two) - radius - 3, np.maximum(one, two) + radius + 4
        y0, y1 = int(max(0, low[1])), int(max(0, high[1]))
        x0, x1 = int(max(0, low[0])), int(max(0, high[0]))
        x, y = xs[y0:y1, x0:x1] - one[0], ys[y0:y1, x0:x1] - one[1]
        share = np.clip((x * axis[0] + y * axis[1]) / max(1e-6, float(axis @ axis)), 0, 1)
        near = np.hypot(x - share * axis[0], y - share * axis[1]) - radius
        gap[y0:y1, x0:x1] = np.minimum(gap[y0:y1, x0:x1], near)
    return shapes.with_distance(shapes.whole(relief), gap)


def wires(dice: np.random.Generator, side: int) -> Workpiece:
    """Loose wires, a ribbon cable or a harness that runs into crimps or housings."""
    work, relief, whole = _start(dice, side)
    count = int(dice.integers(2, 12))
    radius = whole * float(dice.uniform(0.012, 0.035))
    flat = dice.random() < 0.5
    turn = float(dice.choice([0, np.pi / 2, dice.uniform(0, np.pi)]))
    along, across = np.array([np.cos(turn), np.sin(turn)]), np.array([-np.sin(turn), np.cos(turn)])
    colours = [finishes.smooth_plastic(dice) for _ in range(int(dice.integers(1, 6)))]
    bend = _curve(dice, np.array([0.0, 0.0]), along * 1.3 * whole, 0.03 * whole)
    for number in range(count):
        offset = (number - (count - 1) / 2) * radius * (2.02 if flat else float(dice.uniform(1.6, 3.0)))
        start = whole / 2 - along * 0.65 * whole + across * offset
        path = start + bend if flat else _curve(dice, start, start + along * 1.3 * whole, 0.04 * whole)
        tube = _tube(relief, path, radius)
        put(relief, tube, colours[number % len(colours)], np.asarray(shapes.dome(tube, radius) + 1.0, np.float32))
    if dice.random() < 0.6:
        wide = count * radius * 2.3
        middle = whole / 2 + along * whole * float(dice.uniform(-0.3, 0.3))
        clip = shapes.turned_box(relief, *shapes.pair(middle), whole * float(dice.uniform(0.08, 0.25)), wide, turn, 3.0)
        finishes.body(work, dice, clip, any_material(dice), radius * 2.5, 4.0)
    finishes.speckle(work, dice, None, 0.4)
    work.pliable_px = float(dice.uniform(0.3, 2.0))
    return work


def weld(dice: np.random.Generator, side: int) -> Workpiece:
    """A weld seam, solder line or glue bead between two sheets."""
    work = Workpiece(board_of(side))
    relief, whole = work.relief, float(side + 24)
    cover_with(relief, metal(dice))
    finishes.finish(work, dice, metal(dice))
    seam = _curve(dice, np.array([-0.1, 0.5]) * whole, np.array([1.1, 0.5]) * whole, 0.03 * whole, 30)
    upper = relief.height.shape[0] * 0.5
    ys = np.arange(relief.height.shape[0], dtype=np.float32)[:, None]
    if dice.random() < 0.5:
        relief.height += np.clip((upper - ys) / 2.0, 0, 1) * float(dice.uniform(2, 8))
    radius = whole * float(dice.uniform(0.03, 0.1))
    bead = _tube(relief, seam, radius)
    glue = dice.random() < 0.4
    material = finishes.smooth_plastic(dice) if glue else metal(dice)
    xs = np.arange(relief.height.shape[1], dtype=np.float32)[None, :]
    pitch = float(dice.uniform(4, 14))
    wander = fields.octaves((relief.height.shape[0], relief.height.shape[1]), dice, 20.0, 0.7)
    ripple = np.sin(2 * np.pi * (xs + 0.02 / radius * (ys - upper) ** 2 * pitch) / pitch + 0.8 * wander)
    height = shapes.dome(bead, radius) * 0.4 + (0.1 if glue else 1.0) * (0.7 * ripple + 0.4 * wander)
    if not glue:
        burnt = np.clip(1.0 - (np.abs(ys - upper) - radius) / (radius * 2.5), 0, 1) * np.float32(dice.uniform(0.1, 0.6))
        tint = hsv(dice.choice([0.08, 0.6, 0.75]), 0.5, 0.6)
        for plane, colour in zip(relief.albedo, tint, strict=True):
            plane += burnt * (plane * colour * 2 - plane)
    put(relief, bead, material, np.asarray(relief.height + height, np.float32))
    spatter = fields.spots(finishes.roomy(relief), dice, int(dice.integers(0, 60)), 1.5)
    work.grains.append(Grain(spatter, height=2.0))
    finishes.wear(work, dice, None)
    work.pliable_px = float(dice.uniform(0, 1.5))
    return work


def ring(dice: np.random.Generator, side: int) -> Workpiece:
    """Sealing rings, gaskets, washers, hoses: round or wound closed."""
    work, relief, whole = _start(dice, side)
    material = finishes.smooth_plastic(dice) if dice.random() < 0.6 else metal(dice)
    for _ in range(int(dice.choice([1, 1, 2, 3]))):
        radius, wide = whole * float(dice.uniform(0.15, 0.42)), whole * float(dice.uniform(0.012, 0.07))
        centre = whole / 2 + dice.normal(0, 0.03, 2) * whole
        turns = np.linspace(0, 2 * np.pi, 48)
        wobble = np.ones_like(turns)
        for order in (2, 3):
            wobble += dice.normal(0, 0.03) * np.cos(order * turns + dice.uniform(0, 6))
        path = centre + (radius * wobble)[:, None] * np.stack([np.cos(turns), np.sin(turns)], axis=1)
        path[-1] = path[0]
        tube = _tube(relief, path, wide)
        height = shapes.dome(tube, wide) if dice.random() < 0.7 else 0.5 * wide * shapes.chamfer(tube, 2.0)
        put(relief, tube, material, np.asarray(height + 1.0, np.float32))
    finishes.finish(work, dice, material)
    work.pliable_px = float(dice.uniform(0, 1.5))
    return work


def cylinder(dice: np.random.Generator, side: int) -> Workpiece:
    """Cans, batteries, tubes, vials, shafts from the side: bands, necks, print around the bend."""
    work, relief, whole = _start(dice, side)
    turn = float(dice.choice([0.0, np.pi / 2, dice.uniform(0, np.pi)]))
    axis = np.array([np.cos(turn), np.sin(turn)])
    place = -whole * float(dice.uniform(0.38, 0.6))
    end = whole * float(dice.uniform(0.35, 0.6))
    base = whole * float(dice.uniform(0.1, 0.3))
    radius, material = base, any_material(dice)
    while place < end:
        long = whole * float(np.exp(dice.uniform(np.log(0.03), np.log(0.45))))
        middle = whole / 2 + axis * (place + long / 2)
        piece = shapes.turned_box(
            relief, *shapes.pair(middle), long + 1.0, 2 * radius, turn, float(dice.choice([0.0, 2.0]))
        )
        bow = np.sqrt(np.clip(1.0 - (piece.y / radius) ** 2, 0.0, 1.0))
        lip = np.float32(radius * dice.uniform(0, 0.05)) * np.clip((long / 2 - np.abs(piece.x)) / 3.0, 0, 1)
        rings = float(dice.choice([0.0, 0.0, 1.0])) * np.sin(2 * np.pi * piece.x / float(dice.uniform(3, 9)))
        put(relief, piece, material, np.asarray(radius * 0.8 * bow + lip + rings, np.float32))
        if dice.random() < 0.3 and long > 0.15 * whole:
            sheet = _sheet(relief)
            size = min(radius * 0.7, long * 0.2)
            quarter = round(-turn / (np.pi / 2)) % 4
            draw_text(
                sheet,
                random_text(dice, int(dice.integers(2, 7))),
                tuple(middle),
                size,
                max(1, size / 8),
                quarter_turns=quarter,
            )
            relief.print_mask(sheet, contrasting(dice, material.albedo), 0.9)
        place += long
        if dice.random() < 0.6:
            material = any_material(dice)
        if dice.random() < 0.6:
            radius = float(np.clip(radius * np.exp(dice.normal(0, 0.25)), 0.35 * base, 1.2 * base))
    finishes.finish(work, dice, material)
    work.pliable_px = float(dice.uniform(0, 0.4))
    return work


def seam(dice: np.random.Generator, side: int) -> Workpiece:
    """Stitches along a fold in leather, cloth or carpet; edges of belts and bags."""
    work = Workpiece(board_of(side))
    relief, whole = work.relief, float(side + 24)
    shape = (relief.height.shape[0], relief.height.shape[1])
    material = natural(dice) if dice.random() < 0.6 else plastic(dice)
    border, _ = fields.cells(shape, dice, float(dice.uniform(5, 14)), 1.0)
    skin = np.sqrt(np.clip(border / 3.0, 0, 1))
    cover_with(relief, material, np.asarray(1.2 * skin, np.float32))
    relief.albedo *= 0.8 + 0.2 * skin
    thread = plastic(dice)
    for _ in range(int(dice.integers(1, 4))):
        start, end = np.array([-0.1, dice.uniform(0.1, 0.9)]), np.array([1.1, dice.uniform(0.1, 0.9)])
        path = _curve(dice, start * whole, end * whole, 0.04 * whole, 40)
        fold = _tube(relief, path, 6.0)
        relief.height -= np.asarray(np.float32(dice.uniform(1, 4)) * shapes.chamfer(fold, 6.0), np.float32)
        long, wide = whole * float(dice.uniform(0.02, 0.06)), max(1.5, whole * float(dice.uniform(0.004, 0.012)))
        room = long
        small = Relief((-room, -room, room, room), 1.0)
        stitch = shapes.capsule(small, (-long / 2, 0), (long / 2, 0), wide)
        twist = 0.4 * np.sin(2 * np.pi * (stitch.x + stitch.y) / max(2.5, wide))
        put(small, stitch, thread, np.asarray(shapes.dome(stitch, wide) + 2 + twist, np.float32))
        stamp = stamp_of(small)
        places = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(path, axis=0).T))])
        slant = float(dice.choice([0, 0, 20, 60]))
        for reach in np.arange(0, places[-1], long * 1.5):
            x, y = np.interp(reach, places, path[:, 0]), np.interp(reach, places, path[:, 1])
            x1, y1 = np.interp(reach + 2, places, path[:, 0]), np.interp(reach + 2, places, path[:, 1])
            angle = float(np.rad2deg(np.arctan2(y1 - y, x1 - x))) + slant
            work.placements.append(Placement(stamp, float(x), float(y), angle, 0.6, 4.0))
    finishes.wear(work, dice, None)
    work.pliable_px = float(dice.uniform(0.3, 1.5))
    return work


def panel(dice: np.random.Generator, side: int) -> Workpiece:
    """Sheet panels with rivets or screws, gaps, bends and a label."""
    work = Workpiece(board_of(side))
    relief, whole = work.relief, float(side + 24)
    material = metal(dice) if dice.random() < 0.6 else plastic(dice)
    cover_with(relief, material)
    for _ in range(int(dice.integers(1, 4))):
        place, lean = float(dice.uniform(0.1, 0.9)) * whole, float(dice.choice([0.0, 0.0, dice.normal(0, 0.3)])) * whole
        ends = ((-0.1 * whole, place), (1.1 * whole, place + lean))
        if dice.random() < 0.5:
            ends = ((place, -0.1 * whole), (place + lean, 1.1 * whole))
        line = shapes.capsule(relief, *ends, float(dice.uniform(1, 4)))
        finishes.groove(relief, line, -float(dice.uniform(2, 6)))
    radius = whole * float(dice.uniform(0.02, 0.06))
    small = Relief((-1.5 * radius, -1.5 * radius, 1.5 * radius, 1.5 * radius), 1.0)
    head = small.disc(0, 0, radius)
    put(
        small,
        head,
        metal(dice),
        np.asarray(1.0 + 0.6 * radius * head.rounded_edge(radius * dice.uniform(0.3, 1.0)), np.float32),
    )
    look = dice.random()
    if look < 0.6:
        for quarter in range(2 if look < 0.35 else 1):
            cut = shapes.turned_box(small, 0, 0, radius * 1.3, radius * 0.25, quarter * np.pi / 2)
            finishes.groove(small, cut, -0.4 * radius)
    elif look < 0.8:
        hexagon = shapes.regular(small, 0, 0, radius * 0.5, 6, 0.0)
        put(small, hexagon, Material(hsv(0, 0, 0.1), 0.0, 0.1), 0.0)
    stamp = stamp_of(small)
    step = np.array([dice.uniform(0.12, 0.4), dice.uniform(0.12, 0.4)]) * whole
    for row in range(int(whole / step[1]) + 1):
        for column in range(int(whole / step[0]) + 1):
            x, y = (column + 0.5) * step[0], (row + 0.5) * step[1]
            work.placements.append(
                Placement(stamp, x, y, float(dice.uniform(0, 360)), 0.4, 60.0 if look < 0.8 else 0.0)
            )
    finishes.finish(work, dice, material)
    finishes.wear(work, dice, None)
    return work


def wafer(dice: np.random.Generator, side: int) -> Workpiece:
    """Equal cells side by side: dies of a wafer, solar cells, electrodes, pixels of a display, seven segments."""
    work = Workpiece(board_of(side))
    relief, whole = work.relief, float(side + 24)
    cover_with(relief, any_material(dice))
    pitch = np.exp(dice.uniform(np.log(0.08), np.log(0.45), 2)) * whole
    cell = Relief((-pitch[0] / 2 - 1, -pitch[1] / 2 - 1, pitch[0] / 2 + 1, pitch[1] / 2 + 1), 1.0)
    die = cell.box(
        0, 0, pitch[0] * dice.uniform(0.85, 0.98), pitch[1] * dice.uniform(0.85, 0.98), float(dice.uniform(0, 3))
    )
    put(cell, die, any_material(dice), 1.0)
    for _ in range(int(dice.integers(2, 14))):
        size = pitch * np.exp(dice.uniform(np.log(0.03), np.log(0.6), 2))
        x, y = dice.uniform(-0.45, 0.45, 2) * (pitch - size)
        block = cell.box(float(x), float(y), float(size[0]), float(size[1]))
        put(cell, block, any_material(dice), float(dice.uniform(0.5, 2.0)))
    stamp = stamp_of(cell)
    for row in range(int(whole / pitch[1]) + 2):
        for column in range(int(whole / pitch[0]) + 2):
            work.placements.append(Placement(stamp, column * pitch[0], row * pitch[1], 0.0, 0.1, 0.0))
    finishes.speckle(work, dice, None, 0.3)
    clouds = fields.spectrum(finishes.roomy(relief), dice, 1.8)
    work.grains.append(Grain(clouds, albedo=float(dice.uniform(0, 0.12))))
    return work


def chain(dice: np.random.Generator, side: int) -> Workpiece:
    """Roller chains, bracelets, bead rows, terminals on a strip: one thing again and again along a line."""
    work, _, whole = _start(dice, side)
    size = whole * float(dice.uniform(0.05, 0.13))
    small = Relief((-1.6 * size, -1.6 * size, 1.6 * size, 1.6 * size), 1.0)
    for _ in range(int(dice.integers(2, 5))):
        material = metal(dice) if dice.random() < 0.7 else plastic(dice)
        look = int(dice.integers(0, 4))
        x, y = dice.normal(0, 0.35, 2) * size
        if look == 0:
            patch = small.disc(x, y, size * float(dice.uniform(0.2, 0.6)))
        elif look == 1:
            patch = small.box(x, y, *shapes.pair(size * dice.uniform(0.4, 1.8, 2)), size * float(dice.uniform(0, 0.2)))
        elif look == 2:
            patch = shapes.capsule(small, (-size, 0), (size, 0), size * float(dice.uniform(0.2, 0.5)))
        else:
            patch = small.ring(x, y, size * float(dice.uniform(0.5, 0.9)), size * float(dice.uniform(0.2, 0.4)))
        edge = size * float(dice.uniform(0.1, 0.4))
        put(
            small, patch, material, np.asarray(size * dice.uniform(0.2, 0.6) * patch.rounded_edge(edge) + 1, np.float32)
        )
    stamp = stamp_of(small)
    for _ in range(int(dice.integers(1, 4))):
        start, end = dice.uniform(0, 0.3, 2) * whole, dice.uniform(0.7, 1.0, 2) * whole
        path = _curve(dice, start, end, 0.08 * whole, 60)
        places = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(path, axis=0).T))])
        for reach in np.arange(0, places[-1], size * float(dice.uniform(1.5, 2.2))):
            x, y = np.interp(reach, places, path[:, 0]), np.interp(reach, places, path[:, 1])
            x1, y1 = np.interp(reach + 2, places, path[:, 0]), np.interp(reach + 2, places, path[:, 1])
            angle = float(np.rad2deg(np.arctan2(y1 - y, x1 - x)))
            work.placements.append(Placement(stamp, float(x), float(y), angle, 1.0, 3.0))
    finishes.speckle(work, dice, None, 0.4)
    return work


MAKERS = {
    "wires": wires,
    "weld": weld,
    "ring": ring,
    "cylinder": cylinder,
    "seam": seam,
    "panel": panel,
    "wafer": wafer,
    "chain": chain,
}
"""Every maker of this file by the kind it makes."""
