"""Rendering: a `ReportData` becomes one self-contained HTML page, without script and without network.

Everything that came from outside (part ids, lots, reasons, names) passes `clean_text` and the autoescaping
of the template; markup of ours is made by `charts` alone. A content security policy in the page forbids
scripts and requests even where both should fail.
"""

from __future__ import annotations

import base64
from typing import Any

import jinja2
from markupsafe import Markup

from inspector.records import UNNAMED, Purpose
from reports import charts
from reports.formats import SiteClock, clean_name, clean_text, format_count, format_rate, format_score, plural
from reports.pareto import ParetoBar, pareto_chart
from reports.rates import SMALL_TOTAL, Rate
from reports.report_data import MissedPart, Picture, ReportData, SuspectPart
from reports.tables import VAGUE, build_tables, has_names, show_name
from reports.wording import (
    headline_sentence,
    integrity_sentence,
    simulated_banner,
    trend_sentence,
    truth_sentence,
    yield_basis,
    yield_name,
    yield_note,
)

FIRST_SUSPECTS, FIRST_MISSED = 12, 6
"""Pictured at once; the others open on demand."""

WIDE_CHART_PX, NARROW_CHART_PX = 960, 300
TERMS = (("ok", "OK"), ("ng", "NG"), ("review", "REVIEW"), ("not_inspected", "NOT INSPECTED"), ("pending", "pending"))


def render_report(data: ReportData) -> str:
    """The whole page as text; the same data gives the same page."""
    clock = SiteClock(data.period.timezone)
    template = make_environment().get_template("report.html.j2")
    return template.render(
        data=data,
        clock=clock,
        small_total=SMALL_TOTAL,
        summary=headline_sentence(data),
        banners=_banners(data),
        cards=_cards(data),
        sum_bar=charts.verdict_bar("sum-bar", data.totals),
        sum_terms=_sum_terms(data),
        contents=_contents(data),
        trend_name=yield_name(data.headline),
        trend_sentence=trend_sentence(data),
        yield_basis=yield_basis(data.headline),
        trend_wide=_trend(data, "trend-wide", WIDE_CHART_PX),
        trend_narrow=_trend(data, "trend-narrow", NARROW_CHART_PX),
        pareto_wide=_pareto(data, "pareto-wide", WIDE_CHART_PX),
        pareto_narrow=_pareto(data, "pareto-narrow", NARROW_CHART_PX),
        tables=build_tables(data, clock),
        truth_sentence=truth_sentence(data.truth) if data.truth else "",
        missed=[_missed_card(*item, clock) for item in enumerate(data.truth.missed)] if data.truth else [],
        missed_more=_missed_more(data),
        suspects=[_suspect_card(part, clock) for part in data.suspects],
        first_suspects=FIRST_SUSPECTS,
        first_missed=FIRST_MISSED,
        suspects_note=_suspects_note(data),
        removed_note=_removed_note(data),
        integrity=_integrity(data),
    )


def make_environment() -> jinja2.Environment:
    """Templates of this package: everything is escaped, nothing undefined passes."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("reports", "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(count=format_count, clean=clean_text, data_uri=_data_uri)
    return environment


def _data_uri(picture: Picture) -> str:
    return f"data:{picture.media_type};base64,{base64.b64encode(picture.content or b'').decode()}"


def _banners(data: ReportData) -> list[dict[str, str]]:
    banners = []
    if any(not chain.intact for chain in data.chains):
        banners.append({"kind": "bad", "title": "Audit chain broken.", "text": integrity_sentence(data)})
    simulated = simulated_banner(data)
    if simulated:
        banners.append({"kind": "note", "title": "Simulated.", "text": simulated})
    return banners


def _cards(data: ReportData) -> list[dict[str, str]]:
    counts, figures = data.totals, data.headline
    share = "{} of all inspected".format
    return [
        {
            "tone": "accent",
            "name": yield_name(figures),
            "figure": format_rate(figures.rate),
            "note": yield_note(figures),
        },
        {
            "tone": "ok",
            "name": "Good (OK)",
            "figure": format_count(counts.ok),
            "note": share(format_rate(Rate(counts.ok, counts.inspected))),
        },
        {
            "tone": "ng",
            "name": "Bad (NG)",
            "figure": format_count(counts.ng),
            "note": share(format_rate(Rate(counts.ng, counts.inspected))),
        },
        {
            "tone": "review",
            "name": "To review",
            "figure": format_count(counts.review),
            "note": share(format_rate(Rate(counts.review, counts.inspected))),
        },
        {
            "tone": "not_inspected",
            "name": "Not inspected",
            "figure": format_count(counts.not_inspected),
            "note": f"of {plural(counts.triggers, 'trigger')}; {format_count(counts.pending)} pending",
        },
    ]


def _sum_terms(data: ReportData) -> list[dict[str, Any]]:
    terms = [{"tone": tone, "name": name, "count": getattr(data.totals, tone)} for tone, name in TERMS]
    return [term for term in terms if term["tone"] != "pending" or term["count"]]


def _contents(data: ReportData) -> list[tuple[str, str]]:
    truth = [("truth", "Caught and missed")] if data.truth else []
    return [
        ("over-time", "Over time"),
        *truth,
        ("defects", "Defects"),
        ("causes", "Causes"),
        ("where", "Totals"),
        ("recipes", "Recipes"),
        ("cameras", "Cameras"),
        ("integrity", "Integrity"),
        ("rules", "How to read"),
    ]


def _trend(data: ReportData, chart_id: str, width: int) -> Markup | None:
    if not any(point.counts.triggers for point in data.trend.points):
        return None
    return charts.trend_chart(chart_id, data.trend.points, data.trend.unit, width, yield_name(data.headline))


def _pareto(data: ReportData, chart_id: str, width: int) -> Markup | None:
    if not has_names(data):
        return None
    bars = [ParetoBar(show_name(item.name), item.count, item.name in VAGUE) for item in data.names]
    return pareto_chart(chart_id, bars, "picture", width)


def _suspect_card(part: SuspectPart, clock: SiteClock) -> dict[str, Any]:
    badges = [part.purpose.value] if part.purpose is not Purpose.PRODUCTION else []
    badges += [f"now {part.disposition.value}"] if part.disposition else []
    badges += ["late"] if part.late else []
    badges += [f"attempt {part.attempt}"] if part.attempt > 1 else []
    title = _title(part.part_id, part.sequence)
    facts = [clock.second(part.accepted_utc_us), _lot(part.lot), f"{part.station}/{part.camera}", part.recipe or ""]
    return {
        "verdict": part.verdict.value,
        "badges": badges,
        "title": title,
        "facts": " · ".join(fact for fact in facts if fact),
        "gauge": charts.score_gauge(part.score, part.review_threshold, part.ng_threshold, part.verdict.value.lower()),
        "score": _score(part.score, part.review_threshold, part.ng_threshold),
        "what": _what(part),
        "opinion": part.opinion,
        "picture": part.picture,
        "href": part.visual_href,
        "alt": f"{part.verdict.value} part {title}: {_what(part) or 'no region was outlined'}",
    }


def _missed_card(position: int, part: MissedPart, clock: SiteClock) -> dict[str, Any]:
    title = _title(part.part_id, part.sequence)
    kinds = ", ".join(clean_name(kind) for kind in part.kinds)
    facts = [clock.second(part.accepted_utc_us), _lot(part.lot), part.station]
    return {
        "title": f"{title}: {kinds}",
        "facts": " · ".join(fact for fact in facts if fact),
        "gauge": charts.score_gauge(part.score, part.review_threshold, part.review_threshold, "ok"),
        "score": _score(part.score, part.review_threshold, None),
        "picture": part.picture,
        "locator": _locator(position, part),
        "alt": f"Missed part {title}: the outline shows the true place of the defect ({kinds})",
    }


def _locator(position: int, part: MissedPart) -> Markup | None:
    """Where the defect is, when there is no picture of it."""
    if part.picture.content or not part.boxes_xyxy_px or not part.frame_width_px or not part.frame_height_px:
        return None
    return charts.locator(f"missed{position}", part.frame_width_px, part.frame_height_px, part.boxes_xyxy_px)


def _title(part_id: str | None, sequence: int) -> str:
    return clean_text(part_id) if part_id else f"trigger {sequence}"


def _lot(lot: str | None) -> str:
    return f"lot {clean_text(lot)}" if lot else ""


def _score(score: float | None, review: float | None, ng: float | None) -> str:
    if score is None:
        return "not scored"
    limits = [f"review from {format_score(review)}"] if review is not None else []
    limits += [f"NG from {format_score(ng)}"] if ng is not None else []
    return f"score {format_score(score)} ({', '.join(limits) or 'no thresholds'})"


def _what(part: SuspectPart) -> str:
    names = [clean_name(name) for name in dict.fromkeys(part.names) if name != UNNAMED]
    found = ", ".join(names)
    if part.regions:
        found = f"{plural(part.regions, 'region')}{': ' + found if found else ''}"
    reasons = "; ".join(clean_text(reason) for reason in part.reasons)
    return " · ".join(text for text in (found, reasons) if text)


def _suspects_note(data: ReportData) -> str:
    shown, total = len(data.suspects), data.suspects_total
    if not total:
        return "Every inspected picture was OK."
    note = f"{plural(total, 'picture')} ended in NG or REVIEW."
    if shown < total:
        return f"{note} Shown are the worst {shown:,}; {total - shown:,} more are in the database."
    return f"{note} All are shown, worst first."


def _missed_more(data: ReportData) -> str:
    if data.truth is None:
        return ""
    hidden = data.truth.defective.missed - len(data.truth.missed)
    return f"{plural(hidden, 'more missed part')} not shown." if hidden > 0 else ""


def _removed_note(data: ReportData) -> str:
    removed = data.removed
    if not removed.counts.triggers:
        return ""
    count = plural(removed.counts.triggers, "older trigger")
    if removed.included:
        return f"{count} removed by retention {_are(removed.counts.triggers)} included in the totals, not in the yield."
    if removed.uncertain:
        return f"{count} removed by retention may lie in this period and {_are(removed.counts.triggers)} not included."
    return ""


def _are(count: int) -> str:
    return "is" if count == 1 else "are"


def _integrity(data: ReportData) -> dict[str, str]:
    broken = any(not chain.intact for chain in data.chains)
    kind = "bad" if broken else "good" if data.chains else "note"
    return {"kind": kind, "title": "Audit chain.", "text": integrity_sentence(data)}
