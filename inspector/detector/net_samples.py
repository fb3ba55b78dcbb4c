"""Samples that teach a net to compare: good parts with painted changes, beside what varies harmlessly.

Only families marked for training are painted; those that judge the heads (`inspector.detector.evidence`) are never
shown. What a good part may do without being bad is painted, too, and asked to be ignored: other good images' content at
the same place, a little motion, light, focus and noise.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from inspector.detector.change_net import CUT_PX, RIM_CELLS
from inspector.detector.features import CELL_PX
from inspector.detector.good_part import SPREAD_STEPS, GoodPart
from inspector.detector.part_model import Mask
from inspector.records import BgrImage
from inspector.scenes.samples import spoiling

Floats = NDArray[np.float32]

CROP_PX = 160
RIM_PX = 8
"""Around the crop while it is painted and moved."""
CHANGED_LEVELS, FAINT_LEVELS = 10, 3
"""Largest step of a channel from which a change must be found, and below which there is none."""
LEAST_SHARE = 0.2
"""Of a cell's pixels that must have changed for the cell to count."""
SMALLEST_PX, LARGEST_PX = 7, 96
LEAST_LINE_PX = 20
"""A hair or scratch of fewer pixels is a spot."""
MOST_DEFECTS = 3
DEFECT_SHARE = 0.75
LINES = ("fibre", "scratch")
PAINTED = tuple(kind for kind in spoiling.families_for("train") if kind in spoiling.PAINTERS)
CHANGE = "change"
CHANGE_SHARE = 0.3


@dataclass(frozen=True, slots=True)
class TrainingSample:
    """`pixels`, `reference` and `spread` (CROP_PX, CROP_PX, 3) float32 grey levels; `target` and `weight` per cell,
    0 or 1."""

    pixels: Floats
    reference: Floats
    spread: Floats
    target: Floats
    weight: Floats


class SampleMaker:
    """Draws samples from good images that are laid, and lit like their references."""

    def __init__(
        self,
        pictures: list[BgrImage],
        looks: Sequence[int],
        goods: Sequence[GoodPart],
        good_of: Sequence[int],
        part: Mask,
        seed: int,
    ) -> None:
        """`goods[good_of[i]]` was learned without picture i, from pictures of its look."""
        self._pictures = [_cut(picture) for picture in pictures]
        self._looks, self._good_of = tuple(looks), tuple(good_of)
        self._goods = [GoodPart(_cut(good.picture), _cut(good.spread)) for good in goods]
        self._fellows = {look: [i for i, shown in enumerate(looks) if shown == look] for look in set(looks)}
        self._places = np.argwhere(part)
        self._dice = np.random.default_rng(seed)

    def draw(self) -> TrainingSample:
        """The next sample. Deterministic."""
        dice = self._dice
        index = int(dice.integers(0, len(self._pictures)))
        fellows = self._fellows[self._looks[index]]
        other = fellows[int(dice.integers(0, len(fellows)))]
        picture, good = self._pictures[index], self._goods[self._good_of[index]]
        row, column = self._places[int(dice.integers(0, len(self._places)))]
        window = _window_around(int(row), int(column), picture.shape)
        pixels, fellow = picture[window].copy(), self._pictures[other]
        if dice.random() < 0.5:
            mix_in(pixels, fellow[window], dice)
        step = paint_some(pixels, (fellow, picture), dice)
        return finish_sample(pixels, step, GoodPart(good.picture[window], good.spread[window]), dice)


def paint_some(pixels: BgrImage, sources: tuple[BgrImage, BgrImage], dice: np.random.Generator) -> Floats:
    """Paint no, one or several defects in place; the (h, w) step they made, in grey levels."""
    step = np.zeros(pixels.shape[:2], np.float32)
    if dice.random() < DEFECT_SHARE:
        for _ in range(int(dice.integers(1, MOST_DEFECTS + 1))):
            step = np.maximum(step, paint_change(pixels, sources[int(dice.random() >= 0.5)], dice))
    return step


def finish_sample(pixels: BgrImage, step: Floats, good: GoodPart, dice: np.random.Generator) -> TrainingSample:
    """What a photograph of the pixels shows beside the good part; `step` is what was painted, in grey levels.

    Everything is CROP_PX + 2 RIM_PX a side.
    """
    return _flip(*_photograph(pixels, step, dice), good, dice)


def _cut(picture: BgrImage) -> BgrImage:
    return picture[CUT_PX:-CUT_PX, CUT_PX:-CUT_PX]


def _window_around(row: int, column: int, shape: tuple[int, ...]) -> tuple[slice, slice]:
    spans = []
    for cell, length in ((row, shape[0]), (column, shape[1])):
        side = min(CROP_PX + 2 * RIM_PX, length)
        start = min(max(0, (cell + RIM_CELLS) * CELL_PX - side // 2), length - side)
        spans.append(slice(start, start + side))
    return spans[0], spans[1]


def mix_in(pixels: BgrImage, other: BgrImage, dice: np.random.Generator) -> None:
    """What another good part shows at the same place is good, in patches or as a faint whole."""
    height, width = pixels.shape[:2]
    if dice.random() < 0.6:
        share = _patch(height, width, dice) * np.float32(dice.uniform(0.5, 1.0))
    else:
        share = np.full((height, width), dice.uniform(0.0, 0.6), np.float32)
    _blend(pixels, other.astype(np.float32), share)


def paint_change(pixels: BgrImage, source: BgrImage, dice: np.random.Generator) -> Floats:
    """Paint one defect in place, pieces being taken from `source`; the (h, w) step it made, in grey levels."""
    kind = CHANGE if dice.random() < CHANGE_SHARE else PAINTED[int(dice.integers(0, len(PAINTED)))]
    least = LEAST_LINE_PX if kind in LINES else SMALLEST_PX
    side = max(least, round(float(np.exp(dice.uniform(np.log(SMALLEST_PX), np.log(LARGEST_PX))))))
    side = min(side, *pixels.shape[:2])
    y, x = (int(dice.integers(0, length - side + 1)) for length in pixels.shape[:2])
    before = pixels.copy()
    window = pixels[y : y + side, x : x + side]
    if kind == CHANGE:
        top, left = (int(dice.integers(0, length - side + 1)) for length in source.shape[:2])
        _paint_any(window, source[top : top + side, left : left + side], dice)
    else:
        turn = float(dice.uniform(0, 2 * np.pi))
        stage = spoiling.Stage(source, (float(np.cos(turn)), float(np.sin(turn))))
        spoiling.PAINTERS[kind][0](window, stage, dice)
    return np.asarray(cv2.absdiff(before, pixels).max(axis=2), np.float32)


def _paint_any(window: BgrImage, piece: BgrImage, dice: np.random.Generator) -> None:
    """A patch of any shape whose light, contrast, sharpness or texture changed, or that comes from elsewhere."""
    height, width = window.shape[:2]
    seen = window.astype(np.float32)
    look = int(dice.integers(0, 6))
    if look == 0:
        changed = seen * np.float32(dice.uniform(0.4, 1.8))
    elif look == 1:
        changed = seen + np.float32(dice.normal(0, 40))
    elif look == 2:
        changed = piece.astype(np.float32)
    elif look == 3:
        changed = np.asarray(cv2.GaussianBlur(seen, (0, 0), float(dice.uniform(1.5, 6.0))), np.float32)
    elif look == 4:
        grains = [max(2, side // int(dice.integers(1, 6))) for side in (height, width)]
        noise = dice.normal(0, dice.uniform(10, 60), grains).astype(np.float32)
        changed = seen + np.asarray(cv2.resize(noise, (width, height)), np.float32)[..., None]
    else:
        middle = seen.mean(axis=(0, 1))
        changed = middle + (seen - middle) * np.float32(dice.uniform(-0.5, 2.5))
    _blend(window, changed, _patch(height, width, dice) * np.float32(dice.uniform(0.3, 1.0)))


def _patch(height: int, width: int, dice: np.random.Generator) -> Floats:
    """(h, w) 0..1: one or several islands with soft or hard shores, 0 at the border."""
    grid = dice.normal(0, 1, tuple(dice.integers(2, 9, 2))).astype(np.float32)
    noise = np.asarray(cv2.resize(grid, (width, height), interpolation=cv2.INTER_CUBIC), np.float32)
    ys, xs = np.linspace(-1, 1, height, dtype=np.float32), np.linspace(-1, 1, width, dtype=np.float32)
    inside = 1.0 - xs[None, :] ** 2 - ys[:, None] ** 2
    land = 1.2 * inside + noise * np.float32(dice.uniform(0.2, 0.8)) - np.float32(dice.uniform(0.1, 0.6))
    shaped = np.clip(land * np.float32(dice.uniform(1, 8)), 0, 1) * np.clip(6.0 * inside, 0, 1)
    return np.asarray(shaped, np.float32)


def _blend(pixels: BgrImage, changed: Floats, share: Floats) -> None:
    mixed = pixels + share[..., None] * (changed - pixels)
    pixels[:] = np.clip(mixed + 0.5, 0, 255).astype(np.uint8)


def _photograph(pixels: BgrImage, step: Floats, dice: np.random.Generator) -> tuple[Floats, Floats]:
    """The painted part as another photograph shows it: moved a little, under other light, with noise."""
    height, width = step.shape
    turn, scale = float(np.degrees(dice.normal(0, 0.004))), float(1.0 + dice.normal(0, 0.003))
    motion = np.asarray(cv2.getRotationMatrix2D((width / 2, height / 2), turn, scale), np.float64)
    motion[:, 2] += dice.normal(0, 0.6, 2)
    how = cv2.INTER_LINEAR if dice.random() < 0.5 else cv2.INTER_CUBIC
    moved = cv2.warpAffine(pixels, motion, (width, height), flags=how, borderMode=cv2.BORDER_REFLECT_101)
    step = np.asarray(cv2.warpAffine(step, motion, (width, height)), np.float32)
    field = dice.normal(0, 0.06, (3, 3)).astype(np.float32)
    light = 1.0 + np.asarray(cv2.resize(field, (width, height), interpolation=cv2.INTER_CUBIC), np.float32)
    gains = ((1.0 + dice.normal(0, 0.04)) * (1.0 + dice.normal(0, 0.015, 3))).astype(np.float32)
    shown = moved.astype(np.float32) * light[..., None] * gains
    if dice.random() < 0.3:
        shown = np.asarray(cv2.GaussianBlur(shown, (0, 0), float(dice.uniform(0.3, 1.0))), np.float32)
    if dice.random() < 0.5:
        shown = shown + dice.standard_normal(shown.shape, np.float32) * np.float32(dice.uniform(0.0, 4.0))
    return np.clip(shown, 0, 255), step


def _flip(pixels: Floats, step: Floats, good: GoodPart, dice: np.random.Generator) -> TrainingSample:
    rim = np.s_[RIM_PX:-RIM_PX, RIM_PX:-RIM_PX]
    axes = tuple(axis for axis in (0, 1) if dice.random() < 0.5)
    pixels, step = (np.ascontiguousarray(np.flip(array[rim], axes)) for array in (pixels, step))
    picture, spread = (np.ascontiguousarray(np.flip(array[rim], axes)) for array in (good.picture, good.spread))
    target = (_share(step >= CHANGED_LEVELS) >= LEAST_SHARE).astype(np.float32)
    touched = _share(step >= FAINT_LEVELS) > 0
    weight = np.where((target == 0) & touched, np.float32(0.0), np.float32(1.0))
    levels = spread.astype(np.float32) / np.float32(SPREAD_STEPS)
    return TrainingSample(pixels, picture.astype(np.float32), levels, target, weight)


def _share(mask: NDArray[np.bool_]) -> Floats:
    """(h, w) share of each cell's pixels that a mask holds."""
    size = (mask.shape[1] // CELL_PX, mask.shape[0] // CELL_PX)
    return np.asarray(cv2.resize(mask.astype(np.float32), size, interpolation=cv2.INTER_AREA), np.float32)
