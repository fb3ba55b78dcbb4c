"""Free space, watched with hysteresis so that the station does not flutter at the limit."""

from __future__ import annotations

import shutil
from enum import StrEnum
from pathlib import Path

from inspector.store.os_errors import named_os_errors

RECOVERY = 1.1
"""Low ends only above this multiple of the limit."""


class DiskState(StrEnum):
    """Whether the station may take further parts."""

    OK = "ok"
    LOW = "low"


def free_mb(path: Path) -> float:
    """Space that this user may still fill, in MB (10^6 bytes); `path` or its nearest existing parent."""
    while not path.exists() and path != path.parent:
        path = path.parent
    with named_os_errors(path):
        return shutil.disk_usage(path).free / 1e6


def next_disk_state(state: DiskState, free: float, min_free_mb: float) -> DiskState:
    """LOW below `min_free_mb`; OK again from 1.1 times that."""
    limit = min_free_mb * (RECOVERY if state is DiskState.LOW else 1.0)
    return DiskState.LOW if free < limit else DiskState.OK


class DiskWatch:
    """Remembers the state of one directory's disk."""

    def __init__(self, path: Path, min_free_mb: float) -> None:
        self._path = path
        self.min_free_mb = min_free_mb
        self._state = DiskState.OK

    def check(self) -> DiskState:
        """Look at the disk now."""
        self._state = next_disk_state(self._state, free_mb(self._path), self.min_free_mb)
        return self._state

    def is_low(self) -> bool:
        return self.check() is DiskState.LOW
