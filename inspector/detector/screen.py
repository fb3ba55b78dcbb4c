"""The frame at the scale of the coarse screen: reduced by a whole number, so that cells line up at every scale."""

from __future__ import annotations

import cv2
import numpy as np

from inspector.detector.features import CELL_PX
from inspector.records import BgrImage

SCREEN_SIDE_PX = 1300
TILE_PX = 256
MAX_TILES = 8


def screen_ratio(width_px: int, height_px: int) -> int:
    """Frame pixels per screen pixel: the least whole number that brings the long side to `SCREEN_SIDE_PX`."""
    return max(1, -(-max(width_px, height_px) // SCREEN_SIDE_PX))


def tile_cells(ratio: int) -> int:
    """Screen cells along a full-resolution tile of about `TILE_PX`."""
    return max(1, round(TILE_PX / (CELL_PX * ratio)))


def reduce_to_screen(pixels: BgrImage, ratio: int) -> BgrImage:
    """The frame reduced by `ratio` with area averaging; the last rows and columns are mirrored to fill up."""
    if ratio == 1:
        return pixels
    height, width = pixels.shape[:2]
    bottom, right = -height % ratio, -width % ratio
    if bottom or right:
        pixels = np.asarray(cv2.copyMakeBorder(pixels, 0, bottom, 0, right, cv2.BORDER_REFLECT), np.uint8)
    size = (pixels.shape[1] // ratio, pixels.shape[0] // ratio)
    return np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA), np.uint8)


def cell_grid(width_px: int, height_px: int, ratio: int) -> tuple[int, int]:
    """(rows, columns) of screen cells over a frame."""
    cell = CELL_PX * ratio
    return -(-height_px // cell), -(-width_px // cell)
