"""`inspector fit` of a part whose good images show several views: a located model for each, in one recipe."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from inspector.detector.general_net import prepare_general_net
from inspector.detector.manifest import TaughtImage
from inspector.detector.mode import ModeChoice
from inspector.detector.recipe import pack_views
from inspector.detector.recipe_store import FurtherViewContent, RecipeContent
from inspector.detector.view_learning import LearnedView, learn_views
from inspector.errors import FitError
from inspector.generator.bank_building import Pose
from pipelines.dataset import ImageFolder
from pipelines.fit_twin import learn_twins
from pipelines.twin import REPAIR


@dataclass(frozen=True, slots=True)
class ShownViews:
    """The good images that are learned from, which of them show which view, and the names of those left out.

    `looks` has the number of its group for each image when the views are looks in one pose.
    """

    images: ImageFolder
    groups: tuple[tuple[int, ...], ...]
    left_out: tuple[str, ...]
    looks: tuple[int, ...] | None = None


def keep_shown(images: ImageFolder, choice: ModeChoice) -> ShownViews:
    """The good images without those that show no view, or one with too few images."""
    if choice.groups is None:
        return ShownViews(images, (tuple(range(len(images))),), ())
    kept = sorted(index for view in choice.groups.views for index in view)
    place = {index: number for number, index in enumerate(kept)}
    groups = tuple(tuple(place[index] for index in view) for view in choice.groups.views)
    looks = {index: number for number, group in enumerate(groups) for index in group}
    one_pose = choice.groups.one_pose and len(groups) > 1
    return ShownViews(
        ImageFolder(tuple(images.paths[index] for index in kept)),
        groups,
        tuple(images.paths[index].name for index in choice.groups.left_out),
        tuple(looks[index] for index in range(len(kept))) if one_pose else None,
    )


def join_looks(choice: ModeChoice, options: Mapping[str, bool]) -> ModeChoice:
    """The choice with all looks of one pose as one view, where an option is given that means one."""
    groups, given = choice.groups, name_given(options)
    if groups is None or not groups.one_pose or len(groups.views) < 2 or not given:
        return choice
    every = tuple(sorted(index for view in groups.views for index in view))
    reason = f"{groups.reason}; judged as one because of {', '.join(given)}"
    return replace(choice, groups=replace(groups, views=(every,), reason=reason))


def refuse_one_view_options(choice: ModeChoice, options: Mapping[str, bool]) -> None:
    """Raise `FitError` naming the options, among those that are given, which mean the one view of a part."""
    if given := name_given(options):
        raise FitError(
            f"{', '.join(given)} cannot be used with several views: {choice.reason}; "
            "fit a recipe for each view from a folder of its own"
        )


def name_given(options: Mapping[str, bool]) -> list[str]:
    """The options that are given."""
    return [name for name, is_given in options.items() if is_given]


def learn_views_content(
    name: str,
    shown: ShownViews,
    choice: ModeChoice,
    size: tuple[int, int],
    false_alarm_target: float,
    *,
    images_found: int,
    confidential: bool,
    progress: Callable[[str, float], None],
) -> RecipeContent:
    """Learn what a recipe with several views holds; `size` is (width, height) of all images."""
    images = shown.images
    learned = learn_views(images, shown.groups, false_alarm_target, progress, prepare_general_net)
    first, *others = learned.views
    settings, arrays = pack_views([view.model for view in learned.views])
    pose = Pose(first.golden, first.model.reference.model, any_angle=False)
    twins = learn_twins(images, {size}, pose, progress)
    choices = {
        "mode": choice.mode,
        "mode_reason": choice.reason,
        "views_reason": choice.groups.reason if choice.groups else None,
        "detail_match": choice.detail_match,
        "rotation": "small",
        "odd_images": [images.paths[index].name for index in learned.calibration.odd],
        "promise": learned.calibration.promise,
        "images_found": images_found,
        "screen_misses": learned.screen_misses.to_json() if learned.screen_misses else None,
        "views": [_describe(view, images) for view in learned.views],
        "left_out": list(shown.left_out),
        REPAIR: twins.choices,
    }
    return RecipeContent(
        name=name,
        settings=settings[0],
        frame_size=first.model.frame_size,
        arrays=arrays,
        graph=first.learned.graph,
        contrast_graph=first.learned.contrast_graph,
        golden=images.read(first.golden),
        images=tuple(TaughtImage(file=path.name, sha256=images.sha256(i)) for i, path in enumerate(images.paths)),
        thresholds=learned.calibration.thresholds,
        false_alarm_target=false_alarm_target,
        false_alarm_interval=learned.calibration.interval,
        promise=learned.calibration.promise,
        choices=choices,
        ng_false_alarm_interval=learned.calibration.ng_interval,
        net_graph=learned.net_graph,
        confidential=confidential,
        references=twins.references,
        references_record=twins.record,
        further_views=tuple(
            FurtherViewContent(own, view.learned.graph, images.read(view.golden))
            for own, view in zip(settings[1:], others, strict=True)
        ),
    )


def _describe(view: LearnedView, images: ImageFolder) -> dict[str, Any]:
    """What was chosen for a view; its thresholds are in its own unit, before they are stretched to the common ones."""
    learned = view.learned
    own = learned.calibration.thresholds
    return {
        "images": [images.paths[index].name for index in view.indices],
        "golden": images.paths[view.golden].name,
        "own_review_threshold": own.review,
        "own_ng_threshold": own.ng,
        "motion": learned.motion.model,
        "motion_reason": learned.motion.reason,
        "odd_images": [images.paths[index].name for index in view.odd],
        "promise": learned.calibration.promise,
        **learned.choice.to_json(),
    }
