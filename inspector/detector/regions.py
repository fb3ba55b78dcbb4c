"""From a map of scores to boxes that a person can look at."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray

from inspector.geometry.boxes import clip_box
from inspector.geometry.registration import Matrix, scale_matrix, transform_points, warp
from inspector.records import BoxPx, Detection

MAX_DETECTIONS = 32


def find_detections(
    scores: NDArray[np.float32],
    threshold: float,
    cell_px: int,
    matrix: Matrix | None,
    size: tuple[int, int],
    name_region: Callable[[int, int], str] | None = None,
) -> tuple[Detection, ...]:
    """Connected regions (8 neighbours) of a (h, w) map at or above `threshold`, worst first, `MAX_DETECTIONS` at most.

    `matrix` maps map pixels to frame pixels (None: they are the same), `size` is the frame's (width, height).
    `name_region` tells the region of a cell (row, column).
    """
    above = (scores >= threshold).astype(np.uint8)
    if not above.any():
        return ()
    count, labels, stats, _ = cv2.connectedComponentsWithStats(above, connectivity=8)
    worst = np.full(count, -np.inf, np.float32)
    np.maximum.at(worst, np.asarray(labels, np.int64).ravel(), scores.ravel())
    found = []
    for label in sorted(range(1, count), key=lambda index: (-worst[index], index)):
        left, top, width, height, cells = (int(value) for value in stats[label])
        box = (left * cell_px, top * cell_px, (left + width) * cell_px, (top + height) * cell_px)
        in_frame = clip_box(map_box(box, matrix), size)
        if in_frame is not None:
            region = None
            if name_region is not None:
                inside = np.where(labels == label, scores, -np.inf)
                region = name_region(*(int(place) for place in np.unravel_index(inside.argmax(), scores.shape)))
            area_px = cells * cell_px * cell_px
            found.append(Detection(in_frame, float(worst[label]), area_px=area_px, region=region))
        if len(found) == MAX_DETECTIONS:
            break
    return tuple(found)


def map_box(box: BoxPx, matrix: Matrix | None) -> BoxPx:
    """The box around a box's mapped corners."""
    if matrix is None:
        return box
    x0, y0, x1, y1 = (edge - 0.5 for edge in box)
    corners = transform_points(matrix, np.array([[x0, y0], [x1, y0], [x0, y1], [x1, y1]])) + 0.5
    low, high = np.floor(corners.min(axis=0) + 1e-6), np.ceil(corners.max(axis=0) - 1e-6)
    return int(low[0]), int(low[1]), int(high[0]), int(high[1])


def map_to_frame(
    scores: NDArray[np.float32], matrix: Matrix | None, cell_px: int, grid: tuple[int, int]
) -> NDArray[np.float32]:
    """A map over the reference as a map over the frame of `grid` (rows, columns) cells; 0 where nothing is known."""
    if matrix is None:
        return scores
    in_cells = scale_matrix(matrix, cell_px)
    size, constant = (grid[1], grid[0]), cv2.BORDER_CONSTANT
    moved = warp(scores, in_cells, size, constant, forward=True, interpolation=cv2.INTER_NEAREST)
    return np.asarray(moved, np.float32)
