"""The learned head's nets as they run: small nets compare the registered part with what is known of good ones.

There is one, the general net that ships with the product and has seen none of the good images, or a pair that `fit`
trained on other halves of them, so that every good image has one net that has not seen it.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from inspector.detector.comparison import Cells
from inspector.detector.features import BAD_GRAPH, CELL_PX, MARGIN_PX
from inspector.detector.good_part import GoodPart
from inspector.detector.graphs import open_session
from inspector.detector.part_model import Mask, smooth
from inspector.errors import RecipeTamperedError
from inspector.geometry.tiles import Tile
from inspector.records import BgrImage

STRIDE_PX = 16
"""The coarsest layer's step: what goes into the net is filled up to multiples of it."""
CUT_PX = 2
"""Of the banks' margin, so that the rest is whole cells."""
RIM_CELLS = (MARGIN_PX - CUT_PX) // CELL_PX
REACH_CELLS = 16
"""Context beyond which a window's cells hardly change what the nets say of it."""
SMOOTH_CELLS = 7
DARKEST = 1.0


@dataclass(frozen=True, slots=True)
class TaughtNet:
    """Nets and what they compare with; good image i counts where neither has seen it.

    `graph` holds one or more nets; `unseen_by[i]` is the one that was not trained on good image i, and
    `goods[learned_without[i]]` was learned without it, from images of its look. `good_by_look` are learned from all
    images of a look. Pictures are laid as `lay_screen` does. `steps` are those that `fit` trained, of the slower net: 0
    for the net that ships.
    """

    graph: bytes
    unseen_by: tuple[int, ...]
    learned_without: tuple[int, ...]
    goods: tuple[GoodPart, ...]
    good_by_look: tuple[GoodPart, ...]
    steps: int
    seconds: float


def mean_light(picture: BgrImage, part: Mask) -> NDArray[np.float32]:
    """(3,) mean level of the cells of the part in a laid picture with the banks' margin."""
    inner = picture[MARGIN_PX:-MARGIN_PX:CELL_PX, MARGIN_PX:-MARGIN_PX:CELL_PX]
    return np.asarray(inner[part].mean(axis=0, dtype=np.float64), np.float32)


def relight(picture: BgrImage, gain: NDArray[np.float32]) -> BgrImage:
    """The picture with each channel times its gain."""
    return np.asarray(np.clip(picture * gain + np.float32(0.5), 0, 255), np.uint8)


def light_gain(picture: BgrImage, reference: BgrImage, part: Mask) -> NDArray[np.float32]:
    """(3,) factor that gives a laid picture the reference's mean light over the part."""
    return np.asarray(mean_light(reference, part) / np.maximum(mean_light(picture, part), DARKEST), np.float32)


class ChangeNet:
    """Compiled nets. Thread-safe."""

    def __init__(self, graph: bytes, threads: int = 1) -> None:
        try:
            self._session = open_session(graph, threads)
        except BAD_GRAPH as error:
            raise RecipeTamperedError(f"the learned head's net is not a graph of ours: {error}") from error

    def compare(self, picture: BgrImage, good: GoodPart, gain: NDArray[np.float32]) -> Cells:
        """(nets, h, w) float32, the evidence of a change in each cell of a laid picture with the banks' margin."""
        cells = self._run(_cut(picture), _cut_good(good), gain)
        return cells[:, RIM_CELLS:-RIM_CELLS, RIM_CELLS:-RIM_CELLS]

    def compare_window(
        self, picture: BgrImage, painted: BgrImage, window: Tile, good: GoodPart, gain: NDArray[np.float32]
    ) -> Cells:
        """As `compare`, the cells of a `window` of the picture that was `painted` over (with its margin) only."""
        rows = _span(window.row, window.rows, picture.shape[0])
        columns = _span(window.column, window.columns, picture.shape[1])
        around = picture[rows[0] : rows[1], columns[0] : columns[1]].copy()
        top, left = window.row * CELL_PX - rows[0], window.column * CELL_PX - columns[0]
        skip_y, skip_x = max(0, -top), max(0, -left)
        target = around[top + skip_y : top + painted.shape[0], left + skip_x : left + painted.shape[1]]
        target[:] = painted[skip_y : skip_y + target.shape[0], skip_x : skip_x + target.shape[1]]
        there = np.s_[rows[0] : rows[1], columns[0] : columns[1]]
        found = self._run(around, GoodPart(good.picture[there], good.spread[there]), gain)
        row = (window.row * CELL_PX + MARGIN_PX - rows[0]) // CELL_PX
        column = (window.column * CELL_PX + MARGIN_PX - columns[0]) // CELL_PX
        return found[:, row : row + window.rows, column : column + window.columns]

    def _run(self, picture: BgrImage, good: GoodPart, gain: NDArray[np.float32]) -> Cells:
        height, width = picture.shape[:2]
        images = {"pixels": picture, "reference": good.picture, "spread": good.spread}
        inputs = {**{name: _fill_up(image) for name, image in images.items()}, "gain": gain}
        (found,) = self._session.run(None, inputs)
        return np.asarray(found, np.float32)[:, : height // CELL_PX, : width // CELL_PX]


def _cut(picture: BgrImage) -> BgrImage:
    return picture[CUT_PX:-CUT_PX, CUT_PX:-CUT_PX]


def _cut_good(good: GoodPart) -> GoodPart:
    return GoodPart(_cut(good.picture), _cut(good.spread))


def _span(first: int, cells: int, length: int) -> tuple[int, int]:
    """Pixels of a padded picture around some cells along one axis, in step with the nets' coarsest layer."""
    start = max(0, (first + RIM_CELLS - REACH_CELLS) * CELL_PX // STRIDE_PX * STRIDE_PX)
    end = min(length - 2 * CUT_PX, (first + cells + RIM_CELLS + REACH_CELLS) * CELL_PX)
    return start + CUT_PX, end + CUT_PX


def _fill_up(pixels: BgrImage) -> BgrImage:
    bottom, right = -pixels.shape[0] % STRIDE_PX, -pixels.shape[1] % STRIDE_PX
    if not bottom and not right:
        return np.ascontiguousarray(pixels)
    return np.asarray(cv2.copyMakeBorder(pixels, 0, bottom, 0, right, cv2.BORDER_REFLECT_101), np.uint8)


def smooth_each(cells: Cells) -> Cells:
    """What each net says, box averaged: one noisy cell is no defect."""
    return np.stack([smooth(plane, SMOOTH_CELLS) for plane in cells])
