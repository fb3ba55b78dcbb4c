"""Outbox, commands, evidence, heartbeats, camera health, reviews: what waits, and what is done once only."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from inspector.errors import StoreError
from inspector.records import CameraHealth, Message, VerdictKind
from inspector.store.commands import answer_command, answered_message, open_commands, record_command
from inspector.store.database import Database
from inspector.store.evidence import (
    MAX_HANDED_OUT,
    count_pending,
    fail_evidence,
    finish_evidence,
    next_evidence,
)
from inspector.store.inspections import load_inspection
from inspector.store.outbox import count_unsent, mark_sent, next_messages, oldest_unsent_us, queue_messages
from inspector.store.processes import beat, latest_camera_health, list_processes, record_camera_health
from inspector.store.reviews import add_disposition, add_review, current_disposition, insert_opinion, make_opinion_id
from tests.store_samples import NOON_US, STATION, accept, commit, open_station


@pytest.fixture
def db(tmp_path: Path) -> Iterator[Database]:
    db = open_station(tmp_path)
    yield db
    db.close()


def finish(db: Database, inspection_id: str, *messages: Message) -> bool:
    return finish_evidence(
        db,
        inspection_id,
        visual_key="a/v.jpg",
        twin_key="a/t.jpg",
        thumbnail_key=None,
        twin_method="paste",
        messages=messages,
        now_us=NOON_US + 9,
    )


def test_messages_leave_in_the_order_they_were_committed(db: Database) -> None:
    """Verdicts and queued messages share one order; what was acknowledged does not come again."""
    commit(db, accept(db))
    status = Message("status", "{}", retain=True, qos=1)
    queue_messages(db, STATION, [status], NOON_US + 50)
    commit(db, accept(db))
    entries = next_messages(db, 0, 10)
    assert [entry.message.topic for entry in entries] == [
        "inspector/v1/inspection",
        "status",
        "inspector/v1/inspection",
    ]
    assert entries[1].message == status
    assert [entry.outbox_id for entry in next_messages(db, entries[0].outbox_id, 1)] == [entries[1].outbox_id]
    assert (count_unsent(db), oldest_unsent_us(db)) == (3, entries[0].created_utc_us)
    mark_sent(db, [entry.outbox_id for entry in entries[:2]], NOON_US + 60)
    assert next_messages(db, 0, 10) == entries[2:]
    mark_sent(db, [entries[2].outbox_id], NOON_US + 61)
    assert (count_unsent(db), oldest_unsent_us(db)) == (0, None)


def test_large_acknowledgements_are_split(db: Database) -> None:
    """Five hundred acknowledgements at once are all marked."""
    queue_messages(db, STATION, [Message(f"t/{number}", "{}") for number in range(500)], NOON_US)
    mark_sent(db, [entry.outbox_id for entry in next_messages(db, 0, 500)], NOON_US)
    assert count_unsent(db) == 0


def test_a_command_is_recorded_once_and_answered_once(db: Database) -> None:
    """A duplicate delivery is known; after the answer it gets the same answer again."""
    record = ("set-lot", "r-1", {"lot": "L7"}, "reply/here", b"\x00\xff", NOON_US)
    assert record_command(db, STATION, *record) is True
    assert record_command(db, STATION, *record) is False
    assert answered_message(db, STATION, "r-1") is None
    (command,) = open_commands(db, STATION)
    assert (command.verb, command.arguments, command.correlation) == ("set-lot", {"lot": "L7"}, b"\x00\xff")
    answer = Message("reply/here", '{"ok":true}', correlation=b"\x00\xff")
    assert answer_command(db, command.command_id, answer, NOON_US + 1) is True
    assert answer_command(db, command.command_id, answer, NOON_US + 2) is False
    assert open_commands(db, STATION) == []
    assert [entry.message for entry in next_messages(db, 0, 10)] == [answer]
    assert answered_message(db, STATION, "r-1") == answer
    assert record_command(db, STATION, *record) is False


def test_commands_are_open_in_the_order_they_came(db: Database) -> None:
    """One station's commands do not show at another; the same request id may occur at both."""
    for number in range(3):
        record_command(db, STATION, "pause", f"r-{number}", {}, None, None, NOON_US)
    record_command(db, "a/b/c", "pause", "r-0", {}, None, None, NOON_US)
    assert [command.request_id for command in open_commands(db, STATION)] == ["r-0", "r-1", "r-2"]
    answer_command(db, open_commands(db, STATION)[1].command_id, None, NOON_US)
    assert [command.request_id for command in open_commands(db, STATION)] == ["r-0", "r-2"]
    with pytest.raises(StoreError, match="no command 99"):
        answer_command(db, 99, None, NOON_US)


def test_evidence_is_handed_out_until_it_is_done(db: Database) -> None:
    """The oldest first; finishing stores the keys and queues the message in one step, once."""
    first = commit(db, accept(db), VerdictKind.NG, evidence=True)
    commit(db, accept(db, NOON_US + 5), VerdictKind.REVIEW, evidence=True)
    commit(db, accept(db, NOON_US + 6), VerdictKind.OK)
    assert count_pending(db) == 2
    task = next_evidence(db)
    assert task is not None
    assert task.inspection_id == str(first.inspection_id)
    assert task.inspection.detections == first.verdict.detections
    before = count_unsent(db)
    assert finish(db, task.inspection_id, Message("evidence", "{}")) is True
    assert finish(db, task.inspection_id, Message("evidence", "{}")) is False
    assert count_unsent(db) == before + 1
    stored = load_inspection(db, task.inspection_id).evidence
    assert stored is not None
    assert (stored.state, stored.visual_key, stored.twin_method) == ("done", "a/v.jpg", "paste")
    assert count_pending(db) == 1


def test_evidence_is_given_up_after_three_failures(db: Database) -> None:
    """A failing picture steps back behind the others, and is failed for good the third time."""
    bad = str(commit(db, accept(db), VerdictKind.NG, evidence=True).inspection_id)
    good = str(commit(db, accept(db, NOON_US + 5), VerdictKind.NG, evidence=True).inspection_id)
    assert fail_evidence(db, bad, "no memory", NOON_US) is False
    task = next_evidence(db)
    assert task is not None
    assert task.inspection_id == good
    finish(db, good)
    assert fail_evidence(db, bad, "no memory", NOON_US) is False
    assert fail_evidence(db, bad, "no memory", NOON_US) is True
    assert next_evidence(db) is None
    stored = load_inspection(db, bad).evidence
    assert stored is not None
    assert (stored.state, stored.attempts, stored.reason) == ("failed", 3, "no memory")


def test_evidence_that_kills_its_process_is_given_up(db: Database) -> None:
    """A picture that never fails nor finishes is not handed out for ever."""
    poison = str(commit(db, accept(db), VerdictKind.NG, evidence=True).inspection_id)
    for _ in range(MAX_HANDED_OUT):
        task = next_evidence(db)
        assert task is not None
        assert task.inspection_id == poison
    assert next_evidence(db) is None
    stored = load_inspection(db, poison).evidence
    assert stored is not None
    assert stored.state == "failed"


def test_evidence_that_nobody_owes_is_an_error(db: Database) -> None:
    """Finishing or failing the evidence of an OK part names the inspection."""
    inspection_id = str(commit(db, accept(db)).inspection_id)
    with pytest.raises(StoreError, match=inspection_id):
        finish(db, inspection_id)
    with pytest.raises(StoreError, match=inspection_id):
        fail_evidence(db, inspection_id, "x", NOON_US)


def test_the_last_heartbeat_counts(db: Database) -> None:
    """One row a process, with its state and reasons."""
    beat(db, "delivery", 7, "degraded", ["broker unreachable"], NOON_US)
    beat(db, "delivery", 8, "online", [], NOON_US + 1)
    beat(db, "evidence", 9, "online", [], NOON_US)
    assert [(row.process, row.pid, row.state, row.reasons) for row in list_processes(db)] == [
        ("delivery", 8, "online", ()),
        ("evidence", 9, "online", ()),
    ]


def test_the_newest_sample_of_each_camera_counts(db: Database) -> None:
    """Values that are not known stay unknown."""
    gone = CameraHealth("top", False, None, 12.5, 3, None, None, "no frames")
    record_camera_health(db, STATION, [CameraHealth("top", True, 5.0, 0.1, 0, 90.0, 40.0)], NOON_US)
    record_camera_health(db, STATION, [gone, CameraHealth("side", True, 5.0, 0.1, 0, 90.0, 40.0)], NOON_US + 1)
    record_camera_health(db, STATION, [], NOON_US + 2)
    latest = latest_camera_health(db)
    assert [(station, health.camera) for station, health in latest] == [(STATION, "side"), (STATION, "top")]
    assert latest[1][1] == gone


def test_the_newest_disposition_counts(db: Database) -> None:
    """Reviews and opinions are records of their own; each may change the part's truth once, with a message."""
    inspection = commit(db, accept(db), VerdictKind.REVIEW)
    trigger_id = str(inspection.trigger.trigger_id)
    assert current_disposition(db, trigger_id) is None
    review = add_review(db, str(inspection.inspection_id), reviewer="Ada", finding="NG", now_us=NOON_US + 1)
    assert add_review(db, str(inspection.inspection_id), reviewer="Ada", finding="NG", now_us=NOON_US + 1) == review
    name = str(inspection.inspection_id)
    opinion = make_opinion_id(name)
    for is_new in (True, False):
        with db.write() as session:
            assert (
                insert_opinion(session, opinion, name, verdict="OK", details={"why": "dust"}, now_us=NOON_US) is is_new
            )
    news = [Message("disposition", "{}")]
    before = count_unsent(db)
    assert add_disposition(db, trigger_id, "OK", cause="opinion", cause_id=opinion, messages=news, now_us=NOON_US + 9)
    assert add_disposition(db, trigger_id, "NG", cause="review", cause_id=review, messages=news, now_us=NOON_US + 2)
    assert not add_disposition(db, trigger_id, "OK", cause="opinion", cause_id=opinion, messages=news, now_us=NOON_US)
    assert count_unsent(db) == before + 2
    current = current_disposition(db, trigger_id)
    assert current is not None
    assert (current.disposition, current.cause, current.cause_id) == ("NG", "review", review)


def test_reviews_need_something_to_review(db: Database) -> None:
    """An unknown inspection or trigger is named."""
    with pytest.raises(StoreError, match="inspection nope"):
        add_review(db, "nope", reviewer="Ada", finding="OK", now_us=NOON_US)
    with pytest.raises(StoreError, match="trigger nope"):
        add_disposition(db, "nope", "OK", cause="review", cause_id="x", messages=[], now_us=NOON_US)
