"""The plan of an annotated visual: whatever it is made of, it holds together before anything is painted."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inspector.records import BoxPx, Thresholds, VerdictKind
from reports.text import Colour, line_height_px, measure_px
from reports.text_fonts import FontSet
from reports.visual_facts import VisualFacts, VisualRegion, format_scores, format_size, format_time
from reports.visual_layout import choose_enlargement, plan_visual
from reports.visual_part import choose_scale_bar
from reports.visual_plan import VisualPlan

FACTS = VisualFacts(
    inspection_id="3f2a9c1e-7b64-5d0a-9e1f-2c7d8a5b6e40",
    verdict=VerdictKind.NG,
    score=0.87,
    thresholds=Thresholds(0.41, 0.62),
    station="plant/line1/st1",
    camera="top",
    decided_utc_us=1_777_700_000_000_000,
    timezone="Europe/Berlin",
    recipe="board@3",
    part_id="SN-0731",
    lot="L-44",
)
FRAME_SIZES = [(3840, 2160), (2000, 1334), (550, 380), (200, 300), (1130, 460), (16, 16), (4000, 90), (90, 4000)]


@pytest.fixture(scope="module")
def fonts() -> FontSet:
    return FontSet()


def spread_regions(count: int, size: tuple[int, int]) -> tuple[VisualRegion, ...]:
    """Regions from the left top to the right bottom corner, some of them overlapping."""
    width, height = size
    regions = []
    for index in range(count):
        x0, y0 = index * width // max(1, count), index * height // max(1, count)
        regions.append(VisualRegion((x0, y0, min(width, x0 + 1 + width // 6), min(height, y0 + 1 + height // 6)), 0.9))
    return tuple(regions)


def contains(outer: BoxPx, inner: BoxPx) -> bool:
    return outer[0] <= inner[0] and outer[1] <= inner[1] and inner[2] <= outer[2] and inner[3] <= outer[3]


def overlap(one: BoxPx, other: BoxPx) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def relative_luminance(colour: Colour) -> float:
    """WCAG 2.2, relative luminance of sRGB."""
    linear = [
        value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4 for value in (c / 255 for c in colour)
    ]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: Colour, other: Colour) -> float:
    """WCAG 2.2, contrast ratio."""
    brighter, darker = sorted((relative_luminance(one), relative_luminance(other)), reverse=True)
    return (brighter + 0.05) / (darker + 0.05)


def check_plan(plan: VisualPlan, fonts: FontSet) -> None:
    """Every element has a name of its own, lies inside its parent, overlaps no sibling, and can be read."""
    elements = [(box.name, box.parent, box.box) for box in plan.boxes]
    elements += [(text.name, text.parent, text.box) for text in plan.texts]
    by_name = {name: box for name, _, box in elements}
    assert len(by_name) == len(elements)
    assert by_name["canvas"] == (0, 0, plan.width_px, plan.height_px)
    siblings = defaultdict(list)
    for name, parent, box in elements:
        assert box[0] < box[2] and box[1] < box[3], name
        if parent is not None:
            assert contains(by_name[parent], box), (name, parent)
            siblings[parent].append((name, box))
    for children in siblings.values():
        for (one, one_box), (other, other_box) in combinations(children, 2):
            assert not overlap(one_box, other_box), (one, other)
    fills = {box.name: box for box in plan.boxes}
    for text in plan.texts:
        assert contrast(text.colour, text.background) >= 4.5, text.name
        assert text.size_px >= 12
        assert text.box[2] - text.box[0] == measure_px(text.text, text.size_px, fonts, text.bold)
        assert text.box[3] - text.box[1] == line_height_px(text.size_px)
        above = fills[text.parent]
        while above.fill is None and above.parent is not None:
            above = fills[above.parent]
        assert above.fill == text.background, text.name


def check_pictures(plan: VisualPlan, facts: VisualFacts, tiles_a_region: int) -> None:
    """Outlines and leaders stay with the part, tiles show their region, in the order worst first."""
    boxes = {box.name: box.box for box in plan.boxes}
    for outline in [*plan.unnumbered, *(callout.outline for callout in plan.callouts)]:
        assert contains(plan.part, outline)
    for callout in plan.callouts:
        for point in callout.leader:
            assert contains(boxes["part_card"], (*point, *point))
        assert not overlap(callout.badge, plan.part)
    shown = facts.shown_regions()
    assert [callout.number for callout in plan.callouts] == list(range(1, len(shown) + 1))
    assert len(plan.tiles) == len(shown) * tiles_a_region
    for tile in plan.tiles:
        assert contains(tile.box, tile.picture)
        assert contains(tile.picture, tile.outline)
        assert contains(tile.crop, facts.regions[tile.region - 1].box_xyxy_px)


@pytest.mark.parametrize("size", FRAME_SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
@pytest.mark.parametrize("count", [0, 1, 4, 12])
@pytest.mark.parametrize("method", ["paste", None])
def test_usual_and_odd_frames_are_planned_soundly(
    size: tuple[int, int], count: int, method: str | None, fonts: FontSet
) -> None:
    """From 16×16 to 4K, wide and tall, with no region to a dozen: nothing overlaps, leaves or fades."""
    facts = replace(FACTS, regions=spread_regions(count, size), max_regions=12, mm_per_px=0.05)
    plan = plan_visual(facts, size, method, fonts)
    check_plan(plan, fonts)
    check_pictures(plan, facts, 3 if method else 1)


NAMES = st.text(max_size=300) | st.sampled_from(["ضغط 12", "部品" * 60, "a" * 300, "😀🚀", "\u202eabc", "x\n\ty"])


@st.composite
def any_facts(draw: st.DrawFn) -> tuple[VisualFacts, tuple[int, int]]:
    """Any frame size, regions at borders and over each other, any text in every field."""
    width, height = draw(st.integers(1, 4200)), draw(st.integers(1, 4200))
    regions = []
    for _ in range(draw(st.integers(0, 14))):
        x0, y0 = draw(st.integers(0, width - 1)), draw(st.integers(0, height - 1))
        x1, y1 = draw(st.integers(x0 + 1, width)), draw(st.integers(y0 + 1, height))
        regions.append(VisualRegion((x0, y0, x1, y1), draw(st.floats(0, 1e6)), draw(NAMES)))
    scored = draw(st.none() | st.floats(0, 1e9))
    limits = sorted((draw(st.floats(0, 1e6)), draw(st.floats(0, 1e6))))
    facts = replace(
        FACTS,
        verdict=draw(st.sampled_from(VerdictKind)),
        score=scored,
        thresholds=draw(st.sampled_from([None, Thresholds(*limits)])),
        regions=tuple(regions),
        max_regions=draw(st.integers(1, 12)),
        part_id=draw(st.none() | NAMES),
        opinion=draw(st.none() | NAMES),
        lot=draw(st.none() | NAMES),
        station=draw(st.sampled_from(["a/b/c", "/".join(["x" * 32] * 3)])),
        camera="c" * draw(st.integers(1, 32)),
        reasons=tuple(draw(st.lists(NAMES, max_size=4))),
        mm_per_px=draw(st.none() | st.floats(1e-6, 1000)),
        purpose=draw(st.sampled_from(["production", "simulated"])),
        attempt=draw(st.integers(1, 10**6)),
    )
    return facts, (width, height)


@settings(max_examples=60, deadline=None)
@given(case=any_facts(), method=st.sampled_from(["paste", "telea", None]))
def test_any_facts_are_planned_soundly(
    case: tuple[VisualFacts, tuple[int, int]], method: str | None, fonts: FontSet
) -> None:
    """Whatever the part is called and wherever its regions lie, the plan holds together."""
    facts, size = case
    plan = plan_visual(facts, size, method, fonts)
    check_plan(plan, fonts)
    check_pictures(plan, facts, 3 if method else 1)


@pytest.mark.parametrize(
    ("size", "factor"), [((3840, 2160), 1), ((1280, 720), 1), ((1279, 720), 2), ((550, 380), 3), ((200, 300), 7)]
)
def test_the_visual_has_the_resolution_of_the_frame(size: tuple[int, int], factor: int, fonts: FontSet) -> None:
    """A frame from 1280 px on gives a visual of its own size, a smaller one a whole multiple of it."""
    plan = plan_visual(replace(FACTS, regions=spread_regions(2, size)), size, "paste", fonts)
    assert plan.enlargement == choose_enlargement(size) == factor
    assert plan.width_px == size[0] * factor
    assert plan.height_px >= size[1] * factor


@pytest.mark.parametrize("size", [(3840, 2160), (2000, 1334), (550, 380)])
@pytest.mark.parametrize("count", [0, 1, 2, 3, 4])
def test_four_regions_fit_without_growing(size: tuple[int, int], count: int, fonts: FontSet) -> None:
    """With the default number of regions the visual of a usual frame is exactly as high as the frame."""
    facts = replace(FACTS, regions=spread_regions(count, size), mm_per_px=0.05)
    plan = plan_visual(facts, size, "paste", fonts)
    assert plan.height_px == size[1] * plan.enlargement


def test_long_ids_are_shortened_in_the_middle(fonts: FontSet) -> None:
    """Both ends of a long part id stay readable."""
    facts = replace(FACTS, part_id="BEGIN-" + "0" * 200 + "-FINISH")
    (shown,) = [text.text for text in plan_visual(facts, (1280, 720), None, fonts).texts if text.name == "part_id"]
    assert shown.startswith("BEGIN-0")
    assert shown.endswith("0-FINISH")
    assert "…" in shown


def test_an_opinion_is_named_as_one(fonts: FontSet) -> None:
    """It has a line of its own in the header; without one there is no such line."""
    texts = [text.text for text in plan_visual(replace(FACTS, opinion="cloud: good"), (1280, 720), None, fonts).texts]
    assert {"Opinion", "cloud: good"} <= set(texts)
    assert "Opinion" not in [text.text for text in plan_visual(FACTS, (1280, 720), None, fonts).texts]


def test_regions_beyond_the_limit_are_outlined_and_announced(fonts: FontSet) -> None:
    """Only the worst get a number and a card; the others are outlined, and the picture says how many."""
    facts = replace(FACTS, regions=spread_regions(9, (1280, 720)), max_regions=4)
    plan = plan_visual(facts, (1280, 720), "paste", fonts)
    assert (len(plan.callouts), len(plan.unnumbered)) == (4, 5)
    assert "5 more regions outlined without a number" in [text.text for text in plan.texts]


def test_the_score_bar_puts_the_score_into_its_zone(fonts: FontSet) -> None:
    """Below review, between, and above NG: the pointer stands in the zone of that verdict."""
    for score, zone in ((0.2, 0), (0.5, 1), (0.7, 2), (500.0, 2)):
        gauge = plan_visual(replace(FACTS, score=score), (1280, 720), None, fonts).gauge
        assert gauge is not None
        edges = (gauge.bar[0], gauge.review_x, gauge.ng_x, gauge.bar[2] + 1)
        assert edges[zone] <= gauge.score_x < edges[zone + 1]


def test_a_score_next_to_a_threshold_is_written_out() -> None:
    """0.61999 must not look like 0.62, or the verdict seems wrong."""
    assert format_scores(0.61999, Thresholds(0.41, 0.62)) == ("0.61999", "0.41", "0.62")
    assert format_scores(0.87312, Thresholds(0.41, 0.62)) == ("0.873", "0.41", "0.62")
    assert format_scores(None, None) == ("-", "-", "-")


@pytest.mark.parametrize(
    ("timezone", "expected"),
    [
        ("Europe/Berlin", "2026-05-02 07:33:20 UTC+02:00"),
        ("America/St_Johns", "2026-05-02 03:03:20 UTC-02:30"),
        ("UTC", "2026-05-02 05:33:20 UTC+00:00"),
    ],
)
def test_times_are_local_with_their_offset(timezone: str, expected: str) -> None:
    """A time is the site's own, and its offset to UTC stands with it."""
    assert format_time(FACTS.decided_utc_us, timezone) == expected


@pytest.mark.parametrize(
    ("mm_per_px", "room", "expected"), [(0.01, 900, (5, 500)), (0.1, 100, (10, 100)), (3, 1, (2, 1))]
)
def test_the_scale_bar_is_a_round_length(mm_per_px: float, room: int, expected: tuple[float, int]) -> None:
    """1, 2 or 5 times a power of ten, as long as it fits."""
    assert choose_scale_bar(mm_per_px, room) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("size_px", "mm_per_px", "expected"),
    [
        (None, None, "80 x 40 px"),
        (None, 0.05, "4.0 x 2.0 mm"),
        (12.4, 0.05, "about 0.62 mm"),
        (12.4, None, "about 12 px"),
    ],
)
def test_a_measured_size_is_shown_instead_of_the_box(
    size_px: float | None, mm_per_px: float | None, expected: str
) -> None:
    """The box is wider than the defect: where the defect was measured, its size is what people read."""
    region = VisualRegion((10, 10, 90, 50), 3.0, "dent", size_px, "pads")
    assert format_size(region, mm_per_px) == expected
    assert region.title == "dent, pads"
