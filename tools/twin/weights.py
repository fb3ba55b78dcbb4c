"""Part `weights`: the same net from float32, int8 and MXFP4 weights: quality, and bytes on disk, in memory and read."""

from __future__ import annotations

from typing import Any

from inspector.errors import WeightsError
from inspector.generator.net import NetRepairer
from inspector.generator.repair_model import RepairModel, load_repair_model
from tools.twin.judging import DASH, Criterion, PartResult, TrialSettings, format_db, table
from tools.twin.methods import NET, ProductPainter
from tools.twin.quality import MaskScore, mean_ssim, pool_psnr, score_mask

FORMS = {"f32": "-float", "int8": "", "mxfp4": ""}
"""Folders of the variants, named by how their weights are stored, and the form of their graphs."""
SHIPPED = "mxfp4"
MOST_LOSS = {("int8", "f32"): 0.01, ("mxfp4", "int8"): 0.02}
"""How much lower the first may be than the second, as a share of its PSNR."""


def measure_weights(settings: TrialSettings) -> PartResult:
    """Every variant on the same masks of every set; one that cannot be loaded is missing, with the reason."""
    figures: dict[str, Any] = {"variants": {}, "missing": {}}
    for name, form in FORMS.items():
        try:
            model = load_variant(settings, name, form)
        except WeightsError as error:
            figures["missing"][name] = str(error)
            continue
        settings.say(f"weights: {name}")
        figures["variants"][name] = count_bytes(model, name) | {"sets": _measure_sets(settings, model)}
    return PartResult(figures, describe_weights(figures), judge_weights(figures))


def load_variant(settings: TrialSettings, name: str, form: str) -> RepairModel:
    """A variant from its folder; what ships where no folder of variants is given. Raises `WeightsError`."""
    if settings.variants is not None:
        return load_repair_model(settings.threads, settings.variants / name, form)
    if name != SHIPPED:
        raise WeightsError(f"no {name} weights ship: give a folder with {', '.join(FORMS)} as --variants")
    return load_repair_model(settings.threads, None, form)


def count_bytes(model: RepairModel, name: str) -> dict[str, int]:
    """Counted from the tensors: on disk; resident, as they are kept in the file's form and as the kernels hold them;
    and read for a picture that needs both graphs, as every convolution reads all its weights."""
    read = 0
    for key in model.weights.tensors:
        values = model.weights.tensor(key)
        read += values.size * (4 if name == "f32" or values.ndim == 1 else 1)
    return {
        "bytes_on_disk": model.weights.bytes_on_disk,
        "bytes_resident": model.weights.bytes_resident + read,
        "bytes_read": read,
    }


def _measure_sets(settings: TrialSettings, model: RepairModel) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for trial_set in settings.sets:
        painter = ProductPainter(trial_set.recipe, settings.threads)
        painter.repairers[NET] = NetRepairer(model)
        scores: list[MaskScore] = []
        for task in trial_set.tasks(settings.masks, settings.seed):
            twin = painter.paint(task.truth, task.sampled.mask, NET)
            scores.append(score_mask(twin.pixels, task.truth, task.sampled.mask))
        found[trial_set.name] = {"psnr_db": pool_psnr(scores), "ssim": mean_ssim(scores)}
    return found


def describe_weights(figures: dict[str, Any]) -> tuple[str, ...]:
    """One row a variant."""
    variants = figures["variants"]
    names = list(next(iter(variants.values()))["sets"]) if variants else []
    rows = []
    for name in FORMS:
        found = variants.get(name)
        if found is None:
            rows.append([name, *[DASH] * (len(names) + 3)])
            continue
        sizes = [f"{found[key] / 1e6:.2f}" for key in ("bytes_on_disk", "bytes_resident", "bytes_read")]
        rows.append([name, *sizes, *(format_db(found["sets"][item]["psnr_db"]) for item in names)])
    head = ("weights", "MB on disk", "MB resident", "MB read a picture", *(f"{name}, PSNR dB" for name in names))
    return (*table(head, rows), "", *(f"- {name}: {why}" for name, why in figures["missing"].items()))


def judge_weights(figures: dict[str, Any]) -> tuple[Criterion, ...]:
    """On every set."""
    criteria = []
    for (name, than), most in MOST_LOSS.items():
        one, other = (figures["variants"].get(item) for item in (name, than))
        title, wanted = f"{name} weights against {than}", f"PSNR at most {100 * most:.0f} % lower"
        if one is None or other is None:
            criteria.append(Criterion(title, wanted, DASH, None))
            continue
        losses = {key: 1.0 - one["sets"][key]["psnr_db"] / other["sets"][key]["psnr_db"] for key in other["sets"]}
        found = ", ".join(f"{key} {100 * value:+.2f} %" for key, value in losses.items())
        criteria.append(Criterion(title, wanted, found, max(losses.values()) <= most))
    return tuple(criteria)
