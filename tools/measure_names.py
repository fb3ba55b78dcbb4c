"""How well a recipe's names are learned from few examples: a data set with several defect folders and masks.

    python tools/measure_names.py DATASET

Fits with the defaults, then draws EXAMPLES labelled images of each name at random, DRAWS times, teaches them and names
the others. Printed are, for the region inside the mask and for the worst region that the recipe itself finds, the share
that is named right, named wrong and called unknown, averaged over names; then, with each name left out of the teaching
in turn, the share of its images that is called unknown.
"""

from __future__ import annotations

import sys
import tempfile
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from inspector.detector.look import Floats
from inspector.detector.name_detections import Describer, open_describer
from inspector.detector.naming import UNKNOWN, Namer, learn_names
from inspector.detector.recipe_store import RecipeStore
from inspector.detector.scorer import Scorer
from pipelines.dataset import TestImage, open_test_set, read_image, read_mask
from pipelines.fit import fit_recipe
from pipelines.name import find_masked

EXAMPLES = (3, 10, 30)
DRAWS = 5


@dataclass(frozen=True, slots=True)
class Shown:
    """One defective image: the look of the region in its mask, and of the worst region found (None: nothing was)."""

    masked: Floats
    found: Floats | None


def read_looks(image: TestImage, scorer: Scorer, describer: Describer) -> Shown | None:
    """None for an image whose mask is empty."""
    pixels = read_image(image.path)
    mask = read_mask(image, (pixels.shape[1], pixels.shape[0]))
    if not mask.any():
        return None
    scoring = scorer.score_frame(pixels)
    looks = describer.describe(pixels, scoring, [find_masked(scoring, mask), *scoring.detections[:1]])
    return Shown(looks[0], looks[1] if len(looks) > 1 else None)


def draw(shown: dict[str, list[Shown]], count: int, seed: int) -> tuple[dict[str, list[Shown]], dict[str, list[Shown]]]:
    """Examples, at most half of each name, and the others."""
    dice = np.random.default_rng(seed)
    taught, others = {}, {}
    for name, images in shown.items():
        order = dice.permutation(len(images))
        cut = min(count, len(images) // 2)
        taught[name], others[name] = [images[i] for i in order[:cut]], [images[i] for i in order[cut:]]
    return taught, others


def teach(examples: dict[str, list[Shown]]) -> Namer:
    """A namer of these examples."""
    looks = np.stack([shown.masked for images in examples.values() for shown in images])
    return learn_names(looks, [name for name, images in examples.items() for _ in images]).namer


def judge(namer: Namer, name: str, looks: list[Floats]) -> NDArray[np.float64]:
    """(right, wrong, unknown) shares; NaN without any look."""
    if not looks:
        return np.full(3, np.nan)
    said = [naming.name for naming in namer.name(np.stack(looks))]
    right, unknown = np.mean([item == name for item in said]), np.mean([item == UNKNOWN for item in said])
    return np.array([right, np.mean([item not in (name, UNKNOWN) for item in said]), unknown])


def describe(values: list[NDArray[np.float64]]) -> str:
    right, wrong, unknown = 100 * np.nanmean(np.stack(values), axis=0)
    return f"{right:.0f} / {wrong:.0f} / {unknown:.0f}"


def measure(shown: dict[str, list[Shown]], count: int) -> str:
    """One row."""
    masked, found, left_masked, left_found = [], [], [], []
    for seed in range(DRAWS):
        taught, others = draw(shown, count, seed)
        namer = teach(taught)
        for name, images in others.items():
            masked.append(judge(namer, name, [item.masked for item in images]))
            found.append(judge(namer, name, [item.found for item in images if item.found is not None]))
            if len(taught) == 1:
                continue
            without = teach({other: examples for other, examples in taught.items() if other != name})
            left_masked.append(judge(without, name, [item.masked for item in images])[2:])
            left_found.append(judge(without, name, [item.found for item in images if item.found is not None])[2:])
    rejected = (f"{100 * np.nanmean(np.stack(values)):.0f}" if values else "–" for values in (left_masked, left_found))
    return f"| {count} | {describe(masked)} | {describe(found)} | {' | '.join(rejected)} |"


def main(dataset: Path) -> None:
    """Print the table of one data set."""
    shown: dict[str, list[Shown]] = defaultdict(list)
    with tempfile.TemporaryDirectory(prefix="names-") as data_dir:
        fitted = fit_recipe(dataset.name.lower(), dataset / "train" / "good", Path(data_dir))
        recipe = RecipeStore(Path(data_dir)).load(fitted.recipe)
        scorer, describer = recipe.scorer(threads=2), open_describer(recipe)
        for image in open_test_set(dataset).images:
            looks = read_looks(image, scorer, describer) if image.mask is not None else None
            if looks is not None:
                shown[str(image.defect)].append(looks)
    heads = ("examples a name", "in the mask: right / wrong / unknown %", "found: right / wrong / unknown %")
    left_out = ("left-out name called unknown %, in the mask", "found")
    sys.stdout.write(f"| {' | '.join(heads + left_out)} |\n{'|---' * 5}|\n")
    for count in EXAMPLES:
        sys.stdout.write(measure(shown, count) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    if len(sys.argv) != 2 or not (Path(sys.argv[1]) / "ground_truth").is_dir():
        raise SystemExit(__doc__)
    main(Path(sys.argv[1]))
