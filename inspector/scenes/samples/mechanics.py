"""Machined, turned, cast and stamped parts: makers of workpieces for the "mechanics" samples."""

from __future__ import annotations

import numpy as np

from inspector.scenes.lettering import draw_text
from inspector.scenes.relief import Patch, Relief
from inspector.scenes.samples import fields, finishes, shapes
from inspector.scenes.samples.board_parts import random_text
from inspector.scenes.samples.materials import Material, contrasting, hsv, metal, natural, plastic
from inspector.scenes.samples.workpiece import Grain, Placement, Workpiece, board_of, cover_with, put, stamp_of

_HOLE = Material(hsv(0, 0, 0.07), 0.0, 0.1)


def _start(dice: np.random.Generator, side: int, look: str | None = None) -> tuple[Workpiece, Relief, float]:
    work = Workpiece(board_of(side))
    finishes.lay_ground(work, dice, look)
    return work, work.relief, float(side + 24)


def _rings(work: Workpiece, dice: np.random.Generator, patch: Patch, amount: float = 1.0) -> None:
    """Feed marks of turning inside a round patch, around its middle; their phase belongs to the part."""
    radius = np.hypot(patch.x, patch.y)
    pitch = float(np.exp(dice.uniform(np.log(2.0), np.log(7))))
    lines = dice.standard_normal(int(radius.max() * 2) + 3).astype(np.float32)
    rough = np.interp(radius.ravel() * 2, np.arange(lines.size), lines).reshape(radius.shape)
    wave = 0.3 * np.sin(2 * np.pi * radius / pitch) + 0.3 * rough
    height = np.asarray(amount * dice.uniform(0.15, 0.7) * wave, np.float32)
    finishes.groove(work.relief, patch, height)


def _countersunk(work: Workpiece, dice: np.random.Generator, x: float, y: float, radius: float) -> None:
    """A hole, plain, chamfered, countersunk or threaded."""
    relief = work.relief
    look = dice.random()
    base = float(
        relief.height[int(np.clip(y, 0, relief.height.shape[0] - 1)), int(np.clip(x, 0, relief.height.shape[1] - 1))]
    )
    if look < 0.5:
        sink = relief.disc(x, y, radius * float(dice.uniform(1.15, 1.7)))
        finishes.groove(relief, sink, np.asarray(-np.clip(-sink.distance, 0, radius * 0.5), np.float32))
    hole = relief.disc(x, y, radius)
    deep = base - float(dice.uniform(0.5, 2.0)) * radius
    if look > 0.75:
        turns = np.sin(2 * np.pi * np.hypot(hole.x, hole.y) / max(2.5, radius * 0.2))
        put(relief, hole, metal(dice, "dark steel"), np.asarray(deep * 0.5 + turns, np.float32))
        hole = relief.disc(x, y, radius * 0.72)
    put(relief, hole, _HOLE, deep)


def _outline(dice: np.random.Generator, relief: Relief, x: float, y: float, radius: float) -> Patch:
    """A random outline of a flat part."""
    look = int(dice.integers(0, 6))
    turn = float(dice.uniform(0, 2 * np.pi))
    if look == 0:
        return relief.disc(x, y, radius)
    if look == 1:
        wide, high = radius * dice.uniform(1.2, 1.9), radius * dice.uniform(0.7, 1.6)
        return shapes.turned_box(relief, x, y, wide, high, float(dice.choice([0, turn])), radius * dice.uniform(0, 0.3))
    if look == 2:
        return shapes.regular(relief, x, y, radius * 0.85, int(dice.choice([3, 4, 5, 6, 6, 8])), turn)
    if look == 3:
        return shapes.lobes(relief, x, y, radius * 0.8, dice, float(dice.uniform(0.1, 0.5)), 5)
    if look == 4:
        return shapes.gear(
            relief, x, y, radius, int(dice.integers(6, 40)), radius * dice.uniform(0.08, 0.3), turn, dice.random()
        )
    count = int(dice.integers(3, 9))
    angles = np.sort(dice.uniform(0, 2 * np.pi, count))
    reach = radius * dice.uniform(0.5, 1.0, count)
    points = [(float(x + r * np.cos(a)), float(y + r * np.sin(a))) for a, r in zip(angles, reach, strict=True)]
    return shapes.polygon(relief, points, radius * float(dice.uniform(0.02, 0.2)))


def casting(dice: np.random.Generator, side: int) -> Workpiece:
    """A cast housing: skin, machined faces, bosses with holes, ribs, lettering."""
    work, relief, whole = _start(dice, side)
    raw = metal(dice, str(dice.choice(["aluminium", "zinc", "dark steel", "bronze"])))
    raw = Material(raw.albedo, float(dice.uniform(0.5, 1.0)), float(dice.uniform(0.0, 0.35)))
    centre = whole / 2
    radius = whole * float(dice.choice([dice.uniform(0.3, 0.48), dice.uniform(0.6, 0.9)]))
    plate = _outline(dice, relief, centre, centre, radius)
    cover = finishes.body(work, dice, plate, raw, float(dice.uniform(6, 16)), float(dice.uniform(2, 8)))
    for _ in range(int(dice.integers(0, 5))):
        angle = dice.uniform(0, np.pi)
        reach = np.array([np.cos(angle), np.sin(angle)]) * radius * 0.6
        spot = centre + dice.normal(0, 0.15, 2) * radius
        rib = shapes.capsule(relief, tuple(spot - reach), tuple(spot + reach), float(dice.uniform(3, 8)))
        relief.height += finishes.sheet_of(relief, rib) * cover * np.float32(dice.uniform(2, 8))
    machined = metal(dice, str(dice.choice(["aluminium", "steel", "dark steel"])))
    for _ in range(int(dice.integers(1, 7))):
        angle, away = dice.uniform(0, 2 * np.pi), radius * dice.uniform(0, 0.75)
        x, y = centre + away * np.cos(angle), centre + away * np.sin(angle)
        size = radius * float(dice.uniform(0.08, 0.32))
        boss = relief.disc(x, y, size)
        level = float(relief.height.max()) * float(dice.uniform(0.7, 1.05))
        put(relief, boss, machined, np.asarray(level + 2.0 * boss.rounded_edge(2.0), np.float32))
        _rings(work, dice, shapes.grown(boss, -1.0))
        if dice.random() < 0.8:
            _countersunk(work, dice, x, y, size * float(dice.uniform(0.3, 0.7)))
    if dice.random() < 0.5:
        sheet = fields.text_sheet((relief.height.shape[0], relief.height.shape[1]))
        draw_text(sheet, random_text(dice, 5), tuple(dice.uniform(0.3, 0.7, 2) * whole), whole * 0.06, 3)
        relief.height += (2.0 if dice.random() < 0.6 else -2.0) * (sheet / np.float32(255.0)) * cover
    finishes.cast_skin(work, dice, cover * (relief.gloss < 0.4), float(dice.uniform(0.5, 1.5)))
    finishes.wear(work, dice, cover)
    return work


def machined(dice: np.random.Generator, side: int) -> Workpiece:
    """A machined plate that fills the picture or not: pockets, slots, holes on a brushed or milled face."""
    work, relief, whole = _start(dice, side)
    material = metal(dice)
    filling = dice.random() < 0.5
    centre = whole / 2
    plate = shapes.whole(relief) if filling else _outline(dice, relief, centre, centre, whole * dice.uniform(0.35, 0.5))
    cover = finishes.body(work, dice, plate, material, 10.0, 2.5)
    base = 10.0
    for _ in range(int(dice.integers(0, 5))):
        x, y = dice.uniform(0.1, 0.9, 2) * whole
        pocket = _outline(dice, relief, x, y, whole * float(dice.uniform(0.06, 0.22)))
        level = np.asarray(base - float(dice.uniform(2, 9)) * shapes.chamfer(pocket, 2.0), np.float32)
        put(relief, pocket, Material(material.albedo, 1.0, float(dice.uniform(0.1, 0.8))), level)
    for _ in range(int(dice.integers(0, 7))):
        x, y = dice.uniform(0.1, 0.9, 2) * whole
        _countersunk(work, dice, x, y, whole * float(np.exp(dice.uniform(np.log(0.012), np.log(0.07)))))
    if dice.random() < 0.35:
        sheet = fields.text_sheet((relief.height.shape[0], relief.height.shape[1]))
        size = whole * float(dice.uniform(0.03, 0.09))
        draw_text(sheet, random_text(dice, 7), (centre, whole * dice.uniform(0.2, 0.8)), size, max(1, size / 9))
        if dice.random() < 0.5:
            relief.print_mask(sheet, contrasting(dice, material.albedo), 0.8)
        else:
            relief.height -= sheet * np.float32(1.5 / 255.0)
    if dice.random() < 0.6:
        finishes.brush(work, dice, cover)
    else:
        _rings(work, dice, relief.disc(*shapes.pair(dice.uniform(-0.5, 1.5, 2) * whole), 2.5 * whole), 0.6)
    finishes.wear(work, dice, cover)
    return work


def turned(dice: np.random.Generator, side: int) -> Workpiece:
    """A turned part from its end: steps, grooves, a bore; bearings with balls among them; caps and bottle bases."""
    work, relief, whole = _start(dice, side)
    centre = whole / 2 + dice.normal(0, 0.01) * whole
    radius = whole * float(dice.uniform(0.33, 0.47))
    material = metal(dice) if dice.random() < 0.7 else plastic(dice)
    level, rim = 0.0, radius
    for _ in range(int(dice.integers(3, 9))):
        level += float(dice.normal(2.0, 7.0))
        ring = relief.disc(centre, centre, rim)
        if dice.random() < 0.3:
            material = metal(dice) if dice.random() < 0.6 else plastic(dice)
        edge = float(dice.uniform(1.5, 8))
        put(relief, ring, material, np.asarray(level + edge * ring.rounded_edge(edge), np.float32))
        if material.metal > 0.5 and dice.random() < 0.7:
            _rings(work, dice, ring, 0.6)
        rim *= float(dice.uniform(0.6, 0.95))
    if dice.random() < 0.5:
        count, track = int(dice.integers(5, 16)), radius * float(dice.uniform(0.5, 0.85))
        size = min(0.42 * track * 2 * np.pi / count, radius * 0.14)
        ball_relief = Relief((-size - 2, -size - 2, size + 2, size + 2), 1.0)
        ball = ball_relief.disc(0, 0, size)
        hollow = dice.random() < 0.5
        if hollow:
            put(ball_relief, ball, _HOLE, level - 6.0)
        else:
            put(ball_relief, ball, metal(dice, "steel"), np.asarray(level + shapes.dome(ball, size), np.float32))
        stamp, start = stamp_of(ball_relief), dice.uniform(0, 2 * np.pi)
        for number in range(count):
            angle = start + 2 * np.pi * number / count
            x, y = centre + track * np.cos(angle), centre + track * np.sin(angle)
            work.placements.append(Placement(stamp, float(x), float(y), 0.0, 0.2 if hollow else 1.0))
    if dice.random() < 0.6:
        put(relief, relief.disc(centre, centre, rim), _HOLE, level - 15.0)
    finishes.wear(work, dice, None)
    return work


def nut(dice: np.random.Generator, side: int) -> Workpiece:
    """Hexagon and square nuts, flange nuts and washers with their thread."""
    work, relief, whole = _start(dice, side)
    centre = whole / 2
    size = whole * float(dice.uniform(0.26, 0.4))
    material = metal(dice)
    turn = float(dice.uniform(0, np.pi))
    if dice.random() < 0.35:
        finishes.body(work, dice, relief.disc(centre, centre, size * 1.22), metal(dice), 5.0, 2.0)
    block = shapes.regular(relief, centre, centre, size, int(dice.choice([6, 6, 6, 4, 8])), turn)
    height = float(dice.uniform(10, 24))
    corner = np.clip((np.hypot(block.x, block.y) - size) / (size * 0.16), 0, 1)
    top = height * (1 - 0.35 * corner**2) * (0.5 + 0.5 * shapes.chamfer(block, 3.0))
    put(relief, block, material, np.asarray(top, np.float32))
    _rings(work, dice, shapes.grown(block, -2.0), 0.7)
    bore = size * float(dice.uniform(0.45, 0.65))
    sink = relief.disc(centre, centre, bore * 1.12)
    finishes.groove(relief, sink, np.asarray(-np.clip(-sink.distance, 0, bore * 0.14), np.float32))
    for turns in range(int(dice.integers(2, 5))):
        ring = relief.disc(centre + dice.normal(0, 0.4), centre + dice.normal(0, 0.4), bore * (1 - 0.05 * turns))
        put(
            relief,
            ring,
            Material(material.albedo * np.float32(0.5), 1.0, 0.4),
            height - 3.0 * turns - 3.0 + 1.5 * (turns % 2),
        )
    put(relief, relief.disc(centre, centre, bore * 0.8), _HOLE if dice.random() < 0.7 else natural(dice), -8.0)
    finishes.finish(work, dice, material)
    return work


def gear(dice: np.random.Generator, side: int) -> Workpiece:
    """Gears, sprockets, ratchet wheels and saw blades."""
    work, relief, whole = _start(dice, side)
    material = metal(dice) if dice.random() < 0.7 else plastic(dice)
    radius = whole * float(dice.choice([dice.uniform(0.35, 0.47), dice.uniform(0.6, 0.9)]))
    centre = (
        (whole / 2, whole / 2)
        if radius < whole / 2
        else (whole * dice.uniform(-0.1, 0.2), whole * dice.uniform(0.3, 0.7))
    )
    teeth = int(dice.integers(12, 60))
    depth = radius * min(0.25, 2.2 / teeth) * float(dice.uniform(0.8, 1.4))
    wheel = shapes.gear(relief, *centre, radius, teeth, depth, dice.uniform(0, 1), dice.random())
    cover = finishes.body(work, dice, wheel, material, float(dice.uniform(8, 18)), float(dice.uniform(1.5, 4)))
    level = float(relief.height.max())
    web = relief.disc(*centre, radius * float(dice.uniform(0.6, 0.8)))
    if dice.random() < 0.7:
        finishes.groove(relief, web, -4.0 * shapes.chamfer(web, 3.0))
    hub = relief.disc(*centre, radius * float(dice.uniform(0.22, 0.35)))
    put(relief, hub, material, np.asarray(level + 3.0 * hub.rounded_edge(3.0), np.float32))
    count = int(dice.choice([0, 3, 4, 5, 6, 8]))
    for number in range(count):
        angle = 2 * np.pi * number / count
        away = radius * 0.48
        hole = relief.disc(centre[0] + away * np.cos(angle), centre[1] + away * np.sin(angle), radius * 0.09)
        put(relief, hole, _HOLE, -2.0)
    bore = relief.disc(*centre, radius * 0.13)
    put(relief, bore, _HOLE, -2.0)
    key = relief.box(centre[0], centre[1] - radius * 0.13, radius * 0.07, radius * 0.09)
    put(relief, key, _HOLE, -2.0)
    if material.metal > 0.5:
        _rings(work, dice, relief.disc(*centre, radius * 0.9), 0.5)
    finishes.finish(work, dice, material, cover)
    return work


def _threaded(
    relief: Relief,
    material: Material,
    start: shapes.Point,
    end: shapes.Point,
    radius: float,
    pitch: float,
    depth: float,
) -> Patch:
    """A rod with a thread between two points."""
    rod = shapes.turned_box(
        relief,
        (start[0] + end[0]) / 2,
        (start[1] + end[1]) / 2,
        float(np.hypot(end[0] - start[0], end[1] - start[1])),
        2 * radius,
        float(np.arctan2(end[1] - start[1], end[0] - start[0])),
    )
    across = np.clip(rod.y / radius, -1, 1)
    lean = 0.25 * pitch * across
    tooth = np.abs(np.mod((rod.x + lean) / pitch, 1.0) - 0.5) * 2.0
    distance = np.maximum(np.abs(rod.y) - (radius - depth * tooth), rod.distance)
    body = shapes.with_distance(rod, np.asarray(distance, np.float32))
    height = np.sqrt(np.clip(1 - across**2, 0, 1)) * radius - depth * tooth
    put(relief, body, material, np.asarray(np.maximum(height, 0.5), np.float32))
    return body


def screw(dice: np.random.Generator, side: int) -> Workpiece:
    """A screw, bolt or threaded pin lying on the ground."""
    work, relief, whole = _start(dice, side)
    material = metal(dice)
    turn = float(dice.uniform(0, 2 * np.pi))
    axis = np.array([np.cos(turn), np.sin(turn)])
    long, radius = whole * float(dice.uniform(0.55, 0.85)), whole * float(dice.uniform(0.03, 0.09))
    first, last = whole / 2 - axis * long / 2, whole / 2 + axis * long / 2
    neck = float(dice.uniform(0.12, 0.5))
    shank = shapes.capsule(relief, tuple(first), tuple(first + axis * long * neck), radius * 0.92)
    put(relief, shank, material, shapes.dome(shank, radius * 0.92))
    pitch = radius * float(dice.uniform(0.3, 0.8))
    end = last if dice.random() < 0.5 else last - axis * 2 * radius
    _threaded(
        relief, material, tuple(first + axis * long * neck), tuple(end), radius, pitch, pitch * dice.uniform(0.25, 0.6)
    )
    if end is not last:
        tip = shapes.capsule(relief, tuple(end), tuple(last), radius * 0.8, radius * 0.1)
        put(relief, tip, material, shapes.dome(tip, radius * 0.5))
    look = dice.random()
    if look < 0.5:
        head = shapes.turned_box(relief, *shapes.pair(first), radius * 1.3, radius * 3.6, turn, radius * 0.3)
        put(
            relief,
            head,
            material,
            np.asarray(radius * np.sqrt(np.clip(1.2 - (head.y / (radius * 2)) ** 2, 0.05, 2)), np.float32),
        )
    elif look < 0.85:
        head = shapes.capsule(
            relief, tuple(first - axis * radius), tuple(first + axis * radius * 1.4), radius * 2, radius * 0.9
        )
        put(relief, head, material, shapes.dome(head, radius * 1.6))
    finishes.finish(work, dice, material)
    work.pliable_px = float(dice.uniform(0, 0.3))
    return work


def thread(dice: np.random.Generator, side: int) -> Workpiece:
    """A thread, worm or ball screw close up: grooves across a round shaft, oiled and worn."""
    work = Workpiece(board_of(side))
    relief, whole = work.relief, float(side + 24)
    material = metal(dice, str(dice.choice(["steel", "dark steel", "brass", "bronze", "black oxide"])))
    cover_with(relief, material)
    turn = float(dice.choice([0.0, np.pi / 2]) + dice.normal(0, 0.12))
    ys, xs = np.mgrid[0 : relief.height.shape[0], 0 : relief.height.shape[1]].astype(np.float32)
    along = (xs - whole / 2) * np.cos(turn) + (ys - whole / 2) * np.sin(turn)
    across = -(xs - whole / 2) * np.sin(turn) + (ys - whole / 2) * np.cos(turn)
    radius = whole * float(dice.uniform(0.55, 1.6))
    pitch = whole * float(np.exp(dice.uniform(np.log(0.06), np.log(0.45))))
    bow = np.clip(across / radius, -0.95, 0.95)
    phase = np.mod((along + float(dice.uniform(0.05, 0.35)) * pitch * np.arcsin(bow) * 2) / pitch + dice.random(), 1.0)
    look = int(dice.integers(0, 3))
    if look == 0:
        tooth = np.abs(phase - 0.5) * 2
    elif look == 1:
        wide = float(dice.uniform(0.3, 0.7))
        tooth = 1.0 - np.sqrt(np.clip(1 - ((phase - 0.5) / (wide / 2)) ** 2, 0, 1))
    else:
        tooth = np.clip((np.abs(phase - 0.5) - 0.15) * 8, 0, 1)
    depth = pitch * float(dice.uniform(0.12, 0.4))
    relief.height[:] = radius * np.sqrt(1 - bow**2) - radius + depth * tooth
    low = np.asarray(1.0 - tooth, np.float32)
    relief.albedo *= 1.0 - np.float32(dice.uniform(0, 0.5)) * low
    angle = -float(np.rad2deg(turn)) + 90.0
    finishes.brush(work, dice, None, angle + float(dice.choice([0.0, 90.0])), float(dice.uniform(0.5, 1.5)))
    stains = fields.spectrum(finishes.roomy(relief), dice, 1.5, float(dice.uniform(1, 4)), angle)
    work.grains.append(Grain(stains, albedo=float(dice.uniform(0, 0.25)), gloss=0.05))
    finishes.wear(work, dice, None)
    return work


def spring(dice: np.random.Generator, side: int) -> Workpiece:
    """Coil springs, chains of rings, wire forms on a ground."""
    work, relief, whole = _start(dice, side)
    material = metal(dice)
    turn = float(dice.uniform(0, np.pi))
    coils, wire = int(dice.integers(6, 18)), whole * float(dice.uniform(0.012, 0.03))
    long, radius = whole * float(dice.uniform(0.55, 0.8)), whole * float(dice.uniform(0.08, 0.16))
    axis = np.array([np.cos(turn), np.sin(turn)])
    side_axis = np.array([-axis[1], axis[0]])
    ends = []
    for number in range(coils):
        middle = whole / 2 + axis * long * (number / (coils - 1) - 0.5)
        lean = axis * long / coils * 0.25
        ends.append((middle - side_axis * radius - lean, middle + side_axis * radius + lean))
    for below, above in zip([e[1] for e in ends[:-1]], [e[0] for e in ends[1:]], strict=True):
        back = shapes.capsule(relief, tuple(below), tuple(above), wire)
        put(relief, back, material, shapes.dome(back, wire))
    for below, above in ends:
        front = shapes.capsule(relief, tuple(below), tuple(above), wire)
        put(relief, front, material, shapes.dome(front, wire) + radius)
    work.pliable_px = float(dice.uniform(0, 0.8))
    finishes.speckle(work, dice, None, 0.5)
    return work


def stamped(dice: np.random.Generator, side: int) -> Workpiece:
    """Stamped sheet and gaskets: thin, with slots, rows of holes, beads and bent tabs."""
    work, relief, whole = _start(dice, side)
    material = metal(dice) if dice.random() < 0.75 else plastic(dice)
    under = relief.albedo.copy(), relief.height.copy(), relief.metal.copy(), relief.gloss.copy()
    sheet = _outline(dice, relief, whole / 2, whole / 2, whole * float(dice.uniform(0.4, 0.6)))
    cover = finishes.body(work, dice, sheet, material, 4.0, 1.2)
    cut = np.zeros(relief.height.shape, np.float32)
    for _ in range(int(dice.integers(1, 5))):
        count, start = int(dice.integers(1, 8)), dice.uniform(0.2, 0.8, 2) * whole
        step = np.array([np.cos(a := dice.choice([0, np.pi / 2, dice.uniform(0, 6)])), np.sin(a)]) * whole * 0.1
        radius, long = whole * dice.uniform(0.01, 0.04), dice.choice([0.0, dice.uniform(0.02, 0.12)]) * whole
        for number in range(count):
            spot = start + step * (number - count / 2)
            slot = shapes.capsule(
                relief, tuple(spot), tuple(spot + np.array([-step[1], step[0]]) / 0.1 / whole * long), radius
            )
            cut = np.maximum(cut, finishes.sheet_of(relief, slot))
    for mine, old in zip((relief.albedo, relief.height, relief.metal, relief.gloss), under, strict=True):
        mine += cut * (old - mine)
    for _ in range(int(dice.integers(0, 4))):
        spot, far = dice.uniform(0.25, 0.75, 2) * whole, dice.uniform(0.25, 0.75, 2) * whole
        bead = shapes.capsule(relief, tuple(spot), tuple(far), whole * 0.02)
        rise = float(dice.choice([-2.5, 2.5])) * np.clip(-bead.distance / 3.0, 0, 1)
        where = cover[bead.rows, bead.columns] * (1 - cut[bead.rows, bead.columns])
        relief.height[bead.rows, bead.columns] += np.asarray(rise * where, np.float32)
    finishes.finish(work, dice, material, cover * (1 - cut))
    return work


def composed(dice: np.random.Generator, side: int) -> Workpiece:
    """Anything: bodies of random outlines, heights and materials on and in each other, in rows and circles."""
    work, relief, whole = _start(dice, side)
    spread = float(dice.uniform(0.15, 0.45)) * whole
    for _ in range(int(dice.integers(2, 8))):
        material = metal(dice) if dice.random() < 0.45 else plastic(dice) if dice.random() < 0.7 else natural(dice)
        size = spread * float(np.exp(dice.uniform(np.log(0.15), np.log(1.1))))
        x, y = whole / 2 + dice.normal(0, 0.5, 2) * spread
        copies, ring = int(dice.choice([1, 1, 1, 2, 3, 4, 6, 8])), bool(dice.random() < 0.5)
        if copies > 1:
            size *= 0.4
        twin = np.random.default_rng(dice.integers(0, 2**32))
        state = twin.bit_generator.state
        height, edge = float(dice.uniform(2, 0.25 * size + 4)), float(dice.uniform(1.5, max(2.0, 0.5 * size)))
        for number in range(copies):
            twin.bit_generator.state = state
            angle = 2 * np.pi * number / copies
            at = (
                (whole / 2 + spread * np.cos(angle), whole / 2 + spread * np.sin(angle))
                if ring and copies > 1
                else (x + (number - copies / 2) * size * 2.3, y)
            )
            patch = _outline(twin, relief, float(at[0]), float(at[1]), size)
            if patch.distance.size == 0:
                continue
            finishes.body(work, twin, patch, material, height, edge)
            if twin.random() < 0.4:
                _countersunk(work, twin, float(at[0]), float(at[1]), size * 0.3)
        if dice.random() < 0.2:
            finishes.finish(work, dice, material)
    if dice.random() < 0.3:
        sheet = fields.text_sheet((relief.height.shape[0], relief.height.shape[1]))
        draw_text(sheet, random_text(dice, 6), tuple(dice.uniform(0.3, 0.7, 2) * whole), whole * 0.06, 2)
        relief.print_mask(sheet, plastic(dice).albedo, 0.9)
    finishes.speckle(work, dice, None, 0.5)
    work.pliable_px = float(dice.choice([0.0, dice.uniform(0, 0.7)]))
    return work


def assembly(dice: np.random.Generator, side: int) -> Workpiece:
    """Loose parts in their seats on a fixture: each sits a little elsewhere on every piece."""
    work, _relief, whole = _start(dice, side)
    finishes.speckle(work, dice, None)
    columns, rows = int(dice.integers(1, 5)), int(dice.integers(1, 5))
    pitch_x, pitch_y = whole / (columns + 0.3), whole / (rows + 0.3)
    kinds = []
    for _ in range(int(dice.integers(1, 4))):
        size = 0.42 * min(pitch_x, pitch_y)
        part = Relief((-1.3 * size, -1.3 * size, 1.3 * size, 1.3 * size), 1.0)
        small = Workpiece(part)
        for _ in range(int(dice.integers(1, 4))):
            patch = _outline(
                dice, part, *shapes.pair(dice.normal(0, 0.12, 2) * size), size * float(dice.uniform(0.4, 0.95))
            )
            material = metal(dice) if dice.random() < 0.5 else plastic(dice)
            finishes.body(small, dice, patch, material, float(dice.uniform(2, 12)), float(dice.uniform(1.5, 8)))
        kinds.append(stamp_of(part))
    for row in range(rows):
        for column in range(columns):
            x, y = (column + 0.65) * pitch_x, (row + 0.65) * pitch_y
            stamp = kinds[int(dice.integers(0, len(kinds)))]
            work.placements.append(Placement(stamp, x, y, float(dice.choice([0, 90, 180])), 1.0, 1.5))
    return work


MAKERS = {
    "casting": casting,
    "machined": machined,
    "turned": turned,
    "nut": nut,
    "gear": gear,
    "screw": screw,
    "thread": thread,
    "spring": spring,
    "stamped": stamped,
    "composed": composed,
    "assembly": assembly,
}
"""Every maker of this file by the kind it makes."""
