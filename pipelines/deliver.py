"""The delivery process: outbox → broker, broker → commands, and how the stations are.

A row is marked sent only after the broker acknowledged it; a command is acknowledged only after it is
committed. So whatever is killed, and whenever: messages come at least once and in order per station.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import structlog

from inspector.clock import UtcClock, utc_now_us
from inspector.config import PlantConfig
from inspector.errors import StoreError
from inspector.mqtt.client import BrokerConnection, Connection, Phase
from inspector.mqtt.messages import station_root, status_message
from inspector.store.database import Database
from inspector.store.disk import DiskWatch
from inspector.store.outbox import count_unsent, mark_sent, next_messages
from inspector.store.processes import beat, latest_camera_health, list_processes
from pipelines.shift_counters import ShiftCounters
from pipelines.station_channel import WAITING_ENTRIES, StationChannel
from pipelines.station_status import Condition, Surroundings, describe_station

POLL_S = 0.02
IDLE_POLL_S = 0.05
IDLE_AFTER_S = 2.0
MARK_EVERY_S = 0.25
MARK_AT_MOST = 400
BEAT_S = 1.0
CAMERAS_EVERY_S = 10.0
STORE_PAUSE_S = 0.5
FLUSH_S = 3.0
GOODBYE_S = 2.0

log = structlog.get_logger(__name__)


def run_delivery(config: PlantConfig, data_dir: Path, stop: threading.Event) -> None:
    """Deliver until `stop` is set, then send what is left for a bounded time and say `offline`.

    Raises `ConfigError` for a secret that is not set and `StoreError` when the database cannot be opened;
    everything later (broker away, disk full) is waited for and shows in `status` and in the heartbeat.
    """
    db = Database.open(data_dir)
    try:
        wake = threading.Event()
        Delivery(config, db, connect_stations(config, wake), wake).run(stop)
    finally:
        db.close()


def connect_stations(config: PlantConfig, wake: threading.Event) -> dict[str, Connection]:
    """One connection a station, not started yet, with `offline` as its last will."""
    root = config.mqtt.topic_root
    return {
        station: BrokerConnection(
            config.mqtt,
            client_id=station_root(root, station).replace("/", "."),
            will=status_message(
                topic_root=root,
                station=station,
                state="offline",
                since_utc_us=None,
                reasons=("connection lost",),
                as_of_utc_us=None,
            ),
            topic_filter=f"{station_root(root, station)}/cmd/+",
            wake=wake,
        )
        for station in config.stations()
    }


class Delivery:
    """The loop over all stations. `connections` are the boundary; `wake` is set by them."""

    def __init__(
        self,
        config: PlantConfig,
        db: Database,
        connections: Mapping[str, Connection],
        wake: threading.Event,
        clock: UtcClock = utc_now_us,
    ) -> None:
        self._config = config
        self._db = db
        self._wake = wake
        self._clock = clock
        self._disk = DiskWatch(db.data_dir, config.store.min_free_mb)
        self._channels = [
            StationChannel(station, connection, db, config.mqtt, clock) for station, connection in connections.items()
        ]
        self._counters = {station: ShiftCounters(config, station, db, clock) for station in connections}
        self._store_problem: str | None = None
        self._surroundings = Surroundings({}, (), None, None, config.evidence.enabled, clock())
        self._next_mark = self._next_beat = self._next_cameras = self._last_message_s = 0.0

    def run(self, stop: threading.Event) -> None:
        for channel in self._channels:
            channel.connection.start()
        try:
            while not stop.is_set():
                self._wake.clear()
                busy = self._turn(time.monotonic())
                if not busy:
                    self._wake.wait(self._pause_s())
        finally:
            self._finish()

    def _pause_s(self) -> float:
        """Until the next look at the outbox; acknowledgements and commands end the pause at once."""
        if self._store_problem is not None:
            return STORE_PAUSE_S
        return POLL_S if time.monotonic() - self._last_message_s < IDLE_AFTER_S else IDLE_POLL_S

    def _turn(self, now_s: float) -> bool:
        """One round over everything; True when there is more to do at once."""
        self._follow_connections()
        self._guarded(lambda: self._mark_acknowledged(now_s))
        for channel in self._channels:
            self._guarded(channel.serve_commands)
        self._guarded(lambda: self._look_around(now_s))
        self._publish_status(now_s)
        published = self._move_messages()
        self._last_message_s = now_s if published else self._last_message_s
        self._guarded(lambda: self._publish_counters(now_s))
        return published > 0

    def _follow_connections(self) -> None:
        for channel in self._channels:
            if channel.follow_connection():
                self._counters[channel.station].start_over()

    def _guarded(self, step: Callable[[], object]) -> None:
        """A store in trouble stops one step, not the delivery: what is held stays held and is tried again."""
        try:
            step()
        except StoreError as error:
            if self._store_problem is None:
                log.error("store_in_trouble", error=type(error).__name__, reason=str(error))
            self._store_problem = f"database: {error}"

    # --- outbox -------------------------------------------------------------------------------------

    def _move_messages(self) -> int:
        """Read what is unsent and hand over what the windows allow; how many were handed over."""
        self._guarded(self._read_outbox)
        return sum(channel.publish_waiting() for channel in self._channels)

    def _read_outbox(self) -> None:
        """Distribute the next unsent rows to the stations that can take some.

        One query serves all: it begins at the lowest cursor among them, and each leaves out what it has.
        """
        takers = [channel for channel in self._channels if channel.space() > 0]
        if not takers:
            return
        entries = next_messages(self._db, min(channel.cursor for channel in takers), WAITING_ENTRIES)
        for channel in takers:
            channel.take(entries)

    def _mark_acknowledged(self, now_s: float, *, at_once: bool = False) -> None:
        acknowledged = sorted(set().union(*(channel.acknowledged for channel in self._channels)))
        if not acknowledged or (now_s < self._next_mark and len(acknowledged) < MARK_AT_MOST and not at_once):
            return
        self._next_mark = now_s + MARK_EVERY_S
        mark_sent(self._db, acknowledged, self._clock())
        for channel in self._channels:
            channel.acknowledged.clear()

    # --- how things are -----------------------------------------------------------------------------

    def _look_around(self, now_s: float) -> None:
        """Each second: read the heartbeats, write the own one. That write proves that the store works again."""
        if now_s < self._next_beat:
            return
        self._next_beat = now_s + BEAT_S
        cameras = self._surroundings.cameras
        if now_s >= self._next_cameras:
            cameras = latest_camera_health(self._db)
            self._next_cameras = now_s + CAMERAS_EVERY_S
        low = f"disk: less than {self._disk.min_free_mb} MB free" if self._disk.is_low() else None
        self._surroundings = Surroundings(
            processes={row.process: row for row in list_processes(self._db)},
            cameras=cameras,
            disk_problem=low,
            store_problem=None,
            evidence_expected=self._config.evidence.enabled,
            now_us=self._clock(),
        )
        reasons = self._describe_broker()
        self._beat("degraded" if reasons else "online", reasons)
        self._store_problem = None

    def _describe_broker(self) -> list[str]:
        states = [(channel.station, channel.connection.state()) for channel in self._channels]
        return [
            f"{station}: broker {state.phase}: {state.reason or 'not yet connected'}"
            for station, state in states
            if state.phase is not Phase.CONNECTED
        ]

    def _beat(self, state: str, reasons: list[str]) -> None:
        beat(self._db, "delivery", os.getpid(), state, reasons, self._clock())

    def _publish_status(self, now_s: float) -> None:
        surroundings = replace(self._surroundings, store_problem=self._store_problem)
        for channel in self._channels:
            channel.publish_status(describe_station(channel.station, surroundings), now_s)

    def _publish_counters(self, now_s: float) -> None:
        for channel in self._channels:
            message = self._counters[channel.station].next_message(now_s) if channel.is_connected() else None
            if message is not None and not channel.publish_unrecorded(message):
                self._counters[channel.station].start_over()

    # --- the end ------------------------------------------------------------------------------------

    def _finish(self) -> None:
        """Send what can be sent in a moment, say `offline`, and mark what was acknowledged."""
        self._flush()
        stopped = Condition("offline", ("stopped",))
        for channel in self._channels:
            channel.publish_status(stopped, time.monotonic())
        deadline = time.monotonic() + GOODBYE_S
        for channel in self._channels:
            channel.connection.close(max(0.0, deadline - time.monotonic()))
            channel.follow_connection()
        self._guarded(lambda: self._mark_acknowledged(time.monotonic(), at_once=True))
        self._guarded(lambda: self._beat("offline", ["stopped"]))
        self._guarded(lambda: log.info("delivery_stopped", unsent=count_unsent(self._db)))

    def _flush(self) -> None:
        deadline = time.monotonic() + FLUSH_S
        while time.monotonic() < deadline and any(channel.is_connected() for channel in self._channels):
            self._wake.clear()
            self._follow_connections()
            published = self._move_messages()
            if not published and not any(channel.has_waiting() for channel in self._channels):
                return
            self._wake.wait(POLL_S)
