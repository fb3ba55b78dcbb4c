"""One service a data directory: the lock, who holds it, and how it is let go."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from inspector.errors import DataDirLockedError
from inspector.store.database import lock_data_dir
from tests.store_samples import python_process, read_line

HOLD = """
import sys
from pathlib import Path
from inspector.store.database import lock_data_dir
with lock_data_dir(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.readline()
"""

FORK_WHILE_HOLDING = """
import os, sys
from pathlib import Path
from inspector.store.database import lock_data_dir
with lock_data_dir(Path(sys.argv[1])):
    if os.fork() == 0:
        sys.stdin.readline()
        os._exit(0)
    print("held", flush=True)
    sys.stdin.readline()
"""


def test_a_second_service_is_refused_and_told_who_holds_it(tmp_path: Path) -> None:
    """The error names the process that has the data directory."""
    with python_process(HOLD, str(tmp_path)) as process:
        assert read_line(process) == "held"
        with pytest.raises(DataDirLockedError, match=f"process {process.pid} "), lock_data_dir(tmp_path):
            pass


def test_the_kernel_releases_the_lock_of_a_killed_service(tmp_path: Path) -> None:
    """After kill -9 the next service starts at once."""
    with python_process(HOLD, str(tmp_path)) as process:
        assert read_line(process) == "held"
        process.kill()
        process.wait()
        with lock_data_dir(tmp_path):
            assert (tmp_path / "service.lock").read_text() == f"{os.getpid()}\n"


def test_children_do_not_keep_the_lock(tmp_path: Path) -> None:
    """A forked child that outlives its killed parent does not block the next service."""
    with python_process(FORK_WHILE_HOLDING, str(tmp_path)) as process:
        assert read_line(process) == "held"
        process.kill()
        process.wait()
        with lock_data_dir(tmp_path):
            pass


def test_two_holders_in_one_process_exclude_each_other(tmp_path: Path) -> None:
    """The lock also holds between two parts of one program, and names are locks of their own."""
    with lock_data_dir(tmp_path):
        with pytest.raises(DataDirLockedError), lock_data_dir(tmp_path):
            pass
        with lock_data_dir(tmp_path, "station-a"):
            pass
    with lock_data_dir(tmp_path):
        pass
