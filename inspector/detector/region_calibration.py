"""Thresholds for regions, each from the held-out good images' worst place within it.

A part alarms when any region does, so its false-alarm rate is at most the sum of theirs (Boole's inequality). What
the regions keep for themselves is taken from the recipe's target, and the rest of the part gets what is left: the
promise of the whole recipe holds with any number of regions.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from inspector.detector.calibration import Calibration, alarm_intervals, calibrate, score_unit
from inspector.detector.judged_regions import JudgedRegions, Region, Scores
from inspector.detector.region_file import ELSEWHERE, Labels, RegionPlan
from inspector.errors import FitError
from inspector.records import Thresholds

ROUNDING = 1.0 + 1e-6
"""Scores are stretched in single precision: a threshold just above a held-out score must stay above it."""


@dataclass(frozen=True, slots=True)
class RegionCalibration:
    """`calibration` is of the whole part; `promises` say for each region what it was given."""

    regions: JudgedRegions
    calibration: Calibration
    scores: tuple[float, ...]
    promises: tuple[dict[str, Any], ...]


def calibrate_regions(
    held_out: list[Scores], labels: Labels, plan: RegionPlan, false_alarm_target: float, real_images: int
) -> RegionCalibration:
    """Thresholds of every region of a plan from held-out maps (rows, columns) of good images.

    `labels` (rows, columns) are the regions' numbers at the maps' cells. Raises `FitError` when a region covers no
    cell, or when the regions' own targets leave nothing for the rest.
    """
    for number, entry in enumerate(plan.entries, start=1):
        if not (labels == number).any():
            raise FitError(f"region {entry.name!r} lies outside the part, or is smaller than a cell of the detector")
    taken = sum(entry.false_alarm_target or 0.0 for entry in plan.entries)
    left = false_alarm_target - taken
    if left <= 0.0:
        raise FitError(
            f"the regions' false-alarm targets sum up to {taken:.3g}, and nothing is left of the recipe's "
            f"{false_alarm_target:.3g} for the rest of the part; ask for less there or more here (--false-alarm-rate)"
        )
    gains = np.ones(len(plan.entries) + 1)
    for number, entry in enumerate(plan.entries, start=1):
        gains[number] = 0.0 if entry.false_alarm_target is not None else entry.sensitivity
    elsewhere, shared = _calibrate_cells(held_out, gains[labels], left, real_images)
    regions = [Region(ELSEWHERE, elsewhere, _pixels(plan.min_defect_mm, plan.mm_per_px))]
    odd = set(shared.odd)
    promises: list[dict[str, Any]] = [{"region": ELSEWHERE, "false_alarm_target": left, "promise": shared.promise}]
    for number, entry in enumerate(plan.entries, start=1):
        own = Thresholds(elsewhere.review / entry.sensitivity, elsewhere.ng / entry.sensitivity)
        if entry.false_alarm_target is not None:
            inside = np.asarray(labels == number, np.float64)
            own, found = _calibrate_cells(held_out, inside, entry.false_alarm_target, real_images)
            odd |= set(found.odd)
            promises.append(
                {"region": entry.name, "false_alarm_target": entry.false_alarm_target, "promise": found.promise}
            )
        smallest = entry.min_defect_mm if entry.min_defect_mm is not None else plan.min_defect_mm
        regions.append(Region(entry.name, own, _pixels(smallest, plan.mm_per_px)))
    judged = JudgedRegions(labels, tuple(regions), shared.thresholds, plan.mm_per_px)
    scores = [float(judged.stretch(image).max()) for image in held_out]
    together = _describe_all(replace(shared, odd=tuple(sorted(odd))), scores)
    return RegionCalibration(judged, together, tuple(scores), tuple(promises))


def _calibrate_cells(
    held_out: list[Scores], gains: NDArray[np.float64], target: float, real_images: int
) -> tuple[Thresholds, Calibration]:
    """Thresholds of some cells in the maps' unit, and what was found in the unit of a usual good part there.

    `gains` (rows, columns) multiply the maps, 0 where a cell does not belong. A quiet region is judged by what is
    usual in it, not by the worst place of the whole part.
    """
    worst = [float((image * gains).max()) for image in held_out]
    unit = score_unit(worst)
    found = calibrate([value / unit for value in worst], target, real_images)
    return Thresholds(found.thresholds.review * unit * ROUNDING, found.thresholds.ng * unit * ROUNDING), found


def _describe_all(shared: Calibration, scores: list[float]) -> Calibration:
    """What the thresholds promise for the whole part: its alarms are those of all regions."""
    if shared.interval == (0.0, 1.0):
        return shared
    kept = np.delete(np.asarray(scores, np.float64), list(shared.odd))
    interval, ng_interval = alarm_intervals(kept, shared.thresholds)
    return replace(shared, interval=interval, ng_interval=ng_interval)


def _pixels(size_mm: float | None, mm_per_px: float | None) -> float | None:
    return size_mm / mm_per_px if size_mm is not None and mm_per_px is not None else None
