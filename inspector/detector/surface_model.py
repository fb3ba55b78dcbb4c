"""Surfaces and parts without a fixed pose: what a filter answers on good material, by distance to the border.

Each filter's answer becomes a z-score against good images at the same distance from the frame's border, the
largest z of all filters is smoothed, and that map is calibrated by distance to the border once more.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from inspector.detector.comparison import Cells

BORDER_EDGES = (0, 1, 2, 3, 4, 6, 8, 12, 24)
"""Distances to the border, in cells, at which a new bin begins."""
RINGS = len(BORDER_EDGES)
BINS = RINGS * RINGS
UPPER_QUANTILE = 0.99
SCALE_FLOOR_SHARE = 0.3
SMALLEST_LEVEL = 1e-3
SMALLEST_SCALE = 0.05
"""In units of the image's mean answer, respectively of z: only constant images come near it."""
SAMPLES_PER_BIN = 200
LEVEL_STEP = 3


@dataclass(frozen=True, slots=True)
class SurfaceStatistics:
    """Calibration by border bin: `location`, `scale` (C, BINS) of the filters; `map_location`, `map_scale` (BINS,).

    Filter answers are in units of the image's own mean answer (`image_level`).
    """

    location: Cells
    scale: Cells
    map_location: Cells
    map_scale: Cells


@dataclass(frozen=True, slots=True)
class BorderMaps:
    """The statistics spread over a frame of (h, w) cells; `gain` and `offset` are (C, h, w), the others (h, w)."""

    gain: Cells
    offset: Cells
    map_gain: Cells
    map_offset: Cells


def border_rings(length: int) -> NDArray[np.int64]:
    """(length,) ring of each cell along one axis: 0 at both ends."""
    places = np.arange(length)
    return np.searchsorted(BORDER_EDGES, np.minimum(places, places[::-1]), side="right") - 1


def border_bins(rows: int, columns: int, window: tuple[int, int, int, int] | None = None) -> NDArray[np.int64]:
    """(h, w) bin of each cell of a frame: ring from top or bottom times ring from left or right.

    With `window` (row, column, rows, columns) only of its cells.
    """
    top, left, height, width = window or (0, 0, rows, columns)
    vertical, horizontal = border_rings(rows)[top : top + height], border_rings(columns)[left : left + width]
    return np.asarray(vertical[:, None] * RINGS + horizontal[None, :], np.int64)


def spread_over(statistics: SurfaceStatistics, rows: int, columns: int) -> BorderMaps:
    """The statistics at each cell of a frame."""
    return spread_over_window(statistics, (rows, columns), (0, 0, rows, columns))


def spread_over_window(
    statistics: SurfaceStatistics, grid: tuple[int, int], window: tuple[int, int, int, int]
) -> BorderMaps:
    """The statistics at the cells of a `window` (row, column, rows, columns) of a frame of `grid` cells."""
    rows, columns = window[2:]
    bins = border_bins(*grid, window)
    gain, map_gain = 1.0 / statistics.scale, 1.0 / statistics.map_scale
    sources = (gain, statistics.location * gain, map_gain, statistics.map_location * map_gain)
    if bins.min() == bins.max():
        index = int(bins[0, 0])
        spread = [
            np.broadcast_to(source[..., index, None, None], (*source.shape[:-1], rows, columns)) for source in sources
        ]
    else:
        spread = [source[..., bins] for source in sources]
    return BorderMaps(*spread)


def image_level(features: Cells) -> Cells:
    """(C,) mean answer of each filter over an image, from every third cell: takes out gain, focus and noise."""
    sampled = features[:, LEVEL_STEP // 2 :: LEVEL_STEP, LEVEL_STEP // 2 :: LEVEL_STEP]
    sampled = sampled if sampled.size else features
    return np.asarray(sampled.reshape(len(features), -1).mean(axis=1) + SMALLEST_LEVEL, np.float32)


def calibrated(worst: Cells, maps: BorderMaps, smooth_cells: int) -> Cells:
    """(h, w) smoothed map in units of what good material shows at this distance from the border, never negative."""
    smoothed = cv2.blur(worst, (smooth_cells, smooth_cells), borderType=cv2.BORDER_REFLECT_101)
    return np.asarray(np.maximum(smoothed * maps.map_gain - maps.map_offset, 0.0), np.float32)


class BinSamples:
    """Values gathered by border bin, thinned so that every image weighs the same and memory stays small."""

    def __init__(self) -> None:
        self._values: list[list[Cells]] = [[] for _ in range(BINS)]

    def add(self, values: Cells, bins: NDArray[np.int64]) -> None:
        """(C, h, w) values of one image or strip and their (h, w) bins."""
        flat, where = values.reshape(len(values), -1), bins.ravel()
        order = np.argsort(where, kind="stable")
        starts = np.searchsorted(where[order], np.arange(BINS + 1))
        for index in np.unique(where):
            chosen = order[starts[index] : starts[index + 1]]
            self._values[index].append(flat[:, chosen[:: max(1, len(chosen) // SAMPLES_PER_BIN)]])

    def location_and_scale(self, channels: int) -> tuple[Cells, Cells]:
        """Median and (upper quantile - median) by bin, both (C, BINS); bins never seen get the usual values."""
        location, scale = np.full((2, channels, BINS), np.nan, np.float32)
        for index, values in enumerate(self._values):
            if values:
                middle, upper = np.quantile(np.concatenate(values, axis=1), [0.5, UPPER_QUANTILE], axis=1)
                location[:, index], scale[:, index] = middle, upper - middle
        usual_location = np.nanmedian(location, axis=1, keepdims=True)
        usual_scale = np.nanmedian(scale, axis=1, keepdims=True)
        location = np.where(np.isnan(location), usual_location, location)
        scale = np.where(np.isnan(scale), usual_scale, scale)
        return location, np.maximum(scale, SCALE_FLOOR_SHARE * usual_scale) + np.float32(SMALLEST_SCALE)


def without_map_calibration(location: Cells, scale: Cells) -> SurfaceStatistics:
    """Statistics whose second calibration does nothing yet."""
    return SurfaceStatistics(location, scale, np.zeros(BINS, np.float32), np.ones(BINS, np.float32))


def with_map_calibration(statistics: SurfaceStatistics, smoothed_maps: Iterable[Cells]) -> SurfaceStatistics:
    """The statistics with the second calibration learned from held-out good images' smoothed maps."""
    samples = BinSamples()
    for smoothed in smoothed_maps:
        samples.add(smoothed[None], border_bins(*smoothed.shape))
    location, scale = samples.location_and_scale(1)
    return SurfaceStatistics(statistics.location, statistics.scale, location[0], scale[0])
