"""`inspector name`: a few labelled examples of each defect, or reviews, teach a recipe names, as a new version."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from inspector.config import PlantConfig, load_config
from inspector.detector.look import Floats
from inspector.detector.manifest import NamedExamples, NamesRecord, RecipeVersion
from inspector.detector.name_detections import Describer, open_describer
from inspector.detector.naming import FEWEST_EXAMPLES, MOST_EXAMPLES, LearnedNames, learn_names
from inspector.detector.recipe import Recipe
from inspector.detector.recipe_store import RecipeStore
from inspector.detector.regions import find_detections
from inspector.detector.scorer import Scorer
from inspector.errors import DatasetError, ImageError, InputError, RecipeMismatchError, StoreError
from inspector.images import decode_image
from inspector.records import BgrImage, BoxPx, Detection, RecipeRef, Scoring
from inspector.store.database import DATABASE_FILE, Database
from inspector.store.frames import FrameFiles
from inspector.store.named_reviews import NamedInspection, list_named_inspections
from pipelines.calibrate import versions_with_same_scores
from pipelines.dataset import TestImage, open_examples, read_image, read_mask
from pipelines.fit import Progress, no_progress

DEEPEST = 16
WEAK_SHARE = 0.7
"""Of the worst score inside a mask: what a region there reaches everywhere."""


@dataclass(frozen=True, slots=True)
class Example:
    """One labelled defect: where it came from, its name, and its look (FEATURES,)."""

    source: str
    name: str
    look: Floats


@dataclass(frozen=True, slots=True)
class Labelled:
    """Something with a label that `read` turns into an example, or None when it cannot be used."""

    name: str
    from_review: bool
    read: Callable[[], Example | None]


@dataclass(frozen=True, slots=True)
class NameReport:
    """What `name --json` prints. `mistaken` are examples that got another taught name when they were left out."""

    ref: RecipeRef
    from_version: int
    record: NamesRecord
    mistaken: tuple[str, ...]
    released: bool
    notes: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain values; accuracies are those of examples named without themselves."""
        names = self.record.names
        examples = sum(item.examples for item in names)
        return {
            "recipe": self.ref.name,
            "version": self.ref.version,
            "from_version": self.from_version,
            "examples": examples,
            "from_folder": self.record.from_folder,
            "from_reviews": self.record.from_reviews,
            "accuracy": sum(item.right for item in names) / examples,
            "unknown": sum(item.unknown for item in names),
            "names": {
                item.name: {
                    "examples": item.examples,
                    "accuracy": item.right / item.examples,
                    "unknown": item.unknown,
                }
                for item in names
            },
            "mistaken": list(self.mistaken),
            "released": self.released,
            "notes": list(self.notes),
        }


class ExampleReader:
    """Turns frames with a labelled defect into examples, and keeps what cannot be used as `left_out` by reason."""

    def __init__(self, recipe: Recipe) -> None:
        self._scorer: Scorer = recipe.scorer(threads=1)
        self._describer: Describer = open_describer(recipe)
        self.left_out: dict[str, list[str]] = {}

    def read_file(self, image: TestImage) -> Example | None:
        """The example in a labelled file; `DatasetError` for a file that cannot be read or does not fit the recipe."""
        pixels = read_image(image.path)
        mask = read_mask(image, (pixels.shape[1], pixels.shape[0])) if image.mask is not None else None
        if mask is not None and not mask.any():
            self._leave_out("have an empty mask", image.path.name)
            return None
        try:
            scoring = self._scorer.score_frame(pixels)
        except RecipeMismatchError as error:
            raise DatasetError(f"{image.path}: {error}") from error
        shown = find_masked(scoring, mask) if mask is not None else _worst(scoring.detections)
        return self._describe(f"{image.defect}/{image.path.name}", str(image.defect), pixels, scoring, shown)

    def read_inspection(self, named: NamedInspection, frames: FrameFiles, bit_depth: int) -> Example | None:
        """The example in an inspected frame: its worst region, as the reviewer saw it."""
        inspection = named.inspection
        try:
            if inspection.frame_key is None:
                raise StoreError("the frame was not kept")
            pixels = decode_image(frames.read(inspection.frame_key), bit_depth=bit_depth)
            scoring = self._scorer.score_frame(pixels)
        except (StoreError, ImageError, RecipeMismatchError):
            self._leave_out("have no frame that can be read (any more)", inspection.inspection_id)
            return None
        shown = _worst(inspection.detections) or _worst(scoring.detections)
        return self._describe(inspection.inspection_id, named.defect_name, pixels, scoring, shown)

    def notes(self) -> tuple[str, ...]:
        """What was left out, in words."""
        return tuple(
            f"left out, {len(sources)} examples {why}: {', '.join(sources[:5])}{' …' if len(sources) > 5 else ''}"
            for why, sources in self.left_out.items()
        )

    def _describe(
        self, source: str, name: str, pixels: BgrImage, scoring: Scoring, shown: Detection | None
    ) -> Example | None:
        if scoring.oddities:
            self._leave_out("are odd (badly registered, or another light)", source)
            return None
        if shown is None:
            self._leave_out("show nothing that the recipe finds; a mask would say where", source)
            return None
        return Example(source, name, self._describer.describe(pixels, scoring, [shown])[0])

    def _leave_out(self, why: str, source: str) -> None:
        self.left_out.setdefault(why, []).append(source)


def name_defects(
    reference: str,
    data_dir: Path,
    *,
    examples_dir: Path | None = None,
    reviews: Path | None = None,
    release: bool = True,
    progress: Progress | None = None,
) -> NameReport:
    """Learn names from labelled images, from reviews, or both, and store them as a new version with the same scores.

    The names replace those of the version. `reviews` is a data directory, or the YAML of a plant whose stations'
    reviews lie in `data_dir`. Raises `InputError` when there is nothing to learn from, `FitError` for too few examples
    of a name, `DatasetError` for files that cannot be used, `RecipeMismatchError` for a template recipe (labelled
    boxes name there), and the errors of the recipe and data stores.
    """
    if examples_dir is None and reviews is None:
        raise InputError("nothing to learn names from: give --examples, --reviews, or both")
    recipes = RecipeStore(data_dir)
    recipe = recipes.load(reference, require_released=False)
    reader, report = ExampleReader(recipe), progress or no_progress
    labelled = _open_folder(examples_dir, reader) if examples_dir is not None else []
    labelled += _open_reviews(recipe, reviews, data_dir, reader) if reviews is not None else []
    chosen = thin_out(labelled)
    examples: list[Example] = []
    from_reviews = 0
    for index, item in enumerate(chosen):
        example = item.read()
        if example is not None:
            examples.append(example)
            from_reviews += item.from_review
        report("examples", (index + 1) / len(chosen))
    if not examples:
        raise InputError("; ".join(["no example to learn names from", *reader.notes()]))
    learned = learn_names(np.stack([example.look for example in examples]), [example.name for example in examples])
    record = _record(recipe, learned, len(examples) - from_reviews, from_reviews)
    notes = reader.notes()
    if len(chosen) < len(labelled):
        notes += (f"{len(chosen)} of {len(labelled)} examples were used: more of a name teach no more",)
    ref = recipes.save_named(recipe, learned.namer, record)
    if release:
        recipes.release(ref.name, ref.version)
    return NameReport(
        ref=ref,
        from_version=recipe.ref.version,
        record=record,
        mistaken=tuple(f"{examples[index].source}: {name}" for index, name in learned.mistaken),
        released=release,
        notes=notes,
    )


def thin_out(labelled: Sequence[Labelled]) -> list[Labelled]:
    """At most `MOST_EXAMPLES` in all: of each name equally many, evenly over their order."""
    counts = Counter(item.name for item in labelled)
    most = max(FEWEST_EXAMPLES, MOST_EXAMPLES // max(1, len(counts)))
    seen: Counter[str] = Counter()
    chosen = []
    for item in labelled:
        count, place = counts[item.name], seen[item.name]
        seen[item.name] += 1
        # Of `count` in order, one where the share so far passes a whole number of the `most` that are wanted.
        if count <= most or (place + 1) * most // count > place * most // count:
            chosen.append(item)
    return chosen


def find_masked(scoring: Scoring, mask: NDArray[np.bool_]) -> Detection:
    """The worst detection that touches the (H, W) mask, else the worst place in it, else the mask itself.

    Production names regions as the detector draws them, so that is what is shown to the namer wherever possible.
    """
    for detection in scoring.detections:
        x0, y0, x1, y1 = detection.box_xyxy_px
        if mask[y0:y1, x0:x1].any():
            return detection
    return find_weak(scoring, mask) or describe_mask(scoring, mask)


def find_weak(scoring: Scoring, mask: NDArray[np.bool_]) -> Detection | None:
    """What a detector with a lower threshold would have found inside a (H, W) mask: the region of its worst place."""
    scores, cell = scoring.anomaly_map.scores, scoring.anomaly_map.cell_px
    cells = cv2.resize(mask.astype(np.float32), (scores.shape[1], scores.shape[0]), interpolation=cv2.INTER_AREA) > 0
    inside = np.where(cells, scores, np.float32(0.0))
    worst = float(inside.max())
    if worst <= 0.0:
        return None
    found = find_detections(inside, WEAK_SHARE * worst, cell, None, (mask.shape[1], mask.shape[0]))
    return found[0] if found else None


def describe_mask(scoring: Scoring, mask: NDArray[np.bool_]) -> Detection:
    """A (H, W) mask, not empty, as if the detector had found just that."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    box: BoxPx = (int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1)
    cell = scoring.anomaly_map.cell_px
    under = scoring.anomaly_map.scores[box[1] // cell : -(-box[3] // cell), box[0] // cell : -(-box[2] // cell)]
    return Detection(box, float(under.max()) if under.size else 0.0, area_px=int(mask.sum()))


def _worst(detections: tuple[Detection, ...]) -> Detection | None:
    return max(detections, key=lambda detection: detection.score, default=None)


def _open_folder(folder: Path, reader: ExampleReader) -> list[Labelled]:
    return [Labelled(str(image.defect), False, partial(reader.read_file, image)) for image in open_examples(folder)]


def _open_reviews(recipe: Recipe, reviews: Path, data_dir: Path, reader: ExampleReader) -> list[Labelled]:
    plant = None if reviews.is_dir() else load_config(reviews)
    home = data_dir if plant is not None else reviews
    if not (home / DATABASE_FILE).is_file():
        raise StoreError(f"{home}: there is no database here; name the service's --data-dir")
    db = Database.open(home)
    try:
        found = list_named_inspections(db, recipe.ref.name, plant.stations().keys() if plant is not None else None)
    finally:
        db.close()
    frames = FrameFiles(home / "frames")
    return [
        Labelled(item.defect_name, True, partial(reader.read_inspection, item, frames, _bit_depth(plant, item)))
        for item in found
    ]


def _bit_depth(plant: PlantConfig | None, named: NamedInspection) -> int:
    station = plant.stations().get(named.inspection.station) if plant is not None else None
    cameras = station.cameras if station is not None else ()
    return next((camera.bit_depth for camera in cameras if camera.id == named.inspection.camera), DEEPEST)


def _record(recipe: Recipe, learned: LearnedNames, from_folder: int, from_reviews: int) -> NamesRecord:
    same = (RecipeVersion(version=ref.version, sha256=ref.sha256) for ref in versions_with_same_scores(recipe))
    names = (
        NamedExamples(name=check.name, examples=check.examples, right=check.right, unknown=check.unknown)
        for check in learned.checks
    )
    return NamesRecord(same_scores=tuple(same), names=tuple(names), from_folder=from_folder, from_reviews=from_reviews)
