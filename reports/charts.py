"""Small charts as inline SVG: pure functions from numbers to accessible markup.

Every chart is `role="img"` with a title and a description that says in words what the picture shows; all
numbers stand in a table beside it. Colours come from the page's style sheet through classes, so that dark
mode and print need no second drawing. Text is escaped here; the result is safe markup.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

from reports.rates import Rate, VerdictCounts

AXES = ((0.99, 5, 1), (0.98, 4, 1), (0.95, 5, 0), (0.9, 5, 0), (0.8, 4, 0), (0.5, 5, 0), (0.0, 5, 0))
"""Axes of a yield chart: where it begins, its divisions and the decimals of their labels."""

SEGMENTS = ("ok", "ng", "review", "not_inspected", "pending")
"""Order of the verdicts in stacked bars."""

MIN_SEGMENT_PX = 4.0


@dataclass(frozen=True, slots=True)
class TrendPoint:
    """One piece of time: its names, its yield and the counts behind it."""

    label: str
    short_label: str
    rate: Rate
    counts: VerdictCounts


@dataclass(frozen=True, slots=True)
class _Frame:
    """The plotting area of a chart inside its margins, in px."""

    left: float
    right: float
    top: float
    bottom: float

    def x(self, share: float) -> float:
        return self.left + (self.right - self.left) * share

    def y(self, share: float) -> float:
        return self.bottom - (self.bottom - self.top) * share


def trend_chart(chart_id: str, points: Sequence[TrendPoint], unit: str, width: int, what: str) -> Markup:
    """Yield as a line with 95 % intervals above, parts as stacked bars below; `width` in px.

    Pieces without a decided part leave a gap in the line. `what` names the quantity ("Yield", "Simulated yield").
    """
    upper = _Frame(left=50, right=width - 10, top=14, bottom=178)
    lower = _Frame(left=50, right=width - 10, top=204, bottom=272)
    floor, divisions, digits = _axis([point.rate for point in points])
    parts = [
        *_yield_axis(upper, floor, divisions, digits),
        *_count_axis(lower, points),
        *_count_bars(lower, points),
        *_yield_marks(upper, points, floor),
        *_time_labels(lower, points),
    ]
    return draw_svg(chart_id, width, 300, f"{what} per {unit}", _describe_trend(points, unit, what, floor), parts)


def verdict_bar(chart_id: str, counts: VerdictCounts, width: int = 960) -> Markup:
    """All triggers as one bar, split by verdict; a verdict that occurs is never thinner than a few px."""
    present = [(name, getattr(counts, name)) for name in SEGMENTS if getattr(counts, name)]
    spread = width - MIN_SEGMENT_PX * len(present)
    parts, x = [], 0.0
    for name, count in present:
        size = MIN_SEGMENT_PX + spread * count / counts.triggers
        parts.append(f'<rect class="c-{name}" x="{x:.1f}" y="0" width="{size:.1f}" height="22"/>')
        x += size
    words = ", ".join(f"{count:,} {name.replace('_', ' ')}" for name, count in present) or "no triggers"
    return draw_svg(chart_id, width, 22, "Triggers by verdict", f"{words}.", parts, stretch=True)


def share_bar(share: float, kind: str) -> Markup:
    """A bar for a table cell; the cell beside it carries the number, so it is hidden from screen readers."""
    filled = max(0.0, min(1.0, share)) * 100
    return Markup(
        '<svg class="share" viewBox="0 0 100 10" preserveAspectRatio="none" aria-hidden="true" focusable="false">'
        '<rect class="c-track" x="0" y="0" width="100" height="10"/>'
        '<rect class="c-{}" x="0" y="0" width="{}" height="10"/></svg>'
    ).format(kind, f"{filled:.1f}")


def score_gauge(score: float | None, review: float | None, ng: float | None, kind: str) -> Markup:
    """A score against its two thresholds; nothing when there is nothing to compare."""
    if score is None or review is None or ng is None or not math.isfinite(score):
        return Markup("")
    scale = 100 / max(score, ng * 1.25, 1e-9)
    marks = "".join(
        f'<rect class="c-mark" x="{min(99.0, at * scale):.1f}" y="0" width="1" height="14"/>' for at in (review, ng)
    )
    return Markup(
        '<svg class="gauge" viewBox="0 0 100 14" preserveAspectRatio="none" aria-hidden="true" focusable="false">'
        f'<rect class="c-track" x="0" y="3" width="100" height="8"/>'
        f'<rect class="c-{escape(kind)}" x="0" y="3" width="{max(0.0, score) * scale:.1f}" height="8"/>{marks}</svg>'
    )


def availability_strip(chart_id: str, shares: Sequence[float | None], title: str) -> Markup:
    """When a camera was there: one cell a piece of time, its share of connected samples, None for no sample."""
    size = 100 / max(1, len(shares))
    parts = []
    for position, share in enumerate(shares):
        kind = "track" if share is None else "ok" if share >= 1 else "ng" if share <= 0 else "review"
        parts.append(f'<rect class="c-{kind}" x="{position * size:.3f}" y="0" width="{size * 0.86:.3f}" height="14"/>')
    known = [share for share in shares if share is not None]
    there, partly = sum(share >= 1 for share in known), sum(0 < share < 1 for share in known)
    words = (
        f"{len(shares)} equal pieces of the period: connected throughout in {there}, in part in {partly}, "
        f"not at all in {len(known) - there - partly}, no record in {len(shares) - len(known)}."
    )
    return draw_svg(chart_id, 100, 14, title, words, parts, stretch=True, css="strip")


def sparkline(chart_id: str, values: Sequence[float | None], title: str, unit: str) -> Markup:
    """How a quantity moved over the period, from its least to its greatest value; gaps where it is unknown."""
    known = [value for value in values if value is not None]
    if not known:
        return Markup("")
    low, high = min(known), max(known)
    # A range far below the value itself is noise, not a change: draw it flat.
    spread = max(high - low, abs(high) * 0.02, 1e-9)
    middle = (low + high) / 2
    area = _Frame(left=1, right=159, top=3, bottom=29)
    step = 1 / max(1, len(values) - 1)
    run: list[tuple[float, float]] = []
    runs = [run]
    for position, value in enumerate(values):
        if value is None:
            run = []
            runs.append(run)
        else:
            run.append((area.x(position * step), area.y(0.5 + (value - middle) / spread)))
    words = f"between {low:.4g} and {high:.4g} {unit}."
    return draw_svg(chart_id, 160, 32, title, words, _polylines(runs), css="spark")


def locator(
    chart_id: str, frame_width_px: int, frame_height_px: int, boxes: Sequence[tuple[int, int, int, int]]
) -> Markup:
    """Where boxes lie in a frame whose picture was not kept; boxes are xyxy in frame pixels."""
    scale = 320 / frame_width_px
    parts = ['<rect class="c-track" x="0" y="0" width="320" height="100%"/>']
    for x0, y0, x1, y1 in boxes:
        size = (max(4.0, (x1 - x0) * scale), max(4.0, (y1 - y0) * scale))
        place = f'x="{x0 * scale:.1f}" y="{y0 * scale:.1f}" width="{size[0]:.1f}" height="{size[1]:.1f}"'
        parts.append(f'<rect class="c-outline" {place}/>')
    where = "; ".join(f"x {x0} to {x1}, y {y0} to {y1}" for x0, y0, x1, y1 in boxes)
    words = f"Frame of {frame_width_px} by {frame_height_px} px with outlines at {where}."
    return draw_svg(chart_id, 320, round(frame_height_px * scale), "Place of the defect", words, parts, css="locator")


def draw_svg(
    chart_id: str,
    width: int,
    height: int,
    title: str,
    description: str,
    parts: Sequence[str],
    *,
    stretch: bool = False,
    css: str = "chart",
) -> Markup:
    """An accessible picture of `parts`, which are markup; title and description are texts."""
    ratio = "none" if stretch else "xMinYMid"
    name = escape(chart_id)
    return Markup(
        f'<svg class="{css}" viewBox="0 0 {width} {height}" preserveAspectRatio="{ratio}" role="img" '
        f'aria-labelledby="{name}-t {name}-d"><title id="{name}-t">{escape(title)}</title>'
        f'<desc id="{name}-d">{escape(description)}</desc>{"".join(parts)}</svg>'
    )


def _axis(rates: Sequence[Rate]) -> tuple[float, int, int]:
    """The axis that begins highest and still leaves every interval inside."""
    least = min((rate.interval[0] for rate in rates if rate.interval is not None), default=0.0)
    return next(axis for axis in AXES if least >= axis[0])


def _yield_axis(area: _Frame, floor: float, divisions: int, digits: int) -> list[str]:
    parts = []
    for division in range(divisions + 1):
        share = division / divisions
        value, y = floor + (1 - floor) * share, area.y(share)
        parts.append(f'<line class="grid" x1="{area.left}" x2="{area.right}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text class="axis end" x="{area.left - 6}" y="{y + 4:.1f}">{value * 100:.{digits}f} %</text>')
    return parts


def _count_axis(area: _Frame, points: Sequence[TrendPoint]) -> list[str]:
    most = max((point.counts.triggers for point in points), default=0)
    return [
        f'<line class="grid" x1="{area.left}" x2="{area.right}" y1="{area.bottom}" y2="{area.bottom}"/>',
        f'<text class="axis end" x="{area.left - 6}" y="{area.bottom + 1:.1f}">0</text>',
        f'<text class="axis end" x="{area.left - 6}" y="{area.top + 9:.1f}">{_short_count(most)}</text>',
        f'<text class="axis" x="{area.left}" y="{area.top - 6}">Parts</text>',
    ]


def _count_bars(area: _Frame, points: Sequence[TrendPoint]) -> list[str]:
    most = max((point.counts.triggers for point in points), default=0)
    if not most:
        return []
    slot = (area.right - area.left) / len(points)
    size = min(28.0, slot * 0.74)
    parts = []
    for position, point in enumerate(points):
        base = 0.0
        for name in SEGMENTS:
            share = getattr(point.counts, name) / most
            if share:
                x = area.left + slot * (position + 0.5) - size / 2
                height = (area.bottom - area.top) * share
                top = area.y(base + share)
                parts.append(
                    f'<rect class="c-{name}" x="{x:.1f}" y="{top:.1f}" width="{size:.1f}" height="{height:.2f}"/>'
                )
                base += share
    return parts


def _yield_marks(area: _Frame, points: Sequence[TrendPoint], floor: float) -> list[str]:
    slot = 1 / max(1, len(points))
    run: list[tuple[float, float]] = []
    runs, whiskers, dots = [run], [], []
    for position, point in enumerate(points):
        value, interval = point.rate.value, point.rate.interval
        if value is None or interval is None:
            run = []
            runs.append(run)
            continue
        x = area.x((position + 0.5) * slot)
        y = area.y((value - floor) / (1 - floor))
        low, high = (area.y((end - floor) / (1 - floor)) for end in interval)
        run.append((x, y))
        whiskers.append(f'<line class="whisker" x1="{x:.1f}" x2="{x:.1f}" y1="{low:.1f}" y2="{high:.1f}"/>')
        dots.append(f'<circle class="dot" cx="{x:.1f}" cy="{y:.1f}" r="3"/>')
    return [*whiskers, *_polylines(runs), *dots]


def _polylines(runs: Sequence[Sequence[tuple[float, float]]]) -> list[str]:
    parts = []
    for run in runs:
        if len(run) == 1:
            parts.append(f'<circle class="dot" cx="{run[0][0]:.1f}" cy="{run[0][1]:.1f}" r="2"/>')
        elif run:
            path = " ".join(f"{x:.1f},{y:.1f}" for x, y in run)
            parts.append(f'<polyline class="line" points="{path}"/>')
    return parts


def _time_labels(area: _Frame, points: Sequence[TrendPoint]) -> list[str]:
    slot = (area.right - area.left) / max(1, len(points))
    longest = max((len(point.short_label) for point in points), default=0)
    every = max(1, math.ceil((longest * 7.5 + 14) / slot))
    parts = []
    for position in range(0, len(points), every):
        x = area.left + slot * (position + 0.5)
        half = len(points[position].short_label) * 3.75
        if x + half <= area.right + 8:
            label = escape(points[position].short_label)
            parts.append(f'<text class="axis middle" x="{max(x, half):.1f}" y="{area.bottom + 18}">{label}</text>')
    return parts


def _short_count(count: int) -> str:
    return f"{count:,}" if count < 10_000 else f"{count / 1000:.0f}k"


def _describe_trend(points: Sequence[TrendPoint], unit: str, what: str, floor: float) -> str:
    known = [(point.rate.value, point) for point in points if point.rate.value is not None]
    if not known:
        return "No decided parts in this period."
    least, worst = min(known, key=lambda item: item[0])
    most, best = max(known, key=lambda item: item[0])
    begin = f" The axis begins at {floor * 100:.0f} %." if floor else ""
    return (
        f"{what} in {len(known)} of {len(points)} pieces of time: lowest {least * 100:.1f} % "
        f"({worst.label}, {worst.rate.count} of {worst.rate.total}), highest {most * 100:.1f} % "
        f"({best.label}, {best.rate.count} of {best.rate.total}).{begin}"
    )
