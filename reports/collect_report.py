"""From the database to a `ReportData`: every figure from one snapshot, nothing rendered here."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy.orm import Session

from inspector.config import SiteConfig, StationConfig
from inspector.errors import ChainBrokenError
from inspector.records import Purpose, VerdictKind
from inspector.store import camera_history, history
from inspector.store.database import Database
from inspector.store.hash_chain import verify_chain
from inspector.store.history import HistoryPeriod
from inspector.store.reviews import newest_opinions
from reports.cloud_words import opinion_words
from reports.pictures import PictureShelf
from reports.rates import Rate, VerdictCounts, sum_counts
from reports.report_data import (
    CameraFigures,
    ChainFigures,
    LatencyFigures,
    MissedPart,
    NamedCount,
    PurposeCounts,
    RecipeUse,
    RemovedFigures,
    ReportData,
    ReportPeriod,
    StationFigures,
    SuspectPart,
    TruthFigures,
)
from reports.tallies import TotalsTally, YieldTally, tally_all
from reports.time_buckets import plan_buckets
from reports.truth import read_defects, tally_truth

MAX_SUSPECTS = 60
MAX_MISSED = 24
MAX_NAMES = 20
CAMERA_PIECES = 48
CAMERA_PIECE_US = 12_000_000
"""Shortest piece of camera health: a little more than the pause between two samples."""


@dataclass(frozen=True, slots=True)
class ReportContext:
    """Who makes the report, when, and where the page will lie (its links to full pictures start there)."""

    generated_utc_us: int
    software_version: str
    config_sha256: str
    page_dir: Path


def collect_report_data(
    db: Database,
    site: SiteConfig,
    stations: Mapping[str, StationConfig],
    since_utc_us: int | None,
    until_utc_us: int | None,
    context: ReportContext,
) -> ReportData:
    """Everything about the triggers accepted in [since, until); None leaves an end open.

    `stations` are the configured ones by full id; others that the database knows are reported too.
    Raises `StoreError` when the database cannot be read; a broken chain is reported, not raised.
    """
    period = HistoryPeriod(since_utc_us, until_utc_us)
    shelf = PictureShelf(db.data_dir, context.page_dir)
    with db.read() as session:
        known = sorted({*stations, *history.known_stations(session)})
        shown = _resolve_period(session, period, site.timezone, context.generated_utc_us)
        plan = plan_buckets(*_trend_ends(session, period, shown), site)
        dispositions = history.latest_dispositions(session, period)
        totals = TotalsTally()
        yields = {purpose: YieldTally(purpose, plan) for purpose in (Purpose.PRODUCTION, Purpose.SIMULATED)}
        repeated = history.repeated_parts(session, period)
        tally_all(history.stream_outcomes(session, period), repeated, dispositions, totals, yields)
        purposes = _purposes(totals)
        removed = _removed(session, period)
        counted = [*(item.counts for item in purposes), *([removed.counts] if removed.included else [])]
        latencies = history.list_latencies(session, period)
        production, simulated = (yields[purpose].figures() for purpose in (Purpose.PRODUCTION, Purpose.SIMULATED))
        only_simulated = simulated.counts.triggers and not production.counts.triggers
        return ReportData(
            site_id=site.id,
            site_name=site.name or site.id,
            period=shown,
            generated_utc_us=context.generated_utc_us,
            software_version=context.software_version,
            config_sha256=context.config_sha256,
            totals=sum_counts(counted),
            purposes=purposes,
            stations=tuple(_station(name, stations.get(name), totals, latencies.get(name, [])) for name in known),
            removed=removed,
            production=production,
            simulated=simulated,
            trend=yields[Purpose.SIMULATED if only_simulated else Purpose.PRODUCTION].trend(),
            suspects=tuple(_suspects(session, period, dispositions, shelf)),
            suspects_total=history.count_suspicious(session, period),
            names=_largest([_count_name(item) for item in history.count_defect_names(session, period)]),
            not_inspected=_largest(_count_reasons(history.list_not_inspected(session, period))),
            recipes=tuple(_recipe_use(use) for use in history.list_used_recipes(session, period)),
            cameras=_cameras(session, shown),
            chains=tuple(_chain(db, name) for name in history.known_stations(session)),
            truth=_truth(session, period, dispositions, shelf),
        )


def _resolve_period(session: Session, period: HistoryPeriod, timezone: str, now_us: int) -> ReportPeriod:
    """Open ends become the first and the last thing on record, whether a trigger or a camera's sign of life."""
    spans = [span for span in (history.trigger_span(session, period), camera_history.health_span(session)) if span]
    since, until = period.since_utc_us, period.until_utc_us
    if since is None:
        since = min([span[0] for span in spans] or [now_us if until is None else until])
    if until is None:
        until = max([span[1] + 1 for span in spans] or [now_us])
    until = max(since, until)
    return ReportPeriod(since, until, period.since_utc_us is None, period.until_utc_us is None, timezone)


def _trend_ends(session: Session, period: HistoryPeriod, shown: ReportPeriod) -> tuple[int, int]:
    """The given ends; where they are open, those of the parts."""
    span = history.trigger_span(session, period)
    if span is None:
        return shown.since_utc_us, shown.until_utc_us
    return (
        span[0] if shown.since_open else shown.since_utc_us,
        span[1] + 1 if shown.until_open else shown.until_utc_us,
    )


def _purposes(totals: TotalsTally) -> tuple[PurposeCounts, ...]:
    return tuple(
        PurposeCounts(purpose, VerdictCounts.from_kinds(totals.purposes[purpose]))
        for purpose in Purpose
        if purpose in totals.purposes
    )


def _station(
    station: str, config: StationConfig | None, totals: TotalsTally, latencies: Sequence[float]
) -> StationFigures:
    return StationFigures(
        station=station,
        name=(config.name or station) if config else station,
        counts=totals.station_counts(station),
        late=totals.late_rate(station),
        deadline_ms=config.deadline_ms if config else None,
        latency=LatencyFigures(
            measured=len(latencies),
            p50_ms=_percentile(latencies, 0.5),
            p95_ms=_percentile(latencies, 0.95),
            p99_ms=_percentile(latencies, 0.99),
        ),
    )


def _percentile(ascending: Sequence[float], share: float) -> float | None:
    """Nearest rank: the smallest value that `share` of all values do not exceed."""
    return ascending[max(0, math.ceil(share * len(ascending)) - 1)] if ascending else None


def _removed(session: Session, period: HistoryPeriod) -> RemovedFigures:
    """Triggers that retention removed count where the period has no beginning and ends after the removal."""
    counts, included, uncertain = VerdictCounts(), False, False
    for removed in history.list_removed(session):
        since, until = period.since_utc_us, period.until_utc_us
        whole = since is None and (until is None or until >= removed.cut_utc_us)
        before = since is not None and (
            since >= removed.cut_utc_us or history.has_triggers_before(session, removed.station, since)
        )
        if before:
            continue
        counts = counts + sum_counts(
            VerdictCounts.from_kinds({kind: verdicts.get(kind.value, 0) for kind in VerdictKind})
            for verdicts in removed.counts.values()
        )
        included, uncertain = included or whole, uncertain or not whole
    # One station that cannot be placed makes the sum of all uncertain: then none is counted.
    return RemovedFigures(counts, included=included and not uncertain, uncertain=uncertain)


def _suspects(
    session: Session, period: HistoryPeriod, dispositions: Mapping[str, VerdictKind], shelf: PictureShelf
) -> Iterable[SuspectPart]:
    suspicious = list(history.list_suspicious(session, period, MAX_SUSPECTS))
    opinions = newest_opinions(session, [found.inspection_id for found in suspicious])
    for found in suspicious:
        disposition = dispositions.get(found.trigger_id)
        yield SuspectPart(
            inspection_id=found.inspection_id,
            station=found.station,
            camera=found.camera,
            sequence=found.sequence,
            accepted_utc_us=found.accepted_utc_us,
            purpose=found.purpose,
            part_id=found.part_id,
            lot=found.lot,
            attempt=found.attempt,
            verdict=found.verdict,
            disposition=disposition if disposition is not found.verdict else None,
            score=found.score,
            review_threshold=found.review_threshold,
            ng_threshold=found.ng_threshold,
            reasons=found.reasons,
            names=found.names,
            regions=len(found.names),
            late=found.late,
            recipe=f"{found.recipe_name}@{found.recipe_version}" if found.recipe_name else None,
            picture=shelf.thumbnail(found.thumbnail_key, found.evidence_state),
            visual_href=shelf.visual_href(found.visual_key),
            opinion=opinion_words(opinions[found.inspection_id]) if found.inspection_id in opinions else None,
        )


def _count_name(item: history.DefectName) -> NamedCount:
    return NamedCount(item.name, item.count, item.reviewed)


def _count_reasons(reasons: Iterable[str]) -> list[NamedCount]:
    """By the words before the first colon: what follows is about one case (a file name, a size)."""
    counts = Counter(reason.split(":", 1)[0].strip() or "no reason given" for reason in reasons)
    ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return [NamedCount(reason, count) for reason, count in ranked]


def _largest(counts: Sequence[NamedCount]) -> tuple[NamedCount, ...]:
    """The largest counts; the rest becomes one line, so that the sum stays."""
    shown, rest = counts[:MAX_NAMES], counts[MAX_NAMES:]
    if not rest:
        return tuple(shown)
    others = NamedCount(f"{len(rest)} others", sum(item.count for item in rest), sum(item.reviewed for item in rest))
    return (*shown, others)


def _recipe_use(use: history.UsedRecipe) -> RecipeUse:
    return RecipeUse(
        station=use.station,
        recipe=f"{use.recipe_name}@{use.recipe_version}" if use.recipe_name else "none",
        recipe_sha256=use.recipe_sha256,
        software_version=use.software_version,
        config_sha256=use.config_sha256,
        inspections=use.inspections,
        first_utc_us=use.first_utc_us,
        last_utc_us=use.last_utc_us,
    )


def _cameras(session: Session, period: ReportPeriod) -> tuple[CameraFigures, ...]:
    ends = (period.since_utc_us, period.until_utc_us)
    pieces: dict[tuple[str, str], list[camera_history.CameraPiece]] = {}
    count = max(1, min(CAMERA_PIECES, (ends[1] - ends[0]) // CAMERA_PIECE_US))
    for piece in camera_history.camera_pieces(session, *ends, count):
        pieces.setdefault((piece.station, piece.camera), []).append(piece)
    troubles = camera_history.last_camera_troubles(session, *ends)
    return tuple(_camera(key, found, count, troubles.get(key)) for key, found in pieces.items())


def _camera(
    key: tuple[str, str], pieces: Sequence[camera_history.CameraPiece], count: int, trouble: str | None
) -> CameraFigures:
    by_piece = {piece.piece: piece for piece in pieces}
    row = [by_piece.get(position) for position in range(count)]
    samples = sum(piece.samples for piece in pieces)
    speeds = [(piece.frames_per_s, piece.samples) for piece in pieces if piece.frames_per_s is not None]
    weight = sum(times for _, times in speeds)
    return CameraFigures(
        station=key[0],
        camera=key[1],
        samples=samples,
        connected=Rate(sum(piece.connected for piece in pieces), samples),
        frames_per_s=sum(speed * times for speed, times in speeds) / weight if weight else None,
        dropped=sum(piece.dropped for piece in pieces),
        strip=tuple(piece.connected / piece.samples if piece else None for piece in row),
        levels=tuple(piece.level if piece else None for piece in row),
        focuses=tuple(piece.focus if piece else None for piece in row),
        last_reason=trouble,
    )


def _chain(db: Database, station: str) -> ChainFigures:
    try:
        report = verify_chain(db, station)
    except ChainBrokenError as error:
        return ChainFigures(station, intact=False, rows=0, verified_to=0, removed_rows=0, problem=str(error))
    return ChainFigures(station, True, report.rows, report.tip_index, report.removed_rows, None)


def _truth(
    session: Session, period: HistoryPeriod, dispositions: Mapping[str, VerdictKind], shelf: PictureShelf
) -> TruthFigures | None:
    rows = list(history.stream_truths(session, period))
    defective = [row.inspection_id for row in rows if read_defects(row.truth)]
    tally = tally_truth(rows, dispositions, history.list_regions(session, defective))
    if tally is None:
        return None
    missed = tuple(_missed(row, shelf) for row in tally.missed[:MAX_MISSED])
    return TruthFigures(tally.by_kind, tally.defective, tally.good, missed)


def _missed(row: history.TruthRow, shelf: PictureShelf) -> MissedPart:
    defects = read_defects(row.truth)
    boxes = tuple(defect.box_xyxy_px for defect in defects if defect.box_xyxy_px is not None)
    return MissedPart(
        station=row.station,
        sequence=row.sequence,
        accepted_utc_us=row.accepted_utc_us,
        part_id=row.part_id,
        lot=row.lot,
        kinds=tuple(dict.fromkeys(defect.kind for defect in defects)),
        score=row.score,
        review_threshold=row.review_threshold,
        boxes_xyxy_px=boxes,
        frame_width_px=row.frame_width_px,
        frame_height_px=row.frame_height_px,
        picture=shelf.outlined_frame(row.frame_key, boxes),
    )
