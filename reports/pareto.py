"""The Pareto chart: what occurs most, first, and what share of all the first few make up."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

from reports.charts import draw_svg
from reports.formats import PERCENT, clean_name, format_count, plural

LEAST_SLOT_PX, NARROW_SLOT_PX, NARROW_PX = 74, 52, 600
"""The least room of a bar, on wide and on narrow pages."""
LETTER_PX = 7.0
LABEL_LINES, LINE_PX = 2, 14
HEIGHT_PX = 276
TOP_PX, BOTTOM_PX, SIDE_PX = 16.0, 226.0, 44.0
DIVISIONS = 5


@dataclass(frozen=True, slots=True)
class ParetoBar:
    """One cause. `vague` ones are no cause: what has no name, what is unknown, the sum of the rest."""

    name: str
    count: int
    vague: bool = False


def pareto_chart(chart_id: str, bars: Sequence[ParetoBar], what: str, width: int) -> Markup:
    """Bars from the largest to the smallest and the running share as a line, on one scale; `width` in px.

    `bars` come in their order; those that do not fit beside each other are drawn as one. `what` names what is counted
    (singular). Nothing for no bars.
    """
    total = sum(bar.count for bar in bars)
    if not total:
        return Markup("")
    shown = _fit(bars, width)
    left, right = SIDE_PX, width - SIDE_PX
    slot = (right - left) / len(shown)
    parts, places, running = _axes(left, right, total), [], 0
    for position, bar in enumerate(shown):
        running += bar.count
        middle, top = left + slot * (position + 0.5), _y(bar.count / total)
        size = min(64.0, slot * 0.62)
        kind = "not_inspected" if bar.vague else "ng"
        height = BOTTOM_PX - top
        parts.append(
            f'<rect class="c-{kind}" x="{middle - size / 2:.1f}" y="{top:.1f}" width="{size:.1f}" '
            f'height="{height:.1f}"/>'
        )
        for number, line in enumerate(_label(bar.name, slot)):
            y = BOTTOM_PX + 18 + number * LINE_PX
            parts.append(f'<text class="axis middle" x="{middle:.1f}" y="{y}">{escape(line)}</text>')
        places.append((middle, _y(running / total)))
    points = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
    parts.append(f'<polyline class="line" points="{points}"/>')
    parts += [f'<circle class="dot" cx="{x:.1f}" cy="{y:.1f}" r="3"/>' for x, y in places]
    return draw_svg(chart_id, width, HEIGHT_PX, "Defects by name", _describe(bars, total, what), parts)


def _fit(bars: Sequence[ParetoBar], width: int) -> list[ParetoBar]:
    """As many bars as have room; the last of them stands for all that have none."""
    room = max(2, int((width - 2 * SIDE_PX) / (NARROW_SLOT_PX if width < NARROW_PX else LEAST_SLOT_PX)))
    if len(bars) <= room:
        return list(bars)
    rest = bars[room - 1 :]
    return [*bars[: room - 1], ParetoBar(f"{len(rest)} others", sum(bar.count for bar in rest), vague=True)]


def _axes(left: float, right: float, total: int) -> list[str]:
    """Counts on the left, shares on the right, one grid for both."""
    parts = []
    for division in range(DIVISIONS + 1):
        share = division / DIVISIONS
        y = _y(share)
        parts.append(f'<line class="grid" x1="{left}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text class="axis" x="{right + 6}" y="{y + 4:.1f}">{share * 100:.0f}{PERCENT}</text>')
    for share in (0.0, 1.0):
        text = format_count(round(total * share))
        parts.append(f'<text class="axis end" x="{left - 6}" y="{_y(share) + 4:.1f}">{text}</text>')
    return parts


def _y(share: float) -> float:
    return BOTTOM_PX - (BOTTOM_PX - TOP_PX) * share


def _label(name: str, slot: float) -> list[str]:
    """A name in at most `LABEL_LINES` lines that fit below its bar."""
    most = max(3, int((slot - 2) / LETTER_PX))
    lines = [""]
    for word in clean_name(name).split():
        joined = f"{lines[-1]} {word}".strip()
        if len(joined) <= most or len(lines) == LABEL_LINES or not lines[-1]:
            lines[-1] = joined
        else:
            lines.append(word)
    return [line if len(line) <= most else line[: most - 1] + "…" for line in lines]


def _describe(bars: Sequence[ParetoBar], total: int, what: str) -> str:
    running, said = 0, []
    for bar in bars[:5]:
        running += bar.count
        said.append(f"{clean_name(bar.name)} {format_count(bar.count)} ({running / total * 100:.0f}{PERCENT} so far)")
    more = f", and {plural(len(bars) - 5, 'more name')}" if len(bars) > 5 else ""
    return f"{plural(total, what)}, the most frequent first: {', '.join(said)}{more}."
