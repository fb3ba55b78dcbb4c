"""From a camera to accepted triggers: one thread a camera.

A frame is accepted when its trigger row is committed. `block`: the source waits until the lane has room.
`newest`: the source never waits; a frame that a newer one overtakes is accepted and at once counted as
NOT_INSPECTED, so that the sums stay right. `command`: a trigger accepted from a command waits for its frame.
"""

from __future__ import annotations

import queue
import threading
import time
from abc import ABC, abstractmethod
from dataclasses import dataclass

import structlog

from inspector.cameras.camera import CapturedFrame
from inspector.clock import UtcClock
from inspector.config import CommandTrigger
from inspector.mqtt.messages import inspection_message
from inspector.records import Inspection, Message, Trigger
from inspector.store.database import Database
from inspector.store.triggers import Acceptance, SkippedFrame, accept_and_skip, accept_trigger
from pipelines.station_lane import LaneSettings, StationCamera, StationStoppingError, VerdictLane
from pipelines.station_recipe import ActiveRecipe

READ_TIMEOUT_S = 0.2
OVERTAKEN = "overtaken by a newer frame"
SKIP_BATCH = 50

log = structlog.get_logger(__name__)


class Gate:
    """Whether the station takes parts now. `closed_reason` is shown in `status`."""

    def __init__(self) -> None:
        self._reasons: dict[str, str] = {}
        self._lock = threading.Lock()

    def set(self, name: str, reason: str | None) -> None:
        """Close the gate for a named reason, or lift that reason with None."""
        with self._lock:
            if reason is None:
                self._reasons.pop(name, None)
            else:
                self._reasons[name] = reason

    def reasons(self) -> dict[str, str]:
        with self._lock:
            return dict(self._reasons)

    def is_open(self) -> bool:
        with self._lock:
            return not self._reasons


@dataclass(frozen=True, slots=True)
class IntakePorts:
    """What every intake of a station shares."""

    settings: LaneSettings
    lane: VerdictLane
    recipe: ActiveRecipe
    db: Database
    gate: Gate
    clock: UtcClock
    stop: threading.Event


class Intake(ABC):
    """Reads one camera until `stop` is set or the source is exhausted."""

    def __init__(self, ports: IntakePorts, camera: StationCamera) -> None:
        self._settings = ports.settings
        self._camera = camera
        self._lane = ports.lane
        self._recipe = ports.recipe
        self._db = ports.db
        self._gate = ports.gate
        self._clock = ports.clock
        self._stop = ports.stop
        self._slots = threading.BoundedSemaphore(ports.settings.settings.queue_frames)
        self._thread = threading.Thread(target=self._run, name=f"intake-{camera.settings.id}")
        self.crashed: BaseException | None = None
        self.finished = threading.Event()

    def start(self) -> None:
        self._thread.start()

    def is_started(self) -> bool:
        return self._thread.ident is not None

    def join(self) -> None:
        self._thread.join()

    def _run(self) -> None:
        try:
            while not self._stop.is_set() and not self._camera.source.exhausted():
                self._take_next()
            self._end()
        except StationStoppingError:
            log.warning("intake_stopped_on_full_disk", camera=self._camera.settings.id)
        except BaseException as error:
            self.crashed = error
            raise
        finally:
            self.finished.set()

    @abstractmethod
    def _take_next(self) -> None:
        """One round: wait at most a fraction of a second, accept at most one frame."""

    def _end(self) -> None:
        """The source is exhausted or the station stops: nothing more will be read."""
        log.info("intake_ended", camera=self._camera.settings.id)

    def _accept(self, captured: CapturedFrame) -> Acceptance:
        return self._lane.persist(
            lambda: accept_trigger(
                self._db,
                self._settings.station,
                cameras=(self._camera.settings.id,),
                accepted_utc_us=self._clock(),
                purpose=self._settings.settings.purpose,
                part_id=captured.part_id,
                part_id_source=captured.part_id_source,
                lot=captured.lot,
                attempt=captured.attempt,
                source_identity=self._camera.name_source(captured.source_identity),
            )
        )

    def _accept_and_submit(self, captured: CapturedFrame) -> None:
        """Accept a frame and hand it to the lane; a slot must have been taken."""
        acceptance = self._accept(captured)
        if acceptance.state == "closed":
            self._camera.source.settle(captured, failed=None)
            self._slots.release()
            return
        self._submit(acceptance.trigger, captured)

    def _submit(self, trigger: Trigger, captured: CapturedFrame) -> None:
        self._lane.submit(
            trigger,
            self._camera,
            captured,
            self._recipe.current(),
            self._recipe.problem or "not loaded",
            self._slots.release,
        )


class BlockingIntake(Intake):
    """The source waits: folders, simulated lines, video files."""

    def _take_next(self) -> None:
        if not self._gate.is_open():
            self._stop.wait(READ_TIMEOUT_S)
            return
        if not self._slots.acquire(timeout=READ_TIMEOUT_S):
            return
        captured = self._camera.source.read(READ_TIMEOUT_S)
        if captured is None:
            self._slots.release()
        else:
            self._accept_and_submit(captured)


class NewestIntake(Intake):
    """The source never waits: live cameras."""

    def __init__(self, ports: IntakePorts, camera: StationCamera) -> None:
        super().__init__(ports, camera)
        self._waiting: CapturedFrame | None = None
        self._given_up: list[SkippedFrame] = []

    def _take_next(self) -> None:
        captured = self._camera.source.read(READ_TIMEOUT_S / 4 if self._waiting else READ_TIMEOUT_S)
        if "paused" in self._gate.reasons():
            self._camera.source.take_dropped()  # while paused nothing is a part
            self._waiting = None
            return
        self._give_up_unread(self._camera.source.take_dropped())
        if captured is not None:
            if self._waiting is not None:
                self._give_up(self._waiting, OVERTAKEN)
            self._waiting = captured
        closed = "; ".join(self._gate.reasons().values())
        if closed and self._waiting is not None:
            self._give_up(self._waiting, closed)
            self._waiting = None
        if self._waiting is not None and self._slots.acquire(blocking=False):
            self._flush()
            frame, self._waiting = self._waiting, None
            self._accept_and_submit(frame)
        elif len(self._given_up) >= SKIP_BATCH:
            self._flush()

    def _end(self) -> None:
        while self._waiting is not None and not self._slots.acquire(timeout=READ_TIMEOUT_S):
            if self._stop.is_set():
                self._give_up(self._waiting, "the station stopped")
                self._waiting = None
        self._flush()
        if self._waiting is not None:
            self._accept_and_submit(self._waiting)

    def _give_up(self, frame: CapturedFrame, reason: str) -> None:
        self._given_up.append(
            SkippedFrame(
                camera=self._camera.settings.id,
                captured_utc_us=frame.captured_utc_us,
                reason=reason,
                part_id=frame.part_id,
                part_id_source=frame.part_id_source,
                lot=frame.lot,
                source_identity=self._camera.name_source(frame.source_identity),
            )
        )

    def _give_up_unread(self, count: int) -> None:
        now = self._clock()
        for _ in range(count):
            self._given_up.append(SkippedFrame(camera=self._camera.settings.id, captured_utc_us=now, reason=OVERTAKEN))

    def _announce_skipped(self, inspection: Inspection) -> tuple[Message, ...]:
        return (inspection_message(inspection, self._settings.plant.mqtt.topic_root),)

    def _flush(self) -> None:
        """Accept and count what was given up, before anything that came later is accepted."""
        if not self._given_up:
            return
        batch, self._given_up = tuple(self._given_up), []
        self._lane.persist(
            lambda: accept_and_skip(
                self._db,
                self._settings.station,
                batch,
                purpose=self._settings.settings.purpose,
                provenance=self._settings.provenance,
                message_for=self._announce_skipped,
                now_us=self._clock(),
            )
        )


class CommandIntake(Intake):
    """A command announces the part; the first frame after it is the part's."""

    def __init__(self, ports: IntakePorts, camera: StationCamera) -> None:
        super().__init__(ports, camera)
        self._announced: queue.Queue[Trigger] = queue.Queue()

    def announce(self, trigger: Trigger) -> None:
        """An accepted trigger of this camera waits for its frame from now on."""
        self._announced.put(trigger)

    def _take_next(self) -> None:
        try:
            trigger = self._announced.get(timeout=READ_TIMEOUT_S)
        except queue.Empty:
            return
        captured = self._grab_frame()
        if captured is None:
            settings = self._camera.settings.trigger
            seconds = settings.frame_timeout_s if isinstance(settings, CommandTrigger) else 0.0
            self._lane.commit_uninspected(
                trigger, self._camera.settings.id, f"no frame within {seconds:g} s of the command"
            )
            return
        while not self._slots.acquire(timeout=READ_TIMEOUT_S):
            if self._stop.is_set():
                return
        self._submit(trigger, captured)

    def _grab_frame(self) -> CapturedFrame | None:
        settings = self._camera.settings.trigger
        timeout_s = settings.frame_timeout_s if isinstance(settings, CommandTrigger) else 0.0
        deadline = time.monotonic() + timeout_s
        self._camera.source.arm()
        while not self._stop.is_set() and time.monotonic() < deadline:
            captured = self._camera.source.read(min(READ_TIMEOUT_S, max(0.0, deadline - time.monotonic())))
            if captured is not None:
                return captured
        return None


def intake_for(camera: StationCamera) -> type[Intake]:
    """Which intake a camera's settings ask for."""
    if isinstance(camera.settings.trigger, CommandTrigger):
        return CommandIntake
    return NewestIntake if camera.settings.backpressure == "newest" else BlockingIntake
