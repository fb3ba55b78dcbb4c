"""What stands in each MQTT message, as pydantic models: the source of the shipped JSON Schemas.

Messages that go out are open (a subscriber must ignore keys it does not know, so that later versions
may add some); commands that come in are closed (an unknown key is an error). Times are RFC 3339 with
`Z` and microseconds, boxes are [x0, y0, x1, y1] with x1 and y1 exclusive.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from inspector.config import RECIPE_REF_PATTERN
from inspector.records import PartIdSource, Purpose, VerdictKind

REQUEST_ID_PATTERN = r"^[A-Za-z0-9._:-]{1,128}$"
PLAIN_TEXT_PATTERN = r"^[^\x00-\x1f\x7f]+$"

UtcText = Annotated[str, Field(pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z$", description="RFC 3339, UTC, µs.")]
UuidText = Annotated[str, Field(pattern=r"^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$")]
Sha256Text = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
RequestId = Annotated[str, Field(pattern=REQUEST_ID_PATTERN, description="Chosen by whoever asks; unique per station.")]
PlainText = Annotated[str, Field(min_length=1, max_length=128, pattern=PLAIN_TEXT_PATTERN)]
BoxXyxyPx = Annotated[list[int], Field(min_length=4, max_length=4)]
BoxXyxyMm = Annotated[list[float], Field(min_length=4, max_length=4)]
MessageId = Annotated[UuidText, Field(description="The same for every delivery of this message.")]


class Outgoing(BaseModel):
    """Base of what the service publishes."""

    model_config = ConfigDict(frozen=True)

    schema_version: Literal[1] = Field(default=1, description="Changes only when a key changes its meaning.")
    station: str = Field(description="Full id: site/line/station.")


class Recorded(Outgoing):
    """A message that waits in the outbox until the broker has it."""

    message_id: MessageId
    is_historical: bool = Field(
        default=False, description="Present and true when the message was sent late: a flag of this delivery only."
    )


class ThresholdsPart(BaseModel):
    review: float | None
    ng: float | None


class DetectionPart(BaseModel):
    box_xyxy_px: BoxXyxyPx
    box_xyxy_mm: BoxXyxyMm | None = Field(description="Null without a calibration.")
    score: float | None
    name: str = Field(description="anomaly: the recipe has no names; unknown: none of its names explains the look.")
    name_confidence: float | None = Field(
        default=None, description="0 to 1, of the likeliest of the recipe's names; null without names."
    )
    area_px: int
    size_mm: float | None = Field(
        default=None,
        description="Measured long side of the defect itself; null without a calibration or a recipe that measures.",
    )
    region: str | None = Field(default=None, description="Where on the part: a region of the recipe, if it has any.")


class RecipePart(BaseModel):
    name: str
    version: int
    sha256: Sha256Text


class TriggerPart(BaseModel):
    trigger_id: UuidText
    epoch: int = Field(description="When this station was first seen by its database, µs UTC.")
    sequence: int = Field(ge=1, description="Counts up without gaps within an epoch.")
    part_id: str | None
    part_id_source: PartIdSource
    lot: str | None
    attempt: int = Field(ge=1)
    purpose: Purpose
    accepted_utc: UtcText
    request_id: str | None = Field(description="Of the command that announced the part.")


class FramePart(BaseModel):
    sha256: Sha256Text | None
    width_px: int | None
    height_px: int | None
    key: str | None = Field(description="Relative path of the stored frame; null when only its hash is kept.")
    captured_utc: UtcText | None
    mm_per_px: float | None
    calibration_id: str | None


class InspectionPayload(Recorded):
    """One frame under one recipe version."""

    inspection_id: UuidText = Field(description="Drop what carries an id already seen.")
    camera: str
    view: str
    instance: int
    verdict: VerdictKind
    late: bool = Field(description="Decided after the station's deadline: do not act on it.")
    score: float | None
    thresholds: ThresholdsPart | None
    reasons: list[str]
    detections: list[DetectionPart] = Field(description="Worst first, the first 100.")
    detections_total: int
    recipe: RecipePart | None
    trigger: TriggerPart
    frame: FramePart
    registration_confidence: float | None
    timings_ms: dict[str, float]
    decided_utc: UtcText
    software_version: str
    config_sha256: str


class StoredPicture(BaseModel):
    key: str = Field(description="Path relative to the evidence folder.")
    url: str | None = Field(description="base_url + key; null without a configured base_url.")


class ThumbnailPart(BaseModel):
    media_type: str
    base64: str = Field(description="At most 32 KB before encoding.")


class EvidencePayload(Recorded):
    """Where the pictures about one inspection are."""

    inspection_id: UuidText
    state: Literal["done", "failed"]
    reason: str | None = Field(description="Why there are no pictures.")
    visual: StoredPicture | None
    twin: StoredPicture | None = Field(description="Generated: not a photograph.")
    twin_method: str | None
    thumbnail: ThumbnailPart | None
    finished_utc: UtcText


class DispositionPayload(Recorded):
    """The current truth of a part, when a review or an opinion changed it."""

    disposition_id: UuidText
    trigger_id: UuidText
    inspection_id: UuidText | None
    sequence: int | None
    part_id: str | None
    disposition: str
    cause: Literal["review", "opinion"]
    cause_id: UuidText
    decided_utc: UtcText


class EscalationPayload(Recorded):
    """The cloud's opinion about one inspection, late by nature; the verdict stays the edge's."""

    opinion_id: UuidText
    inspection_id: UuidText
    verdict: str = Field(description="`good`, `defect` or `unsure`.")
    summary: str | None = Field(description="The model's own sentence: text of a stranger.")
    escalation_id: UuidText | None = Field(default=None, description="The question.")
    reason: str | None = Field(default=None, description="`review`, `drift`, `new_looking` or `audit`.")
    defect_name: str | None = None
    confidence: float | None = Field(default=None, ge=0, le=1)
    model: str | None = None
    late: bool = Field(default=False, description="After the station's deadline for opinions: it decides nothing.")
    same_as: UuidText | None = Field(
        default=None, description="The question about a near-duplicate whose answer this is; null: asked itself."
    )
    received_utc: UtcText


class StatusPayload(Outgoing):
    """How the station is; retained, and the last will."""

    state: Literal["online", "degraded", "offline"]
    since_utc: UtcText | None = Field(description="Since when; null in the last will, where nobody knows.")
    reasons: list[str]
    as_of_utc: UtcText | None = Field(description="When this was published; null in the last will.")


class CountersPayload(Outgoing):
    """Since the beginning of the shift: triggers = ok + ng + review + not_inspected + pending."""

    shift: str
    since_utc: UtcText
    as_of_utc: UtcText
    triggers: int = Field(ge=0)
    ok: int = Field(ge=0)
    ng: int = Field(ge=0)
    review: int = Field(ge=0)
    not_inspected: int = Field(ge=0)
    late: int = Field(ge=0, description="Of these, decided after the deadline.")
    pending: int = Field(ge=0, description="Accepted and not yet decided.")


class AlarmPayload(Recorded):
    """Reserved: published by a later version."""

    kind: Literal["consecutive_ng", "camera_health", "verification_overdue"]
    active: bool
    detail: str
    since_utc: UtcText


class CommandResultPayload(Recorded):
    """The answer to one command."""

    verb: str
    request_id: RequestId
    ok: bool
    detail: dict[str, Any] = Field(description="What was done; `error` with a sentence when it was refused.")


class Request(BaseModel):
    """Base of the commands: unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    request_id: RequestId


class TriggerRequest(Request):
    """A part is in position."""

    part_id: PlainText | None = None
    part_id_source: Literal["command", "code_reader"] = "command"
    lot: PlainText | None = None
    attempt: int = Field(default=1, ge=1, le=1_000_000, description="Re-inspections count up.")
    purpose: Literal["production", "verification", "setup", "simulated"] | None = Field(
        default=None, description="Null: the station's."
    )


class SetLotRequest(Request):
    """From the next trigger on parts belong to this lot; null: to none."""

    lot: PlainText | None


class SetRecipeRequest(Request):
    """Another recipe from the next trigger on; answered when it has taken effect."""

    recipe: Annotated[str, Field(pattern=RECIPE_REF_PATTERN, description="NAME (latest released) or NAME@VERSION.")]


class PauseRequest(Request):
    """No further triggers are accepted until `resume`."""

    reason: PlainText | None = None


class ResumeRequest(Request):
    """Triggers are accepted again."""


REQUESTS: dict[str, type[Request]] = {
    "trigger": TriggerRequest,
    "set-lot": SetLotRequest,
    "set-recipe": SetRecipeRequest,
    "pause": PauseRequest,
    "resume": ResumeRequest,
}
"""Every verb under `cmd/`."""

PAYLOADS: dict[str, type[BaseModel]] = {
    "status": StatusPayload,
    "inspection": InspectionPayload,
    "evidence": EvidencePayload,
    "disposition": DispositionPayload,
    "escalation": EscalationPayload,
    "counters": CountersPayload,
    "alarm": AlarmPayload,
    **{f"cmd-{verb}": request for verb, request in REQUESTS.items()},
    "cmd-result": CommandResultPayload,
}
"""Every topic by the name of its schema file."""
