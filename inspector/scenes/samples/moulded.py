"""Moulded and formed: bricks, beads, sticks, coins, brackets, switches, wheels, dials, buttons; makers."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from inspector.scenes.lettering import draw_text
from inspector.scenes.relief import Relief
from inspector.scenes.samples import fields, finishes, shapes
from inspector.scenes.samples.board_parts import random_text
from inspector.scenes.samples.materials import Material, any_material, contrasting, hsv, metal, natural, plastic
from inspector.scenes.samples.workpiece import Grain, Placement, Workpiece, board_of, put, stamp_of

_DARK = Material(hsv(0, 0, 0.07), 0.0, 0.1)


def _start(dice: np.random.Generator, side: int, look: str | None = None) -> tuple[Workpiece, Relief, float]:
    work = Workpiece(board_of(side))
    finishes.lay_ground(work, dice, look)
    return work, work.relief, float(side + 24)


def _sheet(relief: Relief) -> NDArray[np.uint8]:
    return fields.text_sheet((relief.height.shape[0], relief.height.shape[1]))


def brick(dice: np.random.Generator, side: int) -> Workpiece:
    """A toy brick or base plate: studs in a grid on a glossy body."""
    work, relief, whole = _start(dice, side)
    material = finishes.smooth_plastic(dice)
    columns, rows = int(dice.integers(1, 7)), int(dice.integers(1, 7))
    pitch = whole * float(dice.uniform(0.65, 0.9)) / max(columns, rows)
    block = relief.box(whole / 2, whole / 2, columns * pitch, rows * pitch, pitch * 0.06)
    cover = finishes.body(work, dice, block, material, 10.0, 2.0)
    hollow = dice.random() < 0.25
    for row in range(rows):
        for column in range(columns):
            x, y = whole / 2 + (column - (columns - 1) / 2) * pitch, whole / 2 + (row - (rows - 1) / 2) * pitch
            stud = relief.disc(x, y, pitch * 0.31)
            put(relief, stud, material, np.asarray(10.0 + 6 * stud.rounded_edge(pitch * 0.06), np.float32))
            if hollow:
                put(relief, relief.disc(x, y, pitch * 0.2), material, 6.0)
            elif pitch > 36:
                sheet = _sheet(relief)
                draw_text(sheet, random_text(dice, 3), (x, y), pitch * 0.12, 1)
                relief.height += sheet * np.float32(1.5 / 255.0)
    finishes.peel(work, dice, cover)
    return work


def beads(dice: np.random.Generator, side: int) -> Workpiece:
    """Balls, beads, berries, peas: in rows, rings or heaps, some drilled."""
    work, _, whole = _start(dice, side)
    material = (
        finishes.smooth_plastic(dice) if dice.random() < 0.5 else natural(dice) if dice.random() < 0.6 else metal(dice)
    )
    radius = whole * float(np.exp(dice.uniform(np.log(0.03), np.log(0.2))))
    room = radius * 1.15 + 1
    stock = []
    for _ in range(3):
        small = Relief((-room, -room, room, room), 1.0)
        tone = Material(
            np.asarray(material.albedo * dice.uniform(0.8, 1.1), np.float32), material.metal, material.gloss
        )
        ball = shapes.lobes(small, 0, 0, radius, dice, float(dice.uniform(0, 0.06)))
        put(small, ball, tone, shapes.dome(ball, radius) * float(dice.uniform(0.7, 1.0)))
        if dice.random() < 0.3:
            put(small, small.disc(*shapes.pair(dice.normal(0, 0.3, 2) * radius), radius * 0.2), _DARK, radius * 0.6)
        stock.append(stamp_of(small))
    for _ in range(int(np.clip(0.5 * (whole / (2 * radius)) ** 2 * dice.uniform(0.2, 1.2), 1, 80))):
        x, y = dice.uniform(0.1, 0.9, 2) * whole
        stamp = stock[int(dice.integers(0, len(stock)))]
        work.placements.append(Placement(stamp, float(x), float(y), float(dice.uniform(0, 360)), 0.8, 10.0))
    finishes.speckle(work, dice, None, 0.6)
    return work


def sticks(dice: np.random.Generator, side: int) -> Workpiece:
    """Wooden sticks, matches, needles, rods and tubes beside each other."""
    work, relief, whole = _start(dice, side)
    count = int(dice.integers(1, 12))
    turn = float(dice.choice([0.0, np.pi / 2]) + dice.normal(0, 0.05))
    axis, across = np.array([np.cos(turn), np.sin(turn)]), np.array([-np.sin(turn), np.cos(turn)])
    wide = whole * float(dice.uniform(0.5, 0.85)) / (2 * count)
    wide = min(wide, 0.08 * whole)
    material = natural(dice) if dice.random() < 0.6 else any_material(dice)
    head = plastic(dice) if dice.random() < 0.4 else None
    flat = dice.random() < 0.4
    for number in range(count):
        lean = axis + across * dice.normal(0, 0.01)
        middle = whole / 2 + across * (number - (count - 1) / 2) * wide * 2.3
        long = whole * float(dice.uniform(0.36, 0.4)) * (1.4 if dice.random() < 0.1 else 1.0)
        ends = shapes.pair(middle - lean * long), shapes.pair(middle + lean * long)
        rod = shapes.capsule(relief, *ends, wide)
        height = 3.0 * rod.rounded_edge(2.0) if flat else shapes.dome(rod, wide)
        tone = Material(
            np.asarray(material.albedo * dice.uniform(0.85, 1.1), np.float32), material.metal, material.gloss
        )
        put(relief, rod, tone, np.asarray(height + 1, np.float32))
        if head is not None:
            tip = shapes.ellipse(relief, *ends[1], wide * 2.0, wide * 1.3, turn)
            put(relief, tip, head, np.asarray(wide * 1.4 * tip.rounded_edge(wide) + 1, np.float32))
    finishes.brush(work, dice, relief.coverage.copy(), -float(np.rad2deg(turn)), 0.7)
    work.pliable_px = float(dice.uniform(0.2, 1.5))
    return work


def coin(dice: np.random.Generator, side: int) -> Workpiece:
    """Coins, medals, button cells, embossed lids: a rim, letters around, a relief in the middle."""
    work, relief, whole = _start(dice, side)
    centre, radius = whole / 2, whole * float(dice.uniform(0.34, 0.46))
    material = metal(dice) if dice.random() < 0.8 else finishes.smooth_plastic(dice)
    disc = relief.disc(centre, centre, radius)
    put(relief, disc, material, np.asarray(8.0 * disc.rounded_edge(4.0), np.float32))
    field = relief.disc(centre, centre, radius * float(dice.uniform(0.82, 0.94)))
    finishes.groove(relief, field, -2.5 * shapes.chamfer(field, 2.0))
    sign = float(dice.choice([1.0, 1.0, -1.0]))
    rise = np.zeros(relief.height.shape, np.float32)
    for _ in range(int(dice.integers(1, 6))):
        x, y = centre + dice.normal(0, 0.22, 2) * radius
        lump = shapes.lobes(
            relief, float(x), float(y), radius * float(dice.uniform(0.1, 0.4)), dice, float(dice.uniform(0.1, 0.5))
        )
        rise[lump.rows, lump.columns] += lump.cover * 3.0 * lump.rounded_edge(radius * 0.12)
    sheet = _sheet(relief)
    count = int(dice.integers(8, 28))
    size = radius * 0.13
    for number in range(count):
        angle = 2 * np.pi * number / count
        at = (centre + radius * 0.72 * float(np.cos(angle)), centre + radius * 0.72 * float(np.sin(angle)))
        quarter = round(-(angle + np.pi / 2) / (np.pi / 2)) % 4
        draw_text(sheet, random_text(dice, 1), at, size, max(1.0, size / 7), quarter_turns=quarter)
    rise = np.maximum(rise, sheet * np.float32(2.0 / 255.0))
    relief.height += sign * rise
    finishes.finish(work, dice, material)
    finishes.wear(work, dice, relief.coverage.copy())
    return work


def bracket(dice: np.random.Generator, side: int) -> Workpiece:
    """Bent brackets, clips, levers and links: arms that meet, eyes at their ends, ribs along them."""
    work, relief, whole = _start(dice, side)
    material = metal(dice) if dice.random() < 0.6 else plastic(dice)
    joints = [np.array([0.5, 0.5]) * whole + dice.normal(0, 0.2, 2) * whole]
    wide, height = whole * float(dice.uniform(0.04, 0.1)), float(dice.uniform(6, 16))
    for _ in range(int(dice.integers(1, 5))):
        step = dice.choice([0.0, np.pi / 2, np.pi, 3 * np.pi / 2, dice.uniform(0, 6)])
        end = joints[-1] + np.array([np.cos(step), np.sin(step)]) * whole * float(dice.uniform(0.2, 0.5))
        joints.append(np.clip(end, 0.1 * whole, 0.9 * whole))
        arm = shapes.capsule(
            relief, shapes.pair(joints[-2]), shapes.pair(joints[-1]), wide, wide * float(dice.uniform(0.7, 1.3))
        )
        rise = height * (0.4 + 0.6 * arm.rounded_edge(3.0))
        under = relief.height[arm.rows, arm.columns]
        put(
            relief,
            arm,
            material,
            np.asarray(np.maximum(rise, under * (relief.coverage[arm.rows, arm.columns] > 0.5)), np.float32),
        )
        if dice.random() < 0.4:
            slot = shapes.capsule(relief, shapes.pair(joints[-2]), shapes.pair(joints[-1]), wide * 0.4)
            finishes.groove(relief, slot, -0.4 * height * shapes.chamfer(slot, 2.0))
    for joint in joints:
        if dice.random() < 0.7:
            eye = relief.disc(*shapes.pair(joint), wide * 1.5)
            put(relief, eye, material, np.asarray(height * (0.4 + 0.7 * eye.rounded_edge(3.0)), np.float32))
            put(relief, relief.disc(*shapes.pair(joint), wide * 0.8), _DARK, -2.0)
    finishes.finish(work, dice, material)
    return work


def switchgear(dice: np.random.Generator, side: int) -> Workpiece:
    """Terminal blocks, switches and breakers: modules in a row with screws, levers, windows and marks."""
    work, relief, whole = _start(dice, side)
    case = plastic(dice)
    count = int(dice.integers(1, 7))
    wide, high = whole * float(dice.uniform(0.7, 1.1)) / count, whole * float(dice.uniform(0.55, 0.95))
    features = [
        (int(dice.integers(0, 4)), float(dice.uniform(-0.4, 0.4)), float(dice.uniform(0.25, 0.42))) for _ in range(4)
    ]
    inks = [finishes.smooth_plastic(dice), metal(dice), plastic(dice)]
    for number in range(count):
        x = whole / 2 + (number - (count - 1) / 2) * wide
        finishes.body(work, dice, relief.box(x, whole / 2, wide * 0.97, high, 2.0), case, 12.0, 2.5)
        for look, place, size in features:
            y = whole / 2 + place * high
            radius = min(size * wide, 0.09 * high)
            if look == 0:
                well = relief.disc(x, y, radius * 1.15)
                put(relief, well, _DARK, 5.0)
                screw = relief.disc(x, y, radius * 0.95)
                put(relief, screw, inks[1], np.asarray(7 + 2 * screw.rounded_edge(2.0), np.float32))
                slot = shapes.turned_box(relief, x, y, 1.7 * radius, 0.3 * radius, float(dice.uniform(0, np.pi)))
                finishes.groove(relief, slot, -3.0)
            elif look == 1:
                lever = relief.box(x, y, wide * 0.5, high * 0.14, 3.0)
                put(relief, lever, inks[0], np.asarray(12 + 8 * lever.rounded_edge(4.0), np.float32))
            elif look == 2:
                put(relief, relief.box(x, y, wide * 0.6, high * 0.08, 2.0), _DARK, 2.0)
            else:
                sheet = _sheet(relief)
                text = min(wide * 0.3, high * 0.06)
                draw_text(sheet, random_text(dice, 2), (x, y), text, max(1, text / 7))
                relief.print_mask(sheet, contrasting(dice, case.albedo), 0.9)
    finishes.finish(work, dice, case)
    return work


def fins(dice: np.random.Generator, side: int) -> Workpiece:
    """Heat sinks, combs, vents, grilles and louvres: bars beside each other in a frame."""
    work, relief, whole = _start(dice, side)
    material = metal(dice) if dice.random() < 0.5 else plastic(dice)
    frame = relief.box(
        whole / 2, whole / 2, *shapes.pair(whole * dice.uniform(0.65, 1.1, 2)), float(dice.uniform(0, 20))
    )
    finishes.body(work, dice, frame, material, 8.0, 3.0)
    count = int(dice.integers(4, 24))
    pitch = whole * 0.6 / count
    deep = bool(dice.random() < 0.6)
    curved = float(dice.choice([0.0, 0.0, dice.uniform(0.1, 0.5)]))
    for number in range(count):
        x = whole / 2 + (number - (count - 1) / 2) * pitch
        long = whole * 0.27 * (1.0 - curved * ((number - count / 2) / (count / 2)) ** 2)
        bar = shapes.capsule(
            relief, (x, whole / 2 - long), (x, whole / 2 + long), pitch * float(dice.uniform(0.28, 0.3))
        )
        if deep:
            put(relief, bar, _DARK, -4.0)
        else:
            finishes.groove(relief, bar, 8.0 * bar.rounded_edge(2.0))
    finishes.finish(work, dice, material)
    return work


def wheel(dice: np.random.Generator, side: int) -> Workpiece:
    """Wheels, fans, handwheels, pulleys: a hub, spokes or blades, a rim with tread."""
    work, relief, whole = _start(dice, side)
    centre, radius = whole / 2, whole * float(dice.uniform(0.36, 0.47))
    tyre, spoke = plastic(dice), any_material(dice)
    tread = int(dice.choice([0, int(dice.integers(20, 70))]))
    rim = (
        shapes.gear(relief, centre, centre, radius, tread, radius * 0.06, 0.0, 0.6)
        if tread
        else relief.disc(centre, centre, radius)
    )
    put(relief, rim, tyre, np.asarray(14.0 * rim.rounded_edge(radius * 0.15), np.float32))
    inner = radius * float(dice.uniform(0.6, 0.85))
    hollow = relief.disc(centre, centre, inner)
    put(relief, hollow, _DARK if dice.random() < 0.6 else plastic(dice), 0.0)
    count, bend = int(dice.integers(3, 12)), float(dice.choice([0.0, dice.uniform(-0.8, 0.8)]))
    start, blade = dice.uniform(0, 2 * np.pi), radius * float(dice.uniform(0.04, 0.14))
    for number in range(count):
        angle = start + 2 * np.pi * number / count
        end = (centre + inner * 1.02 * float(np.cos(angle + bend)), centre + inner * 1.02 * float(np.sin(angle + bend)))
        near = (centre + 0.1 * radius * float(np.cos(angle)), centre + 0.1 * radius * float(np.sin(angle)))
        arm = shapes.capsule(relief, near, end, blade, blade * float(dice.choice([0.6, 1.0, 1.6])))
        put(relief, arm, spoke, np.asarray(4.0 + 5.0 * arm.rounded_edge(blade * 0.6), np.float32))
    hub = relief.disc(centre, centre, radius * float(dice.uniform(0.15, 0.3)))
    put(relief, hub, spoke, np.asarray(6.0 + 8.0 * hub.rounded_edge(radius * 0.08), np.float32))
    put(relief, relief.disc(centre, centre, radius * 0.07), _DARK, 0.0)
    finishes.finish(work, dice, spoke)
    return work


def dial(dice: np.random.Generator, side: int) -> Workpiece:
    """Gauges, scales, clocks and knobs: marks and numbers around, a needle that may stand a little elsewhere."""
    work, relief, whole = _start(dice, side)
    centre, radius = whole / 2, whole * float(dice.uniform(0.36, 0.48))
    ring = relief.disc(centre, centre, radius)
    put(relief, ring, any_material(dice), np.asarray(10.0 * ring.rounded_edge(radius * 0.08), np.float32))
    face = plastic(dice)
    plate = relief.disc(centre, centre, radius * 0.88)
    put(relief, plate, face, 3.0)
    ink = contrasting(dice, face.albedo)
    marks, sweep = int(dice.integers(10, 61)), float(dice.choice([2.0, 1.5])) * np.pi
    for number in range(marks):
        angle = 0.75 * np.pi + sweep * number / marks
        long = 0.12 if number % 5 == 0 else 0.06
        out = np.array([np.cos(angle), np.sin(angle)])
        start, end = centre + out * radius * 0.83, centre + out * radius * (0.83 - long)
        relief.mark(shapes.capsule(relief, shapes.pair(start), shapes.pair(end), max(0.8, radius * 0.008)), ink, 0.95)
        if number % 10 == 0:
            sheet = _sheet(relief)
            at = centre + out * radius * 0.6
            draw_text(sheet, str(number), shapes.pair(at), radius * 0.12, max(1, radius * 0.015))
            relief.print_mask(sheet, ink, 0.95)
    reach = radius * 0.7
    small = Relief((-reach, -reach, reach, reach), 1.0)
    needle = shapes.capsule(small, (-reach * 0.2, 0), (reach * 0.95, 0), radius * 0.03, radius * 0.01)
    put(small, needle, plastic(dice), 8.0)
    knob = small.disc(0, 0, radius * float(dice.choice([0.07, 0.3])))
    put(small, knob, any_material(dice), np.asarray(8.0 + 5 * knob.rounded_edge(4.0), np.float32))
    work.placements.append(Placement(stamp_of(small), centre, centre, float(dice.uniform(0, 360)), 0.2, 1.5))
    finishes.speckle(work, dice, None, 0.3)
    return work


def button(dice: np.random.Generator, side: int) -> Workpiece:
    """Buttons, tape rolls, biscuits, plugs: round, with a rim, holes and a pattern pressed in."""
    work, relief, whole = _start(dice, side)
    material = any_material(dice)
    count = int(dice.choice([1, 1, 1, 4]))
    for number in range(count):
        place = whole * (np.array([0.5, 0.5]) if count == 1 else 0.27 + 0.46 * np.array([number % 2, number // 2]))
        x, y = shapes.pair(place)
        radius = whole * float(dice.uniform(0.3, 0.42)) / (1.0 if count == 1 else 2.1)
        if dice.random() < 0.3:
            body = shapes.gear(relief, x, y, radius, int(dice.integers(8, 30)), radius * 0.08, 0.0, 0.0)
        else:
            body = relief.disc(x, y, radius)
        put(relief, body, material, np.asarray(12.0 * body.rounded_edge(radius * 0.2), np.float32))
        inner = relief.disc(x, y, radius * float(dice.uniform(0.5, 0.8)))
        finishes.groove(relief, inner, -4.0 * shapes.chamfer(inner, 4.0))
        holes, ring = int(dice.choice([1, 2, 4, 4, 9])), radius * float(dice.uniform(0.2, 0.4))
        for hole in range(holes):
            angle = 2 * np.pi * hole / holes + np.pi / 4
            away = 0.0 if holes == 1 else ring
            patch = relief.disc(
                x + away * float(np.cos(angle)),
                y + away * float(np.sin(angle)),
                radius * float(0.3 if holes == 1 else 0.09),
            )
            put(relief, patch, _DARK, -3.0)
    bumps = fields.octaves(finishes.roomy(relief), dice, 12.0, 0.8)
    work.grains.append(
        Grain(
            bumps, albedo=float(dice.uniform(0, 0.1)), height=float(dice.uniform(0, 0.4)), where=relief.coverage.copy()
        )
    )
    finishes.finish(work, dice, material)
    work.pliable_px = float(dice.uniform(0, 0.8))
    return work


MAKERS = {
    "brick": brick,
    "beads": beads,
    "sticks": sticks,
    "coin": coin,
    "bracket": bracket,
    "switchgear": switchgear,
    "fins": fins,
    "wheel": wheel,
    "dial": dial,
    "button": button,
}
"""Every maker of this file by the kind it makes."""
