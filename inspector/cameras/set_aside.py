"""Moving files out of the way once they are dealt with: by atomic renames, never over another file."""

from __future__ import annotations

import os
from pathlib import Path

DONE_FOLDER = "done"
FAILED_FOLDER = "failed"
REASON_SUFFIX = ".reason.txt"
LONGEST_STEM_BYTES = 180


def move_to_done(path: Path) -> Path:
    """Rename into `done/` beside the file; returns the new path. `OSError` when it cannot."""
    folder = path.parent / DONE_FOLDER
    folder.mkdir(exist_ok=True)
    target = _free_path(folder, path)
    path.rename(target)
    return target


def move_to_failed(path: Path, reason: str) -> Path:
    """Rename into `failed/` with NAME.reason.txt beside it, which is written first; returns the new path."""
    folder = path.parent / FAILED_FOLDER
    folder.mkdir(exist_ok=True)
    target = _free_path(folder, path)
    note = target.with_name(target.name + REASON_SUFFIX)
    draft = note.with_name(f".{note.name}.tmp")
    draft.write_text(reason + "\n", encoding="utf-8", errors="backslashreplace")
    draft.replace(note)
    path.rename(target)
    return target


def _free_path(folder: Path, path: Path) -> Path:
    """The same name if it is free, else with the file's mtime, else counted: cameras reuse names for ever."""
    stem = os.fsdecode(os.fsencode(path.stem)[:LONGEST_STEM_BYTES])
    suffix = path.suffix if len(path.suffix) <= 16 else ""
    stamped = f"{stem}~{path.stat().st_mtime_ns}"
    target = folder / (stem + suffix)
    count = 0
    while os.path.lexists(target):
        target = folder / (f"{stamped}~{count}{suffix}" if count else stamped + suffix)
        count += 1
    return target
