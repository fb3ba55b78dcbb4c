"""What the coarse screen costs: painted defects that full resolution would call and the screen never sent it to.

Full resolution is looked at only in a few tiles, those where the screen is highest. At fit, defects of families that
no head is trained on are painted onto the good images; those that the full-resolution score over all tiles would
call are counted, and among them those that stay below the review threshold because no tile was spent on them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from inspector.detector.calibration import binomial_interval
from inspector.detector.comparison import Cells
from inspector.detector.features import CELL_PX
from inspector.detector.good_images import GoodImages, Progress
from inspector.detector.part_model import Mask
from inspector.detector.part_scorer import PartModel, PartScorer, RegisteredFrame, register_frame, seen_cells
from inspector.detector.regions import map_to_frame
from inspector.detector.screen import MAX_TILES, TILE_WORTH_LOOKING, cell_grid, halve, merge_tile, tile_cells
from inspector.geometry.registration import compose, invert, transform_points
from inspector.geometry.tiles import Tile, worst_tiles
from inspector.records import BgrImage
from inspector.scenes.overlays import judge_families, paint_defect

MOST_IMAGES = 20
MOST_ROUNDS = 3
ENOUGH_CALLED = 60
"""Rounds of other defects on the same images end when so many were called: none missed of them is at most 6 %."""
REACH_CELLS = 8
"""How far from its pixels a defect shows in the maps: filters and smoothing."""


@dataclass(frozen=True, slots=True)
class ScreenMisses:
    """Of `painted` defects full resolution everywhere calls `called`, and `missed` of these get no tile."""

    painted: int
    called: int
    missed: int

    def to_json(self) -> dict[str, Any]:
        """With the upper limit of the 95 % interval (Clopper and Pearson) of the share that is missed."""
        upper = binomial_interval(self.missed, self.called)[1] if self.called else 1.0
        return {
            "painted": self.painted,
            "called": self.called,
            "missed": self.missed,
            "share_missed_at_most": round(upper, 4),
        }


def add_misses(one: ScreenMisses | None, other: ScreenMisses | None) -> ScreenMisses | None:
    """Both together; None counts nothing."""
    if one is None or other is None:
        return one or other
    return ScreenMisses(one.painted + other.painted, one.called + other.called, one.missed + other.missed)


def count_screen_misses(
    scorer: PartScorer, model: PartModel, images: GoodImages, progress: Progress
) -> ScreenMisses | None:
    """Paint one defect of each judging family onto up to `MOST_IMAGES` good images, more than once, and look both ways.

    None for a model that looks at everything in full resolution anyway. Each defect counts by itself: the tiles are
    chosen as if it were the only one on its part.
    """
    if model.close is None:
        return None
    kinds = judge_families()
    count = min(len(images), MOST_IMAGES)
    painted = called = missed = 0
    for number in range(count * MOST_ROUNDS):
        if number % count == 0 and called >= ENOUGH_CALLED:
            break
        pixels = images.read(number % count * len(images) // count)
        frame = register_frame(model.reference, model.ratio, pixels)
        judged = model.part & seen_cells(frame.registration.matrix, model.window, model.ratio, model.frame_size)
        calm = scorer.screen_part(frame, judged)
        marked, places = _paint(pixels, kinds, number, model, frame, judged)
        if not places:
            continue
        shown = RegisteredFrame(marked, halve(marked, frame.halving), frame.halving, frame.registration)
        disturbed = scorer.screen_part(shown, judged)
        for place in places:
            screen = calm.copy()
            place.cut(screen)[:] = place.cut(disturbed)
            everywhere = _review_share(scorer, model, shown, judged, screen, [place], place)
            tiles = worst_tiles(screen, tile_cells(model.ratio), MAX_TILES, TILE_WORTH_LOOKING)
            looked_at = _review_share(scorer, model, shown, judged, screen, tiles, place)
            painted += 1
            called += everywhere >= 1.0
            missed += everywhere >= 1.0 > looked_at
        progress("screen", (number + 1) / (count * MOST_ROUNDS))
    return ScreenMisses(painted, called, missed)


def _paint(
    pixels: BgrImage, kinds: list[str], seed: int, model: PartModel, frame: RegisteredFrame, judged: Mask
) -> tuple[BgrImage, list[Tile]]:
    """The frame with a defect of each family, and the cells of the window that each can change; none overlap."""
    inside = _judged_pixels(model, frame, judged)
    canvas, places = pixels, list[Tile]()
    taken = np.zeros(judged.shape, np.uint8)
    for kind in kinds:
        made = paint_defect(canvas, kind, seed, inside)
        if made is None:
            continue
        place = _cells_of(made[1], model, frame)
        if place is None or place.cut(taken).any():
            continue
        place.cut(taken)[:] = 1
        canvas = made[0]
        places.append(place)
    return canvas, places


def _judged_pixels(model: PartModel, frame: RegisteredFrame, judged: Mask) -> NDArray[np.bool_]:
    """(H, W) bool: where in the frame the part is judged."""
    cell_px = CELL_PX * model.ratio
    corner = np.array([[1.0, 0.0, model.window.column * cell_px], [0.0, 1.0, model.window.row * cell_px]])
    grid = cell_grid(*model.frame_size, model.ratio)
    cells = map_to_frame(judged.astype(np.float32), compose(frame.registration.matrix, corner), cell_px, grid)
    size = (grid[1] * cell_px, grid[0] * cell_px)
    whole = cv2.resize(cells, size, interpolation=cv2.INTER_NEAREST)[: model.frame_size[1], : model.frame_size[0]]
    return np.asarray(whole > 0.5, np.bool_)


def _cells_of(mask: NDArray[np.bool_], model: PartModel, frame: RegisteredFrame) -> Tile | None:
    """The cells of the window within reach of a mask in the frame, None outside."""
    left, top, width, height = cv2.boundingRect(mask.view(np.uint8))
    box = np.array([[left, top], [left + width, top], [left, top + height], [left + width, top + height]], np.float64)
    places = transform_points(invert(frame.registration.matrix), box) / (CELL_PX * model.ratio)
    places -= (model.window.column, model.window.row)
    low = np.maximum(np.floor(places.min(axis=0)).astype(int) - REACH_CELLS, 0)
    high = np.ceil(places.max(axis=0)).astype(int) + REACH_CELLS
    high = np.minimum(high, (model.window.columns, model.window.rows))
    if (high <= low).any():
        return None
    return Tile(int(low[1]), int(low[0]), int(high[1] - low[1]), int(high[0] - low[0]))


def _review_share(
    scorer: PartScorer,
    model: PartModel,
    frame: RegisteredFrame,
    judged: Mask,
    screen: Cells,
    tiles: list[Tile],
    place: Tile,
) -> float:
    """The highest score in a place over the review threshold, with full resolution looked at in some tiles."""
    looked = screen.copy()
    for tile in tiles:
        if _overlap(tile, place):
            merge_tile(looked, judged, tile, scorer.look_at_tile(frame, tile), model.ratio)
    stretched = model.regions.stretch(looked) if model.regions else looked
    return float(place.cut(stretched).max()) / model.thresholds.review


def _overlap(one: Tile, other: Tile) -> bool:
    rows = one.row < other.row + other.rows and other.row < one.row + one.rows
    return rows and one.column < other.column + other.columns and other.column < one.column + one.columns
