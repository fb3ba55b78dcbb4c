"""Which tiles of a frame deserve a closer look, and which tiles cover a set of boxes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from inspector.geometry.boxes import clip_box
from inspector.records import BoxPx


@dataclass(frozen=True, slots=True)
class Tile:
    """A window of `rows` x `columns` cells whose top left cell is (`row`, `column`)."""

    row: int
    column: int
    rows: int
    columns: int

    def cut(self, cells: NDArray[Any]) -> NDArray[Any]:
        """The window of (..., h, w) cells, as a view."""
        return cells[..., self.row : self.row + self.rows, self.column : self.column + self.columns]


def worst_tiles(scores: NDArray[np.float32], side: int, count: int, minimum: float) -> list[Tile]:
    """Up to `count` tiles of `side` cells around the highest cells of a (h, w) map, worst first.

    A cell below `minimum` asks for no tile, and a cell already covered asks for no second one. Tiles lie
    inside the map and are smaller only where the map is. Ties go to the first cell in reading order, so the
    result is deterministic.
    """
    left = np.array(scores, np.float32, copy=True)
    height, width = left.shape
    tiles: list[Tile] = []
    while len(tiles) < count:
        row, column = divmod(int(left.argmax()), width)
        if not left[row, column] >= minimum or left[row, column] == -np.inf:
            break
        top = int(np.clip(row - side // 2, 0, max(0, height - side)))
        start = int(np.clip(column - side // 2, 0, max(0, width - side)))
        tiles.append(Tile(top, start, min(side, height), min(side, width)))
        left[top : top + side, start : start + side] = -np.inf
    return tiles


def cover_boxes(boxes: list[BoxPx], side_px: int, size: tuple[int, int]) -> list[BoxPx]:
    """Tiles of `side_px` (smaller only at a smaller frame) that together cover every box.

    `size` is the frame's (width, height). A box larger than a tile gets a row and column raster of tiles;
    tiles asked for twice appear once, in the order of the boxes.
    """
    tiles: dict[BoxPx, None] = {}
    for box in boxes:
        clipped = clip_box(box, size)
        if clipped is None:
            continue
        x0, y0, x1, y1 = clipped
        for top in _starts(y0, y1, side_px, size[1]):
            for left in _starts(x0, x1, side_px, size[0]):
                tiles[(left, top, min(left + side_px, size[0]), min(top + side_px, size[1]))] = None
    return list(tiles)


def _starts(low: int, high: int, side: int, limit: int) -> list[int]:
    """Where tiles of `side` start so that they cover [low, high) inside [0, limit), centred on it."""
    count = -(-(high - low) // side)
    first = (low + high - count * side) // 2
    return sorted({int(np.clip(first + index * side, 0, max(0, limit - side))) for index in range(count)})
