"""Boxes against slow references on a grid of pixels."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from inspector.geometry.boxes import box_area, clip_box, enclose, grow_box, intersect, merge_boxes, overlap
from inspector.records import BoxPx

SIZE = 6
BOXES: list[BoxPx] = [
    (x0, y0, x1, y1)
    for x0, x1 in itertools.combinations(range(0, SIZE + 1, 2), 2)
    for y0, y1 in itertools.combinations(range(0, SIZE + 1, 3), 2)
]


def _pixels(box: BoxPx) -> np.ndarray[tuple[int, ...], np.dtype[np.bool_]]:
    grid = np.zeros((SIZE + 4, SIZE + 4), np.bool_)
    grid[box[1] : box[3], box[0] : box[2]] = True
    return grid


@pytest.mark.parametrize("one", BOXES)
def test_pairs_agree_with_pixel_counts(one: BoxPx) -> None:
    """Area, intersection and overlap equal what counting pixels gives, for every pair of a grid."""
    for other in BOXES:
        both, either = _pixels(one) & _pixels(other), _pixels(one) | _pixels(other)
        common = intersect(one, other)
        assert (0 if common is None else box_area(common)) == both.sum()
        assert overlap(one, other) == pytest.approx(both.sum() / either.sum())


def test_merging_agrees_with_a_slow_reference() -> None:
    """Merged boxes equal repeating every pair until nothing changes, whatever the order of the input."""
    random = np.random.default_rng(3)
    for _ in range(200):
        boxes: list[BoxPx] = []
        for x, y, width, height in random.integers(1, 30, (int(random.integers(1, 7)), 4)).tolist():
            boxes.append((x, y, x + width // 4 + 1, y + height // 4 + 1))
        gap = int(random.integers(0, 4))
        expected = _merge_slowly(boxes, gap)
        assert merge_boxes(boxes, gap) == expected
        assert merge_boxes(boxes[::-1], gap) == expected


def _merge_slowly(boxes: list[BoxPx], gap: int) -> list[BoxPx]:
    merged = list(boxes)
    while True:
        for first, second in itertools.combinations(range(len(merged)), 2):
            one, other = merged[first], merged[second]
            apart_x = max(one[0] - other[2], other[0] - one[2])
            apart_y = max(one[1] - other[3], other[1] - one[3])
            if apart_x <= gap and apart_y <= gap:
                rest = [box for index, box in enumerate(merged) if index not in (first, second)]
                merged = [*rest, enclose(one, other)]
                break
        else:
            return sorted(merged)


def test_clipping_keeps_only_what_is_inside() -> None:
    """A box outside the frame is nothing; a box grown over the edge ends at the edge."""
    assert clip_box((-5, -5, 3, 4), (10, 8)) == (0, 0, 3, 4)
    assert clip_box((10, 2, 14, 4), (10, 8)) is None
    assert grow_box((4, 4, 6, 6), 5, (10, 8)) == (0, 0, 10, 8)
