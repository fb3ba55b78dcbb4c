"""What happened in a period: read-only queries for reports. Nothing here writes.

A period is [since, until) over the time a trigger was accepted; an inspection belongs to the period of its
trigger. Every function takes one session: used with one and the same, all figures come from one snapshot
and agree with each other while the line runs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from sqlalchemy import and_, case, func, select
from sqlalchemy.orm import Session
from sqlalchemy.sql.elements import ColumnElement

from inspector.records import UNNAMED, BoxPx, Purpose, VerdictKind
from inspector.store.tables import (
    ChainCheckpointRow,
    DetectionRow,
    DispositionRow,
    EvidenceRow,
    InspectionRow,
    ReviewRow,
    StationRow,
    TriggerRow,
)

SUSPICIOUS = (VerdictKind.NG.value, VerdictKind.REVIEW.value)
ROWS_A_FETCH = 2000

PartKey: TypeAlias = tuple[str, Purpose, str | None, str | None]
"""Station, purpose, part id, lot: what the attempts of one part share."""

IDS_A_QUERY = 500


@dataclass(frozen=True, slots=True)
class HistoryPeriod:
    """[since, until) in µs UTC; None leaves an end open."""

    since_utc_us: int | None = None
    until_utc_us: int | None = None


@dataclass(frozen=True, slots=True)
class TriggerOutcome:
    """One trigger and its part's worst verdict; `verdict` is None while an inspection is owed."""

    trigger_id: str
    station: str
    accepted_utc_us: int
    purpose: Purpose
    part_id: str | None
    lot: str | None
    attempt: int
    verdict: VerdictKind | None
    late: bool

    @property
    def part_key(self) -> PartKey:
        return (self.station, self.purpose, self.part_id, self.lot)


@dataclass(frozen=True, slots=True)
class SuspiciousInspection:
    """One NG or REVIEW inspection with its evidence; `names` are those of its regions, worst first."""

    inspection_id: str
    trigger_id: str
    station: str
    camera: str
    sequence: int
    accepted_utc_us: int
    purpose: Purpose
    part_id: str | None
    lot: str | None
    attempt: int
    verdict: VerdictKind
    score: float | None
    review_threshold: float | None
    ng_threshold: float | None
    reasons: tuple[str, ...]
    late: bool
    recipe_name: str | None
    recipe_version: int | None
    evidence_state: str | None
    visual_key: str | None
    thumbnail_key: str | None
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class DefectName:
    """Pictures with a defect of one name; a person gave it to `reviewed` of them."""

    name: str
    count: int
    reviewed: int


@dataclass(frozen=True, slots=True)
class UsedRecipe:
    """How often a station decided with one recipe version, program and configuration."""

    station: str
    recipe_name: str | None
    recipe_version: int | None
    recipe_sha256: str | None
    software_version: str
    config_sha256: str
    inspections: int
    first_utc_us: int
    last_utc_us: int


@dataclass(frozen=True, slots=True)
class TruthRow:
    """An inspection whose camera knows the truth, with the regions that were found."""

    inspection_id: str
    trigger_id: str
    station: str
    sequence: int
    accepted_utc_us: int
    part_id: str | None
    lot: str | None
    verdict: VerdictKind | None
    """The part's worst verdict; None while an inspection is owed."""
    truth: dict[str, Any]
    score: float | None
    review_threshold: float | None
    frame_key: str | None
    frame_width_px: int | None
    frame_height_px: int | None


@dataclass(frozen=True, slots=True)
class RemovedTriggers:
    """What retention removed of one station, by purpose and verdict; rows up to `chain_index` are gone."""

    station: str
    chain_index: int
    cut_utc_us: int
    counts: dict[str, dict[str, int]]


def known_stations(session: Session) -> tuple[str, ...]:
    """Every station this database has ever seen."""
    return tuple(session.scalars(select(StationRow.station).order_by(StationRow.station)))


def trigger_span(session: Session, period: HistoryPeriod) -> tuple[int, int] | None:
    """Times of the first and the last trigger accepted in the period; None when there is none."""
    first = session.scalar(select(func.min(TriggerRow.accepted_utc_us)).where(_within(period)))
    last = session.scalar(select(func.max(TriggerRow.accepted_utc_us)).where(_within(period)))
    return None if first is None or last is None else (first, last)


def has_triggers_before(session: Session, station: str, utc_us: int) -> bool:
    """Whether any remaining trigger of a station was accepted before a moment."""
    query = select(TriggerRow.sequence).where(TriggerRow.station == station, TriggerRow.accepted_utc_us < utc_us)
    return session.scalar(query.limit(1)) is not None


def repeated_parts(session: Session, period: HistoryPeriod) -> set[PartKey]:
    """The parts that have an attempt after their first in the period."""
    columns = (TriggerRow.station, TriggerRow.purpose, TriggerRow.part_id, TriggerRow.lot)
    query = select(*columns).where(_within(period), TriggerRow.attempt > 1, TriggerRow.part_id.is_not(None)).distinct()
    return {(station, Purpose(purpose), part, lot) for station, purpose, part, lot in session.execute(query)}


def stream_outcomes(session: Session, period: HistoryPeriod) -> Iterator[TriggerOutcome]:
    """Every trigger of the period, by station in the order of acceptance."""
    columns = (
        TriggerRow.trigger_id,
        TriggerRow.station,
        TriggerRow.accepted_utc_us,
        TriggerRow.purpose,
        TriggerRow.part_id,
        TriggerRow.lot,
        TriggerRow.attempt,
        TriggerRow.verdict,
        TriggerRow.late,
        TriggerRow.closed,
    )
    query = select(*columns).where(_within(period)).order_by(TriggerRow.station, TriggerRow.epoch, TriggerRow.sequence)
    purposes = {purpose.value: purpose for purpose in Purpose}
    verdicts: dict[str | None, VerdictKind] = {verdict.value: verdict for verdict in VerdictKind}
    for row in session.execute(query.execution_options(yield_per=ROWS_A_FETCH)):
        trigger_id, station, accepted, purpose, part, lot, attempt, verdict, late, closed = row
        result = verdicts.get(verdict) if closed else None
        yield TriggerOutcome(trigger_id, station, accepted, purposes[purpose], part, lot, attempt, result, late)


def latest_dispositions(session: Session, period: HistoryPeriod) -> dict[str, VerdictKind]:
    """The newest disposition of every trigger of the period that has one, by trigger id."""
    query = (
        select(DispositionRow.trigger_id, DispositionRow.disposition)
        .join(TriggerRow, TriggerRow.trigger_id == DispositionRow.trigger_id)
        .where(_within(period))
        .order_by(DispositionRow.position)
    )
    # What no verdict is called is not known to be good: it counts as uncertain.
    known = {kind.value: kind for kind in VerdictKind}
    return {trigger_id: known.get(name, VerdictKind.REVIEW) for trigger_id, name in session.execute(query)}


def count_suspicious(session: Session, period: HistoryPeriod) -> int:
    """How many inspections of the period ended in NG or REVIEW."""
    query = select(func.count()).select_from(InspectionRow).join(TriggerRow, _of_trigger())
    return int(session.scalar(query.where(_within(period), InspectionRow.verdict.in_(SUSPICIOUS))) or 0)


def list_suspicious(session: Session, period: HistoryPeriod, limit: int) -> list[SuspiciousInspection]:
    """The worst NG and REVIEW inspections: NG first, then by score over the NG threshold, then newest."""
    ratio = InspectionRow.score / func.nullif(InspectionRow.ng_threshold, 0)
    query = (
        select(InspectionRow, TriggerRow, EvidenceRow)
        .join(TriggerRow, _of_trigger())
        .outerjoin(EvidenceRow, EvidenceRow.inspection_id == InspectionRow.inspection_id)
        .where(_within(period), InspectionRow.verdict.in_(SUSPICIOUS))
        .order_by(
            (InspectionRow.verdict == VerdictKind.NG.value).desc(),
            func.coalesce(ratio, -1.0).desc(),
            TriggerRow.accepted_utc_us.desc(),
            InspectionRow.inspection_id,
        )
        .limit(limit)
    )
    rows = session.execute(query).all()
    names = _region_names(session, [inspection.inspection_id for inspection, _, _ in rows])
    return [_describe(*row, names.get(row[0].inspection_id, ())) for row in rows]


def count_defect_names(session: Session, period: HistoryPeriod) -> list[DefectName]:
    """Pictures with a defect by its name, most frequent first.

    A picture counts once: by the name that its newest review gave the defect, else by the name of its worst region.
    What a person called good is no defect, whatever the verdict; what a person called defective is one.
    """
    reviewed = _newest_reviews(session, period)
    counts = _count_worst_names(session, period)
    people: Counter[str] = Counter()
    worst = _worst_names(session, [inspection_id for inspection_id, *_ in reviewed])
    for inspection_id, verdict, finding, name in reviewed:
        region = worst.get(inspection_id)
        if verdict in SUSPICIOUS and region is not None:
            counts[region] -= 1
        if finding == VerdictKind.NG.value:
            counts[name or region or UNNAMED] += 1
            people[name or ""] += name is not None
    found = [DefectName(name, count, people[name]) for name, count in counts.items() if count]
    return sorted(found, key=lambda item: (-item.count, item.name))


def _count_worst_names(session: Session, period: HistoryPeriod) -> Counter[str]:
    """How many NG and REVIEW inspections have a worst region of each name."""
    worst = (
        select(DetectionRow.inspection_id, func.min(DetectionRow.rank).label("rank"))
        .join(InspectionRow, InspectionRow.inspection_id == DetectionRow.inspection_id)
        .join(TriggerRow, _of_trigger())
        .where(_within(period), InspectionRow.verdict.in_(SUSPICIOUS))
        .group_by(DetectionRow.inspection_id)
        .subquery()
    )
    same = and_(DetectionRow.inspection_id == worst.c.inspection_id, DetectionRow.rank == worst.c.rank)
    query = select(DetectionRow.name, func.count()).join(worst, same).group_by(DetectionRow.name)
    return Counter({str(name): int(count) for name, count in session.execute(query)})


def _newest_reviews(session: Session, period: HistoryPeriod) -> list[tuple[str, str, str, str | None]]:
    """Inspection, verdict, finding and defect name of the newest review of every reviewed inspection."""
    query = (
        select(InspectionRow.inspection_id, InspectionRow.verdict, ReviewRow.finding, ReviewRow.defect_name)
        .join(ReviewRow, ReviewRow.inspection_id == InspectionRow.inspection_id)
        .join(TriggerRow, _of_trigger())
        .where(_within(period))
        .order_by(ReviewRow.reviewed_utc_us, ReviewRow.review_id)
    )
    newest = {row.inspection_id: row for row in session.execute(query)}
    return [(row.inspection_id, row.verdict, row.finding, row.defect_name) for row in newest.values()]


def _worst_names(session: Session, inspection_ids: Sequence[str]) -> dict[str, str]:
    """The name of the worst region of each of these inspections that has one."""
    worst: dict[str, str] = {}
    for start in range(0, len(inspection_ids), IDS_A_QUERY):
        named = _region_names(session, inspection_ids[start : start + IDS_A_QUERY])
        worst |= {inspection_id: names[0] for inspection_id, names in named.items()}
    return worst


def list_not_inspected(session: Session, period: HistoryPeriod) -> Iterator[str]:
    """The first reason of every decided part whose worst verdict is NOT_INSPECTED, once a part."""
    missing = VerdictKind.NOT_INSPECTED.value
    query = (
        select(InspectionRow.trigger_id, InspectionRow.reasons)
        .join(TriggerRow, _of_trigger())
        .where(_within(period), TriggerRow.closed, TriggerRow.verdict == missing, InspectionRow.verdict == missing)
        .order_by(InspectionRow.station, InspectionRow.chain_index)
    )
    seen: set[str] = set()
    for trigger_id, reasons in session.execute(query):
        if trigger_id not in seen:
            seen.add(trigger_id)
            yield str(reasons[0]) if reasons else ""


def list_used_recipes(session: Session, period: HistoryPeriod) -> list[UsedRecipe]:
    """What decided in the period, by station and in the order of first use."""
    keys = (
        InspectionRow.station,
        InspectionRow.recipe_name,
        InspectionRow.recipe_version,
        InspectionRow.recipe_sha256,
        InspectionRow.software_version,
        InspectionRow.config_sha256,
    )
    first, last = func.min(TriggerRow.accepted_utc_us), func.max(TriggerRow.accepted_utc_us)
    query = (
        select(*keys, func.count(), first, last)
        .join(TriggerRow, _of_trigger())
        .where(_within(period))
        .group_by(*keys)
        .order_by(InspectionRow.station, first)
    )
    return [UsedRecipe(*row) for row in session.execute(query)]


def list_latencies(session: Session, period: HistoryPeriod) -> dict[str, list[float]]:
    """ms from capture to decision of every inspection that measured it, by station, ascending."""
    latency = InspectionRow.timings_ms["capture_to_decision"].as_float()
    query = (
        select(InspectionRow.station, latency.label("ms"))
        .join(TriggerRow, _of_trigger())
        .where(_within(period), InspectionRow.verdict != VerdictKind.NOT_INSPECTED.value, latency.is_not(None))
        .order_by(InspectionRow.station, latency)
    )
    found: dict[str, list[float]] = {}
    for station, ms in session.execute(query.execution_options(yield_per=ROWS_A_FETCH)):
        found.setdefault(station, []).append(ms)
    return found


def stream_truths(session: Session, period: HistoryPeriod) -> Iterator[TruthRow]:
    """Every inspection of the period whose camera knows the truth."""
    facts = (TriggerRow.accepted_utc_us, TriggerRow.part_id, TriggerRow.lot)
    frame = (InspectionRow.frame_key, InspectionRow.frame_width_px, InspectionRow.frame_height_px)
    query = (
        select(InspectionRow.inspection_id, InspectionRow.trigger_id, InspectionRow.station, InspectionRow.sequence)
        .add_columns(*facts, case((TriggerRow.closed, TriggerRow.verdict)), InspectionRow.truth)
        .add_columns(InspectionRow.score, InspectionRow.review_threshold, *frame)
        .join(TriggerRow, _of_trigger())
        .where(_within(period), InspectionRow.truth.is_not(None))
        .order_by(InspectionRow.station, InspectionRow.chain_index)
    )
    for row in session.execute(query.execution_options(yield_per=ROWS_A_FETCH)):
        values: list[Any] = list(row)
        values[7] = VerdictKind(values[7]) if values[7] is not None else None
        yield TruthRow(*values)


def list_regions(session: Session, inspection_ids: Sequence[str]) -> dict[str, list[BoxPx]]:
    """The found boxes of the given inspections, in frame pixels, worst first."""
    boxes: dict[str, list[BoxPx]] = {}
    columns = (DetectionRow.x0_px, DetectionRow.y0_px, DetectionRow.x1_px, DetectionRow.y1_px)
    for start in range(0, len(inspection_ids), IDS_A_QUERY):
        query = select(DetectionRow.inspection_id, *columns).where(
            DetectionRow.inspection_id.in_(inspection_ids[start : start + IDS_A_QUERY])
        )
        for row in session.execute(query.order_by(DetectionRow.inspection_id, DetectionRow.rank)):
            boxes.setdefault(row[0], []).append((row[1], row[2], row[3], row[4]))
    return boxes


def list_removed(session: Session) -> list[RemovedTriggers]:
    """What retention removed, by station."""
    rows = session.scalars(select(ChainCheckpointRow).order_by(ChainCheckpointRow.station))
    return [RemovedTriggers(row.station, row.chain_index, row.cut_utc_us, dict(row.verdict_counts)) for row in rows]


def _describe(
    inspection: InspectionRow, trigger: TriggerRow, evidence: EvidenceRow | None, names: tuple[str, ...]
) -> SuspiciousInspection:
    return SuspiciousInspection(
        inspection_id=inspection.inspection_id,
        trigger_id=trigger.trigger_id,
        station=trigger.station,
        camera=inspection.camera,
        sequence=trigger.sequence,
        accepted_utc_us=trigger.accepted_utc_us,
        purpose=Purpose(trigger.purpose),
        part_id=trigger.part_id,
        lot=trigger.lot,
        attempt=trigger.attempt,
        verdict=VerdictKind(inspection.verdict),
        score=inspection.score,
        review_threshold=inspection.review_threshold,
        ng_threshold=inspection.ng_threshold,
        reasons=tuple(str(reason) for reason in inspection.reasons),
        late=inspection.late,
        recipe_name=inspection.recipe_name,
        recipe_version=inspection.recipe_version,
        evidence_state=evidence.state if evidence else None,
        visual_key=evidence.visual_key if evidence else None,
        thumbnail_key=evidence.thumbnail_key if evidence else None,
        names=names,
    )


def _within(period: HistoryPeriod) -> ColumnElement[bool]:
    limits: list[ColumnElement[bool]] = [TriggerRow.accepted_utc_us.is_not(None)]
    if period.since_utc_us is not None:
        limits.append(TriggerRow.accepted_utc_us >= period.since_utc_us)
    if period.until_utc_us is not None:
        limits.append(TriggerRow.accepted_utc_us < period.until_utc_us)
    return and_(*limits)


def _of_trigger() -> ColumnElement[bool]:
    return TriggerRow.trigger_id == InspectionRow.trigger_id


def _region_names(session: Session, inspection_ids: Sequence[str]) -> dict[str, tuple[str, ...]]:
    names: dict[str, tuple[str, ...]] = {}
    query = (
        select(DetectionRow.inspection_id, DetectionRow.name)
        .where(DetectionRow.inspection_id.in_(inspection_ids))
        .order_by(DetectionRow.inspection_id, DetectionRow.rank)
    )
    for inspection_id, name in session.execute(query):
        names[inspection_id] = (*names.get(inspection_id, ()), name)
    return names
