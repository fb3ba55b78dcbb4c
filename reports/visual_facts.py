"""What an annotated visual tells, as plain data, and how its values are written for people."""

from __future__ import annotations

from dataclasses import dataclass
from zoneinfo import ZoneInfo

from inspector.clock import to_datetime
from inspector.detector.naming import UNKNOWN
from inspector.records import BoxPx, Detection, Thresholds, VerdictKind

VERDICT_WORDS = {
    VerdictKind.OK: "OK",
    VerdictKind.NG: "NG",
    VerdictKind.REVIEW: "REVIEW",
    VerdictKind.NOT_INSPECTED: "NOT INSPECTED",
}
VERDICT_MEANINGS = {
    VerdictKind.OK: "no defect found",
    VerdictKind.NG: "defect found",
    VerdictKind.REVIEW: "a person should look",
    VerdictKind.NOT_INSPECTED: "no verdict",
}
METHOD_MEANINGS = {
    "paste": "taken from aligned good parts",
    "texture": "filled in with the texture around it",
    "telea": "filled in from the surroundings (Telea)",
    "ns": "filled in from the surroundings (Navier-Stokes)",
    "net": "painted by the local generative model",
}


@dataclass(frozen=True, slots=True)
class VisualRegion:
    """One suspicious region, in frame pixels."""

    box_xyxy_px: BoxPx
    score: float
    name: str = "anomaly"
    size_px: float | None = None
    """Measured long side of the defect; the box is wider."""
    place: str | None = None
    """Which region of the recipe it lies in."""

    @property
    def title(self) -> str:
        """What was found, and where on the part."""
        return self.name if self.place is None else f"{self.name}, {self.place}"


@dataclass(frozen=True, slots=True)
class VisualFacts:
    """Everything the picture says. `regions` are worst first; `timezone` is an IANA name."""

    inspection_id: str
    verdict: VerdictKind
    score: float | None
    thresholds: Thresholds | None
    station: str
    camera: str
    decided_utc_us: int
    timezone: str = "UTC"
    recipe: str | None = None
    part_id: str | None = None
    lot: str | None = None
    attempt: int = 1
    purpose: str = "production"
    reasons: tuple[str, ...] = ()
    regions: tuple[VisualRegion, ...] = ()
    mm_per_px: float | None = None
    frame_sha256: str | None = None
    software_version: str = ""
    max_regions: int = 4
    opinion: str | None = None
    """What a cloud model said, where it had answered before the picture was painted."""

    def shown_regions(self) -> tuple[VisualRegion, ...]:
        """The regions that get a number and are shown enlarged."""
        return self.regions[: self.max_regions]


def format_scores(score: float | None, thresholds: Thresholds | None) -> tuple[str, str, str]:
    """Score, review and NG threshold, with as many digits as it takes to tell different values apart."""
    values = [score, *((thresholds.review, thresholds.ng) if thresholds else (None, None))]
    known = {value for value in values if value is not None}
    for digits in range(3, 10):
        if len({_digits(value, digits) for value in known}) == len(known):
            break
    texts = ["-" if value is None else _digits(value, digits) for value in values]
    return texts[0], texts[1], texts[2]


def format_score(score: float) -> str:
    """Three significant digits."""
    return _digits(score, 3)


def format_time(utc_us: int, timezone: str) -> str:
    """Local time of the site with its offset: `2026-05-01 14:03:22 UTC+02:00`."""
    local = to_datetime(utc_us).astimezone(ZoneInfo(timezone))
    offset = local.strftime("%z")
    return f"{local:%Y-%m-%d %H:%M:%S} UTC{offset[:3]}:{offset[3:5]}"


def format_name(detection: Detection) -> str:
    """What a region is called, and how sure that is: `scratch, 93 %`; an unknown one has no more to say."""
    if detection.name_confidence is None or detection.name == UNKNOWN:
        return detection.name
    return f"{detection.name}, {detection.name_confidence * 100:.0f} %"


def format_size(region: VisualRegion, mm_per_px: float | None) -> str:
    """The measured size of a defect, else width x height of its box; in millimetres where the camera is calibrated."""
    box, size = region.box_xyxy_px, region.size_px
    if size is not None:
        return f"about {size:.0f} px" if mm_per_px is None else f"about {_millimetres(size * mm_per_px)} mm"
    width, height = box[2] - box[0], box[3] - box[1]
    if mm_per_px is None:
        return f"{width} x {height} px"
    return f"{_millimetres(width * mm_per_px)} x {_millimetres(height * mm_per_px)} mm"


def format_scale(scale: float) -> str:
    """How large something is shown against the camera's pixels: above 100 % there are invented pixels."""
    percent = max(1, round(scale * 100))
    return f"enlarged to {percent}%" if percent > 100 else f"shown at {percent}%"


def explain_verdict(facts: VisualFacts) -> str:
    """Why the verdict is what it is, in one sentence."""
    if facts.reasons:
        return "; ".join(facts.reasons)
    score, review, ng = format_scores(facts.score, facts.thresholds)
    count = len(facts.regions)
    where = f" in {count} region{'s' if count != 1 else ''}" if count else ""
    if facts.verdict is VerdictKind.NG:
        return f"score {score} reaches the NG threshold {ng}{where}"
    if facts.verdict is VerdictKind.REVIEW:
        return f"score {score} lies between the thresholds {review} and {ng}{where}"
    return f"score {score} is below the review threshold {review}" if facts.score is not None else "nothing was scored"


def _millimetres(value: float) -> str:
    """Two significant digits, never in scientific notation."""
    return f"{value:.0f}" if value >= 10 else f"{value:#.2g}" if value >= 0.01 else f"{value:.6f}"


def _digits(value: float, digits: int) -> str:
    text = f"{value:.{digits}g}"
    if "e" not in text:
        return text
    return f"{value:.0f}" if abs(value) >= 1 else text
