"""The report's sentences: what a manager reads first, in plain words, with the counts behind every rate."""

from __future__ import annotations

from inspector.records import Purpose
from reports.formats import PERCENT, format_interval, format_rate, plural
from reports.report_data import ReportData, TruthFigures, YieldFigures


def headline_sentence(data: ReportData) -> str:
    """What happened in this period, in two or three short sentences."""
    if not data.totals.triggers:
        return "No part was triggered in this period, so there is nothing to report."
    counts = data.totals
    said = [f"{plural(counts.inspected, 'part')} of {counts.triggers:,} triggered {_was(counts.inspected)} inspected"]
    found = [f"{counts.ok:,} good", f"{counts.ng:,} bad", f"{counts.review:,} uncertain and sent to review"]
    sentences = [f"{said[0]}: {found[0]}, {found[1]}, {found[2]}."]
    if counts.not_inspected:
        sentences.append(f"{plural(counts.not_inspected, 'part')} could not be inspected.")
    if counts.pending:
        sentences.append(f"{plural(counts.pending, 'verdict')} {'is' if counts.pending == 1 else 'are'} pending.")
    if data.truth is not None and data.truth.defective.caught.total:
        sentences.append(truth_sentence(data.truth))
    return " ".join(sentences)


def truth_sentence(truth: TruthFigures) -> str:
    """How many of the known defects were caught, and what that cost in good parts."""
    caught, overkill = truth.defective.caught, truth.overkill
    return (
        f"Of {plural(caught.total, 'part')} known to be defective, {caught.count:,} "
        f"{_was(caught.count)} caught and {truth.defective.missed:,} missed; "
        f"{overkill.count:,} of {plural(overkill.total, 'good part')} {_was(overkill.count)} called bad."
    )


def yield_name(figures: YieldFigures) -> str:
    """Yield is a word for production; everything else says what it is."""
    return "Yield" if figures.purpose is Purpose.PRODUCTION else f"{figures.purpose.value.capitalize()} yield"


def yield_note(figures: YieldFigures) -> str:
    """The counts and the interval of a yield."""
    rate = figures.rate
    if rate.value is None:
        return f"no {figures.purpose.value} part was inspected"
    interval = format_interval(rate)
    counted = f"{rate.count:,} good of {rate.total:,} {figures.purpose.value} parts inspected"
    return counted + (f"; 95{PERCENT} interval {interval}" if interval else "")


def yield_basis(figures: YieldFigures) -> str:
    """Why the yield may differ from the verdicts: changed truths and repeated attempts; empty when neither."""
    said = []
    if figures.changed:
        said.append(f"{plural(figures.changed, 'verdict')} {_was(figures.changed)} changed by a review or an opinion.")
    if figures.superseded:
        said.append(f"{plural(figures.superseded, 'attempt')} {_was(figures.superseded)} replaced by another attempt.")
    return " ".join(said)


def simulated_banner(data: ReportData) -> str | None:
    """What must be said when parts were simulated."""
    figures = data.simulated
    if not figures.counts.triggers:
        return None
    return (
        f"{plural(figures.counts.triggers + figures.superseded, 'simulated part')}: not counted in production yield. "
        f"Their simulated yield is {format_rate(figures.rate)} ({yield_note(figures)})."
    )


def integrity_sentence(data: ReportData) -> str:
    """Whether every audit chain holds."""
    broken = [chain for chain in data.chains if not chain.intact]
    if not data.chains:
        return "There is no inspection yet, so there is no audit chain to verify."
    if broken:
        return (
            f"BROKEN at {plural(len(broken), 'station')}: rows were changed or removed outside the program. "
            "Do not rely on this report before the cause is known."
        )
    rows = sum(chain.rows for chain in data.chains)
    return (
        f"Verified: {plural(rows, 'row')} of {plural(len(data.chains), 'station')}; "
        "every row matches its hash and its predecessor."
    )


def trend_sentence(data: ReportData) -> str:
    """What a point of the trend is."""
    unit = data.trend.unit
    span = unit if unit[0].isdigit() else f"one {unit}"
    shift = " of the site's shift table" if unit == "shift" else ""
    return (
        f"Each point covers {span}{shift}; the line through it is its 95{PERCENT} interval, longer where there are "
        "fewer parts. The bars below show the parts by their current truth."
    )


def _was(count: int) -> str:
    return "was" if count == 1 else "were"
