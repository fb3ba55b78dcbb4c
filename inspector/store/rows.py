"""Rows of the database as records, and records as values for a row."""

from __future__ import annotations

import json
import math
from typing import Any

from sqlalchemy import Row

from inspector.records import Inspection, Message, PartIdSource, Purpose, Trigger
from inspector.store.canonical_json import canonical_json
from inspector.store.tables import OutboxRow, TriggerRow


def storable(value: str) -> str:
    """Text that SQLite can hold: lone surrogates, as undecodable file names have them, are written as \\udc80."""
    return value.encode("utf-8", "backslashreplace").decode("utf-8")


def trigger_values(trigger: Trigger) -> dict[str, Any]:
    """A freshly accepted trigger as column values."""
    return {
        "trigger_id": str(trigger.trigger_id),
        "station": trigger.station,
        "epoch": trigger.epoch,
        "sequence": trigger.sequence,
        "accepted_utc_us": trigger.accepted_utc_us,
        "cameras": list(trigger.cameras),
        "purpose": trigger.purpose.value,
        "part_id": trigger.part_id,
        "part_id_source": trigger.part_id_source.value,
        "lot": trigger.lot,
        "attempt": trigger.attempt,
        "source_identity": trigger.source_identity,
        "request_id": trigger.request_id,
        "closed": False,
        "verdict": None,
        "late": False,
    }


def trigger_from_row(row: TriggerRow | Row[Any]) -> Trigger:
    return Trigger(
        station=row.station,
        epoch=row.epoch,
        sequence=row.sequence,
        accepted_utc_us=row.accepted_utc_us,
        cameras=tuple(row.cameras),
        purpose=Purpose(row.purpose),
        part_id=row.part_id,
        part_id_source=PartIdSource(row.part_id_source),
        lot=row.lot,
        attempt=row.attempt,
        source_identity=row.source_identity,
        request_id=row.request_id,
    )


def inspection_values(inspection: Inspection) -> dict[str, Any]:
    """An inspection as column values, without its place in the chain.

    Numbers become plain ints and floats (NumPy scalars would be stored as blobs); `ValueError` for NaN and
    infinity, which SQLite cannot hold.
    """
    verdict, recipe, trigger = inspection.verdict, inspection.recipe, inspection.trigger
    thresholds = verdict.thresholds
    return {
        "inspection_id": str(inspection.inspection_id),
        "trigger_id": str(trigger.trigger_id),
        "station": trigger.station,
        "sequence": trigger.sequence,
        "camera": inspection.camera,
        "view": inspection.view,
        "instance": int(inspection.instance),
        "verdict": verdict.kind.value,
        "score": _number("score", verdict.score),
        "review_threshold": _number("review threshold", thresholds.review if thresholds else None),
        "ng_threshold": _number("ng threshold", thresholds.ng if thresholds else None),
        "reasons": [storable(reason) for reason in verdict.reasons],
        "late": bool(inspection.late),
        "captured_utc_us": _integer(inspection.captured_utc_us),
        "decided_utc_us": int(inspection.decided_utc_us),
        "recipe_name": recipe.name if recipe else None,
        "recipe_version": recipe.version if recipe else None,
        "recipe_sha256": recipe.sha256 if recipe else None,
        "frame_sha256": inspection.frame_sha256,
        "frame_key": inspection.frame_key,
        "frame_width_px": _integer(inspection.frame_width_px),
        "frame_height_px": _integer(inspection.frame_height_px),
        "mm_per_px": _number("mm_per_px", inspection.mm_per_px),
        "calibration_id": inspection.calibration_id,
        "registration_confidence": _number("registration confidence", inspection.registration_confidence),
        "timings_ms": {name: _number(name, value) for name, value in inspection.timings_ms.items()},
        "truth": _plain_json(inspection.truth),
        "software_version": inspection.provenance.software_version,
        "config_sha256": inspection.provenance.config_sha256,
    }


def detection_values(inspection: Inspection) -> list[dict[str, Any]]:
    """The detections as column values, worst first."""
    worst_first = sorted(inspection.verdict.detections, key=lambda detection: -detection.score)
    return [
        {
            "inspection_id": str(inspection.inspection_id),
            "rank": rank,
            "x0_px": int(detection.box_xyxy_px[0]),
            "y0_px": int(detection.box_xyxy_px[1]),
            "x1_px": int(detection.box_xyxy_px[2]),
            "y1_px": int(detection.box_xyxy_px[3]),
            "score": _number("detection score", detection.score),
            "name": storable(detection.name),
            "area_px": int(detection.area_px),
            "name_confidence": _number("name confidence", detection.name_confidence),
            "size_px": _number("detection size", detection.size_px),
            "region": storable(detection.region) if detection.region is not None else None,
        }
        for rank, detection in enumerate(worst_first)
    ]


def outbox_values(station: str, message: Message, now_us: int) -> dict[str, Any]:
    return {
        "station": station,
        "topic": message.topic,
        "payload": storable(message.payload),
        "qos": message.qos,
        "retain": message.retain,
        "created_utc_us": now_us,
        "sent_utc_us": None,
        "inspection_id": message.inspection_id,
        "correlation": message.correlation.hex() if message.correlation is not None else None,
    }


def message_from_row(row: OutboxRow) -> Message:
    return Message(
        topic=row.topic,
        payload=row.payload,
        qos=row.qos,
        retain=row.retain,
        inspection_id=row.inspection_id,
        correlation=bytes.fromhex(row.correlation) if row.correlation is not None else None,
    )


def _number(name: str, value: float | None) -> float | None:
    if value is None:
        return None
    if not math.isfinite(value):
        raise ValueError(f"{name} is {value}; a verdict needs finite numbers")
    return float(value) + 0.0  # SQLite turns -0.0 into 0.0, and the hash is over what is read back


def _integer(value: int | None) -> int | None:
    return int(value) if value is not None else None


def _plain_json(value: dict[str, Any] | None) -> dict[str, Any] | None:
    """What reading the stored JSON back will give."""
    if value is None:
        return None
    plain: dict[str, Any] = json.loads(storable(canonical_json(value)))
    return plain
