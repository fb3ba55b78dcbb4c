"""The page about the cloud: what it was asked, what it said against the edge, and what that cost."""

from __future__ import annotations

from dataclasses import dataclass

from inspector.cloud.budget import MICRO
from reports.formats import NO_VALUE, SiteClock, clean_text, format_count, format_rate
from reports.html import make_environment
from reports.rates import Rate
from reports.report_data import Picture


@dataclass(frozen=True, slots=True)
class CloudStation:
    """One station. `asked` are questions that left at least once, `reused` answers that cost nothing."""

    station: str
    inspections: int
    asked: int
    reused: int
    requests: int
    sent_bytes: int
    money_micro: int
    everything_micro: int | None
    """What asking about every inspection would have cost at the mean price of an answer; None without any."""

    @property
    def at_the_edge(self) -> Rate:
        """Parts for which nothing left the plant."""
        return Rate(max(0, self.inspections - self.asked), self.inspections)


@dataclass(frozen=True, slots=True)
class CloudCase:
    """An opinion with the very picture that the model saw."""

    title: str
    verdict: str
    words: str
    picture: Picture


@dataclass(frozen=True, slots=True)
class CloudReport:
    """Everything on the page. `matrix` is {(edge verdict, opinion): count}."""

    site_name: str
    timezone: str
    generated_utc_us: int
    currency: str
    stations: tuple[CloudStation, ...]
    matrix: dict[tuple[str, str], int]
    agree: Rate
    audits: Rate
    """OK parts of the random audit that the cloud calls defective."""
    audit_interval: tuple[float, float] | None
    open_questions: int
    problems: dict[str, int]
    disagreements: tuple[CloudCase, ...]
    agreements: tuple[CloudCase, ...]
    note: str | None = None
    """What a reader has to know about the answers before anything else."""


def render_cloud_page(report: CloudReport) -> str:
    """The whole page as text; the same report gives the same page."""
    return (
        make_environment()
        .get_template("cloud.html.j2")
        .render(
            report=report,
            clock=SiteClock(report.timezone),
            audit=describe_audit(report),
            rate=format_rate,
            count_text=format_count,
            money=lambda micro: format_money(micro, report.currency),
            opinions=("good", "defect", "unsure"),
        )
    )


def describe_audit(report: CloudReport) -> str:
    """What the random audit says about escapes, with its uncertainty."""
    if report.audit_interval is None:
        return "No audit was answered yet: nothing can be said about defects among the OK parts."
    low, high = report.audit_interval
    return (
        f"Of {report.audits.total} OK parts drawn at random the cloud calls {report.audits.count} defective. If it is "
        f"right, the share of defects among OK parts lies between {low:.2%} and {high:.2%} (95 %)."
    )


def format_money(micro: int | None, currency: str) -> str:
    """Money with four decimals."""
    return NO_VALUE if micro is None else f"{micro / MICRO:,.4f} {clean_text(currency)}"
