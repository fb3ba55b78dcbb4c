"""The one protocol of every source of frames."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from inspector.records import BgrImage, CameraHealth, PartIdSource


@dataclass(frozen=True, slots=True)
class CapturedFrame:
    """One image as a camera delivered it, not yet accepted and not yet decoded where it is compressed.

    Exactly one of `encoded`, `pixels` and `failure` is set. `captured_monotonic_ns` starts the clock
    of the deadline. `source_identity` names the frame for ever where the source can (a file: name,
    size, mtime and SHA-256), so that a restart neither repeats nor skips it. `failure` is the reason
    why nothing can be inspected (the file never became complete): the trigger becomes NOT_INSPECTED.
    `truth` is what a simulated line knows about the part.
    """

    captured_utc_us: int
    captured_monotonic_ns: int
    encoded: bytes | None = None
    pixels: BgrImage | None = None
    failure: str | None = None
    source_identity: str | None = None
    part_id: str | None = None
    part_id_source: PartIdSource = PartIdSource.NONE
    lot: str | None = None
    attempt: int = 1
    truth: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        if sum(item is not None for item in (self.encoded, self.pixels, self.failure)) != 1:
            raise ValueError("exactly one of encoded, pixels and failure must be set")


class Camera(Protocol):
    """A source of frames. One thread calls `open`, `read` and `close`; any thread may call the others."""

    @property
    def camera_id(self) -> str:
        """Name of the camera, as configured."""
        ...

    def open(self, resume_after: int) -> None:
        """Get ready. `resume_after` is how many parts this station has already accepted from this camera
        (a simulated line continues there). Must not fail when the source is away: `read` then returns None and
        `health` says why."""
        ...

    def read(self, timeout_s: float) -> CapturedFrame | None:
        """The next frame that is a part, or None when there was none within `timeout_s`.

        Raises `CameraError` only for what waiting cannot mend."""
        ...

    def arm(self) -> None:
        """Command trigger only: the next frame captured after this call is a part. Thread-safe."""
        ...

    def settle(self, frame: CapturedFrame, *, failed: str | None) -> None:
        """The frame's inspection is committed: the source may move or delete it. `failed` gives the reason
        when nothing could be inspected. Thread-safe; calling it twice is harmless."""
        ...

    def still_has(self, source_identity: str) -> bool:
        """Whether `read` will deliver this accepted frame again after a restart. False for live sources, whose
        frames in flight are lost with the process: their triggers become NOT_INSPECTED."""
        ...

    def take_dropped(self) -> int:
        """Frames that were parts and that the source gave up because nobody took them, since the last call."""
        ...

    def exhausted(self) -> bool:
        """True when the source will never deliver again (a simulated run or a video file that ended)."""
        ...

    def health(self) -> CameraHealth:
        """How the camera is doing. Thread-safe, never blocks on the source."""
        ...

    def close(self) -> None:
        """Release everything; `open` may follow."""
        ...
