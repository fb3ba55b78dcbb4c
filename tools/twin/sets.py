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
from inspector.errors import RecipeNotFoundError
from inspector.records import AnomalyMap, BgrImage
from pipelines.dataset import TestImage, find_images, open_test_set, read_image, read_mask
from pipelines.fit import fit_recipe
from tools.twin.masks import SampledMask, sample_mask

SPOILED_LEVELS, MIDDLE_LEVEL = 64, 110

Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Task:
    """A good image that no recipe saw and a mask on its part: what the image shows there is the truth."""

    path: Path
    truth: BgrImage
    sampled: SampledMask


class TrialSet:
    """One data set (MVTec convention) and its recipe, fitted on `train/good` by the defaults."""

    def __init__(self, root: Path, data_dir: Path, threads: int) -> None:
        self.name = root.name
        self.root = root
        self.good = find_images(root / "train" / "good")
        self.held_out = find_images(root / "test" / "good")
        self.data_dir = data_dir
        self._threads = threads
        self.peel: bytes | None = None

    @property
    def recipe_name(self) -> str:
        return self.name.lower()

    @cached_property
    def recipe(self) -> Recipe:
        """Fitted when it is first asked for, unless the data directory has it from an earlier run."""
        store = RecipeStore(self.data_dir)
        try:
            return store.load(self.recipe_name)
        except RecipeNotFoundError:
            fit_recipe(self.recipe_name, self.root / "train" / "good", self.data_dir)
        return store.load(self.recipe_name)

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
                made.append(Task(path, pixels, sampled))
        return made


def spoil(pixels: BgrImage, sampled: SampledMask) -> BgrImage:
    """A copy with something else under the mask: its box turned upside down and darker, or lighter where it is dark."""
    x0, y0, x1, y1 = sampled.box_xyxy_px
    spoiled = pixels.copy()
    inside = sampled.mask[y0:y1, x0:x1]
    turned = cv2.rotate(pixels[y0:y1, x0:x1], cv2.ROTATE_180)[inside].astype(np.int16)
    turned += SPOILED_LEVELS if turned.mean() < MIDDLE_LEVEL else -SPOILED_LEVELS
    spoiled[y0:y1, x0:x1][inside] = np.clip(turned, 0, 255).astype(np.uint8)
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
