"""Files of recipes: read with bounds, written so that they exist wholly or not at all."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path

from inspector.errors import DataDirReadOnlyError, DiskFullError, RecipeTamperedError, StoreError


def read_bounded(path: Path, owner: str, limit: int) -> bytes:
    """The bytes of a file; `RecipeTamperedError` naming it for one that is larger than `limit` or cannot be read."""
    try:
        if path.stat().st_size > limit:
            raise RecipeTamperedError(f"{owner}: {path.name} is larger than any recipe file")
        return path.read_bytes()
    except OSError as error:
        raise RecipeTamperedError(f"{owner}: {path.name} cannot be read: {error.strerror}") from error


def write_synced(path: Path, content: bytes, mode: int) -> None:
    """Write a new file and sync it; `mode` are its permissions."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
    with os.fdopen(descriptor, "wb") as stream:
        stream.write(content)
        stream.flush()
        os.fchmod(stream.fileno(), mode)
        os.fsync(stream.fileno())


def replace_file(path: Path, content: bytes) -> None:
    """Write a file anew so that a reader finds the old content or the new one."""
    temporary = path.with_name(f".{path.name}.new")
    temporary.unlink(missing_ok=True)
    write_synced(temporary, content, 0o644)
    temporary.replace(path)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def disk_errors(folder: Path) -> Iterator[None]:
    """Name what the disk refuses."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DiskFullError(f"no space left for a recipe in {folder}") from error
        if error.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
            raise DataDirReadOnlyError(f"{folder} cannot be written: {error.strerror}") from error
        raise StoreError(f"{folder}: {error.strerror}") from error
