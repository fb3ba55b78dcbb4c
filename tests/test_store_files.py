"""Pictures on disk and the watch over free space."""

from __future__ import annotations

import os
import shutil
import uuid
from pathlib import Path

import pytest

from inspector.errors import StoreError
from inspector.store.disk import DiskState, DiskWatch, free_mb, next_disk_state
from inspector.store.frames import FrameFiles, frame_key
from tests.store_samples import NOON_US, STATION, python_process, read_line

INSPECTION_ID = uuid.UUID(int=7)
KEY = frame_key(STATION, NOON_US, INSPECTION_ID, ".jpg")


def test_a_key_is_made_of_ids_and_the_hour() -> None:
    """The folder tells station and time, the name the inspection."""
    made = frame_key(STATION, NOON_US, INSPECTION_ID, ".jpg")
    assert made == f"plant/line1/station1/2023-11-14/22/{INSPECTION_ID}.jpg"
    assert frame_key(STATION, NOON_US, str(INSPECTION_ID), "-visual.jpg").endswith(f"{INSPECTION_ID}-visual.jpg")


@pytest.mark.parametrize(
    ("station", "inspection_id", "suffix"),
    [
        ("../etc", str(INSPECTION_ID), ".jpg"),
        ("/plant", str(INSPECTION_ID), ".jpg"),
        (STATION, "../../passwd", ".jpg"),
        (STATION, str(INSPECTION_ID), "/../x.jpg"),
        (STATION, str(INSPECTION_ID), "jpg\0"),
    ],
)
def test_a_key_is_never_made_from_anything_else(station: str, inspection_id: str, suffix: str) -> None:
    """What is not an id or a suffix is refused."""
    with pytest.raises(ValueError, match=r"not a (key|suffix)|hexadecimal UUID"):
        frame_key(station, NOON_US, inspection_id, suffix)


@pytest.mark.parametrize("key", ["../secret", "/etc/passwd", "a/../../b.jpg", "", "a//b", "a/./b", "A.jpg", ".hidden"])
def test_a_key_cannot_leave_the_root(tmp_path: Path, key: str) -> None:
    """Keys that come back from a tampered database do not reach other files."""
    files = FrameFiles(tmp_path / "frames")
    for use in (files.path, files.read, files.delete, files.exists, lambda key: files.write(key, b"x")):
        with pytest.raises(StoreError):
            use(key)


def test_a_link_out_of_the_root_is_refused(tmp_path: Path) -> None:
    """A symbolic link inside the root does not open the outside."""
    (tmp_path / "frames").mkdir()
    (tmp_path / "frames" / "plant").symlink_to(tmp_path)
    with pytest.raises(StoreError, match="leads out"):
        FrameFiles(tmp_path / "frames").read("plant/secret")


def test_a_picture_is_whole_or_absent(tmp_path: Path) -> None:
    """Written bytes come back; writing again replaces them; no temporary file stays."""
    files = FrameFiles(tmp_path / "frames")
    assert not files.exists(KEY)
    files.write(KEY, b"one")
    files.write(KEY, b"two")
    assert files.read(KEY) == b"two"
    (picture,) = files.pictures()
    assert (picture.key, picture.size_bytes) == (KEY, 3)
    assert files.delete(KEY) is True
    assert files.delete(KEY) is False
    with pytest.raises(StoreError, match="retention"):
        files.read(KEY)


WRITE_FOR_EVER = """
import sys
from pathlib import Path
from inspector.store.frames import FrameFiles
files = FrameFiles(Path(sys.argv[1]))
while True:
    files.write(sys.argv[2], b"a" * 3_000_000)
    files.write(sys.argv[2], b"b" * 3_000_000)
    print("round", flush=True)
"""


def test_a_killed_writer_leaves_no_half_picture(tmp_path: Path) -> None:
    """After kill -9 in the middle of writing, the name holds one whole picture; the rest is known as left over."""
    files = FrameFiles(tmp_path)
    with python_process(WRITE_FOR_EVER, str(tmp_path), KEY) as process:
        assert read_line(process) == "round"
        process.kill()
        process.wait()
    assert files.read(KEY) in (b"a" * 3_000_000, b"b" * 3_000_000)
    assert {picture.key for picture in files.pictures()} <= {KEY, None}


def test_strangers_files_are_passed_over(tmp_path: Path) -> None:
    """Only files that this store named are its own to list, and thereby to remove."""
    files = FrameFiles(tmp_path)
    files.write(KEY, b"x")
    (tmp_path / "plant" / "README.txt").write_text("mine")
    (tmp_path / "notes.jpg").write_bytes(b"mine")
    assert [picture.key for picture in files.pictures()] == [KEY]


def test_emptied_folders_go_an_hour_later(tmp_path: Path) -> None:
    """A folder that is still used, or was until just now, stays; one that was emptied long ago goes."""
    files = FrameFiles(tmp_path)
    files.write(KEY, b"x")
    hour = files.path(KEY).parent
    os.utime(hour, (0, 0))
    files.remove_empty_folders()
    assert files.exists(KEY)
    files.delete(KEY)
    files.remove_empty_folders()
    assert hour.is_dir()
    os.utime(hour, (0, 0))
    files.remove_empty_folders()
    assert not hour.exists()
    files.write(KEY, b"x")
    assert files.read(KEY) == b"x"


def test_free_space_is_that_of_the_nearest_folder(tmp_path: Path) -> None:
    """A data directory that does not exist yet has the space of its parent."""
    assert free_mb(tmp_path / "not" / "yet") == pytest.approx(shutil.disk_usage(tmp_path).free / 1e6, rel=0.2)


def test_low_space_has_hysteresis() -> None:
    """Low below the limit, and only ten per cent above it well again."""
    ok, low = DiskState.OK, DiskState.LOW
    assert next_disk_state(ok, 500, 500) is ok
    assert next_disk_state(ok, 499, 500) is low
    assert next_disk_state(low, 549, 500) is low
    assert next_disk_state(low, 550, 500) is ok


def test_the_watch_looks_at_the_real_disk(tmp_path: Path) -> None:
    """A limit above the free space is low, one below is not."""
    assert not DiskWatch(tmp_path, 0.001).is_low()
    assert DiskWatch(tmp_path, free_mb(tmp_path) * 2).is_low()
