"""The report's tables as values: a caption, column heads and rows, ready for one template macro."""

from __future__ import annotations

from dataclasses import dataclass

from markupsafe import Markup

from inspector.detector.naming import UNKNOWN
from inspector.records import UNNAMED, Purpose
from reports import charts
from reports.formats import (
    NO_VALUE,
    PERCENT,
    SiteClock,
    clean_name,
    clean_text,
    format_count,
    format_interval,
    format_ms,
    format_of,
    format_rate,
    format_share,
    plural,
)
from reports.rates import Rate, VerdictCounts
from reports.report_data import CameraFigures, KindOutcome, NamedCount, ReportData, StationFigures


@dataclass(frozen=True, slots=True)
class Cell:
    """A text, or markup made by `charts` in its place, with a note below it."""

    text: str
    note: str = ""
    markup: Markup | None = None


@dataclass(frozen=True, slots=True)
class Head:
    """A column: `num` is right-aligned, `bar` holds a bar without words."""

    text: str
    num: bool = False
    bar: bool = False


@dataclass(frozen=True, slots=True)
class Row:
    """The first cell names the row. `total` is a sum of the rows above."""

    cells: tuple[Cell, ...]
    total: bool = False


@dataclass(frozen=True, slots=True)
class Table:
    """A table with a caption that says what is counted."""

    caption: str
    heads: list[Head]
    rows: list[Row]


HASH_PREFIX = 12
VAGUE = (UNNAMED, UNKNOWN)
"""Names that tell no cause."""
VERDICT_HEADS = ("OK", "NG", "REVIEW", "Not inspected", "Pending", "Triggers")


def build_tables(data: ReportData, clock: SiteClock) -> dict[str, Table | None]:
    """Every table of the page by name; None where the section has nothing to show."""
    return {
        "trend": _trend(data),
        "truth": _truth(data),
        "good_parts": _good_parts(data),
        "names": _names(data),
        "not_inspected": _not_inspected(data),
        "stations": _stations(data),
        "purposes": _purposes(data),
        "timing": _timing(data),
        "recipes": _recipes(data, clock),
        "cameras": _cameras(data),
        "chains": _chains(data),
    }


def rate_cell(rate: Rate) -> Cell:
    """A percentage with its counts, and its interval where they are small."""
    interval = format_interval(rate)
    note = format_of(rate) + (f"\n95{PERCENT}: {interval}" if interval else "")
    return Cell(format_rate(rate), note if rate.total else "none")


def _heads(*names: str, numbers: int = 0) -> list[Head]:
    """Column heads; the last `numbers` of them are right-aligned."""
    return [Head(name, num=position >= len(names) - numbers) for position, name in enumerate(names)]


def _row(*cells: Cell | str, total: bool = False) -> Row:
    return Row(tuple(Cell(cell) if isinstance(cell, str) else cell for cell in cells), total)


def _count_cells(counts: VerdictCounts) -> list[str]:
    values = (counts.ok, counts.ng, counts.review, counts.not_inspected, counts.pending, counts.triggers)
    return [format_count(value) for value in values]


def _trend(data: ReportData) -> Table | None:
    rows = [
        _row(point.label, rate_cell(point.rate), *_count_cells(point.counts))
        for point in data.trend.points
        if point.counts.triggers
    ]
    heads = _heads("Period", "Yield", "Good", "Bad", "Review", "Not inspected", "Pending", "Parts", numbers=7)
    return Table(f"By {data.trend.unit}, with current truth; pieces without parts are left out", heads, rows)


def _truth(data: ReportData) -> Table | None:
    if data.truth is None:
        return None
    heads = _heads("Defect", "NG", "REVIEW", "Missed (OK)", "Not inspected", "Caught", "Found in place", numbers=6)
    rows = [_row(*_kind_cells(clean_name(kind.kind), kind)) for kind in data.truth.by_kind]
    rows.append(_row(*_kind_cells("All defective parts", data.truth.defective), total=True))
    return Table("Defective parts by kind; a part with two kinds stands in both rows and once in the sum", heads, rows)


def _kind_cells(name: str, outcome: KindOutcome) -> list[Cell | str]:
    counts = (outcome.ng, outcome.review, outcome.missed, outcome.not_inspected)
    return [name, *(format_count(count) for count in counts), rate_cell(outcome.caught), rate_cell(outcome.located)]


def _good_parts(data: ReportData) -> Table | None:
    if data.truth is None:
        return None
    good = data.truth.good
    counts = (good.ok, good.review, good.ng, good.not_inspected)
    heads = _heads("Good parts", "OK", "REVIEW", "NG", "Not inspected", "Overkill", numbers=5)
    row = _row("Without defect", *(format_count(count) for count in counts), rate_cell(data.truth.overkill))
    return Table("Parts without any defect", heads, [row])


def _names(data: ReportData) -> Table | None:
    if not has_names(data):
        return None
    total, running, rows = sum(item.count for item in data.names), 0, []
    most = max(item.count for item in data.names)
    for item in data.names:
        running += item.count
        note = f"{item.reviewed:,} named by a person" if item.reviewed else ""
        bar = Cell("", markup=charts.share_bar(item.count / most, "not_inspected" if item.name in VAGUE else "ng"))
        shares = (format_share(item.count / total), format_share(running / total))
        rows.append(_row(Cell(clean_name(show_name(item.name)), note), bar, format_count(item.count), *shares))
    rows.append(_row("Total", "", format_count(total), format_share(1.0), "", total=True))
    caption = (
        "Defects by name: each picture counts once, by the name a person gave it, else by that of its worst region; "
        "what a person called good is left out"
    )
    heads = [Head("Name"), Head("", bar=True), *(Head(text, num=True) for text in ("Pictures", "Share", "Cumulative"))]
    return Table(caption, heads, rows)


def has_names(data: ReportData) -> bool:
    """Whether any defect of the period has a name."""
    return any(item.name != UNNAMED for item in data.names)


def show_name(name: str) -> str:
    """A defect's name for people."""
    return "without a name" if name == UNNAMED else name


def _not_inspected(data: ReportData) -> Table | None:
    if not data.not_inspected:
        return None
    return _ranking("Not inspected, by reason", "Reason", "Parts", list(data.not_inspected), "not_inspected")


def _ranking(caption: str, what: str, counted: str, items: list[NamedCount], kind: str) -> Table:
    """A Pareto table: largest first, with its bar and the running share."""
    total, running, rows = sum(item.count for item in items), 0, []
    most = max(item.count for item in items)
    for item in items:
        running += item.count
        bar = Cell("", markup=charts.share_bar(item.count / most, kind))
        share = Cell(format_count(item.count), f"{format_share(running / total)} so far")
        rows.append(_row(clean_name(item.name), bar, share))
    rows.append(_row("Total", "", format_count(total), total=True))
    heads = [Head(what), Head("", bar=True), Head(counted, num=True)]
    return Table(caption, heads, rows)


def _stations(data: ReportData) -> Table:
    rows = [_row(_station_cell(item), *_count_cells(item.counts)) for item in data.stations]
    rows += _removed_row(data)
    rows.append(_row("All stations", *_count_cells(data.totals), total=True))
    return Table("Triggers by station and verdict", _heads("Station", *VERDICT_HEADS, numbers=6), rows)


def _station_cell(item: StationFigures) -> Cell | str:
    return Cell(clean_text(item.name), item.station) if item.name != item.station else item.station


def _removed_row(data: ReportData) -> list[Row]:
    if not data.removed.included or not data.removed.counts.triggers:
        return []
    return [_row("Removed by retention", *_count_cells(data.removed.counts))]


def _purposes(data: ReportData) -> Table:
    notes = {Purpose.PRODUCTION: "counts in the yield"}
    rows = [
        _row(
            Cell(item.purpose.value, notes.get(item.purpose, "not in the yield")),
            *_count_cells(item.counts),
        )
        for item in data.purposes
    ]
    rows += _removed_row(data)
    rows.append(_row("All purposes", *_count_cells(data.totals), total=True))
    return Table("Triggers by purpose and verdict", _heads("Purpose", *VERDICT_HEADS, numbers=6), rows)


def _timing(data: ReportData) -> Table:
    rows = [
        _row(
            _station_cell(item),
            format_ms(item.deadline_ms),
            rate_cell(item.late),
            format_ms(item.latency.p50_ms),
            format_ms(item.latency.p95_ms),
            format_ms(item.latency.p99_ms),
        )
        for item in data.stations
    ]
    rows.append(_row("All stations", "", rate_cell(data.late), "", "", "", total=True))
    heads = _heads(
        "Station", "Deadline", "Late verdicts", "Half within", f"95{PERCENT} within", f"99{PERCENT} within", numbers=5
    )
    return Table("From picture to verdict", heads, rows)


def _recipes(data: ReportData, clock: SiteClock) -> Table | None:
    if not data.recipes:
        return None
    rows = []
    for use in data.recipes:
        sha256 = f"SHA-256 {use.recipe_sha256[:HASH_PREFIX]}…" if use.recipe_sha256 else "nothing was scored"
        program = Cell(use.software_version, f"configuration {use.config_sha256[:HASH_PREFIX]}…")
        span = Cell(clock.minute(use.first_utc_us), f"to {clock.minute(use.last_utc_us)}")
        recipe = Cell(use.recipe, sha256)
        rows.append(_row(recipe, use.station, program, span, format_count(use.inspections)))
    heads = _heads("Recipe", "Station", "Program", "In use", "Inspections", numbers=1)
    return Table("Every combination of recipe, program and configuration that decided in this period", heads, rows)


def _cameras(data: ReportData) -> Table | None:
    rows = [_row(*_camera_cells(position, camera)) for position, camera in enumerate(data.cameras)]
    heads = _heads("Camera", "Connected", "Frames a second", "Dropped frames", "Level", "Focus")
    return Table("Over the period, from left to right", heads, rows) if rows else None


def _camera_cells(position: int, camera: CameraFigures) -> list[Cell | str]:
    name = f"{camera.station}/{camera.camera}"
    strip = charts.availability_strip(f"cam{position}", camera.strip, f"{name}: connection")
    level = charts.sparkline(f"cam{position}l", camera.levels, f"{name}: level", "grey levels")
    focus = charts.sparkline(f"cam{position}f", camera.focuses, f"{name}: focus", "grey levels squared")
    reason = f"; last trouble: {clean_text(camera.last_reason)}" if camera.last_reason else ""
    return [
        Cell(camera.camera, camera.station),
        Cell("", f"{format_rate(camera.connected)} of {plural(camera.samples, 'sample')}{reason}", strip),
        NO_VALUE if camera.frames_per_s is None else f"{camera.frames_per_s:.2f}",
        format_count(camera.dropped),
        Cell("", _range(camera.levels), level or None),
        Cell("", _range(camera.focuses), focus or None),
    ]


def _range(values: tuple[float | None, ...]) -> str:
    known = [value for value in values if value is not None]
    if not known:
        return ""
    low, high = f"{min(known):.0f}", f"{max(known):.0f}"
    return low if low == high else f"{low} to {high}"


def _chains(data: ReportData) -> Table | None:
    rows = []
    for chain in data.chains:
        state = Cell("broken", clean_text(chain.problem or "", 300))
        if chain.intact:
            state = Cell(f"verified to row {chain.verified_to:,}" if chain.verified_to else "no row yet")
        removed = format_count(chain.removed_rows) if chain.intact else NO_VALUE
        rows.append(_row(chain.station, state, format_count(chain.rows) if chain.intact else NO_VALUE, removed))
    heads = _heads("Station", "Audit chain", "Rows checked", "Removed by retention", numbers=2)
    return Table("Each row carries the hash of its predecessor", heads, rows) if rows else None
