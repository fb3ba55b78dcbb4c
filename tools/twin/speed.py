"""Part `speed`: regions at native resolution of a large frame, references cached or not, the first use, and memory."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from inspector.detector.recipe import Recipe
from inspector.detector.recipe_store import RecipeStore
from inspector.errors import InputError
from inspector.generator.net import NetRepairer
from inspector.records import BgrImage
from tools.twin.board_recipe import BOARD, fit_board, render_board
from tools.twin.fresh_process import run_fresh
from tools.twin.judging import DASH, Criterion, PartResult, TrialSettings, table
from tools.twin.methods import NET, OURS, PRODUCT_METHODS, ProductPainter

REPEATS = 9
NATIVE_WIDTH_PX, REGION_PX = 3840, 512
CASES = {
    "one region of 512×512 px, part placed": 33.0,
    "one region of 512×512 px": None,
    "four regions of 512×512 px": 200.0,
    "a quarter of the frame": 500.0,
}
"""What is repaired, and the most milliseconds it may take."""
LEAST_SAVING = 0.3
MOST_FIRST_MS, MOST_PEAK_MB = 1000.0, 500.0

Mask = NDArray[np.bool_]


def measure_speed(settings: TrialSettings) -> PartResult:
    """Every case with every method that the product offers, and the verdict of the same frame as the unit."""
    data_dir = fit_board(settings)
    recipe = RecipeStore(data_dir).load(BOARD)
    frame = render_board(settings)
    painter = ProductPainter(recipe, settings.threads)
    masks = dict(zip(CASES, (_regions(frame, 1), _regions(frame, 1), _regions(frame, 4), _quarter(frame)), strict=True))
    scorer = recipe.scorer(settings.threads)
    figures: dict[str, Any] = {
        "size": f"{frame.shape[1]}x{frame.shape[0]}",
        "load_average": os.getloadavg()[0],
        "verdict_ms": median_ms(lambda: scorer.score_frame(frame)),
        "placing_ms": median_ms(lambda: painter.place(frame, masks["four regions of 512×512 px"])),
        "cases": {},
    }
    for number, (case, mask) in enumerate(masks.items()):
        settings.say(case)
        figures["cases"][case] = {
            method: _time_method(painter, frame, mask, method, placed=number == 0) for method in PRODUCT_METHODS
        }
    four = masks["four regions of 512×512 px"]
    settings.say("references cached and not")
    figures["references"] = {
        method: _compare_caches(recipe, frame, four, method, settings) for method in PRODUCT_METHODS
    }
    figures["first_use"] = {}
    for method in PRODUCT_METHODS:
        found = run_fresh((data_dir, BOARD), frame, four, [method], settings.work, threads=settings.threads)
        figures["first_use"][method] = (
            None
            if method in found.missing
            else {"load_ms": found.load_ms, "first_ms": found.paint_ms[method][0], "peak_mb": found.peak_mb}
            | {"before_mb": found.before_mb}
        )
    return PartResult(figures, describe_speed(figures), judge_speed(figures))


def median_ms(work: Callable[[], object]) -> float:
    """After one call that does not count."""
    work()
    return float(np.median([_time_ms(work) for _ in range(REPEATS)]))


def _time_ms(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return 1000 * (time.perf_counter() - started)


def _time_method(painter: ProductPainter, frame: BgrImage, mask: Mask, method: str, *, placed: bool) -> float | None:
    """Median milliseconds; None for a method that does not work here."""
    try:
        if placed:
            where = painter.place(frame, mask)
            return median_ms(lambda: painter.paint_placed(frame, mask, method, *where))
        return median_ms(lambda: painter.paint(frame, mask, method))
    except InputError:
        return None


def _compare_caches(
    recipe: Recipe, frame: BgrImage, mask: Mask, method: str, settings: TrialSettings
) -> dict[str, float | None] | None:
    """Repeated repairs of one recipe against those that keep nothing of its references, or, of a net, no features.

    `saving` is against those that keep nothing: they decode the references anew and encode them anew. Interleaved;
    opening a painter is not counted.
    """
    kept = ProductPainter(recipe, settings.threads)
    found: dict[str, list[float]] = {"cached_ms": [], "decoded_anew_ms": [], "encoded_anew_ms": []}
    try:
        kept.paint(frame, mask, method)
        for _ in range(REPEATS):
            found["cached_ms"].append(_time_ms(partial(kept.paint, frame, mask, method)))
            fresh = ProductPainter(recipe, settings.threads, kept.repairers)
            found["decoded_anew_ms"].append(_time_ms(partial(fresh.paint, frame, mask, method)))
            repairer = kept.repairers.get(method)
            if isinstance(repairer, NetRepairer):
                kept.paint(frame, mask, method)
                repairer.cache.clear()
                found["encoded_anew_ms"].append(_time_ms(partial(kept.paint, frame, mask, method)))
    except InputError:
        return None
    medians = {name: float(np.median(times)) if times else None for name, times in found.items()}
    fast, slow = medians["cached_ms"], medians["decoded_anew_ms"]
    return medians | {"saving": 1.0 - fast / slow if fast is not None and slow is not None else None}


def _regions(frame: BgrImage, count: int) -> Mask:
    """Squares of 512 px at 4K, smaller in a smaller frame: in the middle, or one in each quarter."""
    height, width = frame.shape[:2]
    side = max(16, round(REGION_PX * width / NATIVE_WIDTH_PX))
    centres = [(0.5, 0.5)] if count == 1 else [(x, y) for y in (0.3, 0.7) for x in (0.35, 0.65)]
    mask = np.zeros((height, width), np.bool_)
    for x, y in centres:
        top, left = round(y * height) - side // 2, round(x * width) - side // 2
        mask[max(0, top) : top + side, max(0, left) : left + side] = True
    return mask


def _quarter(frame: BgrImage) -> Mask:
    """Half of the width times half of the height, in the middle."""
    height, width = frame.shape[:2]
    mask = np.zeros((height, width), np.bool_)
    mask[height // 4 : height // 4 + height // 2, width // 4 : width // 4 + width // 2] = True
    return mask


def describe_speed(figures: dict[str, Any]) -> tuple[str, ...]:
    """Milliseconds and how many verdicts of the same frame that is."""
    verdict = figures["verdict_ms"]

    def cell(value: float | None) -> str:
        return DASH if value is None else f"{value:.0f} ({value / verdict:.2f} ×)"

    rows = [[case, *(cell(found[method]) for method in PRODUCT_METHODS)] for case, found in figures["cases"].items()]
    references, first = figures["references"], figures["first_use"]
    others = {
        "four regions, references cached / encoded anew / decoded and encoded anew, ms": [
            _show_caches(references[method]) for method in PRODUCT_METHODS
        ],
        "first use after load, ms (load)": [
            DASH if found is None else f"{found['first_ms']:.0f} ({found['load_ms']:.0f})"
            for found in (first[method] for method in PRODUCT_METHODS)
        ],
        "peak memory, MB (before the recipe)": [
            DASH if found is None else f"{found['peak_mb']:.0f} ({found['before_mb']:.0f})"
            for found in (first[method] for method in PRODUCT_METHODS)
        ],
    }
    head = (f"{figures['size']}, p50 ms (times the verdict of the frame)", *PRODUCT_METHODS)
    said = f"verdict of the frame {verdict:.0f} ms, placing the part {figures['placing_ms']:.0f} ms"
    note = f"- {said}; load average of the host {figures['load_average']:.1f}"
    return (*table(head, rows + [[name, *cells] for name, cells in others.items()]), "", note)


def judge_speed(figures: dict[str, Any]) -> tuple[Criterion, ...]:
    """Of the net where there is one, else of what the product takes; the saving is that of the net."""
    cases = figures["cases"]
    ours = next((name for name in OURS if next(iter(cases.values()))[name] is not None), OURS[-1])
    criteria = [
        _judge(f"{ours}: {case}", cases[case][ours], most, "ms") for case, most in CASES.items() if most is not None
    ]
    first, references = figures["first_use"][ours], figures["references"][NET]
    criteria.append(_judge(f"{ours}: first use after load", first["first_ms"] if first else None, MOST_FIRST_MS, "ms"))
    criteria.append(
        _judge(
            f"{ours}: peak memory of a process that repairs", first["peak_mb"] if first else None, MOST_PEAK_MB, "MB"
        )
    )
    saving = references["saving"] if references else None
    criteria.append(
        Criterion(
            "cached references",
            f"save ≥ {100 * LEAST_SAVING:.0f} %",
            DASH if saving is None else f"{100 * saving:.0f} %",
            None if saving is None else saving >= LEAST_SAVING,
        )
    )
    return tuple(criteria)


def _judge(name: str, value: float | None, most: float, unit: str) -> Criterion:
    if value is None:
        return Criterion(name, f"≤ {most:.0f} {unit}", DASH, None)
    return Criterion(name, f"≤ {most:.0f} {unit}", f"{value:.0f} {unit}", value <= most)


def _show_caches(found: dict[str, float | None] | None) -> str:
    if found is None:
        return DASH
    shown = " / ".join(
        DASH if (value := found[name]) is None else f"{value:.0f}"
        for name in ("cached_ms", "encoded_anew_ms", "decoded_anew_ms")
    )
    return shown if (saving := found["saving"]) is None else f"{shown} ({-100 * saving:+.0f} %)"
