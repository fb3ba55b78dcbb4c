"""Well-lit pictures to darken: crops of development images that may be trained on, rendered scenes, surfaces."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np

from inspector.errors import DatasetError
from inspector.generator.training.exposure_surfaces import draw_surface
from inspector.images import IMAGE_SUFFIXES, decode_image, read_image_bytes
from inspector.records import BgrImage
from inspector.scenes.defects import FAMILIES
from inspector.scenes.renderer import SceneRenderer

TRAINABLE_SETS = ("circuitboard", "ball_screw", "aliens")
"""Development sets whose good training images may be learned from (CC BY-SA 4.0). No other set is ever opened."""
SURFACE_SIDE_PX = 320
SCENE_SIZE_PX = (1280, 720)
SMALLEST_SCALE = 0.4
TRIES, LEAST_SPREAD = 4, 4.0


class PictureSource(Protocol):
    """Where crops come from."""

    def cut(self, side_px: int, reduced: float, random: np.random.Generator) -> BgrImage:
        """A random square crop, (side, side, 3) uint8 BGR; `reduced` (0..1) of them of a smaller picture."""
        ...


@dataclass(frozen=True, slots=True)
class PictureSet:
    """Whole pictures in memory."""

    pictures: tuple[BgrImage, ...]

    def cut(self, side_px: int, reduced: float, random: np.random.Generator) -> BgrImage:
        """A crop, reduced ones at 40 to 100 % of the resolution: they have finer detail and less noise of their own.

        An empty one, such as plain background, is mostly drawn again.
        """
        for _ in range(TRIES):
            crop = self._cut_once(side_px, reduced, random)
            if crop.std() >= LEAST_SPREAD:
                break
        return crop

    def _cut_once(self, side_px: int, reduced: float, random: np.random.Generator) -> BgrImage:
        picture = self.pictures[int(random.integers(len(self.pictures)))]
        scale = float(random.uniform(SMALLEST_SCALE, 1.0)) if random.random() < reduced else 1.0
        wanted = min(round(side_px / scale), *picture.shape[:2])
        top, left = (int(random.integers(length - wanted + 1)) for length in picture.shape[:2])
        crop = picture[top : top + wanted, left : left + wanted]
        return np.asarray(cv2.resize(crop, (side_px, side_px), interpolation=cv2.INTER_AREA), np.uint8)


def read_good_images(data_dir: Path, name: str) -> PictureSet:
    """The good training images of one of `TRAINABLE_SETS`; `DatasetError` for any other name or an empty folder."""
    if name not in TRAINABLE_SETS:
        raise DatasetError(f"{name} must not be trained on; allowed are {', '.join(TRAINABLE_SETS)}")
    folder = data_dir / name / "train" / "good"
    files = sorted(path for path in folder.glob("*") if path.suffix.lower() in IMAGE_SUFFIXES)
    if not files:
        raise DatasetError(f"{folder}: no images")
    return PictureSet(tuple(decode_image(read_image_bytes(path)) for path in files))


def render_scenes(count: int, seed: int) -> PictureSet:
    """`count` rendered parts of every scene, some with defects."""
    pictures = []
    for scene in FAMILIES:
        renderer = SceneRenderer(scene, seed, *SCENE_SIZE_PX, defect_rate=0.5, lot_size=4)
        pictures += [renderer.render(number).pixels for number in range(1, count + 1)]
    return PictureSet(tuple(pictures))


def draw_surfaces(count: int, seed: int) -> PictureSet:
    """`count` procedural surfaces."""
    random = np.random.default_rng([seed, 11])
    return PictureSet(tuple(draw_surface(SURFACE_SIDE_PX, random) for _ in range(count)))
