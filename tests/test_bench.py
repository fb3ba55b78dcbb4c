"""The load of `inspector bench`: frames of any size with as many suspicious places as asked for."""

from __future__ import annotations

import itertools
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from inspector.images import decode_image
from inspector.records import VerdictKind
from inspector.store.database import Database
from inspector.store.inspections import chain_inspections
from pipelines.bench import DISTINCT_FRAMES, make_frames, run_lane
from tests.small_line import STATION, call_inspector, folder_camera, jpeg_part, small_plant


@pytest.mark.parametrize("detections", [2, 10])
def test_frames_carry_as_many_suspicious_places_as_asked_for(detections: int) -> None:
    """Every frame differs from the good part in exactly so many places."""
    plain, marked = make_frames(768, 432, 0), make_frames(768, 432, detections)
    assert len(plain) == len(marked) == DISTINCT_FRAMES
    for good, bad in zip(plain, marked, strict=True):
        difference = cv2.absdiff(decode_image(good), decode_image(bad)).max(axis=2)
        spots = np.asarray(cv2.morphologyEx(np.asarray(difference > 60, np.uint8), cv2.MORPH_CLOSE, np.ones((9, 9))))
        assert abs(cv2.connectedComponents(spots)[0] - 1 - detections) <= detections // 4


@pytest.mark.parametrize(("rate", "fewest", "most"), [(5.0, 6, 11), (None, 12, 10_000)])
def test_a_lane_hands_over_every_part_it_commits(
    taught_plate: Path, tmp_path: Path, rate: float | None, fewest: int, most: int
) -> None:
    """In order, each once, with the time to the committed verdict: at a rate as many as are offered, else more."""
    data_dir = Path(shutil.copytree(taught_plate / "data", tmp_path / "data"))
    config = small_plant(folder_camera(tmp_path / "drop"))
    frames = [jpeg_part(1), jpeg_part(2, defect=True)]

    parts = run_lane(config, data_dir, STATION, frames, 2.0, rate)

    assert fewest <= len(parts) <= most
    db = Database.open(data_dir)
    try:
        stored = chain_inspections(db, STATION, -1, most)
    finally:
        db.close()
    assert [part.inspection.trigger.sequence for part in parts] == [item.trigger.sequence for item in stored]
    assert [part.inspection.verdict.kind for part in parts[:2]] == [VerdictKind.OK, VerdictKind.NG]
    for part, following in itertools.pairwise(parts):
        assert part.monotonic_s <= following.monotonic_s
        assert 0 < part.commit_ms < part.latency_ms
        assert part.latency_ms == part.inspection.timings_ms["capture_to_decision"] + part.commit_ms


def test_sizes_and_counts_that_cannot_be_are_refused() -> None:
    """A clear message, before anything is made."""
    for arguments, said in ((["--size", "8K"], "WIDTHxHEIGHT"), (["--detections", "99"], "detections")):
        done = call_inspector("bench", *arguments)
        assert done.returncode == 2 and said in done.stderr
