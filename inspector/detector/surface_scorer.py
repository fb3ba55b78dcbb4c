"""The scorer of surfaces: screen the whole frame, look closer at full resolution where it is suspicious.

The unit of every score is "times the usual good image", as for located parts: each level's map is divided by the
worst place of a median good image.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from inspector.detector.comparison import Cells, LargestZ
from inspector.detector.experience import Experience, describe_oddities, look_at
from inspector.detector.features import CELL_PX, MARGIN_PX, FeatureBank, pad_to_cells
from inspector.detector.regions import find_detections
from inspector.detector.screen import MAX_TILES, TILE_WORTH_LOOKING, halve, merge_tile, tile_cells
from inspector.detector.surface_model import (
    BorderMaps,
    SurfaceStatistics,
    calibrated,
    image_level,
    spread_over,
    spread_over_window,
)
from inspector.geometry.tiles import Tile, worst_tiles
from inspector.records import AnomalyMap, BgrImage, Scoring, Thresholds

LARGEST_Z = 50.0


@dataclass(frozen=True, slots=True)
class SurfaceLevel:
    """One scale of looking: its statistics, how far it smooths (cells) and the map value that scores 1.0."""

    statistics: SurfaceStatistics
    smooth_cells: int
    unit: float = 1.0


@dataclass(frozen=True, slots=True)
class SurfaceModel:
    """Everything learned about a surface. `ratio` is frame pixels per screen pixel.

    `close_level_ratio` is (C,): a filter's mean answer at full resolution over that on the screen, so that a tile
    can be normalised by its whole image.
    """

    ratio: int
    screen: SurfaceLevel
    close: SurfaceLevel | None
    close_level_ratio: Cells
    experience: Experience
    thresholds: Thresholds


def largest_z(comparison: LargestZ, features: Cells, level: Cells, maps: BorderMaps) -> Cells:
    """(h, w) largest z of all filters against the statistics at each cell."""
    return comparison.compute(features, level, maps.gain, maps.offset)


class SurfaceScorer:
    """`Scorer` of a surface; accepts frames of any size. Thread-safe: the maps of the last frame size are only read."""

    def __init__(self, model: SurfaceModel, bank: FeatureBank) -> None:
        self._model = model
        self._bank = bank
        self._largest = LargestZ(LARGEST_Z)
        self._maps: tuple[tuple[int, int], BorderMaps] | None = None

    @property
    def thresholds(self) -> Thresholds:
        return self._model.thresholds

    @property
    def frame_size(self) -> tuple[int, int] | None:
        return None

    def score_frame(self, pixels: BgrImage) -> Scoring:
        """See `Scorer.score_frame`; never raises for the size."""
        model = self._model
        screen = halve(pixels, model.ratio)
        features = self._bank.compute(pad_to_cells(screen))
        level = image_level(features)
        maps = self._screen_maps(features.shape[1], features.shape[2])
        worst = largest_z(self._largest, features, level, maps)
        scores = calibrated(worst, maps, model.screen.smooth_cells) / np.float32(model.screen.unit)
        if model.close is not None:
            scores = self._look_closer(pixels, scores, model.close, level * model.close_level_ratio)
        cell_px = CELL_PX * model.ratio
        size = (pixels.shape[1], pixels.shape[0])
        return Scoring(
            score=float(scores.max()),
            anomaly_map=AnomalyMap(scores, cell_px),
            detections=find_detections(scores, model.thresholds.review, cell_px, None, size),
            oddities=describe_oddities(look_at(screen), model.experience),
        )

    def _look_closer(self, pixels: BgrImage, scores: Cells, close: SurfaceLevel, level: Cells) -> Cells:
        ratio = self._model.ratio
        looked = scores.copy()
        judged = np.ones(scores.shape, np.bool_)
        for tile in worst_tiles(scores, tile_cells(ratio), MAX_TILES, TILE_WORTH_LOOKING):
            features = self._bank.compute(cut_tile(pixels, tile, ratio))
            maps = tile_maps(close.statistics, tile, scores.shape, ratio)
            fine = calibrated(largest_z(self._largest, features, level, maps), maps, close.smooth_cells) / np.float32(
                close.unit
            )
            merge_tile(looked, judged, tile, fine, ratio)
        return looked

    def _screen_maps(self, rows: int, columns: int) -> BorderMaps:
        kept = self._maps
        if kept is None or kept[0] != (rows, columns):
            kept = ((rows, columns), spread_over(self._model.screen.statistics, rows, columns))
            self._maps = kept
        return kept[1]


def cut_tile(pixels: BgrImage, tile: Tile, ratio: int) -> BgrImage:
    """A tile at full resolution with its margin, mirrored where it leaves the frame."""
    cell = CELL_PX * ratio
    height, width = pixels.shape[:2]
    x0, y0 = tile.column * cell - MARGIN_PX, tile.row * cell - MARGIN_PX
    x1, y1 = (tile.column + tile.columns) * cell + MARGIN_PX, (tile.row + tile.rows) * cell + MARGIN_PX
    inside = pixels[max(0, y0) : min(height, y1), max(0, x0) : min(width, x1)]
    return np.asarray(
        cv2.copyMakeBorder(
            inside,
            max(0, -y0),
            max(0, y1 - height),
            max(0, -x0),
            max(0, x1 - width),
            cv2.BORDER_REFLECT_101,
        ),
        np.uint8,
    )


def tile_maps(statistics: SurfaceStatistics, tile: Tile, screen_grid: tuple[int, ...], ratio: int) -> BorderMaps:
    """The full-resolution statistics at the cells of a tile."""
    window = (tile.row * ratio, tile.column * ratio, tile.rows * ratio, tile.columns * ratio)
    return spread_over_window(statistics, (screen_grid[0] * ratio, screen_grid[1] * ratio), window)
