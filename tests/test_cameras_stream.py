"""Streams against real servers: frames, drops, stalls, reconnects, and decoders that die with their parent."""

from __future__ import annotations

import base64
import contextlib
import http.server
import itertools
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import psutil
import pytest
import structlog

from inspector import config as settings
from inspector.cameras.camera import Camera, CapturedFrame
from inspector.cameras.decoder_process import _without_credentials
from inspector.cameras.open_camera import make_camera
from inspector.cameras.stream import StreamCamera
from inspector.cameras.stream_decoder import with_credentials
from inspector.config import CommandTrigger, IntervalTrigger
from inspector.errors import ConfigError
from tests.mosquitto import find_free_port
from tests.stream_rig import PATIENCE_S, Open, opened_streams, read_frame, wait_for, wait_for_health


@pytest.fixture
def open_camera() -> Iterator[Open]:
    with opened_streams() as open_one:
        yield open_one


# --- video files ------------------------------------------------------------------------------------


@pytest.fixture
def video(tmp_path: Path) -> Path:
    """Thirty frames whose grey level counts 0, 8, 16 …"""
    path = tmp_path / "line.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 10.0, (320, 240))
    for number in range(30):
        writer.write(np.full((240, 320, 3), number * 8, np.uint8))
    writer.release()
    return path


def numbers_of(frames: list[CapturedFrame]) -> list[int]:
    return [round(float(frame.pixels.mean()) / 8) for frame in frames if frame.pixels is not None]


def test_a_video_file_delivers_each_frame_in_order_and_ends(open_camera: Open, video: Path) -> None:
    """A file waits for its reader, whatever back-pressure is configured: nothing is given up, then it is exhausted."""
    camera = open_camera(str(video), backpressure="newest")
    frames = []
    while not camera.exhausted():
        frame = camera.read(PATIENCE_S)
        if frame is not None:
            time.sleep(0.005)
            frames.append(frame)
    assert numbers_of(frames) == list(range(30))
    assert frames[0].pixels is not None and frames[0].pixels.shape == (240, 320, 3)
    assert camera.take_dropped() == 0 and camera.health().dropped == 0
    assert camera.health().reason == "ended"


def test_the_deadline_of_a_file_frame_starts_when_it_is_taken(open_camera: Open, video: Path) -> None:
    """Frames decoded ahead are not late because nobody was ready for them."""
    camera = open_camera(str(video))
    read_frame(camera)
    time.sleep(0.3)
    before_ns = time.monotonic_ns()
    assert read_frame(camera).captured_monotonic_ns >= before_ns


def test_a_looping_video_starts_again(open_camera: Open, video: Path) -> None:
    """With `loop` the frame after the last is the first."""
    camera = open_camera(str(video), loop=True)
    frames = [read_frame(camera) for _ in range(65)]
    assert numbers_of(frames) == [*range(30), *range(30), *range(5)]
    assert not camera.exhausted()


def test_a_killed_decoder_continues_a_file_where_it_was(open_camera: Open, video: Path) -> None:
    """No frame of a file is repeated or lost when its decoder dies: those in shared memory outlive it."""
    camera = open_camera(str(video))
    frames = [read_frame(camera) for _ in range(5)]
    pid = camera.decoder_pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    while not camera.exhausted():
        frame = camera.read(PATIENCE_S)
        frames += [frame] if frame is not None else []
    assert numbers_of(frames) == list(range(30))


def test_a_reader_that_waits_long_is_no_stall(open_camera: Open, video: Path) -> None:
    """While every frame is waiting to be taken the decoder is silent on purpose and is left alone."""
    camera = open_camera(str(video), stall_s=0.3)
    read_frame(camera)
    pid = camera.decoder_pid
    time.sleep(1.0)
    assert camera.decoder_pid == pid and camera.health().connected


def test_a_decoder_that_hangs_is_killed_and_replaced(open_camera: Open, video: Path) -> None:
    """A decoder stopped in its tracks is noticed after `stall_s`; the next one goes on."""
    camera = open_camera(str(video), stall_s=0.5, loop=True)
    read_frame(camera)
    first = camera.decoder_pid
    assert first is not None
    os.kill(first, signal.SIGSTOP)
    for _ in range(8):
        read_frame(camera)
    wait_for(lambda: not psutil.pid_exists(first), "the hung decoder to be killed")
    assert camera.decoder_pid != first


@pytest.mark.parametrize(("content", "reason"), [(None, "no such file"), (b"no video" * 100, "cannot be opened")])
def test_a_file_that_is_no_video_is_a_reason_not_a_crash(
    open_camera: Open, tmp_path: Path, content: bytes | None, reason: str
) -> None:
    """`read` returns None and health tells; the camera goes on trying."""
    path = tmp_path / "none.avi"
    if content is not None:
        path.write_bytes(content)
    camera = open_camera(str(path))
    health = wait_for_health(camera, lambda health: reason in str(health.reason), reason)
    assert not health.connected and "next attempt in" in str(health.reason)
    assert camera.read(0.05) is None and not camera.exhausted()


def test_a_frame_of_another_size_is_a_failure(open_camera: Open, video: Path) -> None:
    """A stream that changed its resolution is not inspected; the reason names both sizes."""
    frame = read_frame(open_camera(str(video), width_px=640, height_px=480))
    assert frame.pixels is None and frame.failure is not None
    assert "320x240 px, expected 640x480" in frame.failure


def test_a_camera_can_be_closed_and_opened_again(open_camera: Open, video: Path) -> None:
    """Closing ends the decoder; opening starts the file from its beginning."""
    camera = open_camera(str(video))
    read_frame(camera)
    pid = camera.decoder_pid
    assert pid is not None
    camera.close()
    assert not psutil.pid_exists(pid) and camera.read(0.01) is None
    camera.open(0)
    assert numbers_of([read_frame(camera)]) == [0]


def test_the_decoder_dies_with_its_parent(tmp_path: Path, video: Path) -> None:
    """`kill -9` of the service leaves no decoder behind, even one that is waiting for room."""
    script = (
        "import sys, time\n"
        "from inspector import config\n"
        "from inspector.cameras.stream import StreamCamera\n"
        "camera = StreamCamera(config.StreamCamera(id='cam', url=sys.argv[1], loop=True))\n"
        "camera.open(0)\n"
        "camera.read(30)\n"
        "sys.stdout.write(f'{camera.decoder_pid}\\n'); sys.stdout.flush()\n"
        "time.sleep(60)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", script, str(video)], stdout=subprocess.PIPE)
    assert parent.stdout is not None
    lines = iter(parent.stdout.readline, b"")
    pid = int(next(line for line in lines if line.strip().isdigit()))
    assert psutil.pid_exists(pid)
    parent.kill()
    parent.wait()
    parent.stdout.close()
    wait_for(lambda: not psutil.pid_exists(pid) or psutil.Process(pid).status() == "zombie", "the decoder's end")


# --- HTTP-MJPEG -------------------------------------------------------------------------------------


class MjpegServer:
    """multipart/x-mixed-replace, `rate` frames a second, grey level 5 more with each; asks for a password if told."""

    def __init__(self, rate: float, credentials: str | None = None) -> None:
        outer = self
        self.is_silent = threading.Event()

        class Connection(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                expected = None if credentials is None else base64.b64encode(credentials.encode()).decode()
                if expected is not None and self.headers.get("Authorization") != f"Basic {expected}":
                    self.send_response(401)
                    self.send_header("WWW-Authenticate", 'Basic realm="camera"')
                    self.end_headers()
                    return
                self.send_response(200)
                self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
                self.end_headers()
                with contextlib.suppress(OSError):
                    self.send_frames()

            def send_frames(self) -> None:
                for number in range(2000):
                    while outer.is_silent.is_set():
                        time.sleep(0.02)
                    done, body = cv2.imencode(".jpg", np.full((240, 320, 3), number * 5 % 250, np.uint8))
                    assert done
                    head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(body)}\r\n\r\n"
                    self.wfile.write(head.encode() + bytes(body) + b"\r\n")
                    time.sleep(1 / rate)

            def log_message(self, *_: Any) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Connection)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}/video.mjpg"
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def mjpeg_server() -> Iterator[MjpegServer]:
    server = MjpegServer(rate=40.0)
    yield server
    server.stop()


def test_newest_counts_what_nobody_took(open_camera: Open, mjpeg_server: MjpegServer) -> None:
    """A slow reader gets recent frames; each frame is delivered or counted, and health agrees."""
    camera = open_camera(mjpeg_server.url)
    first = read_frame(camera)
    frames = [first]
    for _ in range(4):
        time.sleep(0.25)
        frames.append(read_frame(camera))
    dropped = camera.take_dropped()
    levels = [round(float(frame.pixels.mean()) / 5) for frame in frames if frame.pixels is not None]
    assert 12 <= dropped <= camera.health().dropped
    assert levels[-1] - levels[0] + 1 <= len(frames) + dropped <= levels[-1] - levels[0] + 3
    age_ms = [
        (later.captured_monotonic_ns - earlier.captured_monotonic_ns) / 1e6
        for earlier, later in itertools.pairwise(frames)
    ]
    assert min(age_ms) > 100
    assert camera.take_dropped() <= 2


def test_block_makes_a_live_source_wait(open_camera: Open, mjpeg_server: MjpegServer) -> None:
    """With `block` nothing is given up, however slow the reader is."""
    camera = open_camera(mjpeg_server.url, backpressure="block")
    levels = []
    for _ in range(12):
        frame = read_frame(camera)
        assert frame.pixels is not None
        levels.append(round(float(frame.pixels.mean()) / 5))
        time.sleep(0.05)
    assert levels == list(range(levels[0], levels[0] + 12))
    assert camera.take_dropped() == 0 and camera.health().dropped == 0


def test_a_command_takes_one_frame_captured_after_it(open_camera: Open, mjpeg_server: MjpegServer) -> None:
    """Frames without a command are no parts and no drops; the one after it is."""
    camera = open_camera(mjpeg_server.url, trigger=CommandTrigger(frame_timeout_s=20.0))
    wait_for_health(camera, lambda health: health.connected, "the connection")
    assert camera.read(0.2) is None
    armed_ns = time.monotonic_ns()
    camera.arm()
    assert read_frame(camera).captured_monotonic_ns >= armed_ns
    assert camera.read(0.2) is None
    assert camera.take_dropped() == 0


def test_an_interval_takes_one_frame_each_interval(open_camera: Open, mjpeg_server: MjpegServer) -> None:
    """Frames between two parts are neither delivered nor given up."""
    camera = open_camera(mjpeg_server.url, trigger=IntervalTrigger(interval_s=0.4))
    frames = [read_frame(camera) for _ in range(3)]
    gap_s = (frames[2].captured_monotonic_ns - frames[1].captured_monotonic_ns) / 1e9
    assert gap_s == pytest.approx(0.4, abs=0.15)
    assert camera.take_dropped() == 0


def test_credentials_from_the_environment_reach_the_camera_and_no_log(
    open_camera: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """User and password, with characters that URLs reserve, log in; neither a log line nor health ever shows them."""
    monkeypatch.setenv("CAM_USER", "inspector")
    monkeypatch.setenv("CAM_PASSWORD", "p@ss:w/rd#1")
    server = MjpegServer(40.0, "inspector:p@ss:w/rd#1")
    try:
        with structlog.testing.capture_logs() as logs:
            camera = open_camera(server.url, username_env="CAM_USER", password_env="CAM_PASSWORD")
            read_frame(camera)
            pid = camera.decoder_pid
            assert pid is not None
            process = psutil.Process(pid)
            assert "p@ss" not in " ".join(process.cmdline())
            monkeypatch.setenv("CAM_PASSWORD", "wrong-one")
            stranger = open_camera(server.url, username_env="CAM_USER", password_env="CAM_PASSWORD")
            health = wait_for_health(stranger, lambda health: "opened" in str(health.reason), "the refusal")
    finally:
        server.stop()
    told = f"{logs} {health}"
    assert "401" in told
    assert not any(secret in told for secret in ("p@ss", "p%40ss", "wrong-one", "inspector:"))


def test_a_missing_environment_variable_is_a_configuration_error() -> None:
    """Waiting cannot mend it, so `open` says so."""
    camera = StreamCamera(settings.StreamCamera(id="cam", url="rtsp://camera/line", username_env="NOT_SET_ANYWHERE"))
    with pytest.raises(ConfigError, match="NOT_SET_ANYWHERE"):
        camera.open(0)


def test_nobody_there_is_retried_with_growing_pauses(open_camera: Open) -> None:
    """A refused connection is tried again, later each time, up to `backoff_max_s`."""
    with structlog.testing.capture_logs() as logs:
        camera = open_camera(f"http://127.0.0.1:{find_free_port()}/video", backoff_max_s=1.0)
        pauses: list[float] = []

        def has_three() -> bool:
            pauses[:] = [entry["retry_s"] for entry in logs if entry["event"] == "stream_lost"]
            return len(pauses) >= 3

        wait_for(has_three, "three attempts")
    assert pauses[0] <= 0.5 and 0.5 <= pauses[2] <= 1.0
    assert "refused" in str(camera.health().reason)


def test_a_silent_server_is_noticed(open_camera: Open, mjpeg_server: MjpegServer) -> None:
    """A connection that stays open without frames is a stall: reported, restarted, and frames come again."""
    camera = open_camera(mjpeg_server.url, stall_s=0.6)
    read_frame(camera)
    mjpeg_server.is_silent.set()
    wait_for_health(camera, lambda health: not health.connected, "the stall")
    mjpeg_server.is_silent.clear()
    wait_for_health(camera, lambda health: health.connected, "the reconnection")
    read_frame(camera)


# --- small parts --------------------------------------------------------------------------------------


def test_urls_with_credentials() -> None:
    """Reserved characters are encoded; without a user the URL stays as it is."""
    assert with_credentials("rtsp://cam:554/x?y=1", "a@b", "c:/d") == "rtsp://a%40b:c%3A%2Fd@cam:554/x?y=1"
    assert with_credentials("rtsp://cam/x", None, None) == "rtsp://cam/x"
    assert with_credentials("http://cam/x", "user", None) == "http://user@cam/x"


def test_library_output_is_cleaned_before_it_is_shown() -> None:
    """User info, the secrets themselves and memory addresses are removed, and the line is bounded."""
    line = "[rtsp @ 0x55bf938d5380] rtsp://user:pa%40ss@cam/x failed for pa@ss " + "x" * 500
    cleaned = _without_credentials(line, ["pa@ss"])
    assert cleaned.startswith("rtsp: rtsp://***@cam/x failed for *** ") and len(cleaned) <= 200


def test_each_kind_of_configuration_gives_its_camera(tmp_path: Path) -> None:
    """`make_camera` dispatches on the kind and opens nothing."""

    def make(config: settings.CameraConfig) -> Camera:
        return make_camera(config, lambda identity: "new", lambda prefix: False)

    folder = make(settings.FolderCamera(id="drop", path=tmp_path))
    stream = make(settings.StreamCamera(id="live", url="/dev/video0"))
    simulated = make(settings.SimulatedCamera(id="sim"))
    assert [camera.camera_id for camera in (folder, stream, simulated)] == ["drop", "live", "sim"]
