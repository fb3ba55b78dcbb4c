"""Everything a report says, as plain frozen values: collected from the database, rendered elsewhere.

Sums use verdicts (what the edge decided, which never changes); yield, escape and overkill use dispositions
(the current truth after reviews and opinions). All times are µs UTC; rendering writes them on the
clock of the site.
"""

from __future__ import annotations

from dataclasses import dataclass

from inspector.records import BoxPx, Purpose, VerdictKind
from reports.charts import TrendPoint
from reports.rates import Rate, VerdictCounts


@dataclass(frozen=True, slots=True)
class ReportPeriod:
    """What the report is about: triggers accepted in [since, until). Open ends were not limited by the reader."""

    since_utc_us: int
    until_utc_us: int
    since_open: bool
    until_open: bool
    timezone: str


@dataclass(frozen=True, slots=True)
class PurposeCounts:
    """Triggers of one purpose."""

    purpose: Purpose
    counts: VerdictCounts


@dataclass(frozen=True, slots=True)
class LatencyFigures:
    """From capture to decision, in ms, over `measured` inspections; None when nothing was measured."""

    measured: int
    p50_ms: float | None
    p95_ms: float | None
    p99_ms: float | None


@dataclass(frozen=True, slots=True)
class StationFigures:
    """One station. `late` is parts with a view decided after the deadline, of the decided ones; `deadline_ms`
    is None for a station that is no longer configured."""

    station: str
    name: str
    counts: VerdictCounts
    late: Rate
    deadline_ms: float | None
    latency: LatencyFigures


@dataclass(frozen=True, slots=True)
class RemovedFigures:
    """Triggers that retention removed, known only by verdict. `included` says whether they lie in the period
    and are part of the totals; `uncertain` that some of them may lie in the period and are not counted."""

    counts: VerdictCounts
    included: bool
    uncertain: bool


@dataclass(frozen=True, slots=True)
class YieldFigures:
    """Yield of one purpose: good of all inspected parts, by disposition, each part once by its latest attempt."""

    purpose: Purpose
    counts: VerdictCounts
    superseded: int
    """Earlier attempts of parts that were inspected again; not in `counts`."""
    changed: int
    """Parts whose disposition differs from the edge's verdict."""

    @property
    def rate(self) -> Rate:
        return Rate(self.counts.ok, self.counts.inspected)


@dataclass(frozen=True, slots=True)
class Trend:
    """Yield over time. `unit` is a word for people (hour, shift, …)."""

    unit: str
    points: tuple[TrendPoint, ...]


@dataclass(frozen=True, slots=True)
class Picture:
    """An image to be inlined, at most `MAX_PICTURE_BYTES`; or None and the reason why there is none."""

    content: bytes | None
    media_type: str | None
    note: str | None = None


@dataclass(frozen=True, slots=True)
class SuspectPart:
    """One NG or REVIEW inspection with its picture."""

    inspection_id: str
    station: str
    camera: str
    sequence: int
    accepted_utc_us: int
    purpose: Purpose
    part_id: str | None
    lot: str | None
    attempt: int
    verdict: VerdictKind
    disposition: VerdictKind | None
    """The current truth where a review or an opinion changed it; else None."""
    score: float | None
    review_threshold: float | None
    ng_threshold: float | None
    reasons: tuple[str, ...]
    names: tuple[str, ...]
    regions: int
    late: bool
    recipe: str | None
    picture: Picture
    visual_href: str | None
    opinion: str | None = None
    """What a cloud model said, in words; None where it was not asked or has not answered."""


@dataclass(frozen=True, slots=True)
class NamedCount:
    """A count with its name: a defect name, a reason. `reviewed` of them were named by a person."""

    name: str
    count: int
    reviewed: int = 0


@dataclass(frozen=True, slots=True)
class RecipeUse:
    """A recipe version in use at one station, with the program and the settings that ran it."""

    station: str
    recipe: str
    recipe_sha256: str | None
    software_version: str
    config_sha256: str
    inspections: int
    first_utc_us: int
    last_utc_us: int


@dataclass(frozen=True, slots=True)
class CameraFigures:
    """A camera's health over the period. `strip`, `levels` and `focuses` cover it in equal pieces."""

    station: str
    camera: str
    samples: int
    connected: Rate
    frames_per_s: float | None
    dropped: int
    strip: tuple[float | None, ...]
    levels: tuple[float | None, ...]
    focuses: tuple[float | None, ...]
    last_reason: str | None


@dataclass(frozen=True, slots=True)
class ChainFigures:
    """The audit chain of one station: `rows` verified up to row `verified_to`, or broken with the reason."""

    station: str
    intact: bool
    rows: int
    verified_to: int
    removed_rows: int
    """Cut off by retention; the hash of the last of them is held by a checkpoint."""
    problem: str | None


@dataclass(frozen=True, slots=True)
class KindOutcome:
    """What became of the parts with one kind of defect. `located` counts defects under a found region."""

    kind: str
    ng: int
    review: int
    missed: int
    not_inspected: int
    located: Rate

    @property
    def caught(self) -> Rate:
        """Stopped (NG or REVIEW), of those inspected."""
        return Rate(self.ng + self.review, self.ng + self.review + self.missed)


@dataclass(frozen=True, slots=True)
class MissedPart:
    """A defective part that was called good."""

    station: str
    sequence: int
    accepted_utc_us: int
    part_id: str | None
    lot: str | None
    kinds: tuple[str, ...]
    score: float | None
    review_threshold: float | None
    boxes_xyxy_px: tuple[BoxPx, ...]
    frame_width_px: int | None
    frame_height_px: int | None
    picture: Picture


@dataclass(frozen=True, slots=True)
class TruthFigures:
    """Verdicts against the truth, where a simulated line knows it. `defective` counts each part once,
    `by_kind` a part with two kinds twice. A part counts with its disposition."""

    by_kind: tuple[KindOutcome, ...]
    defective: KindOutcome
    good: VerdictCounts
    missed: tuple[MissedPart, ...]

    @property
    def overkill(self) -> Rate:
        """Good parts called NG, of the good parts inspected."""
        return Rate(self.good.ng, self.good.inspected)


@dataclass(frozen=True, slots=True)
class ReportData:
    """One report. `totals` is the sum of `purposes`, and of `stations`, plus `removed` where included."""

    site_id: str
    site_name: str
    period: ReportPeriod
    generated_utc_us: int
    software_version: str
    config_sha256: str
    totals: VerdictCounts
    purposes: tuple[PurposeCounts, ...]
    stations: tuple[StationFigures, ...]
    removed: RemovedFigures
    production: YieldFigures
    simulated: YieldFigures
    trend: Trend
    suspects: tuple[SuspectPart, ...]
    suspects_total: int
    names: tuple[NamedCount, ...]
    not_inspected: tuple[NamedCount, ...]
    recipes: tuple[RecipeUse, ...]
    cameras: tuple[CameraFigures, ...]
    chains: tuple[ChainFigures, ...]
    truth: TruthFigures | None

    @property
    def headline(self) -> YieldFigures:
        """The yield that the first screen shows: production, unless there are only simulated parts."""
        only_simulated = not self.production.counts.triggers and self.simulated.counts.triggers
        return self.simulated if only_simulated else self.production

    @property
    def late(self) -> Rate:
        """Parts decided after the deadline, over all stations."""
        return Rate(
            sum(station.late.count for station in self.stations), sum(station.late.total for station in self.stations)
        )
