"""Nothing is lost when processes are killed (a short crash trial), and the disk is told to sync (settings)."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from inspector.store.database import Database
from inspector.store.frames import FrameFiles
from tests.mosquitto import MOSQUITTO

SYNCHRONOUS_FULL = 2


@pytest.mark.trial
@pytest.mark.broker
@pytest.mark.timeout(400)
@pytest.mark.skipif(MOSQUITTO is None, reason="mosquitto is not installed")
def test_short_crash_trial(tmp_path: Path) -> None:
    """Each kind of process and the broker are killed once under load: every count is what it must be.

    `make crash-trial` does the same fifty times.
    """
    command = [sys.executable, "-m", "tests.crash.trial", "--kills", "5", "--work", str(tmp_path)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, f"{result.stdout}{result.stderr}"
    assert result.stdout.rstrip().endswith("nothing was lost")
    assert "FAILED" not in result.stdout


@pytest.fixture
def db(tmp_path: Path) -> Iterator[Database]:
    opened = Database.open(tmp_path / "data")
    yield opened
    opened.close()


def test_a_commit_reaches_the_disk(db: Database) -> None:
    """Every connection that writes has synchronous=FULL in WAL mode, which a kill -9 cannot show."""
    for session in (db.write, db.read):
        with session() as connection:
            settings = {
                name: connection.connection().exec_driver_sql(f"PRAGMA {name}").scalar_one()
                for name in ("journal_mode", "synchronous", "foreign_keys")
            }
        assert settings == {"journal_mode": "wal", "synchronous": SYNCHRONOUS_FULL, "foreign_keys": 1}


def test_a_commit_calls_fsync(tmp_path: Path) -> None:
    """One committed row makes the kernel sync the write-ahead log before the commit returns."""
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed")
    if subprocess.run(["strace", "true"], capture_output=True, check=False).returncode != 0:
        pytest.skip("strace may not trace here")
    program = (
        "import sys, os; from pathlib import Path; from inspector.store.database import Database; "
        "from inspector.store.processes import beat; db = Database.open(Path(sys.argv[1])); "
        "os.write(2, b'BEFORE\\n'); beat(db, 'delivery', 1, 'online', [], 1); os.write(2, b'AFTER\\n')"
    )
    log = tmp_path / "strace"
    traced = ["-f", "--seccomp-bpf", "-y", "-o", str(log), "-e", "trace=fsync,fdatasync,write"]
    command = ["strace", *traced, sys.executable, "-c", program, str(tmp_path / "data")]
    subprocess.run(command, check=True, capture_output=True)
    between = log.read_text().partition("BEFORE")[2].partition("AFTER")[0]
    assert "inspector.db-wal" in between and "sync(" in between


def test_a_picture_reaches_the_disk_before_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stored frame is written, synced and only then renamed, and the folder that holds the name is synced too."""
    steps: list[str] = []
    real_fsync, real_replace = os.fsync, os.replace

    def fsync(descriptor: int) -> None:
        is_folder = Path(f"/proc/self/fd/{descriptor}").readlink().is_dir()
        steps.append("sync folder" if is_folder else "sync file")
        real_fsync(descriptor)

    def replace(source: str, target: str) -> None:
        steps.append("rename")
        real_replace(source, target)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "replace", replace)
    monkeypatch.setattr(os, "rename", replace)
    FrameFiles(tmp_path / "frames").write("a/b/c/2026-11-01/10/picture.jpg", b"jpeg")
    file_synced, renamed = steps.index("sync file"), steps.index("rename")
    assert file_synced < renamed < len(steps) - 1 - steps[::-1].index("sync folder")


def test_killed_writer_leaves_a_sound_database(tmp_path: Path) -> None:
    """What was committed before kill -9 is there, what was not is gone, and the file is sound."""
    program = (
        "import sys, os, signal; from pathlib import Path; from inspector.store.database import Database; "
        "from inspector.store.stations import ensure_station, set_station; db = Database.open(Path(sys.argv[1])); "
        "ensure_station(db, 'a/b/c', recipe_name='r', recipe_version=None, now_us=1); "
        "set_station(db, 'a/b/c', lot='committed'); "
        "from sqlalchemy import text; session = db.write().__enter__(); "
        "session.execute(text(\"UPDATE station SET lot = 'lost'\")); os.kill(os.getpid(), signal.SIGKILL)"
    )
    killed = subprocess.run([sys.executable, "-c", program, tmp_path], capture_output=True, check=False)
    assert killed.returncode == -9, killed.stderr
    with sqlite3.connect(tmp_path / "inspector.db") as connection:
        assert connection.execute("SELECT lot FROM station").fetchall() == [("committed",)]
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    connection.close()
