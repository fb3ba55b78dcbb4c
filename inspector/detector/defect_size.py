"""Scores of regions that are large enough: what is smaller than the least defect raises no alarm (pure)."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray


def fewest_cells(min_defect_px: int, cell_px: int) -> int:
    """Connected cells of `cell_px` x `cell_px` pixels that hold `min_defect_px` pixels; at least one."""
    return max(1, -(-min_defect_px // (cell_px * cell_px)))


def score_of_size(scores: NDArray[np.float32], fewest: int) -> float:
    """The highest level at which a (h, w) map has a connected region (8 neighbours) of at least `fewest` cells.

    A region that large lies at or above a threshold exactly when this score does, so that one number decides as
    before and thresholds are calibrated on it. It is the maximum of the map's area opening (Vincent, "Grayscale area
    openings and closings", 1993); the map's maximum for one cell, and its minimum when it has fewer cells in all.
    """
    if fewest <= 1:
        return float(scores.max())
    levels = np.sort(scores, axis=None)[::-1]
    if len(levels) <= fewest:
        return float(levels[-1])
    # So many cells must lie at or above the level at least: search from there downwards, first in growing steps.
    too_high, reach = fewest - 2, fewest - 1
    while reach < len(levels) - 1 and not _has_region(scores, float(levels[reach]), fewest):
        too_high, reach = reach, min(2 * reach + 1, len(levels) - 1)
    while reach - too_high > 1:
        middle = (too_high + reach) // 2
        if _has_region(scores, float(levels[middle]), fewest):
            reach = middle
        else:
            too_high = middle
    return float(levels[reach])


def _has_region(scores: NDArray[np.float32], level: float, fewest: int) -> bool:
    above = (scores >= level).astype(np.uint8)
    _, _, stats, _ = cv2.connectedComponentsWithStats(above, connectivity=8)
    return bool((stats[1:, cv2.CC_STAT_AREA] >= fewest).any())
