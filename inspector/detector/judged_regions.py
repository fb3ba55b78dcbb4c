"""Regions of a part with thresholds of their own, in the units of the recipe's one score.

A region's scores are stretched so that its own review and NG thresholds fall on the recipe's: the score of a part,
its map and its two thresholds keep their meaning, whatever the regions. A mark that measures less than the minimum
size where it lies is lowered to below what an ordinary good part shows, so that no threshold finds it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from inspector.detector.calibration import LOWEST_REVIEW
from inspector.detector.region_file import Labels
from inspector.records import Thresholds

Scores = NDArray[np.float32]

SIZE_MARGIN = 1.5
"""A measured size is an estimate: only what measures this much less than the minimum is surely too small."""
SPREAD_CELLS = 12
"""How much wider than itself the filters and the smoothing show a mark, on both sides together."""
TOO_SMALL_SCORE = float(np.nextafter(np.float32(LOWEST_REVIEW), np.float32(0.0)))
MOST_MEASURED = 64

MeasureMark = Callable[[tuple[int, int, int, int]], float | None]
"""The long side in frame pixels of the mark in a box x0, y0, x1, y1 of cells; None when it cannot be told."""


@dataclass(frozen=True, slots=True)
class Region:
    """`own` are its thresholds in the units of the map before it is stretched. `min_defect_px` None: none too small."""

    name: str
    own: Thresholds
    min_defect_px: float | None = None


@dataclass(frozen=True, slots=True)
class JudgedRegions:
    """What each cell of a part's window belongs to.

    `labels` (rows, columns) uint8 are indices of `regions`; the first region is what lies in none. `common` are the
    thresholds that all regions' own ones are stretched to: those of the fit, whatever a later calibration says.
    `mm_per_px` is the size of a frame pixel as the fit was told, None when it was not.
    """

    labels: Labels
    regions: tuple[Region, ...]
    common: Thresholds
    mm_per_px: float | None = None

    def stretch(self, scores: Scores) -> Scores:
        """A (rows, columns) map in the common unit."""
        stretched = scores.copy()
        for label, region in enumerate(self.regions):
            if region.own != self.common:
                here = self.labels == label
                stretched[here] = stretch_scores(scores[here], region.own, self.common)
        return stretched

    def name_at(self, row: int, column: int) -> str:
        """The region of a cell."""
        return self.regions[int(self.labels[row, column])].name

    def lower_small_marks(self, scores: Scores, threshold: float, cell_px: int, measure: MeasureMark) -> Scores:
        """The map without marks (connected regions at or above `threshold`) that are too small where they are worst.

        What the map itself shows to be larger than the minimum, less `SPREAD_CELLS`, is never called small, and
        beyond `MOST_MEASURED` marks none is: so many are no specks of dust.
        """
        if all(region.min_defect_px is None for region in self.regions):
            return scores
        above = np.asarray(scores >= threshold, np.uint8)
        count, labels, stats, _ = cv2.connectedComponentsWithStats(above, connectivity=8)
        if count - 1 > MOST_MEASURED:
            return scores
        kept = scores.copy()
        for label in range(1, count):
            left, top, width, height, _ = (int(value) for value in stats[label])
            window = np.s_[top : top + height, left : left + width]
            inside = labels[window] == label
            worst = int(np.where(inside, scores[window], -np.inf).argmax())
            smallest = self.regions[int(self.labels[window].ravel()[worst])].min_defect_px
            if smallest is None or (max(width, height) - SPREAD_CELLS) * cell_px >= smallest:
                continue
            size = measure((left, top, left + width, top + height))
            if size is not None and size * SIZE_MARGIN < smallest:
                kept[window][inside] = TOO_SMALL_SCORE
        return kept


def stretch_scores(scores: Scores, own: Thresholds, common: Thresholds) -> Scores:
    """Scores of a region in the common unit: straight lines through 0, its review and its NG threshold, and on."""
    values = scores.astype(np.float64)
    between = (values - own.review) / max(own.ng - own.review, 1e-12)
    stretched = np.where(
        values < own.review,
        values * (common.review / own.review),
        np.where(values < own.ng, common.review + between * (common.ng - common.review), values * (common.ng / own.ng)),
    )
    return stretched.astype(np.float32)
