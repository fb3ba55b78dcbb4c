"""A real RTSP server: frames over either transport, loss, hangs, passwords, and parts on a moving belt."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from inspector.config import PartPresentTrigger
from tests.rtsp_server import RtspServer, has_rtsp_server, play_video
from tests.stream_rig import Open, opened_streams, read_frame, wait_for_health

pytestmark = [
    pytest.mark.rtsp,
    pytest.mark.skipif(
        not has_rtsp_server(), reason="gir1.2-gst-rtsp-server-1.0 or GStreamer's x264enc is not installed"
    ),
]


@pytest.fixture
def open_camera() -> Iterator[Open]:
    with opened_streams() as open_one:
        yield open_one


@pytest.fixture
def rtsp_server() -> Iterator[RtspServer]:
    server = RtspServer()
    server.start()
    yield server
    server.kill()


@pytest.mark.parametrize("transport", ["tcp", "udp"])
def test_rtsp_frames_arrive(open_camera: Open, rtsp_server: RtspServer, transport: str) -> None:
    """A real RTSP server's frames over either transport, with their health."""
    camera = open_camera(rtsp_server.url, rtsp_transport=transport)
    for _ in range(10):
        frame = read_frame(camera)
    assert frame.pixels is not None and frame.pixels.shape == (240, 320, 3)
    assert frame.pixels.mean() > 200
    health = camera.health()
    assert health.connected and health.reason is None
    assert health.level is not None and health.level > 200
    assert health.frames_per_s is not None and health.frames_per_s > 5


def test_an_rtsp_server_that_dies_and_returns(open_camera: Open, rtsp_server: RtspServer) -> None:
    """Killed: disconnected with the reason, `read` returns None. Started again: frames without anybody's help."""
    camera = open_camera(rtsp_server.url)
    read_frame(camera)
    rtsp_server.kill()
    health = wait_for_health(camera, lambda health: not health.connected, "the loss")
    assert health.reason is not None
    while camera.read(0.0) is not None:
        pass
    assert camera.read(0.1) is None
    rtsp_server.start()
    read_frame(camera)
    assert camera.health().connected


def test_an_rtsp_server_that_hangs_is_noticed(open_camera: Open, rtsp_server: RtspServer) -> None:
    """A server stopped in its tracks keeps the connection open; the decoder is killed, replaced, and recovers."""
    camera = open_camera(rtsp_server.url, stall_s=0.8, open_timeout_s=3.0)
    read_frame(camera)
    first = camera.decoder_pid
    rtsp_server.send(signal.SIGSTOP)
    health = wait_for_health(camera, lambda health: not health.connected, "the stall")
    assert "stalled" in str(health.reason)
    rtsp_server.send(signal.SIGCONT)
    wait_for_health(camera, lambda health: health.connected, "the recovery")
    assert camera.decoder_pid != first


def test_rtsp_asks_for_a_password(open_camera: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    """The right password delivers frames; without one the reason says 401."""
    monkeypatch.setenv("CAM_USER", "inspector")
    monkeypatch.setenv("CAM_PASSWORD", "p@:/w rd")
    server = RtspServer("inspector", "p@:/w rd")
    server.start()
    try:
        stranger = open_camera(server.url)
        health = wait_for_health(stranger, lambda health: "401" in str(health.reason), "the refusal")
        assert not health.connected
        read_frame(open_camera(server.url, username_env="CAM_USER", password_env="CAM_PASSWORD"))
    finally:
        server.kill()


def write_belt(path: Path, levels: list[int]) -> None:
    """A belt at 10 frames/s: for each level a plate that comes in from the left, rests for 1 s, and leaves."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 10.0, (320, 240))
    for level in levels:
        for left in (*[-400] * 10, *range(-160, 80, 20), *[80] * 10, *range(100, 340, 20), *[-400] * 5):
            frame = np.full((240, 320, 3), 60, np.uint8)
            cv2.rectangle(frame, (left, 40), (left + 160, 200), (level, level, level), -1)
            writer.write(frame)
    writer.release()


def test_parts_on_a_belt_are_taken_once_at_rest(open_camera: Open, tmp_path: Path) -> None:
    """`part_present` on a real H.264 stream: each plate once, when it has come to rest, none from the empty belt."""
    levels = [120, 210]
    write_belt(tmp_path / "belt.avi", levels)
    server = RtspServer(source=play_video(tmp_path / "belt.avi"))
    server.start()
    try:
        camera = open_camera(server.url, trigger=PartPresentTrigger(), stall_s=10.0)
        frames = [read_frame(camera).pixels for _ in levels]
    finally:
        server.kill()
    for level, pixels in zip(levels, frames, strict=True):
        assert pixels is not None
        assert abs(float(pixels[110:130, 90:230].mean()) - level) < 8, "the plate lies where it rests"
        assert abs(float(pixels[110:130, 10:60].mean()) - 60) < 8, "and the belt beside it is free"
