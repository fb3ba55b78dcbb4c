"""The nouns of the product: frozen, validated, free of any infrastructure.

Words are those of the design page: a trigger says that a part is in position, a frame is one image
taken for it, an inspection is one frame under one recipe version and ends in a verdict.
"""

from __future__ import annotations

import math
import uuid
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

BgrImage: TypeAlias = NDArray[np.uint8]
"""(H, W, 3) uint8, blue-green-red, the order of OpenCV. Grey sources are replicated."""

BoxPx: TypeAlias = tuple[int, int, int, int]
"""x0, y0, x1, y1 in frame pixels; x1 and y1 are exclusive, so x1 - x0 is the width."""

ID_NAMESPACE = uuid.UUID("6f2b5c0e-4d8a-5b57-9c7f-0b6f6e2f4a11")
"""Namespace of every UUIDv5 of this product. Changing it changes every id ever issued."""

WHOLE_FRAME_VIEW = "view0"

UNNAMED = "anomaly"
"""The name of a region that nothing named."""


class VerdictKind(StrEnum):
    """What the edge decided. Ordered by severity in `SEVERITY`."""

    OK = "OK"
    NG = "NG"
    REVIEW = "REVIEW"
    NOT_INSPECTED = "NOT_INSPECTED"


SEVERITY: dict[VerdictKind, int] = {
    VerdictKind.OK: 0,
    VerdictKind.NOT_INSPECTED: 1,
    VerdictKind.REVIEW: 2,
    VerdictKind.NG: 3,
}
"""The part's result is its worst view: the highest of these."""


class Purpose(StrEnum):
    """Why a part was inspected. Only `production` counts in yields."""

    PRODUCTION = "production"
    VERIFICATION = "verification"
    SETUP = "setup"
    SIMULATED = "simulated"


class PartIdSource(StrEnum):
    """Where a part id came from."""

    FILE_NAME = "file_name"
    COMMAND = "command"
    CODE_READER = "code_reader"
    SIMULATED = "simulated"
    NONE = "none"


def make_trigger_id(station: str, epoch: int, sequence: int) -> uuid.UUID:
    """The id of a trigger: the same for the same station, run epoch and sequence, for ever."""
    return uuid.uuid5(ID_NAMESPACE, f"trigger/{station}/{epoch}/{sequence}")


def make_inspection_id(
    station: str, epoch: int, sequence: int, camera: str, view: str = WHOLE_FRAME_VIEW, instance: int = 0
) -> uuid.UUID:
    """The id of one inspection of a trigger; reprocessing the same frame gives the same id."""
    return uuid.uuid5(ID_NAMESPACE, f"inspection/{station}/{epoch}/{sequence}/{camera}/{view}/{instance}")


@dataclass(frozen=True, slots=True)
class Trigger:
    """A part is in position.

    `station` is the full id `site/line/station`. `epoch` and `sequence` come from the store: the
    epoch is fixed when the station is first seen by a database (µs UTC), the sequence counts from 1
    and never repeats or skips. `cameras` are those that owe an inspection for this trigger.
    """

    station: str
    epoch: int
    sequence: int
    accepted_utc_us: int
    cameras: tuple[str, ...]
    purpose: Purpose = Purpose.PRODUCTION
    part_id: str | None = None
    part_id_source: PartIdSource = PartIdSource.NONE
    lot: str | None = None
    attempt: int = 1
    source_identity: str | None = None
    request_id: str | None = None

    def __post_init__(self) -> None:
        if self.sequence < 1:
            raise ValueError(f"sequence counts from 1, got {self.sequence}")
        if self.attempt < 1:
            raise ValueError(f"attempt counts from 1, got {self.attempt}")
        if not self.cameras:
            raise ValueError("a trigger needs at least one camera")

    @property
    def trigger_id(self) -> uuid.UUID:
        return make_trigger_id(self.station, self.epoch, self.sequence)


@dataclass(frozen=True, slots=True)
class Frame:
    """One image taken for a trigger.

    `pixels` is (H, W, 3) uint8 BGR. `encoded` holds the camera's own bytes where the camera
    compresses (`media_type` then names them), else None. `sha256` is over `encoded` when there is
    one, else over the pixels as the camera delivered them. The frame is never altered.
    """

    camera: str
    pixels: BgrImage
    sha256: str
    captured_utc_us: int
    encoded: bytes | None = None
    media_type: str | None = None
    mm_per_px: float | None = None
    calibration_id: str | None = None

    def __post_init__(self) -> None:
        if self.pixels.ndim != 3 or self.pixels.shape[2] != 3 or self.pixels.dtype != np.uint8:
            raise ValueError(f"pixels must be (H, W, 3) uint8, got {self.pixels.shape} {self.pixels.dtype}")

    @property
    def width_px(self) -> int:
        return int(self.pixels.shape[1])

    @property
    def height_px(self) -> int:
        return int(self.pixels.shape[0])


@dataclass(frozen=True, slots=True)
class Registration:
    """Where the recipe's reference lies in a frame.

    `matrix` maps reference pixels to frame pixels, both at full resolution: (2, 3) float64 with frame_xy =
    matrix @ (x, y, 1), or (3, 3) where the part is seen in perspective. `confidence` is 0..1 (1 is a perfect match);
    the recipe says below which value a frame is refused with REVIEW.
    """

    matrix: NDArray[np.float64]
    confidence: float

    def __post_init__(self) -> None:
        if self.matrix.shape not in ((2, 3), (3, 3)):
            raise ValueError(f"matrix must be (2, 3) or (3, 3), got {self.matrix.shape}")


@dataclass(frozen=True, slots=True)
class AnomalyMap:
    """A score for each cell of a regular grid over the frame.

    `scores` is (h, w) float32, in the same unit as the image score and the thresholds. The cell
    (row, column) covers frame pixels [column*cell_px, (column+1)*cell_px) and likewise for rows.
    """

    scores: NDArray[np.float32]
    cell_px: int


@dataclass(frozen=True, slots=True)
class Detection:
    """One suspicious region of a frame, in frame pixels.

    `size_px` is the measured long side of the defect itself, which is smaller than its box: None when nothing was
    measured. `region` is the recipe's region in which it is worst, None when the recipe names none.
    """

    box_xyxy_px: BoxPx
    score: float
    name: str = UNNAMED
    area_px: int = 0
    name_confidence: float | None = None
    """0..1, of the likeliest name a recipe was taught; None where nothing named the region."""
    size_px: float | None = None
    region: str | None = None

    def __post_init__(self) -> None:
        x0, y0, x1, y1 = self.box_xyxy_px
        if x1 <= x0 or y1 <= y0:
            raise ValueError(f"box must have x1 > x0 and y1 > y0, got {self.box_xyxy_px}")


@dataclass(frozen=True, slots=True)
class Scoring:
    """What a detector says about one frame, before anybody decides.

    `oddities` are reasons why the frame is outside the recipe's experience (registration refused,
    wrong light, …): any of them turns an otherwise confident verdict into REVIEW. `view` is the number,
    from 0, of the recipe's view that the frame was judged by, None where the recipe has but one.
    """

    score: float
    anomaly_map: AnomalyMap
    detections: tuple[Detection, ...]
    registration: Registration | None = None
    oddities: tuple[str, ...] = ()
    view: int | None = None

    def __post_init__(self) -> None:
        if not math.isfinite(self.score):
            raise ValueError(f"a score must be a finite number, got {self.score}")


@dataclass(frozen=True, slots=True)
class Thresholds:
    """Below `review` is OK, from `ng` upward is NG, between them REVIEW."""

    review: float
    ng: float

    def __post_init__(self) -> None:
        if not 0.0 <= self.review <= self.ng:
            raise ValueError(f"need 0 <= review <= ng, got {self.review} and {self.ng}")


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the edge decided about one frame, and why. `score` is None when nothing was scored."""

    kind: VerdictKind
    score: float | None
    thresholds: Thresholds | None
    detections: tuple[Detection, ...] = ()
    reasons: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.kind is VerdictKind.NOT_INSPECTED and not self.reasons:
            raise ValueError("NOT_INSPECTED needs a reason")


@dataclass(frozen=True, slots=True)
class RecipeRef:
    """Which recipe version an inspection was made under."""

    name: str
    version: int
    sha256: str

    def __str__(self) -> str:
        return f"{self.name}@{self.version}"


@dataclass(frozen=True, slots=True)
class Provenance:
    """What an auditor needs to reproduce an inspection."""

    software_version: str
    config_sha256: str


@dataclass(frozen=True, slots=True)
class Inspection:
    """One frame under one recipe version, ready to be committed.

    `recipe`, `frame_sha256` and sizes are None for NOT_INSPECTED without a frame. `timings_ms` holds
    the monotonic duration of each stage. `frame_key` is the relative path of the stored frame, None
    when only the hash is kept. `late` says that the station's deadline had passed before the commit.
    """

    trigger: Trigger
    camera: str
    verdict: Verdict
    decided_utc_us: int
    provenance: Provenance
    recipe: RecipeRef | None = None
    view: str = WHOLE_FRAME_VIEW
    instance: int = 0
    captured_utc_us: int | None = None
    frame_sha256: str | None = None
    frame_width_px: int | None = None
    frame_height_px: int | None = None
    frame_key: str | None = None
    mm_per_px: float | None = None
    calibration_id: str | None = None
    registration_confidence: float | None = None
    late: bool = False
    timings_ms: dict[str, float] = field(default_factory=dict)
    truth: dict[str, Any] | None = None
    """What the simulated line knows about the part; None for every real camera."""

    @property
    def inspection_id(self) -> uuid.UUID:
        trigger = self.trigger
        return make_inspection_id(
            trigger.station, trigger.epoch, trigger.sequence, self.camera, self.view, self.instance
        )


@dataclass(frozen=True, slots=True)
class Message:
    """Something to be published: `topic` is complete, `payload` canonical JSON text."""

    topic: str
    payload: str
    qos: int = 1
    retain: bool = False
    inspection_id: str | None = None
    correlation: bytes | None = None
    """MQTT 5 correlation data, only for answers to commands."""


@dataclass(frozen=True, slots=True)
class CameraHealth:
    """How a camera is doing now. Values that cannot be known yet are None.

    `level` is the mean grey value 0..255, `focus` the variance of the Laplacian of the frame reduced
    to about 480 px width (unit: grey values squared; compare it with itself over time only).
    """

    camera: str
    connected: bool
    frames_per_s: float | None
    last_frame_age_s: float | None
    dropped: int
    level: float | None
    focus: float | None
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Charge:
    """The most that one request to a cloud model can cost. Money is in millionths of the currency unit."""

    size_bytes: int
    money_micro: int


@dataclass(frozen=True, slots=True)
class Spent:
    """What a station has debited for the cloud: in an hour, in 24 hours, in 30 days."""

    requests_hour: int = 0
    requests_day: int = 0
    bytes_day: int = 0
    money_month_micro: int = 0
