"""`inspector peel`: a few minutes of training bend the repair net to one line, as a new version of its recipe.

good images → four of five teach, the fifth is held out → train → PSNR of base and peel on the held-out ones
            → attach only what is better
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import structlog

from inspector.detector.manifest import PeelRecord, RecipeVersion
from inspector.detector.recipe import Recipe
from inspector.detector.recipe_store import RecipeStore
from inspector.errors import FitError, MissingExtraError, RecipeError, WeightsError
from inspector.generator.choose import NEED_REFERENCES, load_repairers
from inspector.generator.masks import draw_mask
from inspector.generator.net import NetRepairer
from inspector.generator.peel import pack_peel, unpack_peel
from inspector.generator.peel_tiles import GoodPart, LineTiles
from inspector.generator.references import NotPlaced, ReferenceBank
from inspector.generator.repair_model import find_base_sha256, load_repair_model
from inspector.generator.repairer import Repairer
from inspector.generator.view_images import DecodedTiles
from inspector.records import RecipeRef
from pipelines.calibrate import versions_with_same_scores
from pipelines.dataset import ImageFolder, open_good_images
from pipelines.twin import read_bank

HELD_OUT_EVERY = 5
FEWEST_IMAGES = 5
FEWEST_TAUGHT = 3
MOST_TAUGHT = 200
MEMORY_FOR_IMAGES_BYTES = 400_000_000
MOST_MEASURED = 12
MASKS_A_FRAME = 4
SEED = 31
BEFORE, AFTER = "before", "after"
Progress = Callable[[float], None]
"""Called with the share of the training that is done, 0..1."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class PeelReport:
    """What `peel train --json` prints. `ref` is the new version, None when the peel was no better than the base."""

    recipe: str
    from_version: int
    ref: RecipeRef | None
    released: bool
    record: PeelRecord
    peel_bytes: int
    notes: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain values; PSNR in dB inside the masks of held-out images."""
        record = self.record.model_dump(exclude={"same_scores"})
        return {
            "recipe": self.recipe,
            "attached": self.ref is not None,
            "version": self.ref.version if self.ref is not None else None,
            "from_version": self.from_version,
            "released": self.released,
            "gain_db": round(self.record.psnr_after_db - self.record.psnr_before_db, 2),
            **record,
            "bytes": self.peel_bytes,
            "notes": list(self.notes),
        }


@dataclass(frozen=True, slots=True)
class ListedPeel:
    """One version with a peel. `problem` is why it is not used on this machine, None when it is."""

    recipe: str
    version: int
    released: bool
    base_sha256: str
    images: int
    minutes: float
    psnr_before_db: float
    psnr_after_db: float
    problem: str | None

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def train_recipe_peel(
    reference: str,
    good_dir: Path,
    data_dir: Path,
    *,
    minutes: float = 5.0,
    most_steps: int | None = None,
    release: bool = True,
    threads: int = 2,
    weights: Path | None = None,
    progress: Progress | None = None,
) -> PeelReport:
    """Train a peel for a recipe, measure it, and store it as a new version when it is better than the base net.

    It trains for `minutes`, or until `most_steps` are done. `weights` is a folder with other base weights than those
    shipped. Raises `MissingExtraError` without PyTorch, `WeightsError` without base weights, `FitError` for a recipe or
    images that a peel cannot be trained with, `DatasetError` for images that cannot be read, and the store's errors.
    """
    train_peel = _import_training()
    store = RecipeStore(data_dir)
    recipe = store.load(reference, require_released=False)
    base = NetRepairer(load_repair_model(threads, weights))
    found = open_good_images(good_dir)
    taught, held_out = split_images(found)
    gather = PartReader(recipe, found)
    parts = gather.read(taught)
    if len(parts) < FEWEST_TAUGHT:
        raise FitError("; ".join([f"{recipe.ref}: {len(parts)} of {len(taught)} images can teach", *gather.notes()]))
    trained = train_peel(
        base.model.weights,
        LineTiles(base, parts),
        recipe.ref.name,
        minutes=minutes,
        most_steps=most_steps,
        threads=threads,
        progress=progress or _log_tenths(),
    )
    used = len(parts)
    del parts
    content = pack_peel(trained.peel, base.model.weights.metadata.licence, trained.config_sha256)
    repairers = {**load_repairers(threads, weights), BEFORE: base}
    repairers[AFTER] = base.with_peel(unpack_peel(content), recipe.ref.name)
    del repairers[NetRepairer.method]
    measured = measure_methods(gather, held_out, repairers)
    before, after = measured.psnr_db.pop(BEFORE), measured.psnr_db.pop(AFTER)
    if before is None or after is None:
        raise FitError("; ".join([f"{recipe.ref}: no held-out image can be measured", *gather.notes()]))
    record = PeelRecord(
        same_scores=tuple(
            RecipeVersion(version=ref.version, sha256=ref.sha256) for ref in versions_with_same_scores(recipe)
        ),
        base_sha256=base.model.weights.sha256,
        images=used,
        held_out=measured.images,
        masks=measured.masks,
        minutes=round(trained.seconds / 60.0, 3),
        steps=trained.steps,
        psnr_before_db=before,
        psnr_after_db=after,
        psnr_db=measured.psnr_db,
        method=choose_method(after, measured.psnr_db),
    )
    ref = store.save_peeled(recipe, content, record) if after > before else None
    if ref is not None and release:
        store.release(ref.name, ref.version)
    notes = [*gather.notes(), *_explain(record, ref)]
    return PeelReport(
        recipe.ref.name,
        recipe.ref.version,
        ref,
        release and ref is not None,
        record,
        len(content),
        tuple(notes),
    )


def list_peels(data_dir: Path, weights: Path | None = None) -> list[ListedPeel]:
    """Every recipe version that has a peel, and whether it can be used with the base weights of this machine."""
    store = RecipeStore(data_dir)
    try:
        base, base_problem = find_base_sha256(weights), None
    except WeightsError as error:
        base, base_problem = "", str(error)
    listed = []
    for name in store.names():
        released = {entry.version for entry in store.released(name)}
        for ref in store.versions(name):
            record = _read_record(store, ref)
            if record is None:
                continue
            listed.append(
                ListedPeel(
                    name,
                    ref.version,
                    ref.version in released,
                    record.base_sha256,
                    record.images,
                    record.minutes,
                    record.psnr_before_db,
                    record.psnr_after_db,
                    base_problem or _find_problem(store, ref, base),
                )
            )
    return listed


def split_images(found: ImageFolder) -> tuple[list[int], list[int]]:
    """Indices that teach and that are held out: every fifth. As many teach as memory allows, evenly.

    Raises `FitError` for too few images.
    """
    if len(found) < FEWEST_IMAGES:
        raise FitError(f"{len(found)} good images are too few for a peel; give at least {FEWEST_IMAGES}")
    held_out = [index for index in range(len(found)) if index % HELD_OUT_EVERY == HELD_OUT_EVERY - 1]
    taught = [index for index in range(len(found)) if index % HELD_OUT_EVERY != HELD_OUT_EVERY - 1]
    width, height = found.size(0)
    most = max(FEWEST_TAUGHT, min(MOST_TAUGHT, MEMORY_FOR_IMAGES_BYTES // (3 * width * height)))
    return _thin_out(taught, most), _thin_out(held_out, MOST_MEASURED)


class PartReader:
    """Reads good images and places the recipe's references in them, without the image itself.

    Raises `FitError` for a recipe whose references are not known by name, or that has none by design.
    """

    def __init__(self, recipe: Recipe, found: ImageFolder) -> None:
        if recipe.mode == "template":
            raise FitError(f"{recipe.ref} is a template recipe: its frames bring their own references, and no peel")
        if recipe.mode == "located" and recipe.manifest.references is None:
            raise FitError(f"{recipe.ref} has no reference bank; fit it again, then train its peel")
        self._recipe = recipe
        self._found = found
        self._bank: ReferenceBank | None = read_bank(recipe, DecodedTiles())
        self._names = {image.sha256: image.file for image in recipe.manifest.images}
        self._left_out: set[str] = set()

    def read(self, indices: list[int]) -> list[GoodPart]:
        """The images that the recipe's references can be placed in."""
        return [part for part in map(self.read_one, indices) if part is not None]

    def read_one(self, index: int) -> GoodPart | None:
        """One image; None, and a note, where there are no references for it."""
        pixels = self._found.read(index)
        if self._bank is None:
            return GoodPart(pixels, None)
        placed = self._bank.locate(pixels)
        if isinstance(placed, NotPlaced):
            self._left_out.add(self._found.paths[index].name)
            return None
        record, own = self._recipe.manifest.references, self._names.get(self._found.sha256(index))
        views = record.views if record is not None else ()
        placed = placed.without([place for place, name in enumerate(views[placed.view]) if name == own])
        if not len(placed):
            self._left_out.add(self._found.paths[index].name)
            return None
        return GoodPart(pixels, placed)

    def notes(self) -> list[str]:
        """What was left out, in words."""
        names = sorted(self._left_out)
        shown = ", ".join(names[:5]) + (" …" if len(names) > 5 else "")
        return [f"left out, {len(names)} images that do not register to the references: {shown}"] if names else []


@dataclass(frozen=True, slots=True)
class MeasuredMethods:
    """PSNR in dB inside random masks, pooled over all masked pixels; None for a method that cannot work."""

    psnr_db: dict[str, float | None]
    images: int
    masks: int


def measure_methods(reader: PartReader, held_out: list[int], repairers: dict[str, Repairer]) -> MeasuredMethods:
    """Hide random masks of held-out images and see how well each repairer paints them back."""
    errors, values, images, masks = dict.fromkeys(repairers, 0.0), 0, 0, 0
    impossible: set[str] = set()
    for index in held_out:
        part = reader.read_one(index)
        if part is None:
            continue
        images += 1
        random = np.random.default_rng([SEED, index])
        for _ in range(MASKS_A_FRAME):
            mask = draw_mask(random, part.pixels.shape[0], part.pixels.shape[1])
            truth = part.pixels[mask].astype(np.float32)
            masks, values = masks + 1, values + truth.size
            for name, repairer in repairers.items():
                if part.references is None and name in NEED_REFERENCES:
                    impossible.add(name)
                    continue
                painted = repairer.repair(part.pixels, mask, part.references).pixels[mask]
                errors[name] += float(((painted - truth) ** 2).sum())
    psnr: dict[str, float | None] = {
        name: None
        if name in impossible or not values
        else round(float(10.0 * np.log10(255.0**2 * values / max(error, 1e-9))), 2)
        for name, error in errors.items()
    }
    return MeasuredMethods(psnr, images, masks)


def choose_method(after_db: float, others: dict[str, float | None]) -> str:
    """What `auto` takes with the peel: the net, unless a classical method measured better."""
    figures = {NetRepairer.method: after_db} | {name: value for name, value in others.items() if value is not None}
    return max(figures, key=lambda name: figures[name])


def _import_training() -> Any:
    try:
        from inspector.generator.training.peel_stage import train_peel
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        raise MissingExtraError(
            'training a peel needs PyTorch, which is not installed: pip install "line-inspector[train]"'
        ) from error
    return train_peel


def _log_tenths() -> Progress:
    """Says on stderr how far the training is, each tenth once."""
    said: set[int] = set()

    def report(done: float) -> None:
        tenth = int(10 * done)
        if tenth not in said:
            said.add(tenth)
            log.info("peel_training", done=f"{10 * tenth} %")

    return report


def _explain(record: PeelRecord, ref: RecipeRef | None) -> list[str]:
    if ref is None:
        return [
            f"not attached: on {record.masks} masks of {record.held_out} held-out images the peel reaches "
            f"{record.psnr_after_db:.2f} dB, the base net {record.psnr_before_db:.2f} dB; nothing was changed"
        ]
    if record.method != NetRepairer.method:
        return [
            f"auto paints with {record.method} ({record.psnr_db[record.method]} dB), which is better than the net "
            "even with the peel"
        ]
    return []


def _read_record(store: RecipeStore, ref: RecipeRef) -> PeelRecord | None:
    try:
        return store.read_manifest(ref).peel
    except RecipeError as error:
        log.warning("recipe_not_listed", recipe=str(ref), reason=str(error))
        return None


def _find_problem(store: RecipeStore, ref: RecipeRef, base_sha256: str) -> str | None:
    try:
        recipe = store.load(ref, require_released=False)
        if recipe.peel is None:
            return recipe.peel_problem
        peel = unpack_peel(recipe.peel)
    except (RecipeError, WeightsError) as error:
        return str(error)
    if peel.base_sha256 != base_sha256:
        return f"trained for other base weights ({peel.base_sha256[:12]}, these are {base_sha256[:12]}); train it again"
    return None


def _thin_out(indices: list[int], most: int) -> list[int]:
    """At most so many, evenly over their order."""
    count = len(indices)
    return indices if count <= most else [indices[place * count // most] for place in range(most)]
