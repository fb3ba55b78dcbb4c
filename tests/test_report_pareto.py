"""The Pareto chart: in order, on one scale, readable at any width, never wider than its frame."""

from __future__ import annotations

import pytest

from reports.pareto import HEIGHT_PX, ParetoBar, pareto_chart
from tests.test_report_charts import SVG, parse

BARS = (
    ParetoBar("scratch", 6),
    ParetoBar("missing_component", 3),
    ParetoBar("unknown", 1, vague=True),
)


def test_bars_and_line_share_one_scale() -> None:
    """The line begins on the first bar and ends at all of them; what is no cause has a colour of its own."""
    chart = parse(pareto_chart("p", BARS, "picture", 960))
    bars = list(chart.iter(f"{SVG}rect"))
    heights = [float(bar.get("height") or 0) for bar in bars]
    assert heights == pytest.approx([126.0, 63.0, 21.0])
    assert [bar.get("class") for bar in bars] == ["c-ng", "c-ng", "c-not_inspected"]
    dots = [float(dot.get("cy") or 0) for dot in chart.iter(f"{SVG}circle")]
    assert dots == pytest.approx([float(bars[0].get("y") or 0), 37.0, 16.0])
    assert "10 pictures, the most frequent first: scratch 6 (60\N{NO-BREAK SPACE}% so far)" in words(chart)


def words(chart: object) -> str:
    return "".join(item.text or "" for item in chart.iter(f"{SVG}desc"))  # type: ignore[attr-defined]


@pytest.mark.parametrize("count", [1, 2, 11, 12, 60])
@pytest.mark.parametrize("width", [300, 960])
def test_everything_drawn_lies_inside_the_frame(count: int, width: int) -> None:
    """Whatever the number of names and however long they are; the bars always add up to all pictures."""
    bars = [ParetoBar(f"a very long name of defect number {i}", count - i + 1) for i in range(count)]
    chart = parse(pareto_chart("p", bars, "picture", width))
    for text in chart.iter(f"{SVG}text"):
        if "middle" in (text.get("class") or ""):
            half = len(text.text or "") * 3.5
            assert half <= float(text.get("x") or 0) <= width - half
        assert 0 <= float(text.get("y") or 0) <= HEIGHT_PX
    for bar in chart.iter(f"{SVG}rect"):
        assert float(bar.get("x") or 0) >= 0 and float(bar.get("x") or 0) + float(bar.get("width") or 0) <= width
    heights = sum(float(bar.get("height") or 0) for bar in chart.iter(f"{SVG}rect"))
    assert heights == pytest.approx(210.0, abs=0.1 * len(list(chart.iter(f"{SVG}rect"))))


def test_names_from_outside_are_only_text() -> None:
    """A hostile name cannot become markup; nothing to count draws nothing."""
    chart = str(pareto_chart("p", [ParetoBar("<script>&", 2)], "picture", 300))
    assert "<script>" not in chart and "&lt;script" in chart
    assert str(pareto_chart("p", [], "picture", 300)) == ""
