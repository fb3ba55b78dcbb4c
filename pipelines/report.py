"""The report, top to bottom: open the database, collect the figures, render the page, write the file."""

from __future__ import annotations

import os
import uuid
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import structlog

import inspector
from inspector.clock import UtcClock, to_rfc3339, to_utc_us, utc_now_us
from inspector.config import PlantConfig, config_sha256
from inspector.errors import InputError, StoreError
from inspector.store.database import DATABASE_FILE, Database
from inspector.store.os_errors import named_os_errors
from reports.collect_report import ReportContext, collect_report_data
from reports.html import render_report
from reports.rates import VerdictCounts
from reports.report_data import ReportData

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class ReportSummary:
    """What the command line says about a report: where it lies and its main counts.

    `triggers` is the sum of the four verdicts and `pending`. `yield_share` is None without inspected
    production parts. `defective`, `caught`, `missed` and `overkill` are None where no camera knows the truth.
    """

    path: Path
    bytes_written: int
    since_utc_us: int
    until_utc_us: int
    counts: VerdictCounts
    yield_share: float | None
    simulated_yield_share: float | None
    chain_intact: bool
    defective: int | None
    caught: int | None
    missed: int | None
    overkill: int | None

    def to_json(self) -> dict[str, Any]:
        """Plain values; `triggers` is the sum of the five counts after it, times are RFC 3339."""
        values = asdict(self)
        counts = {"triggers": self.counts.triggers, **values.pop("counts")}
        begin, end = to_rfc3339(values.pop("since_utc_us")), to_rfc3339(values.pop("until_utc_us"))
        return {"path": str(values.pop("path")), "from": begin, "to": end, **counts, **values}


def write_report(
    config: PlantConfig,
    data_dir: Path,
    out: Path,
    since: datetime | None = None,
    until: datetime | None = None,
    *,
    clock: UtcClock = utc_now_us,
) -> ReportSummary:
    """Write one self-contained HTML file about the triggers accepted in [since, until); None: an open end.

    The file appears whole or not at all. Raises `StoreError` when there is no database or it cannot be read,
    `InputError` for a period that ends before it begins or a time without a zone.
    """
    since_us, until_us = to_us(since, "from"), to_us(until, "to")
    if since_us is not None and until_us is not None and until_us < since_us:
        raise InputError(f"the period ends before it begins: from {since} to {until}")
    data = _collect(config, data_dir, out, since_us, until_us, clock())
    content = render_report(data).encode("utf-8", "replace")
    write_whole(out, content)
    log.info("report_written", path=str(out), bytes=len(content), triggers=data.totals.triggers)
    return _summarise(data, out, len(content))


def _collect(
    config: PlantConfig, data_dir: Path, out: Path, since_us: int | None, until_us: int | None, now_us: int
) -> ReportData:
    if not (data_dir / DATABASE_FILE).is_file():
        raise StoreError(f"{data_dir}: there is no database here; run the service first or name its --data-dir")
    context = ReportContext(now_us, inspector.__version__, config_sha256(config), out.resolve().parent)
    db = Database.open(data_dir)
    try:
        return collect_report_data(db, config.site, config.stations(), since_us, until_us, context)
    finally:
        db.close()


def to_us(moment: datetime | None, name: str) -> int | None:
    """µs UTC of the end of a period; `InputError` for a time without a zone."""
    if moment is None:
        return None
    try:
        return to_utc_us(moment)
    except ValueError as error:
        raise InputError(f"{name} {moment}: {error}") from error


def write_whole(out: Path, content: bytes) -> None:
    """Write a file that appears whole or not at all."""
    with named_os_errors(out.parent):
        out.parent.mkdir(parents=True, exist_ok=True)
        temporary = out.with_name(f".{out.name}.{uuid.uuid4().hex}")
        try:
            with temporary.open("xb") as stream:
                stream.write(content)
                stream.flush()
                os.fsync(stream.fileno())
            temporary.replace(out)
        finally:
            temporary.unlink(missing_ok=True)


def _summarise(data: ReportData, out: Path, size: int) -> ReportSummary:
    truth = data.truth
    return ReportSummary(
        path=out,
        bytes_written=size,
        since_utc_us=data.period.since_utc_us,
        until_utc_us=data.period.until_utc_us,
        counts=data.totals,
        yield_share=data.production.rate.value,
        simulated_yield_share=data.simulated.rate.value,
        chain_intact=all(chain.intact for chain in data.chains),
        defective=truth.defective.caught.total + truth.defective.not_inspected if truth else None,
        caught=truth.defective.caught.count if truth else None,
        missed=truth.defective.missed if truth else None,
        overkill=truth.overkill.count if truth else None,
    )
