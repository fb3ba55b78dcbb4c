"""Part `peels`: what a line's peel costs to put on, and that the base is the same to the bit without it."""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from inspector.detector.recipe_store import RecipeStore
from inspector.errors import FitError, InputError, MissingExtraError, WeightsError
from inspector.generator.net import NetRepairer
from inspector.generator.peel import unpack_peel
from inspector.generator.repair_model import load_repair_model
from pipelines.peel import train_recipe_peel
from tools.twin.judging import DASH, Criterion, PartResult, TrialSettings, table
from tools.twin.methods import NET, ProductPainter
from tools.twin.sets import TrialSet

REPEATS = 9
MOST_SWAP_MS = 50.0


def train_peel(trial_set: TrialSet, settings: TrialSettings) -> bytes:
    """The file of a peel of the set's recipe, trained once by the product, stored as a version that is not released.

    Raises `InputError` where none was asked for, where it cannot be trained, and where it was no better than the base.
    """
    if settings.peel_minutes <= 0:
        raise InputError("no peel was asked for (--peel-minutes)")
    if trial_set.peel is None:
        settings.say(f"{trial_set.name}: a peel of {settings.peel_minutes:g} minutes")
        good = trial_set.root / "train" / "good"
        try:
            report = train_recipe_peel(
                trial_set.recipe.ref.name,
                good,
                trial_set.data_dir,
                minutes=settings.peel_minutes,
                release=False,
                threads=settings.threads,
            )
        except (WeightsError, FitError, MissingExtraError) as error:
            raise InputError(str(error)) from error
        if report.ref is None:
            raise InputError("the peel was no better than the base")
        trial_set.peel = RecipeStore(trial_set.data_dir).load(report.ref, require_released=False).peel
    if trial_set.peel is None:
        raise InputError("the recipe came without its peel")
    return trial_set.peel


def open_peeled(trial_set: TrialSet, settings: TrialSettings) -> NetRepairer:
    """The shipped net with the set's peel on. Raises `InputError` for weights or a peel that cannot be used."""
    content = train_peel(trial_set, settings)
    try:
        base = NetRepairer(load_repair_model(settings.threads))
        return base.with_peel(unpack_peel(content), trial_set.recipe.ref.name)
    except WeightsError as error:
        raise InputError(str(error)) from error


def measure_peels(settings: TrialSettings) -> PartResult:
    """Every set that has a peel."""
    figures: dict[str, Any] = {"sets": {}, "missing": {}}
    for trial_set in settings.sets:
        try:
            figures["sets"][trial_set.name] = _measure_set(trial_set, settings)
        except (InputError, WeightsError) as error:
            figures["missing"][trial_set.name] = str(error)
    return PartResult(figures, describe_peels(figures), judge_peels(figures))


def _measure_set(trial_set: TrialSet, settings: TrialSettings) -> dict[str, Any]:
    content = train_peel(trial_set, settings)
    peel, base = unpack_peel(content), NetRepairer(load_repair_model(settings.threads))
    painter = ProductPainter(trial_set.recipe, settings.threads)
    painter.repairers[NET] = base
    task = trial_set.tasks(1, settings.seed)[0]

    def paint() -> np.ndarray[Any, np.dtype[np.uint8]]:
        return painter.paint(task.truth, task.sampled.mask, NET).pixels

    before = paint()
    swaps = []
    for _ in range(REPEATS):
        started = time.perf_counter()
        painter.repairers[NET] = base.with_peel(peel, trial_set.recipe.ref.name)
        swaps.append(1000 * (time.perf_counter() - started))
    bent = paint()
    painter.repairers[NET] = base
    return {
        "swap_ms": float(np.median(swaps)),
        "bytes_on_disk": len(content),
        "bends": not np.array_equal(bent, before),
        "base_same_after": np.array_equal(paint(), before),
    }


def describe_peels(figures: dict[str, Any]) -> tuple[str, ...]:
    """One row a set."""
    rows = [
        [
            name,
            f"{found['swap_ms']:.1f}",
            f"{found['bytes_on_disk'] / 1e3:.0f}",
            "yes" if found["bends"] else "NO",
            "yes" if found["base_same_after"] else "NO",
        ]
        for name, found in figures["sets"].items()
    ]
    head = ("peel", "put on, ms", "KB on disk", "changes the twin", "base the same to the bit after")
    return (*table(head, rows), "", *(f"- {name}: {why}" for name, why in figures["missing"].items()))


def judge_peels(figures: dict[str, Any]) -> tuple[Criterion, ...]:
    """The slowest, and all of them."""
    swap, same = "a peel is put on", "base without its peel"
    found = figures["sets"].values()
    if not found:
        return (
            Criterion(swap, f"≤ {MOST_SWAP_MS:.0f} ms", DASH, None),
            Criterion(same, "the same to the bit", DASH, None),
        )
    slowest = max(item["swap_ms"] for item in found)
    kept = sum(item["base_same_after"] and item["bends"] for item in found)
    return (
        Criterion(swap, f"≤ {MOST_SWAP_MS:.0f} ms", f"{slowest:.1f} ms", slowest <= MOST_SWAP_MS),
        Criterion(same, "the same to the bit", f"{kept} of {len(found)}", kept == len(found)),
    )
