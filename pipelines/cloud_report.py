"""`inspector cloud report`: what the edge handled, what the cloud said against it, and what that cost."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from inspector.clock import UtcClock, utc_now_us
from inspector.cloud.budget import MICRO
from inspector.cloud.question import read_question
from inspector.config import PlantConfig
from inspector.detector.calibration import binomial_interval
from inspector.errors import ImageError, StoreError
from inspector.images import decode_image
from inspector.records import VerdictKind
from inspector.store.cloud_audit import stream_audit
from inspector.store.cloud_spend import sum_spend
from inspector.store.database import DATABASE_FILE, Database
from inspector.store.escalations import count_open, count_problems
from inspector.store.frames import FrameFiles
from inspector.store.inspections import count_inspections
from inspector.store.reviews import GivenOpinion, list_opinions
from pipelines.report import to_us, write_whole
from reports.cloud_page import CloudCase, CloudReport, CloudStation, render_cloud_page
from reports.cloud_words import opinion_words
from reports.pictures import shrink
from reports.rates import Rate
from reports.report_data import Picture

MAX_PICTURES = 40
AGREEING = {(VerdictKind.NG, "defect"), (VerdictKind.OK, "good")}
AGAINST = {(VerdictKind.NG, "good"), (VerdictKind.OK, "defect")}


@dataclass(frozen=True, slots=True)
class CloudSummary:
    """What `cloud report --json` prints."""

    report: CloudReport
    path: Path | None

    def to_json(self) -> dict[str, Any]:
        """Plain values; money in units of the currency."""
        report = self.report
        return {
            "path": str(self.path) if self.path is not None else None,
            "currency": report.currency,
            "stations": [
                {
                    "station": item.station,
                    "inspections": item.inspections,
                    "at_the_edge": item.at_the_edge.value,
                    "asked": item.asked,
                    "reused": item.reused,
                    "requests": item.requests,
                    "bytes": item.sent_bytes,
                    "money": item.money_micro / MICRO,
                    "money_everything": None if item.everything_micro is None else item.everything_micro / MICRO,
                }
                for item in report.stations
            ],
            "opinions": {f"{verdict} {said}": count for (verdict, said), count in sorted(report.matrix.items())},
            "agreement": report.agree.value,
            "audits": report.audits.total,
            "audit_defects": report.audits.count,
            "audit_interval": list(report.audit_interval) if report.audit_interval is not None else None,
            "open": report.open_questions,
            "not_answered": report.problems,
        }


def report_cloud(
    config: PlantConfig,
    data_dir: Path,
    *,
    since: datetime | None = None,
    until: datetime | None = None,
    out: Path | None = None,
    note: str | None = None,
    clock: UtcClock = utc_now_us,
) -> CloudSummary:
    """Figures of a period, and with `out` a self-contained page with the pictures that were sent, `note` at its top.

    Raises `StoreError` without a database.
    """
    if not (data_dir / DATABASE_FILE).is_file():
        raise StoreError(f"{data_dir}: there is no database here; run the service first or name its --data-dir")
    since_us, until_us = to_us(since, "from"), to_us(until, "to")
    db = Database.open(data_dir)
    try:
        opinions = list_opinions(db, since_us, until_us)
        pictures = SentPictures(db, data_dir)
        matrix = Counter((given.verdict.value, given.opinion.verdict) for given in opinions)
        against = [given for given in opinions if (given.verdict, given.opinion.verdict) in AGAINST]
        others = [given for given in opinions if (given.verdict, given.opinion.verdict) not in AGAINST]
        agreed = sum((given.verdict, given.opinion.verdict) in AGREEING for given in opinions)
        audits = [given for given in opinions if given.opinion.details.get("asked_because") == "audit"]
        found = sum(given.opinion.verdict == "defect" for given in audits)
        report = CloudReport(
            site_name=config.site.name or config.site.id,
            timezone=config.site.timezone,
            generated_utc_us=clock(),
            currency=config.cloud.currency,
            stations=_stations(db, opinions, since_us, until_us),
            matrix=dict(matrix),
            agree=Rate(agreed, agreed + len(against)),
            audits=Rate(found, len(audits)),
            audit_interval=binomial_interval(found, len(audits)) if audits else None,
            open_questions=count_open(db),
            problems=count_problems(db),
            disagreements=pictures.show(against) if out is not None else (),
            agreements=pictures.show(others) if out is not None else (),
            note=note,
        )
    finally:
        db.close()
    if out is not None:
        write_whole(out, render_cloud_page(report).encode("utf-8", "replace"))
    return CloudSummary(report, out)


class SentPictures:
    """The pictures that models saw, out of the files that were recorded before sending."""

    def __init__(self, db: Database, data_dir: Path) -> None:
        self._files = FrameFiles(data_dir / "outgoing")
        self._keys = {entry.departure.escalation_id: entry.departure.payload_key for entry in stream_audit(db)}

    def show(self, opinions: Sequence[GivenOpinion]) -> tuple[CloudCase, ...]:
        """The newest of these, each with its first picture of the part."""
        return tuple(
            CloudCase(
                title=given.part_id or f"part {given.sequence}",
                verdict=given.verdict.value,
                words=opinion_words(given.opinion),
                picture=self._picture(given),
            )
            for given in list(reversed(opinions))[:MAX_PICTURES]
        )

    def _picture(self, given: GivenOpinion) -> Picture:
        details = given.opinion.details
        key = self._keys.get(details.get("same_as") or details.get("escalation_id", ""))
        if key is None or not self._files.exists(key):
            return Picture(None, None, "The picture is no longer on this disk")
        try:
            images = read_question(self._files.read(key)).images
            return shrink(decode_image(next(image.content for image in images if image.role == "part")))
        except (ImageError, StoreError, ValueError, StopIteration):
            return Picture(None, None, "The picture is damaged")


def _stations(
    db: Database, opinions: Sequence[GivenOpinion], since_us: int | None, until_us: int | None
) -> tuple[CloudStation, ...]:
    inspected: Counter[str] = Counter()
    for (station, verdict), count in count_inspections(db, since_us, until_us).items():
        inspected[station] += count if verdict is not VerdictKind.NOT_INSPECTED else 0
    spent = {item.station: item for item in sum_spend(db, since_us, until_us)}
    found = []
    for station in sorted({*inspected, *spent}):
        own = [given.opinion.details for given in opinions if given.station == station]
        prices = [details["cost_micro"] for details in own if details.get("same_as") is None]
        total = spent.get(station)
        found.append(
            CloudStation(
                station=station,
                inspections=inspected[station],
                asked=len(prices),
                reused=len(own) - len(prices),
                requests=total.attempts if total else 0,
                sent_bytes=total.size_bytes if total else 0,
                money_micro=total.money_micro if total else 0,
                everything_micro=round(sum(prices) / len(prices) * inspected[station]) if prices else None,
            )
        )
    return tuple(found)
