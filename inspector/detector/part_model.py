"""Located parts: what each position of a registered part looks like, and how far a part is from it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

SMALLEST_SD = 0.01
"""Whitened features have a standard deviation of about one over good parts; this only keeps constant sets finite."""
SD_FLOOR_SHARE = 1.0
"""A position that happened to be quiet in the few good images is hardly quieter than the usual one."""
LARGEST_SQUARE = 144.0
BAND_ROWS = 12

Cells: TypeAlias = NDArray[np.float32]
HalfCells: TypeAlias = NDArray[np.float16]
Mask: TypeAlias = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class PartStatistics:
    """Mean and inverse standard deviation for each channel and cell of a window of the part: both (C, h, w) float16."""

    mean: HalfCells
    inverse_sd: HalfCells


class PositionModel:
    """Statistics made ready for scoring with a tolerance of ±`tolerance` cells. Read only, so thread-safe."""

    def __init__(self, statistics: PartStatistics, tolerance: int) -> None:
        rim = ((0, 0), (tolerance, tolerance), (tolerance, tolerance))
        self.tolerance = tolerance
        self._mean = np.pad(statistics.mean, rim, mode="edge")
        self._inverse_sd = np.pad(statistics.inverse_sd, rim, mode="edge")

    def distance(self, features: Cells, row: int, column: int) -> Cells:
        """(h, w) distance of (C, h, w) features whose first cell is (`row`, `column`) of the statistics."""
        rows, columns = features.shape[1] + 2 * self.tolerance, features.shape[2] + 2 * self.tolerance
        window = np.s_[:, row : row + rows, column : column + columns]
        mean, inverse_sd = self._mean[window].astype(np.float32), self._inverse_sd[window].astype(np.float32)
        return part_distance(features, mean, inverse_sd, self.tolerance)


def part_distance(features: Cells, mean: Cells, inverse_sd: Cells, tolerance: int) -> Cells:
    """(h, w) distance of (C, h, w) features: root mean square z, the least over shifts of ±`tolerance` cells.

    `mean` and `inverse_sd` carry a rim of `tolerance` cells. Worked in bands of rows that stay in the cache.
    """
    channels, height, width = features.shape
    best = np.full((height, width), LARGEST_SQUARE * channels, np.float32)
    for top in range(0, height, BAND_ROWS):
        bottom = min(top + BAND_ROWS, height)
        band = np.ascontiguousarray(features[:, top:bottom])
        z, total = np.empty_like(band), np.empty(band.shape[1:], np.float32)
        for dy in range(2 * tolerance + 1):
            for dx in range(2 * tolerance + 1):
                window = np.s_[:, top + dy : bottom + dy, dx : dx + width]
                np.subtract(band, mean[window], out=z)
                np.multiply(z, inverse_sd[window], out=z)
                np.multiply(z, z, out=z)
                np.add.reduce(z, axis=0, out=total)
                np.minimum(best[top:bottom], total, out=best[top:bottom])
    return np.asarray(np.sqrt(best / channels), np.float32)


def smooth(distance: Cells, cells: int) -> Cells:
    """Box mean over `cells`, so that one noisy cell is not a defect."""
    return np.asarray(cv2.blur(distance, (cells, cells), borderType=cv2.BORDER_REFLECT_101), np.float32)


class MomentSums:
    """Running sums over good images, from which the statistics without any of them follow in closed form."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.count = 0
        self._sum = np.zeros(shape, np.float32)
        self._squares = np.zeros(shape, np.float32)

    def add(self, features: Cells) -> None:
        """One more good image: (C, h, w) float32."""
        self.count += 1
        self._sum += features
        self._squares += features * features

    def usual_variance(self, part: Mask) -> Cells:
        """(C,) median variance over the cells of the part."""
        mean = self._sum / self.count
        variance = np.maximum(self._squares / self.count - mean * mean, 0.0) * (self.count / max(1, self.count - 1))
        return np.asarray(np.median(variance[:, part], axis=1), np.float32)

    def statistics(self, usual_variance: Cells) -> PartStatistics:
        """Of all images added."""
        return _statistics(self._sum, self._squares, self.count, usual_variance)

    def without(self, features: Cells, usual_variance: Cells, row: int = 0, column: int = 0) -> PartStatistics:
        """Of all images but one, in the window of that image's `features` which starts at (`row`, `column`)."""
        window = np.s_[:, row : row + features.shape[1], column : column + features.shape[2]]
        total, squares = self._sum[window] - features, self._squares[window] - features * features
        return _statistics(total, squares, self.count - 1, usual_variance)


def _statistics(total: Cells, squares: Cells, count: int, usual_variance: Cells) -> PartStatistics:
    """Mean and standard deviation, the variance pooled over 3x3 cells and floored by the usual one."""
    mean = total / count
    variance = np.maximum(squares / count - mean * mean, 0.0) * (count / max(1, count - 1))
    for channel in variance:
        channel[:] = cv2.blur(channel, (3, 3))
    floor = SD_FLOOR_SHARE**2 * usual_variance[:, None, None] + SMALLEST_SD**2
    return PartStatistics(mean.astype(np.float16), (1.0 / np.sqrt(variance + floor)).astype(np.float16))
