"""Charts are well-formed, accessible, inside their frame, and never fail on odd numbers."""

from __future__ import annotations

import itertools
from xml.etree import ElementTree

import pytest

from reports import charts
from reports.charts import TrendPoint
from reports.rates import Rate, VerdictCounts

SVG = "{http://www.w3.org/2000/svg}"


def parse(markup: str) -> ElementTree.Element:
    """An SVG as XML: HTML would forgive, this does not."""
    return ElementTree.fromstring(str(markup).replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1))


def point(good: int, bad: int, label: str = "Mon 06:00") -> TrendPoint:
    return TrendPoint(label, label[-5:], Rate(good, good + bad), VerdictCounts(ok=good, ng=bad))


def test_a_chart_says_in_words_what_it_shows() -> None:
    """Title and description are there and referred to; the description has the extremes with their counts."""
    chart = parse(charts.trend_chart("c1", [point(9, 1), point(5, 5, "Mon 07:00")], "hour", 400, "Yield"))
    names = {child.get("id"): child.text for child in chart if child.tag in (f"{SVG}title", f"{SVG}desc")}
    assert chart.get("role") == "img"
    assert (chart.get("aria-labelledby") or "").split() == list(names)
    assert names["c1-t"] == "Yield per hour"
    assert "lowest 50.0 % (Mon 07:00, 5 of 10), highest 90.0 % (Mon 06:00, 9 of 10)" in (names["c1-d"] or "")


@pytest.mark.parametrize("count", [1, 2, 7, 24, 62])
@pytest.mark.parametrize("width", [300, 960])
def test_everything_drawn_lies_inside_the_frame(count: int, width: int) -> None:
    """Whatever the number of points: no bar, dot, line or label leaves the chart."""
    points = [point(i, i % 3, f"{i:02d}:00") for i in range(count)]
    chart = parse(charts.trend_chart("c", points, "hour", width, "Yield"))
    for name in ("x", "x1", "x2", "cx"):
        values = [float(child.get(name) or 0) for child in chart.iter() if child.get(name)]
        assert all(0 <= value <= width for value in values)
    for name in ("y", "y1", "y2", "cy"):
        values = [float(child.get(name) or 0) for child in chart.iter() if child.get(name)]
        assert all(0 <= value <= 300 for value in values)


def test_labels_do_not_overlap() -> None:
    """On a phone only as many times are written as fit, 7 px a letter."""
    points = [point(9, 1, f"{i:02d}:00") for i in range(24)]
    chart = parse(charts.trend_chart("c", points, "hour", 340, "Yield"))
    places = [float(text.get("x") or 0) for text in chart.iter(f"{SVG}text") if "middle" in (text.get("class") or "")]
    assert len(places) >= 3
    assert all(right - left >= 5 * 7 for left, right in itertools.pairwise(places))


def test_pieces_without_parts_leave_a_gap() -> None:
    """The line is not drawn across time in which nothing was decided."""
    chart = parse(charts.trend_chart("c", [point(9, 1), point(8, 1), point(0, 0), point(9, 1)], "hour", 400, "Yield"))
    lines = [child.get("points") or "" for child in chart.iter(f"{SVG}polyline")]
    assert [len(line.split()) for line in lines] == [2]


def test_the_bar_shows_all_triggers() -> None:
    """The segments fill the bar, and one NG among a million is still visible."""
    bar = parse(charts.verdict_bar("b", VerdictCounts(ok=999_999, ng=1)))
    widths = [float(child.get("width") or 0) for child in bar.iter(f"{SVG}rect")]
    assert sum(widths) == pytest.approx(960, abs=0.2)
    assert min(widths) >= 4


@pytest.mark.parametrize(
    "markup",
    [
        charts.trend_chart("c", [], "hour", 400, "Yield"),
        charts.trend_chart("c", [point(0, 0)], "hour", 400, "Yield"),
        charts.trend_chart("c", [point(3, 0)], "hour", 400, "Yield"),
        charts.verdict_bar("b", VerdictCounts()),
        charts.share_bar(7.0, "ng"),
        charts.score_gauge(1e300, 0.5, 0.8, "ng"),
        charts.score_gauge(0.0, 0.0, 0.0, "ok"),
        charts.availability_strip("s", (), "cam"),
        charts.availability_strip("s", (None, 1.0, 0.0, 0.5), "cam"),
        charts.sparkline("s", (5.0,), "level", "grey"),
        charts.sparkline("s", (None, 5.0, None, 5.0, 7.0), "level", "grey"),
        charts.locator("l", 100, 50, [(-5, 0, 300, 80)]),
    ],
)
def test_odd_numbers_give_a_picture(markup: str) -> None:
    """Nothing, one point, zeros and giants are drawn without a division by zero, and no NaN is written."""
    assert parse(markup).tag == f"{SVG}svg"
    assert "nan" not in markup and "inf" not in markup


def test_nothing_to_compare_is_no_picture() -> None:
    """Without a score or without values there is no gauge and no line."""
    assert charts.score_gauge(None, 0.5, 0.8, "ng") == ""
    assert charts.sparkline("s", (None, None), "level", "grey") == ""


def test_labels_are_escaped() -> None:
    """A shift's name is text, whatever it contains."""
    chart = charts.trend_chart("c", [point(1, 1, "<script>&")], "hour", 400, "Yield")
    assert "<script>" not in chart
    assert parse(chart) is not None
