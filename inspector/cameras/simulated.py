"""A line that does not exist: procedural parts at a given pace, each with the truth about its defects."""

from __future__ import annotations

import itertools
import queue
import re
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import structlog

from inspector import config as settings
from inspector.cameras.camera import CapturedFrame
from inspector.cameras.health import HealthMeter
from inspector.cameras.triggers import make_gate
from inspector.errors import CameraError
from inspector.images import encode_jpeg
from inspector.records import BgrImage, CameraHealth, PartIdSource
from inspector.scenes.renderer import (
    FULL_HEIGHT_PX,
    FULL_WIDTH_PX,
    JPEG_QUALITY,
    RenderedPart,
    SceneRenderer,
)

log = structlog.get_logger(__name__)

RENDERED_AHEAD = 2
POLL_S = 0.05
PREPARING = "the scene is being prepared"


@dataclass(frozen=True, slots=True)
class _Prepared:
    """A part photographed and compressed, not yet delivered. `pixels` only where the trigger looks at them."""

    part: RenderedPart | None
    number: int
    part_id: str
    lot: str
    encoded: bytes
    truth: dict[str, Any]


class SimulatedCamera:
    """Implements `inspector.cameras.camera.Camera` over `SceneRenderer`.

    Parts are photographed ahead in a thread and delivered as JPEG, no faster than `frames_per_s`. A line
    that waits (nobody reads) makes no parts and catches nothing up. The numbers go on after a restart
    behind `resume_after`; accepted parts whose inspection is still owed are photographed again first,
    bit for bit the same. With `part_present` each part is preceded by the empty belt.
    """

    def __init__(self, config: settings.SimulatedCamera) -> None:
        self._config = config
        self._width_px = config.width_px or FULL_WIDTH_PX
        self._height_px = config.height_px or FULL_HEIGHT_PX
        self._meter = HealthMeter(config.id)
        self._gate = make_gate(config.trigger)
        self._owed: dict[int, None] = {}
        self._prepared: queue.Queue[_Prepared] = queue.Queue(RENDERED_AHEAD)
        self._waiting: _Prepared | None = None
        self._stop = threading.Event()
        self._ready = threading.Event()
        self._all_made = threading.Event()
        self._thread: threading.Thread | None = None
        self._crash: Exception | None = None
        self._empty_belt: BgrImage | None = None
        self._next_due_s = 0.0

    @property
    def camera_id(self) -> str:
        return self._config.id

    def open(self, resume_after: int) -> None:
        """Start to photograph in the background; the first part follows when the scene is prepared."""
        self.close()
        self._stop.clear()
        self._all_made.clear()
        self._next_due_s = 0.0
        self._thread = threading.Thread(
            target=self._make_parts, args=(resume_after,), name=f"simulated-{self._config.id}", daemon=True
        )
        self._thread.start()

    def read(self, timeout_s: float) -> CapturedFrame | None:
        deadline_s = time.monotonic() + timeout_s
        while True:
            frame = self._take()
            now_s = time.monotonic()
            if frame is not None or now_s >= deadline_s or self.exhausted():
                return frame
            self._stop.wait(min(POLL_S, deadline_s - now_s, max(0.001, self._next_due_s - now_s)))

    def arm(self) -> None:
        self._gate.arm()

    def settle(self, frame: CapturedFrame, *, failed: str | None) -> None:
        """Nothing to put away."""

    def still_has(self, source_identity: str) -> bool:
        """Whether this line made that part: then it can make it again, and the next `open` does."""
        found = re.fullmatch(rf"simulated:{self._config.seed}:(\d{{1,10}})", source_identity)
        if found is None or int(found[1]) < self._config.first_part:
            return False
        self._owed[int(found[1])] = None
        return True

    def take_dropped(self) -> int:
        """Always 0: a part is made when somebody takes it."""
        return 0

    def exhausted(self) -> bool:
        return self._all_made.is_set() and self._prepared.empty() and self._waiting is None

    def health(self) -> CameraHealth:
        reason = None if self._ready.is_set() else PREPARING
        if self._crash is not None:
            reason = f"the line broke down: {self._crash}"
        return self._meter.snapshot(self._ready.is_set() and self._crash is None, reason)

    def close(self) -> None:
        """Stop photographing; what was photographed and not delivered is forgotten."""
        self._stop.set()
        if self._thread is not None:
            while self._thread.is_alive():
                self._forget_prepared()
                self._thread.join(POLL_S)
            self._thread = None
        self._forget_prepared()
        self._ready.clear()

    # --- delivering ---------------------------------------------------------------------------------

    def _take(self) -> CapturedFrame | None:
        """The next part if one is due, ready and wanted by the trigger."""
        if self._crash is not None:
            raise CameraError(f"{self.camera_id}: the simulated line broke down: {self._crash}") from self._crash
        now_s = time.monotonic()
        if now_s < self._next_due_s:
            return None
        if self._waiting is None:
            try:
                self._waiting = self._prepared.get_nowait()
            except queue.Empty:
                return None
        on_time = now_s - self._next_due_s < 1.0 / self._config.frames_per_s
        self._next_due_s = (self._next_due_s if on_time else now_s) + 1.0 / self._config.frames_per_s
        if not self._is_wanted(self._waiting, now_s):
            return None
        prepared, self._waiting = self._waiting, None
        return self._deliver(prepared)

    def _is_wanted(self, prepared: _Prepared, now_s: float) -> bool:
        """Ask the trigger. A part comes to rest after the belt was seen empty."""
        trigger = self._config.trigger
        if not isinstance(trigger, settings.PartPresentTrigger) or prepared.part is None:
            return self._gate.offer(None, now_s)
        for _ in range(trigger.empty_frames + 1):
            self._gate.offer(self._empty_belt, now_s)
        return any(self._gate.offer(prepared.part.pixels, now_s) for _ in range(trigger.settle_frames + 2))

    def _deliver(self, prepared: _Prepared) -> CapturedFrame:
        self._owed.pop(prepared.number, None)
        self._meter.saw_encoded(prepared.encoded, self._width_px)
        return CapturedFrame(
            captured_utc_us=time.time_ns() // 1000,
            captured_monotonic_ns=time.monotonic_ns(),
            encoded=prepared.encoded,
            source_identity=f"simulated:{self._config.seed}:{prepared.number}",
            part_id=prepared.part_id,
            part_id_source=PartIdSource.SIMULATED,
            lot=prepared.lot,
            truth=prepared.truth,
        )

    def _forget_prepared(self) -> None:
        self._waiting = None
        while not self._prepared.empty():
            self._prepared.get_nowait()

    # --- photographing, in a thread -----------------------------------------------------------------

    def _make_parts(self, resume_after: int) -> None:
        try:
            numbers = self._numbers(resume_after)
            first = next(numbers, None)
            if first is not None:
                renderer = self._prepare_renderer()
                for number in itertools.chain((first,), numbers):
                    if not self._hand_over(self._photograph(renderer, number)):
                        return
            self._all_made.set()
        except Exception as error:
            self._crash = error
            log.exception("simulated_line_broke_down", camera=self.camera_id)

    def _numbers(self, resume_after: int) -> Iterator[int]:
        """Parts to be made: what is still owed, then on from where the station stopped."""
        yield from tuple(self._owed)
        first = self._config.first_part
        if self._config.parts is None:
            yield from itertools.count(first + resume_after)
        else:
            yield from range(first + resume_after, first + self._config.parts)

    def _prepare_renderer(self) -> SceneRenderer:
        config = self._config
        renderer = SceneRenderer(
            config.scene,
            config.seed,
            self._width_px,
            self._height_px,
            defect_rate=config.defect_rate,
            lot_size=config.lot_size,
        )
        self._empty_belt = renderer.render_empty()
        self._ready.set()
        return renderer

    def _photograph(self, renderer: SceneRenderer, number: int) -> _Prepared:
        part = renderer.render(number)
        return _Prepared(
            part=part if self._gate.needs_pixels else None,
            number=number,
            part_id=part.part_id,
            lot=part.lot,
            encoded=encode_jpeg(part.pixels, JPEG_QUALITY),
            truth=describe_truth(part),
        )

    def _hand_over(self, prepared: _Prepared) -> bool:
        """Wait until somebody wants it; False when the camera was closed instead."""
        while not self._stop.is_set():
            try:
                self._prepared.put(prepared, timeout=POLL_S)
            except queue.Full:
                continue
            return True
        return False


def describe_truth(part: RenderedPart) -> dict[str, Any]:
    """What the line knows about a part: whether it is defective, and kind, box and severity of each defect."""
    defects = [
        {"kind": defect.kind, "box_xyxy_px": list(defect.box_xyxy_px), "severity": defect.severity}
        for defect in part.defects
    ]
    return {"defective": bool(defects), "defects": defects}
