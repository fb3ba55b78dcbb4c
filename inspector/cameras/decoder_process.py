"""The product's side of one decoder process: start it, receive its frames, kill it."""

from __future__ import annotations

import contextlib
import json
import mmap
import os
import re
import select
import socket
import subprocess
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np

from inspector.cameras import stream_decoder
from inspector.cameras.stream_decoder import PACKET_BYTES, SLOTS, DecoderTask
from inspector.records import BgrImage

LONGEST_LAST_WORDS = 200
LONGEST_OUTPUT_TAIL = 4096
SHORTEST_SECRET = 4
"""Shorter user names and passwords would be found inside ordinary words; they are removed with the URL's user info."""


@dataclass(frozen=True, slots=True)
class HeldFrame:
    """A frame in shared memory; its slot is filled again only after `release`."""

    decoder: DecoderProcess
    slot: int
    pixels: BgrImage
    """A view; copy it before `release`."""
    captured_ns: int
    captured_utc_us: int
    missed: int

    def release(self) -> None:
        self.decoder.release(self.slot)


class DecoderProcess:
    """One run of `stream_decoder.py`. It dies with the thread that made this object, and at `kill`.

    One thread receives; any thread may release. A frame stays readable after the process is gone.
    """

    def __init__(self, task: DecoderTask) -> None:
        self._secrets = [item for item in (task.password, task.username) if item and len(item) >= SHORTEST_SECRET]
        self._lock = threading.Lock()
        self._closed = False
        self._held = 0
        self._frames: np.ndarray[Any, np.dtype[np.uint8]] | None = None
        self._output_tail = b""
        self._memory_fd = os.memfd_create("inspector-frames")
        self._link, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._output_fd, their_output = os.pipe2(os.O_CLOEXEC)
        try:
            self._link.send(task.to_packet())
            self._process = _start_script((theirs.fileno(), self._memory_fd), their_output)
        except BaseException:
            self._close()
            raise
        finally:
            theirs.close()
            os.close(their_output)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def last_words(self) -> str:
        """The last line that the decoder's libraries wrote since the last frame, without credentials."""
        self._drain_output()
        lines = [line for line in self._output_tail.decode("utf-8", "replace").splitlines() if line.strip()]
        return _without_credentials(lines[-1], self._secrets) if lines else ""

    @property
    def is_waiting_for_us(self) -> bool:
        """Every slot is held here: no frame can come, and that is no stall."""
        return self._held >= SLOTS

    def receive(self, timeout_s: float) -> dict[str, Any] | HeldFrame | None:
        """The next message, None when there was none in time. The end of the process reads as `ended`."""
        link_fd = self._link.fileno()
        readable = select.select([link_fd, self._output_fd], [], [], timeout_s)[0]
        message = self._receive_packet() if link_fd in readable else None
        if message is not None and message["kind"] == "frame":
            self._output_tail = b""
        self._drain_output()
        if message is not None and message["kind"] == "opened":
            self._map_frames(message["height"], message["width"])
        return self._hold(message) if message is not None and message["kind"] == "frame" else message

    def release(self, slot: int) -> None:
        """The slot may be filled again."""
        with self._lock:
            self._held -= 1
            if not self._closed:
                with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                    self._link.send(json.dumps({"free": slot}).encode())

    def kill(self) -> None:
        """End the process, whatever it is doing, and let go of everything but frames still held."""
        self._process.kill()
        self._process.wait()
        self._close()

    def _close(self) -> None:
        with self._lock:
            if self._closed:
                return
            self._closed = True
            self._link.close()
            os.close(self._output_fd)
            os.close(self._memory_fd)

    def _receive_packet(self) -> dict[str, Any]:
        try:
            packet = self._link.recv(PACKET_BYTES)
        except ConnectionResetError:
            packet = self._link.recv(PACKET_BYTES)  # it died with our packets unread; its own still lie here
        if not packet:
            return {"kind": "ended", "reason": f"the decoder died ({self._describe_exit()})"}
        message: dict[str, Any] = json.loads(packet)
        return message

    def _hold(self, message: dict[str, Any]) -> HeldFrame | None:
        if self._frames is None:
            return None
        with self._lock:
            self._held += 1
        slot = message["slot"]
        return HeldFrame(
            decoder=self,
            slot=slot,
            pixels=self._frames[slot],
            captured_ns=message["captured_ns"],
            captured_utc_us=message["captured_utc_us"],
            missed=message["missed"],
        )

    def _map_frames(self, height: int, width: int) -> None:
        memory = mmap.mmap(self._memory_fd, SLOTS * height * width * 3, prot=mmap.PROT_READ)
        self._frames = np.frombuffer(memory, np.uint8).reshape(SLOTS, height, width, 3)

    def _describe_exit(self) -> str:
        with contextlib.suppress(subprocess.TimeoutExpired):
            code = self._process.wait(timeout=1.0)
            return f"signal {-code}" if code < 0 else f"exit code {code}"
        return "it closed its end"

    def _drain_output(self) -> None:
        while select.select([self._output_fd], [], [], 0)[0]:
            text = os.read(self._output_fd, PACKET_BYTES)
            self._output_tail = (self._output_tail + text)[-LONGEST_OUTPUT_TAIL:]
            if not text:
                return


def _start_script(descriptors: tuple[int, int], output_fd: int) -> subprocess.Popen[bytes]:
    script = str(Path(stream_decoder.__file__))
    return subprocess.Popen(
        [sys.executable, "-P", script, *(str(item) for item in descriptors), str(os.getpid())],
        stdin=subprocess.DEVNULL,
        stdout=output_fd,  # where OpenCV puts FFmpeg's messages
        stderr=output_fd,
        pass_fds=descriptors,
    )


def _without_credentials(line: str, secrets: list[str]) -> str:
    """One line of a library's output, fit for logs: no user info, no secrets, no addresses, bounded."""
    line = re.sub(r"//[^/@\s]+@", "//***@", line)
    for secret in secrets:
        line = line.replace(quote(secret, safe=""), "***").replace(secret, "***")
    line = re.sub(r"^\[OPENCV:FFMPEG:\d+\]\s*", "", line.strip())
    line = re.sub(r"^\[(\w+) @ 0x[0-9a-f]+\]\s*", r"\1: ", line)
    return line[:LONGEST_LAST_WORDS]
