"""The cloud's part of the database: a queue that forgets nothing, a ledger, a log that shows tampering, a clock."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import delete, insert, select, update

from inspector.errors import ChainBrokenError
from inspector.records import Charge, Inspection, Spent, VerdictKind
from inspector.store import escalations as queue
from inspector.store.cloud_audit import Departure, append_departure, stream_audit, verify_audit
from inspector.store.cloud_spend import DAY_US, HOUR_US, debit, read_spent, settle, sum_spend
from inspector.store.cloud_tables import CloudAuditRow, CloudStateRow, EscalationRow
from inspector.store.database import Database
from inspector.store.frames import FrameFiles, frame_key
from inspector.store.retention import apply_retention
from inspector.store.reviews import (
    add_disposition,
    insert_opinion,
    judge_by_opinions,
    load_opinion,
    make_opinion_id,
)
from inspector.store.steady_clock import ClockReading, advance_clock, peek_clock, read_clocks
from tests.store_samples import NOON_US, STATION, accept, commit, open_station

SECOND_US = 1_000_000


@pytest.fixture
def db(tmp_path: Path) -> Iterator[Database]:
    database = open_station(tmp_path)
    yield database
    database.close()


def reading(wall_us: int = NOON_US, boot_us: int = 0, boot: str = "first") -> ClockReading:
    return ClockReading(wall_us, boot, boot_us)


def enqueue(db: Database, inspection: Inspection, *, at_us: int = NOON_US, **changes: Any) -> str:
    """A question about an inspection; `state` and `same_as` as given."""
    state = changes.pop("state", queue.QUEUED)
    new = queue.NewEscalation(
        escalation_id=f"{inspection.inspection_id}",
        inspection_id=str(inspection.inspection_id),
        station=STATION,
        camera="top",
        recipe_name="board",
        reason="review",
        looks=b"look",
        waited_us=0,
    )
    with db.write() as session:
        assert queue.queue_escalation(session, replace(new, **changes), state, at_us, at_us)
    return new.escalation_id


def review_part(db: Database, kind: VerdictKind = VerdictKind.REVIEW, **known: Any) -> Inspection:
    return commit(db, accept(db), kind, **known)


def state_of(db: Database, escalation_id: str) -> str:
    with db.read() as session:
        found = queue.load_escalation(session, escalation_id)
    assert found is not None
    return found.state


# --- the steady clock -------------------------------------------------------------------------------


def test_the_wall_clock_may_jump(db: Database) -> None:
    """While the machine runs, a wall clock that jumps by a day, there or back, changes nothing."""
    with db.write() as session:
        start = advance_clock(session, reading(NOON_US, 100))
        assert advance_clock(session, reading(NOON_US + DAY_US, 100 + SECOND_US)) == start + SECOND_US
        assert advance_clock(session, reading(NOON_US - DAY_US, 100 + 2 * SECOND_US)) == start + 2 * SECOND_US
        assert peek_clock(session, reading(0, 100 + 3 * SECOND_US)) == start + 3 * SECOND_US


def test_a_restart_of_the_machine_counts_by_the_wall_clock(db: Database) -> None:
    """Over a boot the wall clock says how long it took; one that went back adds nothing."""
    with db.write() as session:
        start = advance_clock(session, reading(NOON_US, 10**12))
        assert advance_clock(session, reading(NOON_US + HOUR_US, 5, "second")) == start + HOUR_US
        assert advance_clock(session, reading(0, 5, "third")) == start + HOUR_US
        assert advance_clock(session, reading(NOON_US, 5 + SECOND_US, "third")) == start + HOUR_US + SECOND_US


def test_this_machine_has_such_clocks() -> None:
    """Two readings of one boot: the same boot, and time that passed."""
    first, second = read_clocks(), read_clocks()
    assert first.boot_id == second.boot_id and second.boot_us >= first.boot_us > 0


# --- the ledger -------------------------------------------------------------------------------------


def test_windows_of_the_ledger(db: Database) -> None:
    """Each debit counts for an hour, a day, a month from its own moment on; settling changes money alone."""
    moments = (0, DAY_US - HOUR_US // 2, DAY_US + HOUR_US // 4)
    with db.write() as session:
        for attempt, at_us in enumerate(moments):
            debit(session, "e", attempt, STATION, "hook", Charge(100, 7000), at_us, at_us)
        debit(session, "e", 9, "plant/line1/other", "hook", Charge(1, 1), DAY_US, DAY_US)
        settle(session, "e", 1, 500)
        assert read_spent(session, STATION, DAY_US + HOUR_US // 4) == Spent(2, 2, 200, 14_500)
        assert read_spent(session, STATION, DAY_US - 1) == Spent(2, 3, 300, 14_500)
        assert read_spent(session, STATION, 40 * DAY_US) == Spent()
    assert [(item.station, item.attempts, item.money_micro) for item in sum_spend(db)] == [
        ("plant/line1/other", 1, 1),
        (STATION, 3, 14_500),
    ]


# --- the audit log ----------------------------------------------------------------------------------

CONTENT = b"what left"


def depart(db: Database, number: int) -> None:
    departure = Departure(
        escalation_id=f"e{number}",
        attempt=1,
        inspection_id=f"i{number}",
        station=STATION,
        reason="review",
        provider="hook",
        destination="https://hook.example:443",
        policy_version="0" * 16,
        send="crops",
        images=1,
        payload_key=f"key{number}",
        payload_sha256=hashlib.sha256(CONTENT).hexdigest(),
        payload_bytes=len(CONTENT),
        recorded_utc_us=NOON_US + number,
    )
    with db.write() as session:
        advance_clock(session, reading())
        append_departure(session, departure)


def read_file(key: str) -> bytes | None:
    return CONTENT if key != "key2" else None


def test_an_untouched_log_verifies(db: Database) -> None:
    """Rows are chained in order; a file that retention removed is counted, not held against anybody."""
    assert verify_audit(db, read_file).rows == 0
    for number in range(5):
        depart(db, number)
    report = verify_audit(db, read_file)
    assert (report.rows, report.files_checked, report.files_gone) == (5, 4, 1)
    assert [entry.position for entry in stream_audit(db, STATION)] == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("column", sorted(set(CloudAuditRow.__table__.columns.keys()) - {"position"}))
def test_any_changed_value_is_found(db: Database, column: str) -> None:
    """Whatever column of whatever row somebody changes, the log says which row it was."""
    for number in range(4):
        depart(db, number)
    with db.write() as session:
        value = session.scalars(select(getattr(CloudAuditRow, column)).where(CloudAuditRow.position == 3)).one()
        changed = value + 1 if isinstance(value, int) else f"x{value[1:]}"
        session.execute(update(CloudAuditRow).where(CloudAuditRow.position == 3).values({column: changed}))
    with pytest.raises(ChainBrokenError, match="row 3"):
        verify_audit(db, read_file)


@pytest.mark.parametrize(("gone", "sentence"), [(1, "row 1 before"), (2, "row 2 before"), (4, "newest rows")])
def test_a_removed_row_is_found(db: Database, gone: int, sentence: str) -> None:
    """A row missing at the beginning, in the middle or at the end breaks the log."""
    for number in range(4):
        depart(db, number)
    with db.write() as session:
        session.execute(delete(CloudAuditRow).where(CloudAuditRow.position == gone))
    with pytest.raises(ChainBrokenError, match=sentence):
        verify_audit(db, read_file)


def test_an_inserted_row_and_a_changed_file_are_found(db: Database) -> None:
    """A copy of a row at the end is no part of the chain, and a file with other bytes is not what left."""
    for number in range(3):
        depart(db, number)
    with pytest.raises(ChainBrokenError, match=r"row 1: .*was changed"):
        verify_audit(db, lambda key: b"other bytes")
    with db.write() as session:
        row = session.execute(select(CloudAuditRow.__table__).where(CloudAuditRow.position == 3)).one()
        session.execute(insert(CloudAuditRow).values(**(row._asdict() | {"position": 4})))
    with pytest.raises(ChainBrokenError, match="row 4"):
        verify_audit(db, read_file)


# --- the queue --------------------------------------------------------------------------------------


def test_every_inspection_is_looked_at_once(db: Database) -> None:
    """The cursor begins where the station begins to ask, moves on with what was looked at, and never back."""
    for _ in range(3):
        review_part(db)
    queue.open_cursor(db, STATION, NOON_US + DAY_US)
    assert queue.next_inspections(db, STATION, 10) == []
    late = [review_part(db) for _ in range(2)]
    found = queue.next_inspections(db, STATION, 10)
    assert [item.inspection_id for item in found] == [str(item.inspection_id) for item in late]
    with db.write() as session:
        queue.move_cursor(session, STATION, found[0].chain_index)
        queue.move_cursor(session, STATION, 1)
    queue.open_cursor(db, STATION, 0)
    assert [item.inspection_id for item in queue.next_inspections(db, STATION, 10)] == [found[1].inspection_id]


def test_a_first_start_asks_about_recent_parts(db: Database) -> None:
    """What was decided within the deadline before the first start is still looked at, and nothing older."""
    commit(db, accept(db, NOON_US))
    recent = commit(db, accept(db, NOON_US + 50 * SECOND_US))
    queue.open_cursor(db, STATION, NOON_US + 20 * SECOND_US)
    assert [item.inspection_id for item in queue.next_inspections(db, STATION, 9)] == [str(recent.inspection_id)]


def test_an_inspection_is_asked_about_once(db: Database) -> None:
    """Queueing the same inspection again changes nothing."""
    inspection = review_part(db)
    name = enqueue(db, inspection)
    new = queue.NewEscalation(name, str(inspection.inspection_id), STATION, "top", "board", "audit", b"", 0)
    with db.write() as session:
        assert not queue.queue_escalation(session, new, queue.QUEUED, NOON_US, NOON_US)
    assert queue.count_states(db) == {"queued": 1}


def test_the_newest_due_question_goes_first(db: Database) -> None:
    """Of what is due; stations without budget are passed over, and what waits for its pause too."""
    names = [enqueue(db, review_part(db), at_us=NOON_US + second) for second in range(3)]
    found = queue.next_due(db, [STATION], NOON_US + 9)
    assert found is not None and found[0].escalation_id == names[2] and found[1].inspection_id == names[2]
    with db.write() as session:
        queue.requeue(session, names[2], NOON_US + 100, "429")
    found = queue.next_due(db, [STATION], NOON_US + 99)
    assert found is not None and found[0].escalation_id == names[1]
    found = queue.next_due(db, [STATION], NOON_US + 100)
    assert found is not None and found[0].escalation_id == names[2] and found[0].problem == "429"
    assert queue.next_due(db, ["plant/line1/other"], NOON_US + 100) is None


def test_only_one_attempt_can_begin(db: Database) -> None:
    """A question that is being sent cannot be sent a second time at the same moment."""
    name = enqueue(db, review_part(db))
    with db.write() as session:
        assert queue.mark_sending(session, name, 1)
        assert not queue.mark_sending(session, name, 1) and not queue.mark_sending(session, name, 2)
        queue.requeue(session, name, NOON_US, "reset")
        assert not queue.mark_sending(session, name, 1) and queue.mark_sending(session, name, 2)


def test_a_killed_attempt_comes_back_once_a_kill(db: Database) -> None:
    """Each kill gives one repeat; a question that kills the process every time is given up, and the next promoted."""
    name = enqueue(db, review_part(db))
    behind = enqueue(db, review_part(db), state=queue.WAITING, same_as=name)
    for kill in range(1, queue.MAX_KILLS + 1):
        with db.write() as session:
            assert queue.mark_sending(session, name, kill)
        expected = (1, 0) if kill < queue.MAX_KILLS else (0, 1)
        assert queue.recover_sending(db, NOON_US, NOON_US) == expected
    assert (state_of(db, name), state_of(db, behind)) == (queue.FAILED, queue.QUEUED)
    assert queue.recover_sending(db, NOON_US, NOON_US) == (0, 0)


def test_a_failed_question_is_followed_by_its_duplicate(db: Database) -> None:
    """The first that waited is asked, the rest waits for it; nobody is left behind a question that failed."""
    name = enqueue(db, review_part(db))
    waiting = [enqueue(db, review_part(db), at_us=NOON_US + n, state=queue.WAITING, same_as=name) for n in range(1, 4)]
    with db.write() as session:
        queue.close_escalation(session, name, queue.FAILED, NOON_US, "400")
        assert queue.promote_waiting(session, name, NOON_US) == waiting[0]
        assert [item.escalation_id for item in queue.list_waiting(session, waiting[0])] == waiting[1:]
        assert queue.promote_waiting(session, name, NOON_US) is None
    assert [state_of(db, item) for item in waiting] == [queue.QUEUED, queue.WAITING, queue.WAITING]


def test_old_questions_expire(db: Database) -> None:
    """Too old is counted from the verdict; a younger duplicate behind an expired question is asked instead."""
    old = enqueue(db, review_part(db), at_us=NOON_US, waited_us=DAY_US)
    young = enqueue(db, review_part(db), at_us=NOON_US, state=queue.WAITING, same_as=old)
    assert queue.expire_escalations(db, STATION, NOON_US - HOUR_US, NOON_US) == 1
    assert (state_of(db, old), state_of(db, young)) == (queue.EXPIRED, queue.QUEUED)
    assert queue.expire_escalations(db, STATION, NOON_US - HOUR_US, NOON_US) == 0


def test_answers_of_failed_questions_are_not_reused(db: Database) -> None:
    """Originals are what was or will be answered, has a look, and is young enough."""
    names = [enqueue(db, review_part(db), at_us=NOON_US + n) for n in range(4)]
    enqueue(db, review_part(db), looks=b"")
    with db.write() as session:
        queue.close_escalation(session, names[1], queue.FAILED, NOON_US)
        queue.close_escalation(session, names[2], queue.ANSWERED, NOON_US)
    found = queue.list_original_ids(db, STATION, NOON_US + 1)
    assert found == [names[3], names[2]]


# --- opinions and dispositions ----------------------------------------------------------------------


def give(db: Database, inspection: Inspection, verdict: str, *, decides: bool = True, at_us: int = NOON_US) -> None:
    name = str(inspection.inspection_id)
    with db.write() as session:
        insert_opinion(
            session, make_opinion_id(name), name, verdict=verdict, details={"decides": decides}, now_us=at_us
        )


def judge(db: Database, inspection: Inspection) -> VerdictKind | None:
    with db.read() as session:
        return judge_by_opinions(session, str(inspection.trigger.trigger_id))


@pytest.mark.parametrize(
    ("kind", "verdict", "decides", "outcome"),
    [
        (VerdictKind.REVIEW, "good", True, VerdictKind.OK),
        (VerdictKind.REVIEW, "defect", True, VerdictKind.NG),
        (VerdictKind.REVIEW, "unsure", True, None),
        (VerdictKind.REVIEW, "good", False, None),
        (VerdictKind.NG, "good", True, None),
        (VerdictKind.OK, "defect", True, None),
    ],
)
def test_an_opinion_decides_a_review_alone(
    db: Database, kind: VerdictKind, verdict: str, decides: bool, outcome: VerdictKind | None
) -> None:
    """Only a part whose result is REVIEW, only where the plant allows it, and never when the model is unsure."""
    inspection = review_part(db, kind)
    give(db, inspection, verdict, decides=decides)
    assert judge(db, inspection) is outcome


def test_a_part_of_several_views_needs_all_of_them(db: Database) -> None:
    """One defective view is enough for NG; OK needs every view, and a view that was not inspected prevents it."""
    trigger = accept(db, cameras=("top", "side", "label"))
    top, side = (commit(db, trigger, VerdictKind.REVIEW, camera=camera) for camera in ("top", "side"))
    give(db, top, "good")
    assert judge(db, top) is None
    give(db, side, "good")
    assert judge(db, top) is None
    commit(db, trigger, VerdictKind.OK, camera="label")
    assert judge(db, top) is VerdictKind.OK

    other = accept(db, cameras=("top", "side"))
    seen = commit(db, other, VerdictKind.REVIEW)
    commit(db, other, VerdictKind.NOT_INSPECTED, camera="side")
    give(db, seen, "good")
    assert judge(db, seen) is None


def test_a_person_has_the_last_word(db: Database) -> None:
    """After a review no opinion changes the part any more."""
    inspection = review_part(db)
    trigger_id = str(inspection.trigger.trigger_id)
    add_disposition(db, trigger_id, "OK", cause="review", cause_id="r" * 36, messages=(), now_us=NOON_US)
    give(db, inspection, "defect")
    assert judge(db, inspection) is None


def test_an_opinion_is_recorded_once(db: Database) -> None:
    """The id follows from the question; a second answer to it changes nothing."""
    inspection = review_part(db)
    name = str(inspection.inspection_id)
    give(db, inspection, "good")
    give(db, inspection, "defect")
    with db.read() as session:
        found = load_opinion(session, make_opinion_id(name))
    assert found is not None and found.verdict == "good"


# --- retention --------------------------------------------------------------------------------------


def test_retention_waits_for_open_questions_and_keeps_the_log(db: Database, tmp_path: Path) -> None:
    """An inspection stays while its question is open; then row, question and file go, and the log stays whole."""
    inspection = review_part(db, VerdictKind.NG)
    name = enqueue(db, inspection)
    outgoing = FrameFiles(tmp_path / "outgoing")
    key = frame_key(STATION, NOON_US, name, "-question-1.json")
    outgoing.write(key, CONTENT)
    os.utime(outgoing.path(key), (NOON_US / 1e6, NOON_US / 1e6))
    depart(db, 1)
    with db.write() as session:
        session.execute(update(CloudAuditRow).values(inspection_id=name, payload_key=key))

    def retain() -> None:
        roots = (FrameFiles(tmp_path / "frames"), FrameFiles(tmp_path / "evidence"))
        now_us = NOON_US + 100 * DAY_US
        with db.write() as session:
            session.connection().exec_driver_sql("UPDATE outbox SET sent_utc_us = 1")
        apply_retention(db, *roots, retention_days=90, retention_mb=1000, now_us=now_us, outgoing=outgoing)

    retain()
    assert state_of(db, name) == queue.QUEUED and outgoing.exists(key)
    with db.write() as session:
        queue.close_escalation(session, name, queue.ANSWERED, NOON_US)
    retain()
    with db.read() as session:
        assert session.get(EscalationRow, name) is None
        assert session.scalars(select(CloudAuditRow.position)).all() == [1]
        assert session.scalars(select(CloudStateRow.audit_rows)).one() == 1
    assert not outgoing.exists(key)
