"""`inspector fit --mode template`: a recipe for frames that each bring their own defect-free template."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Any

from inspector.config import ID_PATTERN
from inspector.detector.manifest import TaughtImage
from inspector.detector.recipe import pack_template
from inspector.detector.recipe_store import RecipeContent
from inspector.detector.template_learning import SAMPLES_SEEN, LearnedTemplate, learn_differences, learn_names
from inspector.errors import FitError, RecipeError
from pipelines.fit import FitReport, Progress, fit_recipe, no_progress, store_fit
from pipelines.template_set import PairFolder, open_good_pairs, open_labelled_pairs

MOST_GOOD_PAIRS = 400


def fit_asked(
    name: str,
    data_dir: Path,
    *,
    mode: str,
    good: Path | None,
    labels: Path | None,
    ignore_mask: Path | None,
    false_alarm_target: float,
    release: bool,
    regions: Path | None = None,
    mm_per_px: float | None = None,
    rotation: str = "small",
    confidential: bool = False,
    train_minutes: float | None = None,
) -> FitReport:
    """What `inspector fit` does, in whatever mode. Raises `FitError` for options that do not go together."""
    if mode == "template":
        for option, value in (("--ignore", ignore_mask), ("--regions", regions), ("--mm-per-px", mm_per_px)):
            if value is not None:
                raise FitError(f"{option} belongs to parts in a fixed pose; a template recipe has none to draw on")
        if train_minutes is not None:
            raise FitError("--train belongs to parts that are found; labelled pairs teach a template recipe anyway")
        if rotation != "small":
            raise FitError("--rotation belongs to parts that are found; a template comes at the angle of its frame")
        return fit_template_recipe(
            name,
            data_dir,
            good=good,
            labels=labels,
            false_alarm_target=false_alarm_target,
            release=release,
            confidential=confidential,
        )
    if labels is not None:
        raise FitError("--labels belongs to --mode template: other recipes learn from good images alone")
    if good is None:
        raise FitError("--good is missing: which folder holds the good images?")
    return fit_recipe(
        name,
        good,
        data_dir,
        mode=mode,
        false_alarm_target=false_alarm_target,
        release=release,
        ignore_mask=ignore_mask,
        regions=regions,
        mm_per_px=mm_per_px,
        rotation=rotation,
        confidential=confidential,
        train_minutes=train_minutes,
    )


def fit_template_recipe(
    name: str,
    data_dir: Path,
    *,
    good: Path | None = None,
    labels: Path | None = None,
    false_alarm_target: float = 0.05,
    release: bool = True,
    samples_seen: int = SAMPLES_SEEN,
    confidential: bool = False,
    progress: Progress | None = None,
) -> FitReport:
    """Learn names from a labelled set, or a threshold from good pairs; store it as a new version and release it.

    With both, the good pairs are frames without defects among the labelled ones. `samples_seen` is the training of
    each net. Raises `FitError` when neither is given or nothing can be learned, `DatasetError` for a folder that is
    no template set, and the store's errors.
    """
    started = time.monotonic()
    report = progress or no_progress
    if good is None and labels is None:
        raise FitError("template mode learns from --labels (frames, templates and boxes), --good (pairs), or both")
    if not re.fullmatch(ID_PATTERN, name):
        raise RecipeError(f"recipe name {name!r} must match {ID_PATTERN}")
    if not 0.0 < false_alarm_target < 0.5:
        raise FitError(f"false alarm target {false_alarm_target} must lie between 0 and 0.5")
    pairs = open_pairs(good, labels)
    learned: LearnedTemplate
    if labels is not None:
        learned = learn_names(pairs, report, samples_seen=samples_seen)
    else:
        learned = learn_differences(pairs, pairs.real_frames, false_alarm_target, report)
    settings, arrays = pack_template(learned.model)
    choices: dict[str, Any] = {
        "mode": "template",
        "mode_reason": "asked for: each frame brings its own template",
        **learned.choices,
        "promise": learned.promise,
    }
    content = RecipeContent(
        name=name,
        settings=settings,
        frame_size=None,
        arrays=arrays,
        graph=learned.graph,
        contrast_graph=None,
        golden=pairs.read(0)[1],
        images=tuple(
            TaughtImage(file=pair.shown.name, sha256=pairs.sha256(index)) for index, pair in enumerate(pairs.pairs)
        ),
        thresholds=learned.model.thresholds,
        false_alarm_target=false_alarm_target,
        false_alarm_interval=learned.false_alarm_interval,
        promise=learned.promise,
        choices=choices,
        confidential=confidential,
    )
    return store_fit(data_dir, content, release=release, started=started)


def open_pairs(good: Path | None, labels: Path | None) -> PairFolder:
    """Labelled pairs first, then good ones; at most `MOST_GOOD_PAIRS` of these, evenly over their sorted names."""
    labelled = open_labelled_pairs(labels).pairs if labels is not None else ()
    found = open_good_pairs(good).pairs if good is not None else ()
    count = min(len(found), MOST_GOOD_PAIRS)
    return PairFolder((*labelled, *(found[index * len(found) // count] for index in range(count))))
