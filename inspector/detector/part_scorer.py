"""The scorer of located parts: register, screen the whole part, look closer where it is suspicious.

The unit of every score is "times the usual good part": each level's distance (root mean square z of the whitened
features, or the largest deviation of a contrast) is divided by what the worst place of a median good image shows at
that level, so 1.0 is an ordinary good part whatever the level, and image score, map and thresholds compare directly.
The screen takes the larger of the banks that `fit` chose: energies and contrasts each find what the other averages
away. A net that `fit` chose has to agree with them, or judges alone.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np

from inspector.detector.change_net import ChangeNet, light_gain, smooth_each
from inspector.detector.comparison import Cells, LargestDeviation, PositionDistance
from inspector.detector.defect_size import measure_size_px
from inspector.detector.experience import Experience, describe_oddities, look_at
from inspector.detector.features import CELL_PX, MARGIN_PX, FeatureBank
from inspector.detector.judged_regions import JudgedRegions
from inspector.detector.part_model import (
    HeadName,
    Mask,
    NetLevel,
    PartLevel,
    PositionModel,
    join_heads,
    net_scores,
    smooth,
)
from inspector.detector.regions import find_detections, map_box, map_to_frame
from inspector.detector.screen import (
    MAX_TILES,
    TILE_WORTH_LOOKING,
    cell_grid,
    halve,
    merge_tile,
    tile_cells,
    whole_halvings,
)
from inspector.errors import RecipeMismatchError
from inspector.geometry.boxes import clip_box
from inspector.geometry.registration import (
    Matrix,
    Reference,
    compose,
    invert,
    register,
    scale_matrix,
    scaling,
    transform_points,
    warp,
)
from inspector.geometry.tiles import Tile, worst_tiles
from inspector.records import AnomalyMap, BgrImage, BoxPx, Registration, Scoring, Thresholds


@dataclass(frozen=True, slots=True)
class PartModel:
    """Everything learned about a located part.

    `ratio` is frame pixels per screen pixel. `window` is the bounding box of the part in screen cells and `part`
    (window.rows, window.columns) bool the cells in it where the part is judged. The statistics of `screen` and
    `contrast` have one cell for each cell of the window, those of `close` ratio x ratio; `close` is None for a
    ratio of 1. `look` is the mean good image as it is registered; several views are told apart by it.
    """

    frame_size: tuple[int, int]
    ratio: int
    reference: Reference
    window: Tile
    part: Mask
    tolerance: int
    heads: tuple[HeadName, ...]
    screen: PartLevel
    contrast: PartLevel
    close: PartLevel | None
    confidence_limit: float
    experience: Experience
    thresholds: Thresholds
    regions: JudgedRegions | None = None
    net: NetLevel | None = None
    look: BgrImage | None = None


@dataclass(frozen=True, slots=True)
class RegisteredFrame:
    """A frame and where the reference lies in it. `halved` is the frame reduced by the power of two `halving`."""

    pixels: BgrImage
    halved: BgrImage
    halving: int
    registration: Registration


class PartScorer:
    """`Scorer` of a located part. Thread-safe: nothing is kept between frames."""

    def __init__(
        self,
        model: PartModel,
        bank: FeatureBank,
        contrast_bank: FeatureBank,
        golden: BgrImage | None = None,
        net: ChangeNet | None = None,
    ) -> None:
        """`golden` is the reference at full resolution; without it no defect is measured. `net` is the model's net."""
        if ("net" in model.heads) != (net is not None and model.net is not None):
            raise ValueError("the net belongs to a model that judges by it")
        self._model = model
        self._golden = golden
        self._bank = bank
        self._contrast_bank = contrast_bank
        self._net = net
        self._largest = LargestDeviation()
        comparison = PositionDistance(model.tolerance)
        self._screen = PositionModel(model.screen.statistics, comparison)
        self._close = PositionModel(model.close.statistics, comparison) if model.close else None

    @property
    def thresholds(self) -> Thresholds:
        return self._model.thresholds

    @property
    def frame_size(self) -> tuple[int, int] | None:
        return self._model.frame_size

    def score_frame(self, pixels: BgrImage) -> Scoring:
        """See `Scorer.score_frame`."""
        check_frame_size(pixels, self._model.frame_size)
        return self.score_registered(register_frame(self._model.reference, self._model.ratio, pixels))

    def score_registered(self, frame: RegisteredFrame) -> Scoring:
        """As `score_frame`, for a frame in which the reference was found already."""
        model = self._model
        judged = model.part & seen_cells(frame.registration.matrix, model.window, model.ratio, model.frame_size)
        scores = self.screen_part(frame, judged)
        if model.close is not None:
            scores = self._look_closer(frame, judged, scores)
        return self._report(frame, scores)

    def screen_part(self, frame: RegisteredFrame, judged: Mask) -> Cells:
        """(window.rows, window.columns) scores of the whole part at screen scale, 0 where it is not judged."""
        model = self._model
        laid = lay_screen(frame, model.window, model.ratio)
        found: dict[HeadName, Cells] = {}
        if "energy" in model.heads:
            found["energy"] = _in_units(self._screen.distance(self._bank.compute(laid), 0, 0), model.screen)
        if "contrast" in model.heads:
            deviation = self._deviation(self._contrast_bank.compute(laid), model.contrast)
            found["contrast"] = _in_units(deviation, model.contrast)
        if self._net is not None and model.net is not None:
            gain = light_gain(laid, model.net.good.picture, model.part)
            said = smooth_each(self._net.compare(laid, model.net.good, gain))
            found["net"] = net_scores(said, model.net.level)
        joint_unit = model.net.joint_unit if model.net is not None else 1.0
        return np.where(judged, join_heads(found, joint_unit), np.float32(0.0))

    def _deviation(self, features: Cells, level: PartLevel) -> Cells:
        return self._largest.compute(features, level.statistics.mean, level.statistics.inverse_sd)

    def look_at_tile(self, frame: RegisteredFrame, tile: Tile) -> Cells:
        """(tile.rows * ratio, tile.columns * ratio) scores of a tile of the window in full resolution."""
        model = self._model
        if model.close is None or self._close is None:
            raise ValueError("the model has one scale: its screen is full resolution")
        features = close_features(self._bank, frame, model.window, tile, model.ratio)
        distance = self._close.distance(features, tile.row * model.ratio, tile.column * model.ratio)
        return np.asarray(smooth(distance, model.close.smooth_cells) / np.float32(model.close.unit), np.float32)

    def _look_closer(self, frame: RegisteredFrame, judged: Mask, scores: Cells) -> Cells:
        looked = scores.copy()
        for tile in worst_tiles(scores, tile_cells(self._model.ratio), MAX_TILES, TILE_WORTH_LOOKING):
            merge_tile(looked, judged, tile, self.look_at_tile(frame, tile), self._model.ratio)
        return looked

    def _report(self, frame: RegisteredFrame, scores: Cells) -> Scoring:
        model, window = self._model, self._model.window
        cell_px = CELL_PX * model.ratio
        grid = cell_grid(*model.frame_size, model.ratio)
        corner = np.array([[1.0, 0.0, window.column * cell_px], [0.0, 1.0, window.row * cell_px]])
        matrix = compose(frame.registration.matrix, corner)
        confidence = frame.registration.confidence
        regions = model.regions
        if regions is not None:
            scores = regions.lower_small_marks(
                regions.stretch(scores),
                model.thresholds.review,
                cell_px,
                lambda cells: self._measure(frame, self._to_frame(cells, matrix)),
            )
        oddities = describe_oddities(look_at(frame.halved), model.experience)
        if confidence < model.confidence_limit:
            oddities += (f"registration confidence {confidence:.2f} below {model.confidence_limit:.2f}",)
        name_region = regions.name_at if regions is not None and len(regions.regions) > 1 else None
        detections = find_detections(scores, model.thresholds.review, cell_px, matrix, model.frame_size, name_region)
        if regions is not None and regions.mm_per_px is not None:
            detections = tuple(replace(item, size_px=self._measure(frame, item.box_xyxy_px)) for item in detections)
        return Scoring(
            score=float(scores.max()),
            anomaly_map=AnomalyMap(map_to_frame(scores, matrix, cell_px, grid), cell_px),
            detections=detections,
            registration=frame.registration,
            oddities=oddities,
        )

    def _to_frame(self, cells: BoxPx, matrix: Matrix) -> BoxPx | None:
        """A box of cells of the window as a box in the frame, None outside it; `matrix` is from map to frame pixels."""
        cell_px = CELL_PX * self._model.ratio
        x0, y0, x1, y1 = (edge * cell_px for edge in cells)
        return clip_box(map_box((x0, y0, x1, y1), matrix), self._model.frame_size)

    def _measure(self, frame: RegisteredFrame, box: BoxPx | None) -> float | None:
        """The long side of the defect in a box of the frame, None when it cannot be told."""
        if box is None or self._golden is None:
            return None
        return measure_size_px(frame.pixels, self._golden, frame.registration.matrix, box)


def _in_units(distance: Cells, level: PartLevel) -> Cells:
    return smooth(distance, level.smooth_cells) / np.float32(level.unit)


def check_frame_size(pixels: BgrImage, frame_size: tuple[int, int]) -> None:
    """Raise `RecipeMismatchError` unless the frame is (width, height)."""
    size = (pixels.shape[1], pixels.shape[0])
    if size != frame_size:
        raise RecipeMismatchError(
            f"frame is {size[0]}x{size[1]} px, the recipe was fitted on {frame_size[0]}x{frame_size[1]}; "
            "use the camera's recipe or fit a new one"
        )


def register_frame(reference: Reference, ratio: int, pixels: BgrImage) -> RegisteredFrame:
    """Find the reference in a full-resolution frame."""
    halving = whole_halvings(ratio)
    return register_halved(reference, pixels, halve(pixels, halving), halving)


def register_halved(reference: Reference, pixels: BgrImage, halved: BgrImage, halving: int) -> RegisteredFrame:
    """As `register_frame`, for a frame that is halved already."""
    found = register(reference, halved)
    return RegisteredFrame(pixels, halved, halving, replace(found, matrix=scale_matrix(found.matrix, 1.0 / halving)))


def seen_cells(matrix: Matrix, window: Tile, ratio: int, frame_size: tuple[int, int]) -> Mask:
    """(rows, columns) bool: which cells of a window of the reference lie in the frame with their neighbours.

    But for a pixel or two. A part that reaches over the frame's edge further than the reference's did ends in its own
    mirror image there, and the cells next to it would be compared with what is not the part.
    """
    cell = CELL_PX * ratio
    ys = (np.arange(window.rows + 1) + window.row) * cell - 0.5
    xs = (np.arange(window.columns + 1) + window.column) * cell - 0.5
    corner = np.ones((window.rows + 1, window.columns + 1), np.bool_)
    corners = np.stack(np.meshgrid(xs, ys), axis=-1)
    places = transform_points(matrix, corners.reshape(-1, 2)).reshape(corners.shape)
    for axis in (0, 1):
        # The last cells of a frame may be incomplete and filled up with its mirror image: they count as seen.
        limit = -(-frame_size[axis] // cell) * cell
        place = places[..., axis]
        corner &= (place > -0.5 - ratio) & (place < limit - 0.5 + ratio)
    seen = corner[:-1, :-1] & corner[1:, :-1] & corner[:-1, 1:] & corner[1:, 1:]
    return np.asarray(cv2.erode(seen.astype(np.uint8), np.ones((3, 3), np.uint8), borderValue=1) > 0, np.bool_)


def lay_screen(frame: RegisteredFrame, window: Tile, ratio: int) -> BgrImage:
    """The whole part at screen scale in the reference's pose, with the banks' margin."""
    return _lay_tile(frame.halved, frame.halving, frame.registration.matrix, window, ratio)


def close_features(bank: FeatureBank, frame: RegisteredFrame, window: Tile, tile: Tile, ratio: int) -> Cells:
    """Full-resolution features of a tile of the window: (C, tile.rows * ratio, tile.columns * ratio)."""
    row, column = (window.row + tile.row) * ratio, (window.column + tile.column) * ratio
    fine = Tile(row, column, tile.rows * ratio, tile.columns * ratio)
    return bank.compute(_lay_tile(frame.pixels, 1, frame.registration.matrix, fine, 1))


def _lay_tile(source: BgrImage, source_scale: int, matrix: Matrix, tile: Tile, scale: int) -> BgrImage:
    """A tile of cells in the reference's pose, with the banks' margin.

    `source_scale` is frame pixels per source pixel, `scale` frame pixels per pixel of the tile, `matrix` maps
    reference to frame at full resolution.
    """
    size = (tile.columns * CELL_PX + 2 * MARGIN_PX, tile.rows * CELL_PX + 2 * MARGIN_PX)
    corner = np.array([[1.0, 0.0, tile.column * CELL_PX - MARGIN_PX], [0.0, 1.0, tile.row * CELL_PX - MARGIN_PX]])
    from_tile = compose(compose(matrix, scaling(scale)), corner)
    sampled = compose(invert(scaling(source_scale)), from_tile)
    return np.asarray(warp(source, sampled, size), np.uint8)
