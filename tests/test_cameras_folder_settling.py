"""What becomes of a watched folder's files: kept, moved or deleted, and neither repeated nor lost by a restart."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from tests.folder_rig import PATIENCE_S, Ledger, Open, folder_opener, jpeg, names_in, read_frame


@pytest.fixture
def ledger() -> Ledger:
    return Ledger()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "drop"
    path.mkdir()
    return path


@pytest.fixture
def open_camera(folder: Path, ledger: Ledger) -> Open:
    return folder_opener(folder, ledger)


# --- settling ---------------------------------------------------------------------------------------


def test_settling_keeps_moves_or_deletes(folder: Path, open_camera: Open) -> None:
    """`after` is obeyed, and settling a second time is harmless."""
    for after, left in (("move", ["done/x.jpg"]), ("delete", ["done/x.jpg"]), ("keep", ["done/x.jpg", "x.jpg"])):
        camera = open_camera(after=after)
        (folder / "x.jpg").write_bytes(jpeg(len(after)))
        frame = read_frame(camera)
        camera.settle(frame)
        camera.settle(frame)
        assert names_in(folder) == left


def test_moving_never_overwrites(folder: Path, open_camera: Open) -> None:
    """Files of one name are all kept in `done`, even with one mtime."""
    camera = open_camera(after="move")
    for seed in range(4):
        (folder / "same.jpg").write_bytes(jpeg(seed))
        os.utime(folder / "same.jpg", (1_700_000_000, 1_700_000_000))
        camera.settle(read_frame(camera))
    kept = [path.read_bytes() for path in (folder / "done").iterdir()]
    assert sorted(kept) == sorted(jpeg(seed) for seed in range(4))
    assert all(path.suffix == ".jpg" for path in (folder / "done").iterdir())


def test_a_name_as_long_as_the_file_system_allows_can_be_set_aside(folder: Path, open_camera: Open) -> None:
    """The reason file's longer name still fits."""
    camera = open_camera()
    name = "x" * 251 + ".jpg"
    (folder / name).write_bytes(b"")
    frame = read_frame(camera)
    camera.settle(frame, failed=frame.failure)
    assert len(names_in(folder)) == 2 and all(item.startswith("failed/") for item in names_in(folder))


def test_a_frame_that_could_not_be_inspected_is_moved_aside_even_when_kept(folder: Path, open_camera: Open) -> None:
    """The pipeline's own reason (a wrong size, say) is written beside the file."""
    camera = open_camera(after="keep")
    (folder / "small.jpg").write_bytes(jpeg())
    camera.settle(read_frame(camera), failed="frame is 64x48 px, expected 3840x2160")
    assert names_in(folder) == ["failed/small.jpg", "failed/small.jpg.reason.txt"]
    assert "3840x2160" in (folder / "failed" / "small.jpg.reason.txt").read_text()


def test_a_move_that_fails_is_tried_again(folder: Path, open_camera: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the file cannot be moved health says so and nothing is repeated; once it can be, it moves."""
    monkeypatch.setattr("inspector.cameras.folder.RETRY_MOVE_S", 0.05)
    camera = open_camera(after="move")
    (folder / "done").write_text("a file where the folder should be")
    (folder / "x.jpg").write_bytes(jpeg())
    frame = read_frame(camera)
    if str(frame.source_identity).startswith("done|"):
        frame = read_frame(camera)
    camera.settle(frame)
    assert camera.health().reason == "1 files cannot be set aside"
    (folder / "done").unlink()
    deadline_s = time.monotonic() + PATIENCE_S
    while camera.health().reason is not None and time.monotonic() < deadline_s:
        assert camera.read(0.02) is None
    assert names_in(folder) == ["done/x.jpg"]


# --- restarts ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("after", ["keep", "move", "delete"])
def test_a_restart_neither_repeats_nor_skips(folder: Path, open_camera: Open, ledger: Ledger, after: str) -> None:
    """Killed after 0..n files in any state, the next run delivers exactly what is still owed."""
    for index in range(6):
        (folder / f"p{index}.jpg").write_bytes(jpeg(index))
        os.utime(folder / f"p{index}.jpg", ns=(10**18 + index, 10**18 + index))
    camera = open_camera(after=after)
    settled, killed_before_settling, killed_before_commit = (read_frame(camera) for _ in range(3))
    ledger.commit(settled)
    camera.settle(settled)
    ledger.commit(killed_before_settling)
    ledger.accept(killed_before_commit)

    restarted = open_camera(after=after)
    (folder / "p6.jpg").write_bytes(jpeg(6))
    delivered = [read_frame(restarted) for _ in range(5)]
    assert restarted.read(0.2) is None
    assert [frame.encoded for frame in delivered] == [jpeg(index) for index in (2, 3, 4, 5, 6)]
    expected = {
        "keep": [f"p{index}.jpg" for index in range(7)],
        "move": ["done/p0.jpg", "done/p1.jpg", *(f"p{index}.jpg" for index in range(2, 7))],
        "delete": [f"p{index}.jpg" for index in range(2, 7)],
    }
    assert names_in(folder) == expected[after]


def test_a_failure_that_a_kill_left_behind_is_set_aside_at_the_next_start(
    folder: Path, open_camera: Open, ledger: Ledger
) -> None:
    """Committed as NOT_INSPECTED but not moved yet: the next run moves it with its reason and delivers nothing."""
    (folder / "cut.jpg").write_bytes(jpeg()[:-40])
    ledger.commit(read_frame(open_camera(after="move")))
    restarted = open_camera(after="move")
    assert restarted.read(0.3) is None
    assert names_in(folder) == ["failed/cut.jpg", "failed/cut.jpg.reason.txt"]


def test_an_accepted_file_that_is_gone_after_a_restart_becomes_a_failure(
    folder: Path, open_camera: Open, ledger: Ledger
) -> None:
    """While it is there it is still owed; when it then vanishes its trigger gets a failure, so that sums hold."""
    (folder / "a.jpg").write_bytes(jpeg(1))
    identity = ledger.accept(read_frame(open_camera()))
    restarted = open_camera(settle_s=0.3)
    assert restarted.still_has(identity)
    assert not restarted.still_has("b.jpg|1|2|3") and not restarted.still_has("nonsense")
    assert restarted.read(0.05) is None
    (folder / "a.jpg").unlink()
    frame = read_frame(restarted)
    assert frame.source_identity == identity and "vanished" in str(frame.failure)
    assert restarted.read(0.1) is None


def test_an_accepted_file_that_is_there_after_a_restart_is_delivered_once(
    folder: Path, open_camera: Open, ledger: Ledger
) -> None:
    """Asking whether it is still there changes nothing about its delivery."""
    (folder / "a.jpg").write_bytes(jpeg(1))
    identity = ledger.accept(read_frame(open_camera()))
    restarted = open_camera()
    assert restarted.still_has(identity)
    assert read_frame(restarted).source_identity == identity
    assert restarted.read(0.2) is None
    (folder / "a.jpg").write_bytes(jpeg(2))
    assert not restarted.still_has(identity)


def test_kept_files_are_read_once_and_not_at_all_when_the_store_knows_them(
    folder: Path, open_camera: Open, ledger: Ledger
) -> None:
    """Polling kept files asks nobody again; at a restart `has_closed` saves reading all but whole-second mtimes."""
    for index in range(5):
        (folder / f"k{index}.jpg").write_bytes(jpeg(index))
    os.utime(folder / "k0.jpg", (1_700_000_000, 1_700_000_000))
    camera = open_camera()
    for _ in range(5):
        ledger.commit(read_frame(camera))
    ledger.asked.clear()
    assert camera.read(0.3) is None
    assert ledger.asked == []

    restarted = open_camera(has_closed=lambda stem: any(item.startswith(stem) for item in ledger.state))
    assert restarted.read(0.3) is None
    assert [identity.split("|")[0] for identity in ledger.asked] == ["k0.jpg"]


def test_polling_ten_thousand_kept_files_is_cheap(folder: Path, open_camera: Open) -> None:
    """A look at 10,000 files that were dealt with costs well under a second of processor time."""
    for index in range(10_000):
        (folder / f"{index:05}.jpg").touch()
    camera = open_camera(has_closed=lambda stem: True, settle_s=0.0)
    camera.read(0.0)
    camera.read(0.0)
    started_s = time.process_time()
    assert camera.read(1.0) is None
    assert time.process_time() - started_s < 0.5
