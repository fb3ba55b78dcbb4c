"""Tiles: they cover what must be covered, stay inside, and do not depend on luck."""

from __future__ import annotations

import numpy as np
import pytest

from inspector.geometry.tiles import Tile, cover_boxes, worst_tiles
from inspector.records import BoxPx


@pytest.mark.parametrize("size", [(40, 30), (9, 25), (5, 4)])
def test_every_box_is_covered_by_tiles_inside_the_frame(size: tuple[int, int]) -> None:
    """On random boxes, each pixel of each box lies in a tile; no tile leaves the frame or is larger than asked."""
    random = np.random.default_rng(5)
    for _ in range(200):
        x0, y0 = int(random.integers(0, size[0])), int(random.integers(0, size[1]))
        box: BoxPx = (x0, y0, int(random.integers(x0 + 1, size[0] + 1)), int(random.integers(y0 + 1, size[1] + 1)))
        side = int(random.integers(3, 12))
        covered = np.zeros((size[1], size[0]), np.bool_)
        for left, top, right, bottom in cover_boxes([box], side, size):
            assert 0 <= left < right <= size[0] and 0 <= top < bottom <= size[1]
            assert right - left <= side and bottom - top <= side
            covered[top:bottom, left:right] = True
        assert covered[box[1] : box[3], box[0] : box[2]].all()


def test_a_box_outside_the_frame_asks_for_no_tile() -> None:
    """And the same tile asked for twice appears once."""
    assert cover_boxes([(50, 50, 60, 60)], 8, (40, 30)) == []
    assert cover_boxes([(10, 10, 12, 12), (10, 10, 12, 12)], 8, (40, 30)) == [(7, 7, 15, 15)]


def test_worst_tiles_agree_with_a_slow_reference() -> None:
    """The tiles are those of picking the worst uncovered cell again and again."""
    random = np.random.default_rng(11)
    for _ in range(50):
        scores = random.integers(0, 9, (int(random.integers(3, 20)), int(random.integers(3, 20)))).astype(np.float32)
        side, count = int(random.integers(1, 8)), int(random.integers(1, 6))
        assert worst_tiles(scores, side, count, 4.0) == _pick_slowly(scores, side, count, 4.0)


def _pick_slowly(
    scores: np.ndarray[tuple[int, ...], np.dtype[np.float32]], side: int, count: int, least: float
) -> list[Tile]:
    rows, columns = scores.shape
    tiles: list[Tile] = []
    for _ in range(count):
        free = [
            (-scores[row, column], row, column)
            for row in range(rows)
            for column in range(columns)
            if scores[row, column] >= least
            and not any(
                tile.row <= row < tile.row + tile.rows and tile.column <= column < tile.column + tile.columns
                for tile in tiles
            )
        ]
        if not free:
            break
        _, row, column = min(free)
        top = min(max(row - side // 2, 0), max(0, rows - side))
        left = min(max(column - side // 2, 0), max(0, columns - side))
        tiles.append(Tile(top, left, min(side, rows), min(side, columns)))
    return tiles
