"""`inspector review`: what a person found about one inspection, and the disposition of its part that follows."""

from __future__ import annotations

import os
import pwd
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from inspector.clock import UtcClock, utc_now_us
from inspector.config import MqttConfig
from inspector.detector.naming import check_name
from inspector.errors import InputError, StoreError
from inspector.mqtt.messages import disposition_message
from inspector.records import Message, VerdictKind
from inspector.store.database import DATABASE_FILE, Database
from inspector.store.inspections import load_inspection
from inspector.store.reviews import add_disposition, add_review, current_disposition, judge_part, make_disposition_id
from inspector.store.stored import StoredInspection

FINDINGS = {"good": VerdictKind.OK, "defect": VerdictKind.NG}
LONGEST_REVIEWER = 80
LONGEST_NOTE = 1000


@dataclass(frozen=True, slots=True)
class ReviewReport:
    """What `review --json` prints. `disposition` is REVIEW while views of the part wait for a person."""

    review_id: str
    inspection_id: str
    trigger_id: str
    part_id: str | None
    verdict: VerdictKind
    finding: str
    reviewer: str
    disposition: VerdictKind
    defect_name: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "review_id": self.review_id,
            "inspection_id": self.inspection_id,
            "trigger_id": self.trigger_id,
            "part_id": self.part_id,
            "verdict": self.verdict.value,
            "finding": self.finding,
            "defect_name": self.defect_name,
            "reviewer": self.reviewer,
            "disposition": self.disposition.value,
        }


def review_inspection(
    inspection_id: str,
    finding: str,
    data_dir: Path,
    *,
    reviewer: str | None = None,
    note: str | None = None,
    defect_name: str | None = None,
    topic_root: str | None = None,
    clock: UtcClock = utc_now_us,
) -> ReviewReport:
    """Record a review, `good` or `defect`, and the disposition with its message once the part's views allow one.

    Reviewing again adds a review; the newest counts. Killed between the two, the review stands and reviewing again
    completes it. `defect_name` says what the inspection's worst region shows. Raises `InputError` for another finding,
    an unusable name or note, or the name of a defect that was not found, `StoreError` for an inspection that is not
    there.
    """
    if finding not in FINDINGS:
        raise InputError(f"finding {finding[:40]!r}: say good or defect")
    reviewer = _check_text("name", reviewer if reviewer is not None else _user_name(), LONGEST_REVIEWER)
    if defect_name is not None:
        defect_name = _check_defect_name(defect_name, finding)
    comment = None if note is None else _check_text("note", note, LONGEST_NOTE)
    if not (data_dir / DATABASE_FILE).is_file():
        raise StoreError(f"{data_dir}: there is no database here; name the service's --data-dir")
    db = Database.open(data_dir)
    try:
        inspection = load_inspection(db, inspection_id)
        trigger_id, now_us = str(inspection.trigger.trigger_id), clock()
        review_id = add_review(
            db,
            inspection_id,
            reviewer=reviewer,
            finding=FINDINGS[finding].value,
            defect_name=defect_name,
            comment=comment,
            now_us=now_us,
        )
        truth = judge_part(db, trigger_id)
        # A part that waits for further views keeps the verdict it has, unless an earlier review said otherwise.
        if truth is not VerdictKind.REVIEW or current_disposition(db, trigger_id) is not None:
            message = _announce(inspection, truth, review_id, now_us, topic_root or MqttConfig().topic_root)
            add_disposition(
                db, trigger_id, truth.value, cause="review", cause_id=review_id, messages=[message], now_us=now_us
            )
    finally:
        db.close()
    return ReviewReport(
        review_id=review_id,
        inspection_id=inspection_id,
        trigger_id=trigger_id,
        part_id=inspection.trigger.part_id,
        verdict=inspection.kind,
        finding=finding,
        reviewer=reviewer,
        disposition=truth,
        defect_name=defect_name,
    )


def _check_defect_name(name: str, finding: str) -> str:
    if finding != "defect":
        raise InputError(f"a good part has no defect to call {name[:40]!r}")
    problem = check_name(name.strip())
    if problem is not None:
        raise InputError(problem)
    return name.strip()


def _announce(
    inspection: StoredInspection, truth: VerdictKind, review_id: str, now_us: int, topic_root: str
) -> Message:
    trigger = inspection.trigger
    return disposition_message(
        topic_root=topic_root,
        station=inspection.station,
        disposition_id=make_disposition_id(str(trigger.trigger_id), "review", review_id),
        trigger_id=str(trigger.trigger_id),
        disposition=truth.value,
        cause="review",
        cause_id=review_id,
        decided_utc_us=now_us,
        inspection_id=inspection.inspection_id,
        sequence=trigger.sequence,
        part_id=trigger.part_id,
    )


def _check_text(what: str, text: str, longest: int) -> str:
    stripped = text.strip()
    if not stripped or len(stripped) > longest or not stripped.isprintable():
        raise InputError(f"the {what} must have 1 to {longest} printable characters")
    return stripped


def _user_name() -> str:
    """The account this runs as; containers may have a user without a name."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return f"uid {os.getuid()}"
