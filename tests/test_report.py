"""`write_report`: from a data directory to one file, whole or not at all."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest

from inspector.clock import to_datetime
from inspector.errors import InputError, StoreError
from inspector.records import Purpose
from pipelines.report import write_report
from reports.collect_report import MAX_SUSPECTS
from reports.pictures import MAX_PICTURE_BYTES, shrink
from reports.rates import VerdictCounts
from tests.report_line import BOX, NG, OK, START_US, US_PER_S, open_line, part_picture, plant

START = to_datetime(START_US)


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    """Three production parts and one simulated part that was missed."""
    folder = tmp_path / "data"
    line = open_line(folder)
    for kind in (OK, OK, NG):
        line.part(kind)
    truth = {"defective": True, "defects": [{"kind": "scratch", "box_xyxy_px": list(BOX)}]}
    line.part(OK, purpose=Purpose.SIMULATED, inspect={"truth": truth})
    line.db.close()
    return folder


def test_the_summary_has_the_counts_of_the_page(data_dir: Path, tmp_path: Path) -> None:
    """What the command line prints is what the page says."""
    summary = write_report(plant(), data_dir, tmp_path / "out" / "report.html")
    assert summary.counts == VerdictCounts(ok=3, ng=1)
    assert summary.yield_share == pytest.approx(2 / 3)
    assert summary.simulated_yield_share == 1.0
    assert (summary.defective, summary.caught, summary.missed, summary.overkill) == (1, 0, 1, 0)
    assert summary.chain_intact
    said = json.loads(json.dumps(summary.to_json()))
    assert said["triggers"] == sum(said[name] for name in ("ok", "ng", "review", "not_inspected", "pending")) == 4
    assert said["from"] == "2026-07-01T06:00:00.000000Z"
    page = summary.path.read_text(encoding="utf-8")
    assert summary.bytes_written == len(page.encode())
    assert '<data value="4" id="sum-triggers">' in page


def test_the_period_is_given_with_a_zone(data_dir: Path, tmp_path: Path) -> None:
    """Any offset will do; a time without one, or an end before its beginning, is an error that says so."""
    out = tmp_path / "report.html"
    kathmandu = timezone(timedelta(hours=5, minutes=45))
    since = (START + timedelta(seconds=15)).astimezone(kathmandu)
    assert write_report(plant(), data_dir, out, since, START + timedelta(days=1)).counts.triggers == 2
    with pytest.raises(InputError, match="without a zone"):
        write_report(plant(), data_dir, out, datetime(2026, 7, 1), None)
    with pytest.raises(InputError, match="ends before it begins"):
        write_report(plant(), data_dir, out, START, START - timedelta(seconds=1))


def test_a_directory_without_database_is_an_error(tmp_path: Path) -> None:
    """A wrong --data-dir must not give an empty report that looks like a quiet day, nor leave a database."""
    with pytest.raises(StoreError, match="no database"):
        write_report(plant(), tmp_path / "nowhere", tmp_path / "report.html")
    assert list(tmp_path.iterdir()) == []


def test_a_report_that_cannot_be_written_leaves_the_old_one(data_dir: Path, tmp_path: Path) -> None:
    """The file is replaced whole; a folder in its place is an error of ours and nothing is left beside it."""
    out = tmp_path / "report.html"
    write_report(plant(), data_dir, out)
    before = out.read_bytes()
    write_report(plant(), data_dir, out, clock=lambda: START_US)
    assert out.read_bytes() != before
    blocked = tmp_path / "taken"
    (blocked / "inside").mkdir(parents=True)
    with pytest.raises(StoreError, match=str(tmp_path)):
        write_report(plant(), data_dir, blocked)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "report.html", "taken"]


def test_the_same_database_gives_the_same_page(data_dir: Path, tmp_path: Path) -> None:
    """An auditor who makes the report again gets it again, byte for byte, at the same time of making."""
    pages = []
    for _ in range(2):
        summary = write_report(plant(), data_dir, tmp_path / "report.html", clock=lambda: START_US + US_PER_S)
        pages.append(summary.path.read_bytes())
    assert pages[0] == pages[1]


def test_the_size_of_the_page_is_bounded(tmp_path: Path) -> None:
    """However many defects: at most sixty pictures of at most 32 KB each."""
    line = open_line(tmp_path / "data")
    thumbnail = shrink(part_picture(1)).content or b""
    thumbnail += b"\x00" * (MAX_PICTURE_BYTES - len(thumbnail))
    for _ in range(MAX_SUSPECTS + 2):
        line.show(line.part(NG), thumbnail, None)
    line.db.close()
    summary = write_report(plant(), tmp_path / "data", tmp_path / "report.html")
    assert MAX_SUSPECTS * MAX_PICTURE_BYTES < summary.bytes_written < MAX_SUSPECTS * MAX_PICTURE_BYTES * 1.5
    assert b"2 more are in the database" in summary.path.read_bytes()


def test_a_clock_that_jumped_gives_a_report(tmp_path: Path) -> None:
    """Triggers stamped in 1970 and in 2050 by a broken clock are counted like all others."""
    line = open_line(tmp_path / "data")
    for moment in (datetime(1970, 1, 1, tzinfo=UTC), datetime(2050, 1, 1, tzinfo=UTC)):
        line.part(OK, at_us=int(moment.timestamp()) * US_PER_S)
    line.part(NG)
    line.db.close()
    summary = write_report(plant(), tmp_path / "data", tmp_path / "report.html")
    assert summary.counts == VerdictCounts(ok=2, ng=1)
