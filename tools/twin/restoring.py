"""Part `psnr`: masks on good images that no recipe saw, so that the truth is known."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from tools.twin.judging import DASH, Criterion, PartResult, TrialSettings, format_db, table
from tools.twin.methods import CLASSICAL, METHODS, PEEL, SetPainter
from tools.twin.quality import MaskScore, mean_ssim, pool_psnr, score_mask
from tools.twin.sets import TrialSet

OURS = ("net", "auto")
"""The first of these that the product offers is what is held against the classical methods."""
LEAST_GAIN_DB, LEAST_PEEL_GAIN_DB = 1.0, 1.0


@dataclass(frozen=True, slots=True)
class MethodResult:
    """One method on one set. Without `psnr_db` it painted nothing, and `refusal` says why."""

    psnr_db: float | None
    ssim: float | None
    refused: int
    refusal: str | None
    painted_by: tuple[str, ...]


def measure_restoring(settings: TrialSettings) -> PartResult:
    """Every method on the same masks of every set."""
    figures: dict[str, Any] = {"seed": settings.seed, "sets": {}}
    for trial_set in settings.sets:
        results, masks = _measure_set(trial_set, settings)
        figures["sets"][trial_set.name] = {
            "masks": masks,
            "images": min(masks, len(trial_set.held_out)),
            "methods": {name: _as_json(result) for name, result in results.items()},
        } | _compare(results)
    return PartResult(figures, describe_restoring(figures), judge_restoring(figures))


def _measure_set(trial_set: TrialSet, settings: TrialSettings) -> tuple[dict[str, MethodResult], int]:
    painter = SetPainter(trial_set, settings.threads)
    tasks = trial_set.tasks(settings.masks, settings.seed)
    settings.say(f"{trial_set.name}: {len(tasks)} masks")
    scores: dict[str, list[MaskScore]] = {method: [] for method in METHODS}
    refusals: dict[str, list[str]] = {method: [] for method in METHODS}
    names: dict[str, set[str]] = {method: set() for method in METHODS}
    for task in tasks:
        for method, painted in painter.paint_all(task.truth, task.sampled.mask).items():
            names[method].add(painted.method)
            scores[method].append(score_mask(painted.pixels, task.truth, task.sampled.mask))
            if painted.refused is not None:
                refusals[method].append(painted.refused)
    return {method: _sum_up(scores[method], refusals[method], names[method]) for method in METHODS}, len(tasks)


def _sum_up(scores: list[MaskScore], refusals: list[str], names: set[str]) -> MethodResult:
    """A method that refused every mask is missing; else what was painted without a reference counts as its own."""
    why = max(set(refusals), key=refusals.count) if refusals else None
    if len(refusals) == len(scores):
        return MethodResult(None, None, len(refusals), why, ())
    return MethodResult(pool_psnr(scores), mean_ssim(scores), len(refusals), why, tuple(sorted(names)))


def _as_json(result: MethodResult) -> dict[str, Any]:
    return {
        "psnr_db": result.psnr_db,
        "ssim": result.ssim,
        "refused": result.refused,
        "refusal": result.refusal,
        "painted_by": list(result.painted_by),
    }


def _compare(results: dict[str, MethodResult]) -> dict[str, Any]:
    """The best classical method by PSNR, ours, and how far ours is above it."""
    known = {name: results[name].psnr_db for name in CLASSICAL}
    best = max((name for name in CLASSICAL if known[name] is not None), key=lambda name: known[name] or 0.0)
    ours = next((name for name in OURS if results[name].psnr_db is not None), None)
    found, least = results[ours].psnr_db if ours else None, known[best]
    best_ssim = max(results[name].ssim or 0.0 for name in CLASSICAL)
    ours_ssim = results[ours].ssim if ours else None
    return {
        "best_classical": best,
        "ours": ours,
        "gain_db": found - least if found is not None and least is not None else None,
        "gain_ssim": ours_ssim - best_ssim if ours_ssim is not None else None,
    }


def describe_restoring(figures: dict[str, Any]) -> tuple[str, ...]:
    """The table: PSNR / SSIM of each method, the best classical one in bold."""
    rows, notes = [], []
    for name, found in figures["sets"].items():
        cells = [_cell(found, method) for method in METHODS]
        gain = DASH if found["gain_db"] is None else f"{found['gain_db']:+.2f} dB ({found['ours']})"
        rows.append([f"{name} ({found['masks']} masks, {found['images']} images)", *cells, gain])
        for method, result in found["methods"].items():
            if result["refused"]:
                notes.append(
                    f"- {name}, {method}: {result['refused']} of {found['masks']} masks refused: {result['refusal']}"
                )
    head = ("pooled in-mask PSNR dB / mean SSIM", *METHODS, "ours above the best classical")
    return (*table(head, rows), "", *notes)


def _cell(found: dict[str, Any], method: str) -> str:
    result = found["methods"][method]
    if result["psnr_db"] is None:
        return DASH
    text = f"{format_db(result['psnr_db'])} / {result['ssim']:.3f}"
    return f"**{text}**" if method == found["best_classical"] else text


def judge_restoring(figures: dict[str, Any]) -> tuple[Criterion, ...]:
    """Not below the best classical method on any set, 1 dB above it on average, and 1 dB more with a peel."""
    sets = figures["sets"]
    gains = {name: found["gain_db"] for name, found in sets.items()}
    ssim = {name: found["gain_ssim"] for name, found in sets.items()}
    peels = {
        name: found["methods"][PEEL]["psnr_db"] - found["methods"]["net"]["psnr_db"]
        for name, found in sets.items()
        if found["methods"][PEEL]["psnr_db"] is not None and found["methods"]["net"]["psnr_db"] is not None
    }
    return (
        _judge("PSNR on every set", "not below the best classical", gains, 0.0, "dB", every=True),
        _judge("SSIM on every set", "not below the best classical", ssim, 0.0, "", every=True),
        _judge("PSNR on average", f"≥ {LEAST_GAIN_DB} dB above", gains, LEAST_GAIN_DB, "dB", every=False),
        _judge("five-minute peel", f"≥ {LEAST_PEEL_GAIN_DB} dB more", peels, LEAST_PEEL_GAIN_DB, "dB", every=True),
    )


def _judge(
    name: str, wanted: str, values: dict[str, float | None], least: float, unit: str, *, every: bool
) -> Criterion:
    known = [value for value in values.values() if value is not None]
    if not known or len(known) < len(values):
        return Criterion(name, wanted, DASH, None)
    text = ", ".join(f"{key} {value:+.3g}" for key, value in values.items())
    mean = float(np.mean(known))
    met = min(known) >= least if every else mean >= least
    return Criterion(name, wanted, f"{text} {unit}".strip() if every else f"{mean:+.2f} {unit}", met)
