"""Figures collected from a real database that was filled through the store's own functions."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from sqlalchemy import update

from inspector.images import encode_jpeg
from inspector.records import Purpose, RecipeRef, VerdictKind
from inspector.store.inspections import count_verdicts
from inspector.store.retention import apply_retention
from inspector.store.reviews import add_disposition, add_review
from inspector.store.tables import InspectionRow
from reports.collect_report import MAX_SUSPECTS, ReportContext, collect_report_data
from reports.pictures import MAX_PICTURE_BYTES, shrink
from reports.rates import Rate, VerdictCounts
from reports.report_data import ReportData
from tests.report_line import (
    BOX,
    NG,
    NOT_INSPECTED,
    OK,
    REVIEW,
    START_US,
    STATION,
    US_PER_S,
    RecordedLine,
    open_line,
    part_picture,
    plant,
)

HOUR_US = 3600 * US_PER_S


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with one station and nothing else, made once and copied for each test."""
    folder = tmp_path_factory.mktemp("fresh")
    open_line(folder).db.close()
    return folder


@pytest.fixture
def line(tmp_path: Path, fresh: Path) -> Iterator[RecordedLine]:
    shutil.copytree(fresh, tmp_path / "data")
    recorded = open_line(tmp_path / "data")
    yield recorded
    recorded.db.close()


def collect(line: RecordedLine, since: int | None = None, until: int | None = None, **site: Any) -> ReportData:
    config = plant(**site)
    context = ReportContext(START_US + 10 * HOUR_US, "0.1.0", "12" * 32, line.db.data_dir.parent)
    return collect_report_data(line.db, config.site, config.stations(), since, until, context)


def assert_adds_up(data: ReportData) -> None:
    """Every table of the report has the same sum, and it is the sum of its verdicts."""
    totals = data.totals
    assert totals.triggers == totals.ok + totals.ng + totals.review + totals.not_inspected + totals.pending
    removed = data.removed.counts if data.removed.included else VerdictCounts()
    for counts in ([item.counts for item in data.purposes], [item.counts for item in data.stations]):
        total = removed
        for part in counts:
            total = total + part
        assert total == totals
    assert sum(item.count for item in data.not_inspected) == totals.not_inspected - removed.not_inspected


def test_totals_are_those_of_the_store(line: RecordedLine) -> None:
    """Triggers are the four verdicts and what is pending, in every table, and the store counts the same."""
    for kind in (OK, OK, OK, NG, REVIEW, NOT_INSPECTED):
        line.part(kind)
    line.accept()
    line.part(OK, purpose=Purpose.SIMULATED)
    line.part(NG, purpose=Purpose.VERIFICATION)
    data = collect(line)
    assert data.totals == VerdictCounts(ok=4, ng=2, review=1, not_inspected=1, pending=1)
    assert_adds_up(data)
    stored = count_verdicts(line.db, STATION)
    assert (stored.triggers, stored.ok, stored.pending) == (data.totals.triggers, data.totals.ok, data.totals.pending)


def test_only_production_counts_in_the_yield(line: RecordedLine) -> None:
    """Verification, set-up and simulated parts are counted, but not in the production yield."""
    line.part(OK)
    line.part(NG)
    for purpose in (Purpose.SIMULATED, Purpose.VERIFICATION, Purpose.SETUP):
        line.part(NG, purpose=purpose)
    data = collect(line)
    assert data.production.rate == Rate(1, 2)
    assert data.simulated.rate == Rate(0, 1)
    assert data.headline is data.production
    assert data.totals.ng == 4


def test_a_line_that_only_simulates_shows_its_own_yield(line: RecordedLine) -> None:
    """Without production parts the first figure is the simulated yield, named so."""
    line.part(OK, purpose=Purpose.SIMULATED)
    data = collect(line)
    assert data.production.rate.value is None
    assert data.headline.purpose is Purpose.SIMULATED
    assert sum(point.counts.ok for point in data.trend.points) == 1


def test_yield_follows_dispositions_and_sums_do_not(line: RecordedLine) -> None:
    """A review that clears an NG part raises the yield; the verdict, and with it the sum, stays."""
    cleared = line.part(NG)
    line.part(NG)
    line.part(OK)
    line.review(cleared, OK)
    data = collect(line)
    assert data.totals.ng == 2
    assert data.production.rate == Rate(2, 3)
    assert data.production.changed == 1
    assert {part.disposition for part in data.suspects} == {OK, None}


def test_the_newest_disposition_counts(line: RecordedLine) -> None:
    """A part cleared by one review and condemned by the next is bad."""
    part = line.part(NG)
    line.review(part, OK)
    trigger_id = str(part.trigger.trigger_id)
    add_disposition(line.db, trigger_id, "NG", cause="review", cause_id="2", messages=(), now_us=START_US)
    assert collect(line).production.rate == Rate(0, 1)


def test_a_reinspected_part_counts_once(line: RecordedLine) -> None:
    """The latest inspected attempt stands for the part; a failed second look leaves the first."""
    line.part(NG, part_id="A", attempt=1)
    line.part(OK, part_id="A", attempt=2)
    line.part(NG, part_id="B", attempt=1)
    line.part(NOT_INSPECTED, part_id="B", attempt=2)
    data = collect(line)
    assert data.production.counts == VerdictCounts(ok=1, ng=1)
    assert data.production.superseded == 2
    assert data.totals == VerdictCounts(ok=1, ng=2, not_inspected=1)
    assert_adds_up(data)


def test_a_part_id_used_again_is_another_part(line: RecordedLine) -> None:
    """Cameras reuse names: a first attempt after a second one is a new part."""
    for kind, attempt in ((NG, 1), (OK, 2), (NG, 1)):
        line.part(kind, part_id="IMG_1", attempt=attempt)
    data = collect(line)
    assert data.production.counts == VerdictCounts(ok=1, ng=1)
    assert data.production.superseded == 1


def test_the_worst_view_is_the_parts_result(tmp_path: Path) -> None:
    """A part seen by two cameras is pending until both have spoken, and then has the worst of both."""
    line = open_line(tmp_path, cameras=("cam0", "cam1"))
    whole, half = line.accept(), line.accept()
    line.inspect(whole, OK)
    line.inspect(whole, NG, camera="cam1")
    line.inspect(half, OK)
    data = collect(line)
    line.db.close()
    assert data.totals == VerdictCounts(ng=1, pending=1)
    assert data.recipes[0].inspections == 3


def test_a_period_takes_its_beginning_and_leaves_its_end(line: RecordedLine) -> None:
    """[since, until) over the time of acceptance; two periods that touch share no part and lose none."""
    for second in (0, 10, 20, 30):
        line.part(OK, at_us=START_US + second * US_PER_S)
    middle = START_US + 20 * US_PER_S
    early, late = collect(line, None, middle), collect(line, middle, None)
    assert (early.totals.ok, late.totals.ok) == (2, 2)
    assert collect(line, START_US + 31 * US_PER_S, None).totals.triggers == 0


def test_an_empty_database_is_an_empty_report(line: RecordedLine) -> None:
    """No part, no rate, no picture, and no division by zero."""
    data = collect(line)
    assert data.totals.triggers == 0
    assert (data.production.rate.value, data.late.value, data.truth) == (None, None, None)
    assert (data.suspects, data.recipes, data.cameras) == ((), (), ())
    assert [chain.intact for chain in data.chains] == [True]


def test_yield_over_time_follows_the_shifts_of_the_site(line: RecordedLine) -> None:
    """Over a week each point is a shift in the site's zone, and the points add up to the yield."""
    for day in range(7):
        for hour, kind in ((0, OK), (1, OK), (13, NG)):
            line.part(kind, at_us=START_US + (day * 24 + hour) * HOUR_US)
    data = collect(line)
    known = [point for point in data.trend.points if point.counts.triggers]
    assert data.trend.unit == "shift"
    assert {point.label.split()[-1]: point.rate for point in known[:2]} == {"early": Rate(2, 2), "late": Rate(0, 1)}
    assert sum(point.rate.total for point in known) == data.production.rate.total == 21


def test_suspects_are_worst_first_and_bounded(line: RecordedLine) -> None:
    """NG before REVIEW, the highest score first; beyond the limit only the number is given."""
    for number in range(MAX_SUSPECTS):
        line.part(REVIEW, inspect={"score": 0.5 + number / 1000})
    line.part(NG, inspect={"score": 0.9, "names": ("scratch", "stain", "scratch")})
    line.part(NG, inspect={"score": 4.0})
    data = collect(line)
    assert [part.score for part in data.suspects[:3]] == [4.0, 0.9, 0.5 + (MAX_SUSPECTS - 1) / 1000]
    assert data.suspects[1].names == ("scratch", "stain", "scratch")
    assert (len(data.suspects), data.suspects_total) == (MAX_SUSPECTS, MAX_SUSPECTS + 2)


def test_names_are_counted_by_the_worst_region(line: RecordedLine) -> None:
    """Each NG or REVIEW picture counts once, largest first, so the bars add up to the pictures."""
    for names in (("stain", "scratch"), ("stain",), ("scratch",)):
        line.part(NG, inspect={"names": names})
    assert [(item.name, item.count) for item in collect(line).names] == [("stain", 2), ("scratch", 1)]


def test_a_persons_name_comes_before_the_detectors(line: RecordedLine) -> None:
    """The newest review names the picture; called good it is no defect; a missed one that a person found is one."""
    stain, changed, good, unnamed, missed, other = (
        line.part(kind, inspect={"names": names})
        for kind, names in ((NG, ("stain",)), (NG, ("stain",)), (REVIEW, ("pit",)), (NG, ("pit",)), (OK, ()), (OK, ()))
    )
    said = [(changed, "OK", None, 1), (changed, "NG", "burr", 2), (good, "OK", None, 1), (unnamed, "NG", None, 1)]
    said += [(missed, "NG", "burr", 1), (other, "NG", None, 1)]
    for inspection, finding, name, at_us in said:
        add_review(
            line.db,
            str(inspection.inspection_id),
            reviewer="Ada",
            finding=finding,
            defect_name=name,
            now_us=START_US + at_us,
        )
    counted = [(item.name, item.count, item.reviewed) for item in collect(line).names]
    assert counted == [("burr", 2, 2), ("anomaly", 1, 0), ("pit", 1, 0), ("stain", 1, 0)]
    assert stain.verdict.detections[0].name == "stain"


def test_reasons_are_grouped_before_the_colon(line: RecordedLine) -> None:
    """What follows the colon is about one case; parts without any reason are not lost."""
    for reason in ("image truncated: a.jpg", "image truncated: b.jpg", "service_restart"):
        line.part(NOT_INSPECTED, inspect={"reasons": [reason]})
    data = collect(line)
    assert [(item.name, item.count) for item in data.not_inspected] == [("image truncated", 2), ("service_restart", 1)]


def test_many_reasons_keep_their_sum(line: RecordedLine) -> None:
    """Beyond twenty reasons the rest is one line."""
    for number in range(25):
        line.part(NOT_INSPECTED, inspect={"reasons": [f"reason {number:02d}"]})
    data = collect(line)
    assert data.not_inspected[-1].name == "5 others"
    assert_adds_up(data)


def test_late_verdicts_carry_their_denominator(line: RecordedLine) -> None:
    """Late parts of decided ones; pending parts are neither."""
    line.part(OK, inspect={"late": True})
    line.part(OK)
    line.accept()
    data = collect(line)
    assert data.late == Rate(1, 2)
    assert data.stations[0].deadline_ms == 300
    assert data.stations[0].latency.measured == 2


def test_recipe_versions_show_when_they_ruled(line: RecordedLine) -> None:
    """One line for each version, with its hash, its first and last use, and its inspections."""
    for version in (3, 3, 4):
        line.part(OK, inspect={"recipe": RecipeRef("board", version, f"{version}" * 64)})
    uses = collect(line).recipes
    assert [(use.recipe, use.inspections, use.recipe_sha256) for use in uses] == [
        ("board@3", 2, "3" * 64),
        ("board@4", 1, "4" * 64),
    ]
    assert uses[0].last_utc_us < uses[1].first_utc_us


def test_camera_health_over_the_period(line: RecordedLine) -> None:
    """Share of connected samples, dropped frames over a restart of the counter, and the last trouble."""
    for position, dropped in enumerate((4, 6, 7, 2, 3)):
        line.camera_sample(START_US + position * 10 * US_PER_S, dropped=dropped)
    line.camera_sample(START_US + 50 * US_PER_S, connected=False, dropped=3, reason="no route to host")
    camera = collect(line).cameras[0]
    assert camera.connected == Rate(5, 6)
    assert camera.dropped == 2 + 1 + 2 + 1
    assert camera.last_reason == "no route to host"
    assert camera.strip == (1, 1, 1, 0.5)


def test_evidence_is_pictured_and_linked(line: RecordedLine) -> None:
    """The thumbnail is inlined as it is; the link to the full visual is relative and leads to it."""
    part = line.part(NG)
    thumbnail = shrink(part_picture(1)).content or b""
    line.show(part, thumbnail, encode_jpeg(part_picture(1)))
    suspect = collect(line).suspects[0]
    assert suspect.picture.content == thumbnail
    assert suspect.visual_href is not None
    assert (line.db.data_dir.parent / suspect.visual_href).read_bytes()[:2] == b"\xff\xd8"


def test_a_picture_is_never_the_reason_to_fail(line: RecordedLine) -> None:
    """Pending, deleted, damaged and oversized thumbnails: each is said, or made to fit."""
    line.part(NG, inspect={"score": 9.0})
    deleted, damaged, large = (line.part(NG, inspect={"score": score}) for score in (8.0, 7.0, 6.0))
    noise = np.random.default_rng(1).integers(0, 255, (1080, 1920, 3), np.uint8)
    small = shrink(part_picture(1)).content or b""
    for part, content in ((deleted, small), (damaged, b"not an image"), (large, encode_jpeg(noise))):
        line.show(part, content, small)
    for path in line.pictures.root.rglob(f"{deleted.inspection_id}-*"):
        path.unlink()
    parts = collect(line).suspects
    assert [part.picture.note for part in parts[:3]] == [
        "The picture is not made yet",
        "The picture is no longer on this disk",
        "The picture is damaged",
    ]
    assert parts[1].visual_href is None
    assert parts[3].picture.content is not None
    assert len(parts[3].picture.content) <= MAX_PICTURE_BYTES


def test_a_changed_row_breaks_the_integrity(line: RecordedLine) -> None:
    """A verdict altered behind the program's back is reported as a broken chain, not raised."""
    for _ in range(3):
        line.part(OK)
    with line.db.write() as session:
        session.execute(update(InspectionRow).where(InspectionRow.chain_index == 2).values(score=0.01))
    chain = collect(line).chains[0]
    assert not chain.intact
    assert chain.problem is not None and "row 2" in chain.problem


def test_removed_triggers_stay_in_the_totals(line: RecordedLine) -> None:
    """What retention removed counts in a report without beginning, and is named where it might be missing."""
    parts = [line.part(kind) for kind in (OK, NG, OK, OK)]
    line.show(parts[1], shrink(part_picture(1)).content or b"", b"")
    now_us = START_US + HOUR_US
    kept_days = (now_us - START_US - 15 * US_PER_S) / (24 * HOUR_US)
    apply_retention(line.db, line.frames, line.pictures, retention_days=kept_days, retention_mb=1000, now_us=now_us)
    whole, later = collect(line), collect(line, START_US + 5 * US_PER_S)
    assert whole.totals == VerdictCounts(ok=3, ng=1)
    assert whole.removed.included and whole.removed.counts == VerdictCounts(ok=1, ng=1)
    assert_adds_up(whole)
    assert whole.production.rate == Rate(2, 2)
    assert later.totals == VerdictCounts(ok=2) and later.removed.uncertain
    assert not collect(line, START_US + 2 * HOUR_US).removed.uncertain
    assert whole.chains[0].removed_rows == 2


Truth = Callable[[str], dict[str, Any]]


@pytest.fixture
def defect() -> Truth:
    def make(kind: str) -> dict[str, Any]:
        return {"defective": True, "defects": [{"kind": kind, "box_xyxy_px": list(BOX)}]}

    return make


GOOD: dict[str, Any] = {"defective": False, "defects": []}


def test_caught_missed_and_overkill(line: RecordedLine, defect: Truth) -> None:
    """By kind: stopped as NG or REVIEW is caught, called OK is missed; a good part called NG is overkill."""
    simulated = {"purpose": Purpose.SIMULATED}
    for kind, known, names in (
        (NG, defect("scratch"), ("scratch",)),
        (REVIEW, defect("scratch"), ()),
        (OK, defect("scratch"), ()),
        (NOT_INSPECTED, defect("stain"), ()),
        (OK, GOOD, ()),
        (NG, GOOD, ()),
        (REVIEW, GOOD, ()),
    ):
        line.part(kind, inspect={"truth": known, "names": names}, **simulated)
    truth = collect(line).truth
    assert truth is not None
    scratch, stain = truth.by_kind
    assert (scratch.kind, scratch.ng, scratch.review, scratch.missed) == ("scratch", 1, 1, 1)
    assert scratch.caught == Rate(2, 3) and scratch.located == Rate(1, 3)
    assert (stain.not_inspected, stain.caught.value) == (1, None)
    assert truth.defective.caught == Rate(2, 3)
    assert truth.overkill == Rate(1, 3)
    assert [part.kinds for part in truth.missed] == [("scratch",)]


def test_a_part_with_two_kinds_counts_once_in_the_sum(line: RecordedLine) -> None:
    """Each kind has its row, the sum has one part."""
    both = [{"kind": kind, "box_xyxy_px": list(BOX)} for kind in ("scratch", "stain")]
    line.part(NG, inspect={"truth": {"defective": True, "defects": both}, "names": ("x",)})
    truth = collect(line).truth
    assert truth is not None
    assert [kind.ng for kind in truth.by_kind] == [1, 1]
    assert (truth.defective.ng, truth.defective.located) == (1, Rate(2, 2))


def test_escape_and_overkill_use_dispositions(line: RecordedLine, defect: Truth) -> None:
    """A review that clears a defective part makes it an escape."""
    part = line.part(NG, inspect={"truth": defect("scratch")})
    line.review(part, OK)
    truth = collect(line).truth
    assert truth is not None
    assert truth.defective.caught == Rate(0, 1)


def test_missed_parts_are_pictured_at_the_defect(line: RecordedLine, defect: Truth) -> None:
    """A kept frame is shown around the true place with an outline; without one the place itself is given."""
    line.part(OK, inspect={"truth": defect("stain")})
    line.part(OK, inspect={"truth": defect("scratch"), "keep_frame": part_picture(2)})
    truth = collect(line).truth
    assert truth is not None
    kept, hashed = truth.missed
    assert kept.picture.content is not None
    shown = cv2.imdecode(np.frombuffer(kept.picture.content, np.uint8), cv2.IMREAD_COLOR)
    assert shown is not None
    red = (shown[:, :, 2].astype(int) - shown[:, :, 1].astype(int)) > 100
    assert red.sum() > 100
    assert hashed.picture.content is None and hashed.boxes_xyxy_px == (BOX,)


@pytest.mark.parametrize(
    "truth",
    [{"defective": True}, {"defective": True, "defects": ["?"]}, {"defects": [{"kind": 7, "box_xyxy_px": [1, 2]}]}],
)
def test_truth_that_makes_no_sense_is_still_a_defect(line: RecordedLine, truth: dict[str, Any]) -> None:
    """No defect disappears from the count because its entry is odd."""
    line.part(VerdictKind.OK, inspect={"truth": truth})
    figures = collect(line).truth
    assert figures is not None
    assert [(kind.kind, kind.missed) for kind in figures.by_kind] == [("unknown", 1)]


def test_stations_outside_the_configuration_are_counted(tmp_path: Path) -> None:
    """A station that was renamed keeps its history in the report."""
    line = open_line(tmp_path, station="plant/line1/old")
    line.part(OK)
    data = collect(line)
    line.db.close()
    assert [(item.station, item.counts.ok) for item in data.stations] == [("plant/line1/old", 1), (STATION, 0)]
    assert data.stations[0].deadline_ms is None
    assert_adds_up(data)
