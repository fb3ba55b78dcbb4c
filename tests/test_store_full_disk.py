"""A full disk: a named error, nothing accepted is lost, and everything goes on when there is space again."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from sqlalchemy import text

from inspector.errors import DiskFullError
from inspector.records import Trigger, VerdictKind
from inspector.store.database import Database
from inspector.store.frames import FrameFiles, frame_key
from inspector.store.hash_chain import verify_chain
from inspector.store.inspections import commit_inspection, count_verdicts
from inspector.store.outbox import count_unsent, mark_sent, next_messages
from inspector.store.triggers import open_triggers
from tests.store_samples import (
    NOON_US,
    STATION,
    accept,
    announce,
    commit,
    make_inspection,
    open_station,
    small_file_system,
)

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small file system needs root")


def accept_until_full(db: Database) -> list[Trigger]:
    """Accept parts, all owed, until the disk is full; returns those that were accepted."""
    accepted = []
    with pytest.raises(DiskFullError, match="nothing accepted is lost"):
        for _ in range(5000):
            accepted.append(accept(db, part_id="P" * 200))
    return accepted


def finish_all(db: Database, owed: list[Trigger]) -> None:
    """Inspect what is owed, trying once more where the disk was full, as the station does, and deliver it."""
    for trigger in owed:
        try:
            commit(db, trigger, VerdictKind.NG)
        except DiskFullError:
            commit(db, trigger, VerdictKind.NG)
    mark_sent(db, [entry.outbox_id for entry in next_messages(db, 0, 100_000)], NOON_US)


def test_a_database_that_may_not_grow_loses_nothing(tmp_path: Path) -> None:
    """SQLite's page limit stands for a full disk where nothing can be mounted."""
    db = open_station(tmp_path)
    with db.write() as session:
        pages = session.execute(text("PRAGMA page_count")).scalar_one()
        session.execute(text(f"PRAGMA max_page_count={pages + 10}"))
    accepted = accept_until_full(db)
    with pytest.raises(DiskFullError):
        for trigger in accepted:
            inspection = make_inspection(trigger, VerdictKind.NG)
            commit_inspection(db, inspection, [announce(inspection)], wants_evidence=True)
    owed = [trigger for trigger, _ in open_triggers(db, STATION)]
    assert count_verdicts(db, STATION).triggers == len(accepted)
    with db.write() as session:
        session.execute(text("PRAGMA max_page_count=1000000"))
    finish_all(db, owed)
    assert accept(db).sequence == len(accepted) + 1
    assert count_verdicts(db, STATION).ng == len(accepted)
    assert count_unsent(db) == 0
    assert verify_chain(db, STATION).rows == len(accepted)
    assert db.integrity() == []
    db.close()


@pytest.mark.root
@needs_root
def test_a_full_file_system_loses_nothing(tmp_path: Path) -> None:
    """On a file system that is really full, reads still work; freed space makes the same objects go on."""
    with small_file_system(tmp_path / "disk", "16m") as disk:
        data_dir = disk / "data"
        db = open_station(data_dir)
        ballast = disk / "ballast"
        ballast.write_bytes(b"x" * 14_500_000)
        accepted = accept_until_full(db)
        assert accepted
        with pytest.raises(DiskFullError):
            FrameFiles(data_dir / "frames").write(
                frame_key(STATION, NOON_US, accepted[0].trigger_id, ".jpg"), b"x" * 2_000_000
            )
        assert list(FrameFiles(data_dir / "frames").pictures()) == []
        owed = [trigger for trigger, _ in open_triggers(db, STATION)]
        assert owed == accepted
        ballast.unlink()
        finish_all(db, owed)
        assert accept(db).sequence == len(accepted) + 1
        assert count_verdicts(db, STATION).ng == len(accepted)
        assert verify_chain(db, STATION).rows == len(accepted)
        assert db.integrity() == []
        db.close()


@pytest.mark.root
@needs_root
def test_a_full_file_system_is_named_at_the_start(tmp_path: Path) -> None:
    """Opening a new database without space for it is `DiskFullError`; with space it opens."""
    with small_file_system(tmp_path / "disk", "2m") as disk:
        ballast = disk / "ballast"
        ballast.write_bytes(b"x" * 2_050_000)
        with pytest.raises(DiskFullError):
            Database.open(disk / "data")
        ballast.unlink()
        db = open_station(disk / "data")
        assert db.integrity() == []
        db.close()
