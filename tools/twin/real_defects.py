"""Part `defects`: what the detector says of a repaired region, on real defects and on good parts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from inspector.detector.evidence import sign_test
from inspector.records import AnomalyMap, BgrImage
from pipelines.dataset import TestImage, read_image
from pipelines.twin import mask_detections
from tools.twin.judging import DASH, Criterion, PartResult, TrialSettings, table
from tools.twin.methods import METHODS, OURS, SetPainter
from tools.twin.sets import TrialSet, read_defect

LEAST_FALL = 0.9
FALL = ("score in repaired regions of real defects", "falls by ≥ 90 % of its way to the good median")
RISE = ("score in repaired regions of good parts", "does not rise")
CHANCE = 0.01
"""More rises than falls than luck would give with this probability count as a rise."""

Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Fall:
    """The highest score in one repaired region: before, after, and what good images show at that place (median)."""

    before: float
    after: float
    good: float

    @property
    def way(self) -> float:
        """How far it could fall."""
        return self.before - self.good

    @property
    def fallen(self) -> float:
        """How far it fell; below the good median there is nothing to win."""
        return self.before - max(self.after, self.good)


def measure_defects(settings: TrialSettings) -> PartResult:
    """Real defects, then random masks on good images, by every method on every set."""
    figures: dict[str, Any] = {"sets": {}}
    for trial_set in settings.sets:
        settings.say(f"{trial_set.name}: real defects")
        painter = SetPainter(trial_set, settings.threads)
        maps = [trial_set.scorer.score_frame(read_image(path)).anomaly_map for path in trial_set.held_out]
        figures["sets"][trial_set.name] = {
            "defects": _measure_defects(trial_set, painter, maps, settings),
            "good": _measure_good(trial_set, painter, settings),
        }
    return PartResult(figures, describe_defects(figures), judge_defects(figures))


def _measure_defects(
    trial_set: TrialSet, painter: SetPainter, good_maps: list[AnomalyMap], settings: TrialSettings
) -> dict[str, Any]:
    chosen = _draw(trial_set.defective(), settings.defects, settings.seed)
    review = trial_set.recipe.thresholds.review
    falls: dict[str, list[Fall]] = {method: [] for method in METHODS}
    refused = dict.fromkeys(METHODS, 0)
    nothing_found = nothing_to_fall = 0
    for image in chosen:
        pixels = read_image(image.path)
        scoring = trial_set.scorer.score_frame(pixels)
        marked = read_defect(image, pixels)
        mask = marked if marked is not None else mask_detections(pixels, scoring.detections)
        if not mask.any():
            nothing_found += 1
            continue
        before = score_inside(scoring.anomaly_map, mask)
        good = float(np.median([score_inside(found, mask) for found in good_maps]))
        if before <= good:
            nothing_to_fall += 1
            continue
        for method, painted in painter.paint_all(pixels, mask).items():
            refused[method] += painted.refused is not None
            falls[method].append(Fall(before, _score(trial_set, painted.pixels, mask), good))
    count = len(falls[METHODS[0]])
    return {
        "images": count,
        "nothing_found": nothing_found,
        "no_higher_than_good": nothing_to_fall,
        "masks": "marked" if any(image.mask is not None for image in chosen) else "detector",
        "methods": {
            method: None if refused[method] == count else _sum_falls(falls[method], refused[method], review)
            for method in METHODS
        },
    }


def _sum_falls(falls: list[Fall], refused: int, review: float) -> dict[str, Any]:
    shares = np.array([fall.fallen / fall.way for fall in falls])
    return {
        "share_of_way": sum(fall.fallen for fall in falls) / sum(fall.way for fall in falls),
        "median_share": float(np.median(shares)),
        "share_reaching": float((shares >= LEAST_FALL).mean()),
        "median_before": float(np.median([fall.before for fall in falls])),
        "median_after": float(np.median([fall.after for fall in falls])),
        "median_good": float(np.median([fall.good for fall in falls])),
        "alarms_before": sum(fall.before >= review for fall in falls),
        "alarms_after": sum(fall.after >= review for fall in falls),
        "refused": refused,
    }


def _measure_good(trial_set: TrialSet, painter: SetPainter, settings: TrialSettings) -> dict[str, Any]:
    changes: dict[str, list[tuple[float, float]]] = {method: [] for method in METHODS}
    refused = dict.fromkeys(METHODS, 0)
    tasks = trial_set.tasks(settings.masks, settings.seed)
    for task in tasks:
        mask = task.sampled.mask
        before = _score(trial_set, task.truth, mask)
        for method, painted in painter.paint_all(task.truth, mask).items():
            refused[method] += painted.refused is not None
            changes[method].append((before, _score(trial_set, painted.pixels, mask)))
    review = trial_set.recipe.thresholds.review
    return {
        "masks": len(tasks),
        "methods": {
            method: None if refused[method] == len(tasks) else sum_changes(changes[method], review)
            for method in METHODS
        },
    }


def sum_changes(changes: list[tuple[float, float]], review: float) -> dict[str, Any]:
    """Paired scores before and after a repair: how many rose and fell, and whether that is more than luck."""
    rises = sum(after > before for before, after in changes)
    falls = sum(after < before for before, after in changes)
    return {
        "rises": rises,
        "falls": falls,
        "median_change": float(np.median([after - before for before, after in changes])),
        "chance_of_rises": sign_test(rises, falls),
        "alarms_before": sum(before >= review for before, _ in changes),
        "alarms_after": sum(after >= review for _, after in changes),
    }


def score_inside(anomaly_map: AnomalyMap, mask: Mask) -> float:
    """The highest score of the cells that a mask (H, W) bool touches; 0 where the map does not reach."""
    rows, columns = np.nonzero(mask)
    rows, columns = rows // anomaly_map.cell_px, columns // anomaly_map.cell_px
    inside = (rows < anomaly_map.scores.shape[0]) & (columns < anomaly_map.scores.shape[1])
    return float(anomaly_map.scores[rows[inside], columns[inside]].max(initial=0.0))


def _score(trial_set: TrialSet, pixels: BgrImage, mask: Mask) -> float:
    return score_inside(trial_set.scorer.score_frame(pixels).anomaly_map, mask)


def _draw(images: tuple[TestImage, ...], most: int, seed: int) -> list[TestImage]:
    order = np.random.default_rng(seed).permutation(len(images))[:most]
    return [images[index] for index in sorted(order)]


def describe_defects(figures: dict[str, Any]) -> tuple[str, ...]:
    """Two tables: the fall on real defects, the change on good parts."""
    falls, goods, notes = [], [], []
    for name, found in figures["sets"].items():
        defects, good = found["defects"], found["good"]
        falls.append([f"{name} ({defects['images']}, {defects['masks']})", *map(_fall_cell, _each(defects))])
        goods.append([f"{name} ({good['masks']} masks)", *map(_good_cell, _each(good))])
        notes.append(
            f"- {name}: left out {defects['nothing_found']} images in which nothing was found and "
            f"{defects['no_higher_than_good']} whose region scores no higher than on good images"
        )
    head = "share of the way to the good median, all images together / share of images ≥ 90 % / alarms left of"
    change = "good parts: score in the mask rises : falls (median change), alarms after of before"
    return (*table((head, *METHODS), falls), "", *notes, "", *table((change, *METHODS), goods))


def _each(found: dict[str, Any]) -> list[dict[str, Any] | None]:
    return [found["methods"][method] for method in METHODS]


def _fall_cell(result: dict[str, Any] | None) -> str:
    if result is None:
        return DASH
    shares = f"{100 * result['share_of_way']:.1f} % / {100 * result['share_reaching']:.0f} %"
    refused = f", {result['refused']} without reference" if result["refused"] else ""
    return f"{shares} / {result['alarms_after']} of {result['alarms_before']}{refused}"


def _good_cell(result: dict[str, Any] | None) -> str:
    if result is None:
        return DASH
    alarms = f"{result['alarms_after']} of {result['alarms_before']}"
    return f"{result['rises']} : {result['falls']} ({result['median_change']:+.2f}), {alarms}"


def judge_defects(figures: dict[str, Any]) -> tuple[Criterion, ...]:
    """Nine tenths of the way down, and no rise on good parts beyond luck: the net, else what the product takes."""
    sets = figures["sets"].values()
    ours = next((name for name in OURS if all(found["defects"]["methods"][name] for found in sets)), None)
    if ours is None or not sets:
        return tuple(Criterion(name, wanted, DASH, None) for name, wanted in (FALL, RISE))
    fall = {name: found["defects"]["methods"][ours]["share_of_way"] for name, found in figures["sets"].items()}
    rise = {name: found["good"]["methods"][ours] for name, found in figures["sets"].items()}
    falls = ", ".join(f"{name} {100 * value:.1f} %" for name, value in fall.items())
    rises = ", ".join(f"{name} {value['rises']} : {value['falls']}" for name, value in rise.items())
    return (
        Criterion(*FALL, f"{ours}: {falls}", min(fall.values()) >= LEAST_FALL),
        Criterion(*RISE, f"{ours}: {rises}", all(value["chance_of_rises"] > CHANCE for value in rise.values())),
    )
