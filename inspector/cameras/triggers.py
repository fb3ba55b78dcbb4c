"""When a frame is a part: one gate per trigger kind. Pure logic; the caller brings frames and times."""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from inspector.config import CommandTrigger, IntervalTrigger, PartPresentTrigger, TriggerConfig
from inspector.records import BgrImage

COMPARED_WIDTH_PX = 96
MOTION_PATCH_PX = 8
"""Side of the patches of the reduced picture that motion is looked for in: noise averages out, an edge does not."""
BACKGROUND_ADAPTATION = 0.02
"""Share by which an empty station's picture moves the learned background, so that drifting light does not add up."""


class TriggerGate(Protocol):
    """Decides for each frame of a source, in order, whether it is a part."""

    needs_pixels: bool
    """False when `offer` ignores the pixels, so that nobody needs to decode for it."""

    def offer(self, pixels: BgrImage | None, captured_s: float) -> bool:
        """True when this frame is a part. `captured_s` is `time.monotonic()` at its capture."""
        ...

    def arm(self) -> None:
        """Command trigger: one more frame captured from now on is a part. Without effect on the others. Thread-safe."""
        ...


def make_gate(config: TriggerConfig, clock: Callable[[], float] = time.monotonic) -> TriggerGate:
    """The gate for a configured trigger. `clock` is the one that `captured_s` is read from."""
    if isinstance(config, IntervalTrigger):
        return IntervalGate(config.interval_s)
    if isinstance(config, PartPresentTrigger):
        return PartPresentGate(config)
    if isinstance(config, CommandTrigger):
        return CommandGate(config.frame_timeout_s, clock)
    return EveryFrameGate()


class EveryFrameGate:
    """Each frame is a part."""

    needs_pixels = False

    def offer(self, pixels: BgrImage | None, captured_s: float) -> bool:
        return True

    def arm(self) -> None:
        pass


class IntervalGate:
    """The first frame, then the first one after each interval. The rhythm does not drift with the frame rate."""

    needs_pixels = False

    def __init__(self, interval_s: float) -> None:
        self._interval_s = interval_s
        self._due_s = -math.inf

    def offer(self, pixels: BgrImage | None, captured_s: float) -> bool:
        if captured_s < self._due_s:
            return False
        following_s = self._due_s + self._interval_s
        self._due_s = following_s if following_s > captured_s else captured_s + self._interval_s
        return True

    def arm(self) -> None:
        pass


class CommandGate:
    """Each command claims one frame captured after it; a command nobody served in time claims none any more."""

    needs_pixels = False

    def __init__(self, frame_timeout_s: float, clock: Callable[[], float]) -> None:
        self._frame_timeout_s = frame_timeout_s
        self._clock = clock
        self._armed_s: deque[float] = deque()
        self._lock = threading.Lock()

    def offer(self, pixels: BgrImage | None, captured_s: float) -> bool:
        with self._lock:
            while self._armed_s and self._armed_s[0] < captured_s - self._frame_timeout_s:
                self._armed_s.popleft()
            if not self._armed_s or self._armed_s[0] > captured_s:
                return False
            self._armed_s.popleft()
            return True

    def arm(self) -> None:
        with self._lock:
            self._armed_s.append(self._clock())


class PartPresentGate:
    """A part is there when the picture differs from the empty station, and is taken once, when it has come to rest.

    The first `empty_frames` frames must show the empty station: their mean is the background, which then
    follows slow changes of light while the station is empty. The next part is taken only after the
    station was empty again. Frames are compared as grey pictures about 96 px wide. Whether something
    moves is asked of the patch that changed most: over the whole picture, the one edge of a dull part
    that comes in weighs less than noise does.
    """

    needs_pixels = True

    def __init__(self, config: PartPresentTrigger) -> None:
        self._config = config
        self._learned = 0
        self._background: NDArray[np.float32] | None = None
        self._previous: NDArray[np.float32] | None = None
        self._rested_frames = 0
        self._taken = False

    def offer(self, pixels: BgrImage | None, captured_s: float) -> bool:
        if pixels is None:
            raise ValueError("the part_present trigger needs the pixels of each frame")
        picture = _reduce_to_grey(pixels)
        if self._background is None or self._background.shape != picture.shape:
            self._background, self._learned, self._previous = np.zeros_like(picture), 0, None
        if self._learned < self._config.empty_frames:
            self._learned += 1
            self._background += (picture - self._background) / np.float32(self._learned)
            return False
        at_rest = self._previous is not None and _motion(picture, self._previous) < self._config.motion_level
        self._previous = picture
        difference = _difference(picture, self._background)
        if difference < self._config.difference_level:
            self._taken, self._rested_frames = False, 0
            if difference < self._config.difference_level / 2:
                self._background += BACKGROUND_ADAPTATION * (picture - self._background)
            return False
        self._rested_frames = self._rested_frames + 1 if at_rest else 0
        if self._taken or self._rested_frames < self._config.settle_frames:
            return False
        self._taken = True
        return True

    def arm(self) -> None:
        pass


def _reduce_to_grey(pixels: BgrImage) -> NDArray[np.float32]:
    """About 96 px wide. Every n-th pixel first, then averages: cheap at 4K, and noise does not look like motion."""
    height, width = pixels.shape[:2]
    stride = max(1, width // (COMPARED_WIDTH_PX * 8))
    sparse = np.ascontiguousarray(pixels[::stride, ::stride])
    size = (min(COMPARED_WIDTH_PX, width), max(1, round(height * min(COMPARED_WIDTH_PX, width) / width)))
    small = cv2.resize(sparse, size, interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.cvtColor(small, cv2.COLOR_BGR2GRAY), np.float32)


def _difference(first: NDArray[np.float32], second: NDArray[np.float32]) -> float:
    """Mean absolute difference in grey levels."""
    return float(np.abs(first - second).mean())


def _motion(first: NDArray[np.float32], second: NDArray[np.float32]) -> float:
    """Change of the mean grey level of the patch that changed most."""
    return float(np.abs(cv2.blur(first - second, (MOTION_PATCH_PX, MOTION_PATCH_PX))).max())
