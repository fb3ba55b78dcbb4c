"""Streams against real servers: frames, drops, stalls, reconnects, and decoders that die with their parent."""

from __future__ import annotations

import base64
import contextlib
import http.server
import itertools
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import psutil
import pytest
import structlog

from inspector import config as settings
from inspector.cameras.camera import CapturedFrame
from inspector.cameras.decoder_process import _without_credentials
from inspector.cameras.open_camera import make_camera
from inspector.cameras.stream import StreamCamera
from inspector.cameras.stream_decoder import with_credentials
from inspector.config import CommandTrigger, IntervalTrigger
from inspector.errors import ConfigError
from inspector.records import CameraHealth

PATIENCE_S = 30.0
SYSTEM_PYTHON = "/usr/bin/python3"

RTSP_SERVER = """
import sys, gi
gi.require_version("Gst", "1.0"); gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtspServer
Gst.init(None)
server = GstRtspServer.RTSPServer(); server.set_address("127.0.0.1"); server.set_service(sys.argv[1])
factory = GstRtspServer.RTSPMediaFactory(); factory.set_shared(True)
factory.set_launch("( videotestsrc is-live=true pattern=white ! video/x-raw,format=I420,width=320,height=240,"
    "framerate=20/1 ! x264enc tune=zerolatency speed-preset=ultrafast key-int-max=5 ! rtph264pay name=pay0 pt=96 )")
if len(sys.argv) > 2:
    auth = GstRtspServer.RTSPAuth(); token = GstRtspServer.RTSPToken()
    token.set_string("media.factory.role", "user")
    auth.add_basic(GstRtspServer.RTSPAuth.make_basic(sys.argv[2], sys.argv[3]), token); server.set_auth(auth)
    rights = GstRtspServer.RTSPPermissions()
    rights.add_permission_for_role("user", "media.factory.access", True)
    rights.add_permission_for_role("user", "media.factory.construct", True)
    factory.set_permissions(rights)
server.get_mount_points().add_factory("/line", factory); server.attach(None)
print("ready", flush=True)
GLib.MainLoop().run()
"""


def has_rtsp_server() -> bool:
    if not Path(SYSTEM_PYTHON).exists() or shutil.which("gst-inspect-1.0") is None:
        return False
    probe = "import gi; gi.require_version('GstRtspServer', '1.0'); from gi.repository import GstRtspServer"
    found = subprocess.run([SYSTEM_PYTHON, "-c", probe], capture_output=True, check=False).returncode == 0
    return found and subprocess.run(["gst-inspect-1.0", "x264enc"], capture_output=True, check=False).returncode == 0


rtsp = pytest.mark.rtsp
needs_rtsp = pytest.mark.skipif(
    not has_rtsp_server(), reason="gir1.2-gst-rtsp-server-1.0 or GStreamer's x264enc is not installed"
)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class RtspServer:
    """GStreamer's RTSP server in a process of its own, with 20 white frames a second at /line."""

    def __init__(self, *credentials: str) -> None:
        self.port = free_port()
        self._credentials = credentials
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"rtsp://127.0.0.1:{self.port}/line"

    def start(self) -> None:
        self._process = subprocess.Popen(
            [SYSTEM_PYTHON, "-c", RTSP_SERVER, str(self.port), *self._credentials],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == b"ready\n"

    def send(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            assert self._process.stdout is not None
            self._process.stdout.close()
            self._process = None


@pytest.fixture
def rtsp_server() -> Iterator[RtspServer]:
    server = RtspServer()
    server.start()
    yield server
    server.kill()


Open = Callable[..., StreamCamera]


@pytest.fixture
def open_camera() -> Iterator[Open]:
    opened: list[StreamCamera] = []

    def open_one(url: str, **values: Any) -> StreamCamera:
        quick = {"stall_s": 1.0, "open_timeout_s": 8.0, "backoff_max_s": 0.4, **values}
        camera = StreamCamera(settings.StreamCamera(id="cam", url=url, **quick))
        camera.open(0)
        opened.append(camera)
        return camera

    yield open_one
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
        camera = open_camera(f"http://127.0.0.1:{free_port()}/video", backoff_max_s=1.0)
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


# --- RTSP -------------------------------------------------------------------------------------------


@rtsp
@needs_rtsp
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


@rtsp
@needs_rtsp
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


@rtsp
@needs_rtsp
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


@rtsp
@needs_rtsp
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
    folder = make_camera(settings.FolderCamera(id="drop", path=tmp_path), lambda identity: "new")
    stream = make_camera(settings.StreamCamera(id="live", url="/dev/video0"), lambda identity: "new")
    simulated = make_camera(settings.SimulatedCamera(id="sim"), lambda identity: "new")
    assert [camera.camera_id for camera in (folder, stream, simulated)] == ["drop", "live", "sim"]
