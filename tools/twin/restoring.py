"""Part `psnr`: masks on good images that no recipe saw, so that the truth is known."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from inspector.errors import InputError
from inspector.generator.repairer import Repairer
from tools.twin.judging import DASH, Criterion, PartResult, TrialSettings, format_db, table
from tools.twin.methods import AUTO, CLASSICAL, METHODS, NET, PEEL, SetPainter
from tools.twin.peels import open_peeled
from tools.twin.quality import MaskScore, mean_ssim, pool_psnr, score_mask
from tools.twin.sets import TrialSet

LEAST_GAIN_DB, LEAST_PEEL_GAIN_DB = 1.0, 1.0


@dataclass(frozen=True, slots=True)
class MethodResult:
    """One method on one set. Without `psnr_db` it painted nothing, and `refusal` says why.

    `psnr_db` is pooled over the pixels of all masks, so that large ones count more; `mean_psnr_db` is the mean of the
    masks'.
    """

    psnr_db: float | None
    mean_psnr_db: float | None
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
    painter = SetPainter(trial_set, settings.threads, _open_peeled(trial_set, settings))
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


def _open_peeled(trial_set: TrialSet, settings: TrialSettings) -> Repairer | str:
    try:
        return open_peeled(trial_set, settings)
    except InputError as error:
        return str(error)


def _sum_up(scores: list[MaskScore], refusals: list[str], names: set[str]) -> MethodResult:
    """A method that refused every mask is missing; else what was painted without a reference counts as its own."""
    why = max(set(refusals), key=refusals.count) if refusals else None
    if len(refusals) == len(scores):
        return MethodResult(None, None, None, len(refusals), why, ())
    mean = float(np.mean([score.psnr_db for score in scores]))
    return MethodResult(pool_psnr(scores), mean, mean_ssim(scores), len(refusals), why, tuple(sorted(names)))


def _as_json(result: MethodResult) -> dict[str, Any]:
    return {
        "psnr_db": result.psnr_db,
        "mean_psnr_db": result.mean_psnr_db,
        "ssim": result.ssim,
        "refused": result.refused,
        "refusal": result.refusal,
        "painted_by": list(result.painted_by),
    }


def _compare(results: dict[str, MethodResult]) -> dict[str, Any]:
    """The best classical method by PSNR, and how far the net and what the product takes by itself are above it.

    In SSIM they are held against the best classical SSIM, whichever method has it. None where there is no net.
    """
    known = {name: results[name] for name in CLASSICAL if results[name].psnr_db is not None}
    best = max(known, key=lambda name: known[name].psnr_db or 0.0)
    best_ssim = max(result.ssim or 0.0 for result in known.values())

    def above(name: str) -> dict[str, float] | None:
        result = results[name]
        if result.psnr_db is None or result.ssim is None:
            return None
        return {"psnr_db": result.psnr_db - (known[best].psnr_db or 0.0), "ssim": result.ssim - best_ssim}

    return {"best_classical": best, "net_above": above(NET), "auto_above": above(AUTO)}


def describe_restoring(figures: dict[str, Any]) -> tuple[str, ...]:
    """The table: PSNR / SSIM of each method, the best classical one in bold."""
    rows, notes = [], []
    for name, found in figures["sets"].items():
        cells = [_cell(found, method) for method in METHODS]
        gains = [DASH if found[key] is None else f"{found[key]['psnr_db']:+.2f}" for key in ("net_above", "auto_above")]
        rows.append([f"{name} ({found['masks']} masks, {found['images']} images)", *cells, " / ".join(gains)])
        for method, result in found["methods"].items():
            if result["refused"]:
                notes.append(
                    f"- {name}, {method}: {result['refused']} of {found['masks']} masks refused: {result['refusal']}"
                )
    head = ("in-mask PSNR dB, pooled (mean of the masks) / mean SSIM", *METHODS, "net / auto above the best classical")
    return (*table(head, rows), "", *notes)


def _cell(found: dict[str, Any], method: str) -> str:
    result = found["methods"][method]
    if result["psnr_db"] is None:
        return DASH
    text = f"{format_db(result['psnr_db'])} ({format_db(result['mean_psnr_db'])}) / {result['ssim']:.3f}"
    return f"**{text}**" if method == found["best_classical"] else text


def judge_restoring(figures: dict[str, Any]) -> tuple[Criterion, ...]:
    """The net: not below the best classical method on any set, 1 dB above it on average, 1 dB more with a peel."""
    sets = figures["sets"]
    above = {name: found["net_above"] or {"psnr_db": None, "ssim": None} for name, found in sets.items()}
    gains = {name: found["psnr_db"] for name, found in above.items()}
    ssim = {name: found["ssim"] for name, found in above.items()}
    peels = {
        name: found["methods"][PEEL]["psnr_db"] - found["methods"][NET]["psnr_db"]
        for name, found in sets.items()
        if found["methods"][PEEL]["psnr_db"] is not None and found["methods"][NET]["psnr_db"] is not None
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
