"""Kills: what was acknowledged is there, what was not has left no trace, and nobody waits for the dead."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy import func, select

from inspector.store.database import Database
from inspector.store.hash_chain import verify_chain
from inspector.store.inspections import count_verdicts
from inspector.store.stations import load_station
from inspector.store.tables import InspectionRow, OutboxRow, TriggerRow
from inspector.store.triggers import open_triggers
from tests.store_samples import STATION, accept, commit, open_station, python_process, read_line

STOP_HALF_WAY = """
import sys
from pathlib import Path
from sqlalchemy import insert
from inspector.store.database import Database
from inspector.store.inspections import insert_inspection
from tests.store_samples import STATION, accept, announce, make_inspection
db = Database.open(Path(sys.argv[1]))
trigger = accept(db)
inspection = make_inspection(trigger)
with db.write() as session:
    insert_inspection(session, inspection, [announce(inspection)], wants_evidence=True)
    print(trigger.sequence, flush=True)
    sys.stdin.readline()
"""

WORK = """
import sys
from pathlib import Path
from inspector.records import VerdictKind
from tests.store_samples import accept, commit, open_station
db = open_station(Path(sys.argv[1]), sys.argv[2])
count = int(sys.argv[3])
for number in range(count):
    trigger = accept(db, station=sys.argv[2])
    print(f"accepted {trigger.sequence}", flush=True)
    inspection = commit(db, trigger, VerdictKind.NG if number % 3 == 0 else VerdictKind.OK, evidence=number % 3 == 0)
    print(f"committed {inspection.inspection_id}", flush=True)
"""


def count_rows(db: Database) -> tuple[int, int, int]:
    """Triggers, inspections, messages."""
    with db.read() as session:
        triggers, inspections, messages = (
            session.scalar(select(func.count()).select_from(table)) or 0
            for table in (TriggerRow, InspectionRow, OutboxRow)
        )
    return triggers, inspections, messages


def test_a_transaction_killed_half_way_leaves_nothing(tmp_path: Path) -> None:
    """kill -9 between the insert and the commit: the trigger is owed, the verdict and its message are not there."""
    db = open_station(tmp_path)
    with python_process(STOP_HALF_WAY, str(tmp_path)) as process:
        assert read_line(process) == "1"
        process.kill()
        process.wait()
    assert count_rows(db) == (1, 0, 0)
    ((trigger, missing),) = open_triggers(db, STATION)
    assert missing == ("top",)
    commit(db, trigger)
    assert verify_chain(db, STATION).rows == 1
    assert db.integrity() == []
    db.close()


@pytest.mark.trial
def test_what_was_acknowledged_survives_every_kill(tmp_path: Path) -> None:
    """Three kills at arbitrary moments: all that was printed is there once, the rest is owed, the chain verifies."""
    accepted: list[int] = []
    committed: list[str] = []
    for round_number in range(3):
        with python_process(WORK, str(tmp_path), STATION, "10000") as process:
            for _ in range(20 + 31 * round_number):
                word, value = read_line(process).split()
                (accepted if word == "accepted" else committed).append(value)  # type: ignore[arg-type]
            process.kill()
            rest = process.communicate()[0].splitlines()
        for line in rest:
            word, _, value = line.partition(" ")
            if word == "accepted" and value:
                accepted.append(int(value))
            elif word == "committed" and len(value) == 36:
                committed.append(value)
    db = Database.open(tmp_path)
    triggers, inspections, messages = count_rows(db)
    with db.read() as session:
        sequences = session.scalars(select(TriggerRow.sequence).order_by(TriggerRow.sequence)).all()
        ids = set(session.scalars(select(InspectionRow.inspection_id)))
    assert sequences == list(range(1, triggers + 1))
    assert {int(sequence) for sequence in accepted} <= set(sequences)
    assert set(committed) <= ids
    assert messages == inspections
    assert triggers - inspections == len(open_triggers(db, STATION))
    counts = count_verdicts(db, STATION)
    assert counts.triggers == counts.ok + counts.ng + counts.pending == triggers
    assert verify_chain(db, STATION).rows == inspections
    assert db.integrity() == []
    db.close()


def test_two_processes_write_at_once(tmp_path: Path) -> None:
    """Two stations' processes share the file: both finish, each chain verifies, each sequence is gapless."""
    stations = ("plant/line1/a", "plant/line1/b")
    command = [sys.executable, "-c", WORK, str(tmp_path)]
    workers = [subprocess.Popen([*command, station, "60"], stdout=subprocess.PIPE, text=True) for station in stations]
    for worker in workers:
        assert len(worker.communicate(timeout=60)[0].splitlines()) == 120
        assert worker.returncode == 0
    db = Database.open(tmp_path)
    for station in stations:
        assert load_station(db, station).next_sequence == 61
        assert verify_chain(db, station).rows == 60
        assert count_verdicts(db, station).triggers == 60
    assert db.integrity() == []
    db.close()


def test_two_processes_accept_for_one_station_without_gaps(tmp_path: Path) -> None:
    """Sequence numbers of concurrent acceptances neither repeat nor skip."""
    open_station(tmp_path).close()
    command = [sys.executable, "-c", WORK, str(tmp_path), STATION, "60"]
    workers = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    lines = [line for worker in workers for line in worker.communicate(timeout=60)[0].splitlines()]
    sequences = [int(line.split()[1]) for line in lines if line.startswith("accepted")]
    assert sorted(sequences) == list(range(1, 121))
    db = Database.open(tmp_path)
    assert verify_chain(db, STATION).rows == 120
    assert accept(db).sequence == 121
    db.close()
