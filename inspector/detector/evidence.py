"""Choice by evidence: which heads judge a part, from held-out good images and defects painted onto them.

The painted families are those that no head was taught with (`inspector.scenes.overlays.FAMILIES`, "judge"). They rank
heads only roughly, so the fixed banks stay unless another choice finds more by more than chance. A net that was trained
on painted defects must also raise no more false alarms; it joins the banks, or replaces them where that finds more.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from inspector.detector.calibration import calibrate
from inspector.detector.comparison import Cells
from inspector.detector.features import CELL_PX, MARGIN_PX
from inspector.detector.part_heads import Head, Looks, joint_units
from inspector.detector.part_model import HeadName, Mask, join_heads
from inspector.geometry.tiles import Tile
from inspector.records import BgrImage
from inspector.scenes.overlays import judge_families, paint_window

DEFAULT_HEADS: tuple[HeadName, ...] = ("energy", "contrast")
JOINED_HEADS: tuple[HeadName, ...] = (*DEFAULT_HEADS, "net")
WINDOW_CELLS = 48
SMALLEST_PX, LARGEST_PX = 6, 96
MOST_PAINTED = 150
ATTEMPTS = 6
CHANCE = 0.01
"""A choice must find more than the default with at most this probability of doing so by luck."""

Heads = tuple[HeadName, ...]
ScoreFrom = dict[Heads, NDArray[np.float64]]
Units = dict[Heads, tuple[float, ...]]


@dataclass(frozen=True, slots=True)
class Candidate:
    """How one choice of heads did: the shares of painted defects above its thresholds, and its AUROC."""

    heads: Heads
    found: float
    auroc: float
    chance: float
    """Probability of finding so many more than the default by luck; 1 where it finds fewer."""
    false_alarms: float
    """Share of the held-out good images at or above its threshold."""


@dataclass(frozen=True, slots=True)
class Choice:
    """The heads taken, all candidates, and how many defects were painted."""

    heads: Heads
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
    looks: Looks,
    false_alarm_target: float,
    progress: Callable[[str, float], None],
    *,
    net_may_replace: bool = True,
) -> Choice:
    """Compare every sensible choice of the heads on `pictures` (good images with the banks' margin).

    Unless `net_may_replace` a net can only join the banks: where full resolution, which is not compared here, needs
    them, and for a net that was not trained on this part.
    """
    names = _candidates([head.name for head in heads], net_may_replace)
    by_name = {head.name: head for head in heads}
    units = {each: joint_units([by_name[name] for name in each], looks) for each in names}
    good = _score_good(by_name, units, looks)
    painted = _score_painted(by_name, units, pictures, judged, looks, progress)
    count = len(painted[DEFAULT_HEADS])
    limits = {each: _limit(good[each], false_alarm_target) for each in names}
    caught = {each: painted[each] >= limits[each] for each in names}
    candidates = tuple(
        Candidate(
            each,
            float(caught[each].mean()) if count else 0.0,
            _auroc(good[each], painted[each]),
            _chance(caught[each], caught[DEFAULT_HEADS]),
            float((good[each] >= limits[each]).mean()),
        )
        for each in names
    )
    usual = max(candidates[0].false_alarms, false_alarm_target)
    winners = [
        item for item in candidates if item.chance <= CHANCE and ("net" not in item.heads or item.false_alarms <= usual)
    ]
    best = max(winners, key=lambda item: (item.found, item.auroc, len(item.heads)), default=None)
    return Choice(best.heads if best else DEFAULT_HEADS, count, candidates)


def _chance(caught: NDArray[np.bool_], usually: NDArray[np.bool_]) -> float:
    return sign_test(int((caught & ~usually).sum()), int((~caught & usually).sum()))


def sign_test(better: int, worse: int) -> float:
    """One-sided: the probability of at least `better` of `better + worse` if both were as likely."""
    tries = better + worse
    if better <= worse:
        return 1.0
    return sum(math.comb(tries, hits) for hits in range(better, tries + 1)) / 2.0**tries


def _candidates(names: list[HeadName], net_may_replace: bool) -> list[Heads]:
    """The default first."""
    joined = [JOINED_HEADS] if "net" in names else []
    alone: list[Heads] = [(name,) for name in names if name != "net" or net_may_replace]
    return [DEFAULT_HEADS, *alone, *joined]


def _limit(good: NDArray[np.float64], false_alarm_target: float) -> float:
    """The review threshold that the good images give."""
    return calibrate([float(score) for score in good], false_alarm_target, len(good)).thresholds.review


def _score_good(heads: dict[HeadName, Head], units: Units, looks: Looks) -> ScoreFrom:
    maps = [{name: head.held_out[index] for name, head in heads.items()} for index in range(len(looks))]
    return {
        names: np.array([_worst(each, names, by_look[look]) for each, look in zip(maps, looks, strict=True)])
        for names, by_look in units.items()
    }


def _worst(maps: dict[HeadName, Cells], names: Heads, unit: float) -> float:
    return float(join_heads({name: maps[name] for name in names}, unit).max())


def _auroc(good: NDArray[np.float64], bad: NDArray[np.float64]) -> float:
    """Share of (good, bad) pairs in the right order."""
    if not len(good) or not len(bad):
        return 0.5
    above = (bad[:, None] > good[None, :]).mean()
    return float(above + 0.5 * (bad[:, None] == good[None, :]).mean())


def _score_painted(
    heads: dict[HeadName, Head],
    units: Units,
    pictures: list[BgrImage],
    judged: list[Mask],
    looks: Looks,
    progress: Callable[[str, float], None],
) -> ScoreFrom:
    """For each choice the score of each painted image: one defect of each family on each good image, or of some."""
    kinds = judge_families()
    scores: dict[Heads, list[float]] = {names: [] for names in units}
    tasks = [(index, kind) for index in range(len(pictures)) for kind in kinds]
    tasks = tasks[:: max(1, -(-len(tasks) // MOST_PAINTED))]
    for number, (index, kind) in enumerate(tasks):
        made = _paint(pictures[index], judged[index], kind, np.random.default_rng([index, *kind.encode()]))
        progress("choose heads", (number + 1) / len(tasks))
        if made is None:
            continue
        padded, window = made
        maps: dict[HeadName, Cells] = {}
        for name, head in heads.items():
            maps[name] = head.held_out[index].copy()
            fresh = head.score_window(index, padded, window)
            window.cut(maps[name])[:] = np.where(window.cut(judged[index]), fresh, np.float32(0.0))
        for names, by_look in units.items():
            scores[names].append(_worst(maps, names, by_look[looks[index]]))
    return {names: np.array(values, np.float64) for names, values in scores.items()}


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
