"""Builds the messages of the MQTT contract from records (pure: no clock, no network, no files).

The same record always gives the same bytes: keys are sorted, floats are Python's shortest, values
that are not finite become null. Ids of messages are UUIDv5 of what they announce.
"""

from __future__ import annotations

import base64
import json
import math
import uuid
from collections.abc import Mapping
from typing import Any, Literal

from inspector.clock import to_rfc3339
from inspector.mqtt.payloads import (
    AlarmPayload,
    CommandResultPayload,
    CountersPayload,
    DetectionPart,
    DispositionPayload,
    EscalationPayload,
    EvidencePayload,
    FramePart,
    InspectionPayload,
    Outgoing,
    RecipePart,
    StatusPayload,
    StoredPicture,
    ThresholdsPart,
    ThumbnailPart,
    TriggerPart,
)
from inspector.records import ID_NAMESPACE, Detection, Inspection, Message, Trigger

MAX_DETECTIONS = 100
"""A broken light can make thousands of regions; a message stays readable and the database has them all."""

MAX_THUMBNAIL_BYTES = 32 * 1024

StatusState = Literal["online", "degraded", "offline"]


def station_root(topic_root: str, station: str) -> str:
    """Where the topics of a station (full id `site/line/station`) begin."""
    return f"{topic_root}/{station}"


def make_message_id(kind: str, subject: str) -> str:
    """UUIDv5 of (what the message announces, topic kind)."""
    return str(uuid.uuid5(ID_NAMESPACE, f"message/{kind}/{subject}"))


def canonical_json(payload: Outgoing) -> str:
    """Sorted keys, no spaces, no escapes beyond JSON's own; `is_historical` is added when sending."""
    values = payload.model_dump(mode="json", exclude={"is_historical"})
    return json.dumps(values, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def mark_historical(payload: str) -> str:
    """The same JSON object with `"is_historical":true` as its last key; every other byte stays."""
    return f'{payload[:-1]},"is_historical":true}}'


# --- results ----------------------------------------------------------------------------------------


def inspection_message(inspection: Inspection, topic_root: str) -> Message:
    """The verdict about one frame."""
    verdict, trigger = inspection.verdict, inspection.trigger
    inspection_id = str(inspection.inspection_id)
    thresholds, recipe = verdict.thresholds, inspection.recipe
    worst_first = sorted(verdict.detections, key=lambda detection: -detection.score)[:MAX_DETECTIONS]
    payload = InspectionPayload(
        message_id=make_message_id("inspection", inspection_id),
        inspection_id=inspection_id,
        station=trigger.station,
        camera=inspection.camera,
        view=inspection.view,
        instance=inspection.instance,
        verdict=verdict.kind,
        late=inspection.late,
        score=_finite(verdict.score),
        thresholds=None
        if thresholds is None
        else ThresholdsPart(review=_finite(thresholds.review), ng=_finite(thresholds.ng)),
        reasons=[_text(reason) for reason in verdict.reasons],
        detections=[_detection_part(item, inspection.mm_per_px) for item in worst_first],
        detections_total=len(verdict.detections),
        recipe=None if recipe is None else RecipePart(name=recipe.name, version=recipe.version, sha256=recipe.sha256),
        trigger=_trigger_part(trigger),
        frame=_frame_part(inspection),
        registration_confidence=_finite(inspection.registration_confidence),
        timings_ms={name: round(value, 3) for name, value in inspection.timings_ms.items() if math.isfinite(value)},
        decided_utc=to_rfc3339(inspection.decided_utc_us),
        software_version=inspection.provenance.software_version,
        config_sha256=inspection.provenance.config_sha256,
    )
    return _message(topic_root, "inspection", payload, inspection_id=inspection_id)


def evidence_message(
    *,
    topic_root: str,
    station: str,
    inspection_id: str,
    finished_utc_us: int,
    visual_key: str | None,
    twin_key: str | None = None,
    twin_method: str | None = None,
    thumbnail: bytes | None = None,
    thumbnail_media_type: str = "image/jpeg",
    base_url: str = "",
    reason: str | None = None,
) -> Message:
    """Where the pictures of an inspection are; without a `visual_key` it says that they failed and why.

    `thumbnail` is an encoded picture of at most 32 KB, else `ValueError`.
    """
    if thumbnail is not None and len(thumbnail) > MAX_THUMBNAIL_BYTES:
        raise ValueError(f"thumbnail has {len(thumbnail)} bytes, more than {MAX_THUMBNAIL_BYTES}")
    payload = EvidencePayload(
        message_id=make_message_id("evidence", inspection_id),
        inspection_id=inspection_id,
        station=station,
        state="done" if visual_key is not None else "failed",
        reason=reason,
        visual=_picture(visual_key, base_url),
        twin=_picture(twin_key, base_url),
        twin_method=twin_method,
        thumbnail=None
        if thumbnail is None
        else ThumbnailPart(media_type=thumbnail_media_type, base64=base64.b64encode(thumbnail).decode("ascii")),
        finished_utc=to_rfc3339(finished_utc_us),
    )
    return _message(topic_root, "evidence", payload, inspection_id=inspection_id)


def disposition_message(
    *,
    topic_root: str,
    station: str,
    disposition_id: str,
    trigger_id: str,
    disposition: str,
    cause: Literal["review", "opinion"],
    cause_id: str,
    decided_utc_us: int,
    inspection_id: str | None = None,
    sequence: int | None = None,
    part_id: str | None = None,
) -> Message:
    """A review or an opinion changed what is held to be true about a part."""
    payload = DispositionPayload(
        message_id=make_message_id("disposition", disposition_id),
        disposition_id=disposition_id,
        station=station,
        trigger_id=trigger_id,
        inspection_id=inspection_id,
        sequence=sequence,
        part_id=part_id,
        disposition=disposition,
        cause=cause,
        cause_id=cause_id,
        decided_utc=to_rfc3339(decided_utc_us),
    )
    return _message(topic_root, "disposition", payload, inspection_id=inspection_id)


def escalation_message(
    *,
    topic_root: str,
    station: str,
    opinion_id: str,
    inspection_id: str,
    verdict: str,
    received_utc_us: int,
    summary: str | None = None,
    escalation_id: str | None = None,
    reason: str | None = None,
    defect_name: str | None = None,
    confidence: float | None = None,
    model: str | None = None,
    late: bool = False,
    same_as: str | None = None,
) -> Message:
    """The cloud's answer about one inspection."""
    payload = EscalationPayload(
        message_id=make_message_id("escalation", opinion_id),
        opinion_id=opinion_id,
        inspection_id=inspection_id,
        station=station,
        verdict=verdict,
        summary=_optional_text(summary),
        escalation_id=escalation_id,
        reason=reason,
        defect_name=_optional_text(defect_name),
        confidence=_finite(confidence),
        model=_optional_text(model),
        late=late,
        same_as=same_as,
        received_utc=to_rfc3339(received_utc_us),
    )
    return _message(topic_root, "escalation", payload, inspection_id=inspection_id)


def alarm_message(
    *,
    topic_root: str,
    station: str,
    kind: Literal["consecutive_ng", "camera_health", "verification_overdue"],
    active: bool,
    detail: str,
    since_utc_us: int,
) -> Message:
    """Reserved for a later version."""
    payload = AlarmPayload(
        message_id=make_message_id("alarm", f"{station}/{kind}/{active}/{since_utc_us}"),
        station=station,
        kind=kind,
        active=active,
        detail=detail,
        since_utc=to_rfc3339(since_utc_us),
    )
    return _message(topic_root, "alarm", payload)


# --- state ------------------------------------------------------------------------------------------


def status_message(
    *,
    topic_root: str,
    station: str,
    state: StatusState,
    since_utc_us: int | None,
    reasons: tuple[str, ...],
    as_of_utc_us: int | None,
) -> Message:
    """How the station is; retained. The last will has no times, because nobody knows them in advance."""
    payload = StatusPayload(
        station=station,
        state=state,
        since_utc=None if since_utc_us is None else to_rfc3339(since_utc_us),
        reasons=list(reasons),
        as_of_utc=None if as_of_utc_us is None else to_rfc3339(as_of_utc_us),
    )
    return _message(topic_root, "status", payload, retain=True)


def counters_message(
    *,
    topic_root: str,
    station: str,
    shift: str,
    since_utc_us: int,
    as_of_utc_us: int,
    triggers: int,
    ok: int,
    ng: int,
    review: int,
    not_inspected: int,
    late: int,
    pending: int,
) -> Message:
    """What the station did since the shift began; QoS 0, retained."""
    payload = CountersPayload(
        station=station,
        shift=shift,
        since_utc=to_rfc3339(since_utc_us),
        as_of_utc=to_rfc3339(as_of_utc_us),
        triggers=triggers,
        ok=ok,
        ng=ng,
        review=review,
        not_inspected=not_inspected,
        late=late,
        pending=pending,
    )
    return _message(topic_root, "counters", payload, qos=0, retain=True)


# --- answers ----------------------------------------------------------------------------------------


def result_topic(topic_root: str, station: str, verb: str) -> str:
    """Where a command is answered when it names no response topic."""
    return f"{station_root(topic_root, station)}/cmd/{verb}/result"


def command_result_message(
    topic_root: str,
    station: str,
    verb: str,
    request_id: str,
    ok: bool,
    detail: Mapping[str, Any],
    response_topic: str | None = None,
    correlation: bytes | None = None,
) -> Message:
    """The answer to a command, on its MQTT 5 response topic or on `cmd/<verb>/result`.

    `detail` says what was done (`trigger_id` and `sequence` of a trigger, …) or, when not `ok`, has
    the key `error` with a sentence. Its values are JSON.
    """
    payload = CommandResultPayload(
        message_id=make_message_id("cmd-result", f"{station}/{request_id}"),
        station=station,
        verb=verb,
        request_id=request_id,
        ok=ok,
        detail=dict(detail),
    )
    topic = response_topic or result_topic(topic_root, station, verb)
    return Message(topic=topic, payload=canonical_json(payload), correlation=correlation)


# --- parts ------------------------------------------------------------------------------------------


def _message(
    topic_root: str,
    kind: str,
    payload: Outgoing,
    *,
    qos: int = 1,
    retain: bool = False,
    inspection_id: str | None = None,
) -> Message:
    topic = f"{station_root(topic_root, payload.station)}/{kind}"
    return Message(topic, canonical_json(payload), qos=qos, retain=retain, inspection_id=inspection_id)


def _text(value: str) -> str:
    """Text that UTF-8 can hold: lone surrogates, as undecodable file names have them, are written as \\udc80."""
    return value.encode("utf-8", "backslashreplace").decode("utf-8")


def _optional_text(value: str | None) -> str | None:
    return None if value is None else _text(value)


def _finite(value: float | None) -> float | None:
    return float(value) if value is not None and math.isfinite(value) else None


def _detection_part(detection: Detection, mm_per_px: float | None) -> DetectionPart:
    box = [int(value) for value in detection.box_xyxy_px]
    return DetectionPart(
        box_xyxy_px=box,
        box_xyxy_mm=None if mm_per_px is None else [round(value * mm_per_px, 6) for value in box],
        score=_finite(detection.score),
        name=_text(detection.name),
        name_confidence=_finite(detection.name_confidence),
        area_px=int(detection.area_px),
        size_mm=_millimetres(detection.size_px, mm_per_px),
        region=_optional_text(detection.region),
    )


def _millimetres(size_px: float | None, mm_per_px: float | None) -> float | None:
    return None if size_px is None or mm_per_px is None else _finite(round(size_px * mm_per_px, 6))


def _trigger_part(trigger: Trigger) -> TriggerPart:
    return TriggerPart(
        trigger_id=str(trigger.trigger_id),
        epoch=trigger.epoch,
        sequence=trigger.sequence,
        part_id=_optional_text(trigger.part_id),
        part_id_source=trigger.part_id_source,
        lot=_optional_text(trigger.lot),
        attempt=trigger.attempt,
        purpose=trigger.purpose,
        accepted_utc=to_rfc3339(trigger.accepted_utc_us),
        request_id=trigger.request_id,
    )


def _frame_part(inspection: Inspection) -> FramePart:
    captured = inspection.captured_utc_us
    return FramePart(
        sha256=inspection.frame_sha256,
        width_px=inspection.frame_width_px,
        height_px=inspection.frame_height_px,
        key=inspection.frame_key,
        captured_utc=None if captured is None else to_rfc3339(captured),
        mm_per_px=inspection.mm_per_px,
        calibration_id=inspection.calibration_id,
    )


def _picture(key: str | None, base_url: str) -> StoredPicture | None:
    if key is None:
        return None
    return StoredPicture(key=key, url=f"{base_url.rstrip('/')}/{key}" if base_url else None)
