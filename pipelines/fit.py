"""`inspector fit`: from a folder of good images to a released recipe version."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from inspector.config import ID_PATTERN
from inspector.detector.general_net import prepare_general_net
from inspector.detector.good_images import FEWEST_IMAGES, FilledUp
from inspector.detector.ignore_mask import Mask, load_ignore_mask
from inspector.detector.manifest import PartSettings, SurfaceSettings, TaughtImage
from inspector.detector.mode import choose_mode
from inspector.detector.part_learning import LearnedPart, TeachNet, learn_part
from inspector.detector.recipe import pack_surface, pack_views
from inspector.detector.recipe_store import FurtherViewContent, RecipeContent, RecipeStore
from inspector.detector.region_file import RegionPlan, load_regions
from inspector.detector.screen import screen_ratio
from inspector.detector.surface_learning import LearnedSurface, learn_surface
from inspector.errors import FitError, MissingExtraError, RecipeError
from inspector.generator.bank_building import Pose
from inspector.records import RecipeRef
from pipelines.dataset import ImageFolder, open_good_images
from pipelines.fit_twin import learn_twins
from pipelines.fit_views import join_looks, keep_shown, learn_views_content, refuse_one_view_options
from pipelines.twin import REPAIR

Progress = Callable[[str, float], None]
"""Called with the stage and the share of it that is done, 0..1."""

MEMORY_FOR_SCREENS_BYTES = 600_000_000
MEMORY_PER_SCREEN_PIXEL = 9.0
MOST_IMAGES = 400
ROTATIONS = ("small", "free")
TRAINED = "trained"
NET_ORIGIN = "net"


@dataclass(frozen=True, slots=True)
class FitReport:
    """What `fit --json` prints."""

    recipe: str
    version: int
    images: int
    fit_s: float
    mode: str
    review_threshold: float
    ng_threshold: float
    false_alarm_target: float
    false_alarm_interval: tuple[float, float]
    choices: dict[str, Any]
    ref: RecipeRef

    def to_json(self) -> dict[str, Any]:
        """The fields of the design page."""
        fields = asdict(self)
        del fields["ref"]
        return {**fields, "false_alarm_interval": list(self.false_alarm_interval)}


def fit_recipe(
    name: str,
    good_dir: Path,
    data_dir: Path,
    *,
    mode: str = "auto",
    false_alarm_target: float = 0.05,
    release: bool = True,
    ignore_mask: Path | None = None,
    regions: Path | None = None,
    mm_per_px: float | None = None,
    rotation: str = "small",
    confidential: bool = False,
    train_minutes: float | None = None,
    most_steps: int | None = None,
    progress: Progress | None = None,
) -> FitReport:
    """Learn a recipe from good images alone, store it as a new version and release it.

    Images that show several views of a part teach a recipe with a model for each; what means the one view of a part
    (`ignore_mask`, `regions`, `mm_per_px`, `train_minutes`, free rotation) is refused then.
    Nothing about a part of a `confidential` recipe is ever sent to a cloud model. With `train_minutes` a net of a
    located part is trained for so long, or until `most_steps` are done, and judges where the evidence is for it.

    Raises `MissingExtraError` when a net is to be trained without PyTorch, `DatasetError` for a folder without usable
    images, `FitError` when nothing can be learned from them, and the store's errors when the recipe cannot be written.
    """
    started = time.monotonic()
    if mode != "auto":
        raise FitError(f"fit mode {mode!r} does not exist here: auto, or template (which learns from pairs)")
    if not re.fullmatch(ID_PATTERN, name):
        raise RecipeError(f"recipe name {name!r} must match {ID_PATTERN}")
    if rotation not in ROTATIONS:
        raise FitError(f"rotation {rotation!r} does not exist: {' or '.join(ROTATIONS)}")
    any_angle = rotation == "free"
    if not 0.0 < false_alarm_target < 0.5:
        raise FitError(f"false alarm target {false_alarm_target} must lie between 0 and 0.5")
    training = train_minutes is not None
    teach: TeachNet | None = _import_training()(train_minutes, most_steps) if train_minutes is not None else None
    report = progress or no_progress
    found = open_good_images(good_dir)
    images = choose_images(found)
    sizes = {images.size(index) for index in range(len(images))}
    choice = choose_mode(images, sizes, any_angle=any_angle)
    if any_angle and choice.mode != "located":
        raise FitError(f"free rotation needs a part that can be found in every good image: {choice.reason}")
    if training and choice.mode != "located":
        raise FitError(f"--train needs a part in a fixed pose, its net compares with the good part: {choice.reason}")
    if training and len(images) < FEWEST_IMAGES:
        raise FitError(f"{len(images)} good images, at least {FEWEST_IMAGES} are needed to train on them")
    if not training and len(images) >= FEWEST_IMAGES:
        # Of fewer images copies would be among those that a good part was learned without.
        teach = prepare_general_net
    report("choose", 1.0)
    options = {
        "--ignore": ignore_mask is not None,
        "--regions": regions is not None,
        "--mm-per-px": mm_per_px is not None,
        "--rotation free": any_angle,
    }
    choice = join_looks(choice, options)
    shown = keep_shown(images, choice)
    looks = shown.looks
    if len(shown.groups) > 1 and looks is None:
        refuse_one_view_options(choice, {**options, "--train": training})
        several = learn_views_content(
            name,
            shown,
            choice,
            next(iter(sizes)),
            false_alarm_target,
            images_found=len(found),
            confidential=confidential,
            progress=report,
        )
        return store_fit(data_dir, several, release=release, started=started)
    images = shown.images
    ignored = read_ignore_mask(ignore_mask, choice.mode, sizes)
    plan = read_regions(regions, mm_per_px, choice.mode, sizes)
    learned: LearnedPart | LearnedSurface
    settings: PartSettings | SurfaceSettings
    further_views: tuple[FurtherViewContent, ...] = ()
    if choice.mode == "located":
        learned = learn_part(
            FilledUp(images),
            false_alarm_target,
            len(images),
            report,
            ignored,
            plan,
            any_angle=any_angle,
            teach=teach,
            looks=looks,
        )
        (settings, *others), arrays = pack_views(learned.models)
        further_views = tuple(FurtherViewContent(own, None, None) for own in others)
    else:
        learned = learn_surface(FilledUp(images), false_alarm_target, len(images), report)
        settings, arrays = pack_surface(learned.model)
    frame_size = learned.model.frame_size if isinstance(learned, LearnedPart) else None
    choices: dict[str, Any] = {
        "mode": choice.mode,
        "mode_reason": choice.reason,
        "views_reason": choice.groups.reason if choice.groups else None,
        "detail_match": choice.detail_match,
        "rotation": rotation,
        "motion": learned.motion.model if isinstance(learned, LearnedPart) else None,
        "motion_reason": learned.motion.reason if isinstance(learned, LearnedPart) else None,
        "odd_images": [images.paths[index % len(images)].name for index in learned.calibration.odd],
        "promise": learned.calibration.promise,
        "images_found": len(found),
        "ignore_mask": ignore_mask.name if ignore_mask else None,
        "ignored_share": round(float(ignored.mean()), 4) if ignored is not None else 0.0,
        "screen_misses": learned.screen_misses.to_json()
        if isinstance(learned, LearnedPart) and learned.screen_misses
        else None,
        "regions": list(learned.region_promises) if isinstance(learned, LearnedPart) else [],
    }
    if shown.left_out:
        choices["left_out"] = list(shown.left_out)
    if looks is not None:
        choices["looks"] = [[images.paths[index].name for index in group] for group in shown.groups]
    if isinstance(learned, LearnedPart):
        choices |= learned.choice.to_json()
        choices[NET_ORIGIN] = describe_net(learned)
        choices[TRAINED] = describe_training(learned)
    pose = (
        Pose(learned.golden % len(images), learned.model.reference.model, any_angle)
        if isinstance(learned, LearnedPart)
        else None
    )
    twins = learn_twins(images, sizes, pose, report)
    choices[REPAIR] = twins.choices
    content = RecipeContent(
        name=name,
        settings=settings,
        frame_size=frame_size,
        arrays=arrays,
        graph=learned.graph,
        contrast_graph=learned.contrast_graph if isinstance(learned, LearnedPart) else None,
        golden=images.read(learned.golden % len(images)),
        images=tuple(TaughtImage(file=path.name, sha256=images.sha256(i)) for i, path in enumerate(images.paths)),
        thresholds=learned.calibration.thresholds,
        false_alarm_target=false_alarm_target,
        false_alarm_interval=learned.calibration.interval,
        promise=learned.calibration.promise,
        choices=choices,
        ng_false_alarm_interval=learned.calibration.ng_interval,
        confidential=confidential,
        references=twins.references,
        references_record=twins.record,
        net_graph=learned.net_graph if isinstance(learned, LearnedPart) else None,
        further_views=further_views,
    )
    return store_fit(data_dir, content, release=release, started=started)


def describe_net(learned: LearnedPart) -> str | None:
    """Which net judges: the `general` one that ships, the one `trained` here, or None."""
    if learned.taught is None or "net" not in learned.choice.heads:
        return None
    return "trained" if learned.taught.steps else "general"


def describe_training(learned: LearnedPart) -> dict[str, Any] | None:
    """What was trained and whether it judges, None without training."""
    if learned.taught is None or not learned.taught.steps:
        return None
    return {
        "steps": learned.taught.steps,
        "seconds": round(learned.taught.seconds, 1),
        "used": "net" in learned.choice.heads,
    }


def store_fit(data_dir: Path, content: RecipeContent, *, release: bool, started: float) -> FitReport:
    """Store what was learned as a new version, release it when asked, and report; `started` is monotonic."""
    store = RecipeStore(data_dir)
    ref = store.save(content)
    if release:
        store.release(ref.name, ref.version)
    return FitReport(
        recipe=ref.name,
        version=ref.version,
        images=len(content.images),
        fit_s=round(time.monotonic() - started, 3),
        mode=content.settings.kind,
        review_threshold=content.thresholds.review,
        ng_threshold=content.thresholds.ng,
        false_alarm_target=content.false_alarm_target,
        false_alarm_interval=content.false_alarm_interval,
        choices=content.choices,
        ref=ref,
    )


def read_ignore_mask(path: Path | None, mode: str, sizes: set[tuple[int, int]]) -> Mask | None:
    """(H, W) bool. Raises `DatasetError` for a mask that does not fit, `FitError` when there is no pose."""
    if path is None:
        return None
    if mode != "located":
        raise FitError("an ignore mask needs a part in a fixed pose; these images show a surface")
    return load_ignore_mask(path, next(iter(sizes)))


def read_regions(
    path: Path | None, mm_per_px: float | None, mode: str, sizes: set[tuple[int, int]]
) -> RegionPlan | None:
    """The regions of a file, or none but a scale; None when neither was given.

    Raises `ConfigError` and `DatasetError` for a file that is wrong, `FitError` when there is no pose or no scale.
    """
    if path is None and mm_per_px is None:
        return None
    if mode != "located":
        raise FitError("regions and sizes need a part in a fixed pose; these images show a surface")
    size = next(iter(sizes))
    if path is None:
        return RegionPlan(np.zeros((size[1], size[0]), np.uint8), (), None, mm_per_px)
    return load_regions(path, size, mm_per_px)


def choose_images(found: ImageFolder) -> ImageFolder:
    """As many of the good images as memory allows, evenly over their sorted names."""
    width, height = found.size(0)
    bytes_each = MEMORY_PER_SCREEN_PIXEL * width * height / screen_ratio(width, height) ** 2
    most = min(MOST_IMAGES, max(FEWEST_IMAGES, int(MEMORY_FOR_SCREENS_BYTES / bytes_each)))
    count = len(found)
    if count <= most:
        return found
    return ImageFolder(tuple(found.paths[index * count // most] for index in range(most)))


def no_progress(stage: str, done: float) -> None:
    return None


def _import_training() -> Callable[[float, int | None], TeachNet]:
    try:
        from inspector.detector.training.change_stage import NetTeacher
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        raise MissingExtraError(
            'training needs PyTorch, which is not installed: pip install "line-inspector[train]"'
        ) from error
    return NetTeacher
