"""The audit chain: it verifies when nothing was touched and names the first row that was."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from alembic import command
from alembic.config import Config
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import create_engine

from inspector.errors import ChainBrokenError, StoreError
from inspector.records import VerdictKind
from inspector.store.canonical_json import canonical_json
from inspector.store.database import DATABASE_FILE, Database
from inspector.store.hash_chain import GENESIS_HASH, verify_chain
from inspector.store.schema import MIGRATIONS_DIR
from tests.store_samples import STATION, accept, commit, open_station

KINDS = [VerdictKind.OK, VerdictKind.NG, VerdictKind.OK, VerdictKind.REVIEW, VerdictKind.OK]


@pytest.fixture
def db(tmp_path: Path) -> Iterator[Database]:
    db = open_station(tmp_path)
    for number, kind in enumerate(KINDS):
        commit(db, accept(db, part_id=f"P{number + 1}"), kind)
    yield db
    db.close()


def tamper(db: Database, statement: str) -> None:
    """Change the file behind the program's back."""
    with sqlite3.connect(db.data_dir / DATABASE_FILE, isolation_level=None) as connection:
        assert connection.execute(statement).rowcount > 0
    connection.close()


def test_an_untouched_chain_verifies(db: Database) -> None:
    """The report says how many rows there are and where the chain ends."""
    report = verify_chain(db, STATION)
    assert (report.rows, report.removed_rows, report.tip_index) == (5, 0, 5)
    assert report.tip_hash != GENESIS_HASH


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE inspection SET verdict = 'OK' WHERE chain_index = 2",
        "UPDATE inspection SET score = score + 1e-9 WHERE chain_index = 2",
        "UPDATE inspection SET recipe_name = NULL WHERE chain_index = 2",
        "UPDATE inspection SET mm_per_px = 0.1 WHERE chain_index = 2",
        "UPDATE inspection SET timings_ms = '{}' WHERE chain_index = 2",
        "UPDATE trigger SET part_id = 'P9' WHERE sequence = 2",
        "UPDATE trigger SET purpose = 'setup' WHERE sequence = 2",
        "UPDATE trigger SET lot = 'L9' WHERE sequence = 2",
        "DELETE FROM detection WHERE inspection_id = (SELECT inspection_id FROM inspection WHERE chain_index = 2)",
        "UPDATE detection SET x0_px = 11 WHERE inspection_id = "
        "(SELECT inspection_id FROM inspection WHERE chain_index = 2)",
        "UPDATE detection SET size_px = 3.0 WHERE inspection_id = "
        "(SELECT inspection_id FROM inspection WHERE chain_index = 2)",
        "INSERT INTO detection SELECT inspection_id, 0, 1, 1, 2, 2, 1.0, 'dent', 1, NULL, NULL, NULL FROM inspection "
        "WHERE chain_index = 1",
    ],
)
def test_a_changed_value_is_found_and_named(db: Database, statement: str) -> None:
    """Verdict, score, part, purpose, lot, detections: every change breaks the row it was made in."""
    tamper(db, statement)
    row = 1 if statement.startswith("INSERT") else 2
    with pytest.raises(ChainBrokenError, match=f"row {row}: inspection .* was changed"):
        verify_chain(db, STATION)


def test_a_removed_row_is_found(db: Database) -> None:
    """A gap is named by the row behind it."""
    tamper(db, "DELETE FROM inspection WHERE chain_index = 3")
    with pytest.raises(ChainBrokenError, match=r"row 4: .*row 3 before it is missing"):
        verify_chain(db, STATION)


def test_removed_newest_rows_are_found(db: Database) -> None:
    """Cutting the end off does not go unnoticed: the station's row knows the tip."""
    tamper(db, "DELETE FROM inspection WHERE chain_index = 5")
    with pytest.raises(ChainBrokenError, match="ends at row 4, but row 5"):
        verify_chain(db, STATION)


def test_a_row_hashed_anew_breaks_its_successor(db: Database) -> None:
    """Whoever recomputes one hash would have to recompute all that follow."""
    tamper(db, f"UPDATE inspection SET row_hash = '{'a' * 64}', prev_hash = '{'b' * 64}' WHERE chain_index = 2")
    with pytest.raises(ChainBrokenError, match=r"row 2: .*does not follow"):
        verify_chain(db, STATION)


def test_a_result_that_is_not_that_of_the_inspections_is_found(db: Database) -> None:
    """Counts read the part's result from its trigger: calling an NG part OK there is found too."""
    tamper(db, "UPDATE trigger SET verdict = 'OK' WHERE sequence = 2")
    with pytest.raises(ChainBrokenError, match="trigger 2: its result OK"):
        verify_chain(db, STATION)


def test_a_trigger_removed_before_its_inspection_is_found(db: Database) -> None:
    """A part that was accepted and never inspected cannot be made to vanish either."""
    accept(db)
    assert verify_chain(db, STATION).rows == 5
    tamper(db, "DELETE FROM trigger WHERE sequence = 6")
    with pytest.raises(ChainBrokenError, match="totals are not those of its triggers"):
        verify_chain(db, STATION)


def test_each_station_has_its_own_chain(db: Database) -> None:
    """A broken chain at one station says nothing about another; an unknown station is an error."""
    other = open_station(db.data_dir, "plant/line1/other")
    commit(other, accept(other, station="plant/line1/other"))
    tamper(db, f"UPDATE inspection SET late = 1 WHERE station = '{STATION}' AND chain_index = 1")
    assert verify_chain(db, "plant/line1/other").rows == 1
    with pytest.raises(ChainBrokenError):
        verify_chain(db, STATION)
    with pytest.raises(StoreError, match="never started"):
        verify_chain(db, "a/b/c")
    other.close()


FLOATS = st.floats(allow_nan=False, allow_infinity=False)
NAMES = st.text(st.characters(codec="utf-8"), max_size=12)


@pytest.fixture(scope="module")
def growing_db(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    db = open_station(tmp_path_factory.mktemp("chain"))
    yield db
    db.close()


@settings(max_examples=60, deadline=None)
@given(part=NAMES, score=FLOATS, timings=st.dictionaries(NAMES, FLOATS, max_size=3), size=st.floats(1e-300, 1e3))
def test_whatever_is_committed_verifies(
    growing_db: Database, part: str, score: float, timings: dict[str, float], size: float
) -> None:
    """What SQLite gives back hashes like what was committed, for any text and any finite number."""
    trigger = accept(growing_db, part_id=part)
    commit(growing_db, trigger, mm_per_px=size, timings_ms=timings, registration_confidence=score)
    assert verify_chain(growing_db, STATION).rows == trigger.sequence


def test_canonical_json_is_one_text_for_one_value() -> None:
    """Key order does not matter, Unicode stays, NaN is refused."""
    assert canonical_json({"b": 1, "a": "é"}) == canonical_json({"a": "é", "b": 1}) == '{"a":"é","b":1}'
    with pytest.raises(ValueError, match="JSON"):
        canonical_json({"a": float("nan")})


def test_a_chain_of_the_first_schema_still_verifies(tmp_path: Path) -> None:
    """A database of the first program is migrated, and no hash changes."""
    db = open_station(tmp_path)
    for number, kind in enumerate(KINDS):
        commit(db, accept(db, part_id=f"P{number + 1}"), kind)
    tip = verify_chain(db, STATION).tip_hash
    db.close()
    engine = create_engine(f"sqlite:///{tmp_path / DATABASE_FILE}")
    with engine.begin() as connection:
        config = Config(attributes={"connection": connection})
        config.set_main_option("script_location", str(MIGRATIONS_DIR))
        command.downgrade(config, "0001")
    engine.dispose()
    migrated = Database.open(tmp_path)
    report = verify_chain(migrated, STATION)
    assert (report.rows, report.tip_hash) == (5, tip)
    commit(migrated, accept(migrated, part_id="P6"), VerdictKind.NG)
    assert verify_chain(migrated, STATION).rows == 6
    migrated.close()
