"""Verdicts against the truth that a simulated line knows: caught, missed, overkill."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from inspector.records import BoxPx, VerdictKind
from inspector.store.history import TruthRow
from reports.rates import Rate, VerdictCounts
from reports.report_data import KindOutcome

UNKNOWN_KIND = "unknown"


@dataclass(frozen=True, slots=True)
class TrueDefect:
    """What is truly wrong with a part; the box is None where only the kind is known."""

    kind: str
    box_xyxy_px: BoxPx | None


@dataclass(slots=True)
class _Tally:
    """What became of the parts of one kind, while counting."""

    verdicts: Counter[VerdictKind] = field(default_factory=Counter)
    located: int = 0
    places: int = 0


@dataclass(frozen=True, slots=True)
class TruthTally:
    """The counts, and the inspections of defective parts that were called good, newest first."""

    by_kind: tuple[KindOutcome, ...]
    defective: KindOutcome
    good: VerdictCounts
    missed: tuple[TruthRow, ...]


def read_defects(truth: Mapping[str, Any]) -> tuple[TrueDefect, ...]:
    """The defects in an inspection's `truth`; empty for a good part. Entries that make no sense are kept as
    defects without a place, so that no defect disappears from the count."""
    listed = truth.get("defects")
    entries = listed if isinstance(listed, list) else []
    defects = tuple(_read_defect(entry) for entry in entries)
    if truth.get("defective") and not defects:
        return (TrueDefect(UNKNOWN_KIND, None),)
    return defects if truth.get("defective", bool(defects)) else ()


def tally_truth(
    rows: Iterable[TruthRow], dispositions: Mapping[str, VerdictKind], regions: Mapping[str, Sequence[BoxPx]]
) -> TruthTally | None:
    """Count each part once by its disposition, else its verdict; pending parts are left out. None without rows.

    `regions` holds the found boxes by inspection id; a defect is located where one of them touches it.
    """
    parts: dict[str, list[TruthRow]] = {}
    for row in rows:
        parts.setdefault(row.trigger_id, []).append(row)
    kinds: dict[str, _Tally] = {}
    defective, good, missed = _Tally(), Counter[VerdictKind | None](), []
    for trigger_id, views in parts.items():
        verdict = dispositions.get(trigger_id, views[0].verdict)
        if verdict is None:
            continue
        found = [(view, defect) for view in views for defect in read_defects(view.truth)]
        if not found:
            good[verdict] += 1
            continue
        for kind in {defect.kind for _, defect in found}:
            tally = kinds.setdefault(kind, _Tally())
            tally.verdicts[verdict] += 1
        defective.verdicts[verdict] += 1
        if verdict is not VerdictKind.NOT_INSPECTED:
            for view, defect in found:
                _locate(defect, regions.get(view.inspection_id, ()), (kinds[defect.kind], defective))
        if verdict is VerdictKind.OK:
            missed.append(next(view for view in views if read_defects(view.truth)))
    if not parts:
        return None
    return TruthTally(
        by_kind=tuple(_outcome(kind, kinds[kind]) for kind in sorted(kinds)),
        defective=_outcome("", defective),
        good=VerdictCounts.from_kinds(good),
        missed=tuple(reversed(missed)),
    )


def _locate(defect: TrueDefect, regions: Sequence[BoxPx], tallies: Sequence[_Tally]) -> None:
    if defect.box_xyxy_px is None:
        return
    hit = any(_touch(defect.box_xyxy_px, region) for region in regions)
    for tally in tallies:
        tally.places += 1
        tally.located += hit


def _touch(one: BoxPx, other: BoxPx) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def _outcome(kind: str, tally: _Tally) -> KindOutcome:
    return KindOutcome(
        kind=kind,
        ng=tally.verdicts[VerdictKind.NG],
        review=tally.verdicts[VerdictKind.REVIEW],
        missed=tally.verdicts[VerdictKind.OK],
        not_inspected=tally.verdicts[VerdictKind.NOT_INSPECTED],
        located=Rate(tally.located, tally.places),
    )


def _read_defect(entry: Any) -> TrueDefect:
    values = entry if isinstance(entry, dict) else {}
    kind, box = values.get("kind"), values.get("box_xyxy_px")
    corners = box if isinstance(box, list) and len(box) == 4 else []
    numbers = [round(corner) for corner in corners if isinstance(corner, (int, float))]
    place = (numbers[0], numbers[1], numbers[2], numbers[3]) if len(numbers) == 4 else None
    return TrueDefect(kind if isinstance(kind, str) and kind else UNKNOWN_KIND, place)
