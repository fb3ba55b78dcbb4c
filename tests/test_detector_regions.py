"""From maps to boxes."""

from __future__ import annotations

import numpy as np

from inspector.detector.part_learning import fill_small_holes
from inspector.detector.regions import MAX_DETECTIONS, find_detections, map_box, map_to_frame


def test_regions_are_boxed_in_frame_pixels_worst_first() -> None:
    """Two regions above the threshold: boxes cover exactly their cells, sorted by score, clipped to the frame."""
    scores = np.zeros((10, 12), np.float32)
    scores[2:4, 3:6] = 1.5
    scores[8:10, 10:12] = 3.0
    found = find_detections(scores, 1.0, 4, None, (46, 38))
    assert [item.box_xyxy_px for item in found] == [(40, 32, 46, 38), (12, 8, 24, 16)]
    assert [item.score for item in found] == [3.0, 1.5]
    assert found[1].area_px == 6 * 16


def test_boxes_follow_the_registration() -> None:
    """A shift of the part shifts its boxes; a turn grows them to the box around the turned corners."""
    assert map_box((8, 8, 16, 12), np.array([[1.0, 0.0, 5.0], [0.0, 1.0, -2.0]])) == (13, 6, 21, 10)
    quarter = np.array([[0.0, -1.0, 99.0], [1.0, 0.0, 0.0]])
    assert map_box((10, 20, 30, 25), quarter) == (75, 10, 80, 30)


def test_a_map_moves_with_the_part() -> None:
    """The frame's map holds the reference's value where the registration puts it, and 0 where nothing is known."""
    scores = np.zeros((8, 8), np.float32)
    scores[2, 3] = 5.0
    moved = map_to_frame(scores, np.array([[1.0, 0.0, 8.0], [0.0, 1.0, 4.0]]), 4, (8, 8))
    assert moved[3, 5] == 5.0 and moved.sum() == 5.0


def test_there_are_never_more_detections_than_the_limit() -> None:
    """A frame that is bad everywhere gives the worst regions only."""
    scores = np.zeros((40, 40), np.float32)
    scores[::2, ::2] = np.arange(400, dtype=np.float32).reshape(20, 20) + 1.0
    found = find_detections(scores, 0.5, 1, None, (40, 40))
    assert len(found) == MAX_DETECTIONS and found[0].score == 400.0
    assert find_detections(scores, 1e9, 1, None, (40, 40)) == ()


def test_small_holes_belong_to_the_part_and_large_ones_do_not() -> None:
    """A dark component on a dark table is filled; the opening of a ring and a notch in the edge stay open."""
    part = np.zeros((60, 60), np.uint8)
    part[5:55, 5:55] = 1
    part[10:13, 10:14] = 0
    part[25:45, 25:45] = 0
    part[5:9, 30:34] = 0
    filled = fill_small_holes(part)
    assert filled[10:13, 10:14].all()
    assert not filled[25:45, 25:45].any() and not filled[5:9, 30:34].any()
