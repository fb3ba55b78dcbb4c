"""`inspector cloud audit`: what left the plant, whether the log of it is whole, and all of it as files."""

from __future__ import annotations

import json
from collections import deque
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from inspector.clock import to_rfc3339
from inspector.cloud.question import read_question
from inspector.errors import InputError, StoreError
from inspector.store.cloud_audit import AuditEntry, AuditReport, stream_audit, verify_audit
from inspector.store.database import DATABASE_FILE, Database
from inspector.store.frames import FrameFiles
from inspector.store.os_errors import named_os_errors

SUFFIXES = {"image/jpeg": ".jpg", "image/png": ".png"}


@dataclass(frozen=True, slots=True)
class AuditSummary:
    """What `cloud audit --json` prints; a log that does not verify raises instead."""

    report: AuditReport
    shown: tuple[AuditEntry, ...]
    exported_to: Path | None

    def to_json(self) -> dict[str, Any]:
        """Plain values; times are RFC 3339."""
        return {
            "rows": self.report.rows,
            "intact": True,
            "tip_hash": self.report.tip_hash,
            "files_checked": self.report.files_checked,
            "files_removed_by_retention": self.report.files_gone,
            "exported_to": str(self.exported_to) if self.exported_to is not None else None,
            "entries": [describe_entry(entry) for entry in self.shown],
        }


def audit_cloud(data_dir: Path, *, station: str | None, last: int, export: Path | None) -> AuditSummary:
    """Verify the whole log, list its `last` rows (of a station), and export everything into a new folder.

    Raises `ChainBrokenError` naming the first row or file that was changed, `StoreError` without a database,
    `InputError` for a folder that exists already.
    """
    if not (data_dir / DATABASE_FILE).is_file():
        raise StoreError(f"{data_dir}: there is no database here; name the service's --data-dir")
    db = Database.open(data_dir)
    try:
        files = FrameFiles(data_dir / "outgoing")
        report = verify_audit(db, lambda key: files.read(key) if files.exists(key) else None)
        shown = tuple(deque(stream_audit(db, station), maxlen=last))
        if export is not None:
            export_audit(db, files, export)
    finally:
        db.close()
    return AuditSummary(report, shown, export)


def export_audit(db: Database, files: FrameFiles, folder: Path) -> None:
    """`audit.jsonl` with every row, and for each file still there a folder with the question and its pictures."""
    with named_os_errors(folder.parent):
        try:
            folder.mkdir(parents=True)
        except FileExistsError as error:
            raise InputError(f"{folder} exists already; an export needs a folder of its own") from error
        with (folder / "audit.jsonl").open("x", encoding="utf-8") as stream:
            for entry in stream_audit(db):
                stream.write(json.dumps(describe_entry(entry), ensure_ascii=False) + "\n")
                if files.exists(entry.departure.payload_key):
                    _export_question(files.read(entry.departure.payload_key), folder / f"{entry.position:08d}")


def describe_entry(entry: AuditEntry) -> dict[str, Any]:
    """A row as plain values."""
    values = asdict(entry.departure)
    sent = to_rfc3339(values.pop("recorded_utc_us"))
    hashes = {"prev_hash": entry.prev_hash, "row_hash": entry.row_hash}
    return {"position": entry.position, "recorded_utc": sent, **values, **hashes}


def _export_question(content: bytes, folder: Path) -> None:
    folder.mkdir()
    (folder / "question.json").write_bytes(content)
    try:
        question = read_question(content)
    except ValueError as error:
        raise StoreError(f"{folder.name}: the recorded question cannot be read: {error}") from error
    for number, image in enumerate(question.images, start=1):
        (folder / f"{number}-{image.role}{SUFFIXES[image.media_type]}").write_bytes(image.content)
