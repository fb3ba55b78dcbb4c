"""What questions are made from: stored frames, and of each recipe whether it may leave and its golden image."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import cv2
import structlog

from inspector.config import PlantConfig
from inspector.detector.recipe import Recipe
from inspector.detector.recipe_store import RecipeStore
from inspector.errors import DiskFullError, InspectorError, QuestionHinderedError, StoreError
from inspector.images import decode_image
from inspector.records import BgrImage, RecipeRef
from inspector.store.frames import FrameFiles
from inspector.store.stored import StoredInspection

CACHED_RECIPES = 4
BROKEN_PICTURE = (cv2.error, ArithmeticError, ValueError, IndexError)
"""What a stage of ours raises on a picture it cannot work with; a process that died of it would die of it again."""

log = structlog.get_logger(__name__)


@contextmanager
def hinder_one_question(inspection_id: str) -> Iterator[None]:
    """What goes wrong with one inspection becomes a `QuestionHinderedError` that names it; a full disk stays one."""
    try:
        yield
    except DiskFullError:
        raise
    except InspectorError as error:
        raise QuestionHinderedError(f"{type(error).__name__}: {error}") from error
    except BROKEN_PICTURE as error:
        log.exception("escalation_broke", inspection_id=inspection_id)
        raise QuestionHinderedError(f"{type(error).__name__}: {error}") from error


@dataclass(frozen=True, slots=True)
class RecipeFacts:
    """The little of a recipe that a question needs."""

    confidential: bool
    golden: BgrImage
    several: Recipe | None = None
    """The recipe, where its golden image depends on the view that a frame shows."""

    def golden_for(self, pixels: BgrImage) -> BgrImage:
        """The golden image of the view that an inspected frame shows."""
        return self.golden if self.several is None else self.several.golden_for(pixels)


class QuestionMaterial:
    """Reads frames and recipes of one data directory. Belongs to one thread."""

    def __init__(self, config: PlantConfig, data_dir: Path) -> None:
        self._config = config
        self._frames = FrameFiles(data_dir / "frames")
        self._recipes = RecipeStore(data_dir)
        self._facts: OrderedDict[RecipeRef, RecipeFacts] = OrderedDict()

    def read_frame(self, inspection: StoredInspection) -> BgrImage:
        """The pixels of the very frame that was inspected; `StoreError` or `ImageError` when there are none."""
        if inspection.frame_key is None:
            raise StoreError("the frame was not kept")
        station = self._config.stations().get(inspection.station)
        cameras = station.cameras if station is not None else ()
        bits = next((camera.bit_depth for camera in cameras if camera.id == inspection.camera), 16)
        return decode_image(self._frames.read(inspection.frame_key), bit_depth=bits)

    def read_recipe(self, ref: RecipeRef) -> RecipeFacts:
        """Raises `RecipeError` when the version cannot be read, or is not the one that inspected."""
        if ref not in self._facts:
            recipe = self._recipes.load(ref, require_released=False)
            several = recipe if recipe.further_views else None
            self._facts[ref] = RecipeFacts(recipe.manifest.confidential, recipe.golden, several)
            while len(self._facts) > CACHED_RECIPES:
                self._facts.popitem(last=False)
        self._facts.move_to_end(ref)
        return self._facts[ref]
