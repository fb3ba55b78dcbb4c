"""Choice by evidence: which heads judge a part, from held-out good images and defects painted onto them.

The painted families are those that no head was taught with (`inspector.scenes.overlays.FAMILIES`, "judge"). They rank
heads only roughly, so the fixed banks stay unless another choice finds more by more than chance.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from inspector.detector.calibration import calibrate
from inspector.detector.features import CELL_PX, MARGIN_PX
from inspector.detector.part_heads import Head
from inspector.detector.part_model import HeadName, Mask
from inspector.geometry.tiles import Tile
from inspector.records import BgrImage
from inspector.scenes.overlays import judge_families, paint_window

DEFAULT_HEADS: tuple[HeadName, ...] = ("energy", "contrast")
WINDOW_CELLS = 48
SMALLEST_PX, LARGEST_PX = 6, 96
MOST_PAINTED = 150
ATTEMPTS = 6
CHANCE = 0.01
"""A choice must find more than the default with at most this probability of doing so by luck."""

ScoreFrom = dict[HeadName, NDArray[np.float64]]


@dataclass(frozen=True, slots=True)
class Candidate:
    """How one choice of heads did: the shares of painted defects above its thresholds, and its AUROC."""

    heads: tuple[HeadName, ...]
    found: float
    auroc: float
    chance: float
    """Probability of finding so many more than the default by luck; 1 where it finds fewer."""


@dataclass(frozen=True, slots=True)
class Choice:
    """The heads taken, all candidates, and how many defects were painted."""

    heads: tuple[HeadName, ...]
    painted: int
    candidates: tuple[Candidate, ...]

    def to_json(self) -> dict[str, Any]:
        """For the recipe's `choices`."""
        return {
            "heads": list(self.heads),
            "painted_defects": self.painted,
            "painted_families": judge_families(),
            "candidates": [
                {key: round(value, 4) if isinstance(value, float) else value for key, value in asdict(item).items()}
                for item in self.candidates
            ],
        }


def choose_heads(
    heads: list[Head],
    pictures: list[BgrImage],
    judged: list[Mask],
    false_alarm_target: float,
    progress: Callable[[str, float], None],
) -> Choice:
    """Compare every sensible choice of the heads on `pictures` (good images with the banks' margin)."""
    good: ScoreFrom = {head.name: np.array([image.max() for image in head.held_out], np.float64) for head in heads}
    painted = _score_painted(heads, pictures, judged, progress)
    count = len(next(iter(painted.values())))
    caught = {
        names: _caught(names, good, painted, false_alarm_target) for names in _candidates([head.name for head in heads])
    }
    candidates = []
    for names, found in caught.items():
        better, worse = (int((found & ~caught[DEFAULT_HEADS]).sum()), int((~found & caught[DEFAULT_HEADS]).sum()))
        separation = _auroc(_largest(names, good), _largest(names, painted))
        candidates.append(Candidate(names, float(found.mean()) if count else 0.0, separation, sign_test(better, worse)))
    winners = [item for item in candidates if item.chance <= CHANCE]
    best = max(winners, key=lambda item: (item.found, item.auroc), default=None)
    return Choice(best.heads if best else DEFAULT_HEADS, count, tuple(candidates))


def sign_test(better: int, worse: int) -> float:
    """One-sided: the probability of at least `better` of `better + worse` if both were as likely."""
    tries = better + worse
    if better <= worse:
        return 1.0
    return sum(math.comb(tries, hits) for hits in range(better, tries + 1)) / 2.0**tries


def _candidates(names: list[HeadName]) -> list[tuple[HeadName, ...]]:
    return [DEFAULT_HEADS, *((name,) for name in names)]


def _largest(names: tuple[HeadName, ...], scores: ScoreFrom) -> NDArray[np.float64]:
    return np.asarray(np.max([scores[name] for name in names], axis=0), np.float64)


def _caught(
    names: tuple[HeadName, ...], good: ScoreFrom, painted: ScoreFrom, false_alarm_target: float
) -> NDArray[np.bool_]:
    """Which painted defects lie above the threshold that the good images give."""
    scores = _largest(names, good)
    limit = calibrate([float(score) for score in scores], false_alarm_target, len(scores)).thresholds.review
    return _largest(names, painted) >= limit


def _auroc(good: NDArray[np.float64], bad: NDArray[np.float64]) -> float:
    """Share of (good, bad) pairs in the right order."""
    if not len(good) or not len(bad):
        return 0.5
    above = (bad[:, None] > good[None, :]).mean()
    return float(above + 0.5 * (bad[:, None] == good[None, :]).mean())


def _score_painted(
    heads: list[Head], pictures: list[BgrImage], judged: list[Mask], progress: Callable[[str, float], None]
) -> ScoreFrom:
    """For each head the score of each painted image: one defect of each family on each good image, or of some."""
    kinds = judge_families()
    scores: dict[HeadName, list[float]] = {head.name: [] for head in heads}
    tasks = [(index, kind) for index in range(len(pictures)) for kind in kinds]
    tasks = tasks[:: max(1, -(-len(tasks) // MOST_PAINTED))]
    for number, (index, kind) in enumerate(tasks):
        made = _paint(pictures[index], judged[index], kind, np.random.default_rng([index, *kind.encode()]))
        progress("choose heads", (number + 1) / len(tasks))
        if made is None:
            continue
        padded, window = made
        for head in heads:
            image = head.held_out[index].copy()
            fresh = head.score_window(index, padded, window)
            window.cut(image)[:] = np.where(window.cut(judged[index]), fresh, np.float32(0.0))
            scores[head.name].append(float(image.max()))
    return {name: np.array(values, np.float64) for name, values in scores.items()}


def _paint(picture: BgrImage, judged: Mask, kind: str, dice: np.random.Generator) -> tuple[BgrImage, Tile] | None:
    """A window of the picture with one defect in its middle, with the banks' margin, and its cells."""
    rows, columns = judged.shape
    places = np.argwhere(judged)
    if not len(places):
        return None
    for _ in range(ATTEMPTS):
        row, column = (int(value) for value in places[int(dice.integers(len(places)))])
        tall, wide = min(WINDOW_CELLS, rows), min(WINDOW_CELLS, columns)
        top, left = min(max(0, row - tall // 2), rows - tall), min(max(0, column - wide // 2), columns - wide)
        y0, x0 = top * CELL_PX, left * CELL_PX
        content = picture[y0 : y0 + tall * CELL_PX + 2 * MARGIN_PX, x0 : x0 + wide * CELL_PX + 2 * MARGIN_PX].copy()
        largest = min(LARGEST_PX, tall * CELL_PX // 2, wide * CELL_PX // 2)
        side = round(math.exp(dice.uniform(math.log(SMALLEST_PX), math.log(max(SMALLEST_PX + 1, largest)))))
        y = (row - top) * CELL_PX + MARGIN_PX - side // 2
        x = (column - left) * CELL_PX + MARGIN_PX - side // 2
        y, x = min(max(0, y), content.shape[0] - side), min(max(0, x), content.shape[1] - side)
        if paint_window(content, kind, (x, y, x + side, y + side), dice) is not None:
            return content, Tile(top, left, tall, wide)
    return None
