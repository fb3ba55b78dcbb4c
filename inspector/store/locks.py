"""File locks that the kernel releases when their holder dies."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from inspector.errors import DataDirLockedError
from inspector.store.os_errors import named_os_errors


@contextmanager
def lock_data_dir(data_dir: Path, name: str = "service") -> Iterator[None]:
    """Hold `data_dir`/`name`.lock; `DataDirLockedError` names the process that already holds it.

    Two holders in one process exclude each other too. Children never inherit the lock: it is closed
    on exec and in the child of a fork, so a killed holder's children do not keep it.
    """
    with named_os_errors(data_dir):
        data_dir.mkdir(parents=True, exist_ok=True)
    with _hold(data_dir / f"{name}.lock", blocking=False) as held:
        os.ftruncate(held[0], 0)
        os.pwrite(held[0], b"%d\n" % os.getpid(), 0)
        os.register_at_fork(after_in_child=partial(_close, held))
        yield


@contextmanager
def wait_for_lock(path: Path) -> Iterator[None]:
    """Hold the lock file `path`, waiting for whoever has it now."""
    with _hold(path, blocking=True):
        yield


@contextmanager
def _hold(path: Path, *, blocking: bool) -> Iterator[list[int]]:
    """Yields the open descriptor in a list that is empty once it is closed."""
    with named_os_errors(path.parent):
        held = [os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)]
    try:
        try:
            fcntl.flock(held[0], fcntl.LOCK_EX | (0 if blocking else fcntl.LOCK_NB))
        except BlockingIOError as error:
            raise DataDirLockedError(_describe_holder(path, held[0])) from error
        yield held
    finally:
        _close(held)


def _close(held: list[int]) -> None:
    """Close once. In the child of a fork this leaves the parent's lock alone."""
    while held:
        os.close(held.pop())


def _describe_holder(path: Path, descriptor: int) -> str:
    pid = os.pread(descriptor, 32, 0).decode("ascii", "replace").strip() or "unknown"
    return (
        f"{path.parent} is in use: process {pid} holds {path.name}; "
        "stop it first or give this service a data directory of its own"
    )
