"""Which files of a folder have come to rest and were not dealt with yet. Polls: a share tells nobody of new files."""

from __future__ import annotations

import fnmatch
import os
import re
import stat
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

TEMPORARY_SUFFIXES = (".tmp", ".part", ".filepart")


class FileState(NamedTuple):
    """What changes when a file is written or replaced. `ctime_ns` catches what a coarse mtime hides.

    A tuple, because a look at a folder makes one for each of thousands of files.
    """

    size: int
    mtime_ns: int
    ctime_ns: int


@dataclass(frozen=True, slots=True)
class FoundFile:
    """A file that rests since `resting_s` seconds."""

    name: str
    state: FileState
    resting_s: float


@dataclass(slots=True)
class _Sighting:
    state: FileState
    since_s: float
    looked_at_s: float | None = None


class FolderWatch:
    """Looks at a folder again and again; one thread. `pattern` is a glob over names, in any letter case.

    Hidden and temporary files, sub-folders and whatever is not a regular file do not exist for it.

    A file is offered when size, mtime and ctime rest for `settle_s`. What becomes of it is said with
    `dismiss` (dealt with: not offered again until it changes) or `postpone` (not complete: offered
    again when it changed or once `incomplete_after_s` have passed without a change).
    """

    def __init__(
        self,
        path: Path,
        pattern: str,
        settle_s: float,
        incomplete_after_s: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._path = path
        self._is_wanted = re.compile(fnmatch.translate(pattern), re.IGNORECASE).match
        self._settle_s = settle_s
        self._incomplete_after_s = incomplete_after_s
        self._clock = clock
        self._waiting: dict[str, _Sighting] = {}
        self._dismissed: dict[str, FileState] = {}

    def scan(self) -> list[FoundFile]:
        """The files to be looked at now, oldest first by (mtime, name). `OSError` when the folder cannot be listed."""
        now = self._clock()
        present = self._list_states()
        for gone in self.names() - present.keys():
            self._dismissed.pop(gone, None)
            self._waiting.pop(gone, None)
        found = []
        for name, state in present.items():
            if self._dismissed.get(name) == state:
                continue
            sighting = self._waiting.get(name)
            if sighting is None or sighting.state != state:
                sighting = self._waiting[name] = _Sighting(state, now)
            if self._is_due(sighting, now):
                found.append(FoundFile(name, state, now - sighting.since_s))
        return sorted(found, key=lambda file: (file.state.mtime_ns, file.name))

    def names(self) -> set[str]:
        """The files that the last look found, whether dealt with or not."""
        return {*self._waiting, *self._dismissed}

    def is_dismissed(self, name: str, state: FileState | None) -> bool:
        """Whether this state of the file was dealt with."""
        return state is not None and self._dismissed.get(name) == state

    def dismiss(self, name: str, state: FileState) -> None:
        """Dealt with in this state."""
        self._waiting.pop(name, None)
        self._dismissed[name] = state

    def postpone(self, name: str) -> None:
        """Not complete yet."""
        sighting = self._waiting.get(name)
        if sighting is not None:
            sighting.looked_at_s = self._clock()

    def read_state(self, name: str) -> FileState | None:
        """The state now, None when there is no such file."""
        try:
            status = (self._path / name).stat()
        except OSError:
            return None
        return _state_of(status)

    def _is_due(self, sighting: _Sighting, now: float) -> bool:
        rested_s = now - sighting.since_s
        if sighting.looked_at_s is not None:
            return rested_s >= self._incomplete_after_s
        return rested_s >= self._settle_s

    def _list_states(self) -> dict[str, FileState]:
        states = {}
        with os.scandir(self._path) as entries:
            for entry in entries:
                if not self._is_candidate(entry.name):
                    continue
                try:
                    status = entry.stat()
                except OSError:
                    continue  # removed since it was listed
                if stat.S_ISREG(status.st_mode):
                    states[entry.name] = _state_of(status)
        return states

    def _is_candidate(self, name: str) -> bool:
        if name[0] == "." or name.lower().endswith(TEMPORARY_SUFFIXES):
            return False
        return self._is_wanted(name) is not None


def _state_of(status: os.stat_result) -> FileState:
    return FileState(status.st_size, status.st_mtime_ns, status.st_ctime_ns)
