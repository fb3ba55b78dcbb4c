"""What `fit` learns about a surface: filter statistics by border distance, and scores of images left out."""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from inspector.detector.calibration import Calibration, calibrate, score_unit
from inspector.detector.comparison import Cells, LargestZ
from inspector.detector.experience import learn_experience, look_at
from inspector.detector.features import FeatureBank, pad_to_cells
from inspector.detector.good_images import GoodImages, Progress
from inspector.detector.screen import (
    MAX_TILES,
    TILE_WORTH_LOOKING,
    halve,
    merge_tile,
    screen_ratio,
    tile_cells,
    whole_halvings,
)
from inspector.detector.surface_bank import build_surface_bank
from inspector.detector.surface_model import (
    BinSamples,
    SurfaceStatistics,
    border_bins,
    calibrated,
    image_level,
    spread_over,
    with_map_calibration,
    without_map_calibration,
)
from inspector.detector.surface_scorer import LARGEST_Z, SurfaceLevel, SurfaceModel, cut_tile, largest_z, tile_maps
from inspector.geometry.tiles import Tile, worst_tiles

SCREEN_SMOOTH_CELLS = 5
CLOSE_SMOOTH_CELLS = 5
FOLDS = 4
STRIP_ROWS = 24


@dataclass(frozen=True, slots=True)
class LearnedSurface:
    """A fitted model, its compiled graph, what the thresholds promise and the index of the golden image."""

    model: SurfaceModel
    graph: bytes
    calibration: Calibration
    golden: int
    held_out_scores: tuple[float, ...]


def learn_surface(
    images: GoodImages, false_alarm_target: float, real_images: int, progress: Progress
) -> LearnedSurface:
    """Learn a surface from at least `FOLDS` good images of any sizes.

    Every held-out score comes from statistics of other images: a quarter of them, neighbours in the order of
    their names because neighbours are often the same piece, is left out at a time.
    """
    graph = build_surface_bank()
    bank = FeatureBank(graph)
    ratio = _common_ratio(images)
    features, looks = [], []
    for index in range(len(images)):
        screen = halve(images.read(index), ratio)
        features.append(bank.compute(pad_to_cells(screen)).astype(np.float16))
        looks.append(look_at(screen))
        progress("features", (index + 1) / len(images))
    levels = [image_level(image.astype(np.float32)) for image in features]
    folds = [index * FOLDS // len(features) for index in range(len(features))]
    coarse, held_out = _learn_screen(features, levels, folds, progress)
    golden = _most_typical(levels)
    close, level_ratio = None, np.ones(len(levels[0]), np.float32)
    if ratio > 1:
        close, level_ratio = _learn_close(images, bank, ratio, levels, held_out, progress)
    scores = [float(image.max()) for image in held_out]
    calibration = calibrate(scores, false_alarm_target, real_images)
    model = SurfaceModel(ratio, coarse, close, level_ratio, learn_experience(looks), calibration.thresholds)
    return LearnedSurface(model, graph, calibration, golden, tuple(scores))


def _common_ratio(images: GoodImages) -> int:
    """The least power of two that brings the first image to the screen's size: only halving is cheap."""
    largest = images.read(0).shape
    ratio = screen_ratio(largest[1], largest[0])
    return whole_halvings(2 * ratio - 1)


def _most_typical(levels: list[Cells]) -> int:
    """The image whose filter answers are nearest to the median image's, in logarithms."""
    logs = np.log(np.stack(levels))
    return int(np.argmin(np.abs(logs - np.median(logs, axis=0)).sum(axis=1)))


def _filter_statistics(features: list[NDArray[np.float16]], levels: list[Cells], used: list[int]) -> SurfaceStatistics:
    samples = BinSamples()
    for index in used:
        cells = features[index].astype(np.float32) / levels[index][:, None, None]
        samples.add(cells, border_bins(*cells.shape[1:]))
    return without_map_calibration(*samples.location_and_scale(len(levels[0])))


def _learn_screen(
    features: list[NDArray[np.float16]], levels: list[Cells], folds: list[int], progress: Progress
) -> tuple[SurfaceLevel, list[Cells]]:
    """The coarse level, and each image's map scored without its fold, in units of the level."""
    comparison = LargestZ(LARGEST_Z)
    everyone = list(range(len(features)))
    smoothed: list[Cells] = [np.zeros((1, 1), np.float32)] * len(features)
    for fold in range(FOLDS):
        statistics = _filter_statistics(features, levels, [index for index in everyone if folds[index] != fold])
        for index in (index for index in everyone if folds[index] == fold):
            cells = features[index].astype(np.float32)
            worst = largest_z(comparison, cells, levels[index], spread_over(statistics, *cells.shape[1:]))
            smoothed[index] = _smooth(worst)
        progress("held out", (fold + 1) / FOLDS)
    final = with_map_calibration(_filter_statistics(features, levels, everyone), smoothed)
    held_out = []
    for fold in range(FOLDS):
        others = [smoothed[index] for index in everyone if folds[index] != fold]
        statistics = with_map_calibration(final, others)
        held_out += [_calibrate_map(smoothed[i], statistics) for i in everyone if folds[i] == fold]
    unit = score_unit([float(image.max()) for image in held_out])
    return SurfaceLevel(final, SCREEN_SMOOTH_CELLS, unit), [image / np.float32(unit) for image in held_out]


def _smooth(worst: Cells) -> Cells:
    size = (SCREEN_SMOOTH_CELLS, SCREEN_SMOOTH_CELLS)
    return np.asarray(cv2.blur(worst, size, borderType=cv2.BORDER_REFLECT_101), np.float32)


def _calibrate_map(smoothed: Cells, statistics: SurfaceStatistics) -> Cells:
    bins = border_bins(*smoothed.shape)
    above = (smoothed - statistics.map_location[bins]) / statistics.map_scale[bins]
    return np.asarray(np.maximum(above, 0.0), np.float32)


def _learn_close(
    images: GoodImages, bank: FeatureBank, ratio: int, levels: list[Cells], held_out: list[Cells], progress: Progress
) -> tuple[SurfaceLevel, Cells]:
    """The full-resolution level. Each image's map in `held_out` is raised, in place, by its own tiles' scores.

    Its statistics are pooled over so many cells that leaving one image out would not change them.
    """
    fine_levels = []
    samples = BinSamples()
    for index in range(len(images)):
        pixels, grid = images.read(index), held_out[index].shape
        strips = [_strip(bank, pixels, ratio, row, grid) for row in range(0, grid[0], STRIP_ROWS)]
        fine_levels.append(np.stack([image_level(cells) for cells, _ in strips]).mean(axis=0))
        for cells, bins in strips:
            samples.add(cells / fine_levels[-1][:, None, None], bins)
        progress("full resolution", (index + 1) / len(images))
    level_ratio = np.median(np.stack(fine_levels) / np.stack(levels), axis=0).astype(np.float32)
    statistics = without_map_calibration(*samples.location_and_scale(len(level_ratio)))
    plain = SurfaceLevel(statistics, CLOSE_SMOOTH_CELLS)
    found = []
    for index in range(len(images)):
        level = levels[index] * level_ratio
        found.append(_look_at_tiles(bank, images, index, plain, ratio, held_out[index], level))
        progress("held out tiles", (index + 1) / len(images))
    unit = score_unit([max((float(fine.max()) for _, fine in tiles), default=0.0) for tiles in found])
    for scores, tiles in zip(held_out, found, strict=True):
        for tile, fine in tiles:
            merge_tile(scores, np.ones(scores.shape, np.bool_), tile, fine / np.float32(unit), ratio)
    return replace(plain, unit=unit), level_ratio


def _strip(
    bank: FeatureBank, image: NDArray[np.uint8], ratio: int, row: int, grid: tuple[int, ...]
) -> tuple[Cells, NDArray[np.int64]]:
    tile = Tile(row, 0, min(STRIP_ROWS, grid[0] - row), grid[1])
    cells = bank.compute(cut_tile(image, tile, ratio))
    window = (tile.row * ratio, 0, tile.rows * ratio, tile.columns * ratio)
    return cells, border_bins(grid[0] * ratio, grid[1] * ratio, window)


def _look_at_tiles(
    bank: FeatureBank,
    images: GoodImages,
    index: int,
    close: SurfaceLevel,
    ratio: int,
    scores: Cells,
    level: Cells,
) -> list[tuple[Tile, Cells]]:
    pixels, comparison = images.read(index), LargestZ(LARGEST_Z)
    found = []
    for tile in worst_tiles(scores, tile_cells(ratio), MAX_TILES, TILE_WORTH_LOOKING):
        maps = tile_maps(close.statistics, tile, scores.shape, ratio)
        worst = largest_z(comparison, bank.compute(cut_tile(pixels, tile, ratio)), level, maps)
        found.append((tile, calibrated(worst, maps, close.smooth_cells)))
    return found
