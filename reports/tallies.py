"""Counting a stream of triggers: totals by verdict, yields by current truth, each part once."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Set
from dataclasses import dataclass, field

from inspector.records import Purpose, VerdictKind
from inspector.store.history import PartKey, TriggerOutcome
from reports.charts import TrendPoint
from reports.rates import Rate, VerdictCounts
from reports.report_data import Trend, YieldFigures
from reports.time_buckets import BucketPlan

INSPECTED = frozenset({VerdictKind.OK, VerdictKind.NG, VerdictKind.REVIEW})


@dataclass(slots=True)
class TotalsTally:
    """Triggers by verdict (None: pending), and late ones among the decided."""

    stations: defaultdict[str, Counter[VerdictKind | None]] = field(default_factory=lambda: defaultdict(Counter))
    purposes: defaultdict[Purpose, Counter[VerdictKind | None]] = field(default_factory=lambda: defaultdict(Counter))
    late: Counter[str] = field(default_factory=Counter)

    def add(self, outcome: TriggerOutcome) -> None:
        self.stations[outcome.station][outcome.verdict] += 1
        self.purposes[outcome.purpose][outcome.verdict] += 1
        if outcome.late and outcome.verdict is not None:
            self.late[outcome.station] += 1

    def station_counts(self, station: str) -> VerdictCounts:
        return VerdictCounts.from_kinds(self.stations.get(station, {}))

    def late_rate(self, station: str) -> Rate:
        return Rate(self.late[station], self.station_counts(station).decided)


@dataclass(slots=True)
class YieldTally:
    """Parts of one purpose by current truth, in all and by piece of time."""

    purpose: Purpose
    plan: BucketPlan
    counts: Counter[VerdictKind | None] = field(default_factory=Counter)
    pieces: defaultdict[int, Counter[VerdictKind | None]] = field(default_factory=lambda: defaultdict(Counter))
    superseded: int = 0
    changed: int = 0

    def add(self, outcome: TriggerOutcome, superseded: bool, disposition: VerdictKind | None) -> None:
        if superseded:
            self.superseded += 1
            return
        truth = disposition or outcome.verdict
        self.changed += truth is not outcome.verdict
        self.counts[truth] += 1
        position = self.plan.find(outcome.accepted_utc_us)
        if position is not None:
            self.pieces[position][truth] += 1

    def figures(self) -> YieldFigures:
        return YieldFigures(
            purpose=self.purpose,
            counts=VerdictCounts.from_kinds(self.counts),
            superseded=self.superseded,
            changed=self.changed,
        )

    def trend(self) -> Trend:
        points = []
        for position, bucket in enumerate(self.plan.buckets):
            counts = VerdictCounts.from_kinds(self.pieces.get(position, {}))
            points.append(TrendPoint(bucket.label, bucket.short_label, Rate(counts.ok, counts.inspected), counts))
        return Trend(self.plan.unit, tuple(points))


def latest_attempts(
    outcomes: Iterable[TriggerOutcome], repeated: Set[PartKey]
) -> Iterator[tuple[TriggerOutcome, bool]]:
    """Every outcome with whether another attempt of the same part takes its place.

    `outcomes` come in the order of acceptance, `repeated` names the parts with more than one attempt. A later
    attempt takes the place of the earlier one once it is inspected; a part id that starts again at a lower
    attempt is another part.
    """
    held: dict[PartKey, TriggerOutcome] = {}
    for outcome in outcomes:
        key = outcome.part_key
        if key not in repeated:
            yield outcome, False
            continue
        earlier = held.get(key)
        if earlier is None or outcome.attempt <= earlier.attempt:
            held[key] = outcome
            if earlier is not None:
                yield earlier, False
        elif outcome.verdict in INSPECTED or earlier.verdict not in INSPECTED:
            held[key] = outcome
            yield earlier, True
        else:
            yield outcome, True
    for outcome in held.values():
        yield outcome, False


def tally_all(
    outcomes: Iterable[TriggerOutcome],
    repeated: Set[PartKey],
    dispositions: Mapping[str, VerdictKind],
    totals: TotalsTally,
    yields: Mapping[Purpose, YieldTally],
) -> None:
    """One pass over the triggers of a period."""

    def counted() -> Iterator[TriggerOutcome]:
        for outcome in outcomes:
            totals.add(outcome)
            yield outcome

    for outcome, superseded in latest_attempts(counted(), repeated):
        tally = yields.get(outcome.purpose)
        if tally is not None:
            tally.add(outcome, superseded, dispositions.get(outcome.trigger_id))
