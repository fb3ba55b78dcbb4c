"""The process that decodes a stream: OpenCV and nothing of ours, so that it can be killed whenever it hangs.

Run as a script by `decoder_process`; it imports no other module of the product. It talks over one
SOCK_SEQPACKET socket (one JSON object a packet) and hands frames over in shared memory, a memfd of
`SLOTS` frames (no name to leak, not limited by /dev/shm).

    to it       first a DecoderTask, then {"free": slot} for each slot it may fill again
    from it     {"kind": "ready"}                           imports done, opening now
                {"kind": "opened", "width", "height"}       the memfd has its size now
                {"kind": "frame", "slot", "captured_ns", "captured_utc_us", "missed"}
                {"kind": "ended", "reason": null | text}    its last; null: a file came to its end

`missed` counts frames that found no free slot since the previous packet; they exist only with
`is_blocking` false. Frames are (height, width, 3) uint8 BGR.
"""

from __future__ import annotations

import ctypes
import json
import mmap
import os
import select
import signal
import socket
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit, urlunsplit

SLOTS = 3
"""One being written, one waiting to be taken, one being copied."""
PACKET_BYTES = 65_536
PR_SET_PDEATHSIG = 1
FFMPEG_LOG_WARNINGS = "24"
"""The level at which FFmpeg tells why a camera refused; its last words become the reason in `health`."""


@dataclass(frozen=True, slots=True)
class DecoderTask:
    """What to decode. The credentials travel in here and become part of the URL in the decoder only."""

    url: str
    is_blocking: bool
    loop: bool
    rtsp_transport: str
    open_timeout_s: float
    stall_s: float
    skip_frames: int = 0
    """Frames of a video file that an earlier decoder handed over before it had to be killed."""
    width_px: int | None = None
    height_px: int | None = None
    username: str | None = None
    password: str | None = None

    def to_packet(self) -> bytes:
        return json.dumps(asdict(self)).encode()


def is_file_url(url: str) -> bool:
    """Whether a stream's URL names a video file: it ends, and it can wait."""
    return "://" not in url and not is_device_url(url)


def is_device_url(url: str) -> bool:
    """Whether a stream's URL names a V4L2 device."""
    return url.startswith("/dev/video")


def with_credentials(url: str, username: str | None, password: str | None) -> str:
    """The URL with user and password in it, percent-encoded."""
    if username is None:
        return url
    parts = urlsplit(url)
    user = quote(username, safe="") + (":" + quote(password, safe="") if password is not None else "")
    return urlunsplit(parts._replace(netloc=f"{user}@{parts.netloc}"))


class _SlotWriter:
    """Fills the free slots of the shared memory and tells the other side."""

    def __init__(self, link: socket.socket, memory_fd: int, is_blocking: bool) -> None:
        self._link = link
        self._memory_fd = memory_fd
        self._is_blocking = is_blocking
        self._memory: Any = None
        self._shape: tuple[int, ...] | None = None
        self._free = set(range(SLOTS))
        self._missed = 0

    def tell(self, kind: str, **values: Any) -> None:
        self._link.send(json.dumps({"kind": kind, **values}).encode())

    def has_room(self) -> bool:
        """Whether a slot is free now; otherwise the frame at hand is counted as missed. Waits when it may."""
        self._collect_free()
        self._missed += not self._free
        return bool(self._free)

    def write(self, pixels: Any, captured_ns: int, captured_utc_us: int) -> bool:
        """Hand one frame over, after `has_room`. False when frames changed their size."""
        if self._shape is None:
            self._allocate(pixels.shape)
        if pixels.shape != self._shape:
            return False
        slot = self._free.pop()
        self._memory[slot] = pixels
        times = {"captured_ns": captured_ns, "captured_utc_us": captured_utc_us}
        self.tell("frame", slot=slot, missed=self._missed, **times)
        self._missed = 0
        return True

    def wait_for_the_end(self) -> None:
        """Read what still comes until the other side hangs up: leaving earlier could cost it our last packets."""
        while self._link.recv(PACKET_BYTES):
            pass

    def _allocate(self, shape: tuple[int, ...]) -> None:
        import numpy as np

        size = SLOTS * shape[0] * shape[1] * shape[2]
        os.ftruncate(self._memory_fd, size)
        self._memory = np.frombuffer(mmap.mmap(self._memory_fd, size), np.uint8).reshape(SLOTS, *shape)
        self._shape = shape
        self.tell("opened", height=shape[0], width=shape[1])

    def _collect_free(self) -> None:
        """Take back slots; wait for one when the source can be made to wait. The other side's end ends us."""
        while True:
            must_wait = self._is_blocking and not self._free
            if not select.select([self._link], [], [], None if must_wait else 0)[0]:
                return
            packet = self._link.recv(PACKET_BYTES)
            if not packet:
                raise SystemExit(0)
            self._free.add(json.loads(packet)["free"])


def decode_stream(task: DecoderTask, writer: _SlotWriter) -> str | None:
    """Decode until the source ends; the reason, None for the end of a file."""
    is_file = is_file_url(task.url)
    delivered = 0
    while True:
        reason, count = _decode_once(task, writer)
        delivered += count
        if reason is not None or not is_file or count == 0:
            return reason if delivered or reason or task.skip_frames else "holds no frame that can be decoded"
        if not task.loop:
            return None


def _decode_once(task: DecoderTask, writer: _SlotWriter) -> tuple[str | None, int]:
    """One pass through the source: (reason or None at the end of a file, frames)."""
    import cv2

    if is_file_url(task.url) and not Path(task.url).is_file():
        return "no such file", 0
    capture = _open_capture(task)
    if not capture.isOpened():
        return "cannot be opened", 0
    count = 0
    for _ in range(task.skip_frames):
        capture.grab()
    while True:
        has_frame = capture.grab()
        captured_ns, captured_utc_us = time.monotonic_ns(), time.time_ns() // 1000
        if has_frame and not writer.has_room():
            continue
        done, pixels = capture.retrieve() if has_frame else (False, None)
        if not done or pixels is None:
            return None if is_file_url(task.url) else "the stream ended", count
        if pixels.ndim == 2 or pixels.shape[2] == 1:
            pixels = cv2.cvtColor(pixels, cv2.COLOR_GRAY2BGR)
        if not writer.write(pixels, captured_ns, captured_utc_us):
            return f"the frame size changed to {pixels.shape[1]}x{pixels.shape[0]}", count
        count += 1


def _open_capture(task: DecoderTask) -> Any:
    import cv2

    if is_device_url(task.url):
        capture = cv2.VideoCapture(task.url, cv2.CAP_V4L2)
        capture.set(cv2.CAP_PROP_BUFFERSIZE, 4 if task.is_blocking else 1)
        if task.width_px and task.height_px:
            capture.set(cv2.CAP_PROP_FRAME_WIDTH, task.width_px)
            capture.set(cv2.CAP_PROP_FRAME_HEIGHT, task.height_px)
        return capture
    # The other side kills this process at its time-outs; these only make a clean end likelier.
    limits = [
        cv2.CAP_PROP_OPEN_TIMEOUT_MSEC,
        int(task.open_timeout_s * 1000),
        cv2.CAP_PROP_READ_TIMEOUT_MSEC,
        int(task.stall_s * 1000),
    ]
    return cv2.VideoCapture(with_credentials(task.url, task.username, task.password), cv2.CAP_FFMPEG, limits)


def main(arguments: list[str]) -> None:
    """`stream_decoder.py SOCKET_FD MEMORY_FD PARENT_PID`."""
    socket_fd, memory_fd, parent_pid = (int(argument) for argument in arguments)
    libc = ctypes.CDLL(None)
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to the whole group; the service stops us itself
    if os.getppid() != parent_pid:
        return
    link = socket.socket(fileno=socket_fd)
    task = DecoderTask(**json.loads(link.recv(PACKET_BYTES)))
    os.environ["OPENCV_LOG_LEVEL"] = "SILENT"
    os.environ["OPENCV_FFMPEG_LOGLEVEL"] = FFMPEG_LOG_WARNINGS
    if task.url.startswith("rtsp"):
        os.environ["OPENCV_FFMPEG_CAPTURE_OPTIONS"] = f"rtsp_transport;{task.rtsp_transport}"
    import cv2  # noqa: F401  (reads the environment when it is loaded)

    writer = _SlotWriter(link, memory_fd, task.is_blocking)
    try:
        writer.tell("ready")
        reason = decode_stream(task, writer)
        libc.fflush(None)  # OpenCV prints FFmpeg's messages with stdio, which holds them back in a pipe
        writer.tell("ended", reason=reason)
        writer.wait_for_the_end()
    except (BrokenPipeError, ConnectionResetError):
        return


if __name__ == "__main__":
    main(sys.argv[1:])
