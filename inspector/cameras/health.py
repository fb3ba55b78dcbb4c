"""How a camera is doing, measured from the frames that pass by."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray

from inspector.records import BgrImage, CameraHealth

RATE_WINDOW_S = 10.0
MEASURED_WIDTH_PX = 480
SHORTEST_MEASURE_INTERVAL_S = 0.5
LARGEST_MEASURE_SHARE = 0.025
"""Share of one core that measuring level and focus may take, whatever the frames cost to reduce."""

REDUCED_FLAGS = (
    (6.0, cv2.IMREAD_REDUCED_GRAYSCALE_8),
    (3.0, cv2.IMREAD_REDUCED_GRAYSCALE_4),
    (1.5, cv2.IMREAD_REDUCED_GRAYSCALE_2),
)
"""From which multiple of the measured width on which reduction is used."""


class HealthMeter:
    """Counts frames and drops, and measures brightness and focus now and then. Thread-safe."""

    def __init__(self, camera_id: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._camera_id = camera_id
        self._clock = clock
        self._lock = threading.Lock()
        self._seen_s: deque[float] = deque()
        self._first_s: float | None = None
        self._last_s: float | None = None
        self._dropped = 0
        self._level: float | None = None
        self._focus: float | None = None
        self._measure_after_s = float("-inf")

    def saw(self, pixels: BgrImage | None = None) -> None:
        """One frame came by; level and focus are measured from `pixels` when they are due, at most twice a second."""
        if self._count_frame() and pixels is not None:
            self._measure(lambda: _reduce(pixels))

    def saw_encoded(self, encoded: bytes, width_px: int) -> None:
        """Like `saw`, for a compressed frame: decoded at reduced size, and only when level and focus are due."""
        if self._count_frame():
            self._measure(lambda: _decode_reduced(encoded, width_px))

    def drop(self, count: int = 1) -> None:
        """This many frames were given up."""
        with self._lock:
            self._dropped += count

    def snapshot(self, connected: bool, reason: str | None = None) -> CameraHealth:
        """The health now. `frames_per_s` is over the last ten seconds, None before the second frame."""
        with self._lock:
            now = self._clock()
            return CameraHealth(
                camera=self._camera_id,
                connected=connected,
                frames_per_s=self._rate(now),
                last_frame_age_s=None if self._last_s is None else max(0.0, now - self._last_s),
                dropped=self._dropped,
                level=self._level,
                focus=self._focus,
                reason=reason,
            )

    def _count_frame(self) -> bool:
        """Count a frame; True when the caller is the one to measure it."""
        with self._lock:
            now = self._clock()
            self._seen_s.append(now)
            self._forget_old(now)
            self._first_s = now if self._first_s is None else self._first_s
            self._last_s = now
            if now < self._measure_after_s:
                return False
            self._measure_after_s = now + SHORTEST_MEASURE_INTERVAL_S
            return True

    def _measure(self, reduce: Callable[[], NDArray[np.uint8] | None]) -> None:
        started_s = time.perf_counter()
        grey = reduce()
        if grey is None:
            return
        level = float(grey.mean())
        focus = float(cv2.Laplacian(grey, cv2.CV_32F).var())
        cost_s = time.perf_counter() - started_s
        with self._lock:
            self._level, self._focus = level, focus
            self._measure_after_s = max(self._measure_after_s, self._clock() + cost_s / LARGEST_MEASURE_SHARE)

    def _rate(self, now: float) -> float | None:
        self._forget_old(now)
        if self._first_s is None:
            return None
        watched_s = now - self._first_s
        if watched_s >= RATE_WINDOW_S:
            return len(self._seen_s) / RATE_WINDOW_S
        return (len(self._seen_s) - 1) / watched_s if len(self._seen_s) > 1 and watched_s > 0 else None

    def _forget_old(self, now: float) -> None:
        while self._seen_s and self._seen_s[0] <= now - RATE_WINDOW_S:
            self._seen_s.popleft()


def _reduce(pixels: BgrImage) -> NDArray[np.uint8]:
    """(H, W, 3) to (h, w) grey, about 480 px wide; averaging keeps sensor noise out of the focus value."""
    height, width = pixels.shape[:2]
    factor = max(1, round(width / MEASURED_WIDTH_PX))
    size = (max(1, width // factor), max(1, height // factor))
    small = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.cvtColor(small, cv2.COLOR_BGR2GRAY), np.uint8)


def _decode_reduced(encoded: bytes, width_px: int) -> NDArray[np.uint8] | None:
    """Grey and about 480 px wide. A JPEG is reduced while it is decoded, which costs less than half of all of it."""
    factor = width_px / MEASURED_WIDTH_PX
    flag = next((flag for least, flag in REDUCED_FLAGS if factor >= least), cv2.IMREAD_GRAYSCALE)
    try:
        decoded = cv2.imdecode(np.frombuffer(encoded, np.uint8), flag)
    except cv2.error:
        return None
    return None if decoded is None or decoded.size == 0 else np.asarray(decoded, np.uint8)
