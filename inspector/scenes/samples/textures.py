"""Surfaces without a pose: weaves, leather, wood, stone, ground metal, noise of any kind; makers for "textures"."""

from __future__ import annotations

import cv2
import numpy as np

from inspector.scenes.light import F32
from inspector.scenes.samples import fields, finishes
from inspector.scenes.samples.materials import Material, any_material, hsv, metal, natural, plastic
from inspector.scenes.samples.workpiece import Grain, Workpiece, cloth_of, cover_with


def _cloth(side: int) -> tuple[Workpiece, tuple[int, int]]:
    work = Workpiece(cloth_of(side), registered=False)
    rows, columns = work.relief.height.shape
    return work, (rows, columns)


def _grid(shape: tuple[int, int], turn: float) -> tuple[F32, F32]:
    ys, xs = np.mgrid[0 : shape[0], 0 : shape[1]].astype(np.float32)
    return (
        np.asarray(xs * np.cos(turn) + ys * np.sin(turn), np.float32),
        np.asarray(-xs * np.sin(turn) + ys * np.cos(turn), np.float32),
    )


def _paint(work: Workpiece, share: F32, one: F32, other: F32) -> None:
    """Mix two colours by (H, W) 0..1."""
    for plane, first, second in zip(work.relief.albedo, one, other, strict=True):
        plane[:] = first + share * (second - first)


def _finely(work: Workpiece, dice: np.random.Generator, share: float = 0.5) -> None:
    """Fine unevenness over everything, more often than not."""
    if dice.random() < share:
        finishes.speckle(work, dice, None, 0.7)


def weave(dice: np.random.Generator, side: int) -> Workpiece:
    """Plain, twill, satin and basket weaves of two threads."""
    work, shape = _cloth(side)
    pitch = float(np.exp(dice.uniform(np.log(4), np.log(22))))
    x, y = _grid(shape, float(dice.uniform(0, np.pi) if dice.random() < 0.4 else dice.normal(0, 0.03)))
    x = x + np.float32(0.12 * pitch) * fields.octaves(shape, dice, side / 3, 1.0)
    y = y + np.float32(0.12 * pitch) * fields.octaves(shape, dice, side / 3, 1.0)
    column, row = np.floor(x / pitch).astype(np.int64), np.floor(y / pitch).astype(np.int64)
    over = int(dice.choice([1, 1, 2, 3]))
    step = int(dice.integers(1, over + 2)) if over > 1 else 1
    warp_up = np.mod(column + step * row, over + 1) < (1 if dice.random() < 0.6 or over == 1 else over)
    u, v = x / pitch - column - 0.5, y / pitch - row - 0.5
    round_warp, round_weft = np.cos(np.pi * u), np.cos(np.pi * v)
    lift = float(dice.uniform(0.1, 0.35)) * pitch
    warp = round_warp * (0.6 + 0.4 * np.cos(np.pi * v))
    weft = round_weft * (0.6 + 0.4 * np.cos(np.pi * u))
    work.relief.height[:] = lift * np.where(warp_up, warp, weft)
    one = any_material(dice) if dice.random() < 0.15 else natural(dice)
    cover_with(work.relief, one, work.relief.height.copy())
    second = one.albedo * np.float32(dice.uniform(0.6, 1.0)) if dice.random() < 0.6 else plastic(dice).albedo
    _paint(work, warp_up.astype(np.float32), one.albedo, np.asarray(second, np.float32))
    if dice.random() < 0.25:
        stripe = np.mod(column, int(dice.integers(4, 14))) < int(dice.integers(1, 4))
        work.relief.albedo *= np.where(stripe, np.float32(dice.uniform(0.4, 0.8)), np.float32(1.0))
    threads = fields.per_cell(np.asarray(np.abs(column) + 1, np.int32), dice)
    work.relief.albedo *= np.clip(1.0 + 0.08 * threads, 0.5, 1.5)
    fibres = fields.streaks(shape, dice, float(dice.uniform(0, 180)), pitch * 2, 1.0)
    work.grains.append(Grain(fibres, albedo=float(dice.uniform(0.03, 0.15)), height=0.1))
    if dice.random() < 0.3:
        gap = np.clip((np.maximum(np.abs(u), np.abs(v)) - 0.42) * 10, 0, 1)
        work.relief.albedo *= 1.0 - np.float32(dice.uniform(0.3, 0.9)) * gap.astype(np.float32)
    return work


def carpet(dice: np.random.Generator, side: int) -> Workpiece:
    """Loops, pile, felt: strong fine noise of one grain."""
    work, shape = _cloth(side)
    size = float(np.exp(dice.uniform(np.log(2.5), np.log(9))))
    loops = fields.band_noise(shape, dice, size * 2, 0.3)
    clumps = fields.octaves(shape, dice, size * 5, 0.6)
    material = natural(dice) if dice.random() < 0.6 else Material(hsv(0, 0, dice.uniform(0.2, 0.7)), 0.0, 0.0)
    height = np.float32(dice.uniform(0.4, 1.4)) * loops + 0.6 * clumps
    cover_with(work.relief, Material(material.albedo, 0.0, 0.0), np.asarray(height, np.float32))
    work.relief.albedo *= np.clip(1.0 + np.float32(dice.uniform(0.1, 0.3)) * (0.7 * loops + 0.4 * clumps), 0.1, 2.5)
    if dice.random() < 0.4:
        other = np.clip(2.0 * fields.octaves(shape, dice, size * 2, 0.2) - 1.0, 0, 1)
        for plane, colour in zip(work.relief.albedo, plastic(dice).albedo, strict=True):
            plane += other * (colour - plane)
    return work


def leather(dice: np.random.Generator, side: int) -> Workpiece:
    """Cells with creases between them: leather, rubber, cracked paint, skin."""
    work, shape = _cloth(side)
    size = float(np.exp(dice.uniform(np.log(5), np.log(26))))
    border, numbers = fields.cells(shape, dice, size, float(dice.uniform(0.5, 1.2)))
    border = fields.warped(border, dice, size, size * 0.12)
    swell = np.sqrt(np.clip(border / (size * 0.35), 0, 1))
    height = np.float32(dice.uniform(0.06, 0.2) * size) * swell + 0.3 * fields.octaves(shape, dice, size * 2, 0.7)
    material = natural(dice) if dice.random() < 0.6 else plastic(dice)
    cover_with(work.relief, material, np.asarray(height, np.float32))
    tone = 1.0 - np.float32(dice.uniform(0.1, 0.5)) * (1.0 - swell) + 0.04 * fields.per_cell(numbers, dice)
    work.relief.albedo *= np.clip(tone, 0.1, 1.5).astype(np.float32)
    pores = fields.spots(shape, dice, int(dice.integers(0, 400)), 0.8)
    work.relief.height -= pores
    _finely(work, dice)
    return work


def wood(dice: np.random.Generator, side: int) -> Workpiece:
    """Grain of sawn wood: rings cut at an angle, pores along them, now and then a knot."""
    work, shape = _cloth(side)
    x, y = _grid(shape, float(dice.choice([0.0, np.pi / 2]) + dice.normal(0, 0.06)))
    wander = fields.octaves(shape, dice, side * float(dice.uniform(0.5, 1.5)), 1.4)
    pitch = float(np.exp(dice.uniform(np.log(5), np.log(40))))
    depth = y + pitch * float(dice.uniform(0.3, 2.0)) * wander + float(dice.uniform(-0.1, 0.1)) * x
    if dice.random() < 0.3:
        far = np.hypot((x - dice.uniform(0, shape[1])) / 2.5, y - dice.uniform(0, shape[0]))
        depth = depth + 60.0 * np.exp(-far / 40.0)
    phase = np.mod(depth / pitch, 1.0)
    ring = np.where(phase < 0.8, phase / 0.8, (1 - phase) / 0.2) ** float(dice.uniform(1.0, 3.0))
    early = hsv(dice.uniform(0.06, 0.11), dice.uniform(0.25, 0.6), dice.uniform(0.6, 0.95))
    late = early * np.array([0.45, 0.6, 0.75], np.float32) * np.float32(dice.uniform(0.7, 1.1))
    cover_with(work.relief, Material(early, 0.0, float(dice.uniform(0, 0.5))))
    _paint(work, np.asarray(ring * dice.uniform(0.4, 1.0), np.float32), early, np.asarray(late, np.float32))
    angle = float(np.rad2deg(np.arctan2(float(y[0, 1] - y[0, 0]), float(x[0, 1] - x[0, 0]))))
    pores = fields.streaks(shape, dice, angle, float(dice.uniform(20, 60)), 1.0, 2)
    work.grains.append(Grain(np.minimum(pores, 0.5), albedo=float(dice.uniform(0.03, 0.12)), height=0.15, fixed=True))
    if dice.random() < 0.3:
        board = np.mod(y, side * float(dice.uniform(0.3, 0.7)))
        work.relief.height -= 3.0 * np.clip(1.5 - board, 0, 1)
    return work


def ground_metal(dice: np.random.Generator, side: int) -> Workpiece:
    """Ground, brushed, rolled or lapped metal and ferrite, with hairlines and clouds."""
    work, shape = _cloth(side)
    ferrite = dice.random() < 0.4
    material = (
        Material(hsv(0, 0, dice.uniform(0.3, 0.7)), float(dice.uniform(0.3, 0.8)), 0.2) if ferrite else metal(dice)
    )
    cover_with(work.relief, material)
    angle = float(dice.choice([0.0, 90.0, dice.uniform(0, 180)]))
    for _ in range(int(dice.integers(1, 3))):
        lines = fields.streaks(shape, dice, angle, float(dice.uniform(60, 500)), float(dice.uniform(0.8, 3)))
        work.relief.height += np.float32(dice.uniform(0.02, 0.25)) * lines
        work.relief.albedo *= np.clip(1.0 + np.float32(dice.uniform(0.03, 0.16)) * lines, 0.1, 2.0)
        if dice.random() < 0.4:
            angle += float(dice.uniform(20, 90))
    if dice.random() < 0.6:
        scratches = fields.hairlines(shape, dice, angle, float(dice.choice([4, 25])), int(dice.integers(20, 300)), 60.0)
        work.relief.albedo *= np.clip(1.0 + np.float32(dice.uniform(-0.4, 0.4)) * scratches, 0.1, 2.0)
    clouds = fields.spectrum(shape, dice, float(dice.uniform(1.3, 2.2)), float(dice.uniform(1, 4)), angle)
    work.relief.albedo *= np.clip(1.0 + np.float32(dice.uniform(0, 0.15)) * clouds, 0.1, 2.0)
    if dice.random() < 0.5:
        x, _ = _grid(shape, float(np.deg2rad(-angle)))
        bow = np.float32(dice.uniform(0.0005, 0.003)) * (x - float(x.mean())) ** 2
        work.relief.height -= bow
    return work


def turned_face(dice: np.random.Generator, side: int) -> Workpiece:
    """Feed marks of turning and milling: arcs around a far or near centre."""
    work, shape = _cloth(side)
    cover_with(work.relief, metal(dice))
    ys, xs = np.mgrid[0 : shape[0], 0 : shape[1]].astype(np.float32)
    reach = float(dice.choice([0.5, 1.0, 3.0])) * shape[0]
    angle = dice.uniform(0, 2 * np.pi)
    radius = np.hypot(xs - shape[1] / 2 - reach * np.cos(angle), ys - shape[0] / 2 - reach * np.sin(angle))
    pitch = float(np.exp(dice.uniform(np.log(2.5), np.log(14))))
    wave = (
        np.abs(np.mod(radius / pitch, 1.0) - 0.5) if dice.random() < 0.5 else 0.5 * np.sin(2 * np.pi * radius / pitch)
    )
    lines = dice.standard_normal(int(radius.max()) + 2).astype(np.float32)
    rough = np.interp(radius.ravel(), np.arange(lines.size), lines).reshape(shape)
    work.relief.height[:] = float(dice.uniform(0.1, 0.5)) * wave + float(dice.uniform(0.02, 0.15)) * rough
    if dice.random() < 0.4:
        back = np.hypot(xs - shape[1] / 2 + reach * np.cos(angle), ys - shape[0] / 2 + reach * np.sin(angle))
        work.relief.height += np.float32(0.15) * np.sin(2 * np.pi * back / pitch)
    finishes.speckle(work, dice, None)
    finishes.wear(work, dice, None)
    return work


def mesh(dice: np.random.Generator, side: int) -> Workpiece:
    """Wire mesh, grating, perforated plate, honeycomb."""
    work, shape = _cloth(side)
    pitch = float(np.exp(dice.uniform(np.log(10), np.log(48))))
    x, y = _grid(shape, float(dice.choice([0.0, np.pi / 4, dice.uniform(0, np.pi)])))
    look = int(dice.integers(0, 4))
    if look == 0:
        gap = np.minimum(np.abs(np.mod(x, pitch) - pitch / 2), np.abs(np.mod(y, pitch) - pitch / 2))
    elif look == 1:
        gap = np.minimum(np.abs(np.mod(x + y, pitch) - pitch / 2), np.abs(np.mod(x - y, pitch) - pitch / 2)) * 0.7
    elif look == 2:
        shifted = x + pitch / 2 * (np.mod(np.floor(y / (pitch * 0.87)), 2))
        away = np.hypot(np.mod(shifted, pitch) - pitch / 2, np.mod(y, pitch * 0.87) - pitch * 0.435)
        gap = np.maximum(0.0, pitch * float(dice.uniform(0.28, 0.42)) - away + pitch * 0.1)
        gap = np.where(away > pitch * 0.4, 0.0, gap)
    else:
        border, _ = fields.cells(shape, dice, pitch, float(dice.choice([0.0, 0.9])))
        gap = border
    wire = pitch * float(dice.uniform(0.08, 0.2))
    solid = np.clip(wire - gap + 0.5, 0, 1).astype(np.float32)
    bulge = np.sqrt(np.clip(1.0 - (gap / wire) ** 2, 0, 1)) * wire
    material, back = any_material(dice), any_material(dice)
    cover_with(work.relief, material)
    dark = back.albedo * np.float32(dice.choice([0.05, 0.3, 1.0]))
    _paint(work, solid, np.asarray(dark, np.float32), material.albedo)
    work.relief.metal[:] = solid * material.metal
    work.relief.gloss[:] = solid * material.gloss
    work.relief.height[:] = np.asarray(bulge * solid - 4.0 * (1 - solid), np.float32)
    finishes.speckle(work, dice, None)
    return work


def tile(dice: np.random.Generator, side: int) -> Workpiece:
    """Speckled stone: terrazzo, granite, cork, foam, ceramic."""
    work, shape = _cloth(side)
    ground = natural(dice) if dice.random() < 0.5 else plastic(dice)
    cover_with(work.relief, ground)
    for _ in range(int(dice.integers(1, 4))):
        size = float(np.exp(dice.uniform(np.log(3), np.log(25))))
        border, numbers = fields.cells(shape, dice, size, 1.3)
        chosen = fields.per_cell(numbers, dice) > float(dice.uniform(-0.3, 1.5))
        share = chosen * np.clip(border / 1.5, 0, 1)
        other = natural(dice).albedo if dice.random() < 0.7 else hsv(0, 0, dice.uniform(0.05, 1.0))
        tone = 1.0 + 0.15 * fields.per_cell(numbers, dice)
        for plane, colour in zip(work.relief.albedo, other, strict=True):
            plane += np.asarray(share * (colour * tone - plane), np.float32)
    np.clip(work.relief.albedo, 0.002, 1.1, out=work.relief.albedo)
    if dice.random() < 0.4:
        work.relief.height += np.float32(dice.uniform(0.2, 0.8)) * fields.octaves(shape, dice, 12.0, 0.6)
    _finely(work, dice)
    return work


def noise(dice: np.random.Generator, side: int) -> Workpiece:
    """Any rough surface: noise of any spectrum, stretched, folded or cut, as colour and as height."""
    work, shape = _cloth(side)
    material = any_material(dice)
    slope, stretch, angle = (
        float(dice.uniform(0.5, 2.0)),
        float(np.exp(dice.uniform(0, 2.2))),
        float(dice.uniform(0, 180)),
    )
    look = int(dice.integers(0, 5))
    if look == 0:
        rough = fields.spectrum(shape, dice, slope, stretch, angle)
    elif look == 1:
        rough = fields.ridges(shape, dice, float(dice.uniform(10, 80)))
    elif look == 2:
        rough = np.tanh(2.0 * fields.band_noise(shape, dice, float(dice.uniform(5, 40))))
    elif look == 3:
        rough = fields.normalized(np.exp(0.7 * fields.spectrum(shape, dice, slope, stretch, angle)))
    else:
        size = float(dice.uniform(4, 40))
        border, numbers = fields.cells(shape, dice, size, 1.2)
        rough = fields.normalized(fields.per_cell(numbers, dice) + border / size)
    cover_with(work.relief, material, np.float32(dice.uniform(0, 0.9)) * rough)
    contrast = float(np.exp(dice.uniform(np.log(0.01), np.log(0.5))))
    work.relief.albedo *= np.clip(1.0 + contrast * rough, 0.05, 2.5)
    if dice.random() < 0.4:
        share = np.clip(0.5 + fields.spectrum(shape, dice, 1.8), 0, 1)
        for plane, colour in zip(work.relief.albedo, any_material(dice).albedo, strict=True):
            plane += np.float32(0.6) * share * (colour - plane)
    _finely(work, dice, 0.7)
    return work


def stripes(dice: np.random.Generator, side: int) -> Workpiece:
    """Corrugated, ribbed, knurled, knitted or printed with a repeating pattern."""
    work, shape = _cloth(side)
    pitch = float(np.exp(dice.uniform(np.log(5), np.log(40))))
    x, y = _grid(shape, float(dice.uniform(0, np.pi)))
    look = int(dice.integers(0, 4))
    if look == 0:
        wave = np.sin(2 * np.pi * x / pitch)
    elif look == 1:
        wave = np.sin(2 * np.pi * (x + 0.6 * y) / pitch) * np.sin(2 * np.pi * (x - 0.6 * y) / pitch)
    elif look == 2:
        lean = np.abs(np.mod(x / pitch, 1.0) - 0.5) * pitch
        wave = np.cos(2 * np.pi * (y + 1.2 * lean) / (0.7 * pitch)) + 0.8 * np.cos(2 * np.pi * x / pitch)
    else:
        wave = np.tanh(4 * np.sin(2 * np.pi * x / pitch)) + np.tanh(4 * np.sin(2 * np.pi * y / pitch))
    wave = fields.normalized(wave)
    material = any_material(dice)
    cover_with(work.relief, material, np.float32(dice.uniform(0, 0.12) * pitch) * wave)
    if dice.random() < 0.5:
        ink = np.clip(0.5 + 1.5 * wave, 0, 1)
        _paint(work, np.asarray(ink, np.float32), material.albedo, plastic(dice).albedo)
    finishes.finish(work, dice, material)
    _finely(work, dice)
    return work


def skin(dice: np.random.Generator, side: int) -> Workpiece:
    """Cast skin, concrete, sandpaper, painted sheet, paper: almost even, with small marks."""
    work, shape = _cloth(side)
    material = any_material(dice)
    cover_with(work.relief, material)
    finishes.cast_skin(work, dice, None, float(dice.uniform(0.3, 2.0)))
    if dice.random() < 0.6:
        pits = fields.spots(shape, dice, int(dice.integers(10, 500)), float(dice.uniform(0.6, 2.0)))
        work.relief.height -= np.float32(dice.uniform(0.5, 2.0)) * pits
        work.relief.albedo *= 1.0 - np.float32(dice.uniform(0, 0.4)) * pits
    finishes.wear(work, dice, None)
    return work


def foil(dice: np.random.Generator, side: int) -> Workpiece:
    """Crumpled film, foil and paper; brushed vinyl; water marks."""
    work, shape = _cloth(side)
    folds = fields.ridges(shape, dice, float(dice.uniform(30, 120)), 1.2)
    _facets, numbers = fields.cells(shape, dice, float(dice.uniform(15, 60)), 1.3)
    lean_x, lean_y = fields.per_cell(numbers, dice), fields.per_cell(numbers, dice)
    x, y = _grid(shape, 0.0)
    tilt = cv2.GaussianBlur(np.asarray(lean_x * np.sin(x / 20) + lean_y * np.sin(y / 20), np.float32), (0, 0), 1.5)
    material = any_material(dice)
    height = np.float32(dice.uniform(0.5, 3.0)) * folds + np.float32(dice.uniform(0, 1.5)) * tilt
    cover_with(work.relief, material, np.asarray(height, np.float32))
    _finely(work, dice)
    return work


MAKERS = {
    "weave": weave,
    "carpet": carpet,
    "leather": leather,
    "wood": wood,
    "ground_metal": ground_metal,
    "turned_face": turned_face,
    "mesh": mesh,
    "tile": tile,
    "noise": noise,
    "stripes": stripes,
    "skin": skin,
    "foil": foil,
}
"""Every maker of this file by the kind it makes."""
