"""An inspection as it lies in the database, with everything that belongs to it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Select, select
from sqlalchemy.orm import Session

from inspector.records import Detection, Provenance, RecipeRef, Thresholds, Trigger, Verdict, VerdictKind
from inspector.store.rows import trigger_from_row
from inspector.store.tables import DetectionRow, EvidenceRow, InspectionRow, TriggerRow

LOAD_BATCH = 500


@dataclass(frozen=True, slots=True)
class StoredEvidence:
    """State (`pending`, `done`, `failed`) and keys of the pictures made for an inspection."""

    state: str
    attempts: int
    visual_key: str | None
    twin_key: str | None
    thumbnail_key: str | None
    twin_method: str | None
    reason: str | None
    queued_utc_us: int
    finished_utc_us: int | None


@dataclass(frozen=True, slots=True)
class StoredInspection:
    """A committed inspection. `frame_key` may name a picture that retention has removed since."""

    inspection_id: str
    trigger: Trigger
    camera: str
    view: str
    instance: int
    verdict: Verdict
    late: bool
    captured_utc_us: int | None
    decided_utc_us: int
    provenance: Provenance
    recipe: RecipeRef | None
    frame_sha256: str | None
    frame_key: str | None
    frame_width_px: int | None
    frame_height_px: int | None
    mm_per_px: float | None
    calibration_id: str | None
    registration_confidence: float | None
    timings_ms: dict[str, float]
    truth: dict[str, Any] | None
    chain_index: int
    prev_hash: str
    row_hash: str
    evidence: StoredEvidence | None

    @property
    def station(self) -> str:
        return self.trigger.station

    @property
    def kind(self) -> VerdictKind:
        return self.verdict.kind

    @property
    def detections(self) -> tuple[Detection, ...]:
        """Worst first."""
        return self.verdict.detections


def load_stored(session: Session, wanted: Select[InspectionRow]) -> list[StoredInspection]:
    """The selected inspections in the order of the query, with trigger, detections and evidence."""
    rows = session.scalars(wanted).all()
    found: list[StoredInspection] = []
    for start in range(0, len(rows), LOAD_BATCH):
        found.extend(_load_batch(session, rows[start : start + LOAD_BATCH]))
    return found


def _load_batch(session: Session, rows: Sequence[InspectionRow]) -> list[StoredInspection]:
    ids = [row.inspection_id for row in rows]
    triggers = session.scalars(select(TriggerRow).where(TriggerRow.trigger_id.in_({row.trigger_id for row in rows})))
    by_trigger = {row.trigger_id: trigger_from_row(row) for row in triggers}
    detections = _load_detections(session, ids)
    evidence = session.scalars(select(EvidenceRow).where(EvidenceRow.inspection_id.in_(ids)))
    by_inspection = {row.inspection_id: _evidence(row) for row in evidence}
    return [
        _stored(
            row,
            by_trigger[row.trigger_id],
            detections.get(row.inspection_id, ()),
            by_inspection.get(row.inspection_id),
        )
        for row in rows
    ]


def _load_detections(session: Session, ids: Sequence[str]) -> dict[str, tuple[Detection, ...]]:
    rows: Iterable[DetectionRow] = session.scalars(
        select(DetectionRow)
        .where(DetectionRow.inspection_id.in_(ids))
        .order_by(DetectionRow.inspection_id, DetectionRow.rank)
    )
    found: dict[str, list[Detection]] = {}
    for row in rows:
        box = (row.x0_px, row.y0_px, row.x1_px, row.y1_px)
        detection = Detection(box, row.score, row.name, row.area_px, row.name_confidence, row.size_px, row.region)
        found.setdefault(row.inspection_id, []).append(detection)
    return {inspection_id: tuple(detections) for inspection_id, detections in found.items()}


def _evidence(row: EvidenceRow) -> StoredEvidence:
    return StoredEvidence(
        state=row.state,
        attempts=row.attempts,
        visual_key=row.visual_key,
        twin_key=row.twin_key,
        thumbnail_key=row.thumbnail_key,
        twin_method=row.twin_method,
        reason=row.reason,
        queued_utc_us=row.queued_utc_us,
        finished_utc_us=row.finished_utc_us,
    )


def _stored(
    row: InspectionRow, trigger: Trigger, detections: tuple[Detection, ...], evidence: StoredEvidence | None
) -> StoredInspection:
    thresholds = None
    if row.review_threshold is not None and row.ng_threshold is not None:
        thresholds = Thresholds(row.review_threshold, row.ng_threshold)
    recipe = None
    if row.recipe_name is not None and row.recipe_version is not None and row.recipe_sha256 is not None:
        recipe = RecipeRef(row.recipe_name, row.recipe_version, row.recipe_sha256)
    return StoredInspection(
        inspection_id=row.inspection_id,
        trigger=trigger,
        camera=row.camera,
        view=row.view,
        instance=row.instance,
        verdict=Verdict(VerdictKind(row.verdict), row.score, thresholds, detections, tuple(row.reasons)),
        late=row.late,
        captured_utc_us=row.captured_utc_us,
        decided_utc_us=row.decided_utc_us,
        provenance=Provenance(row.software_version, row.config_sha256),
        recipe=recipe,
        frame_sha256=row.frame_sha256,
        frame_key=row.frame_key,
        frame_width_px=row.frame_width_px,
        frame_height_px=row.frame_height_px,
        mm_per_px=row.mm_per_px,
        calibration_id=row.calibration_id,
        registration_confidence=row.registration_confidence,
        timings_ms=dict(row.timings_ms),
        truth=row.truth,
        chain_index=row.chain_index,
        prev_hash=row.prev_hash,
        row_hash=row.row_hash,
        evidence=evidence,
    )
