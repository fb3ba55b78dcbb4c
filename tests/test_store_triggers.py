"""Accepting: gapless sequences, known frames and commands, lots, attempts, frames given up."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from inspector.errors import StoreError
from inspector.records import Inspection, Message, PartIdSource, Purpose, VerdictKind
from inspector.store.database import Database
from inspector.store.inspections import count_verdicts, recent_inspections
from inspector.store.outbox import next_messages
from inspector.store.stations import set_station
from inspector.store.triggers import (
    SkippedFrame,
    accept_and_skip,
    accept_trigger,
    count_accepted,
    has_closed_source,
    identity_state,
    is_known,
    open_triggers,
)
from tests.store_samples import NOON_US, PROVENANCE, STATION, accept, announce, commit, open_station


@pytest.fixture
def db(tmp_path: Path) -> Iterator[Database]:
    db = open_station(tmp_path)
    yield db
    db.close()


def test_sequences_count_from_one_without_gaps(db: Database) -> None:
    """Each acceptance takes the next number, whichever thread asks."""
    taken: list[int] = []

    def accept_thirty() -> None:
        for _ in range(30):
            taken.append(accept(db).sequence)

    threads = [threading.Thread(target=accept_thirty) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(taken) == list(range(1, 121))


def test_a_known_frame_is_not_accepted_twice(db: Database) -> None:
    """The same source identity finds its trigger again: open until the inspection is committed, then closed."""
    first = accept(db, source_identity="a.jpg:1:2:abc")
    assert identity_state(db, STATION, "a.jpg:1:2:abc") == "open"
    again = accept_trigger(
        db,
        STATION,
        cameras=("top",),
        accepted_utc_us=NOON_US + 9,
        purpose=Purpose.PRODUCTION,
        source_identity="a.jpg:1:2:abc",
    )
    assert (again.state, again.trigger) == ("open", first)
    commit(db, first)
    assert identity_state(db, STATION, "a.jpg:1:2:abc") == "closed"
    assert accept(db, source_identity="a.jpg:1:2:abc") == first
    assert is_known(db, STATION, "a.jpg:1:2:abc")
    assert not is_known(db, STATION, "b.jpg:1:2:abc")
    assert count_verdicts(db, STATION).triggers == 1


def test_a_closed_source_is_known_by_how_it_begins(db: Database) -> None:
    """A kept file is not read again once its part is inspected: name, size and time are enough to know it."""
    first = accept(db, source_identity="top/a.jpg|10|20|abc")
    assert not has_closed_source(db, STATION, "top/a.jpg|10|20|")
    commit(db, first)
    assert has_closed_source(db, STATION, "top/a.jpg|10|20|")
    assert not has_closed_source(db, STATION, "top/a.jpg|10|21|")
    assert not has_closed_source(db, STATION, "top/b.jpg|10|20|")
    assert not has_closed_source(db, "plant/line1/other", "top/a.jpg|10|20|")


def test_a_command_delivered_twice_is_one_part(db: Database) -> None:
    """The same request id finds its trigger again."""
    first = accept(db, request_id="r-1")
    assert accept(db, request_id="r-1") == first
    assert accept(db, request_id="r-2").sequence == 2


def test_the_lot_of_the_station_counts_unless_the_part_has_one(db: Database) -> None:
    """A lot from the file name wins over the station's."""
    set_station(db, STATION, lot="L7")
    assert accept(db).lot == "L7"
    assert accept(db, lot="L8").lot == "L8"


def test_attempts_count_up_where_nobody_knows_them(db: Database) -> None:
    """Attempt None counts the part's earlier triggers; a given attempt is kept."""
    assert [accept(db, part_id="P1", attempt=None).attempt for _ in range(3)] == [1, 2, 3]
    assert accept(db, part_id="P2", attempt=None).attempt == 1
    assert accept(db, attempt=None).attempt == 1
    assert accept(db, part_id="P1", attempt=9).attempt == 9


def test_everything_known_about_a_part_is_kept(db: Database) -> None:
    """Any Unicode part id, its source and its purpose come back; an undecodable file name does not break the store."""
    accepted = accept(
        db,
        part_id="Teil-№7/部品 🔩",
        part_id_source=PartIdSource.FILE_NAME,
        purpose=Purpose.VERIFICATION,
        source_identity="\udcff.jpg:1",
        attempt=2,
    )
    ((stored, missing),) = open_triggers(db, STATION)
    assert stored == accepted
    assert (stored.part_id, stored.purpose, stored.attempt) == ("Teil-№7/部品 🔩", Purpose.VERIFICATION, 2)
    assert missing == ("top",)
    assert is_known(db, STATION, "\udcff.jpg:1")


def test_open_triggers_say_which_cameras_are_missing(db: Database) -> None:
    """A part seen by two cameras stays owed until both have an inspection, in sequence order."""
    first = accept(db, cameras=("top", "side"))
    second = accept(db)
    commit(db, first, camera="side")
    assert open_triggers(db, STATION) == [(first, ("top",)), (second, ("top",))]
    commit(db, first)
    assert open_triggers(db, STATION) == [(second, ("top",))]


def test_accepted_frames_are_counted_by_camera(db: Database) -> None:
    """A simulated line continues after the parts that were accepted from its camera."""
    accept(db)
    accept(db, cameras=("top", "side"))
    assert count_accepted(db, STATION, "top") == 2
    assert count_accepted(db, STATION, "side") == 1
    assert count_accepted(db, STATION, "none") == 0


def test_an_unknown_station_cannot_accept(db: Database) -> None:
    """A station that never started has no epoch and no sequence."""
    with pytest.raises(StoreError, match="never started"):
        accept(db, station="a/b/c")


def test_frames_given_up_are_counted_with_their_reason(db: Database) -> None:
    """Many given-up frames become triggers with NOT_INSPECTED and a message each; sums stay right."""
    frames = [SkippedFrame("top", f"overtaken {number}", captured_utc_us=NOON_US) for number in range(45)]

    def announce_skipped(inspection: Inspection) -> tuple[Message, ...]:
        return (announce(inspection),)

    skipped = accept_and_skip(
        db, STATION, frames, announce_skipped, purpose=Purpose.PRODUCTION, provenance=PROVENANCE, now_us=NOON_US
    )
    assert [inspection.trigger.sequence for inspection in skipped] == list(range(1, 46))
    counts = count_verdicts(db, STATION)
    assert (counts.triggers, counts.not_inspected, counts.pending) == (45, 45, 0)
    assert len(next_messages(db, 0, 100)) == 45
    newest = recent_inspections(db, STATION, limit=1)[0]
    assert (newest.kind, newest.verdict.reasons) == (VerdictKind.NOT_INSPECTED, ("overtaken 44",))


def test_a_given_up_frame_that_is_known_is_left_out(db: Database) -> None:
    """Giving up a frame that was accepted before neither counts nor closes it again."""
    accept(db, source_identity="a.jpg")
    skipped = accept_and_skip(
        db,
        STATION,
        [SkippedFrame("top", "overtaken", source_identity="a.jpg")],
        lambda inspection: (),
        purpose=Purpose.PRODUCTION,
        provenance=PROVENANCE,
        now_us=NOON_US,
    )
    assert skipped == []
    assert count_verdicts(db, STATION).pending == 1
