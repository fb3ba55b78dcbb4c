"""What a station's `status` message says, from the heartbeats in the store (pure)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from inspector.mqtt.messages import StatusState
from inspector.records import CameraHealth
from inspector.store.processes import ProcessBeat

SILENT_AFTER_S = 5.0
"""Processes beat once a second; this many seconds without one mean that it is gone or hangs."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What is known about the whole service at one moment."""

    processes: Mapping[str, ProcessBeat]
    cameras: Sequence[tuple[str, CameraHealth]]
    disk_problem: str | None
    store_problem: str | None
    evidence_expected: bool
    now_us: int


@dataclass(frozen=True, slots=True)
class Condition:
    """State and reasons as they are published; equal conditions need no second message."""

    state: StatusState
    reasons: tuple[str, ...]


def describe_station(station: str, surroundings: Surroundings) -> Condition:
    """`offline`: nobody inspects here. `degraded`: somebody should look. `online`: all is well.

    While the disk or the database is in trouble heartbeats cannot be written, so silence proves nothing
    then, and the station is `degraded`.
    """
    troubles = [trouble for trouble in (surroundings.disk_problem, surroundings.store_problem) if trouble]
    reasons = list(troubles)
    beat = surroundings.processes.get(f"station:{station}")
    inspecting = beat is not None and is_alive(beat, surroundings.now_us) and beat.state != "offline"
    if beat is not None and inspecting:
        reasons += beat.reasons
        reasons += _describe_cameras(station, surroundings.cameras)
    elif not troubles:
        reasons.append("the station process does not run")
    reasons += _describe_evidence(surroundings)
    if not inspecting and not troubles:
        return Condition("offline", _without_repeats(reasons))
    degraded = bool(reasons) or (beat is not None and beat.state == "degraded")
    return Condition("degraded" if degraded else "online", _without_repeats(reasons))


def is_alive(beat: ProcessBeat, now_us: int) -> bool:
    """Whether the beat is recent. One from the future was written before a clock jumped back."""
    return abs(now_us - beat.beat_utc_us) < SILENT_AFTER_S * 1e6


def _describe_cameras(station: str, cameras: Sequence[tuple[str, CameraHealth]]) -> list[str]:
    return [
        f"camera {health.camera}: {health.reason or 'not connected'}"
        for owner, health in cameras
        if owner == station and not health.connected
    ]


def _describe_evidence(surroundings: Surroundings) -> list[str]:
    beat = surroundings.processes.get("evidence")
    if beat is None or not surroundings.evidence_expected:
        return []
    if not is_alive(beat, surroundings.now_us):
        return [] if surroundings.disk_problem or surroundings.store_problem else ["the evidence process does not run"]
    return [f"evidence: {reason}" for reason in beat.reasons]


def _without_repeats(reasons: Sequence[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(reasons))
