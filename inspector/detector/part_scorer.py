"""The scorer of located parts: register, screen the whole part, look closer where it is suspicious.

The unit of every score is "times the usual good part": each level's distance (root mean square z of the whitened
features) is divided by what the worst place of a median good image shows at that level, so 1.0 is an
ordinary good part whatever the level, and image score, map and thresholds compare directly.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from inspector.detector.features import CELL_PX, MARGIN_PX, FeatureBank, pad_to_cells
from inspector.detector.part_model import Cells, Mask, PartStatistics, smooth
from inspector.detector.regions import find_detections, map_to_frame
from inspector.detector.screen import (
    MAX_TILES,
    TILE_WORTH_LOOKING,
    cell_grid,
    merge_tile,
    reduce_to_screen,
    tile_cells,
)
from inspector.errors import RecipeMismatchError
from inspector.geometry.registration import Matrix, Reference, register, scale_matrix
from inspector.geometry.tiles import Tile, worst_tiles
from inspector.records import AnomalyMap, BgrImage, Registration, Scoring, Thresholds


@dataclass(frozen=True, slots=True)
class PartLevel:
    """One scale of looking: its statistics, how far it smooths (cells) and the distance that scores 1.0."""

    statistics: PartStatistics
    smooth_cells: int
    unit: float = 1.0

    def score(self, features: Cells, row: int, column: int, tolerance: int) -> Cells:
        distance = self.statistics.distance(features, row, column, tolerance)
        return smooth(distance, self.smooth_cells) / np.float32(self.unit)


@dataclass(frozen=True, slots=True)
class PartModel:
    """Everything learned about a located part.

    `part` is (h, w) bool over the screen cells: where the part is judged. `ratio` is frame pixels per screen
    pixel; the statistics of `close` lie at full resolution and are None when the screen already does.
    """

    frame_size: tuple[int, int]
    ratio: int
    reference: Reference
    part: Mask
    tolerance: int
    screen: PartLevel
    close: PartLevel | None
    confidence_limit: float
    thresholds: Thresholds


@dataclass(frozen=True, slots=True)
class RegisteredFrame:
    """A frame with its screen in the reference's pose. `seen` is (h, w) bool: cells that lie inside the frame."""

    pixels: BgrImage
    registration: Registration
    screen: BgrImage
    seen: Mask


class PartScorer:
    """`Scorer` of a located part. Thread-safe: nothing is kept between frames."""

    def __init__(self, model: PartModel, bank: FeatureBank) -> None:
        self._model = model
        self._bank = bank

    @property
    def thresholds(self) -> Thresholds:
        return self._model.thresholds

    @property
    def frame_size(self) -> tuple[int, int] | None:
        return self._model.frame_size

    def score_frame(self, pixels: BgrImage) -> Scoring:
        """See `Scorer.score_frame`."""
        model = self._model
        check_frame_size(pixels, model.frame_size)
        frame = register_frame(model.reference, model.ratio, pixels)
        scores = self._screen(frame)
        if model.close is not None:
            scores = self._look_closer(frame, scores, model.close)
        return self._report(frame, scores)

    def _screen(self, frame: RegisteredFrame) -> Cells:
        model = self._model
        features = self._bank.compute(pad_to_cells(frame.screen))
        return np.where(frame.seen & model.part, model.screen.score(features, 0, 0, model.tolerance), np.float32(0.0))

    def _look_closer(self, frame: RegisteredFrame, scores: Cells, close: PartLevel) -> Cells:
        model = self._model
        judged = frame.seen & model.part
        looked = scores.copy()
        for tile in worst_tiles(scores, tile_cells(model.ratio), MAX_TILES, TILE_WORTH_LOOKING):
            features = tile_features(self._bank, frame, tile, model.ratio)
            fine = close.score(features, tile.row * model.ratio, tile.column * model.ratio, model.tolerance)
            merge_tile(looked, judged, tile, fine, model.ratio)
        return looked

    def _report(self, frame: RegisteredFrame, scores: Cells) -> Scoring:
        model, matrix = self._model, frame.registration.matrix
        cell_px = CELL_PX * model.ratio
        grid = cell_grid(*model.frame_size, model.ratio)
        confidence = frame.registration.confidence
        oddities: tuple[str, ...] = ()
        if confidence < model.confidence_limit:
            oddities = (f"registration confidence {confidence:.2f} below {model.confidence_limit:.2f}",)
        return Scoring(
            score=float(scores.max()),
            anomaly_map=AnomalyMap(map_to_frame(scores, matrix, cell_px, grid), cell_px),
            detections=find_detections(scores, model.thresholds.review, cell_px, matrix, model.frame_size),
            registration=frame.registration,
            oddities=oddities,
        )


def check_frame_size(pixels: BgrImage, frame_size: tuple[int, int]) -> None:
    """Raise `RecipeMismatchError` unless the frame is (width, height)."""
    size = (pixels.shape[1], pixels.shape[0])
    if size != frame_size:
        raise RecipeMismatchError(
            f"frame is {size[0]}x{size[1]} px, the recipe was fitted on {frame_size[0]}x{frame_size[1]}; "
            "use the camera's recipe or fit a new one"
        )


def register_frame(reference: Reference, ratio: int, pixels: BgrImage) -> RegisteredFrame:
    """Lay a frame's screen into the reference's pose; `ratio` is frame pixels per screen pixel."""
    return register_screen(reference, ratio, pixels, reduce_to_screen(pixels, ratio))


def register_screen(reference: Reference, ratio: int, pixels: BgrImage, screen: BgrImage) -> RegisteredFrame:
    """As `register_frame`, for a frame whose screen exists already."""
    found = register(reference, screen)
    size = (screen.shape[1], screen.shape[0])
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    laid = cv2.warpAffine(screen, found.matrix, size, flags=flags, borderMode=cv2.BORDER_REFLECT_101)
    registration = replace(found, matrix=scale_matrix(found.matrix, 1.0 / ratio))
    return RegisteredFrame(pixels, registration, np.asarray(laid, np.uint8), seen_cells(found.matrix, size))


def seen_cells(matrix: Matrix, size: tuple[int, int]) -> Mask:
    """Which cells of the reference lie wholly inside a frame of `size`; the frame's own last cells always count."""
    rows, columns = -(-size[1] // CELL_PX), -(-size[0] // CELL_PX)
    inside = np.ones((2, rows + 1, columns + 1), np.bool_)
    ys, xs = np.arange(rows + 1) * CELL_PX - 0.5, np.arange(columns + 1) * CELL_PX - 0.5
    for axis, limit in ((0, columns * CELL_PX), (1, rows * CELL_PX)):
        place = matrix[axis, 0] * xs[None, :] + matrix[axis, 1] * ys[:, None] + matrix[axis, 2]
        inside[axis] = (place > -1.5) & (place < limit + 0.5)
    corner = inside[0] & inside[1]
    return np.asarray(corner[:-1, :-1] & corner[1:, :-1] & corner[:-1, 1:] & corner[1:, 1:], np.bool_)


def tile_features(bank: FeatureBank, frame: RegisteredFrame, tile: Tile, ratio: int) -> NDArray[np.float32]:
    """Full-resolution features of one tile in the reference's pose: (C, rows * ratio, columns * ratio)."""
    cell = CELL_PX * ratio
    size = (tile.columns * cell + 2 * MARGIN_PX, tile.rows * cell + 2 * MARGIN_PX)
    matrix = frame.registration.matrix.copy()
    matrix[:, 2] += matrix[:, :2] @ (tile.column * cell - MARGIN_PX, tile.row * cell - MARGIN_PX)
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    cut = cv2.warpAffine(frame.pixels, matrix, size, flags=flags, borderMode=cv2.BORDER_REFLECT_101)
    return bank.compute(np.asarray(cut, np.uint8))
