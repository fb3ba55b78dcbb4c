"""Random repair masks: what training, `fit` and the trials hide on a good part to see whether it is painted back."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

SHARE_OF_SIDE = 0.8
"""A mask never hides more than this of a side, or nothing is left to learn the light from."""
LEAST_SIDE_PX = 6
MOST_STRETCH = 0.7
"""The logarithm of the largest aspect ratio."""


def draw_mask(
    rng: np.random.Generator, height: int, width: int, least_px: int = 16, most_px: int = 256
) -> NDArray[np.bool_]:
    """(height, width) bool with one region: rectangle, ellipse, irregular blob or stroke.

    The longer side is drawn log-uniformly from `least_px` to `most_px`, and both are cut at `SHARE_OF_SIDE` of the
    frame, but at least one pixel is masked.
    """
    side = np.exp(rng.uniform(np.log(least_px), np.log(most_px)))
    stretch = np.exp(rng.uniform(-MOST_STRETCH, MOST_STRETCH))
    wide, high = (
        int(np.clip(side * ratio, LEAST_SIDE_PX, max(1.0, limit * SHARE_OF_SIDE)))
        for ratio, limit in ((min(1.0, stretch), width), (min(1.0, 1.0 / stretch), height))
    )
    left, top = int(rng.integers(0, width - wide + 1)), int(rng.integers(0, height - high + 1))
    mask = np.zeros((height, width), np.uint8)
    shape = int(rng.integers(0, 4))
    if shape == 0:
        mask[top : top + high, left : left + wide] = 1
    elif shape == 1:
        centre, axes = (left + wide // 2, top + high // 2), (max(1, wide // 2), max(1, high // 2))
        cv2.ellipse(mask, centre, axes, 0.0, 0.0, 360.0, 1, -1)
    elif shape == 2:
        points = (rng.uniform(0.0, 1.0, (9, 2)) * (wide, high) + (left, top)).astype(np.int32)
        cv2.fillPoly(mask, [cv2.convexHull(points)], 1)
    else:
        points = (rng.uniform(0.0, 1.0, (4, 2)) * (wide, high) + (left, top)).astype(np.int32)
        cv2.polylines(mask, [points], False, 1, min(wide, high, max(5, max(wide, high) // 8)))
    if not mask.any():
        mask[top : top + high, left : left + wide] = 1
    return np.asarray(mask > 0, np.bool_)
