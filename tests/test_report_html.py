"""The page: golden for fixed data, safe against what strangers send, readable when there is nothing to say.

When the golden page changes on purpose: delete tests/test_report_golden.html, run this file once (it writes the
page anew and fails), look at the difference, commit it.
"""

from __future__ import annotations

import dataclasses
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from inspector.records import Purpose, VerdictKind
from reports.charts import TrendPoint
from reports.html import render_report
from reports.rates import Rate, VerdictCounts
from reports.report_data import (
    CameraFigures,
    ChainFigures,
    KindOutcome,
    LatencyFigures,
    MissedPart,
    NamedCount,
    Picture,
    PurposeCounts,
    RecipeUse,
    RemovedFigures,
    ReportData,
    ReportPeriod,
    StationFigures,
    SuspectPart,
    Trend,
    TruthFigures,
    YieldFigures,
)
from tests.report_line import START_US, US_PER_S

GOLDEN = Path(__file__).with_name("test_report_golden.html")
HOUR_US = 3600 * US_PER_S
VOID_TAGS = frozenset({"meta", "img", "br", "path", "circle", "rect", "line", "polyline"})
COUNTS = VerdictCounts(ok=90, ng=5, review=3, not_inspected=2, pending=1)
HOSTILE = "<script>alert(1)</script>\"'&{{7*7}}\n\u202eEVIL"


def suspect(**changes: object) -> SuspectPart:
    values: dict[str, object] = {
        "inspection_id": "6f2b5c0e-4d8a-5b57-9c7f-0b6f6e2f4a11",
        "station": "plant/line1/st1",
        "camera": "cam0",
        "sequence": 7,
        "accepted_utc_us": START_US + HOUR_US,
        "purpose": Purpose.PRODUCTION,
        "part_id": "PN-0007",
        "lot": "L1",
        "attempt": 1,
        "verdict": VerdictKind.NG,
        "disposition": None,
        "score": 1.25,
        "review_threshold": 0.5,
        "ng_threshold": 0.8,
        "reasons": (),
        "names": ("scratch", "stain", "scratch"),
        "regions": 3,
        "late": False,
        "recipe": "board@3",
        "picture": Picture(b"\xff\xd8picture", "image/jpeg"),
        "visual_href": "data/evidence/plant/line1/st1/2026-07-01/07/a-visual.jpg",
    }
    return SuspectPart(**{**values, **changes})  # type: ignore[arg-type]


def missed() -> MissedPart:
    return MissedPart(
        station="plant/line1/st1",
        sequence=9,
        accepted_utc_us=START_US + 2 * HOUR_US,
        part_id="PN-0009",
        lot=None,
        kinds=("stain",),
        score=0.4,
        review_threshold=0.5,
        boxes_xyxy_px=((100, 50, 140, 90),),
        frame_width_px=640,
        frame_height_px=360,
        picture=Picture(None, None, "Only the hash of this frame was kept"),
    )


def full_report() -> ReportData:
    """One of everything."""
    kind = KindOutcome("stain", ng=4, review=1, missed=1, not_inspected=0, located=Rate(4, 6))
    nothing = VerdictCounts()
    return ReportData(
        site_id="plant",
        site_name="Plant North",
        period=ReportPeriod(
            START_US, START_US + 4 * HOUR_US, since_open=False, until_open=False, timezone="Asia/Tokyo"
        ),
        generated_utc_us=START_US + 5 * HOUR_US,
        software_version="9.9.9",
        config_sha256="12" * 32,
        totals=COUNTS + VerdictCounts(ok=10),
        purposes=(
            PurposeCounts(Purpose.PRODUCTION, VerdictCounts(ok=80, ng=5, review=3, not_inspected=2, pending=1)),
            PurposeCounts(Purpose.SIMULATED, VerdictCounts(ok=10)),
        ),
        stations=(
            StationFigures(
                "plant/line1/st1", "End of line", COUNTS, Rate(1, 100), 300.0, LatencyFigures(98, 60.4, 99, 120)
            ),
            StationFigures(
                "plant/line1/old", "plant/line1/old", nothing, Rate(0, 0), None, LatencyFigures(0, None, None, None)
            ),
        ),
        removed=RemovedFigures(VerdictCounts(ok=10), included=True, uncertain=False),
        production=YieldFigures(Purpose.PRODUCTION, VerdictCounts(ok=81, ng=4, review=3), superseded=0, changed=1),
        simulated=YieldFigures(Purpose.SIMULATED, VerdictCounts(ok=10), superseded=0, changed=0),
        trend=Trend(
            "hour",
            (
                TrendPoint("Wed 1 Jul 15:00", "15:00", Rate(41, 44), VerdictCounts(ok=41, ng=3)),
                TrendPoint("Wed 1 Jul 16:00", "16:00", Rate(0, 0), nothing),
                TrendPoint("Wed 1 Jul 17:00", "17:00", Rate(40, 44), VerdictCounts(ok=40, ng=1, review=3)),
            ),
        ),
        suspects=(
            suspect(),
            suspect(
                part_id=None,
                verdict=VerdictKind.REVIEW,
                disposition=VerdictKind.OK,
                purpose=Purpose.SIMULATED,
                late=True,
                attempt=2,
                score=None,
                reasons=("registration refused",),
                names=(),
                regions=0,
                picture=Picture(None, None, "The picture is not made yet"),
                visual_href=None,
            ),
        ),
        suspects_total=9,
        names=(NamedCount("scratch", 5, 2), NamedCount("anomaly", 3), NamedCount("unknown", 1)),
        not_inspected=(NamedCount("service_restart", 2),),
        recipes=(
            RecipeUse("plant/line1/st1", "board@3", "ab" * 32, "9.9.9", "12" * 32, 98, START_US, START_US + HOUR_US),
        ),
        cameras=(
            CameraFigures(
                "plant/line1/st1",
                "cam0",
                40,
                Rate(30, 40),
                2.0,
                3,
                (1.0, 0.5, None),
                (118.0, None, 121.0),
                (400.0, 380.0, None),
                "no route",
            ),
        ),
        chains=(ChainFigures("plant/line1/st1", True, 100, 110, 10, None),),
        truth=TruthFigures((kind,), dataclasses.replace(kind, kind=""), VerdictCounts(ok=9, ng=1), (missed(),)),
    )


def empty_report() -> ReportData:
    """A period in which nothing happened."""
    nothing = VerdictCounts()
    return dataclasses.replace(
        full_report(),
        totals=nothing,
        purposes=(),
        stations=(),
        removed=RemovedFigures(nothing, included=False, uncertain=False),
        production=YieldFigures(Purpose.PRODUCTION, nothing, 0, 0),
        simulated=YieldFigures(Purpose.SIMULATED, nothing, 0, 0),
        trend=Trend("hour", ()),
        suspects=(),
        suspects_total=0,
        names=(),
        not_inspected=(),
        recipes=(),
        cameras=(),
        chains=(),
        truth=None,
    )


class Outline(HTMLParser):
    """Tags, attributes and text of a page; notes every tag that is not closed in order."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.words: list[str] = []
        self.misnested: list[str] = []
        self._open: list[str] = []
        self.feed(page)
        self.misnested += self._open

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).replace("\N{NO-BREAK SPACE}", " ").split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in VOID_TAGS:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        if not self._open or self._open.pop() != tag:
            self.misnested.append(tag)

    def handle_data(self, data: str) -> None:
        if "style" not in self._open:
            self.words.append(data)


def test_the_golden_page() -> None:
    """The same data gives the same page, word for word; the style sheet may change freely."""
    page = re.sub(r"<style>.*?</style>", "<style></style>", render_report(full_report()), flags=re.DOTALL)
    if not GOLDEN.exists():
        GOLDEN.write_text(page, encoding="utf-8")
        pytest.fail(f"{GOLDEN.name} was not there and is written now; look at it and commit it")
    assert page == GOLDEN.read_text(encoding="utf-8")


@pytest.mark.parametrize("data", [full_report(), empty_report()], ids=["full", "empty"])
def test_the_page_is_well_formed_and_accessible(data: ReportData) -> None:
    """Tags nest, ids are unique, references resolve, pictures have texts, columns and rows have headers."""
    page = Outline(render_report(data))
    assert page.misnested == []
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    for _, attributes in page.tags:
        referred = attributes.get("aria-labelledby", "").split()
        referred += [attributes["href"][1:]] if attributes.get("href", "").startswith("#") else []
        assert set(referred) <= set(ids)
    assert ("html", {"lang": "en"}) in page.tags
    assert all(attributes.get("alt") for tag, attributes in page.tags if tag == "img")
    assert all(attributes.get("scope") in ("row", "col") for tag, attributes in page.tags if tag == "th")
    assert [tag for tag, _ in page.tags].count("h1") == 1


@pytest.mark.parametrize("data", [full_report(), empty_report()], ids=["full", "empty"])
def test_the_page_needs_nothing_from_outside(data: ReportData) -> None:
    """No script, no style sheet, font, frame or picture but those inside; a policy forbids the rest."""
    page = Outline(render_report(data))
    tags = {tag for tag, _ in page.tags}
    assert not tags & {"script", "link", "iframe", "object", "embed", "base", "form"}
    assert all(attributes["src"].startswith("data:image/") for _, attributes in page.tags if "src" in attributes)
    policies = [a["content"] for _, a in page.tags if a.get("http-equiv") == "Content-Security-Policy"]
    assert len(policies) == 1 and policies[0].startswith("default-src 'none'")
    assert not re.search(r"url\(|@import|https?:", render_report(data))


def test_the_sum_is_shown_and_adds_up() -> None:
    """Triggers = OK + NG + REVIEW + NOT INSPECTED + pending stands on the first screen."""
    text = Outline(render_report(full_report())).text
    assert "111 triggers = 100 OK + 5 NG + 3 REVIEW + 2 NOT INSPECTED + 1 pending" in text


def test_what_strangers_send_is_text() -> None:
    """Part ids, lots, reasons, names and site names cannot become markup, templates or reversed text."""
    data = dataclasses.replace(
        full_report(),
        site_name=HOSTILE,
        suspects=(suspect(part_id=HOSTILE, lot=HOSTILE, reasons=(HOSTILE,), names=(HOSTILE,), regions=1),),
        names=(NamedCount(HOSTILE, 2),),
        not_inspected=(NamedCount(HOSTILE, 2),),
        chains=(ChainFigures("plant/line1/st1", False, 0, 0, 0, HOSTILE),),
        cameras=(dataclasses.replace(full_report().cameras[0], last_reason=HOSTILE),),
        truth=dataclasses.replace(
            full_report().truth or pytest.fail("no truth"),
            by_kind=(KindOutcome(HOSTILE, 1, 0, 0, 0, Rate(0, 0)),),
            missed=(dataclasses.replace(missed(), part_id=HOSTILE, kinds=(HOSTILE,)),),
        ),
    )
    rendered = render_report(data)
    page = Outline(rendered)
    assert "<script" not in rendered and "\u202e" not in rendered
    assert page.misnested == []
    assert not any(name.startswith("on") for _, attributes in page.tags for name in attributes)
    assert page.text.count("<script>alert(1)</script>\"'&{{7*7}}��EVIL") >= 9


def test_long_text_does_not_swell_the_page() -> None:
    """A part id of a megabyte is cut where it is shown."""
    long = suspect(part_id="x" * 1_000_000, reasons=("y" * 1_000_000,), names=("z" * 1_000_000,))
    assert len(render_report(dataclasses.replace(full_report(), suspects=(long,)))) < 200_000


def test_simulated_parts_are_reported_as_what_they_are() -> None:
    """A banner says that they are not in the production yield, and what their own yield is."""
    text = Outline(render_report(full_report())).text
    assert "10 simulated parts: not counted in production yield" in text
    assert "simulated yield is 100 % (10 good of 10 simulated parts inspected; 95 % interval 72.2–100.0 %)" in text
    assert "Yield 92.0 % 81 good of 88 production parts inspected" in text


def test_an_empty_period_says_so() -> None:
    """No rate without denominator: dashes and sentences, no zero per cent."""
    text = Outline(render_report(empty_report())).text
    assert "No part was triggered in this period" in text
    assert "Yield –" in text
    assert "0 triggers = 0 OK + 0 NG + 0 REVIEW + 0 NOT INSPECTED" in text
    assert "0 % of all inspected" not in text and "nan" not in text.lower()
    for sentence in ("Every inspected picture was OK", "no recipe was used", "No camera reported", "nothing to draw"):
        assert sentence in text


def test_a_broken_chain_is_the_first_thing_said() -> None:
    """An alert above the summary, and the reason in the integrity box."""
    broken = (ChainFigures("plant/line1/st1", False, 0, 0, 0, "row 17 was changed"),)
    page = Outline(render_report(dataclasses.replace(full_report(), chains=broken)))
    assert ("alert", "banner bad") in [(a.get("role"), a.get("class")) for _, a in page.tags]
    assert page.text.index("Do not rely on this report") < page.text.index("parts of 111 triggered")
    assert "row 17 was changed" in page.text


def test_hidden_suspects_are_counted() -> None:
    """What is not pictured is said in numbers."""
    assert "Shown are the worst 2; 7 more are in the database" in Outline(render_report(full_report())).text


def test_evidence_without_picture_says_why() -> None:
    """Pending evidence and frames of which only the hash is kept."""
    text = Outline(render_report(full_report())).text
    assert "The picture is not made yet" in text
    assert "Only the hash of this frame was kept; the outline shows the place." in text


def test_audit_facts_are_on_the_page() -> None:
    """Period, zone, time of making, program, configuration hash, recipe hash, chain."""
    text = Outline(render_report(full_report())).text
    for fact in (
        "1 Jul 2026, 15:00:00 to 1 Jul 2026, 19:00:00, the end not included",
        "Asia/Tokyo, UTC+09:00",
        "1 Jul 2026, 20:00:00",
        "Line Inspector 9.9.9",
        "12" * 32,
        "SHA-256 abababababab…",
        "verified to row 110",
    ):
        assert fact in text
