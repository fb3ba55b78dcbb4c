"""Counts, and rates that carry their counts: a rate without its denominator cannot be written down."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from inspector.records import VerdictKind

Z_95 = 1.959963984540054
"""Standard normal quantile of a two-sided 95 % interval."""

SMALL_TOTAL = 1000
"""Below this many parts a rate is shown with its interval."""


@dataclass(frozen=True, slots=True)
class Rate:
    """`count` of `total`; `value` and `interval` are None when there is nothing to divide by."""

    count: int
    total: int

    def __post_init__(self) -> None:
        if not 0 <= self.count <= self.total:
            raise ValueError(f"need 0 <= count <= total, got {self.count} of {self.total}")

    @property
    def value(self) -> float | None:
        return self.count / self.total if self.total else None

    @property
    def interval(self) -> tuple[float, float] | None:
        """95 % score interval, Wilson (1927), JASA 22:209–212; both ends lie in 0..1."""
        if not self.total:
            return None
        share, square = self.count / self.total, Z_95 * Z_95
        spread = Z_95 * math.sqrt(share * (1 - share) / self.total + square / (4 * self.total * self.total))
        scale = 1 + square / self.total
        middle = share + square / (2 * self.total)
        # At 0 and at `total` the formula gives exactly 0 and 1 but for rounding.
        low = 0.0 if self.count == 0 else (middle - spread) / scale
        high = 1.0 if self.count == self.total else (middle + spread) / scale
        return low, high

    @property
    def small(self) -> bool:
        return 0 < self.total < SMALL_TOTAL


@dataclass(frozen=True, slots=True)
class VerdictCounts:
    """How many triggers ended in each verdict, and how many have not ended yet."""

    ok: int = 0
    ng: int = 0
    review: int = 0
    not_inspected: int = 0
    pending: int = 0

    def __post_init__(self) -> None:
        if min(self.ok, self.ng, self.review, self.not_inspected, self.pending) < 0:
            raise ValueError(f"counts are not negative, got {self}")

    @property
    def decided(self) -> int:
        """OK + NG + REVIEW + NOT_INSPECTED."""
        return self.inspected + self.not_inspected

    @property
    def inspected(self) -> int:
        """OK + NG + REVIEW."""
        return self.ok + self.ng + self.review

    @property
    def triggers(self) -> int:
        """Everything accepted: the decided ones and those whose verdict is pending."""
        return self.decided + self.pending

    def __add__(self, other: VerdictCounts) -> VerdictCounts:
        return VerdictCounts(
            ok=self.ok + other.ok,
            ng=self.ng + other.ng,
            review=self.review + other.review,
            not_inspected=self.not_inspected + other.not_inspected,
            pending=self.pending + other.pending,
        )

    @classmethod
    def from_kinds(cls, counts: Mapping[VerdictKind | None, int]) -> VerdictCounts:
        """From a count for each verdict; None stands for pending."""
        return cls(
            ok=counts.get(VerdictKind.OK, 0),
            ng=counts.get(VerdictKind.NG, 0),
            review=counts.get(VerdictKind.REVIEW, 0),
            not_inspected=counts.get(VerdictKind.NOT_INSPECTED, 0),
            pending=counts.get(None, 0),
        )


def sum_counts(parts: Iterable[VerdictCounts]) -> VerdictCounts:
    """The sum of several counts; all zero for none."""
    total = VerdictCounts()
    for part in parts:
        total = total + part
    return total
