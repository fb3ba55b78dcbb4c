"""Live streams and video files, decoded in a process that can be killed when the decoder hangs."""

from __future__ import annotations

import dataclasses
import random
import threading
import time
from collections import deque

import structlog

from inspector import config as settings
from inspector.cameras.camera import CapturedFrame
from inspector.cameras.decoder_process import DecoderProcess, HeldFrame
from inspector.cameras.health import HealthMeter
from inspector.cameras.stream_decoder import DecoderTask, is_file_url
from inspector.cameras.triggers import make_gate
from inspector.config import read_secret
from inspector.errors import ImageSizeError
from inspector.images import check_size
from inspector.records import CameraHealth

log = structlog.get_logger(__name__)

START_TIMEOUT_S = 60.0
"""For the decoder process to load its libraries, on a busy machine with a cold disk."""
POLL_S = 0.2
FIRST_BACKOFF_S = 0.5
STEADY_AFTER_S = 5.0
"""A connection that lasted this long makes the next back-off start short again."""


class StreamCamera:
    """Implements `inspector.cameras.camera.Camera` over RTSP, HTTP-MJPEG, a V4L2 device or a video file.

    A thread keeps one decoder process running: it kills it when it does not open within
    `open_timeout_s` or gives no frame for `stall_s`, and starts the next one after a back-off that
    doubles, with jitter, up to `backoff_max_s`. Meanwhile `read` returns None and `health` says why.

    Back-pressure `newest`: only the newest part waits; an older one that nobody took is given up and
    counted (`take_dropped`, `health().dropped`), and so is, when every frame is a part, what the decoder
    had no room for. `block`: parts wait in order, the decoder stops, the source has to wait.

    A video file always blocks, because it can; its frames' deadline starts when they are taken. At its
    end the camera is exhausted unless `loop`. A decoder that had to be replaced continues where it was; a
    restart of the service begins again, since the frames have no identity.

    RTSP, HTTP-MJPEG and files are tested against real servers. V4L2 devices, by `/dev/videoN`, are not
    tested: no test machine has one.
    """

    def __init__(self, config: settings.StreamCamera) -> None:
        self._config = config
        self._is_file = is_file_url(config.url)
        self._is_blocking = self._is_file or config.backpressure == "block"
        self._meter = HealthMeter(config.id)
        self._gate = make_gate(config.trigger)
        self._changed = threading.Condition()
        self._waiting: deque[HeldFrame] = deque()
        self._given_up = 0
        self._ended = False
        self._file_frames = 0
        self._connected = False
        self._reason: str | None = "not opened yet"
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._decoder_pid: int | None = None

    @property
    def camera_id(self) -> str:
        return self._config.id

    @property
    def decoder_pid(self) -> int | None:
        """Process id of the decoder that runs now, for diagnosis."""
        return self._decoder_pid

    def open(self, resume_after: int) -> None:
        """Start connecting. `ConfigError` when a configured environment variable is not set."""
        task = self._make_task()
        self.close()
        self._ended, self._file_frames = False, 0
        self._set_state(False, "connecting")
        self._stop = threading.Event()
        self._thread = threading.Thread(
            target=self._keep_connected, args=(task, self._stop), name=f"stream-{self.camera_id}", daemon=True
        )
        self._thread.start()

    def read(self, timeout_s: float) -> CapturedFrame | None:
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._ended, timeout_s)
            if not self._waiting:
                return None
            held = self._waiting.popleft()
        pixels = held.pixels.copy()
        held.release()
        captured_ns = time.monotonic_ns() if self._is_file else held.captured_ns
        failure = self._describe_wrong_size(pixels.shape[1], pixels.shape[0])
        return CapturedFrame(
            captured_utc_us=held.captured_utc_us,
            captured_monotonic_ns=captured_ns,
            pixels=pixels if failure is None else None,
            failure=failure,
        )

    def arm(self) -> None:
        self._gate.arm()

    def settle(self, frame: CapturedFrame, *, failed: str | None = None) -> None:
        """A stream keeps nothing."""

    def still_has(self, source_identity: str) -> bool:
        return False

    def take_dropped(self) -> int:
        """Parts given up since the last call; each is a trigger that was NOT_INSPECTED."""
        with self._changed:
            given_up, self._given_up = self._given_up, 0
            return given_up

    def exhausted(self) -> bool:
        with self._changed:
            return self._ended and not self._waiting

    def health(self) -> CameraHealth:
        with self._changed:
            connected, reason = self._connected, self._reason
        return self._meter.snapshot(connected, reason)

    def close(self) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        with self._changed:
            self._waiting.clear()
            self._connected, self._reason = False, "closed"

    # --- the thread that keeps a decoder running ------------------------------------------------------

    def _make_task(self) -> DecoderTask:
        config = self._config
        return DecoderTask(
            url=config.url,
            is_blocking=self._is_blocking,
            loop=config.loop,
            rtsp_transport=config.rtsp_transport,
            open_timeout_s=config.open_timeout_s,
            stall_s=config.stall_s,
            width_px=config.width_px,
            height_px=config.height_px,
            username=read_secret(config.username_env),
            password=read_secret(config.password_env),
        )

    def _keep_connected(self, task: DecoderTask, stop: threading.Event) -> None:
        delay_s = FIRST_BACKOFF_S
        while not stop.is_set():
            started_s = time.monotonic()
            try:
                reason = self._run_decoder(task, stop)
            except Exception as error:  # the outermost loop of this thread; a camera must come back
                log.exception("stream_failed", camera=self.camera_id)
                reason = f"{type(error).__name__} while running the decoder"
            if stop.is_set():
                return
            if reason is None:
                self._finish()
                return
            if time.monotonic() - started_s >= STEADY_AFTER_S + delay_s:
                delay_s = FIRST_BACKOFF_S
            pause_s = min(delay_s, self._config.backoff_max_s) * random.uniform(0.5, 1.0)
            log.warning("stream_lost", camera=self.camera_id, url=task.url, reason=reason, retry_s=round(pause_s, 1))
            self._set_state(False, f"{reason}; next attempt in {pause_s:.1f} s")
            stop.wait(pause_s)
            delay_s = min(delay_s * 2, self._config.backoff_max_s)

    def _run_decoder(self, task: DecoderTask, stop: threading.Event) -> str | None:
        """Run one decoder until it ends or has to be killed; the reason, None for the end of a file."""
        decoder = DecoderProcess(dataclasses.replace(task, skip_frames=self._file_frames))
        self._decoder_pid = decoder.pid
        patience_s, give_up = START_TIMEOUT_S, "the decoder did not start"
        progress_s = time.monotonic()
        try:
            while not stop.is_set():
                message = decoder.receive(POLL_S)
                if message is not None or decoder.is_waiting_for_us:
                    progress_s = time.monotonic()
                elif time.monotonic() - progress_s > patience_s:
                    return f"{give_up} within {patience_s:g} s"
                if isinstance(message, HeldFrame):
                    self._accept(message)
                elif message is not None and message["kind"] == "ended":
                    return _with_last_words(message["reason"], decoder.last_words)
                elif message is not None and message["kind"] == "ready":
                    patience_s, give_up = self._config.open_timeout_s, "could not be opened"
                elif message is not None and message["kind"] == "opened":
                    patience_s, give_up = self._config.stall_s, "stalled: no frame"
                    self._set_state(True, None)
                    log.info("stream_opened", camera=self.camera_id, width=message["width"], height=message["height"])
        finally:
            decoder.kill()
            self._decoder_pid = None
        return None

    def _accept(self, held: HeldFrame) -> None:
        """Count a frame, ask the trigger, and let it wait for `read` if it is a part."""
        self._meter.saw(held.pixels)
        if self._is_file and not self._config.loop:
            self._file_frames += 1
        if held.missed:
            self._meter.drop(held.missed)
        is_part = self._gate.offer(held.pixels, held.captured_ns / 1e9)
        given_up: HeldFrame | None = None
        with self._changed:
            if self._config.trigger.kind == "every_frame":
                self._given_up += held.missed
            if is_part:
                if self._waiting and not self._is_blocking:
                    given_up = self._waiting.popleft()
                    self._given_up += 1
                self._waiting.append(held)
                self._changed.notify_all()
        if given_up is not None:
            self._meter.drop()
            given_up.release()
        if not is_part:
            held.release()

    def _finish(self) -> None:
        with self._changed:
            self._ended = True
            self._connected, self._reason = False, "ended"
            self._changed.notify_all()

    def _set_state(self, connected: bool, reason: str | None) -> None:
        with self._changed:
            self._connected, self._reason = connected, reason

    def _describe_wrong_size(self, width_px: int, height_px: int) -> str | None:
        declared = (self._config.width_px or width_px, self._config.height_px or height_px)
        try:
            check_size(width_px, height_px, declared)
        except ImageSizeError as error:
            return str(error)
        return None


def _with_last_words(reason: str | None, last_words: str) -> str | None:
    return f"{reason} ({last_words})" if reason is not None and last_words else reason
