"""Part `peels`: what a line's peel costs to put on, and that the base is the same to the bit without it."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np

from inspector.errors import InputError, WeightsError
from inspector.generator.net import NetRepairer
from inspector.generator.peel import attach_peel, read_peel
from inspector.generator.repair_model import load_repair_model
from tools.twin.judging import DASH, Criterion, PartResult, TrialSettings, table
from tools.twin.methods import NET, ProductPainter
from tools.twin.sets import TrialSet

REPEATS = 9
MOST_SWAP_MS = 50.0
SUFFIX = ".peel"


def find_peel(folder: Path | None, name: str) -> Path:
    """The peel of a data set, `NAME.peel`. Raises `InputError` where there is none."""
    if folder is None:
        raise InputError("no folder of peels was given (--peels)")
    path = folder / f"{name}{SUFFIX}"
    if not path.is_file():
        raise InputError(f"{path.name} is not among the peels")
    return path


def open_peeled(path: Path, threads: int) -> NetRepairer:
    """The shipped net with a peel on. Raises `InputError` for weights or a peel that cannot be used."""
    try:
        return NetRepairer(attach_peel(load_repair_model(threads), read_peel(path)))
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
    peel = read_peel(find_peel(settings.peels, trial_set.name))
    model = load_repair_model(settings.threads)
    base = NetRepairer(model)
    painter = ProductPainter(trial_set.recipe, settings.threads)
    painter.repairers[NET] = base
    task = trial_set.tasks(1, settings.seed)[0]

    def paint() -> np.ndarray[Any, np.dtype[np.uint8]]:
        return painter.paint(task.truth, task.sampled.mask, NET).pixels

    before = paint()
    swaps = []
    for _ in range(REPEATS):
        started = time.perf_counter()
        painter.repairers[NET] = NetRepairer(attach_peel(model, peel))
        swaps.append(1000 * (time.perf_counter() - started))
    bent = paint()
    painter.repairers[NET] = base
    return {
        "swap_ms": float(np.median(swaps)),
        "bytes_on_disk": peel.bytes_on_disk,
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
