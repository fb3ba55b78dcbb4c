"""Committing verdicts: one transaction, once only, everything read back as it was."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import func, select

from inspector.errors import StoreError
from inspector.records import Detection, Purpose, Thresholds, Verdict, VerdictKind
from inspector.store.database import Database
from inspector.store.hash_chain import verify_chain
from inspector.store.inspections import (
    VerdictCounts,
    commit_inspection,
    count_verdicts,
    load_inspection,
    recent_inspections,
)
from inspector.store.outbox import next_messages
from inspector.store.tables import InspectionRow
from inspector.store.triggers import open_triggers
from tests.store_samples import NOON_US, STATION, accept, announce, commit, make_inspection, open_station


@pytest.fixture
def db(tmp_path: Path) -> Iterator[Database]:
    db = open_station(tmp_path)
    yield db
    db.close()


def test_an_inspection_comes_back_as_it_was(db: Database) -> None:
    """Every value survives the database, NumPy scalars and Unicode included; detections come worst first."""
    trigger = accept(db, part_id="部品")
    verdict = Verdict(
        VerdictKind.NG,
        np.float32(7.5),  # type: ignore[arg-type]
        Thresholds(3.0, 4.0),
        (
            Detection((1, 2, 30, 40), 5.0, "Kratzer", 9, size_px=6.5, region="Gehäuse"),
            Detection((5, 5, 9, 9), np.float64(7.5), "dent", 16),
        ),
        ("too dark",),
    )
    inspection = replace(
        make_inspection(trigger),
        verdict=verdict,
        captured_utc_us=NOON_US - 7,
        frame_key="plant/a.jpg",
        frame_width_px=np.int64(3840),  # type: ignore[arg-type]
        frame_height_px=2160,
        mm_per_px=0.05,
        calibration_id="C-1",
        registration_confidence=np.float32(0.5),  # type: ignore[arg-type]
        late=True,
        timings_ms={"decode": 12.5, "score": np.float64(3.25)},
        truth={"defects": [{"kind": "dent", "box": (1, 2, 3, 4)}], "by_size": {10: np.int64(3), 9: None}},
    )
    assert commit_inspection(db, inspection, [], wants_evidence=True)
    stored = load_inspection(db, str(inspection.inspection_id))
    assert stored.trigger == trigger
    assert stored.verdict == replace(verdict, detections=verdict.detections[::-1])
    assert (stored.recipe, stored.provenance) == (inspection.recipe, inspection.provenance)
    assert (stored.frame_width_px, stored.frame_height_px, stored.mm_per_px) == (3840, 2160, 0.05)
    assert (stored.late, stored.calibration_id, stored.registration_confidence) == (True, "C-1", 0.5)
    assert stored.timings_ms == {"decode": 12.5, "score": 3.25}
    assert stored.truth == {"defects": [{"kind": "dent", "box": [1, 2, 3, 4]}], "by_size": {"10": 3, "9": None}}
    assert stored.evidence is not None
    assert stored.evidence.state == "pending"
    assert verify_chain(db, STATION).rows == 1


def test_a_second_commit_changes_nothing(db: Database) -> None:
    """Upstream is at least once: the same inspection again, even with another verdict, is not written."""
    trigger = accept(db)
    first = commit(db, trigger, VerdictKind.OK)
    again = make_inspection(trigger, VerdictKind.NG)
    assert again.inspection_id == first.inspection_id
    assert commit_inspection(db, again, [announce(again)], wants_evidence=True) is False
    assert load_inspection(db, str(first.inspection_id)).kind is VerdictKind.OK
    assert len(next_messages(db, 0, 10)) == 1
    assert count_verdicts(db, STATION) == VerdictCounts(triggers=1, ok=1)
    assert verify_chain(db, STATION).rows == 1


def test_an_inspection_without_a_trigger_is_refused(db: Database) -> None:
    """What was never accepted cannot be committed; nothing is written."""
    trigger = replace(accept(db), sequence=99)
    with pytest.raises(StoreError, match="never accepted"):
        commit_inspection(db, make_inspection(trigger), [], wants_evidence=False)
    with db.read() as session:
        assert session.scalar(select(func.count()).select_from(InspectionRow)) == 0


def test_numbers_that_are_not_finite_are_refused(db: Database) -> None:
    """NaN would become null in the database: the caller hears about it and the part stays owed."""
    trigger = accept(db)
    inspection = replace(make_inspection(trigger), mm_per_px=float("nan"))
    with pytest.raises(ValueError, match="mm_per_px is nan"):
        commit_inspection(db, inspection, [], wants_evidence=False)
    assert [owed for owed, _ in open_triggers(db, STATION)] == [trigger]


def test_the_result_of_a_part_is_its_worst_view(db: Database) -> None:
    """Two cameras: pending until both are there, then NG beats OK whichever came first; late stays late."""
    trigger = accept(db, cameras=("top", "side"))
    commit(db, trigger, VerdictKind.NG, late=True)
    assert count_verdicts(db, STATION) == VerdictCounts(triggers=1, pending=1, late=1)
    commit(db, trigger, VerdictKind.OK, camera="side")
    assert count_verdicts(db, STATION) == VerdictCounts(triggers=1, ng=1, late=1)
    unseen = accept(db, cameras=("top", "side"))
    commit(db, unseen, VerdictKind.NOT_INSPECTED)
    commit(db, unseen, VerdictKind.OK, camera="side")
    assert count_verdicts(db, STATION).not_inspected == 1


def test_counts_add_up_in_any_range_and_purpose(db: Database) -> None:
    """triggers = OK + NG + REVIEW + NOT_INSPECTED + pending, by time of acceptance and by purpose."""
    kinds = [VerdictKind.OK, VerdictKind.NG, VerdictKind.REVIEW, VerdictKind.NOT_INSPECTED, None]
    for number in range(20):
        purpose = Purpose.SETUP if number % 4 == 0 else Purpose.PRODUCTION
        trigger = accept(db, NOON_US + number, purpose=purpose)
        kind = kinds[number % 5]
        if kind is not None:
            commit(db, trigger, kind)
    everything = count_verdicts(db, STATION)
    assert everything == VerdictCounts(triggers=20, ok=4, ng=4, review=4, not_inspected=4, pending=4)
    assert count_verdicts(db, STATION, since_utc_us=0) == everything
    assert count_verdicts(db, STATION, purpose=Purpose.SETUP).triggers == 5
    assert count_verdicts(db, STATION, until_utc_us=NOON_US + 20, purpose=Purpose.SETUP).triggers == 5
    part = count_verdicts(db, STATION, since_utc_us=NOON_US + 5, until_utc_us=NOON_US + 10)
    assert part == VerdictCounts(triggers=5, ok=1, ng=1, review=1, not_inspected=1, pending=1)
    assert count_verdicts(db, "a/b/c") == VerdictCounts()


def test_recent_inspections_are_found_by_verdict_and_time(db: Database) -> None:
    """The newest come first; verdict, purpose and time narrow the list."""
    for number in range(6):
        commit(db, accept(db, NOON_US + number), VerdictKind.NG if number % 2 else VerdictKind.OK)
    found = recent_inspections(db, STATION, verdicts=[VerdictKind.NG], limit=2)
    assert [stored.trigger.sequence for stored in found] == [6, 4]
    early = recent_inspections(db, until_utc_us=NOON_US + 40_002, purpose=Purpose.PRODUCTION)
    assert [stored.trigger.sequence for stored in early] == [2, 1]
    assert recent_inspections(db, purpose=Purpose.SETUP) == []


def test_an_unknown_inspection_is_a_clear_error(db: Database) -> None:
    """Asking for what retention removed says so."""
    with pytest.raises(StoreError, match="retention"):
        load_inspection(db, "00000000-0000-0000-0000-000000000000")


def test_verdict_and_messages_share_a_fate(db: Database) -> None:
    """When a message cannot be written, the verdict is not there either."""
    trigger = accept(db)
    inspection = make_inspection(trigger)
    broken = replace(announce(inspection), payload=None)  # type: ignore[arg-type]
    with pytest.raises((StoreError, AttributeError)):
        commit_inspection(db, inspection, [announce(inspection), broken], wants_evidence=False)
    assert next_messages(db, 0, 10) == []
    assert count_verdicts(db, STATION).pending == 1
    assert commit_inspection(db, inspection, [announce(inspection)], wants_evidence=False)
    assert verify_chain(db, STATION).rows == 1
