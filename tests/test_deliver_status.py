"""What `status` says when something around the line is wrong, and what the delivery does about a full disk."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from inspector.records import CameraHealth
from inspector.store.database import Database
from inspector.store.outbox import count_unsent
from inspector.store.processes import ProcessBeat
from pipelines.station_status import Condition, Surroundings, describe_station
from tests.delivery_rig import (
    ROOT,
    STATION,
    beat_stations,
    delivery,
    make_config,
    poll,
    queue_numbered,
    wait_until_sent,
)
from tests.mosquitto import MOSQUITTO, Mosquitto
from tests.mqtt_subscriber import Subscriber

NOW_US = 1_735_689_600_000_000
NOT_RUNNING = "the station process does not run"


def beat_of(process: str, state: str = "online", reasons: tuple[str, ...] = (), age_s: float = 1.0) -> ProcessBeat:
    return ProcessBeat(process, 1, NOW_US - round(age_s * 1e6), state, reasons)


def describe(*beats: ProcessBeat, **changes: Any) -> Condition:
    facts: dict[str, Any] = {
        "processes": {beat.process: beat for beat in beats},
        "cameras": (),
        "disk_problem": None,
        "store_problem": None,
        "evidence_expected": True,
        "now_us": NOW_US,
    }
    return describe_station(STATION, Surroundings(**{**facts, **changes}))


STATION_BEAT = beat_of(f"station:{STATION}")


@pytest.mark.parametrize(
    ("beats", "expected"),
    [
        ((STATION_BEAT,), Condition("online", ())),
        ((), Condition("offline", (NOT_RUNNING,))),
        ((beat_of("station:plant/line/two"),), Condition("offline", (NOT_RUNNING,))),
        ((beat_of(f"station:{STATION}", age_s=6),), Condition("offline", (NOT_RUNNING,))),
        ((beat_of(f"station:{STATION}", age_s=-3600),), Condition("offline", (NOT_RUNNING,))),
        ((beat_of(f"station:{STATION}", "offline"),), Condition("offline", (NOT_RUNNING,))),
        ((beat_of(f"station:{STATION}", "degraded", ("paused",)),), Condition("degraded", ("paused",))),
        ((STATION_BEAT, beat_of("evidence", age_s=60)), Condition("degraded", ("the evidence process does not run",))),
        ((STATION_BEAT, beat_of("evidence", "degraded", ("slow",))), Condition("degraded", ("evidence: slow",))),
    ],
)
def test_condition_from_heartbeats(beats: tuple[ProcessBeat, ...], expected: Condition) -> None:
    """A silent station is offline (also when a clock jumped back over its last beat); reasons degrade it."""
    assert describe(*beats) == expected


def test_disconnected_camera_degrades_only_its_station() -> None:
    """Its reason is told; the camera of a neighbour does not matter."""
    away = CameraHealth("top", False, None, None, 0, None, None, "share is gone")
    assert describe(STATION_BEAT, cameras=((STATION, away),)) == Condition("degraded", ("camera top: share is gone",))
    assert describe(STATION_BEAT, cameras=(("plant/line/two", away),)).state == "online"


def test_silence_proves_nothing_while_the_disk_is_full() -> None:
    """Heartbeats cannot be written then: degraded with the disk as the reason, not offline."""
    assert describe(disk_problem="disk: less than 10 MB free") == Condition("degraded", ("disk: less than 10 MB free",))


def test_same_reason_is_said_once() -> None:
    """The station and the delivery both notice a low disk."""
    low = "disk: less than 10 MB free"
    assert describe(beat_of(f"station:{STATION}", "degraded", (low,)), disk_problem=low).reasons == (low,)


def test_evidence_that_is_switched_off_is_not_missed() -> None:
    """Its old heartbeat in the database means nothing."""
    assert describe(STATION_BEAT, beat_of("evidence", age_s=60), evidence_expected=False).state == "online"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=30m", "tmpfs", str(folder)], capture_output=True, check=False
    )
    if mounted.returncode != 0:
        pytest.skip(f"cannot mount a small file system: {mounted.stderr.decode().strip()}")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.root
@pytest.mark.broker
@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small file system needs root")
@pytest.mark.skipif(MOSQUITTO is None, reason="mosquitto is not installed")
def test_full_disk_degrades_and_then_recovers(small_disk: Path, tmp_path: Path) -> None:
    """With no byte left messages still go out, once; they are marked when there is space again."""
    db = Database.open(small_disk / "data")
    filler = small_disk / "filler"
    try:
        with Mosquitto(tmp_path / "broker") as broker, Subscriber(broker.port, f"{ROOT}/#") as observer:
            queue_numbered(db, range(1000), pad=200)
            beat_stations(db)
            fill(filler)
            with delivery(make_config(broker.port), db.data_dir):
                observer.wait_for(lambda seen: len(seen) == 1000, "/inspection")
                degraded = observer.wait_for(
                    lambda seen: [m.values for m in seen if any("inspector.db" in r for r in m.values["reasons"])],
                    f"{STATION}/status",
                )
                assert count_unsent(db) > 0
                filler.unlink()
                wait_until_sent(db)
                poll(lambda: beat_and_see_online(db, observer), "the status does not recover")
        assert degraded[0]["state"] == "degraded"
        assert [m.values["n"] for m in observer.seen(f"{STATION}/inspection")] == list(range(1000))
    finally:
        db.close()


def beat_and_see_online(db: Database, observer: Subscriber) -> bool:
    beat_stations(db)
    return bool(observer.seen(f"{STATION}/status")[-1].values["state"] == "online")


def fill(path: Path) -> None:
    """Write until nothing more fits."""
    with path.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            return
