"""The verdict process of one station: real recipes, a real SQLite file, real files; only live cameras are scripted."""

from __future__ import annotations

import json
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from inspector.clock import utc_now_us
from inspector.config import PlantConfig
from inspector.errors import DataDirLockedError, InspectorError
from inspector.images import encode_jpeg
from inspector.records import PartIdSource, Purpose, RecipeRef, VerdictKind
from inspector.store.commands import record_command
from inspector.store.database import Database
from inspector.store.hash_chain import verify_chain
from inspector.store.inspections import count_verdicts, recent_inspections
from inspector.store.outbox import next_messages
from inspector.store.processes import list_processes
from inspector.store.stations import ensure_station, load_station
from inspector.store.stored import StoredInspection
from inspector.store.triggers import accept_trigger
from pipelines.run_station import run_station
from tests.scripted_camera import ScriptedCamera
from tests.small_line import (
    HEIGHT_PX,
    RECIPE,
    STATION,
    WIDTH_PX,
    draw_part,
    drop,
    folder_camera,
    jpeg_part,
    small_plant,
    teach,
)

DEADLINE_S = 30.0


@pytest.fixture(scope="module")
def taught(taught_plate: Path) -> Path:
    """A data directory with a released recipe; tests copy it."""
    return taught_plate / "data"


@pytest.fixture
def data_dir(taught: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(taught, tmp_path / "data"))


@contextmanager
def running(config: PlantConfig, data_dir: Path, **options: Any) -> Iterator[threading.Event]:
    """The station in a thread, as the process runs it in its main thread; errors come out at the end."""
    stop = threading.Event()
    failure: list[BaseException] = []

    def serve() -> None:
        try:
            run_station(config, data_dir, STATION, stop, **options)
        except (InspectorError, AssertionError, OSError) as error:
            failure.append(error)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield stop
    finally:
        stop.set()
        thread.join(DEADLINE_S)
        assert not thread.is_alive(), "the station did not stop"
    if failure:
        raise failure[0]


@contextmanager
def opened(data_dir: Path) -> Iterator[Database]:
    db = Database.open(data_dir)
    try:
        yield db
    finally:
        db.close()


def wait_until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        if time.monotonic() > deadline:
            pytest.fail(f"never happened: {what}")
        time.sleep(0.02)


def wait_for_inspections(db: Database, count: int) -> list[StoredInspection]:
    """The inspections in sequence order, once there are `count`."""
    wait_until(lambda: len(recent_inspections(db, STATION, limit=count + 5)) >= count, f"{count} inspections")
    return sorted(recent_inspections(db, STATION, limit=count + 5), key=lambda item: item.trigger.sequence)


def with_camera(camera: ScriptedCamera) -> dict[str, Any]:
    return {"camera_factory": lambda settings, identity_state, has_closed: camera}


def live_plant(**changes: Any) -> PlantConfig:
    """A station with a live camera (scripted in these tests)."""
    camera = {"id": "top", "kind": "stream", "url": "rtsp://camera.example/live"} | changes
    return small_plant(camera)


def send(db: Database, verb: str, request_id: str, **arguments: Any) -> None:
    record_command(db, STATION, verb, request_id, arguments, None, None, utc_now_us())


def answers(db: Database) -> dict[str, dict[str, Any]]:
    """Answers to commands in the outbox by request id."""
    found = {}
    for entry in next_messages(db, 0, 1000):
        if "/cmd/" in entry.message.topic:
            payload = json.loads(entry.message.payload)
            found[payload["request_id"]] = payload
    return found


def test_folder_to_verdicts(data_dir: Path, tmp_path: Path) -> None:
    """Dropped files become verdicts in order, NG frames keep their own bytes, messages wait in the outbox."""
    inbox = tmp_path / "inbox"
    inbox.mkdir()
    config = small_plant(folder_camera(inbox, name_pattern=r"(?P<lot>L\d+)_(?P<part_id>P\d+)"))
    parts = {f"L1_P{number}.jpg": jpeg_part(number, defect=number % 3 == 0) for number in range(1, 7)}
    with opened(data_dir) as db:
        with running(config, data_dir):
            for name, content in parts.items():
                drop(inbox / name, content)
                time.sleep(0.02)
            made = wait_for_inspections(db, 6)
        assert [item.trigger.part_id for item in made] == [f"P{number}" for number in range(1, 7)]
        assert [item.trigger.sequence for item in made] == [1, 2, 3, 4, 5, 6]
        assert {item.trigger.lot for item in made} == {"L1"}
        assert {item.trigger.part_id for item in made if item.kind is VerdictKind.NG} == {"P3", "P6"}
        kept = next(item for item in made if item.trigger.part_id == "P3")
        assert kept.frame_key is not None
        assert (data_dir / "frames" / kept.frame_key).read_bytes() == parts["L1_P3.jpg"]
        topics = [entry.message.topic for entry in next_messages(db, 0, 100)]
        assert topics == [f"inspector/v1/{STATION}/inspection"] * 6
        verify_chain(db, STATION)  # raises for a row that does not match


@pytest.mark.parametrize(("share", "kept"), [(1.0, 3), (0.0, 0)])
def test_frames_drawn_for_an_audit_are_kept(data_dir: Path, tmp_path: Path, share: float, kept: int) -> None:
    """An OK part that the cloud will be asked about keeps its frame, although no other OK part does."""
    incoming = tmp_path / "incoming"
    incoming.mkdir()
    hook = {"kind": "webhook", "name": "hook", "base_url": "http://127.0.0.1:9/x", "secret_env": "HOOK_SECRET"}
    config = small_plant(
        folder_camera(incoming),
        station={"cloud": {"send": "frames", "provider": "hook", "audit_share": share}},
        cloud={"allowed_hosts": ["127.0.0.1"], "providers": [hook]},
        store={"min_free_mb": 10, "keep_ok_frame_every": 0},
    )
    for number in range(3):
        drop(incoming / f"{number}.jpg", jpeg_part(number))
    with running(config, data_dir), opened(data_dir) as db:
        found = wait_for_inspections(db, 3)
    assert [item.kind for item in found] == [VerdictKind.OK] * 3
    assert sum(item.frame_key is not None for item in found) == kept


def test_restart_neither_repeats_nor_skips(data_dir: Path, tmp_path: Path) -> None:
    """Files inspected by the last run are left alone, files that came meanwhile are inspected, numbers go on."""
    inbox = tmp_path / "inbox"
    inbox.mkdir()
    config = small_plant(folder_camera(inbox))
    with opened(data_dir) as db:
        drop(inbox / "a.jpg", jpeg_part(1))
        with running(config, data_dir):
            wait_for_inspections(db, 1)
        drop(inbox / "b.jpg", jpeg_part(2))
        with running(config, data_dir):
            made = wait_for_inspections(db, 2)
            drop(inbox / "a.jpg", jpeg_part(3))  # a camera that reuses names
            made = wait_for_inspections(db, 3)
        assert [item.trigger.sequence for item in made] == [1, 2, 3]
        assert len({item.frame_sha256 for item in made}) == 3


def test_unreadable_file_is_not_inspected_and_the_line_goes_on(data_dir: Path, tmp_path: Path) -> None:
    """A truncated file and one of another size end as NOT_INSPECTED with the reason and are moved aside."""
    inbox = tmp_path / "inbox"
    inbox.mkdir()
    config = small_plant(
        folder_camera(
            inbox, incomplete_after_s=0.3, width_px=WIDTH_PX, height_px=HEIGHT_PX, name_pattern="(?P<part_id>.+)"
        )
    )
    with opened(data_dir) as db:
        with running(config, data_dir):
            drop(inbox / "cut.jpg", jpeg_part(1)[:2000])
            drop(inbox / "good.jpg", jpeg_part(2))
            made = {item.trigger.part_id: item for item in wait_for_inspections(db, 2)}
        assert made["cut"].kind is VerdictKind.NOT_INSPECTED
        assert made["cut"].verdict.reasons
        assert made["good"].kind is VerdictKind.OK
        assert (inbox / "failed" / "cut.jpg").exists()
        assert (inbox / "good.jpg").exists()
        counts = count_verdicts(db, STATION)
        assert counts.triggers == counts.ok + counts.ng + counts.review + counts.not_inspected == 2


def test_frames_lost_with_the_process_are_counted(data_dir: Path) -> None:
    """A live trigger accepted by a process that died becomes NOT_INSPECTED (service_restart) at the next start."""
    camera = ScriptedCamera("top")
    with opened(data_dir) as db:
        ensure_station(db, STATION, recipe_name=RECIPE, recipe_version=None, now_us=utc_now_us())
        accept_trigger(db, STATION, cameras=("top",), accepted_utc_us=utc_now_us(), purpose=Purpose.PRODUCTION)
        with running(live_plant(), data_dir, **with_camera(camera)):
            camera.push(jpeg_part(1))
            made = wait_for_inspections(db, 2)
        assert made[0].verdict.reasons == ("service_restart",)
        assert made[1].kind is VerdictKind.OK
        assert camera.opened_after == 1


def test_frames_a_source_still_has_are_repeated_not_given_up(data_dir: Path) -> None:
    """An accepted file that is still there after a kill is inspected under its first sequence number."""
    camera = ScriptedCamera("top")
    camera.kept.add("file-1")
    with opened(data_dir) as db:
        ensure_station(db, STATION, recipe_name=RECIPE, recipe_version=None, now_us=utc_now_us())
        accept_trigger(
            db,
            STATION,
            cameras=("top",),
            accepted_utc_us=utc_now_us(),
            purpose=Purpose.PRODUCTION,
            source_identity="top/file-1",
        )
        with running(live_plant(backpressure="block"), data_dir, **with_camera(camera)):
            camera.push(jpeg_part(1), source_identity="file-1")
            made = wait_for_inspections(db, 1)
        assert [(item.trigger.sequence, item.kind) for item in made] == [(1, VerdictKind.OK)]


def test_newest_counts_what_it_gives_up(data_dir: Path) -> None:
    """A live camera faster than the station: overtaken frames are NOT_INSPECTED, the newest is inspected."""
    camera = ScriptedCamera("top")
    for number in range(30):
        camera.push(jpeg_part(number), part_id=str(number), part_id_source=PartIdSource.CODE_READER)
    camera.dropped = 5
    camera.end()
    config = small_plant(
        {"id": "top", "kind": "stream", "url": "rtsp://camera.example/live"}, station={"queue_frames": 1, "workers": 1}
    )
    with opened(data_dir) as db:
        with running(config, data_dir, **with_camera(camera)) as stop:
            wait_until(lambda: count_verdicts(db, STATION).triggers == 35, "35 triggers")
            wait_until(lambda: count_verdicts(db, STATION).pending == 0, "all closed")
            stop.set()
        counts = count_verdicts(db, STATION)
        given_up = [
            item for item in recent_inspections(db, STATION, limit=50) if item.kind is VerdictKind.NOT_INSPECTED
        ]
        assert counts.not_inspected == len(given_up) >= 5
        assert {item.verdict.reasons for item in given_up} == {("overtaken by a newer frame",)}
        last = next(item for item in recent_inspections(db, STATION, limit=50) if item.trigger.part_id == "29")
        assert last.kind is VerdictKind.OK


def test_commands_are_carried_out_and_answered(data_dir: Path) -> None:
    """trigger, set-lot, pause and resume work, are answered, and what they set survives a restart."""
    camera = ScriptedCamera("top", needs_arming=True)
    config = live_plant(trigger={"kind": "command", "frame_timeout_s": 5})
    with opened(data_dir) as db:
        with running(config, data_dir, **with_camera(camera)):
            send(db, "set-lot", "r1", lot="L77")
            send(db, "trigger", "r2", part_id="P1")
            camera.push(jpeg_part(1))
            made = wait_for_inspections(db, 1)
            send(db, "pause", "r3")
            wait_until(lambda: "r3" in answers(db), "pause answered")
            send(db, "trigger", "r4", part_id="P2")
            wait_until(lambda: "r4" in answers(db), "trigger answered")
        given = answers(db)
        assert (made[0].trigger.part_id, made[0].trigger.lot) == ("P1", "L77")
        assert [given[request]["ok"] for request in ("r1", "r2", "r3", "r4")] == [True, True, True, False]
        assert "paused" in json.dumps(given["r4"])
        assert load_station(db, STATION).paused
        with running(config, data_dir, **with_camera(camera)):
            send(db, "trigger", "r5")
            wait_until(lambda: "r5" in answers(db), "trigger answered")
            send(db, "resume", "r6")
            wait_until(lambda: "r6" in answers(db), "resume answered")
        assert answers(db)["r5"]["ok"] is False
        assert not load_station(db, STATION).paused


def test_command_without_a_frame(data_dir: Path) -> None:
    """A commanded part for which no frame comes is NOT_INSPECTED, not forgotten."""
    camera = ScriptedCamera("top", needs_arming=True)
    config = live_plant(trigger={"kind": "command", "frame_timeout_s": 0.2})
    with opened(data_dir) as db:
        with running(config, data_dir, **with_camera(camera)):
            send(db, "trigger", "r1", part_id="P1")
            made = wait_for_inspections(db, 1)
        assert made[0].kind is VerdictKind.NOT_INSPECTED
        assert "no frame within 0.2 s" in made[0].verdict.reasons[0]


def test_set_recipe_takes_effect_and_survives(data_dir: Path, tmp_path: Path) -> None:
    """A new version is used from the next part on, after a restart too; an unknown one changes nothing."""
    teach(data_dir, tmp_path / "good2", images=8)
    camera = ScriptedCamera("top")
    config = small_plant(
        {"id": "top", "kind": "stream", "url": "rtsp://camera.example/live", "backpressure": "block"},
        station={"recipe": f"{RECIPE}@1"},
    )
    with opened(data_dir) as db:
        with running(config, data_dir, **with_camera(camera)):
            camera.push(jpeg_part(1))
            wait_for_inspections(db, 1)
            send(db, "set-recipe", "r1", recipe=f"{RECIPE}@9")
            send(db, "set-recipe", "r2", recipe=f"{RECIPE}@2")
            wait_until(lambda: "r2" in answers(db), "set-recipe answered")
            camera.push(jpeg_part(2))
            wait_for_inspections(db, 2)
        with running(config, data_dir, **with_camera(camera)):
            camera.push(jpeg_part(3))
            made = wait_for_inspections(db, 3)
        assert [answers(db)[request]["ok"] for request in ("r1", "r2")] == [False, True]
        assert [item.recipe.version for item in made if isinstance(item.recipe, RecipeRef)] == [1, 2, 2]


def test_recipe_for_another_camera_size(data_dir: Path) -> None:
    """A frame that the recipe was not made for is NOT_INSPECTED and says so; it is never called OK."""
    camera = ScriptedCamera("top")
    with opened(data_dir) as db:
        with running(live_plant(backpressure="block"), data_dir, **with_camera(camera)):
            camera.push(encode_jpeg(draw_part(1, width_px=640, height_px=480)))
            made = wait_for_inspections(db, 1)
        assert made[0].kind is VerdictKind.NOT_INSPECTED
        assert "640x480" in made[0].verdict.reasons[0]


def test_tampered_recipe_stops_the_intake_and_shows(data_dir: Path, tmp_path: Path) -> None:
    """With a recipe that fails its hash nothing is inspected: files wait, the station says degraded and why."""
    victim = next(path for path in (data_dir / "recipes" / RECIPE / "1").iterdir() if path.suffix == ".npz")
    victim.chmod(0o644)
    content = bytearray(victim.read_bytes())
    content[len(content) // 2] ^= 0xFF
    victim.write_bytes(bytes(content))
    inbox = tmp_path / "inbox"
    inbox.mkdir()
    drop(inbox / "a.jpg", jpeg_part(1))
    with opened(data_dir) as db:
        with running(small_plant(folder_camera(inbox)), data_dir):
            wait_until(lambda: any(row.state == "degraded" for row in list_processes(db)), "degraded")
            process = next(row for row in list_processes(db) if row.process == f"station:{STATION}")
        assert any(victim.name in reason for reason in process.reasons)
        assert count_verdicts(db, STATION).triggers == 0
        assert (inbox / "a.jpg").exists()


def test_clock_that_jumps(data_dir: Path) -> None:
    """Order is by sequence and lateness by the monotonic clock, whatever the wall clock does."""
    camera = ScriptedCamera("top")
    offset_us = 0

    def jumping() -> int:
        return utc_now_us() + offset_us

    with opened(data_dir) as db:
        with running(live_plant(backpressure="block"), data_dir, clock=jumping, **with_camera(camera)):
            for jump_h in (0, -5, 48):
                offset_us = jump_h * 3_600_000_000
                camera.push(jpeg_part(1))
                count = len(recent_inspections(db, STATION)) + 1
                made = wait_for_inspections(db, count)
        assert [item.trigger.sequence for item in made] == [1, 2, 3]
        assert made[1].decided_utc_us < made[0].decided_utc_us < made[2].decided_utc_us
        assert not any(item.late for item in made)
        verify_chain(db, STATION)  # raises for a row that does not match


def test_late_verdict_is_marked(data_dir: Path) -> None:
    """A verdict after the station's deadline says so, in the database and in the message."""
    camera = ScriptedCamera("top")
    config = small_plant(
        {"id": "top", "kind": "stream", "url": "rtsp://camera.example/live", "backpressure": "block"},
        station={"deadline_ms": 0.001},
    )
    with opened(data_dir) as db:
        with running(config, data_dir, **with_camera(camera)):
            camera.push(jpeg_part(1))
            made = wait_for_inspections(db, 1)
        assert made[0].late
        assert json.loads(next_messages(db, 0, 1)[0].message.payload)["late"] is True


def test_second_process_on_the_same_station(data_dir: Path, tmp_path: Path) -> None:
    """Two processes never serve one station of one data directory."""
    inbox = tmp_path / "inbox"
    inbox.mkdir()
    config = small_plant(folder_camera(inbox))
    with opened(data_dir) as db, running(config, data_dir):
        wait_until(lambda: any(row.process.startswith("station") for row in list_processes(db)), "first beat")
        with pytest.raises(DataDirLockedError):
            run_station(config, data_dir, STATION, threading.Event())


def test_detector_that_breaks_sends_the_part_to_review(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A failing stage on a readable frame is REVIEW with the reason and the frame kept; the line goes on."""
    camera = ScriptedCamera("top")

    def broken(*arguments: object, **options: object) -> None:
        raise ValueError("a score must be a finite number, got nan")

    with opened(data_dir) as db:
        with running(live_plant(backpressure="block"), data_dir, **with_camera(camera)):
            with monkeypatch.context() as patched:
                patched.setattr("pipelines.station_lane.inspect_frame", broken)
                camera.push(jpeg_part(1))
                wait_for_inspections(db, 1)
            camera.push(jpeg_part(2))
            made = wait_for_inspections(db, 2)
        assert [item.kind for item in made] == [VerdictKind.REVIEW, VerdictKind.OK]
        assert "finite" in made[0].verdict.reasons[0]
        assert (data_dir / "frames" / str(made[0].frame_key)).read_bytes() == jpeg_part(1)
