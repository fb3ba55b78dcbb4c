"""A part or surface before it is photographed: one relief, loose pieces on it, and grain that is new on every piece."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import cv2
import numpy as np

from inspector.scenes.light import F32
from inspector.scenes.relief import Patch, Relief
from inspector.scenes.samples.materials import Material

MARGIN_PX = 12
"""What a relief is larger than its pictures on every side, so that a picture may be shifted and turned."""


@dataclass(frozen=True, slots=True)
class Stamp:
    """A small thing to be put on a relief: planes weighted by its coverage, its origin (x, y) in them.

    `colour` (h, w, 4) float32: linear BGR and coverage. `form` (h, w, 4): height px, metal, gloss, coverage.
    """

    colour: F32
    form: F32
    anchor_px: tuple[float, float]


@dataclass(frozen=True, slots=True)
class Placement:
    """Where a stamp sits, and how far (deviations) it may sit elsewhere on another piece."""

    stamp: Stamp
    x: float
    y: float
    turn_deg: float = 0.0
    loose_px: float = 0.5
    loose_deg: float = 0.5


@dataclass(frozen=True, slots=True)
class Grain:
    """Fine structure that no two pieces share: every piece sees another stretch of `field` (deviation 1).

    `albedo` multiplies colours by 1 ± it, `height` is in px; `where` (H, W) 0..1 limits it. A grain with `fixed`
    belongs to the design and stays; one of the `ground` is seen only where the part is not.
    """

    field: F32
    albedo: float = 0.0
    height: float = 0.0
    gloss: float = 0.0
    where: F32 | None = None
    fixed: bool = False
    ground: bool = False


@dataclass(slots=True)
class Workpiece:
    """What a maker returns. `registered` is False for surfaces whose pictures only share their kind."""

    relief: Relief
    placements: list[Placement] = field(default_factory=list)
    grains: list[Grain] = field(default_factory=list)
    registered: bool = True
    pliable_px: float = 0.0
    """How far the form itself varies smoothly from piece to piece."""
    overexposed_ground: bool = False
    """Photographed on a light table: the background is burnt out."""


def board_of(side_px: int) -> Relief:
    """The drawing board for a located part whose pictures have this side."""
    whole = float(side_px + 2 * MARGIN_PX)
    return Relief((0.0, 0.0, whole, whole), 1.0)


def cover_with(relief: Relief, material: Material, height: float | F32 = 0.0) -> None:
    """One material over the whole relief."""
    relief.albedo[:] = material.albedo[:, None, None]
    relief.metal[:] = material.metal
    relief.gloss[:] = material.gloss
    relief.height[:] = height


def put(relief: Relief, patch: Patch, material: Material, height: float | F32) -> None:
    """Solid material inside an outline."""
    relief.lay(patch, material.albedo, height, metal=material.metal, gloss=material.gloss)


def stamp_of(relief: Relief) -> Stamp:
    """A relief drawn around its origin as a stamp."""
    cover = relief.coverage
    colour = np.dstack([*(relief.albedo * cover), cover]).astype(np.float32)
    form = np.dstack([relief.height * cover, relief.metal * cover, relief.gloss * cover, cover]).astype(np.float32)
    return Stamp(colour, form, (-relief.box_mm[0] - 0.5, -relief.box_mm[1] - 0.5))


@dataclass(frozen=True, slots=True)
class Surface:
    """What the camera sees of one piece: `albedo` (H, W, 3) linear BGR, `height` px, `metal`, `gloss` (H, W)."""

    albedo: F32
    height: F32
    metal: F32
    gloss: F32


def assemble(work: Workpiece, dice: np.random.Generator, variation: float, side: int) -> Surface:
    """One piece: the relief with its loose pieces in place and its own grain; (side, side).

    Grain, and what is drawn from `dice` later, do not depend on the placements: a piece may be assembled again
    with one less or one more.
    """
    grain_dice, piece_dice = (np.random.default_rng(seed) for seed in dice.integers(0, 2**63, 2))
    rows, columns = work.relief.height.shape
    if work.registered:
        top, left = (rows - side) // 2, (columns - side) // 2
    else:
        top, left = int(dice.integers(0, rows - side + 1)), int(dice.integers(0, columns - side + 1))
    window = (slice(top, top + side), slice(left, left + side))
    colour = np.ascontiguousarray(np.moveaxis(work.relief.albedo[:, window[0], window[1]], 0, 2))
    form = np.dstack([work.relief.height[window], work.relief.metal[window], work.relief.gloss[window]])
    bare = 1.0 - work.relief.coverage
    for grain in work.grains:
        if grain.ground:
            _add_grain(colour, form, grain, bare, grain_dice, variation, window)
    for placed in work.placements:
        _lay_stamp(colour, form, placed, piece_dice, variation, (left, top))
    for grain in work.grains:
        if not grain.ground:
            _add_grain(colour, form, grain, grain.where, grain_dice, variation, window)
    return Surface(
        colour,
        np.ascontiguousarray(form[..., 0]),
        np.clip(form[..., 1], 0.0, 1.0),
        np.clip(form[..., 2], 0.0, 1.0),
    )


def _lay_stamp(
    colour: F32, form: F32, placed: Placement, dice: np.random.Generator, variation: float, corner: tuple[int, int]
) -> None:
    moves = np.clip(dice.normal(0, 1, 3), -2, 2) * variation
    turn = np.deg2rad(placed.turn_deg + placed.loose_deg * moves[2])
    x = placed.x - 0.5 - corner[0] + placed.loose_px * moves[0]
    y = placed.y - 0.5 - corner[1] + placed.loose_px * moves[1]
    height, width = placed.stamp.colour.shape[:2]
    cosine, sine = np.cos(turn), np.sin(turn)
    matrix = np.array([[cosine, -sine], [sine, cosine]])
    anchor = np.array(placed.stamp.anchor_px)
    corners = (np.array([(0, 0), (width, 0), (0, height), (width, height)]) - anchor) @ matrix.T + (x, y)
    x0, y0 = np.maximum(np.floor(corners.min(axis=0)) - 1, 0).astype(int)
    x1, y1 = np.minimum(np.ceil(corners.max(axis=0)) + 2, (form.shape[1], form.shape[0])).astype(int)
    if x1 <= x0 or y1 <= y0:
        return
    shift = matrix @ -anchor + (x - x0, y - y0)
    affine = np.column_stack([matrix, shift])
    size = (int(x1 - x0), int(y1 - y0))
    new_colour = cv2.warpAffine(placed.stamp.colour, affine, size, flags=cv2.INTER_LINEAR)
    new_form = cv2.warpAffine(placed.stamp.form, affine, size, flags=cv2.INTER_LINEAR)
    through = 1.0 - new_colour[..., 3:]
    window = (slice(y0, y1), slice(x0, x1))
    colour[window] = colour[window] * through + new_colour[..., :3]
    form[window] = form[window] * through + new_form[..., :3]


def _add_grain(
    colour: F32,
    form: F32,
    grain: Grain,
    where: F32 | None,
    dice: np.random.Generator,
    variation: float,
    window: tuple[slice, slice],
) -> None:
    side = form.shape[0]
    if grain.fixed:
        seen = grain.field[window]
    else:
        top = int(dice.integers(0, grain.field.shape[0] - side + 1))
        left = int(dice.integers(0, grain.field.shape[1] - side + 1))
        # Some pieces are rougher or dirtier than others.
        amount = np.float32(np.exp(variation * dice.normal(0, 0.2)))
        seen = amount * grain.field[top : top + side, left : left + side]
    if where is not None:
        seen = seen * where[window]
    if grain.albedo:
        colour *= np.clip(1.0 + grain.albedo * seen, 0.05, 4.0)[..., None]
    if grain.height:
        form[..., 0] += grain.height * seen
    if grain.gloss:
        form[..., 2] += grain.gloss * seen


def cloth_of(side_px: int) -> Relief:
    """The drawing board for a surface without a pose: larger than its pictures, which see different windows."""
    whole = float(int(1.6 * side_px))
    return Relief((0.0, 0.0, whole, whole), 1.0)


def close_up(work: Workpiece, side_px: int, centre: tuple[float, float], turn_deg: float) -> Workpiece:
    """The part turned clockwise by `turn_deg` and seen closer: a board for pictures of `side_px` around `centre`."""
    turn = np.deg2rad(turn_deg)
    matrix = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    board = board_of(side_px)
    size = board.height.shape[1], board.height.shape[0]
    shift = np.array(size) / 2 - 0.5 - matrix @ np.array(centre)
    affine = np.column_stack([matrix, shift])

    def seen(plane: F32) -> F32:
        border = cv2.BORDER_REFLECT_101
        return np.asarray(cv2.warpAffine(plane, affine, size, flags=cv2.INTER_LINEAR, borderMode=border), np.float32)

    for plane, old in zip(board.albedo, work.relief.albedo, strict=True):
        plane[:] = seen(old)
    for name in ("height", "metal", "gloss", "coverage"):
        getattr(board, name)[:] = seen(getattr(work.relief, name))
    placements = []
    for placed in work.placements:
        x, y = matrix @ (placed.x - 0.5, placed.y - 0.5) + shift + 0.5
        reach = max(placed.stamp.colour.shape[:2])
        if not (-reach < x < size[0] + reach and -reach < y < size[1] + reach):
            continue
        placements.append(replace(placed, x=float(x), y=float(y), turn_deg=placed.turn_deg + turn_deg))
    grains = []
    for grain in work.grains:
        where = None if grain.where is None else seen(grain.where)
        grains.append(replace(grain, where=where, field=seen(grain.field) if grain.fixed else grain.field))
    return replace(work, relief=board, placements=placements, grains=grains)
