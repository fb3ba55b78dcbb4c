"""The simulated camera: pace, identity, resumption, triggers and the truth that travels with each frame."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from inspector.cameras.camera import Camera, CapturedFrame
from inspector.cameras.open_camera import make_camera
from inspector.cameras.simulated import SimulatedCamera
from inspector.config import CommandTrigger, IntervalTrigger, PartPresentTrigger
from inspector.config import SimulatedCamera as SimulatedConfig
from inspector.errors import CameraError
from inspector.images import decode_image
from inspector.records import PartIdSource
from inspector.scenes.renderer import SceneRenderer

WIDTH_PX, HEIGHT_PX = 480, 270
PATIENCE_S = 60.0

Opener = Callable[..., SimulatedCamera]


@pytest.fixture
def opened() -> Iterator[Opener]:
    """Opens cameras and closes them afterwards."""
    cameras: list[SimulatedCamera] = []

    def open_one(
        resume_after: int = 0, owed: tuple[str, ...] = (), prepare: Callable[[], None] | None = None, **values: Any
    ) -> SimulatedCamera:
        if prepare is not None:
            prepare()
        camera = SimulatedCamera(make_config(**values))
        for identity in owed:
            assert camera.still_has(identity)
        camera.open(resume_after)
        cameras.append(camera)
        return camera

    yield open_one
    for camera in cameras:
        camera.close()


def make_config(**values: Any) -> SimulatedConfig:
    settings = {"id": "top", "seed": 9, "frames_per_s": 100.0, "width_px": WIDTH_PX, "height_px": HEIGHT_PX}
    return SimulatedConfig.model_validate(settings | values)


def read_all(camera: SimulatedCamera) -> list[CapturedFrame]:
    frames: list[CapturedFrame] = []
    deadline = time.monotonic() + PATIENCE_S
    while not camera.exhausted() and time.monotonic() < deadline:
        frame = camera.read(0.5)
        if frame is not None:
            frames.append(frame)
    return frames


def read_one(camera: SimulatedCamera) -> CapturedFrame:
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        frame = camera.read(0.5)
        if frame is not None:
            return frame
    raise AssertionError("no frame in time")


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, "condition not reached in time"
        time.sleep(0.01)


def test_a_run_ends_after_its_parts_with_the_truth(opened: Opener) -> None:
    """Ids, lots, identities and truth are those of the line; the bytes are the photograph as JPEG."""
    camera = opened(parts=4, lot_size=2, defect_rate=1.0)
    frames = read_all(camera)
    assert [frame.part_id for frame in frames] == [f"BRD-{number:06d}" for number in (1, 2, 3, 4)]
    assert [frame.lot for frame in frames] == ["L0001", "L0001", "L0002", "L0002"]
    assert [frame.source_identity for frame in frames] == [f"simulated:9:{number}" for number in (1, 2, 3, 4)]
    assert {frame.part_id_source for frame in frames} == {PartIdSource.SIMULATED}
    assert camera.exhausted()
    assert camera.read(0.0) is None
    line = SceneRenderer("board", 9, WIDTH_PX, HEIGHT_PX, defect_rate=1.0, lot_size=2)
    for number, frame in enumerate(frames, start=1):
        part = line.render(number)
        assert frame.truth == {
            "defective": True,
            "defects": [
                {"kind": one.kind, "box_xyxy_px": list(one.box_xyxy_px), "severity": one.severity}
                for one in part.defects
            ],
        }
        assert frame.encoded is not None
        decoded = decode_image(frame.encoded, expected_size=(WIDTH_PX, HEIGHT_PX))
        assert abs(decoded.astype(int) - part.pixels.astype(int)).mean() < 4


def test_good_parts_are_declared_good(opened: Opener) -> None:
    """Without defects the truth says so; castings have ids of their own."""
    frame = read_one(opened(parts=1, defect_rate=0.0, scene="casting"))
    assert frame.truth == {"defective": False, "defects": []}
    assert frame.part_id == "CST-000001"


def test_resumes_behind_what_was_accepted(opened: Opener) -> None:
    """After a restart with three parts accepted the fourth is next, and it is the same as it would have been."""
    whole = read_all(opened(parts=5))
    rest = read_all(opened(parts=5, resume_after=3))
    assert [frame.part_id for frame in rest] == ["BRD-000004", "BRD-000005"]
    assert [frame.encoded for frame in rest] == [frame.encoded for frame in whole[3:]]


def test_owed_parts_come_first_and_unchanged(opened: Opener) -> None:
    """A part accepted before a kill and not inspected is photographed again, before the line goes on."""
    whole = read_all(opened(parts=4))
    again = read_all(opened(parts=4, resume_after=3, owed=("simulated:9:2",)))
    assert [frame.source_identity for frame in again] == ["simulated:9:2", "simulated:9:4"]
    assert again[0].encoded == whole[1].encoded


def test_disowns_parts_it_never_made() -> None:
    """Another seed's part, a part before the first and other sources' identities are not this line's."""
    camera = SimulatedCamera(make_config(first_part=10))
    assert camera.still_has("simulated:9:10")
    assert not camera.still_has("simulated:8:10")
    assert not camera.still_has("simulated:9:9")
    assert not camera.still_has("part.jpg|100|5|abc")


def test_a_finished_run_stays_finished(opened: Opener) -> None:
    """All parts were accepted before the restart: the camera is exhausted and delivers nothing."""
    camera = opened(parts=3, resume_after=3)
    wait_until(camera.exhausted)
    assert camera.read(0.1) is None


def test_numbers_start_at_the_first_part(opened: Opener) -> None:
    """`first_part` shifts the numbers; `parts` counts from there."""
    frames = read_all(opened(parts=2, first_part=500))
    assert [frame.part_id for frame in frames] == ["BRD-000500", "BRD-000501"]


def test_keeps_the_configured_pace(opened: Opener) -> None:
    """Ten parts a second stay ten a second: nine intervals take at least 0.9 s however fast the rendering is."""
    camera = opened(parts=10, frames_per_s=10.0)
    frames = read_all(camera)
    spans_s = [
        (later.captured_monotonic_ns - earlier.captured_monotonic_ns) / 1e9
        for earlier, later in itertools.pairwise(frames)
    ]
    assert len(frames) == 10
    assert sum(spans_s) >= 0.85
    rate = camera.health().frames_per_s
    assert rate is not None
    assert rate <= 12.0


def test_a_line_that_waited_does_not_catch_up(opened: Opener) -> None:
    """After a pause the parts come at the normal pace again, not in a burst: `block` stops the line."""
    camera = opened(parts=4, frames_per_s=5.0)
    read_one(camera)
    time.sleep(0.7)
    resumed = [read_one(camera) for _ in range(3)]
    spans_ns = [
        later.captured_monotonic_ns - earlier.captured_monotonic_ns for earlier, later in itertools.pairwise(resumed)
    ]
    assert min(spans_ns) >= 0.18e9


def test_command_trigger_waits_for_the_command(opened: Opener) -> None:
    """No part before `arm`, exactly one after it."""
    camera = opened(trigger=CommandTrigger(frame_timeout_s=30), parts=3)
    wait_until(lambda: camera.health().connected)
    assert camera.read(0.3) is None
    camera.arm()
    assert read_one(camera).part_id == "BRD-000001"
    assert camera.read(0.3) is None


def test_interval_trigger_takes_one_part_an_interval(opened: Opener) -> None:
    """A fast line with an interval of 0.3 s delivers parts 0.3 s apart and skips no number."""
    frames = read_all(opened(trigger=IntervalTrigger(interval_s=0.3), parts=3))
    assert [frame.part_id for frame in frames] == ["BRD-000001", "BRD-000002", "BRD-000003"]
    assert frames[2].captured_monotonic_ns - frames[0].captured_monotonic_ns >= 0.55e9


def test_part_present_sees_the_belt_empty_between_parts(opened: Opener) -> None:
    """The difference to the empty belt triggers each part exactly once."""
    frames = read_all(opened(trigger=PartPresentTrigger(), parts=3))
    assert [frame.part_id for frame in frames] == ["BRD-000001", "BRD-000002", "BRD-000003"]


def test_health_before_and_after_the_first_frame(opened: Opener) -> None:
    """While the scene is prepared the camera is not connected and says why; then it reports level and focus."""
    camera = opened(parts=2)
    early = camera.health()
    assert not early.connected
    assert early.reason == "the scene is being prepared"
    read_all(camera)
    health = camera.health()
    assert health.connected
    assert health.reason is None
    assert health.dropped == 0
    assert health.level is not None
    assert 20 < health.level < 200
    assert health.focus is not None
    assert health.last_frame_age_s is not None


def test_reopening_continues_without_leftovers(opened: Opener) -> None:
    """What was photographed ahead and never read is forgotten by `close`, not delivered out of turn."""
    camera = opened(parts=6)
    read_one(camera)
    camera.close()
    assert not camera.health().connected
    camera.open(1)
    assert [frame.part_id for frame in read_all(camera)] == [f"BRD-{number:06d}" for number in range(2, 7)]


def test_a_broken_line_is_an_error_and_not_silence(opened: Opener, monkeypatch: pytest.MonkeyPatch) -> None:
    """When rendering fails, `read` raises a camera error that carries the reason, and health shows it."""

    def burst(*args: object, **options: object) -> None:
        raise MemoryError("no room for a scene")

    monkeypatch.setattr(SceneRenderer, "__init__", burst)
    camera = opened(parts=1)
    with pytest.raises(CameraError, match="no room for a scene"):
        read_one(camera)
    assert "no room" in str(camera.health().reason)
    assert not camera.health().connected


def test_is_made_from_its_configuration() -> None:
    """`make_camera` knows the kind and keeps the id."""
    camera: Camera = make_camera(make_config(id="left"), lambda identity: "new", lambda prefix: False)
    assert isinstance(camera, SimulatedCamera)
    assert camera.camera_id == "left"
    assert camera.take_dropped() == 0
