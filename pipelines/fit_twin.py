"""What `fit` does for the twins of a recipe: the reference bank, and which repair method is best on its good images."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from inspector.detector.manifest import ReferencesRecord
from inspector.generator.bank_building import BuiltBank, Pose, build_bank
from inspector.generator.bank_file import unpack_bank
from inspector.generator.choose import IGNORE_REFERENCES, NEED_REFERENCES, RepairChoice, load_repairers
from inspector.generator.masks import draw_mask
from inspector.generator.references import PlacedReferences, ReferenceBank
from inspector.generator.repairer import Repairer
from inspector.records import BgrImage
from pipelines.dataset import ImageFolder

MOST_FRAMES = 6
MASKS_A_FRAME = 4
SEED = 20


@dataclass(frozen=True, slots=True)
class LearnedTwins:
    """The bank, None for a part without a pose, and what `choices` say about the twins."""

    references: bytes | None
    record: ReferencesRecord | None
    choices: dict[str, Any]


@dataclass(slots=True)
class _Error:
    """Squared error in grey levels, summed over `values` samples."""

    total: float = 0.0
    values: int = 0

    def add(self, painted: NDArray[np.uint8], truth: NDArray[np.uint8]) -> None:
        self.total += float(((painted.astype(np.float32) - truth) ** 2).sum())
        self.values += truth.size

    def psnr_db(self) -> float:
        return round(float(10.0 * np.log10(255.0**2 * self.values / max(self.total, 1e-9))), 2)


def learn_twins(images: ImageFolder, sizes: set[tuple[int, int]], pose: Pose | None) -> LearnedTwins:
    """Build the bank of a recipe's good images and measure every repair method on some of them.

    A measured image is never among its own references. Images of several sizes have no common pose and no bank.
    """
    built = build_bank(images, pose) if len(sizes) == 1 and len(images) > 1 else None
    repairers = load_repairers(threads=2)
    choices: dict[str, Any] = {"views": [len(view) for view in built.views] if built else []}
    choices["left_out"] = [images.paths[index].name for index in built.left_out] if built else []
    choices |= measure_repairs(images, built, repairers)
    if built is None:
        return LearnedTwins(None, None, choices)
    record = ReferencesRecord(views=tuple(tuple(images.paths[index].name for index in view) for view in built.views))
    return LearnedTwins(built.content, record, choices)


def measure_repairs(images: ImageFolder, built: BuiltBank | None, repairers: dict[str, Repairer]) -> dict[str, Any]:
    """PSNR in dB inside random masks, pooled over all masked pixels, of each method with and without references.

    Each figure is None where there was nothing to measure it on.
    """
    with_references = {name: _Error() for name in repairers}
    without = {name: _Error() for name in repairers if name not in NEED_REFERENCES}
    masks = 0
    for pixels, references in _hold_out(images, built):
        random = np.random.default_rng([SEED, masks])
        for _ in range(MASKS_A_FRAME):
            mask = draw_mask(random, pixels.shape[0], pixels.shape[1])
            masks += 1
            for name, repairer in repairers.items():
                if references is not None:
                    with_references[name].add(repairer.repair(pixels, mask, references).pixels[mask], pixels[mask])
                if name in without and (references is None or name not in IGNORE_REFERENCES):
                    without[name].add(repairer.repair(pixels, mask, None).pixels[mask], pixels[mask])
    for name in IGNORE_REFERENCES & set(without):
        without[name].total += with_references[name].total
        without[name].values += with_references[name].values
    best = RepairChoice()
    return {
        "method": _best(with_references) or _best(without) or best.method,
        "without_reference": _best(without) or best.without_reference,
        "psnr_db": _show(with_references),
        "psnr_db_without_reference": _show(without),
        "masks": masks,
    }


def _hold_out(images: ImageFolder, built: BuiltBank | None) -> Iterator[tuple[BgrImage, PlacedReferences | None]]:
    """Some good images, each with the references that it has without itself."""
    bank: ReferenceBank | None = unpack_bank(built.content) if built else None
    shown = sorted({index for view in built.views for index in view}) if built else list(range(len(images)))
    count = min(MOST_FRAMES, len(shown))
    for index in (shown[number * len(shown) // count] for number in range(count)):
        pixels = images.read(index)
        placed = bank.place(pixels) if bank else None
        if placed is not None and built is not None:
            own = [place for place, member in enumerate(built.views[placed.view]) if member == index]
            placed = placed.without(own)
        yield pixels, placed if placed is not None and len(placed) else None


def _best(errors: dict[str, _Error]) -> str | None:
    measured = {name: error for name, error in errors.items() if error.values}
    return max(measured, key=lambda name: measured[name].psnr_db()) if measured else None


def _show(errors: dict[str, _Error]) -> dict[str, float | None]:
    return {name: error.psnr_db() if error.values else None for name, error in errors.items()}
