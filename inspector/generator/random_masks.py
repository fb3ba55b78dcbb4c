"""Random repair masks, to measure repairs on parts without a defect: reproducible, 16 to 256 px, of three shapes."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

SMALLEST_PX = 16
LARGEST_PX = 256
MOST_OF_FRAME = 0.8


def draw_mask(random: np.random.Generator, width_px: int, height_px: int) -> NDArray[np.bool_]:
    """(H, W) bool with one region somewhere in a frame: a box, an ellipse or a convex polygon.

    The longer side is spread evenly over the logarithm from `SMALLEST_PX` to `LARGEST_PX`, and both are cut at
    `MOST_OF_FRAME` of the frame; the ratio of the sides goes up to two.
    """
    longer = float(np.exp(random.uniform(np.log(SMALLEST_PX), np.log(LARGEST_PX))))
    ratio = float(np.exp(random.uniform(-np.log(2.0), np.log(2.0))))
    sides = (longer * min(1.0, ratio), longer * min(1.0, 1.0 / ratio))
    wide, high = (
        int(np.clip(side, 1, max(1, round(MOST_OF_FRAME * limit))))
        for side, limit in zip(sides, (width_px, height_px), strict=True)
    )
    x, y = int(random.integers(0, width_px - wide + 1)), int(random.integers(0, height_px - high + 1))
    mask = np.zeros((height_px, width_px), np.uint8)
    shape = int(random.integers(3))
    if shape == 0:
        mask[y : y + high, x : x + wide] = 1
    elif shape == 1:
        cv2.ellipse(mask, (x + wide // 2, y + high // 2), (wide // 2, high // 2), 0, 0, 360, 1, -1)
    else:
        corners = (random.uniform(0.0, 1.0, (8, 2)) * (wide - 1, high - 1) + (x, y)).astype(np.int32)
        cv2.fillConvexPoly(mask, cv2.convexHull(corners), 1)
    return mask > 0
