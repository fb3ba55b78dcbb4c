"""Random masks on a part: what a twin is asked to paint when the truth is known."""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from inspector.records import BoxPx

SIDES_PX = (16, 256)
LONGEST_ASPECT = 2.5
LARGEST_SHARE = 2 / 3
"""A mask covers at most this share of a frame's width and height: on small frames something must be left to see."""
ATTEMPTS = 20
ON_PART = 0.9
"""A place is good enough when so much of the mask lies on the part."""
BLOB_WAVES = 5
BLOB_POINTS = 96

Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class SampledMask:
    """One mask (H, W) bool of one shape. `box_xyxy_px` bounds it."""

    shape: str
    box_xyxy_px: BoxPx
    mask: Mask


def sample_mask(dice: np.random.Generator, part: Mask) -> SampledMask:
    """A rectangle, an ellipse or an irregular blob somewhere on `part` (H, W) bool.

    The longer side is log-uniform in 16..256 px, the other up to 2.5 times shorter. The centre lies on the part, and
    of 20 places the first is taken where nine tenths of the mask do, else the best. Raises `ValueError` for no part.
    """
    places = np.argwhere(part)
    if not len(places):
        raise ValueError("there is no part to place a mask on")
    shape = ("rectangle", "ellipse", "blob")[int(dice.integers(3))]
    drawn = _draw_shape(dice, shape, *_draw_size(dice, part.shape[1], part.shape[0]))
    height, width = drawn.shape
    best, corner = -1.0, (0, 0)
    for _ in range(ATTEMPTS):
        row, column = (int(value) for value in places[int(dice.integers(len(places)))])
        top = min(max(0, row - height // 2), part.shape[0] - height)
        left = min(max(0, column - width // 2), part.shape[1] - width)
        share = float(part[top : top + height, left : left + width][drawn].mean())
        if share > best:
            best, corner = share, (top, left)
        if best >= ON_PART:
            break
    top, left = corner
    mask = np.zeros(part.shape, np.bool_)
    mask[top : top + height, left : left + width] = drawn
    return SampledMask(shape, (left, top, left + width, top + height), mask)


def _draw_size(dice: np.random.Generator, width_px: int, height_px: int) -> tuple[int, int]:
    """(width, height) of a mask."""
    low, high = SIDES_PX
    longer = math.exp(dice.uniform(math.log(low), math.log(high)))
    shorter = longer / math.exp(dice.uniform(0.0, math.log(LONGEST_ASPECT)))
    sides = (longer, shorter) if dice.random() < 0.5 else (shorter, longer)
    limits = (width_px * LARGEST_SHARE, height_px * LARGEST_SHARE)
    wide, high_px = (max(4, int(min(side, limit))) for side, limit in zip(sides, limits, strict=True))
    return min(wide, width_px), min(high_px, height_px)


def _draw_shape(dice: np.random.Generator, shape: str, width: int, height: int) -> Mask:
    """(height, width) bool, touching all four sides but for the roundness of a pixel."""
    if shape == "rectangle":
        return np.ones((height, width), np.bool_)
    angles = np.linspace(0.0, 2.0 * np.pi, BLOB_POINTS, endpoint=False)
    radius = np.ones(BLOB_POINTS)
    if shape == "blob":
        for wave in range(2, 2 + BLOB_WAVES):
            radius += dice.uniform(0.0, 0.5 / wave) * np.cos(wave * angles + dice.uniform(0.0, 2.0 * np.pi))
    points = np.stack([radius * np.cos(angles), radius * np.sin(angles)], axis=1)
    points -= points.min(axis=0)
    points *= (np.array([width, height]) - 1) / points.max(axis=0)
    drawn = cv2.fillPoly(np.zeros((height, width), np.uint8), [np.rint(points).astype(np.int32)], 1)
    return np.asarray(drawn > 0, np.bool_)
