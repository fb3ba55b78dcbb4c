"""Pictures on disk, beside the database: written, synced, renamed, so that a name always means whole bytes.

Frames lie under `frames/`, everything made by us under `evidence/`: two roots, one class.
"""

from __future__ import annotations

import os
import re
import time
import uuid
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from inspector.errors import StoreError
from inspector.store.os_errors import named_os_errors

TEMPORARY_PREFIX = ".writing-"
EMPTY_FOLDER_KEPT_S = 3600.0
_SUFFIX = re.compile(r"[-_a-z0-9]{0,24}\.[a-z0-9]{1,5}")
_SEGMENT = re.compile(r"[a-z0-9][-_.a-z0-9]{0,127}")


@dataclass(frozen=True, slots=True)
class PictureFile:
    """A file under a root. `key` is None for what a killed writer left behind."""

    path: Path
    key: str | None
    size_bytes: int
    mtime_us: int


def frame_key(station: str, decided_utc_us: int, inspection_id: str | uuid.UUID, suffix: str) -> str:
    """`site/line/station/YYYY-MM-DD/HH/<inspection id><suffix>`, for example with `.jpg` or `-visual.jpg`.

    Built from ids and a time alone; `ValueError` when one of them is not what it claims to be.
    """
    if not _SUFFIX.fullmatch(suffix):
        raise ValueError(f"{suffix!r} is not a suffix such as .jpg or -visual.jpg")
    name = f"{uuid.UUID(str(inspection_id))}{suffix}"
    moment = datetime.fromtimestamp(decided_utc_us // 1_000_000, UTC)
    key = f"{station}/{moment:%Y-%m-%d/%H}/{name}"
    _check_key(key)
    return key


class FrameFiles:
    """Files under one root, addressed by relative POSIX keys."""

    def __init__(self, root: Path) -> None:
        self._root = root

    @property
    def root(self) -> Path:
        return self._root

    def write(self, key: str, content: bytes) -> None:
        """Store whole or not at all; when this returns, a power cut does not undo it. Overwrites.

        Raises `DiskFullError`, `DataDirReadOnlyError` or `StoreError`.
        """
        target = self.path(key)
        with named_os_errors(self._root):
            try:
                _write_synced(target, content)
            except FileNotFoundError:  # retention removed the empty folder in between
                _write_synced(target, content)

    def read(self, key: str) -> bytes:
        """`StoreError` when the picture is not there (any more)."""
        path = self.path(key)
        try:
            return path.read_bytes()
        except OSError as error:
            raise StoreError(f"{key}: {error.strerror}; retention may have removed it") from error

    def exists(self, key: str) -> bool:
        return self.path(key).is_file()

    def path(self, key: str) -> Path:
        """Where a key lies; `StoreError` for a key that would leave the root."""
        try:
            _check_key(key)
        except ValueError as error:
            raise StoreError(str(error)) from error
        path = self._root / key
        if not path.resolve().is_relative_to(self._root.resolve()):
            raise StoreError(f"{key!r} leads out of {self._root}")
        return path

    def delete(self, key: str) -> bool:
        """False when it was gone already."""
        return delete_picture(self.path(key))

    def pictures(self) -> Iterator[PictureFile]:
        """Every file that this class wrote, and what killed writers left; strangers' files are passed over."""
        for folder, _, names in os.walk(self._root):
            for name in names:
                path = Path(folder, name)
                key = path.relative_to(self._root).as_posix()
                temporary = name.startswith(TEMPORARY_PREFIX)
                if not temporary and not _is_picture_key(key):
                    continue
                with suppress(FileNotFoundError):
                    status = path.stat()
                    yield PictureFile(path, None if temporary else key, status.st_size, status.st_mtime_ns // 1000)

    def remove_empty_folders(self) -> None:
        """Folders that retention emptied more than an hour ago; younger ones may be about to be written to."""
        for folder, _, _ in os.walk(self._root, topdown=False):
            path = Path(folder)
            with suppress(OSError):  # not empty, or gone
                if path != self._root and time.time() - path.stat().st_mtime > EMPTY_FOLDER_KEPT_S:
                    path.rmdir()


def delete_picture(path: Path) -> bool:
    """Remove a file; False when it was gone already."""
    with named_os_errors(path):
        try:
            path.unlink()
        except FileNotFoundError:
            return False
    return True


def picture_inspection_id(key: str) -> str:
    """The inspection that a picture belongs to, from its key."""
    return key.rsplit("/", 1)[1][:36]


def _check_key(key: str) -> None:
    if len(key) > 512 or not all(_SEGMENT.fullmatch(segment) for segment in key.split("/")):
        raise ValueError(f"{key!r} is not a key of this store")


def _is_picture_key(key: str) -> bool:
    try:
        _check_key(key)
        uuid.UUID(picture_inspection_id(key))
    except (ValueError, IndexError):
        return False
    return True


def _write_synced(target: Path, content: bytes) -> None:
    _make_folders(target.parent)
    temporary = target.with_name(f"{TEMPORARY_PREFIX}{uuid.uuid4().hex}")
    try:
        with temporary.open("xb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(target)
    except BaseException:
        with suppress(OSError):
            temporary.unlink()
        raise
    _sync_folder(target.parent)


def _make_folders(folder: Path) -> None:
    """Create what is missing and sync each parent, so that the new names survive a power cut."""
    missing = []
    while not folder.is_dir():
        missing.append(folder)
        folder = folder.parent
    for path in reversed(missing):
        path.mkdir(exist_ok=True)
        _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
