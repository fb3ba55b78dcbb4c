"""A camera that does what a test tells it to: the boundary of the station pipeline."""

from __future__ import annotations

import queue
import threading
import time

from inspector.cameras.camera import CapturedFrame
from inspector.clock import utc_now_us
from inspector.records import CameraHealth


class ScriptedCamera:
    """Delivers the frames that `push` put in; exhausted after `end` once they are gone."""

    def __init__(self, camera_id: str, *, needs_arming: bool = False) -> None:
        self._camera_id = camera_id
        self._frames: queue.Queue[CapturedFrame] = queue.Queue()
        self._ended = threading.Event()
        self._armed = threading.Event()
        self._needs_arming = needs_arming
        self.opened_after: int | None = None
        self.settled: list[tuple[CapturedFrame, str | None]] = []
        self.dropped = 0
        self.kept: set[str] = set()

    @property
    def camera_id(self) -> str:
        return self._camera_id

    def push(self, encoded: bytes, **details: object) -> None:
        self._frames.put(
            CapturedFrame(
                captured_utc_us=utc_now_us(),
                captured_monotonic_ns=time.monotonic_ns(),
                encoded=encoded,
                **details,  # type: ignore[arg-type]
            )
        )

    def end(self) -> None:
        self._ended.set()

    def open(self, resume_after: int) -> None:
        self.opened_after = resume_after

    def read(self, timeout_s: float) -> CapturedFrame | None:
        if self._needs_arming and not self._armed.is_set():
            time.sleep(min(timeout_s, 0.02))
            return None
        try:
            frame = self._frames.get(timeout=min(timeout_s, 0.05))
        except queue.Empty:
            return None
        self._armed.clear()
        return frame

    def arm(self) -> None:
        self._armed.set()

    def settle(self, frame: CapturedFrame, *, failed: str | None) -> None:
        self.settled.append((frame, failed))

    def still_has(self, source_identity: str) -> bool:
        return source_identity in self.kept

    def take_dropped(self) -> int:
        dropped, self.dropped = self.dropped, 0
        return dropped

    def exhausted(self) -> bool:
        return self._ended.is_set() and self._frames.empty()

    def health(self) -> CameraHealth:
        return CameraHealth(self._camera_id, True, None, None, 0, None, None)

    def close(self) -> None:
        """Nothing to release."""
