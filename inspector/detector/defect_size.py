"""How large a defect is: measured on the pixels, because the filters of a score map spread every mark.

The frame is compared with the good part laid onto it. The defect is what leaves the good part's values within a
pixel by more than a quarter of the largest such difference in the box, as far as that reaches without a gap, and
where it reaches half of it somewhere.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from inspector.geometry.boxes import grow_box
from inspector.geometry.registration import Matrix, compose, invert, warp
from inspector.records import BgrImage, BoxPx

REACH_PX = 1
"""Misregistration and sharpness move an edge by about so much; a difference within it is none."""
NOISE_SIGMA_PX = 0.8
SHARE_OF_LARGEST = 0.25
"""Half of the largest would be the width of a blurred edge; much of a defect is fainter than its worst pixel."""
GAP_PX = 5
BEYOND_BOX_PX = 40
"""A box holds what reaches the threshold; the defect may go on outside it."""
LARGEST_MEASURED_PX = 512
LEAST_STEP = 6.0
"""Grey values; a region that differs by less everywhere has no edge that could be measured."""


def measure_size_px(pixels: BgrImage, golden: BgrImage, matrix: Matrix, box: BoxPx) -> float | None:
    """The long side, in frame pixels, of the smallest rectangle around the defect in `box`.

    `pixels` is the frame and `golden` the reference, both (H, W, 3) uint8 BGR at full resolution; `matrix` maps
    reference to frame pixels. A box longer than `LARGEST_MEASURED_PX` is the answer itself: it is large enough.
    None when the pixels of the box do not differ enough to tell.
    """
    longest = max(box[2] - box[0], box[3] - box[1])
    if longest > LARGEST_MEASURED_PX:
        return float(longest)
    window = grow_box(box, BEYOND_BOX_PX, (pixels.shape[1], pixels.shape[0]))
    if window is None:
        return None
    x0, y0, x1, y1 = window
    seen = pixels[y0:y1, x0:x1].astype(np.float32)
    corner = np.array([[1.0, 0.0, x0], [0.0, 1.0, y0]])
    to_reference = compose(invert(matrix), corner)
    laid = warp(golden, to_reference, (x1 - x0, y1 - y0))
    inside = np.zeros(seen.shape[:2], np.bool_)
    inside[box[1] - y0 : box[3] - y0, box[0] - x0 : box[2] - x0] = True
    around = ~inside if not inside.all() else inside
    step = _difference(seen, laid.astype(np.float32), around)
    largest = float(step[inside].max())
    if largest < LEAST_STEP:
        return None
    level = max(LEAST_STEP, largest * SHARE_OF_LARGEST)
    above = (step >= level).astype(np.uint8)
    _, labels = cv2.connectedComponents(cv2.morphologyEx(above, cv2.MORPH_CLOSE, np.ones((GAP_PX, GAP_PX), np.uint8)))
    strong = np.unique(labels[inside & (above > 0) & (step >= largest / 2)])
    rows, columns = np.nonzero(np.isin(labels, strong) & (above > 0))
    return _long_side(np.stack([columns, rows], axis=1))


def _difference(seen: NDArray[np.float32], good: NDArray[np.float32], around: NDArray[np.bool_]) -> NDArray[np.float32]:
    """(h, w) grey values by which `seen` leaves what `good` shows within `REACH_PX`, once the light is the same."""
    lit = good + (np.median(seen[around], axis=0) - np.median(good[around], axis=0))
    square = np.ones((2 * REACH_PX + 1, 2 * REACH_PX + 1), np.uint8)
    calm, shown = cv2.GaussianBlur(lit, (0, 0), NOISE_SIGMA_PX), cv2.GaussianBlur(seen, (0, 0), NOISE_SIGMA_PX)
    above, below = shown - cv2.dilate(calm, square), cv2.erode(calm, square) - shown
    return np.asarray(np.maximum(above, below).max(axis=2), np.float32)


def _long_side(points: NDArray[np.intp]) -> float:
    _, sides, _ = cv2.minAreaRect(points.astype(np.float32))
    return float(max(sides)) + 1.0
