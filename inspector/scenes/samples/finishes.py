"""How surfaces are finished, and what parts lie on: grain and grounds for workpieces."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from inspector.scenes.light import F32
from inspector.scenes.relief import Patch, Relief
from inspector.scenes.samples import fields, shapes
from inspector.scenes.samples.materials import Material, any_material, hsv, natural, plastic
from inspector.scenes.samples.workpiece import Grain, Workpiece, cover_with

_ROOM = 1.35
"""Size of a grain's field in reliefs: every piece sees another stretch."""


def roomy(relief: Relief) -> tuple[int, int]:
    """Shape of a field of grain for this relief."""
    rows, columns = relief.height.shape
    return int(rows * _ROOM), int(columns * _ROOM)


def sheet_of(relief: Relief, patch: Patch) -> F32:
    """The patch's coverage on the whole relief, (H, W) 0..1."""
    sheet = np.zeros(relief.height.shape, np.float32)
    sheet[patch.rows, patch.columns] = patch.cover
    return sheet


def brush(
    work: Workpiece, dice: np.random.Generator, where: F32 | None, angle_deg: float | None = None, amount: float = 1.0
) -> None:
    """Brushed, ground or rolled: streaks in one direction."""
    angle = float(dice.uniform(0, 180)) if angle_deg is None else angle_deg
    streaks = fields.streaks(
        roomy(work.relief), dice, angle, float(dice.uniform(30, 200)), float(dice.uniform(0.8, 2.2))
    )
    height = amount * float(dice.uniform(0.04, 0.22))
    work.grains.append(Grain(streaks, albedo=amount * float(dice.uniform(0.02, 0.14)), height=height, where=where))


def cast_skin(work: Workpiece, dice: np.random.Generator, where: F32 | None, amount: float = 1.0) -> None:
    """Cast, forged or sandblasted: bumps of all sizes."""
    bumps = fields.octaves(roomy(work.relief), dice, float(dice.uniform(4, 30)), float(dice.uniform(0.3, 0.9)))
    work.grains.append(
        Grain(
            bumps,
            albedo=amount * float(dice.uniform(0.02, 0.1)),
            height=amount * float(dice.uniform(0.1, 0.6)),
            where=where,
        )
    )


def peel(work: Workpiece, dice: np.random.Generator, where: F32 | None) -> None:
    """Paint and moulded plastic: orange peel."""
    dents = fields.band_noise(roomy(work.relief), dice, float(dice.uniform(4, 14)))
    work.grains.append(Grain(dents, height=float(dice.uniform(0.03, 0.2)), where=where))


def speckle(work: Workpiece, dice: np.random.Generator, where: F32 | None, amount: float = 1.0) -> None:
    """Uneven colour in grains."""
    slope = float(dice.uniform(0.0, 1.0))
    grains = fields.octaves(roomy(work.relief), dice, float(dice.uniform(2, 40)), slope)
    work.grains.append(Grain(grains, albedo=amount * float(dice.uniform(0.02, 0.12)), where=where))


def wear(work: Workpiece, dice: np.random.Generator, where: F32 | None) -> None:
    """What handling leaves on good pieces: hairlines, smears, fingermarks, clouds."""
    shape = roomy(work.relief)
    if dice.random() < 0.5:
        count = int(dice.integers(5, 60))
        lines = fields.hairlines(shape, dice, float(dice.uniform(0, 180)), float(dice.choice([8, 60])), count, 40.0)
        sign = float(dice.choice([-1, 1]))
        work.grains.append(Grain(lines, albedo=sign * float(dice.uniform(0.05, 0.3)), height=-0.1, where=where))
    clouds = fields.spectrum(shape, dice, float(dice.uniform(1.2, 2.0)))
    work.grains.append(
        Grain(clouds, albedo=float(dice.uniform(0.0, 0.07)), gloss=float(dice.uniform(0, 0.06)), where=where)
    )


def dust(work: Workpiece, dice: np.random.Generator) -> None:
    """Harmless specks, others on every piece."""
    shape = roomy(work.relief)
    specks = fields.spots(shape, dice, int(dice.integers(5, 120)), float(dice.uniform(0.4, 1.0)))
    work.grains.append(Grain(specks, albedo=float(dice.uniform(-0.5, 0.8))))


def finish(work: Workpiece, dice: np.random.Generator, material: Material, where: F32 | None = None) -> None:
    """A finish that suits the material; over the part as it stands when `where` is None."""
    if where is None and work.relief.coverage.any():
        where = work.relief.coverage.copy()
    if material.metal > 0.5:
        look = dice.random()
        if look < 0.45:
            brush(work, dice, where)
        elif look < 0.75:
            cast_skin(work, dice, where, 0.5)
        if dice.random() < 0.5:
            fine = fields.octaves(roomy(work.relief), dice, 4.0, 0.0)
            work.grains.append(Grain(fine, albedo=float(dice.uniform(0.01, 0.06)), where=where))
    elif dice.random() < 0.5:
        peel(work, dice, where)
    else:
        speckle(work, dice, where)
    if dice.random() < 0.5:
        wear(work, dice, where)


def lay_ground(work: Workpiece, dice: np.random.Generator, look: str | None = None) -> str:
    """What the part lies on; the name of what was chosen."""
    chosen = look or str(
        dice.choice(
            ["white", "light", "grey", "black", "colour", "felt", "belt", "wood", "metal", "any"],
            p=[0.2, 0.1, 0.13, 0.2, 0.12, 0.07, 0.06, 0.04, 0.05, 0.03],
        )
    )
    relief, shape = work.relief, roomy(work.relief)
    if chosen == "white":
        cover_with(relief, Material(hsv(dice.uniform(0, 1), dice.uniform(0, 0.03), 1.0), 0.0, 0.0))
        work.overexposed_ground = bool(dice.random() < 0.7)
    elif chosen in ("light", "grey", "black"):
        value = {"light": (0.7, 0.95), "grey": (0.3, 0.65), "black": (0.02, 0.2)}[chosen]
        cover_with(relief, Material(hsv(dice.uniform(0, 1), dice.uniform(0, 0.1), dice.uniform(*value)), 0.0, 0.1))
        if dice.random() < 0.6:
            speckle(work, dice, None, 0.6)
    elif chosen == "colour":
        paint = hsv(dice.uniform(0, 1), dice.uniform(0.4, 0.9), dice.uniform(0.25, 0.8))
        cover_with(relief, Material(paint, 0.0, 0.2))
        peel(work, dice, None)
    elif chosen == "felt":
        cover_with(relief, Material(hsv(dice.uniform(0, 1), dice.uniform(0.1, 0.8), dice.uniform(0.15, 0.6)), 0.0, 0.0))
        fibres = fields.octaves(shape, dice, 6.0, 0.2)
        work.grains.append(Grain(fibres, albedo=float(dice.uniform(0.1, 0.3)), height=0.3))
    elif chosen == "belt":
        cover_with(relief, Material(hsv(dice.uniform(0, 1), dice.uniform(0, 0.6), dice.uniform(0.1, 0.45)), 0.0, 0.15))
        ys, xs = np.mgrid[0 : shape[0], 0 : shape[1]].astype(np.float32)
        pitch = np.float32(2 * np.pi / dice.uniform(5, 16))
        weave = np.sin((xs + ys) * pitch) * np.sin((xs - ys) * pitch)
        work.grains.append(Grain(np.asarray(weave, np.float32), albedo=0.05, height=float(dice.uniform(0.2, 0.8))))
        speckle(work, dice, None)
    elif chosen == "wood":
        cover_with(relief, natural(dice))
        brush(work, dice, None, amount=1.5)
    elif chosen == "metal":
        cover_with(relief, Material(hsv(0, 0, dice.uniform(0.4, 0.8)), 1.0, float(dice.uniform(0, 0.5))))
        brush(work, dice, None)
    else:
        material = any_material(dice)
        cover_with(relief, material)
        finish(work, dice, material)
    work.grains = [replace(grain, ground=True) for grain in work.grains]
    if dice.random() < 0.3:
        dust(work, dice)
    return chosen


def groove(relief: Relief, patch: Patch, depth: F32 | float) -> None:
    """Change the height inside a patch by adding to it."""
    relief.height[patch.rows, patch.columns] += patch.cover * depth


def body(
    work: Workpiece, dice: np.random.Generator, patch: Patch, material: Material, height: float, edge: float
) -> F32:
    """An extruded body with a rounded or chamfered edge and a finish; its coverage on the relief."""
    relief = work.relief
    rise = patch.rounded_edge(edge) if dice.random() < 0.6 else shapes.chamfer(patch, edge)
    base = float(relief.height[patch.rows, patch.columns].mean()) if patch.distance.size else 0.0
    lifted = np.asarray(base + height * (0.4 + 0.6 * rise) if edge < height else base + height * rise, np.float32)
    relief.lay(patch, material.albedo, lifted, metal=material.metal, gloss=material.gloss)
    return sheet_of(relief, patch)


def smooth_plastic(dice: np.random.Generator) -> Material:
    """A glossy moulded plastic."""
    material = plastic(dice)
    return Material(material.albedo, 0.0, float(dice.uniform(0.5, 1.0)))
