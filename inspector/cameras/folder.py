"""Files dropped into a folder by a camera's FTP or a share."""

from __future__ import annotations

import contextlib
import re
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

import structlog

from inspector import config as settings
from inspector.cameras.camera import CapturedFrame
from inspector.cameras.file_names import parse_name, printable_name
from inspector.cameras.folder_watch import FileState, FolderWatch, FoundFile
from inspector.cameras.health import HealthMeter
from inspector.cameras.set_aside import move_to_done, move_to_failed
from inspector.cameras.triggers import make_gate
from inspector.errors import ImageError, ImageTooLargeError, ImageTruncatedError, ImageVanishedError
from inspector.images import ImageLimits, check_complete, decode_image, read_image_bytes, sha256_hex
from inspector.records import CameraHealth, PartIdSource

log = structlog.get_logger(__name__)

Knowledge: TypeAlias = Literal["new", "open", "closed"]
IsKnown: TypeAlias = Callable[[str], Knowledge]

NOTICE_S = 60.0
RETRY_MOVE_S = 5.0
SCAN_REST_FACTOR = 9.0
"""After a look at the folder it is left alone for this multiple of the time the look took, `poll_s` at least."""
NOT_HASHED = "-"
SUPERSEDED = "given up for a newer frame (back-pressure: newest)"


@dataclass(frozen=True, slots=True)
class _Delivered:
    path: Path
    state: FileState


@dataclass(frozen=True, slots=True)
class _Content:
    """What was read from a file: the bytes of a usable image, or the reason why there are none."""

    sha256: str
    encoded: bytes | None = None
    width_px: int = 0
    failure: str | None = None
    incomplete: bool = False


class FolderCamera:
    """Implements `inspector.cameras.camera.Camera` over a folder.

    Identity. A file is named for ever by `name|size|mtime_ns|sha256` (`-` for the hash of a file that
    is too large to be read), because cameras reuse names. `is_known` says whether that identity has a
    trigger: `closed` is not delivered again but what a kill interrupted (the move, the deletion) is
    finished; `open` is delivered again, its inspection is still owed.

    Complete. A file is read when size and times rest for `settle_s`; it is taken when its end is
    there (end marker, or it decodes), and becomes a `failure` when it is still not complete
    `incomplete_after_s` after its last change. What can never become an image is a failure at once;
    a file beyond the limits is not even read. A file that vanishes before it was taken is only
    logged and shown in `health`; one whose trigger was accepted before a restart becomes a failure.

    Kept files. With `after: keep` each file is read and hashed once per run, and afterwards costs one
    `stat` a look. At the start `has_closed` saves even that: asked with
    `name|size|mtime_ns|`, it says whether a closed trigger's identity begins so. It is not asked for
    mtimes of whole seconds (FAT, some FTP servers), where a rewrite might keep the mtime.

    Triggers other than `every_frame` count files from the moment the camera is open; what lay there
    before and has no open trigger is set aside unseen. Where a share hangs, `read` hangs with it.
    """

    def __init__(
        self,
        config: settings.FolderCamera,
        is_known: IsKnown,
        has_closed: Callable[[str], bool],
        *,
        limits: ImageLimits = ImageLimits(),
    ) -> None:
        self._config = config
        self._is_known = is_known
        self._has_closed = has_closed
        self._limits = limits
        self._meter = HealthMeter(config.id)
        self._gate = make_gate(config.trigger)
        self._watch = FolderWatch(config.path, config.pattern, config.settle_s, config.incomplete_after_s)
        self._name_pattern = re.compile(config.name_pattern) if config.name_pattern else None
        self._ready: deque[FoundFile] = deque()
        self._present_at_start: set[str] | None = None
        self._next_scan_s = 0.0
        self._unreachable: str | None = "not looked at yet"
        self._notice: tuple[str, float] | None = None
        self._lock = threading.Lock()
        self._delivered: dict[str, _Delivered] = {}
        self._owed: dict[str, str] = {}
        self._unmoved: dict[str, tuple[_Delivered, str | None]] = {}
        self._retry_move_s = 0.0

    @property
    def camera_id(self) -> str:
        return self._config.id

    def open(self, resume_after: int) -> None:
        """Nothing to connect to; the folder may appear later. `resume_after` is not needed: files have identities."""
        self._present_at_start = None
        self._next_scan_s = 0.0
        self._ready.clear()

    def read(self, timeout_s: float) -> CapturedFrame | None:
        deadline_s = time.monotonic() + timeout_s
        while True:
            frame = self._take_next(deadline_s)
            now_s = time.monotonic()
            if frame is not None or now_s >= deadline_s:
                return frame
            if not self._ready:
                time.sleep(max(0.0, min(deadline_s, self._next_scan_s) - now_s))

    def arm(self) -> None:
        self._gate.arm()

    def settle(self, frame: CapturedFrame, *, failed: str | None = None) -> None:
        """Keep, move or delete the file; with `failed` it moves to `failed/` beside its reason, whatever `after` says.

        A file of that name which is not the one delivered any more is left alone: it is a part of its own.
        """
        with self._lock:
            delivered = self._delivered.pop(frame.source_identity or "", None)
        if delivered is not None:
            self._set_aside(delivered, failed)

    def still_has(self, source_identity: str) -> bool:
        """Whether the file of an accepted trigger is still here. If it vanishes later, `read` delivers the failure."""
        name = source_identity.rsplit("|", 3)[0]
        try:
            name = next((item.name for item in self._config.path.iterdir() if printable_name(item.name) == name), "")
        except OSError:
            pass  # the share is away: what lies on it shows when it comes back
        else:
            state = self._watch.read_state(name) if name else None
            if state is None or not source_identity.startswith(_identity_stem(name, state)):
                return False
        with self._lock:
            if source_identity not in self._delivered:
                self._owed[source_identity] = name
        return True

    def take_dropped(self) -> int:
        """Always 0: a file given up for a newer one is delivered as a failure under its own identity."""
        return 0

    def exhausted(self) -> bool:
        return False

    def health(self) -> CameraHealth:
        notice = self._notice
        reasons = [self._unreachable] if self._unreachable else []
        if self._unmoved:
            reasons.append(f"{len(self._unmoved)} files cannot be set aside")
        if notice is not None and time.monotonic() < notice[1]:
            reasons.append(notice[0])
        return self._meter.snapshot(self._unreachable is None, "; ".join(reasons) or None)

    def close(self) -> None:
        self._ready.clear()

    # --- looking ------------------------------------------------------------------------------------

    def _take_next(self, deadline_s: float) -> CapturedFrame | None:
        if not self._ready and time.monotonic() >= self._next_scan_s:
            self._look()
        while self._ready:
            found = self._ready.popleft()
            superseded = bool(self._ready) and self._config.backpressure == "newest"
            frame = self._take(found, superseded)
            if frame is not None or time.monotonic() >= deadline_s:
                return frame
        return self._take_vanished()

    def _look(self) -> None:
        started_s = time.monotonic()
        try:
            found = self._watch.scan()
        except OSError as error:
            reason = f"{self._config.path}: {error.strerror}"
            if reason != self._unreachable:
                log.warning("folder_unreachable", camera=self.camera_id, reason=reason)
            self._unreachable = reason
            self._next_scan_s = started_s + max(self._config.poll_s, 1.0)
            return
        if self._present_at_start is None:
            self._present_at_start = self._watch.names()
        self._unreachable = None
        self._ready.extend(found)
        self._retry_moves(started_s)
        ended_s = time.monotonic()
        self._next_scan_s = ended_s + max(self._config.poll_s, SCAN_REST_FACTOR * (ended_s - started_s))

    def _take_vanished(self) -> CapturedFrame | None:
        """The failure of a file whose trigger was accepted before a restart and that is not there any more."""
        with self._lock:
            owed = list(self._owed.items()) if self._unreachable is None else []
        for identity, name in owed:
            state = self._watch.read_state(name)
            is_there = state is not None and identity.startswith(_identity_stem(name, state))
            if not is_there or self._watch.is_dismissed(name, state):
                with self._lock:
                    self._owed.pop(identity, None)
                return self._failure(identity, name, f"{name}: vanished before it was inspected", None)
        return None

    # --- taking one file ----------------------------------------------------------------------------

    def _take(self, found: FoundFile, superseded: bool) -> CapturedFrame | None:
        stem = _identity_stem(found.name, found.state)
        if self._is_kept_and_closed(stem, found.state):
            self._watch.dismiss(found.name, found.state)
            return None
        content = self._read(found)
        if content is None:
            return None
        identity = stem + content.sha256
        if self._is_under_way(identity):
            self._watch.dismiss(found.name, found.state)
            return None
        known = self._is_known(identity)
        if content.incomplete and known != "closed" and found.resting_s < self._config.incomplete_after_s:
            self._watch.postpone(found.name)
            return None
        self._watch.dismiss(found.name, found.state)
        delivered = _Delivered(self._config.path / found.name, found.state)
        with self._lock:
            self._owed.pop(identity, None)
        if known == "closed":
            self._set_aside(delivered, content.failure)
            return None
        return self._deliver(found, identity, content, known, superseded)

    def _is_under_way(self, identity: str) -> bool:
        """Whether it was delivered and not settled yet: only its times changed (a chmod). Asked before the store is,
        because `settle` comes after the commit: what is not under way any more reads as closed there."""
        with self._lock:
            return identity in self._delivered

    def _deliver(
        self, found: FoundFile, identity: str, content: _Content, known: Knowledge, superseded: bool
    ) -> CapturedFrame | None:
        delivered = _Delivered(self._config.path / found.name, found.state)
        if known == "new" and not self._passes_gate(found.name, content.encoded):
            self._set_aside(delivered, content.failure)
            return None
        with self._lock:
            self._delivered[identity] = delivered
        if content.encoded is None:
            return self._failure(identity, found.name, content.failure or "unusable", found.state)
        self._meter.saw_encoded(content.encoded, content.width_px)
        if superseded:
            self._meter.drop()
            return self._failure(identity, found.name, SUPERSEDED, found.state)
        return self._captured(identity, found.name, found.state, content.encoded, None)

    def _passes_gate(self, name: str, encoded: bytes | None) -> bool:
        if self._config.trigger.kind == "every_frame":
            return True
        if self._present_at_start is not None and name in self._present_at_start:
            self._present_at_start.discard(name)
            return False
        if not self._gate.needs_pixels:
            return self._gate.offer(None, time.monotonic())
        if encoded is None:
            return True  # nobody can tell whether it shows a part: better one NOT_INSPECTED too many
        try:
            pixels = decode_image(encoded, self._limits, bit_depth=self._config.bit_depth)
        except ImageError:
            return True  # whoever inspects it says what is wrong with it
        return self._gate.offer(pixels, time.monotonic())

    def _read(self, found: FoundFile) -> _Content | None:
        """The content of a resting file, None when it vanished or changed meanwhile."""
        path = self._config.path / found.name
        try:
            encoded = read_image_bytes(path, self._limits)
        except ImageVanishedError as error:
            return self._read_nothing(found, error)
        except ImageTooLargeError as error:
            return _Content(NOT_HASHED, failure=str(error))
        except ImageTruncatedError as error:
            return _Content(sha256_hex(b""), failure=str(error), incomplete=True)
        except ImageError as error:
            return _Content(NOT_HASHED, failure=str(error))
        if self._watch.read_state(found.name) != found.state:
            return None
        digest = sha256_hex(encoded)
        try:
            header = check_complete(encoded, self._limits)
        except ImageTruncatedError as error:
            return _Content(digest, failure=f"{found.name}: {error}", incomplete=True)
        except ImageError as error:
            return _Content(digest, failure=f"{found.name}: {error}")
        return _Content(digest, encoded=encoded, width_px=header.width_px)

    def _read_nothing(self, found: FoundFile, error: ImageVanishedError) -> _Content | None:
        if self._watch.read_state(found.name) is not None:
            return _Content(NOT_HASHED, failure=str(error), incomplete=True)
        log.warning("file_vanished", camera=self.camera_id, file=found.name)
        self._notice = (str(error), time.monotonic() + NOTICE_S)
        return None

    def _is_kept_and_closed(self, stem: str, state: FileState) -> bool:
        whole_second = state.mtime_ns % 1_000_000_000 == 0
        return self._config.after == "keep" and not whole_second and self._has_closed(stem)

    def _failure(self, identity: str, name: str, reason: str, state: FileState | None) -> CapturedFrame:
        log.warning("file_failed", camera=self.camera_id, file=name, reason=reason)
        return self._captured(identity, name, state, None, reason)

    def _captured(
        self, identity: str, name: str, state: FileState | None, encoded: bytes | None, failure: str | None
    ) -> CapturedFrame:
        now_us = time.time_ns() // 1000
        written_us = state.mtime_ns // 1000 if state is not None else now_us
        part_id, lot, attempt = parse_name(self._name_pattern, Path(name).stem)
        return CapturedFrame(
            captured_utc_us=written_us if 0 < written_us <= now_us else now_us,
            captured_monotonic_ns=time.monotonic_ns(),
            encoded=encoded,
            failure=failure,
            source_identity=identity,
            part_id=part_id,
            part_id_source=PartIdSource.FILE_NAME if part_id is not None else PartIdSource.NONE,
            lot=lot,
            attempt=attempt,
        )

    # --- setting aside ------------------------------------------------------------------------------

    def _set_aside(self, delivered: _Delivered, failed: str | None) -> None:
        """Move or delete; what cannot be done now (a share without write access) is tried again later."""
        name = delivered.path.name
        try:
            self._move_or_delete(delivered, failed)
        except OSError as error:
            with self._lock:
                is_first = name not in self._unmoved
                self._unmoved[name] = (delivered, failed)
            if is_first:
                log.warning("file_not_set_aside", camera=self.camera_id, file=name, reason=error.strerror)

    def _move_or_delete(self, delivered: _Delivered, failed: str | None) -> None:
        path, expected = delivered.path, delivered.state
        state = self._watch.read_state(path.name)
        if state is None or (state.size, state.mtime_ns) != (expected.size, expected.mtime_ns):
            return
        with contextlib.suppress(FileNotFoundError):
            if failed is not None:
                move_to_failed(path, failed)
            elif self._config.after == "move":
                move_to_done(path)
            elif self._config.after == "delete":
                path.unlink()

    def _retry_moves(self, now_s: float) -> None:
        if now_s < self._retry_move_s:
            return
        self._retry_move_s = now_s + RETRY_MOVE_S
        with self._lock:
            unmoved = list(self._unmoved.items())
        for name, (delivered, failed) in unmoved:
            with contextlib.suppress(OSError):
                self._move_or_delete(delivered, failed)
                with self._lock:
                    del self._unmoved[name]


def _identity_stem(name: str, state: FileState) -> str:
    return f"{printable_name(name)}|{state.size}|{state.mtime_ns}|"
