"""`review`: what a person found is recorded, the part's disposition follows, the verdict stays."""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator
from sqlalchemy import func, select

from inspector.errors import InputError, StoreError
from inspector.mqtt.schema_files import load_schema
from inspector.records import VerdictKind
from inspector.store.database import Database
from inspector.store.hash_chain import verify_chain
from inspector.store.inspections import load_inspection
from inspector.store.outbox import next_messages
from inspector.store.reviews import current_disposition
from inspector.store.tables import ReviewRow
from pipelines.review import review_inspection
from tests.store_samples import NOON_US, STATION, accept, commit, open_station

OK, NG, REVIEW = VerdictKind.OK, VerdictKind.NG, VerdictKind.REVIEW


@pytest.fixture
def db(tmp_path: Path) -> Iterator[Database]:
    db = open_station(tmp_path)
    yield db
    db.close()


def dispositions(db: Database) -> list[dict[str, object]]:
    """Payloads of the waiting `disposition` messages."""
    entries = [entry.message for entry in next_messages(db, 0, 100)]
    return [json.loads(message.payload) for message in entries if message.topic.endswith("/disposition")]


def test_a_good_finding_changes_the_disposition_and_not_the_verdict(db: Database, tmp_path: Path) -> None:
    """The review row, the disposition and its message, valid by the shipped schema; chain and verdict untouched."""
    inspection = commit(db, accept(db, part_id="A7-0042"), REVIEW)
    name = str(inspection.inspection_id)
    report = review_inspection(name, "good", tmp_path, reviewer="Ada", note="dust, wiped off", clock=lambda: NOON_US)
    assert (report.verdict, report.disposition, report.part_id) == (REVIEW, OK, "A7-0042")
    assert load_inspection(db, name).kind is REVIEW
    current = current_disposition(db, report.trigger_id)
    assert current is not None
    assert (current.disposition, current.cause, current.cause_id) == ("OK", "review", report.review_id)
    (payload,) = dispositions(db)
    assert list(Draft202012Validator(load_schema("disposition")).iter_errors(payload)) == []
    assert (payload["disposition"], payload["inspection_id"], payload["part_id"]) == ("OK", name, "A7-0042")
    with db.read() as session:
        row = session.scalars(select(ReviewRow)).one()
    assert (row.reviewer, row.finding, row.comment) == ("Ada", "OK", "dust, wiped off")
    assert verify_chain(db, STATION).rows == 1


def test_the_newest_review_counts_and_none_is_lost(db: Database, tmp_path: Path) -> None:
    """Reviews are only ever added."""
    name = str(commit(db, accept(db), OK).inspection_id)
    times = itertools.count(NOON_US)
    for finding, truth in (("good", OK), ("defect", NG), ("good", OK)):
        report = review_inspection(name, finding, tmp_path, reviewer="Ada", clock=lambda: next(times))
        assert report.disposition is truth
    assert [payload["disposition"] for payload in dispositions(db)] == ["OK", "NG", "OK"]
    with db.read() as session:
        assert session.scalar(select(func.count()).select_from(ReviewRow)) == 3


def test_a_part_is_good_only_when_all_its_views_are(db: Database, tmp_path: Path) -> None:
    """Nothing is announced while a view waits; one defective view is enough; taking that back is uncertain again."""
    trigger = accept(db, cameras=("top", "side", "back"))
    views = [
        str(commit(db, trigger, kind, camera=camera).inspection_id)
        for camera, kind in (("top", REVIEW), ("side", NG), ("back", OK))
    ]
    assert review_inspection(views[0], "good", tmp_path, clock=lambda: NOON_US).disposition is REVIEW
    assert dispositions(db) == [] and current_disposition(db, str(trigger.trigger_id)) is None
    assert review_inspection(views[0], "defect", tmp_path, clock=lambda: NOON_US + 1).disposition is NG
    assert review_inspection(views[0], "good", tmp_path, clock=lambda: NOON_US + 2).disposition is REVIEW
    assert review_inspection(views[1], "good", tmp_path, clock=lambda: NOON_US + 3).disposition is OK
    assert [payload["disposition"] for payload in dispositions(db)] == ["NG", "REVIEW", "OK"]


def test_a_part_that_owes_a_view_is_not_good_yet(db: Database, tmp_path: Path) -> None:
    """The view that is missing may show a defect."""
    trigger = accept(db, cameras=("top", "side"))
    name = str(commit(db, trigger, REVIEW).inspection_id)
    assert review_inspection(name, "good", tmp_path).disposition is REVIEW


def test_a_plant_with_another_topic_root(db: Database, tmp_path: Path) -> None:
    """The message goes where the plant's other messages go."""
    name = str(commit(db, accept(db), NG).inspection_id)
    review_inspection(name, "good", tmp_path, topic_root="factory/vision")
    assert next_messages(db, 0, 9)[-1].message.topic == f"factory/vision/{STATION}/disposition"


def test_what_cannot_be_recorded_is_said(db: Database, tmp_path: Path) -> None:
    """Another finding, an empty or endless name, an unknown inspection, no database; nothing is written."""
    name = str(commit(db, accept(db), NG).inspection_id)
    with pytest.raises(InputError, match="'perhaps': say good or defect"):
        review_inspection(name, "perhaps", tmp_path)
    for reviewer in ("", " ", "x" * 81, "a\nb"):
        with pytest.raises(InputError, match="the name must have 1 to 80 printable"):
            review_inspection(name, "good", tmp_path, reviewer=reviewer)
    with pytest.raises(InputError, match="the note must"):
        review_inspection(name, "good", tmp_path, note="n" * 1001)
    with pytest.raises(StoreError, match="inspection nope is not in this database"):
        review_inspection("nope", "good", tmp_path)
    with pytest.raises(StoreError, match="there is no database here"):
        review_inspection(name, "good", tmp_path / "elsewhere")
    assert dispositions(db) == [] and not (tmp_path / "elsewhere").exists()


def test_without_a_name_it_is_the_account(db: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A container's user may have no name: its number stands for it."""
    name = str(commit(db, accept(db), NG).inspection_id)
    assert review_inspection(name, "good", tmp_path).reviewer
    monkeypatch.setattr(os, "getuid", lambda: 987_654)
    assert review_inspection(name, "good", tmp_path).reviewer == "uid 987654"


def test_a_defect_gets_a_name(db: Database, tmp_path: Path) -> None:
    """Stored with the review; a good part has none, and reserved or unprintable names are refused and store nothing."""
    name = str(commit(db, accept(db), NG).inspection_id)
    report = review_inspection(name, "defect", tmp_path, reviewer="Ada", defect_name=" burr ")
    assert report.defect_name == "burr" and report.to_json()["defect_name"] == "burr"
    for finding, given, reason in (
        ("good", "burr", "a good part has no defect"),
        ("defect", "unknown", "no defect can be called"),
        ("defect", "a\nb", "printable"),
        ("defect", "", "printable"),
    ):
        with pytest.raises(InputError, match=reason):
            review_inspection(name, finding, tmp_path, reviewer="Ada", defect_name=given)
    with db.read() as session:
        assert [row.defect_name for row in session.scalars(select(ReviewRow))] == ["burr"]
