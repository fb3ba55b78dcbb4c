"""Parts on and wrapped in the textures of surfaces: what multiplies the variety of both."""

from __future__ import annotations

import cv2
import numpy as np

from inspector.scenes.light import F32
from inspector.scenes.relief import Relief
from inspector.scenes.samples import fields, textures
from inspector.scenes.samples.workpiece import Grain, Workpiece, board_of

_LEAST_COVER = 0.05


def draw_texture(dice: np.random.Generator, side_px: int) -> Workpiece:
    """Any of the textures."""
    names = list(textures.MAKERS)
    return textures.MAKERS[names[int(dice.integers(0, len(names)))]](dice, side_px)


def lay_on_texture(work: Workpiece, dice: np.random.Generator, side_px: int) -> None:
    """Exchange the ground of a located part for a textured one, in place; nothing where there is no ground."""
    bare = 1.0 - work.relief.coverage
    if not _LEAST_COVER < float(bare.mean()) < 1.0 - _LEAST_COVER:
        return
    ground = draw_texture(dice, side_px).relief
    rows, columns = work.relief.height.shape
    for mine, theirs in zip((work.relief.albedo, *_forms(work.relief)), (ground.albedo, *_forms(ground)), strict=True):
        mine += bare * (_fitted(theirs, rows, columns) - mine)
    work.grains = [grain for grain in work.grains if not grain.ground]
    work.overexposed_ground = False


def wrap_in_texture(work: Workpiece, dice: np.random.Generator, side_px: int) -> None:
    """Give the part (everything, where it has no outline) the structure of a texture, in place."""
    skin = draw_texture(dice, side_px).relief
    rows, columns = work.relief.height.shape
    colour = _fitted(skin.albedo, rows, columns)
    where = work.relief.coverage if work.relief.coverage.any() else np.ones((rows, columns), np.float32)
    if dice.random() < 0.3:
        share = where * np.float32(dice.uniform(0.3, 1.0))
        work.relief.albedo += share * (colour - work.relief.albedo)
    else:
        tone = colour.mean(axis=0)
        tone = tone / max(1e-3, float(tone.mean()))
        work.relief.albedo *= 1.0 + where * (np.clip(tone, 0.2, 2.0) - 1.0)
    height = _fitted(skin.height, rows, columns)
    height = height - cv2.GaussianBlur(height, (0, 0), 12.0)
    work.relief.height += where * height * np.float32(dice.uniform(0.2, 0.8))


def cloud(work: Workpiece, dice: np.random.Generator) -> None:
    """Uneven shade and colour over a surface, as all large surfaces have it, in place."""
    rows, columns = work.relief.height.shape
    shade = fields.spectrum((rows, columns), dice, float(dice.uniform(1.4, 2.2)))
    tint = 1.0 + dice.normal(0, 0.2, 3).astype(np.float32)
    amount = np.float32(dice.uniform(0.02, 0.18))
    for plane, share in zip(work.relief.albedo, tint, strict=True):
        plane *= np.clip(1.0 + amount * share * shade, 0.1, 2.0)


def inlaid(dice: np.random.Generator, side: int) -> Workpiece:
    """Two or three surfaces that meet along edges: strips, patches, insets; always in the same place."""
    work = Workpiece(board_of(side))
    relief = work.relief
    rows, columns = relief.height.shape
    base = draw_texture(dice, side).relief
    for mine, theirs in zip((relief.albedo, *_forms(relief)), (base.albedo, *_forms(base)), strict=True):
        mine[:] = _fitted(theirs, rows, columns)
    for _ in range(int(dice.integers(1, 3))):
        other = draw_texture(dice, side).relief
        share = _region(dice, rows, columns)
        for mine, theirs in zip((relief.albedo, *_forms(relief)), (other.albedo, *_forms(other)), strict=True):
            mine += share * (_fitted(theirs, rows, columns) - mine)
        relief.height += share * np.float32(dice.choice([0.0, dice.uniform(1, 8)]))
    specks = fields.octaves((int(rows * 1.35), int(columns * 1.35)), dice, 20.0, 0.5)
    work.grains.append(Grain(specks, albedo=float(dice.uniform(0.02, 0.08))))
    work.pliable_px = float(dice.uniform(0, 1.0))
    return work


def _region(dice: np.random.Generator, rows: int, columns: int) -> F32:
    """(rows, columns) 0..1: a half, a strip, a disc, a rectangle or an island."""
    ys, xs = np.mgrid[-1.0 : 1.0 : rows * 1j, -1.0 : 1.0 : columns * 1j].astype(np.float32)
    turn = float(dice.choice([0.0, np.pi / 2, dice.uniform(0, np.pi)]))
    along, across = xs * np.cos(turn) + ys * np.sin(turn), -xs * np.sin(turn) + ys * np.cos(turn)
    look, place, wide = int(dice.integers(0, 5)), dice.uniform(-0.5, 0.5, 2), dice.uniform(0.15, 0.7, 2)
    if look == 0:
        inside = along - place[0]
    elif look == 1:
        inside = wide[0] - np.abs(along - place[0])
    elif look == 2:
        inside = wide[0] - np.hypot(xs - place[0], ys - place[1])
    elif look == 3:
        inside = np.minimum(wide[0] - np.abs(along - place[0]), wide[1] - np.abs(across - place[1]))
    else:
        inside = 0.3 * fields.octaves((rows, columns), dice, rows / 3, 1.2)
    return np.asarray(np.clip(inside * rows / 2 + 0.5, 0, 1), np.float32)


def _forms(relief: Relief) -> tuple[F32, F32, F32]:
    return relief.height, relief.metal, relief.gloss


def _fitted(plane: F32, rows: int, columns: int) -> F32:
    """The upper left of a plane that is larger."""
    return np.asarray(plane[..., :rows, :columns], np.float32)


MAKERS = {"inlaid": inlaid}
"""Every maker of this file by the kind it makes."""
