"""Retention: what goes, what never goes, and that totals and chain still hold afterwards."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import func, select

from inspector.records import CameraHealth, Inspection, Message, Purpose, VerdictKind
from inspector.store.commands import answer_command, open_commands, record_command
from inspector.store.database import Database
from inspector.store.evidence import finish_evidence, next_evidence
from inspector.store.frames import FrameFiles, frame_key
from inspector.store.hash_chain import verify_chain
from inspector.store.inspections import VerdictCounts, count_verdicts, load_inspection
from inspector.store.outbox import count_unsent, mark_sent, next_messages, queue_messages
from inspector.store.processes import record_camera_health
from inspector.store.retention import RetentionReport, apply_retention
from inspector.store.reviews import add_disposition, add_review
from inspector.store.tables import (
    CameraHealthRow,
    CommandRow,
    DetectionRow,
    DispositionRow,
    InspectionRow,
    OutboxRow,
    ReviewRow,
)
from inspector.store.triggers import accept_trigger, count_accepted, identity_state
from tests.store_samples import (
    DAY_US,
    NOON_US,
    STATION,
    accept,
    commit,
    make_inspection,
    open_station,
    python_process,
    read_line,
)

NOW_US = NOON_US + 100 * DAY_US


@pytest.fixture
def db(tmp_path: Path) -> Iterator[Database]:
    db = open_station(tmp_path / "data")
    yield db
    db.close()


@pytest.fixture
def frames(tmp_path: Path) -> FrameFiles:
    return FrameFiles(tmp_path / "data" / "frames")


@pytest.fixture
def evidence(tmp_path: Path) -> FrameFiles:
    return FrameFiles(tmp_path / "data" / "evidence")


def retain(
    db: Database, frames: FrameFiles, evidence: FrameFiles, *, days: float = 90, mb: float = 1000, batch: int = 200
) -> RetentionReport:
    return apply_retention(db, frames, evidence, retention_days=days, retention_mb=mb, now_us=NOW_US, batch=batch)


def deliver(db: Database) -> None:
    """Everything that waits is acknowledged."""
    mark_sent(db, [entry.outbox_id for entry in next_messages(db, 0, 10_000)], NOON_US)


def age_of(days: float) -> int:
    """When a part must have been accepted to be that old now."""
    return NOW_US - int(days * DAY_US)


def store_frame(frames: FrameFiles, inspection: Inspection, size: int = 1000, suffix: str = ".jpg") -> str:
    """A picture of the inspection, as old as its decision."""
    key = frame_key(STATION, inspection.decided_utc_us, inspection.inspection_id, suffix)
    frames.write(key, b"x" * size)
    seconds = inspection.decided_utc_us / 1e6
    os.utime(frames.path(key), (seconds, seconds))
    return key


def commit_with_frame(db: Database, frames: FrameFiles, days: float, kind: VerdictKind, size: int = 1000) -> Inspection:
    """A part of that age whose frame was kept."""
    trigger = accept(db, age_of(days))
    key = frame_key(STATION, trigger.accepted_utc_us, make_inspection(trigger).inspection_id, ".jpg")
    inspection = commit(db, trigger, kind, frame_key=key, decided_utc_us=trigger.accepted_utc_us)
    assert store_frame(frames, inspection, size) == key
    return inspection


def count(db: Database, table: type) -> int:
    with db.read() as session:
        return session.scalar(select(func.count()).select_from(table)) or 0


def test_old_inspections_go_and_totals_still_add_up(db: Database, frames: FrameFiles, evidence: FrameFiles) -> None:
    """By age: rows, detections and frames are gone, counts include them, the chain verifies from the checkpoint."""
    for days in (99, 98, 97, 96, 95):
        commit_with_frame(db, frames, days, VerdictKind.NG)
    for days in (80, 1):
        commit_with_frame(db, frames, days, VerdictKind.OK)
    deliver(db)
    before = count_verdicts(db, STATION)
    report = retain(db, frames, evidence, batch=2)
    assert (report.removed_inspections, report.removed_triggers, report.removed_pictures) == (5, 5, 5)
    assert (count(db, InspectionRow), count(db, DetectionRow)) == (2, 0)
    assert len(list(frames.pictures())) == 2
    assert count_verdicts(db, STATION) == before == VerdictCounts(triggers=7, ok=2, ng=5)
    assert count_verdicts(db, STATION, purpose=Purpose.SETUP) == VerdictCounts()
    assert count_verdicts(db, STATION, since_utc_us=age_of(90)).triggers == 2
    chain = verify_chain(db, STATION)
    assert (chain.rows, chain.removed_rows, chain.tip_index) == (2, 5, 7)
    assert db.integrity() == []
    assert retain(db, frames, evidence).removed_inspections == 0


def test_the_chain_goes_on_after_everything_was_removed(db: Database, frames: FrameFiles, evidence: FrameFiles) -> None:
    """An emptied station continues its sequence, its count by camera and its chain."""
    for _ in range(3):
        commit(db, accept(db, age_of(99)))
    deliver(db)
    assert retain(db, frames, evidence).removed_inspections == 3
    trigger = accept(db, age_of(1))
    commit(db, trigger)
    assert trigger.sequence == 4
    assert count_accepted(db, STATION, "top") == 4
    assert verify_chain(db, STATION).tip_index == 4
    assert count_verdicts(db, STATION).ok == 4


def test_what_is_unsent_stays(db: Database, frames: FrameFiles, evidence: FrameFiles) -> None:
    """An inspection whose message the broker has not acknowledged stays, with all behind it; then it goes."""
    for _ in range(3):
        commit(db, accept(db, age_of(99)))
    entries = next_messages(db, 0, 10)
    mark_sent(db, [entries[0].outbox_id, entries[2].outbox_id], NOON_US)
    report = retain(db, frames, evidence)
    assert report.removed_inspections == 1
    assert "a message about it is unsent" in report.held_by[STATION]
    assert [entry.outbox_id for entry in next_messages(db, 0, 10)] == [entries[1].outbox_id]
    deliver(db)
    assert retain(db, frames, evidence).removed_inspections == 2
    assert verify_chain(db, STATION).removed_rows == 3


def test_what_is_under_review_stays_with_its_picture(db: Database, frames: FrameFiles, evidence: FrameFiles) -> None:
    """REVIEW without a disposition is kept by age and by size; the disposition frees it."""
    odd = commit_with_frame(db, frames, 99, VerdictKind.REVIEW, size=5000)
    deliver(db)
    report = retain(db, frames, evidence, mb=0.001)
    assert "under review" in report.held_by[STATION]
    assert frames.exists(load_inspection(db, str(odd.inspection_id)).frame_key or "")
    review = add_review(db, str(odd.inspection_id), reviewer="Ada", finding="OK", now_us=NOW_US)
    add_disposition(db, str(odd.trigger.trigger_id), "OK", cause="review", cause_id=review, messages=[], now_us=NOW_US)
    assert retain(db, frames, evidence).removed_inspections == 1
    assert (count(db, ReviewRow), count(db, DispositionRow), len(list(frames.pictures()))) == (0, 0, 0)
    assert db.integrity() == []


def test_what_waits_for_evidence_stays(db: Database, frames: FrameFiles, evidence: FrameFiles) -> None:
    """Evidence still needs the frame; afterwards frame and evidence pictures go together."""
    trigger = accept(db, age_of(99))
    inspection = make_inspection(trigger, VerdictKind.NG)
    key = store_frame(frames, inspection)
    commit(db, trigger, VerdictKind.NG, evidence=True, frame_key=key)
    deliver(db)
    assert "evidence is pending" in retain(db, frames, evidence).held_by[STATION]
    assert frames.exists(key)
    visual = store_frame(evidence, inspection, suffix="-visual.jpg")
    assert next_evidence(db) is not None
    finish_evidence(
        db,
        str(inspection.inspection_id),
        visual_key=visual,
        twin_key=None,
        thumbnail_key=None,
        twin_method="paste",
        messages=[],
        now_us=NOW_US,
    )
    report = retain(db, frames, evidence)
    assert (report.removed_inspections, report.removed_pictures) == (1, 2)


def test_an_unfinished_part_stays(db: Database, frames: FrameFiles, evidence: FrameFiles) -> None:
    """A part that still owes an inspection keeps the view it has."""
    trigger = accept(db, age_of(99), cameras=("top", "side"))
    commit(db, trigger)
    deliver(db)
    assert "still owes" in retain(db, frames, evidence).held_by[STATION]
    commit(db, trigger, camera="side")
    deliver(db)
    assert retain(db, frames, evidence).removed_triggers == 1


def test_a_cut_may_run_through_a_part(db: Database, frames: FrameFiles, evidence: FrameFiles) -> None:
    """Views of one part that lie apart in the chain go one by one; the part is counted once all the time."""
    first = accept(db, age_of(99), cameras=("top", "side"))
    commit(db, first, VerdictKind.NG, decided_utc_us=age_of(99))
    commit(db, accept(db, age_of(99)), decided_utc_us=age_of(99))
    commit(db, first, VerdictKind.OK, camera="side", decided_utc_us=age_of(10))
    deliver(db)
    report = retain(db, frames, evidence)
    assert (report.removed_inspections, report.removed_triggers) == (2, 1)
    assert count_verdicts(db, STATION) == VerdictCounts(triggers=2, ok=1, ng=1)
    assert verify_chain(db, STATION).rows == 1


def test_the_oldest_pictures_go_first_beyond_the_size(db: Database, frames: FrameFiles, evidence: FrameFiles) -> None:
    """By size: pictures go, rows stay; what must stay is passed over."""
    kinds = [VerdictKind.NG, VerdictKind.REVIEW, VerdictKind.NG, VerdictKind.NG]
    kept = [commit_with_frame(db, frames, 50 - number, kind, size=400_000) for number, kind in enumerate(kinds)]
    deliver(db)
    report = retain(db, frames, evidence, mb=1.0)
    assert (report.removed_inspections, report.removed_pictures) == (0, 2)
    assert report.freed_mb == pytest.approx(0.8)
    assert report.picture_mb == pytest.approx(0.8)
    left = {picture.key for picture in frames.pictures()}
    assert left == {kept[1].frame_key, kept[3].frame_key}
    assert verify_chain(db, STATION).rows == 4


def test_old_pictures_behind_a_held_row_go(db: Database, frames: FrameFiles, evidence: FrameFiles) -> None:
    """A row under review stops the cut of rows, but not the removal of older pictures behind it."""
    odd = commit_with_frame(db, frames, 99, VerdictKind.REVIEW)
    commit_with_frame(db, frames, 98, VerdictKind.NG)
    deliver(db)
    report = retain(db, frames, evidence)
    assert (report.removed_inspections, report.removed_pictures) == (0, 1)
    assert [picture.key for picture in frames.pictures()] == [odd.frame_key]


def test_orphans_are_swept_after_an_hour(db: Database, frames: FrameFiles, evidence: FrameFiles) -> None:
    """Pictures without a row and left-over temporary files go; what a running commit may still need stays."""
    stray = make_inspection(accept(db, age_of(5)), decided_utc_us=age_of(0.5))
    young = store_frame(frames, stray)
    temporary = frames.root / ".writing-abc"
    temporary.write_bytes(b"half")
    os.utime(temporary, (NOON_US / 1e6, NOON_US / 1e6))
    assert retain(db, frames, evidence).removed_pictures == 1
    assert not temporary.exists()
    assert frames.exists(young)  # its trigger is still open: the commit may be waiting for space
    commit(db, stray.trigger, frame_key=None)
    deliver(db)
    assert retain(db, frames, evidence).removed_pictures == 1
    assert not frames.exists(young)


def test_a_file_of_a_removed_part_is_not_inspected_again(
    db: Database, frames: FrameFiles, evidence: FrameFiles
) -> None:
    """A watched folder may keep files longer than the database keeps their inspections."""
    trigger = accept(db, age_of(99), source_identity="a.jpg:1:2:abc")
    commit(db, trigger)
    deliver(db)
    assert retain(db, frames, evidence).removed_triggers == 1
    assert identity_state(db, STATION, "a.jpg:1:2:abc") == "closed"
    again = accept_trigger(
        db,
        STATION,
        cameras=("top",),
        accepted_utc_us=NOW_US,
        purpose=Purpose.PRODUCTION,
        source_identity="a.jpg:1:2:abc",
    )
    assert (again.state, again.trigger.trigger_id) == ("closed", trigger.trigger_id)
    assert count_verdicts(db, STATION).triggers == 1


def test_sent_messages_old_commands_and_old_samples_go(db: Database, frames: FrameFiles, evidence: FrameFiles) -> None:
    """Sent messages go after a day, unsent ones never; answered commands after a week; samples with the rows."""
    queue_messages(db, STATION, [Message(f"t/{number}", "{}") for number in range(5)], age_of(2))
    waiting = [entry.outbox_id for entry in next_messages(db, 0, 10)]
    mark_sent(db, waiting[1:4], age_of(1.5))
    mark_sent(db, waiting[4:], age_of(0.5))
    for number, days in enumerate((9, 9, 2)):
        record_command(db, STATION, "pause", f"r-{number}", {}, None, None, age_of(days))
    for command in open_commands(db, STATION)[1:]:
        answer_command(db, command.command_id, None, age_of(1))
    health = CameraHealth("top", True, 5.0, 0.1, 0, 90.0, 40.0)
    for days in (99, 98, 5):
        record_camera_health(db, STATION, [health], age_of(days))
    report = retain(db, frames, evidence, batch=2)
    assert report.removed_messages == 3
    assert count_unsent(db) == 1
    assert (count(db, OutboxRow), count(db, CommandRow), count(db, CameraHealthRow)) == (2, 2, 1)


KILLED_IN_RETENTION = """
import sys
from pathlib import Path
from inspector.store import retention
from inspector.store.database import Database
from inspector.store.frames import FrameFiles
def stop(path):
    print("rows are gone", flush=True)
    sys.stdin.readline()
retention.delete_picture = stop
data_dir = Path(sys.argv[1])
retention.apply_retention(
    Database.open(data_dir), FrameFiles(data_dir / "frames"), FrameFiles(data_dir / "evidence"),
    retention_days=90, retention_mb=1000, now_us=int(sys.argv[2]),
)
"""


def test_a_kill_in_the_middle_is_mended_by_the_next_run(db: Database, frames: FrameFiles, evidence: FrameFiles) -> None:
    """Killed after the rows and before the files: nothing dangles in the database, the files go next time."""
    for _ in range(3):
        commit_with_frame(db, frames, 99, VerdictKind.NG)
    deliver(db)
    with python_process(KILLED_IN_RETENTION, str(db.data_dir), str(NOW_US)) as process:
        assert read_line(process) == "rows are gone"
        process.kill()
        process.wait()
    assert (count(db, InspectionRow), len(list(frames.pictures()))) == (0, 3)
    assert db.integrity() == []
    assert verify_chain(db, STATION).removed_rows == 3
    assert retain(db, frames, evidence).removed_pictures == 3
    assert count_verdicts(db, STATION).ng == 3


RETAIN_IN_BATCHES = """
import sys
from pathlib import Path
from inspector.store.database import Database
from inspector.store.frames import FrameFiles
from inspector.store.retention import apply_retention
data_dir = Path(sys.argv[1])
apply_retention(
    Database.open(data_dir), FrameFiles(data_dir / "frames"), FrameFiles(data_dir / "evidence"),
    retention_days=90, retention_mb=1000, now_us=int(sys.argv[2]), batch=5,
)
"""


def test_the_line_runs_on_during_retention(db: Database, frames: FrameFiles, evidence: FrameFiles) -> None:
    """Commits go on between the batches, and what was committed meanwhile is all there."""
    for _ in range(60):
        commit(db, accept(db, age_of(99)))
    deliver(db)
    with python_process(RETAIN_IN_BATCHES, str(db.data_dir), str(NOW_US)) as process:
        commits = 0
        while process.poll() is None:
            commit(db, accept(db, age_of(1)))
            commits += 1
            time.sleep(0.005)
        assert process.returncode == 0
    chain = verify_chain(db, STATION)
    assert (chain.removed_rows, chain.rows) == (60, commits)
    assert count_verdicts(db, STATION).ok == 60 + commits
