"""Part `defects`: what the detector says of a repaired region, on real defects and on good parts.

A real defect is repaired as the product does it: all that the detector found in the image and what people marked, each
with the product's rim. The score is then read where the defect was, in the mark or, where nobody marked it, in the
detector's boxes, and not in the rim: the detector smooths, so that cells at the border of a region see what lies around
it, and a mark drawn tightly leaves the outline of the defect outside. A marked defect that the detector scores below
its review threshold is none that the product would repair; it is left out, as an unmarked one is in which nothing was
found.

Beside this stand, for every method, the same figure with the marked defects that the detector misses (`every_mark`),
and that of the mask to the letter (`strict`): nothing but the mark is repaired (or the boxes with their rim), missed
defects count, and the score is read up to the border of what was repaired.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from inspector.detector.evidence import sign_test
from inspector.records import AnomalyMap, BgrImage
from pipelines.dataset import TestImage, read_image
from pipelines.twin import mask_boxes, widen_mask
from tools.twin.judging import DASH, Criterion, PartResult, TrialSettings, table
from tools.twin.methods import METHODS, OURS, Painted, SetPainter
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


@dataclass(slots=True)
class Reading:
    """One way to measure the fall: a list for each method, in the order of the images."""

    falls: dict[str, list[Fall]]
    no_higher: int = 0

    def read(self, before: AnomalyMap, after: dict[str, AnomalyMap], good: list[AnomalyMap], place: Mask) -> None:
        """Add what the maps say of one place (H, W) bool, unless it scores no higher than on good images."""
        found = score_inside(before, place)
        usual = float(np.median([score_inside(item, place) for item in good]))
        if found <= usual:
            self.no_higher += 1
            return
        for method, falls in self.falls.items():
            falls.append(Fall(found, score_inside(after[method], place), usual))

    def share(self, method: str) -> float | None:
        """Of the way to the good median, all images together; None without any."""
        falls = self.falls[method]
        return sum(fall.fallen for fall in falls) / sum(fall.way for fall in falls) if falls else None


def _measure_defects(
    trial_set: TrialSet, painter: SetPainter, good_maps: list[AnomalyMap], settings: TrialSettings
) -> dict[str, Any]:
    chosen = _draw(trial_set.defective(), settings.defects, settings.seed)
    review = trial_set.recipe.thresholds.review
    seen, every, strict = (Reading({method: [] for method in METHODS}) for _ in range(3))
    refused = dict.fromkeys(METHODS, 0)
    painted_images = nothing_found = missed = 0
    for image in chosen:
        pixels = read_image(image.path)
        scoring = trial_set.scorer.score_frame(pixels)
        marked, boxes = read_defect(image, pixels), mask_boxes(pixels, scoring.detections)
        defect = marked if marked is not None else boxes
        if not defect.any():
            nothing_found += 1
            continue
        painted_images += 1
        painted = painter.paint_all(pixels, widen_mask(defect | boxes))
        for method in METHODS:
            refused[method] += painted[method].refused is not None
        after = _score_all(trial_set, painted)
        every.read(scoring.anomaly_map, after, good_maps, defect)
        if score_inside(scoring.anomaly_map, defect) >= review:
            seen.read(scoring.anomaly_map, after, good_maps, defect)
        else:
            missed += 1
        if marked is not None:
            after = _score_all(trial_set, painter.paint_all(pixels, marked))
        strict.read(scoring.anomaly_map, after, good_maps, marked if marked is not None else widen_mask(boxes))
    return {
        "images": len(seen.falls[METHODS[0]]),
        "nothing_found": nothing_found,
        "missed": missed,
        "no_higher_than_good": seen.no_higher,
        "masks": "marked" if any(image.mask is not None for image in chosen) else "detector",
        "methods": {
            method: None
            if refused[method] == painted_images or not seen.falls[method]
            else _sum_falls(seen.falls[method], refused[method], review)
            | {"every_mark": every.share(method), "strict": strict.share(method)}
            for method in METHODS
        },
    }


def _score_all(trial_set: TrialSet, painted: dict[str, Painted]) -> dict[str, AnomalyMap]:
    """The detector's map of each method's picture; one picture is scored once."""
    maps: dict[int, AnomalyMap] = {}
    for item in painted.values():
        if id(item.pixels) not in maps:
            maps[id(item.pixels)] = trial_set.scorer.score_frame(item.pixels).anomaly_map
    return {method: maps[id(item.pixels)] for method, item in painted.items()}


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
            f"- {name}: left out {defects['nothing_found']} images in which nothing was found, {defects['missed']} "
            f"whose mark the detector misses and {defects['no_higher_than_good']} whose region scores no higher than "
            "on good images"
        )
    head = (
        "share of the way to the good median, all images together (with missed marks; the mask to the letter) / share "
        "of images ≥ 90 % / alarms left of"
    )
    change = "good parts: score in the mask rises : falls (median change), alarms after of before"
    return (*table((head, *METHODS), falls), "", *notes, "", *table((change, *METHODS), goods))


def _each(found: dict[str, Any]) -> list[dict[str, Any] | None]:
    return [found["methods"][method] for method in METHODS]


def _fall_cell(result: dict[str, Any] | None) -> str:
    if result is None:
        return DASH
    others = "; ".join(_percent(result[name]) for name in ("every_mark", "strict"))
    shares = f"{_percent(result['share_of_way'])} ({others}) / {100 * result['share_reaching']:.0f} %"
    refused = f", {result['refused']} without reference" if result["refused"] else ""
    return f"{shares} / {result['alarms_after']} of {result['alarms_before']}{refused}"


def _percent(share: float | None) -> str:
    return DASH if share is None else f"{100 * share:.1f} %"


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
