"""`inspector calibrate`: thresholds again, from parts that a person confirmed good, as a new recipe version."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from inspector.detector.calibration import Calibration, binomial_interval, calibrate_confirmed
from inspector.detector.manifest import CalibrationRecord, RecipeVersion
from inspector.detector.recipe import Recipe
from inspector.detector.recipe_store import CalibratedContent, RecipeStore
from inspector.detector.scorer import Scorer
from inspector.errors import DatasetError, FitError, RecipeMismatchError
from inspector.records import RecipeRef, Thresholds, VerdictKind
from inspector.store.confirmed import ProducedPart, stream_produced_parts
from inspector.store.database import DATABASE_FILE, Database
from pipelines.dataset import ImageFolder, open_good_images
from pipelines.fit import Progress
from pipelines.inspect_frame import BETWEEN_THRESHOLDS

FAIR_SAMPLE_CONFIDENCE = 0.99


@dataclass(frozen=True, slots=True)
class ConfirmedPart:
    """A part that a person called good: a trigger id or a file name, and the score of its worst view."""

    name: str
    score: float


@dataclass(frozen=True, slots=True)
class Confirmed:
    """What can be calibrated from: good parts, scores of confirmed defects, and what a person should know."""

    from_database: tuple[ConfirmedPart, ...]
    from_folder: tuple[ConfirmedPart, ...]
    defect_scores: tuple[float, ...]
    notes: tuple[str, ...]

    @property
    def good(self) -> tuple[ConfirmedPart, ...]:
        """Those of the database first, in the order of production; then the folder's by name."""
        return self.from_database + self.from_folder


@dataclass(frozen=True, slots=True)
class CalibrateReport:
    """What `calibrate --json` prints. `odd` names parts that set no threshold; `defects_passed` counts confirmed
    defects that the new review threshold lets pass and the old one did not."""

    ref: RecipeRef
    from_version: int
    confirmed: Confirmed
    calibration: Calibration
    previous: Thresholds
    false_alarm_target: float
    odd: tuple[str, ...]
    defects_passed: int
    released: bool
    notes: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        thresholds = self.calibration.thresholds
        return {
            "recipe": self.ref.name,
            "version": self.ref.version,
            "from_version": self.from_version,
            "images": len(self.confirmed.good),
            "from_database": len(self.confirmed.from_database),
            "from_folder": len(self.confirmed.from_folder),
            "review_threshold": thresholds.review,
            "ng_threshold": thresholds.ng,
            "previous_review_threshold": self.previous.review,
            "previous_ng_threshold": self.previous.ng,
            "false_alarm_target": self.false_alarm_target,
            "false_alarm_interval": list(self.calibration.interval),
            "ng_false_alarm_interval": list(self.calibration.ng_interval),
            "promise": self.calibration.promise,
            "odd": list(self.odd),
            "confirmed_defects": len(self.confirmed.defect_scores),
            "defects_passed": self.defects_passed,
            "released": self.released,
            "notes": list(self.notes),
        }


def calibrate_recipe(
    reference: str,
    data_dir: Path,
    *,
    good_dir: Path | None = None,
    false_alarm_target: float | None = None,
    release: bool = True,
    progress: Progress | None = None,
) -> CalibrateReport:
    """Estimate the thresholds of a recipe again and store them as a new version, everything else unchanged.

    `false_alarm_target` None keeps the recipe's. A version that would pass a part confirmed defective, which the old
    thresholds catch, is stored but not released. Raises `FitError` for too few confirmed parts, `DatasetError` for a
    folder or an image that cannot be used, and the errors of the recipe and data stores.
    """
    recipes = RecipeStore(data_dir)
    recipe = recipes.load(reference, require_released=False)
    target = recipe.manifest.false_alarm_target if false_alarm_target is None else false_alarm_target
    if not 0.0 < target < 0.5:
        raise FitError(f"false alarm target {target} must lie between 0 and 0.5")
    confirmed = collect_confirmed(recipe, data_dir, good_dir, progress)
    try:
        calibration = calibrate_confirmed([part.score for part in confirmed.good], target)
    except FitError as error:
        raise FitError("; ".join([f"{recipe.ref}: {error}", *confirmed.notes])) from error
    odd = tuple(confirmed.good[index].name for index in calibration.odd)
    ref = recipes.save_calibrated(recipe, _describe_new_version(recipe, confirmed, calibration, target, odd))
    old, new = recipe.thresholds.review, calibration.thresholds.review
    passed = sum(old <= score < new for score in confirmed.defect_scores)
    notes = confirmed.notes
    if odd:
        notes += (
            f"{len(odd)} parts score like no other good part and set no threshold: look at them; if they are good, "
            "more parts alarm than the target says, as the interval shows",
        )
    if passed:
        notes += (f"not released: {passed} parts confirmed defective would pass; release {ref} by hand to accept that",)
    elif release:
        recipes.release(ref.name, ref.version)
    return CalibrateReport(
        ref=ref,
        from_version=recipe.ref.version,
        confirmed=confirmed,
        calibration=calibration,
        previous=recipe.thresholds,
        false_alarm_target=target,
        odd=odd,
        defects_passed=passed,
        released=release and not passed,
        notes=notes,
    )


def collect_confirmed(
    recipe: Recipe, data_dir: Path, good_dir: Path | None, progress: Progress | None = None
) -> Confirmed:
    """The parts that a person confirmed and that the fit has not seen, each frame once."""
    seen = {image.sha256 for image in recipe.manifest.images}
    notes: list[str] = []
    production = Production()
    if (data_dir / DATABASE_FILE).is_file():
        db = Database.open(data_dir)
        try:
            parts = stream_produced_parts(db, versions_with_same_scores(recipe), [BETWEEN_THRESHOLDS])
            production = sum_production(parts, seen, recipe.thresholds.review)
        finally:
            db.close()
    if production.waiting:
        notes.append(
            f"{production.waiting} parts that are not OK wait for a review: the good ones among them would count"
        )
    unfair = find_unfair_sample(production, recipe.thresholds.review)
    if unfair is not None:
        notes.append(unfair)
    return Confirmed(
        from_database=() if unfair else tuple(production.good),
        from_folder=_score_folder(recipe, open_good_images(good_dir), seen, notes, progress) if good_dir else (),
        defect_scores=tuple(production.defect_scores),
        notes=tuple(notes),
    )


@dataclass(slots=True)
class Production:
    """Sums over produced parts, those confirmed defective counted apart.

    Of `parts`, `alarms` score at or above the review threshold and `waiting` are not OK and without a review.
    """

    good: list[ConfirmedPart] = field(default_factory=list)
    defect_scores: list[float] = field(default_factory=list)
    parts: int = 0
    alarms: int = 0
    waiting: int = 0


def sum_production(parts: Iterable[ProducedPart], seen: set[str], review_threshold: float) -> Production:
    """Sort the parts of production; a confirmed part with a frame in `seen` is no new one. Adds frames to `seen`."""
    found = Production()
    for part in parts:
        if part.confirmed is VerdictKind.NG:
            found.defect_scores.append(part.score)
            continue
        found.parts += 1
        found.alarms += part.score >= review_threshold
        found.waiting += part.suspicious and part.confirmed is None
        if part.confirmed is VerdictKind.OK and seen.isdisjoint(part.frame_sha256s):
            seen.update(part.frame_sha256s)
            found.good.append(ConfirmedPart(part.trigger_id, part.score))
    return found


def versions_with_same_scores(recipe: Recipe) -> tuple[RecipeRef, ...]:
    """The recipe's version and those it was calibrated or named from: they differ in thresholds and names alone."""
    older = recipe.manifest.same_scores
    return (recipe.ref, *(RecipeRef(recipe.ref.name, item.version, item.sha256) for item in older))


def find_unfair_sample(production: Production, review_threshold: float) -> str | None:
    """Why the confirmed parts cannot stand for all good parts, None when they can.

    Whoever reviews only what is not OK confirms only the highest scores of good parts; thresholds from those would
    let defects pass. Good parts alarm no more often than parts that may be good or bad, so if the confirmed ones do,
    beyond chance, they were not picked by chance.
    """
    count = len(production.good)
    if not count:
        return None
    alarms = sum(part.score >= review_threshold for part in production.good)
    share = production.alarms / production.parts
    if binomial_interval(alarms, count, FAIR_SAMPLE_CONFIDENCE)[0] <= share:
        return None
    return (
        f"{alarms} of {count} good parts confirmed in the database had alarmed, but only {share:.1%} of all parts did: "
        "they are no fair sample and were left out; confirm parts that were OK too, for example all of one lot"
    )


def _score_folder(
    recipe: Recipe, folder: ImageFolder, seen: set[str], notes: list[str], progress: Progress | None
) -> tuple[ConfirmedPart, ...]:
    """The folder's parts with their scores; what was taught or counted already, or is odd, is left out with a note."""
    scorer = recipe.scorer(threads=1)
    taught = {image.sha256 for image in recipe.manifest.images}
    parts: list[ConfirmedPart] = []
    known: list[str] = []
    repeated: list[str] = []
    odd: list[str] = []
    for index, path in enumerate(folder.paths):
        sha256 = folder.sha256(index)
        if sha256 in seen:
            (known if sha256 in taught else repeated).append(path.name)
            continue
        seen.add(sha256)
        score = _score_image(folder, index, scorer)
        if score is None:
            odd.append(path.name)
        else:
            parts.append(ConfirmedPart(path.name, score))
        if progress is not None:
            progress("score", (index + 1) / len(folder))
    for names, why in (
        (known, "were taught to the recipe and prove nothing"),
        (repeated, "were counted already"),
        (odd, "are odd (badly registered, or another light) and have no score that counts"),
    ):
        if names:
            notes.append(f"left out, {len(names)} images {why}: {', '.join(names[:5])}{' …' if len(names) > 5 else ''}")
    return tuple(parts)


def _score_image(folder: ImageFolder, index: int, scorer: Scorer) -> float | None:
    try:
        scoring = scorer.score_frame(folder.read(index))
    except RecipeMismatchError as error:
        raise DatasetError(f"{folder.paths[index]}: {error}") from error
    return None if scoring.oddities else scoring.score


def _describe_new_version(
    recipe: Recipe, confirmed: Confirmed, calibration: Calibration, target: float, odd: tuple[str, ...]
) -> CalibratedContent:
    same = (RecipeVersion(version=ref.version, sha256=ref.sha256) for ref in versions_with_same_scores(recipe))
    return CalibratedContent(
        thresholds=calibration.thresholds,
        false_alarm_interval=calibration.interval,
        ng_false_alarm_interval=calibration.ng_interval,
        promise=calibration.promise,
        record=CalibrationRecord(
            same_scores=tuple(same),
            from_database=len(confirmed.from_database),
            from_folder=len(confirmed.from_folder),
            odd=odd,
            target=target,
        ),
    )
