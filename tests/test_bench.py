"""The load of `inspector bench`: frames of any size with as many suspicious places as asked for."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from inspector.images import decode_image
from pipelines.bench import DISTINCT_FRAMES, make_frames
from tests.small_line import call_inspector


@pytest.mark.parametrize("detections", [2, 10])
def test_frames_carry_as_many_suspicious_places_as_asked_for(detections: int) -> None:
    """Every frame differs from the good part in exactly so many places."""
    plain, marked = make_frames(768, 432, 0), make_frames(768, 432, detections)
    assert len(plain) == len(marked) == DISTINCT_FRAMES
    for good, bad in zip(plain, marked, strict=True):
        difference = cv2.absdiff(decode_image(good), decode_image(bad)).max(axis=2)
        spots = np.asarray(cv2.morphologyEx(np.asarray(difference > 60, np.uint8), cv2.MORPH_CLOSE, np.ones((9, 9))))
        assert abs(cv2.connectedComponents(spots)[0] - 1 - detections) <= detections // 4


def test_sizes_and_counts_that_cannot_be_are_refused() -> None:
    """A clear message, before anything is made."""
    for arguments, said in ((["--size", "8K"], "WIDTHxHEIGHT"), (["--detections", "99"], "detections")):
        done = call_inspector("bench", *arguments)
        assert done.returncode == 2 and said in done.stderr
