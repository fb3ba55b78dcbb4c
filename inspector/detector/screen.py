"""The coarse screen and the tiles: which scales a frame is looked at, and how their cells line up."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from inspector.detector.features import CELL_PX
from inspector.geometry.tiles import Tile
from inspector.records import BgrImage

SCREEN_SIDE_PX = 1300
TILE_PX = 256
MAX_TILES = 8
TILE_WORTH_LOOKING = 0.5
"""Screen score below which no tile is looked at: half of what an ordinary good part shows somewhere."""


def screen_ratio(width_px: int, height_px: int) -> int:
    """Frame pixels per screen pixel: the least whole number that brings the long side to `SCREEN_SIDE_PX`."""
    return max(1, -(-max(width_px, height_px) // SCREEN_SIDE_PX))


def tile_cells(ratio: int) -> int:
    """Screen cells along a full-resolution tile of about `TILE_PX`."""
    return max(1, round(TILE_PX / (CELL_PX * ratio)))


def whole_halvings(ratio: int) -> int:
    """The largest power of two that is not above `ratio`."""
    return 1 << (ratio.bit_length() - 1)


def halve(pixels: BgrImage, times: int) -> BgrImage:
    """The frame reduced by `times` (a power of two) with area averaging, which is cheap only for halves.

    Rows and columns that are missing at the end are mirrored.
    """
    if times == 1:
        return pixels
    height, width = pixels.shape[:2]
    bottom, right = -height % times, -width % times
    if bottom or right:
        pixels = np.asarray(cv2.copyMakeBorder(pixels, 0, bottom, 0, right, cv2.BORDER_REFLECT), np.uint8)
    while times > 1:
        size = (pixels.shape[1] // 2, pixels.shape[0] // 2)
        pixels = np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA), np.uint8)
        times //= 2
    return pixels


def cell_grid(width_px: int, height_px: int, ratio: int) -> tuple[int, int]:
    """(rows, columns) of screen cells over a frame."""
    cell = CELL_PX * ratio
    return -(-height_px // cell), -(-width_px // cell)


def merge_tile(
    scores: NDArray[np.float32], judged: NDArray[np.bool_], tile: Tile, fine: NDArray[np.float32], ratio: int
) -> None:
    """Raise the screen cells of `scores` (in place) to the worst fine cell inside each of them."""
    worst = fine.reshape(tile.rows, ratio, tile.columns, ratio).max(axis=(1, 3))
    window = np.s_[tile.row : tile.row + tile.rows, tile.column : tile.column + tile.columns]
    scores[window] = np.where(judged[window], np.maximum(scores[window], worst), scores[window])
