"""Places of a frame that are never judged: a mask drawn by a person, as cells of the detector."""

from __future__ import annotations

from pathlib import Path
from typing import TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

from inspector.errors import DatasetError, FitError, ImageError
from inspector.geometry.tiles import Tile
from inspector.images import decode_image, read_image_bytes

Mask: TypeAlias = NDArray[np.bool_]

WHITE = 128
"""Grey values from here on are white: the soft edge that a drawing program leaves is divided in the middle."""


def load_ignore_mask(path: Path, frame_size: tuple[int, int]) -> Mask:
    """(H, W) bool, True where the mask is white; it must have the frames' size, `frame_size` being (width, height).

    Raises `DatasetError` for a file that is no image or has another size, and for a mask that is all black or all
    white: whoever hands over a mask wants some of the frame ignored, and some of it judged.
    """
    try:
        pixels = decode_image(read_image_bytes(path))
    except ImageError as error:
        raise DatasetError(f"{path}: {error}") from error
    size = (pixels.shape[1], pixels.shape[0])
    if size != frame_size:
        raise DatasetError(
            f"{path} is {size[0]}x{size[1]} px, the frames are {frame_size[0]}x{frame_size[1]} px; "
            "draw the mask over one of them"
        )
    white: Mask = np.asarray(cv2.cvtColor(pixels, cv2.COLOR_BGR2GRAY) >= WHITE, np.bool_)
    if not white.any():
        raise DatasetError(f"{path} has no white pixel: it ignores nothing; leave it out")
    if white.all():
        raise DatasetError(f"{path} is white all over: nothing would be judged")
    return white


def reduce_to_cells(mask: Mask, cell_px: int, grow_cells: int = 0) -> Mask:
    """(rows, columns) bool of an (H, W) mask: the cells of `cell_px` pixels with any True pixel, grown on all sides.

    Cells at the right and lower edge may reach beyond the frame. A cell sees more than its own pixels, so what lies
    in an ignored cell also shows in its neighbours: `grow_cells` ignores those too.
    """
    height, width = mask.shape
    padded = np.pad(mask, ((0, -height % cell_px), (0, -width % cell_px)))
    rows, columns = padded.shape[0] // cell_px, padded.shape[1] // cell_px
    cells = padded.reshape(rows, cell_px, columns, cell_px).any(axis=(1, 3))
    if grow_cells:
        square = np.ones((2 * grow_cells + 1, 2 * grow_cells + 1), np.uint8)
        cells = np.asarray(cv2.dilate(np.asarray(cells, np.uint8), square, borderValue=0), np.uint8) > 0
    return np.asarray(cells, np.bool_)


def leave_out_ignored(part: Mask, window: Tile, ignored: Mask) -> Mask:
    """The cells of a window that are still judged: `part` (window.rows, window.columns) without the ignored ones.

    `ignored` covers the whole reference. Raises `FitError` when none is left.
    """
    inside = ignored[window.row : window.row + window.rows, window.column : window.column + window.columns]
    judged: Mask = part & ~inside
    if not judged.any():
        raise FitError("the ignore mask covers the whole part: nothing is left to judge")
    return judged
