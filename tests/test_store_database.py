"""The database file: durability, migrations, transactions and what opening it refuses."""

from __future__ import annotations

import logging
import os
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import create_engine, inspect, select, text, update

from inspector.errors import DataDirReadOnlyError, SchemaVersionError, StoreError
from inspector.store.database import DATABASE_FILE, Database
from inspector.store.stations import ensure_station, load_station, set_station
from inspector.store.tables import Base, StationRow
from tests.store_samples import NOON_US, STATION, open_station, python_process, read_line

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small file system needs root")


def test_every_commit_is_durable(tmp_path: Path) -> None:
    """A kill cannot show what a power cut would: the connection itself reports WAL, FULL and foreign keys."""
    db = Database.open(tmp_path)
    reported = db.durability()
    assert (reported["journal_mode"], reported["synchronous"], reported["foreign_keys"]) == ("wal", 2, 1)
    with db.write() as session:
        assert session.execute(text("PRAGMA synchronous")).scalar_one() == 2
        assert session.execute(text("PRAGMA journal_mode")).scalar_one() == "wal"
        assert session.execute(text("PRAGMA foreign_keys")).scalar_one() == 1
    db.close()


def test_migrations_make_exactly_the_tables(tmp_path: Path) -> None:
    """Migrating an empty file gives what the row classes declare, partial indexes included."""
    Database.open(tmp_path).close()
    declared = tmp_path / "declared.db"
    direct = create_engine(f"sqlite:///{declared}")
    Base.metadata.create_all(direct)
    migrated = create_engine(f"sqlite:///{tmp_path / DATABASE_FILE}")
    with migrated.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), Base.metadata) == []
    statements = "SELECT name, sql FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL ORDER BY name"
    with migrated.connect() as one, direct.connect() as other:
        assert one.execute(text(statements)).all() == other.execute(text(statements)).all()
    migrated.dispose()
    direct.dispose()


def test_migrating_leaves_the_logging_of_the_program_alone(tmp_path: Path) -> None:
    """Alembic's own logging set-up would silence every logger of the service."""
    before = (logging.getLogger().handlers[:], logging.getLogger().level, logging.getLogger("inspector").disabled)
    Database.open(tmp_path).close()
    root = logging.getLogger()
    assert (root.handlers, root.level, logging.getLogger("inspector").disabled) == before


def test_newer_schema_is_refused(tmp_path: Path) -> None:
    """A database of a newer program is named as such and left as it is."""
    Database.open(tmp_path).close()
    with sqlite3.connect(tmp_path / DATABASE_FILE) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    connection.close()
    with pytest.raises(SchemaVersionError, match="9999"):
        Database.open(tmp_path)


def test_a_database_of_somebody_else_is_refused(tmp_path: Path) -> None:
    """Our tables are never added to a file that another program made."""
    with sqlite3.connect(tmp_path / DATABASE_FILE) as connection:
        connection.execute("CREATE TABLE recipes (name TEXT)")
    connection.close()
    with pytest.raises(StoreError, match="not made by this program"):
        Database.open(tmp_path)


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    """Rubbish under the database's name is a clear error."""
    (tmp_path / DATABASE_FILE).write_bytes(b"this is not a database at all" * 100)
    with pytest.raises(StoreError, match="not a sound database"):
        Database.open(tmp_path)


def test_a_damaged_database_is_reported_by_the_integrity_check(tmp_path: Path) -> None:
    """Overwritten pages show in `integrity`, a sound file gives an empty list."""
    db = open_station(tmp_path)
    assert db.integrity() == []
    db.close()
    path = tmp_path / DATABASE_FILE
    content = bytearray(path.read_bytes())
    content[3 * 4096 :] = b"\xa5" * len(content[3 * 4096 :])
    path.write_bytes(content)
    raw = sqlite3.connect(path)
    with pytest.raises(sqlite3.DatabaseError):
        raw.execute("SELECT count(*) FROM station").fetchone()
    raw.close()
    broken = Database(tmp_path)
    assert broken.integrity() != []
    broken.close()


def test_a_data_dir_that_is_a_file_is_refused(tmp_path: Path) -> None:
    """A path that cannot be a folder is named."""
    (tmp_path / "data").write_text("a file")
    with pytest.raises(StoreError, match="data"):
        Database.open(tmp_path / "data")


@pytest.mark.root
@needs_root
def test_read_only_mount_is_refused_at_the_start(tmp_path: Path) -> None:
    """A data directory on a read-only mount is named as read-only, for a fresh one and for an existing one."""
    data_dir = tmp_path / "data"
    open_station(data_dir).close()
    subprocess.run(["mount", "--bind", str(data_dir), str(data_dir)], check=True)
    try:
        subprocess.run(["mount", "-o", "remount,ro,bind", str(data_dir)], check=True)
        for path in (data_dir, data_dir / "fresh"):
            with pytest.raises(DataDirReadOnlyError, match="cannot be written"):
                Database.open(path)
    finally:
        subprocess.run(["umount", str(data_dir)], check=True)
    db = Database.open(data_dir)
    assert load_station(db, STATION).next_sequence == 1
    db.close()


@pytest.mark.skipif(os.geteuid() == 0, reason="file modes do not bind root; the mount test covers it")
def test_read_only_folder_is_refused_at_the_start(tmp_path: Path) -> None:
    """A data directory without write permission is named as read-only."""
    data_dir = tmp_path / "data"
    data_dir.mkdir(mode=0o555)
    with pytest.raises(DataDirReadOnlyError, match="cannot be written"):
        Database.open(data_dir)


def test_a_database_that_turns_read_only_is_named(tmp_path: Path) -> None:
    """SQLite's `readonly` while running is the same error, and what was committed can still be read."""
    db = open_station(tmp_path)
    with pytest.raises(DataDirReadOnlyError), db.write() as session:
        session.execute(text("PRAGMA query_only=ON"))
        try:
            session.execute(update(StationRow).values(paused=True))
        finally:
            session.execute(text("PRAGMA query_only=OFF"))
    assert load_station(db, STATION).paused is False
    db.close()


def test_write_takes_the_lock_at_once(tmp_path: Path) -> None:
    """`BEGIN IMMEDIATE` is really sent: before the first statement nobody else can begin to write."""
    db = open_station(tmp_path)
    other = sqlite3.connect(tmp_path / DATABASE_FILE, timeout=0, isolation_level=None)
    with db.write(), pytest.raises(sqlite3.OperationalError, match="locked"):
        other.execute("BEGIN IMMEDIATE")
    other.execute("BEGIN IMMEDIATE")
    other.execute("ROLLBACK")
    other.close()
    db.close()


def test_an_exception_rolls_everything_back(tmp_path: Path) -> None:
    """Nothing of a failed transaction stays, and the next one works."""
    db = open_station(tmp_path)
    with pytest.raises(RuntimeError, match="half way"), db.write() as session:
        session.execute(update(StationRow).values(lot="LOST"))
        raise RuntimeError("half way")
    assert load_station(db, STATION).lot is None
    assert set_station(db, STATION, lot="L7").lot == "L7"
    db.close()


def test_a_reader_sees_one_moment(tmp_path: Path) -> None:
    """A read is a snapshot: a commit in the middle of it does not show, and does not wait for it."""
    db = open_station(tmp_path)
    lot = select(StationRow.lot)
    with db.read() as session:
        assert session.scalar(lot) is None
        set_station(db, STATION, lot="L7")
        assert session.scalar(lot) is None
    with db.read() as session:
        assert session.scalar(lot) == "L7"
    db.close()


def test_threads_share_one_database(tmp_path: Path) -> None:
    """Many threads write through one object without an error and without losing an update."""
    db = open_station(tmp_path)

    def add_fifty() -> None:
        for _ in range(50):
            with db.write() as session:
                session.execute(update(StationRow).values(next_sequence=StationRow.next_sequence + 1))

    threads = [threading.Thread(target=add_fifty) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert load_station(db, STATION).next_sequence == 301
    db.close()


OPEN_AND_START = """
import sys
from pathlib import Path
from inspector.store.database import Database
from inspector.store.stations import ensure_station
db = Database.open(Path(sys.argv[1]))
print(ensure_station(db, "a/b/c", recipe_name="r", recipe_version=1, now_us=int(sys.argv[2])).epoch)
"""


def test_several_processes_may_open_a_new_data_dir_at_once(tmp_path: Path) -> None:
    """The first start of all processes of a service migrates once; all see the same station."""
    command = [sys.executable, "-c", OPEN_AND_START, str(tmp_path / "data")]
    started = [
        subprocess.Popen([*command, str(1000 + number)], stdout=subprocess.PIPE, text=True) for number in range(2)
    ]
    answers = {process.communicate(timeout=60)[0].strip() for process in started}
    assert [process.returncode for process in started] == [0, 0]
    assert len(answers) == 1


def test_the_log_is_copied_into_the_database(tmp_path: Path) -> None:
    """Work outside the verdict lane checkpoints, so that the write-ahead log does not grow for ever."""
    db = open_station(tmp_path)
    for number in range(20):
        set_station(db, STATION, lot=f"L{number}")
    db._checkpoint_due = 0.0
    db.checkpoint_if_due()
    raw = sqlite3.connect(f"file:{tmp_path / DATABASE_FILE}?immutable=1", uri=True)
    assert raw.execute("SELECT lot FROM station").fetchone() == ("L19",)
    raw.close()
    db.close()


def test_station_survives_a_restart(tmp_path: Path) -> None:
    """Epoch, recipe, lot and pause of the first run rule over the configuration of the second."""
    db = open_station(tmp_path)
    set_station(db, STATION, lot="L7", paused=True)
    db.close()
    db = Database.open(tmp_path)
    state = ensure_station(db, STATION, recipe_name="other", recipe_version=9, now_us=NOON_US + 5)
    assert (state.epoch, state.recipe_name, state.recipe_version) == (NOON_US, "board", 1)
    assert (state.lot, state.paused) == ("L7", True)
    assert set_station(db, STATION, lot="").lot is None
    db.close()


def test_an_unknown_station_is_named(tmp_path: Path) -> None:
    """Asking for a station that never started is a clear error."""
    db = Database.open(tmp_path)
    with pytest.raises(StoreError, match="never started"):
        load_station(db, "a/b/c")
    db.close()


def test_a_migrated_database_has_no_unknown_tables(tmp_path: Path) -> None:
    """The file holds our tables and Alembic's, nothing else."""
    Database.open(tmp_path).close()
    engine = create_engine(f"sqlite:///{tmp_path / DATABASE_FILE}")
    assert set(inspect(engine).get_table_names()) == {*Base.metadata.tables, "alembic_version"}
    engine.dispose()


WAIT_FOREVER = """
import sys
from pathlib import Path
from inspector.store.database import Database
with Database.open(Path(sys.argv[1])).write():
    print("writing", flush=True)
    sys.stdin.readline()
"""


def test_a_writer_waits_for_another_process(tmp_path: Path) -> None:
    """A write that finds the lock taken waits for its turn instead of failing."""
    db = open_station(tmp_path)
    with python_process(WAIT_FOREVER, str(tmp_path)) as process:
        assert read_line(process) == "writing"
        done = threading.Event()

        def write() -> None:
            set_station(db, STATION, lot="L7")
            done.set()

        writer = threading.Thread(target=write)
        writer.start()
        assert not done.wait(0.2)
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
        assert done.wait(10)
        writer.join()
    assert load_station(db, STATION).lot == "L7"
    db.close()
