"""Part `determinism`: fresh processes give the same bytes, one thread nearly so, and no method looks under the mask."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np

from inspector.errors import InputError
from inspector.records import BgrImage
from tools.twin.fresh_process import FreshRun, run_fresh
from tools.twin.judging import DASH, Criterion, PartResult, TrialSettings, table
from tools.twin.methods import PRODUCT_METHODS, ProductPainter
from tools.twin.sets import Task, TrialSet, spoil

MOST_LEVELS = 1
LEAK_MASKS = 6


def measure_determinism(settings: TrialSettings) -> PartResult:
    """One mask of every set, painted by two threads in two fresh processes, and by one thread in a third."""
    figures: dict[str, Any] = {"sets": {}}
    for trial_set in settings.sets:
        settings.say(f"{trial_set.name}: three fresh processes")
        figures["sets"][trial_set.name] = _measure_set(trial_set, settings)
    return PartResult(figures, describe_determinism(figures), judge_determinism(figures))


def _measure_set(trial_set: TrialSet, settings: TrialSettings) -> dict[str, Any]:
    tasks = trial_set.tasks(LEAK_MASKS, settings.seed)
    where = (trial_set.data_dir, trial_set.recipe_name)

    def run(threads: int) -> FreshRun:
        return run_fresh(where, tasks[0].truth, tasks[0].sampled.mask, PRODUCT_METHODS, settings.work, threads=threads)

    first, second, single = run(2), run(2), run(1)
    painter = ProductPainter(trial_set.recipe, settings.threads)
    found: dict[str, Any] = {}
    for method in PRODUCT_METHODS:
        if method in first.missing:
            found[method] = None
            continue
        found[method] = {
            "same_bytes": first.sha256[method] == second.sha256[method],
            "levels_between_thread_counts": count_levels(first.pictures[method], single.pictures[method]),
            "levels_leaked": measure_leak(painter, tasks, method),
        }
    return found


def measure_leak(painter: ProductPainter, tasks: Sequence[Task], method: str) -> int | None:
    """By how many grey levels the painted pixels change at most with what lies under the mask; None: nothing painted.

    The references are placed by the original both times: only what the method sees of the mask differs.
    """
    most: int | None = None
    for task in tasks:
        mask, frames = task.sampled.mask, (task.truth, spoil(task.truth, task.sampled))
        try:
            placed = painter.place(task.truth)
            twins = [painter.paint_placed(pixels, mask, method, *placed) for pixels in frames]
        except InputError:
            continue
        one, other = (twin.pixels[mask] for twin in twins)
        most = max(most or 0, count_levels(one, other))
    return most


def count_levels(one: BgrImage, other: BgrImage) -> int:
    """The largest difference of two pictures."""
    return int(np.asarray(cv2.absdiff(one, other)).max(initial=0))


def describe_determinism(figures: dict[str, Any]) -> tuple[str, ...]:
    """Same bytes twice, the largest difference between one and two threads, and what leaked."""
    rows = [[name, *(_cell(found[method]) for method in PRODUCT_METHODS)] for name, found in figures["sets"].items()]
    head = ("same bytes twice / grey levels between 1 and 2 threads / leaked from under the mask", *PRODUCT_METHODS)
    return table(head, rows)


def _cell(result: dict[str, Any] | None) -> str:
    if result is None:
        return DASH
    leaked = DASH if result["levels_leaked"] is None else result["levels_leaked"]
    return f"{'yes' if result['same_bytes'] else 'NO'} / {result['levels_between_thread_counts']} / {leaked}"


def judge_determinism(figures: dict[str, Any]) -> tuple[Criterion, ...]:
    """Over every method and set that paints."""
    results = [result for found in figures["sets"].values() for result in found.values() if result is not None]
    same = sum(result["same_bytes"] for result in results)
    levels = max((result["levels_between_thread_counts"] for result in results), default=None)
    leaked = max((result["levels_leaked"] for result in results if result["levels_leaked"] is not None), default=None)
    return (
        Criterion(
            "fresh processes", "same bytes", f"{same} of {len(results)}", same == len(results) if results else None
        ),
        _judge("1 against 2 threads", levels),
        _judge("what lies under the mask shows in its twin", leaked),
    )


def _judge(name: str, levels: int | None) -> Criterion:
    found = DASH if levels is None else f"{levels}"
    return Criterion(name, f"within {MOST_LEVELS} grey level", found, None if levels is None else levels <= MOST_LEVELS)
