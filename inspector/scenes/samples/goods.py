"""Consumer goods: pills, bottles, caps, zippers, brushes, toys, food, labels; makers for the "goods" samples."""

from __future__ import annotations

import itertools

import numpy as np

from inspector.scenes.lettering import draw_text, text_width
from inspector.scenes.light import F32
from inspector.scenes.relief import Relief
from inspector.scenes.samples import fields, finishes, shapes
from inspector.scenes.samples.board_parts import random_text
from inspector.scenes.samples.materials import Material, contrasting, hsv, metal, natural, plastic
from inspector.scenes.samples.workpiece import Grain, Placement, Stamp, Workpiece, board_of, put, stamp_of


def _start(dice: np.random.Generator, side: int, look: str | None = None) -> tuple[Workpiece, Relief, float]:
    work = Workpiece(board_of(side))
    finishes.lay_ground(work, dice, look)
    return work, work.relief, float(side + 24)


def _sheet(relief: Relief) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    return fields.text_sheet((relief.height.shape[0], relief.height.shape[1]))


def _imprint(
    work: Workpiece, dice: np.random.Generator, x: float, y: float, size: float, room: float, ground: F32
) -> None:
    """Text no wider than `room`, printed or pressed in."""
    sheet = _sheet(work.relief)
    text = random_text(dice, int(dice.integers(1, 6)))
    size = min(size, room / max(1.0, text_width(text, 1.0)))
    draw_text(sheet, text, (x, y), size, max(1.0, size / float(dice.uniform(5, 11))))
    if dice.random() < 0.6:
        work.relief.print_mask(sheet, contrasting(dice, ground), float(dice.uniform(0.6, 0.95)))
    else:
        work.relief.height -= sheet * np.float32(dice.uniform(1.0, 3.0) / 255.0)


def capsule(dice: np.random.Generator, side: int) -> Workpiece:
    """A two-coloured capsule with an imprint."""
    work, relief, whole = _start(dice, side)
    turn = float(dice.choice([0.0, np.pi / 2]) + dice.normal(0, 0.1))
    radius, long = whole * float(dice.uniform(0.12, 0.18)), whole * float(dice.uniform(0.5, 0.7))
    axis = np.array([np.cos(turn), np.sin(turn)])
    centre = np.array([whole / 2, whole / 2])
    ends = centre - axis * (long / 2 - radius), centre + axis * (long / 2 - radius)
    one, two = finishes.smooth_plastic(dice), finishes.smooth_plastic(dice)
    seam = float(dice.uniform(-0.1, 0.15)) * long
    rod = shapes.capsule(relief, tuple(ends[0]), tuple(ends[1]), radius * 0.96)
    put(relief, rod, one, shapes.dome(rod, radius * 0.96))
    cap = shapes.capsule(relief, tuple(centre + axis * seam), tuple(ends[1]), radius)
    along = (
        cap.x * axis[0] + cap.y * axis[1] + float((centre + axis * seam + ends[1]) @ axis) / 2 - float(centre @ axis)
    )
    cut = shapes.with_distance(cap, np.asarray(np.maximum(cap.distance, seam - along), np.float32))
    put(relief, cut, two, shapes.dome(cap, radius))
    size = radius * float(dice.uniform(0.4, 0.7))
    spot = centre - axis * long * 0.2
    _imprint(work, dice, float(spot[0]), float(spot[1]), size, 1.5 * radius, one.albedo)
    finishes.speckle(work, dice, None, 0.3)
    work.pliable_px = float(dice.uniform(0, 0.5))
    return work


def pill_stamp(dice: np.random.Generator, radius: float, material: Material) -> Stamp:
    """A tablet with a score line or a letter."""
    room = radius * 1.5
    relief = Relief((-room, -room, room, room), 1.0)
    work = Workpiece(relief)
    if dice.random() < 0.6:
        tablet = relief.disc(0, 0, radius)
    else:
        tablet = shapes.ellipse(relief, 0, 0, radius * 1.25, radius * float(dice.uniform(0.6, 0.9)), dice.uniform(0, 3))
    edge = radius * float(dice.uniform(0.15, 0.8))
    put(relief, tablet, material, np.asarray(3.0 + radius * 0.35 * tablet.rounded_edge(edge), np.float32))
    if dice.random() < 0.5:
        score = shapes.turned_box(relief, 0, 0, radius * 1.7, max(1.5, radius * 0.1), float(dice.uniform(0, 3)))
        where = np.clip(-tablet.distance, 0, 1).max()
        finishes.groove(relief, score, -1.5 * float(where))
    elif radius > 9:
        _imprint(work, dice, *relief.to_px(0, 0), radius * 0.6, 1.4 * radius, material.albedo)
    return stamp_of(relief)


def pill(dice: np.random.Generator, side: int) -> Workpiece:
    """One tablet close up, speckled, with an imprint."""
    work, relief, whole = _start(dice, side)
    material = finishes.smooth_plastic(dice) if dice.random() < 0.5 else natural(dice)
    long = whole * float(dice.uniform(0.25, 0.4))
    short = long * float(dice.choice([1.0, dice.uniform(0.45, 0.9)]))
    tablet = shapes.ellipse(relief, whole / 2, whole / 2, long, short, float(dice.normal(0, 0.2)))
    edge = short * float(dice.uniform(0.2, 0.95))
    put(relief, tablet, material, np.asarray(4.0 + short * 0.3 * tablet.rounded_edge(edge), np.float32))
    cover = finishes.sheet_of(relief, tablet)
    specks = fields.spots(finishes.roomy(relief), dice, int(dice.integers(0, 400)), float(dice.uniform(0.8, 2.2)))
    work.grains.append(Grain(specks, albedo=-float(dice.uniform(0.1, 0.7)), where=cover))
    _imprint(work, dice, whole / 2, whole / 2, short * float(dice.uniform(0.3, 0.6)), 1.3 * short, material.albedo)
    finishes.speckle(work, dice, cover, 0.5)
    return work


def blister(dice: np.random.Generator, side: int) -> Workpiece:
    """Tablets, candles, sweets or parts in rows on a tray or foil."""
    work, relief, whole = _start(dice, side)
    if dice.random() < 0.5:
        foil = fields.ridges(finishes.roomy(relief), dice, 24.0, 1.0)
        work.grains.append(Grain(foil, height=float(dice.uniform(0.2, 0.8)), ground=True))
    columns, rows = int(dice.integers(2, 7)), int(dice.integers(2, 7))
    pitch_x, pitch_y = whole / (columns + 0.2), whole / (rows + 0.2)
    radius = 0.5 * min(pitch_x, pitch_y) * float(dice.uniform(0.55, 0.9)) / 1.25
    material = finishes.smooth_plastic(dice) if dice.random() < 0.6 else natural(dice)
    stock = [pill_stamp(dice, radius, material) for _ in range(int(dice.choice([1, 3])))]
    for row in range(rows):
        for column in range(columns):
            x, y = (column + 0.6) * pitch_x, (row + 0.6) * pitch_y
            if dice.random() < 0.8:
                well = relief.disc(x, y, radius * 1.3)
                finishes.groove(relief, well, np.asarray(-4.0 * shapes.chamfer(well, 3.0), np.float32))
            stamp = stock[int(dice.integers(0, len(stock)))]
            work.placements.append(Placement(stamp, x, y, float(dice.choice([0, 90])), 0.8, 4.0))
    finishes.speckle(work, dice, None, 0.4)
    return work


def bottle(dice: np.random.Generator, side: int) -> Workpiece:
    """A bottle's mouth or base from above: dark rings of glass that shine."""
    work, relief, whole = _start(dice, side, str(dice.choice(["white", "light", "black"])))
    centre, rim = whole / 2, whole * float(dice.uniform(0.36, 0.47))
    tint = hsv(dice.uniform(0.05, 0.45), dice.uniform(0.1, 0.8), dice.uniform(0.15, 0.8))
    level = 0.0
    while rim > whole * 0.07:
        glass = Material(np.asarray(tint * np.float32(np.exp(dice.normal(-0.3, 0.7))), np.float32), 0.0, 1.0)
        ring = relief.disc(centre, centre, rim)
        level += float(dice.normal(0, 6))
        edge = max(2.0, rim * float(dice.uniform(0.05, 0.3)))
        put(
            relief,
            ring,
            glass,
            np.asarray(level + float(dice.choice([-1, 1])) * edge * ring.rounded_edge(edge), np.float32),
        )
        rim *= float(dice.uniform(0.72, 0.95))
    relief.albedo += np.float32(dice.uniform(0.0, 0.25)) * (relief.coverage * relief.albedo.mean())
    finishes.speckle(work, dice, None, 0.3)
    work.pliable_px = float(dice.uniform(0, 0.8))
    return work


def cap(dice: np.random.Generator, side: int) -> Workpiece:
    """A screw cap or crown cork from above, with knurls, a rim and a print."""
    work, relief, whole = _start(dice, side)
    centre, radius = whole / 2, whole * float(dice.uniform(0.33, 0.46))
    material = finishes.smooth_plastic(dice) if dice.random() < 0.7 else metal(dice)
    teeth = int(dice.integers(21, 100))
    wheel = shapes.gear(relief, centre, centre, radius, teeth, radius * dice.uniform(0.02, 0.06), 0.0, dice.random())
    put(relief, wheel, material, np.asarray(16.0 * wheel.rounded_edge(radius * 0.12), np.float32))
    rim = relief.disc(centre, centre, radius * float(dice.uniform(0.7, 0.88)))
    finishes.groove(relief, rim, -3.0 * shapes.chamfer(rim, 3.0))
    if dice.random() < 0.6:
        print_area = relief.disc(centre, centre, radius * float(dice.uniform(0.3, 0.65)))
        relief.mark(print_area, plastic(dice).albedo, 0.95)
    for _ in range(int(dice.integers(1, 4))):
        y = centre + float(dice.uniform(-0.35, 0.35)) * radius
        _imprint(work, dice, centre, y, radius * float(dice.uniform(0.1, 0.28)), 1.3 * radius, material.albedo)
    finishes.finish(work, dice, material)
    return work


def zipper(dice: np.random.Generator, side: int) -> Workpiece:
    """Two rows of teeth that meet on tape of woven cloth."""
    work, relief, whole = _start(dice, side, str(dice.choice(["black", "colour", "grey", "felt"])))
    shape = finishes.roomy(relief)
    ys, xs = np.mgrid[0 : shape[0], 0 : shape[1]].astype(np.float32)
    pitch = float(dice.uniform(3, 7))
    ribs = np.sin(2 * np.pi * xs / pitch) * np.sin(2 * np.pi * (ys + 0.5 * xs) / pitch)
    work.grains.append(Grain(np.asarray(ribs, np.float32), albedo=0.15, height=0.5, ground=True))
    material = metal(dice) if dice.random() < 0.6 else plastic(dice)
    count, wide = int(dice.integers(9, 24)), whole * float(dice.uniform(0.1, 0.18))
    step = whole / count
    for number in range(-1, 2 * count + 2):
        sign = -1 if number % 2 else 1
        y = number * step / 2
        tooth = relief.box(whole / 2 + sign * wide * 0.3, y, wide, step * 0.46, step * 0.15)
        put(relief, tooth, material, np.asarray(6.0 * tooth.rounded_edge(step * 0.2) + 2, np.float32))
        root = relief.disc(whole / 2 + sign * wide * 0.75, y, step * 0.3)
        put(relief, root, material, np.asarray(6.0 * root.rounded_edge(step * 0.2) + 1, np.float32))
    for sign in (-1, 1):
        seam = relief.box(whole / 2 + sign * wide * 1.25, whole / 2, wide * 0.3, whole * 1.2, 1)
        relief.height[seam.rows, seam.columns] += seam.cover * 3.0 * seam.rounded_edge(wide * 0.15)
    finishes.finish(work, dice, material)
    work.pliable_px = float(dice.uniform(0.2, 1.0))
    return work


def brush_head(dice: np.random.Generator, side: int) -> Workpiece:
    """A toothbrush from above: tufts of bristles in several colours on a handle."""
    work, relief, whole = _start(dice, side, str(dice.choice(["black", "grey", "white", "colour"])))
    handle = finishes.smooth_plastic(dice)
    wide, long = whole * float(dice.uniform(0.3, 0.45)), whole * float(dice.uniform(0.75, 0.92))
    head = relief.box(whole / 2, whole / 2, wide, long, wide * 0.45)
    finishes.body(work, dice, head, handle, 10.0, 8.0)
    columns, rows = int(dice.integers(3, 5)), int(dice.integers(6, 12))
    inks = [plastic(dice).albedo for _ in range(3)] + [hsv(0.1, 0.05, 0.95)]
    radius = min(wide * 0.8 / columns, long * 0.85 / rows) * 0.52
    tufts = []
    for ink in inks:
        tuft = Relief((-1.6 * radius, -1.6 * radius, 1.6 * radius, 1.6 * radius), 1.0)
        for _ in range(int(dice.integers(40, 70))):
            away, angle = radius * np.sqrt(dice.uniform(0, 1)), dice.uniform(0, 2 * np.pi)
            x, y = away * np.cos(angle), away * np.sin(angle)
            tone = Material(np.asarray(ink * np.float32(dice.uniform(0.4, 1.1)), np.float32), 0.0, 0.6)
            tip = tuft.disc(x, y, max(1.0, radius * 0.14))
            put(tuft, tip, tone, np.asarray(24.0 + dice.normal(0, 2) + tip.rounded_edge(1.0), np.float32))
        tufts.append(stamp_of(tuft))
    order = (
        dice.integers(0, len(tufts), (rows, columns))
        if dice.random() < 0.5
        else np.add.outer(np.arange(rows), np.arange(columns)) % 4
    )
    for row in range(rows):
        for column in range(columns):
            x = whole / 2 + (column - (columns - 1) / 2) * wide * 0.8 / columns
            y = whole / 2 + (row - (rows - 1) / 2) * long * 0.85 / rows
            work.placements.append(Placement(tufts[int(order[row, column])], x, y, dice.uniform(0, 360), 0.8, 8.0))
    return work


def toy(dice: np.random.Generator, side: int) -> Workpiece:
    """A moulded figure: limbs that melt into each other, printed eyes and marks, mostly on white."""
    work, relief, whole = _start(dice, side, "white" if dice.random() < 0.65 else None)
    material = finishes.smooth_plastic(dice)
    if dice.random() < 0.6:
        colour = hsv(dice.uniform(0, 1), dice.uniform(0.5, 1.0), dice.uniform(0.5, 1.0))
        material = Material(colour, 0.0, material.gloss)
    zoom = float(dice.choice([1.0, dice.uniform(1.2, 2.0)]))
    shift = dice.normal(0, 0.1, 2) * whole * (zoom - 0.7)
    rows, columns = relief.height.shape
    ys, xs = np.mgrid[0:rows, 0:columns].astype(np.float32)
    melt = float(dice.uniform(3, 10)) * zoom
    gap = np.full(relief.height.shape, 1e3, np.float32)
    joints = [np.array([0.0, 0.0])]
    for _ in range(int(dice.integers(4, 12))):
        start = joints[int(dice.integers(0, len(joints)))]
        end = start + dice.normal(0, 0.17, 2) * whole
        end = np.clip(end, -0.42 * whole, 0.42 * whole)
        joints.append(end)
        first, last = dice.uniform(0.03, 0.1, 2) * whole
        a, b = (whole / 2 + shift + zoom * start), (whole / 2 + shift + zoom * end)
        axis = b - a
        share = np.clip(((xs - a[0]) * axis[0] + (ys - a[1]) * axis[1]) / max(1e-6, float(axis @ axis)), 0, 1)
        away = np.hypot(xs - a[0] - share * axis[0], ys - a[1] - share * axis[1]) - zoom * (
            first + (last - first) * share
        )
        blend = np.clip(0.5 + 0.5 * (gap - away) / melt, 0, 1)
        gap = np.asarray(gap + (away - gap) * blend - melt * blend * (1 - blend), np.float32)
    figure = shapes.with_distance(shapes.whole(relief), gap)
    fat = 0.09 * whole * zoom
    put(relief, figure, material, np.asarray(0.8 * shapes.dome(figure, fat) + 1.0, np.float32))
    for _ in range(int(dice.integers(0, 4))):
        joint = whole / 2 + shift + zoom * joints[int(dice.integers(0, len(joints)))]
        ink = contrasting(dice, material.albedo)
        for sign in (-1, 1):
            eye = shapes.ellipse(
                relief, joint[0] + sign * 0.03 * whole * zoom, joint[1], 0.022 * whole * zoom, 0.014 * whole * zoom, 0.6
            )
            where = np.clip(-gap[eye.rows, eye.columns], 0, 1)
            relief.mark(eye, ink, np.asarray(where, np.float32))
    cover = finishes.sheet_of(relief, figure)
    if dice.random() < 0.6:
        other = plastic(dice).albedo
        share = (
            np.clip(2.0 * fields.octaves((rows, columns), dice, whole * 0.5, 1.0) - dice.uniform(0, 2), 0, 1) * cover
        )
        for plane, colour in zip(relief.albedo, other, strict=True):
            plane += np.asarray(0.9 * share * (colour - plane), np.float32)
    finishes.peel(work, dice, cover)
    if dice.random() < 0.4:
        finishes.wear(work, dice, cover)
    work.pliable_px = float(dice.uniform(0, 1.0))
    return work


def _food(dice: np.random.Generator) -> Material:
    return Material(
        hsv(dice.uniform(0.06, 0.14), dice.uniform(0.3, 0.8), dice.uniform(0.5, 0.98)), 0.0, dice.uniform(0, 0.6)
    )


def macaroni(dice: np.random.Generator, side: int) -> Workpiece:
    """Bent tubes, fries, worms: one or several on a ground."""
    work, relief, whole = _start(dice, side)
    material = _food(dice) if dice.random() < 0.7 else finishes.smooth_plastic(dice)
    count = int(dice.choice([1, 1, 2, 3, 4]))
    for number in range(count):
        radius = whole * float(dice.uniform(0.05, 0.09)) * (1.4 if count == 1 else 0.8)
        angle, bend = dice.uniform(0, 2 * np.pi), dice.normal(0, 0.22)
        place = whole * (0.3 + 0.4 * dice.random(2)) if count > 1 else np.array([whole / 2, whole / 2])
        steps = 9
        long = whole * float(dice.uniform(0.3, 0.55)) / (1 if count == 1 else 1.7)
        turns = angle + bend * (np.arange(steps) - steps / 2)
        path = np.cumsum(np.stack([np.cos(turns), np.sin(turns)], 1) * long / steps, axis=0)
        path += place - path.mean(axis=0)
        ys, xs = np.mgrid[0 : relief.height.shape[0], 0 : relief.height.shape[1]].astype(np.float32)
        gap = np.full(relief.height.shape, 1e3, np.float32)
        for one, two in itertools.pairwise(path):
            axis = two - one
            share = np.clip(((xs - one[0]) * axis[0] + (ys - one[1]) * axis[1]) / float(axis @ axis), 0, 1)
            gap = np.minimum(gap, np.hypot(xs - one[0] - share * axis[0], ys - one[1] - share * axis[1]) - radius)
        tube = shapes.with_distance(shapes.whole(relief), gap)
        put(relief, tube, material, np.asarray(shapes.dome(tube, radius) + number * 2.0, np.float32))
        if dice.random() < 0.7:
            end = shapes.ellipse(relief, *shapes.pair(path[0]), radius * 0.35, radius * 0.7, float(angle))
            dark = Material(np.asarray(material.albedo * np.float32(0.3), np.float32), 0.0, 0.1)
            put(relief, end, dark, 0.0)
    finishes.finish(work, dice, material)
    work.pliable_px = float(dice.uniform(0.3, 2.0))
    return work


def blob(dice: np.random.Generator, side: int) -> Workpiece:
    """Gum, nuts, cookies, cashews, pebbles: rounded lumps with a skin of their own."""
    work, relief, whole = _start(dice, side)
    look = dice.random()
    material = _food(dice) if look < 0.6 else natural(dice) if look < 0.8 else finishes.smooth_plastic(dice)
    count = int(dice.choice([1, 1, 1, 2, 4]))
    for _number in range(count):
        centre = whole * (np.array([0.5, 0.5]) if count == 1 else dice.uniform(0.25, 0.75, 2))
        radius = whole * float(dice.uniform(0.25, 0.38)) / (1.0 if count == 1 else 2.0)
        lump = shapes.lobes(relief, *shapes.pair(centre), radius, dice, float(dice.uniform(0.02, 0.3)))
        height = shapes.dome(lump, radius * float(dice.uniform(0.3, 1.0))) * float(dice.uniform(0.4, 1.0))
        put(relief, lump, material, np.asarray(height + 2.0, np.float32))
        if dice.random() < 0.5:
            dent = shapes.lobes(relief, *shapes.pair(centre + dice.normal(0, 0.1, 2) * radius), radius * 0.4, dice, 0.3)
            finishes.groove(
                relief, dent, np.asarray(float(dice.normal(0, 4)) * dent.rounded_edge(radius * 0.3), np.float32)
            )
    cover = relief.coverage.copy()
    patches = fields.octaves(finishes.roomy(relief), dice, whole * float(dice.uniform(0.05, 0.3)), 1.0)
    bumps = fields.octaves(
        finishes.roomy(relief), dice, whole * float(dice.uniform(0.02, 0.1)), float(dice.uniform(0.5, 1))
    )
    work.grains.append(
        Grain(patches, albedo=float(dice.uniform(0.02, 0.2)), where=cover, fixed=bool(dice.random() < 0.5))
    )
    work.grains.append(Grain(bumps, albedo=0.05, height=float(dice.uniform(0, 1.2)), where=cover))
    if dice.random() < 0.3:
        seeds = fields.spots(finishes.roomy(relief), dice, int(dice.integers(20, 200)), float(dice.uniform(1, 3)))
        work.grains.append(Grain(seeds, albedo=float(dice.uniform(-0.6, 0.4)), height=1.0, where=cover))
    work.pliable_px = float(dice.uniform(0.2, 2.5))
    return work


def candles(dice: np.random.Generator, side: int) -> Workpiece:
    """Tea lights and jars from above: wax in metal cups, a wick in each."""
    work, relief, whole = _start(dice, side)
    count = int(dice.choice([1, 2, 2, 3]))
    pitch = whole / count
    wax = Material(
        hsv(dice.uniform(0, 1), dice.uniform(0, 0.5), dice.uniform(0.6, 1.0)), 0.0, float(dice.uniform(0.2, 0.7))
    )
    cup = metal(dice, "aluminium") if dice.random() < 0.7 else finishes.smooth_plastic(dice)
    wick_relief = Relief((-pitch * 0.14, -pitch * 0.14, pitch * 0.14, pitch * 0.14), 1.0)
    wick = shapes.capsule(wick_relief, (0, 0), (pitch * 0.07, pitch * 0.03), pitch * 0.02)
    put(
        wick_relief,
        wick,
        Material(hsv(0.1, 0.1, dice.uniform(0.2, 0.95)), 0.0, 0.1),
        14.0 + shapes.dome(wick, pitch * 0.02),
    )
    stamp = stamp_of(wick_relief)
    for row in range(count):
        for column in range(count):
            x, y = (column + 0.5) * pitch, (row + 0.5) * pitch
            body = relief.disc(x, y, pitch * 0.43)
            put(relief, body, cup, np.asarray(14.0 * body.rounded_edge(4.0), np.float32))
            pool = relief.disc(x, y, pitch * 0.39)
            put(relief, pool, wax, np.asarray(10.0 - 3 * pool.rounded_edge(pitch * 0.05), np.float32))
            work.placements.append(Placement(stamp, x, y, float(dice.uniform(0, 360)), 1.5, 25.0))
    finishes.peel(work, dice, None)
    finishes.speckle(work, dice, None, 0.3)
    return work


def label(dice: np.random.Generator, side: int) -> Workpiece:
    """A printed label, carton or front plate: text, bars, boxes, logos, on paper or plastic."""
    work, relief, whole = _start(dice, side)
    paper = plastic(dice) if dice.random() < 0.5 else Material(hsv(0.1, 0.04, dice.uniform(0.8, 1.0)), 0.0, 0.2)
    if dice.random() < 0.6:
        patch = relief.box(
            whole / 2, whole / 2, *shapes.pair(whole * dice.uniform(0.7, 0.95, 2)), float(dice.uniform(0, 14))
        )
    else:
        patch = shapes.whole(relief)
    cover = finishes.body(work, dice, patch, paper, 1.2, 1.0)
    y = whole * 0.12
    while y < whole * 0.88:
        ink = contrasting(dice, paper.albedo)
        size = whole * float(np.exp(dice.uniform(np.log(0.022), np.log(0.12))))
        look, sheet = dice.random(), _sheet(relief)
        if look < 0.5:
            count = int(np.clip(whole * dice.uniform(0.2, 0.8) / size, 2, 30))
            draw_text(sheet, random_text(dice, count), (whole * dice.uniform(0.4, 0.6), y), size, max(1, size / 7))
        elif look < 0.65:
            size = max(size, 0.1 * whole)
            edges = np.cumsum(dice.integers(1, 4, 60)) * max(1.0, whole * 0.004) + whole * 0.15
            for left, right in zip(edges[::2], edges[1::2], strict=True):
                if right < whole * 0.85:
                    sheet[int(y - size / 2) : int(y + size / 2), int(left) : int(right)] = 255
        elif look < 0.8:
            relief.mark(relief.box(whole / 2, y, whole * dice.uniform(0.3, 0.9), size, 2.0), ink, 0.95)
        elif look < 0.9:
            size = max(size, 0.12 * whole)
            cells = dice.integers(0, 2, (14, 14)).astype(np.uint8) * 255
            grown = np.kron(cells, np.ones((max(1, int(size / 14)),) * 2, np.uint8))
            left, top = int(whole * dice.uniform(0.1, 0.6)), int(max(0, y - size / 2))
            window = sheet[top : top + grown.shape[0], left : left + grown.shape[1]]
            window[:] = grown[: window.shape[0], : window.shape[1]]
        else:
            size = max(size, 0.1 * whole)
            logo = shapes.lobes(relief, whole * dice.uniform(0.2, 0.8), y, size, dice, 0.4)
            relief.mark(logo, ink, 0.95)
        relief.print_mask(np.asarray(sheet * (cover > 0.5), np.uint8), ink, float(dice.uniform(0.75, 1.0)))
        y += size * float(dice.uniform(1.2, 2.2))
    finishes.finish(work, dice, paper, cover)
    work.pliable_px = float(dice.uniform(0, 0.8))
    return work


def keypad(dice: np.random.Generator, side: int) -> Workpiece:
    """Buttons, tiles or lamps in a grid, with letters."""
    work, relief, whole = _start(dice, side)
    case = plastic(dice)
    finishes.body(work, dice, shapes.whole(relief), case, 4.0, 2.0)
    columns, rows = int(dice.integers(2, 7)), int(dice.integers(2, 7))
    pitch_x, pitch_y = whole / columns, whole / rows
    keys = [finishes.smooth_plastic(dice) for _ in range(2)]
    fill, radius = float(dice.uniform(0.6, 0.9)), float(dice.uniform(0.05, 0.5))
    for row in range(rows):
        for column in range(columns):
            x, y = (column + 0.5) * pitch_x, (row + 0.5) * pitch_y
            wide, high = pitch_x * fill, pitch_y * fill
            key = keys[int(dice.random() < 0.2)]
            rest = relief.box(x, y, wide + 5, high + 5, radius * min(wide, high))
            put(relief, rest, Material(np.asarray(case.albedo * np.float32(0.4), np.float32), 0.0, 0.1), 1.0)
            top = relief.box(x, y, wide, high, radius * min(wide, high))
            edge = min(wide, high) * 0.15
            put(relief, top, key, np.asarray(4.0 + 7.0 * top.rounded_edge(edge), np.float32))
            sheet = _sheet(relief)
            size = min(wide, high) * 0.35
            draw_text(sheet, random_text(dice, int(dice.integers(1, 3))), (x, y), size, max(1, size / 7))
            relief.print_mask(sheet, contrasting(dice, key.albedo), 0.9)
    finishes.finish(work, dice, case, None)
    return work


MAKERS = {
    "capsule": capsule,
    "pill": pill,
    "blister": blister,
    "bottle": bottle,
    "cap": cap,
    "zipper": zipper,
    "brush_head": brush_head,
    "toy": toy,
    "macaroni": macaroni,
    "blob": blob,
    "candles": candles,
    "label": label,
    "keypad": keypad,
}
"""Every maker of this file by the kind it makes."""
