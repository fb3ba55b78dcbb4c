"""The data sets of a trial, each with the recipe that the product's own `fit` learns from its good images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from inspector.detector.recipe import Recipe
from inspector.detector.recipe_store import RecipeStore
from inspector.detector.scorer import Scorer
from inspector.records import AnomalyMap, BgrImage
from pipelines.dataset import TestImage, find_images, open_test_set, read_image, read_mask
from pipelines.fit import fit_recipe
from tools.twin.masks import SampledMask, sample_mask

SPOILED_TURN = cv2.ROTATE_180

Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Task:
    """A good image that no recipe saw, a mask on its part, and the frame that the methods get.

    In `frame` the pixels under the mask are the mask's box turned upside down: they are wrong but look like the part,
    so that a method which peeks under the mask is found out and none is helped.
    """

    path: Path
    truth: BgrImage
    frame: BgrImage
    sampled: SampledMask


class TrialSet:
    """One data set (MVTec convention) and its recipe, fitted on `train/good` by the defaults."""

    def __init__(self, root: Path, data_dir: Path, threads: int) -> None:
        self.name = root.name
        self.root = root
        self.good = find_images(root / "train" / "good")
        self.held_out = find_images(root / "test" / "good")
        self._data_dir = data_dir
        self._threads = threads

    @cached_property
    def recipe(self) -> Recipe:
        """Fitted when it is first asked for."""
        report = fit_recipe(self.name.lower(), self.root / "train" / "good", self._data_dir)
        return RecipeStore(self._data_dir).load(report.recipe)

    @cached_property
    def scorer(self) -> Scorer:
        return self.recipe.scorer(self._threads)

    def defective(self) -> tuple[TestImage, ...]:
        """Real defects of the test half."""
        return tuple(image for image in open_test_set(self.root).images if image.defect is not None)

    def find_part(self, pixels: BgrImage) -> Mask:
        """(H, W) bool: where the detector judges a frame."""
        found = self.scorer.score_frame(pixels).anomaly_map
        return enlarge_map(np.asarray(found.scores > 0, np.bool_), found, pixels)

    def tasks(self, count: int, seed: int) -> list[Task]:
        """`count` masks on held-back good images, all of them or as many as there are masks; the same for a seed."""
        order = np.random.default_rng([seed, *self.name.encode()]).permutation(len(self.held_out))
        chosen = [self.held_out[index] for index in order[:count]]
        made = []
        for number, path in enumerate(chosen):
            pixels = read_image(path)
            part = self.find_part(pixels)
            for turn in range(number, count, len(chosen)):
                dice = np.random.default_rng([seed, turn, *self.name.encode()])
                sampled = sample_mask(dice, part if part.any() else np.ones(part.shape, np.bool_))
                made.append(Task(path, pixels, spoil(pixels, sampled), sampled))
        return made


def spoil(pixels: BgrImage, sampled: SampledMask) -> BgrImage:
    """A copy whose masked pixels come from the mask's box turned upside down."""
    x0, y0, x1, y1 = sampled.box_xyxy_px
    spoiled = pixels.copy()
    turned = cv2.rotate(pixels[y0:y1, x0:x1], SPOILED_TURN)
    inside = sampled.mask[y0:y1, x0:x1]
    spoiled[y0:y1, x0:x1][inside] = turned[inside]
    return spoiled


def enlarge_map(cells: Mask, anomaly_map: AnomalyMap, pixels: BgrImage) -> Mask:
    """Cells of a map as pixels of its frame."""
    cell_px = anomaly_map.cell_px
    large = np.repeat(np.repeat(cells, cell_px, axis=0), cell_px, axis=1)[: pixels.shape[0], : pixels.shape[1]]
    below, right = pixels.shape[0] - large.shape[0], pixels.shape[1] - large.shape[1]
    return np.pad(large, ((0, below), (0, right)), mode="edge")


def open_sets(folder: Path, names: Sequence[str], data_dir: Path, threads: int) -> list[TrialSet]:
    """The data sets of a folder that have `train/good` and `test/good`: all, or those named."""
    roots = sorted(path for path in folder.iterdir() if not names or path.name in names)
    return [
        TrialSet(root, data_dir, threads)
        for root in roots
        if (root / "train" / "good").is_dir() and (root / "test" / "good").is_dir()
    ]


def read_defect(image: TestImage, pixels: BgrImage) -> Mask | None:
    """The marked defect (H, W) bool of a real defective image; None where nobody marked it."""
    if image.mask is None:
        return None
    mask = read_mask(image, (pixels.shape[1], pixels.shape[0]))
    return mask if mask.any() else None
