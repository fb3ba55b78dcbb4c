"""What `fit` learns about a located part: the reference, the statistics, and scores of images left out."""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from inspector.detector.calibration import Calibration, calibrate
from inspector.detector.features import PART_CHANNELS, FeatureBank, Whitening, build_part_bank, pad_to_cells
from inspector.detector.good_images import GoodImages, Progress
from inspector.detector.part_model import Cells, Mask, MomentSums, smooth
from inspector.detector.part_scorer import (
    PartLevel,
    PartModel,
    RegisteredFrame,
    register_screen,
    tile_features,
)
from inspector.detector.screen import (
    MAX_TILES,
    TILE_WORTH_LOOKING,
    cell_grid,
    merge_tile,
    reduce_to_screen,
    screen_ratio,
    tile_cells,
)
from inspector.errors import FitError
from inspector.geometry.registration import (
    find_part,
    make_reference,
    reduce_for_registration,
    register,
    warp_to_reference,
)
from inspector.geometry.tiles import Tile, worst_tiles
from inspector.records import BgrImage

TOLERANCE_CELLS = 1
SCREEN_SMOOTH_CELLS = 5
CLOSE_SMOOTH_CELLS = 3
LOWEST_CONFIDENCE = 0.3
SMALLEST_SPREAD = 1e-3
SMALLEST_VARIANCE = 0.1
STRIP_ROWS = 24


@dataclass(frozen=True, slots=True)
class LearnedPart:
    """A fitted model, its compiled graph, what the thresholds promise and the index of the golden image."""

    model: PartModel
    graph: bytes
    calibration: Calibration
    golden: int
    held_out_scores: tuple[float, ...]


def choose_golden(screens: list[BgrImage]) -> int:
    """The most typical good image: the one nearest to the mean of all after registration to the first."""
    first = make_reference(screens[0])
    size = (first.grey.shape[1], first.grey.shape[0])
    laid = []
    for screen in screens:
        small = reduce_for_registration(screen)
        matrix = register(first, screen).matrix.copy()
        matrix[:, 2] *= first.scale
        laid.append(warp_to_reference(small, matrix, size).astype(np.float32))
    middle = np.median(np.stack(laid), axis=0) if len(laid) < 64 else np.mean(np.stack(laid), axis=0)
    return int(np.argmin([float(np.abs(image - middle)[first.part].mean()) for image in laid]))


def learn_part(images: GoodImages, false_alarm_target: float, real_images: int, progress: Progress) -> LearnedPart:
    """Learn a located part from at least two good images of one size.

    Statistics come from all of them; every held-out score from statistics without that image, in closed form.
    Raises `FitError` when the images differ in size.
    """
    frame_size, ratio, screens = read_screens(images, progress)
    golden = choose_golden(screens)
    reference = make_reference(screens[golden], "affine")
    frames = [register_screen(reference, ratio, screen, screen) for screen in screens]
    part = part_cells(frames, cell_grid(*frame_size, ratio))
    features, whitening = _whitened_features(frames, part, progress)
    graph = build_part_bank(whitening)
    judged = [frame.seen & part for frame in frames]
    screen, held_out = _learn_screen(features, judged, part)
    close = None
    if ratio > 1:
        close = _learn_close(images, FeatureBank(graph), frames, ratio, judged, held_out, progress)
    scores = [float(image.max()) for image in held_out]
    calibration = calibrate(scores, false_alarm_target, real_images)
    limit = confidence_limit([frame.registration.confidence for frame in frames])
    model = PartModel(frame_size, ratio, reference, part, TOLERANCE_CELLS, screen, close, limit, calibration.thresholds)
    return LearnedPart(model, graph, calibration, golden, tuple(scores))


def read_screens(images: GoodImages, progress: Progress) -> tuple[tuple[int, int], int, list[BgrImage]]:
    """(width, height) of all images, frame pixels per screen pixel, and every image's screen."""
    screens: list[BgrImage] = []
    frame_size, ratio = (0, 0), 1
    for index in range(len(images)):
        pixels = images.read(index)
        size = (pixels.shape[1], pixels.shape[0])
        if not screens:
            frame_size, ratio = size, screen_ratio(*size)
        elif size != frame_size:
            raise FitError(
                f"good images differ in size: {size[0]}x{size[1]} px and {frame_size[0]}x{frame_size[1]} px; "
                "a located part needs one camera"
            )
        screens.append(reduce_to_screen(pixels, ratio).copy())
        progress("read", (index + 1) / len(images))
    return frame_size, ratio, screens


def part_cells(frames: list[RegisteredFrame], grid: tuple[int, int]) -> Mask:
    """(h, w) bool: cells that belong to the part in at least half of the good images, and their neighbours.

    Dust on the table is in the mask of one image and not in the others'.
    """
    votes = np.zeros(grid, np.float32)
    for frame in frames:
        mask = find_part(reduce_for_registration(frame.screen)).astype(np.float32)
        votes += cv2.resize(mask, (grid[1], grid[0]), interpolation=cv2.INTER_AREA)
    part = (votes >= 0.5 * len(frames)).astype(np.uint8)
    if not part.any():
        return np.ones(grid, np.bool_)
    return np.asarray(cv2.dilate(part, np.ones((3, 3), np.uint8)) > 0, np.bool_)


def confidence_limit(confidences: list[float]) -> float:
    """Below every good image by twice their spread, at least by 0.25: a defect lowers the match too."""
    values = np.asarray(confidences)
    middle, worst = float(np.median(values)), float(np.quantile(values, 0.05))
    return float(max(LOWEST_CONFIDENCE, worst - max(0.25, 2.0 * (middle - worst))))


def _whitened_features(
    frames: list[RegisteredFrame], part: Mask, progress: Progress
) -> tuple[list[NDArray[np.float16]], Whitening]:
    bank = FeatureBank(build_part_bank())
    raw = []
    for index, frame in enumerate(frames):
        raw.append(bank.compute(pad_to_cells(frame.screen)).astype(np.float16))
        progress("features", (index + 1) / len(frames))
    mean = np.mean(np.stack(raw), axis=0, dtype=np.float32)
    whitening = fit_whitening(
        [image[:, part].astype(np.float32) - mean[:, part] for image in raw], mean[:, part].mean(axis=1)
    )
    return [whitening.apply(image.astype(np.float32)).astype(np.float16) for image in raw], whitening


def fit_whitening(residuals: list[Cells], centre: NDArray[np.float32]) -> Whitening:
    """Channels that vary independently over good parts, from (C, N) residuals: principal axes, scaled to one."""
    thinned = [residual[:, :: max(1, len(residuals) // 20)] for residual in residuals]
    columns = np.concatenate(thinned, axis=1).astype(np.float64)
    spread = np.sqrt((columns**2).mean(axis=1)) + SMALLEST_SPREAD
    scaled = np.clip(columns / spread[:, None], -4.0, 4.0)
    variances, axes = np.linalg.eigh(scaled @ scaled.T / scaled.shape[1])
    return Whitening((axes / np.sqrt(variances + SMALLEST_VARIANCE)).T / spread[None], centre.astype(np.float64))


def _learn_screen(features: list[NDArray[np.float16]], judged: list[Mask], part: Mask) -> tuple[PartLevel, list[Cells]]:
    """The coarse level, and each image's map scored without itself."""
    sums = MomentSums(features[0].shape)
    for image in features:
        sums.add(image.astype(np.float32))
    usual = sums.usual_variance(part)
    held_out = []
    for image, mask in zip(features, judged, strict=True):
        cells = image.astype(np.float32)
        distance = sums.without(cells, usual).distance(cells, 0, 0, TOLERANCE_CELLS)
        held_out.append(np.where(mask, smooth(distance, SCREEN_SMOOTH_CELLS), np.float32(0.0)))
    unit = max(1e-3, float(np.median([image.max() for image in held_out])))
    return PartLevel(sums.statistics(usual), SCREEN_SMOOTH_CELLS, unit), [
        image / np.float32(unit) for image in held_out
    ]


def _learn_close(
    images: GoodImages,
    bank: FeatureBank,
    frames: list[RegisteredFrame],
    ratio: int,
    judged: list[Mask],
    held_out: list[Cells],
    progress: Progress,
) -> PartLevel:
    """The full-resolution level. Each image's map in `held_out` is raised, in place, by its own tiles' scores."""
    rows, columns = judged[0].shape
    sums = MomentSums((len(PART_CHANNELS), rows * ratio, columns * ratio))
    for index, frame in enumerate(frames):
        sums.add(_whole_features(bank, replace(frame, pixels=images.read(index)), ratio, rows, columns))
        progress("full resolution", (index + 1) / len(images))
    part = np.sum(judged, axis=0) * 2 >= len(judged)
    usual = sums.usual_variance(part.repeat(ratio, axis=0).repeat(ratio, axis=1))
    found: list[list[tuple[Tile, Cells]]] = []
    for index, frame in enumerate(frames):
        found.append(
            _held_out_tiles(sums, usual, bank, replace(frame, pixels=images.read(index)), held_out[index], ratio)
        )
        progress("held out", (index + 1) / len(images))
    worst = [max((float(fine.max()) for _, fine in tiles), default=0.0) for tiles in found]
    unit = max(1e-3, float(np.median(worst)))
    for scores, mask, tiles in zip(held_out, judged, found, strict=True):
        for tile, fine in tiles:
            merge_tile(scores, mask, tile, fine / np.float32(unit), ratio)
    return PartLevel(sums.statistics(usual), CLOSE_SMOOTH_CELLS, unit)


def _whole_features(bank: FeatureBank, frame: RegisteredFrame, ratio: int, rows: int, columns: int) -> Cells:
    """Full-resolution features of the whole frame, in strips that keep the memory small."""
    strips = []
    for row in range(0, rows, STRIP_ROWS):
        strip = Tile(row, 0, min(STRIP_ROWS, rows - row), columns)
        strips.append(tile_features(bank, frame, strip, ratio))
    return np.concatenate(strips, axis=1)


def _held_out_tiles(
    sums: MomentSums, usual: NDArray[np.float32], bank: FeatureBank, frame: RegisteredFrame, scores: Cells, ratio: int
) -> list[tuple[Tile, Cells]]:
    """The tiles that the scorer would look at, with distances from statistics without this image."""
    found = []
    for tile in worst_tiles(scores, tile_cells(ratio), MAX_TILES, TILE_WORTH_LOOKING):
        features = tile_features(bank, frame, tile, ratio)
        row, column = tile.row * ratio, tile.column * ratio
        # The rim that the tolerance needs is repeated at the tile's edge here and real in the scorer: the
        # same cells but for the outermost, whose distance can only come out a little larger.
        distance = sums.without(features, usual, row, column).distance(features, 0, 0, TOLERANCE_CELLS)
        found.append((tile, smooth(distance, CLOSE_SMOOTH_CELLS)))
    return found
