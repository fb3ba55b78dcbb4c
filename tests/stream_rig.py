"""Stream cameras for tests: opened with little patience, closed again, and waited for."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from inspector import config as settings
from inspector.cameras.camera import CapturedFrame
from inspector.cameras.stream import StreamCamera
from inspector.records import CameraHealth

PATIENCE_S = 30.0

Open = Callable[..., StreamCamera]


@contextmanager
def opened_streams() -> Iterator[Open]:
    """Gives a function that opens a stream by its URL; all are closed at the end."""
    opened: list[StreamCamera] = []

    def open_one(url: str, **values: Any) -> StreamCamera:
        quick = {"stall_s": 1.0, "open_timeout_s": 8.0, "backoff_max_s": 0.4, **values}
        camera = StreamCamera(settings.StreamCamera(id="cam", url=url, **quick))
        camera.open(0)
        opened.append(camera)
        return camera

    try:
        yield open_one
    finally:
        for camera in opened:
            camera.close()


def read_frame(camera: StreamCamera) -> CapturedFrame:
    frame = camera.read(PATIENCE_S)
    assert frame is not None, camera.health()
    return frame


def wait_for(condition: Callable[[], bool], what: str) -> None:
    deadline_s = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline_s, f"waited {PATIENCE_S:g} s for: {what}"
        time.sleep(0.02)


def wait_for_health(camera: StreamCamera, condition: Callable[[CameraHealth], bool], what: str) -> CameraHealth:
    wait_for(lambda: condition(camera.health()), what)
    return camera.health()
