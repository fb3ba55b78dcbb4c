"""What `fit` learns about a located part: the reference, the statistics, and scores of images left out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

from inspector.detector.calibration import Calibration, calibrate
from inspector.detector.change_net import ChangeNet, TaughtNet
from inspector.detector.comparison import Cells, HalfCells, PositionDistance
from inspector.detector.contrast_bank import build_contrast_bank
from inspector.detector.evidence import Choice, choose_heads
from inspector.detector.experience import learn_experience, look_at
from inspector.detector.features import CELL_PX, PART_CHANNELS, FeatureBank, Whitening, build_part_bank
from inspector.detector.good_images import GoodImages, Progress, SomeImages
from inspector.detector.ignore_mask import leave_out_ignored, reduce_to_cells
from inspector.detector.look_groups import lay_look, mean_look
from inspector.detector.part_heads import (
    TOLERANCE_CELLS,
    ContrastHead,
    EnergyHead,
    Head,
    Looks,
    NetHead,
    combine,
    count_looks,
    joint_units,
    units_of_looks,
)
from inspector.detector.part_model import Mask, MomentSums, NetLevel, PartLevel, PositionModel, smooth
from inspector.detector.part_motion import MotionChoice, choose_motion
from inspector.detector.part_scorer import (
    PartModel,
    PartScorer,
    RegisteredFrame,
    close_features,
    lay_screen,
    register_halved,
    seen_cells,
)
from inspector.detector.region_calibration import calibrate_regions
from inspector.detector.region_file import RegionPlan, reduce_labels
from inspector.detector.screen import (
    MAX_TILES,
    TILE_WORTH_LOOKING,
    cell_grid,
    halve,
    merge_tile,
    screen_ratio,
    tile_cells,
    whole_halvings,
)
from inspector.detector.screen_misses import ScreenMisses, add_misses, count_screen_misses
from inspector.errors import FitError
from inspector.geometry.registration import (
    Reference,
    find_part,
    make_reference,
    reduce_for_registration,
    register,
    scale_matrix,
    warp,
    warp_to_reference,
)
from inspector.geometry.tiles import Tile, worst_tiles
from inspector.records import BgrImage

CLOSE_SMOOTH_CELLS = 5
LOWEST_CONFIDENCE = 0.3
SMALLEST_SPREAD = 1e-3
SMALLEST_VARIANCE = 0.1
STRIP_ROWS = 24
LARGEST_HOLE_SHARE = 0.05
IGNORED_RIM_CELLS = 7
"""What lies in an ignored cell shows as far away: the reach of the widest filter and half of the smoothing."""

TeachNet: TypeAlias = Callable[[list[BgrImage], Mask, Looks, Progress], TaughtNet | None]
"""Gives nets for laid good pictures of a part, None where there are none; handed in, for training needs PyTorch."""


@dataclass(frozen=True, slots=True)
class LearnedPart:
    """A fitted model for each look, their compiled graphs, what the thresholds promise and the golden image's index."""

    models: tuple[PartModel, ...]
    graph: bytes
    contrast_graph: bytes
    calibration: Calibration
    golden: int
    held_out_scores: tuple[float, ...]
    choice: Choice
    motion: MotionChoice
    region_promises: tuple[dict[str, Any], ...] = ()
    screen_misses: ScreenMisses | None = None
    taught: TaughtNet | None = None
    """The nets that stood for choice, whether they were chosen or not."""

    @property
    def model(self) -> PartModel:
        """That of the first look."""
        return self.models[0]

    @property
    def net_graph(self) -> bytes | None:
        """The nets, where they were chosen."""
        return self.taught.graph if self.taught is not None and self.model.net is not None else None


def choose_golden(screens: list[BgrImage], *, any_angle: bool = False) -> int:
    """The most typical good image: the one nearest to the mean of all after registration to the first."""
    first = make_reference(screens[0], any_angle=any_angle)
    size = (first.grey.shape[1], first.grey.shape[0])
    laid = []
    for screen in screens:
        small = reduce_for_registration(screen)
        matrix = register(first, screen).matrix.copy()
        matrix[:, 2] *= first.scale
        laid.append(warp_to_reference(small, matrix, size).astype(np.float32))
    middle = np.median(np.stack(laid), axis=0) if len(laid) < 64 else np.mean(np.stack(laid), axis=0)
    return int(np.argmin([float(np.abs(image - middle)[first.part].mean()) for image in laid]))


def learn_part(
    images: GoodImages,
    false_alarm_target: float,
    real_images: int,
    progress: Progress,
    ignored: Mask | None = None,
    plan: RegionPlan | None = None,
    *,
    any_angle: bool = False,
    teach: TeachNet | None = None,
    looks: Looks | None = None,
) -> LearnedPart:
    """Learn a located part from at least two good images of one size.

    Statistics come from all of them; every held-out score from statistics without that image, in closed form. With
    `looks`, those that the images show, each look has a model of its own, in one pose and with common thresholds.
    The nets of `teach`, if any, stand for choice. Raises `FitError` when the images differ in size, and what `teach`
    raises.
    """
    frame_size, halved = read_halved(images, progress)
    ratio = screen_ratio(*frame_size)
    golden = choose_golden(halved, any_angle=any_angle)
    affine = make_reference(halved[golden], "affine", any_angle=any_angle)
    frames = [register_halved(affine, small, small, whole_halvings(ratio)) for small in halved]
    motion = choose_motion(affine, halved[golden], frames)
    reference = replace(affine, model=motion.model)
    if motion.model != affine.model:
        frames = [register_halved(reference, small, small, whole_halvings(ratio)) for small in halved]
    window, part = find_window(frames, reference, cell_grid(*frame_size, ratio))
    if ignored is not None:
        part = leave_out_ignored(part, window, reduce_to_cells(ignored, CELL_PX * ratio, IGNORED_RIM_CELLS))
    judged = [part & seen_cells(frame.registration.matrix, window, ratio, frame_size) for frame in frames]
    pictures = [lay_screen(frame, window, ratio) for frame in frames]
    looks = looks or (0,) * len(pictures)
    features, whitening = _whitened_features(pictures, part, looks, progress)
    graph, contrast_graph = build_part_bank(whitening), build_contrast_bank()
    bank, contrast_bank = FeatureBank(graph), FeatureBank(contrast_graph)
    energy = EnergyHead(bank, features, judged, part, looks)
    contrasts = [_to_half_floats(contrast_bank.compute(image)) for image in pictures]
    contrast = ContrastHead(contrast_bank, contrasts, judged, part, looks)
    heads: list[Head] = [energy, contrast]
    taught = teach(pictures, part, looks, progress) if teach is not None else None
    if taught is not None:
        heads.append(NetHead(taught, pictures, judged, part, looks))
    may_replace = ratio == 1 and taught is not None and taught.steps > 0
    choice = choose_heads(heads, pictures, judged, looks, false_alarm_target, progress, net_may_replace=may_replace)
    chosen = [head for head in heads if head.name in choice.heads]
    units = joint_units(chosen, looks)
    held_out = combine(chosen, units, looks)
    net_head = next((head for head in chosen if head.name == "net"), None)
    close: tuple[PartLevel, ...] = ()
    if ratio > 1 and "energy" in choice.heads:
        close = _learn_close(images, bank, frames, (window, ratio), judged, looks, held_out, progress)
    scores = tuple(float(image.max()) for image in held_out)
    by_region = None
    if plan is not None:
        labels = window.cut(reduce_labels(plan.labels, CELL_PX * ratio))
        by_region = calibrate_regions(
            held_out, np.where(part, labels, 0).astype(np.uint8), plan, false_alarm_target, real_images
        )
        scores = by_region.scores
    calibration = by_region.calibration if by_region else calibrate(list(scores), false_alarm_target, real_images)
    first = PartModel(
        frame_size=frame_size,
        ratio=ratio,
        reference=reference,
        window=window,
        part=part,
        tolerance=TOLERANCE_CELLS,
        heads=choice.heads,
        screen=energy.levels[0],
        contrast=contrast.levels[0],
        close=None,
        confidence_limit=confidence_limit([frame.registration.confidence for frame in frames]),
        experience=learn_experience([look_at(small) for small in halved]),
        thresholds=calibration.thresholds,
        regions=by_region.regions if by_region else None,
    )
    nets = taught if net_head is not None else None
    models, misses = [], None
    for look in range(count_looks(looks)):
        own = [index for index, shown in enumerate(looks) if shown == look]
        model = replace(
            first,
            screen=energy.levels[look],
            contrast=contrast.levels[look],
            close=close[look] if close else None,
            look=_mean_look(reference, [frames[index] for index in own]),
        )
        if nets is not None and net_head is not None:
            model = replace(model, net=NetLevel(nets.good_by_look[look], net_head.levels[look], units[look]))
        scorer = PartScorer(model, bank, contrast_bank, net=ChangeNet(nets.graph) if nets is not None else None)
        misses = add_misses(misses, count_screen_misses(scorer, model, SomeImages(images, own), progress))
        models.append(model)
    promises = by_region.promises if by_region else ()
    return LearnedPart(
        tuple(models), graph, contrast_graph, calibration, golden, scores, choice, motion, promises, misses, taught
    )


def _mean_look(reference: Reference, frames: list[RegisteredFrame]) -> BgrImage:
    """The mean of frames that are reduced for registration, in the reference's pose."""
    laid = []
    for frame in frames:
        matrix = scale_matrix(scale_matrix(frame.registration.matrix, frame.halving), 1.0 / reference.scale)
        laid.append(lay_look(reference, reduce_for_registration(frame.halved), matrix))
    return mean_look(laid)


def read_halved(images: GoodImages, progress: Progress) -> tuple[tuple[int, int], list[BgrImage]]:
    """(width, height) of all images, and each of them halved as the scorer would."""
    halved: list[BgrImage] = []
    frame_size = (0, 0)
    for index in range(len(images)):
        pixels = images.read(index)
        size = (pixels.shape[1], pixels.shape[0])
        frame_size = frame_size if halved else size
        if size != frame_size:
            raise FitError(
                f"good images differ in size: {size[0]}x{size[1]} px and {frame_size[0]}x{frame_size[1]} px; "
                "a located part needs one camera"
            )
        halved.append(halve(pixels, whole_halvings(screen_ratio(*size))).copy())
        progress("read", (index + 1) / len(images))
    return frame_size, halved


def find_window(frames: list[RegisteredFrame], reference: Reference, grid: tuple[int, int]) -> tuple[Tile, Mask]:
    """The bounding box of the part in cells, and which cells in it are the part.

    A cell belongs to the part when it does in at least half of the good images laid on each other, or is next
    to such a cell. Dust on the table is in the mask of one image and not in the others'.
    """
    size = (reference.grey.shape[1], reference.grey.shape[0])
    votes = np.zeros(reference.grey.shape, np.float32)
    for frame in frames:
        mask = find_part(reduce_for_registration(frame.halved)).astype(np.float32)
        matrix = scale_matrix(frame.registration.matrix, frame.halving / reference.scale)
        votes += warp(mask, matrix, size, cv2.BORDER_REPLICATE)
    share = cv2.resize(votes / np.float32(len(frames)), (grid[1], grid[0]), interpolation=cv2.INTER_AREA)
    part = (share >= 0.5).astype(np.uint8)
    if not part.any():
        part[:] = 1
    part = fill_small_holes(np.asarray(cv2.dilate(part, np.ones((3, 3), np.uint8)), np.uint8))
    left, top, width, height = cv2.boundingRect(part)
    window = Tile(top, left, height, width)
    return window, part[top : top + height, left : left + width] > 0


def fill_small_holes(part: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A (h, w) 0/1 mask without its small holes: what has the table's colour inside the part is still the part."""
    filled = part.copy()
    count, labels, stats, _ = cv2.connectedComponentsWithStats(1 - part, connectivity=4)
    height, width = part.shape
    for label in range(1, count):
        left, top, wide, tall, area = (int(value) for value in stats[label])
        inside = left > 0 and top > 0 and left + wide < width and top + tall < height
        if inside and area <= LARGEST_HOLE_SHARE * part.sum():
            filled[labels == label] = 1
    return filled


def confidence_limit(confidences: list[float]) -> float:
    """Below every good image by twice their spread, at least by 0.25: a defect lowers the match too."""
    values = np.asarray(confidences)
    middle, worst = float(np.median(values)), float(np.quantile(values, 0.05))
    return float(max(LOWEST_CONFIDENCE, worst - max(0.25, 2.0 * (middle - worst))))


def _whitened_features(
    pictures: list[BgrImage], part: Mask, looks: Looks, progress: Progress
) -> tuple[list[HalfCells], Whitening]:
    bank = FeatureBank(build_part_bank())
    raw: list[HalfCells] = []
    for index, picture in enumerate(pictures):
        raw.append(_to_half_floats(bank.compute(picture)))
        progress("features", (index + 1) / len(pictures))
    means = [
        _mean_features([image for image, own in zip(raw, looks, strict=True) if own == look]) for look in set(looks)
    ]
    residuals = [image[:, part].astype(np.float32) - means[own][:, part] for image, own in zip(raw, looks, strict=True)]
    centre = np.mean([mean[:, part].mean(axis=1) for mean in means], axis=0)
    whitening = fit_whitening(residuals, np.asarray(centre, np.float32))
    return [_to_half_floats(whitening.apply(image.astype(np.float32))) for image in raw], whitening


def _mean_features(images: list[HalfCells]) -> Cells:
    return np.stack(
        [np.mean([image[channel] for image in images], axis=0, dtype=np.float32) for channel in range(len(images[0]))]
    )


def _to_half_floats(features: Cells) -> HalfCells:
    return features.astype(np.float16)


def fit_whitening(residuals: list[Cells], centre: NDArray[np.float32]) -> Whitening:
    """Channels that vary independently over good parts, from (C, N) residuals: principal axes, scaled to one."""
    thinned = [residual[:, :: max(1, len(residuals) // 20)] for residual in residuals]
    columns: NDArray[np.float64] = np.concatenate(thinned, axis=1).astype(np.float64)
    spread = np.sqrt((columns**2).mean(axis=1)) + SMALLEST_SPREAD
    scaled = np.clip(columns / spread[:, None], -4.0, 4.0)
    variances, axes = np.linalg.eigh(scaled @ scaled.T / scaled.shape[1])
    return Whitening((axes / np.sqrt(variances + SMALLEST_VARIANCE)).T / spread[None], centre.astype(np.float64))


def _learn_close(
    images: GoodImages,
    bank: FeatureBank,
    frames: list[RegisteredFrame],
    scale: tuple[Tile, int],
    judged: list[Mask],
    looks: Looks,
    held_out: list[Cells],
    progress: Progress,
) -> tuple[PartLevel, ...]:
    """The full-resolution level of each look.

    Each image's map in `held_out` is raised, in place, by its own tiles' scores.
    """
    window, ratio = scale
    sums = MomentSums((len(PART_CHANNELS), window.rows * ratio, window.columns * ratio), count_looks(looks))
    for index, frame in enumerate(frames):
        sums.add(_whole_features(bank, replace(frame, pixels=images.read(index)), window, ratio), looks[index])
        progress("full resolution", (index + 1) / len(images))
    part = np.sum(judged, axis=0) * 2 >= len(judged)
    usual = sums.usual_variance(part.repeat(ratio, axis=0).repeat(ratio, axis=1))
    found: list[list[tuple[Tile, Cells]]] = []
    for index, frame in enumerate(frames):
        whole = replace(frame, pixels=images.read(index))
        found.append(_held_out_tiles(sums, usual, bank, whole, scale, looks[index], held_out[index]))
        progress("held out", (index + 1) / len(images))
    units = units_of_looks([max((float(fine.max()) for _, fine in tiles), default=0.0) for tiles in found], looks)
    for scores, mask, tiles, look in zip(held_out, judged, found, looks, strict=True):
        for tile, fine in tiles:
            merge_tile(scores, mask, tile, fine / np.float32(units[look]), ratio)
    return tuple(PartLevel(sums.statistics(usual, look), CLOSE_SMOOTH_CELLS, unit) for look, unit in enumerate(units))


def _whole_features(bank: FeatureBank, frame: RegisteredFrame, window: Tile, ratio: int) -> Cells:
    """Full-resolution features of the whole window, in strips that keep the memory small."""
    strips = []
    for row in range(0, window.rows, STRIP_ROWS):
        strip = Tile(row, 0, min(STRIP_ROWS, window.rows - row), window.columns)
        strips.append(close_features(bank, frame, window, strip, ratio))
    return np.concatenate(strips, axis=1)


def _held_out_tiles(
    sums: MomentSums,
    usual: Cells,
    bank: FeatureBank,
    frame: RegisteredFrame,
    scale: tuple[Tile, int],
    look: int,
    scores: Cells,
) -> list[tuple[Tile, Cells]]:
    """The tiles that the scorer would look at, with distances from statistics without this image."""
    window, ratio = scale
    comparison = PositionDistance(TOLERANCE_CELLS)
    found = []
    for tile in worst_tiles(scores, tile_cells(ratio), MAX_TILES, TILE_WORTH_LOOKING):
        features = close_features(bank, frame, window, tile, ratio)
        # The rim that the tolerance needs is repeated at the tile's edge here and real in the scorer: the
        # same cells but for the outermost, whose distance can only come out a little larger.
        others = sums.without(features, usual, tile.row * ratio, tile.column * ratio, look)
        distance = PositionModel(others, comparison).distance(features, 0, 0)
        found.append((tile, smooth(distance, CLOSE_SMOOTH_CELLS)))
    return found
