"""A folder into which a camera's FTP drops files: nothing read too early, nothing twice, nothing lost."""

from __future__ import annotations

import io
import multiprocessing
import os
import struct
import time
import zlib
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from inspector.config import CommandTrigger, IntervalTrigger, PartPresentTrigger
from inspector.images import ImageLimits, decode_image, sha256_hex
from inspector.records import PartIdSource
from tests.folder_rig import Ledger, Open, folder_opener, jpeg, names_in, picture, read_frame


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


# --- complete files, and those that are not -----------------------------------------------------------


def test_a_file_is_delivered_once_with_its_own_bytes(folder: Path, open_camera: Open) -> None:
    """The camera's bytes arrive unchanged, under an identity of name, size, mtime and hash."""
    camera = open_camera()
    path = folder / "part-1.jpg"
    path.write_bytes(jpeg())
    frame = read_frame(camera)
    status = path.stat()
    assert frame.encoded == path.read_bytes() and frame.failure is None
    assert frame.source_identity == f"part-1.jpg|{status.st_size}|{status.st_mtime_ns}|{sha256_hex(jpeg())}"
    assert frame.captured_utc_us == status.st_mtime_ns // 1000
    assert camera.read(0.3) is None


def write_slowly(path: str, content: bytes, pause_s: float) -> None:
    """A camera's FTP over a slow line: the file grows in five steps."""
    step = len(content) // 5 + 1
    with Path(path).open("wb", buffering=0) as stream:
        for start in range(0, len(content), step):
            stream.write(content[start : start + step])
            time.sleep(pause_s)


@pytest.mark.parametrize("pause_s", [0.03, 0.13])
def test_a_file_written_slowly_is_taken_when_it_is_complete(folder: Path, open_camera: Open, pause_s: float) -> None:
    """Whether the writer's pauses are shorter or longer than settle_s, half a picture is never delivered."""
    camera = open_camera()
    content = jpeg(1, 640, 480)
    writer = multiprocessing.get_context("spawn").Process(
        target=write_slowly, args=(str(folder / "slow.jpg"), content, pause_s)
    )
    writer.start()
    frame = read_frame(camera)
    writer.join()
    assert frame.failure is None and frame.encoded == content


def test_a_file_renamed_into_place_is_taken_and_its_draft_is_not(folder: Path, open_camera: Open) -> None:
    """Temporary and hidden names, sub-folders and links to nothing do not exist for the camera."""
    camera = open_camera()
    for name in (".hidden.jpg", "a.jpg.tmp", "b.PART", "c.jpg.filepart"):
        (folder / name).write_bytes(jpeg())
    (folder / "sub").mkdir()
    (folder / "sub" / "d.jpg").write_bytes(jpeg())
    (folder / "dangling.jpg").symlink_to(folder / "nowhere.jpg")
    os.mkfifo(folder / "pipe.jpg")
    assert camera.read(0.3) is None
    (folder / "a.jpg.tmp").rename(folder / "a.jpg")
    assert read_frame(camera).source_identity == ledger_identity(folder / "a.jpg")


def ledger_identity(path: Path) -> str:
    status = path.stat()
    return f"{path.name}|{status.st_size}|{status.st_mtime_ns}|{sha256_hex(path.read_bytes())}"


def test_a_truncated_file_fails_after_its_time(folder: Path, open_camera: Open) -> None:
    """A JPEG that never gets its end becomes a failure, not before `incomplete_after_s`, and is moved aside."""
    camera = open_camera()
    started_s = time.monotonic()
    (folder / "cut.jpg").write_bytes(jpeg()[:-40])
    frame = read_frame(camera)
    assert time.monotonic() - started_s >= 0.4
    assert frame.encoded is None and frame.failure is not None and "not complete" in frame.failure
    camera.settle(frame, failed=frame.failure)
    assert names_in(folder) == ["failed/cut.jpg", "failed/cut.jpg.reason.txt"]
    assert (folder / "failed" / "cut.jpg.reason.txt").read_text().strip() == frame.failure


def png_bomb() -> bytes:
    """A small PNG whose header was made to declare 60000 x 60000 px."""
    small = bytes(cv2.imencode(".png", picture())[1])
    header = b"IHDR" + struct.pack(">II", 60_000, 60_000) + small[24:29]
    return small[:12] + header + struct.pack(">I", zlib.crc32(header)) + small[33:]


def animated(media: str) -> bytes:
    target = io.BytesIO()
    first, second = Image.fromarray(picture(0)), Image.fromarray(picture(1))
    first.save(target, media, save_all=True, append_images=[second])
    return target.getvalue()


def cmyk() -> bytes:
    target = io.BytesIO()
    Image.fromarray(picture()).convert("CMYK").save(target, "JPEG")
    return target.getvalue()


BAD_FILES = {
    "empty.jpg": (b"", "zero bytes"),
    "cut.png": (bytes(cv2.imencode(".png", picture())[1])[:-20], "IEND"),
    "notes.jpg": (b"these are not the bytes you are looking for", "not a complete image"),
    "bomb.png": (png_bomb(), "limit of 40000000"),
    "cmyk.jpg": (cmyk(), "CMYK"),
    "moving.gif": (animated("GIF"), "GIF"),
    "moving.webp": (animated("WEBP"), "animation"),
    "moving.png": (animated("PNG"), "animation"),
    "pages.tif": (animated("TIFF"), "multi-page"),
    "huge.bmp": (b"BM" + bytes(2_000_000), "more than the limit of 1000000"),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_a_bad_file_is_a_failure_with_its_reason(folder: Path, open_camera: Open, ledger: Ledger, name: str) -> None:
    """Every unusable file is delivered once as a failure that says why, and set aside with that reason."""
    content, expected = BAD_FILES[name]
    camera = open_camera(limits=ImageLimits(max_bytes=1_000_000))
    (folder / name).write_bytes(content)
    frame = read_frame(camera)
    assert frame.failure is not None and expected in frame.failure
    assert frame.source_identity is not None and frame.source_identity.startswith(f"{name}|{len(content)}|")
    ledger.commit(frame)
    camera.settle(frame, failed=frame.failure)
    assert names_in(folder) == [f"failed/{name}", f"failed/{name}.reason.txt"]
    assert camera.read(0.1) is None


def test_a_bad_file_does_not_hold_up_the_good_ones(folder: Path, open_camera: Open) -> None:
    """While a truncated file has its time, complete files that came later are delivered."""
    camera = open_camera(incomplete_after_s=30.0)
    (folder / "a-cut.jpg").write_bytes(jpeg()[:-40])
    (folder / "b-good.jpg").write_bytes(jpeg(2))
    assert read_frame(camera).encoded == jpeg(2)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_grey_and_16_bit_files_are_delivered(
    folder: Path, open_camera: Open, dtype: type[np.unsignedinteger[Any]]
) -> None:
    """Grey PNG of 8 and of 16 bits are what measuring cameras send: delivered, and they decode."""
    grey = np.full((48, 64), np.iinfo(dtype).max, dtype)
    (folder / "grey.png").write_bytes(bytes(cv2.imencode(".png", np.asarray(grey))[1]))
    frame = read_frame(open_camera())
    assert frame.encoded is not None
    assert decode_image(frame.encoded)[0, 0].tolist() == [255, 255, 255]


def test_a_file_that_vanishes_before_it_was_taken_is_only_reported(folder: Path, open_camera: Open) -> None:
    """Nobody accepted it, so there is no trigger and no failure; health tells that it happened."""
    camera = open_camera(settle_s=0.0)
    (folder / "first.jpg").write_bytes(jpeg(1))
    os.utime(folder / "first.jpg", ns=(10**18, 10**18))
    (folder / "second.jpg").write_bytes(jpeg(2))
    assert read_frame(camera).encoded == jpeg(1)
    (folder / "second.jpg").unlink()
    assert camera.read(0.2) is None
    reason = camera.health().reason
    assert reason is not None and "second.jpg" in reason


def test_a_file_that_cannot_be_read_is_a_failure(folder: Path, open_camera: Open) -> None:
    """A name that is there but gives no bytes is set aside like one that never became complete."""
    camera = open_camera()
    loop = folder / "locked.jpg"
    loop.write_bytes(jpeg())
    loop.chmod(0)
    if os.access(loop, os.R_OK):
        pytest.skip("file permissions do not bind this user")
    frame = read_frame(camera)
    assert frame.failure is not None and "cannot be read" in frame.failure


def test_a_clock_that_jumps_does_not_hide_files(folder: Path, open_camera: Open) -> None:
    """mtimes of 1970 and of the next century are taken like any other; a future capture time is not believed."""
    camera = open_camera()
    for name, second in (("old.jpg", 5), ("future.jpg", 4_102_444_800)):
        (folder / name).write_bytes(jpeg(second % 7))
        os.utime(folder / name, (second, second))
    frames = [read_frame(camera), read_frame(camera)]
    assert [str(frame.source_identity).split("|")[0] for frame in frames] == ["old.jpg", "future.jpg"]
    assert frames[0].captured_utc_us == 5_000_000
    assert frames[1].captured_utc_us <= time.time_ns() // 1000


# --- names ------------------------------------------------------------------------------------------


def test_part_lot_and_attempt_come_from_the_name(folder: Path, open_camera: Open) -> None:
    """The configured pattern reads the stem; an attempt that is no count is the first."""
    camera = open_camera(name_pattern=r"^(?P<lot>L\d+)_(?P<part_id>[^_]+)_(?P<attempt>\w+)$")
    (folder / "L7_Teil-ß12_3.jpg").write_bytes(jpeg(1))
    first = read_frame(camera)
    (folder / "L8_X_again.jpg").write_bytes(jpeg(2))
    second = read_frame(camera)
    (folder / "unnamed.jpg").write_bytes(jpeg(3))
    third = read_frame(camera)
    assert (first.lot, first.part_id, first.attempt) == ("L7", "Teil-ß12", 3)
    assert (second.lot, second.part_id, second.attempt) == ("L8", "X", 1)
    assert (third.lot, third.part_id, third.attempt) == (None, None, 1)
    assert first.part_id_source is PartIdSource.FILE_NAME and third.part_id_source is PartIdSource.NONE


def test_only_matching_names_are_images(folder: Path, open_camera: Open) -> None:
    """The glob chooses, in any letter case."""
    camera = open_camera(pattern="*.jpg")
    (folder / "side.xml").write_text("<x/>")
    (folder / "A.JPG").write_bytes(jpeg())
    assert str(read_frame(camera).source_identity).startswith("A.JPG|")
    assert camera.read(0.2) is None


def test_a_name_that_is_not_utf_8_is_text_in_the_identity(folder: Path, open_camera: Open, ledger: Ledger) -> None:
    """Any database takes the identity, and the file is still found when it is settled."""
    path = os.fsencode(folder) + b"/t\xe9il.jpg"
    Path(os.fsdecode(path)).write_bytes(jpeg())
    camera = open_camera(after="delete")
    frame = read_frame(camera)
    identity = ledger.accept(frame)
    identity.encode("utf-8")
    assert camera.still_has(identity)
    camera.settle(frame)
    assert names_in(folder) == []


def test_files_are_delivered_in_order_of_mtime_then_name(folder: Path, open_camera: Open) -> None:
    """A backlog comes in the order in which the camera wrote it."""
    for name, moment in (("c", 1), ("a", 3), ("z", 2), ("b", 2)):
        (folder / f"{name}.jpg").write_bytes(jpeg(ord(name)))
        os.utime(folder / f"{name}.jpg", ns=(moment * 10**18, moment * 10**18))
    camera = open_camera()
    assert [str(read_frame(camera).source_identity)[0] for _ in range(4)] == ["c", "b", "z", "a"]


def test_a_name_used_again_is_a_new_part(folder: Path, open_camera: Open, ledger: Ledger) -> None:
    """Cameras reuse names: new content under an old name is delivered, and the old one's settling leaves it alone."""
    camera = open_camera(after="move")
    path = folder / "image.jpg"
    path.write_bytes(jpeg(1))
    first = read_frame(camera)
    path.write_bytes(jpeg(2))
    ledger.commit(first)
    camera.settle(first)
    assert path.read_bytes() == jpeg(2)
    second = read_frame(camera)
    assert second.encoded == jpeg(2) and second.source_identity != first.source_identity
    camera.settle(second)
    path.write_bytes(jpeg(3))
    third = read_frame(camera)
    camera.settle(third)
    moved = [(folder / name).read_bytes() for name in names_in(folder)]
    assert sorted(moved) == sorted([jpeg(2), jpeg(3)])


def test_the_same_size_and_mtime_do_not_hide_new_content(folder: Path, open_camera: Open) -> None:
    """On shares with coarse times a rewritten bitmap keeps size and mtime; it is a new part all the same."""
    camera = open_camera()
    path = folder / "image.bmp"
    for seed in (1, 2):
        content = bytes(cv2.imencode(".bmp", picture(seed))[1])
        path.write_bytes(content)
        os.utime(path, (1_700_000_000, 1_700_000_000))
        assert read_frame(camera).encoded == content


def test_touching_a_file_that_is_being_inspected_does_not_repeat_it(folder: Path, open_camera: Open) -> None:
    """A chmod while the verdict is under way changes no identity and delivers nothing."""
    camera = open_camera()
    path = folder / "image.jpg"
    path.write_bytes(jpeg())
    read_frame(camera)
    path.chmod(0o600)
    assert camera.read(0.3) is None


# --- back-pressure, triggers, health ------------------------------------------------------------------


def test_newest_gives_older_files_up_under_their_own_identity(folder: Path, open_camera: Open) -> None:
    """Files that waited too long are failures that can be counted; only the newest is inspected."""
    for index in range(4):
        (folder / f"n{index}.jpg").write_bytes(jpeg(index))
        os.utime(folder / f"n{index}.jpg", ns=(10**18 + index, 10**18 + index))
    camera = open_camera(backpressure="newest")
    frames = [read_frame(camera) for _ in range(4)]
    assert ["newer frame" in str(frame.failure) for frame in frames] == [True, True, True, False]
    assert frames[3].encoded == jpeg(3) and len({frame.source_identity for frame in frames}) == 4
    assert camera.health().dropped == 3 and camera.take_dropped() == 0


def test_command_takes_the_next_file_only(folder: Path, open_camera: Open) -> None:
    """Files from before the start and without a command are no parts; the one after a command is."""
    (folder / "before.jpg").write_bytes(jpeg(0))
    camera = open_camera(trigger=CommandTrigger(frame_timeout_s=30.0), after="move")
    camera.arm()
    assert camera.read(0.3) is None
    (folder / "commanded.jpg").write_bytes(jpeg(1))
    assert read_frame(camera).encoded == jpeg(1)
    (folder / "uncommanded.jpg").write_bytes(jpeg(2))
    assert camera.read(0.3) is None
    assert names_in(folder) == ["commanded.jpg", "done/before.jpg", "done/uncommanded.jpg"]


def test_a_broken_file_that_nobody_commanded_is_no_trigger(folder: Path, open_camera: Open) -> None:
    """It is set aside with its reason, and the sums do not get a part that was never announced."""
    camera = open_camera(trigger=CommandTrigger())
    assert camera.read(0.05) is None
    (folder / "moving.gif").write_bytes(animated("GIF"))
    assert camera.read(0.4) is None
    assert names_in(folder) == ["failed/moving.gif", "failed/moving.gif.reason.txt"]


def test_part_present_looks_at_the_pixels_of_files(folder: Path, open_camera: Open, ledger: Ledger) -> None:
    """A camera that drops a file a second: the files with a part at rest are parts, once."""
    camera = open_camera(trigger=PartPresentTrigger(empty_frames=2, settle_frames=1))
    empty, part = np.full((48, 64, 3), 40, np.uint8), np.full((48, 64, 3), 200, np.uint8)
    assert camera.read(0.05) is None
    delivered = []
    for index, pixels in enumerate([empty, empty, empty, part, part, part, empty]):
        (folder / f"{index}.png").write_bytes(bytes(cv2.imencode(".png", pixels)[1]))
        looked_at = len(ledger.asked)
        frame = None
        while len(ledger.asked) == looked_at:
            frame = camera.read(0.02)
        if frame is not None:
            delivered.append(index)
    assert delivered == [4]


def test_interval_applies_to_files(folder: Path, open_camera: Open) -> None:
    """With a long interval only the first of two files is a part."""
    camera = open_camera(trigger=IntervalTrigger(interval_s=600.0))
    assert camera.read(0.05) is None
    for index in range(2):
        (folder / f"{index}.jpg").write_bytes(jpeg(index))
    assert read_frame(camera).encoded is not None
    assert camera.read(0.3) is None


def test_a_folder_that_is_away_is_waited_for(folder: Path, open_camera: Open, ledger: Ledger) -> None:
    """A share that is not mounted is shown as disconnected; what lies on it when it comes is delivered."""
    folder.rmdir()
    camera = open_camera()
    assert camera.read(0.05) is None
    health = camera.health()
    assert not health.connected and "No such file or directory" in str(health.reason)
    assert camera.still_has("later.jpg|1|2|3")
    folder.mkdir()
    (folder / "later.jpg").write_bytes(jpeg())
    frames = [read_frame(camera), read_frame(camera)]
    assert {frame.failure is None for frame in frames} == {True, False}
    assert camera.health().connected
    assert not camera.exhausted()


def test_health_measures_what_was_delivered(folder: Path, open_camera: Open) -> None:
    """Level and focus come from the files themselves."""
    camera = open_camera()
    (folder / "grey.png").write_bytes(bytes(cv2.imencode(".png", np.full((48, 64, 3), 90, np.uint8))[1]))
    read_frame(camera)
    health = camera.health()
    assert health.level == pytest.approx(90.0, abs=1.0) and health.focus == pytest.approx(0.0, abs=1.0)
    assert health.connected and health.reason is None and health.last_frame_age_s is not None


def test_read_returns_in_time(open_camera: Open) -> None:
    """An empty folder costs the time that was offered, no more."""
    camera = open_camera(poll_s=5.0)
    started_s = time.monotonic()
    assert camera.read(0.1) is None
    assert 0.1 <= time.monotonic() - started_s < 1.0
