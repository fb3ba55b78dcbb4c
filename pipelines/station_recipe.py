"""The recipe that a running station inspects with: loaded before it is needed, swapped between two triggers."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from inspector.config import CameraBase, PlantConfig
from inspector.detector.name_detections import DetectionNamer, open_namer
from inspector.detector.recipe_store import RecipeStore
from inspector.detector.scorer import Scorer
from inspector.errors import (
    ConfigError,
    RecipeError,
    RecipeMismatchError,
    RecipeNotFoundError,
    RecipeNotReleasedError,
)
from inspector.records import RecipeRef


@dataclass(frozen=True, slots=True)
class LoadedRecipe:
    """A recipe version in memory, ready to score."""

    ref: RecipeRef
    scorer: Scorer
    namer: DetectionNamer | None = None


class ActiveRecipe:
    """Holder of the current recipe. A trigger keeps the one that was active when it was accepted."""

    def __init__(self, recipes: RecipeStore, wanted: str, cameras: Sequence[CameraBase] = ()) -> None:
        """`cameras` are those whose frames it will score: a recipe must fit their scale."""
        self._recipes = recipes
        self._cameras = cameras
        self._wanted = wanted
        self._lock = threading.Lock()
        self._current: LoadedRecipe | None = None
        self.problem: str | None = None

    def current(self) -> LoadedRecipe | None:
        """The active recipe, None while none could be loaded (`problem` then says why)."""
        with self._lock:
            return self._current

    def preload(self, reference: str) -> LoadedRecipe:
        """Load a released version without making it active; raises `RecipeError`."""
        recipe = self._recipes.load(reference, require_released=True)
        for camera in self._cameras:
            recipe.check_scale(camera.id, camera.mm_per_px)
        return LoadedRecipe(ref=recipe.ref, scorer=recipe.scorer(threads=1), namer=open_namer(recipe))

    def activate(self, loaded: LoadedRecipe) -> None:
        """Use this recipe from the next trigger on."""
        with self._lock:
            self._current, self._wanted, self.problem = loaded, str(loaded.ref), None

    def try_load_wanted(self) -> bool:
        """Load the recipe this station should run; False and `problem` set when that is not possible now."""
        if self.current() is not None:
            return True
        try:
            self.activate(self.preload(self._wanted))
        except RecipeError as error:
            self.problem = str(error)
            return False
        return True


def check_recipes(plant: PlantConfig, data_dir: Path) -> None:
    """Raise `ConfigError` when a station's recipe does not fit its cameras' scale; a recipe not taught yet may come."""
    recipes = RecipeStore(data_dir)
    for line in plant.lines:
        for station in line.stations:
            with contextlib.suppress(RecipeNotFoundError, RecipeNotReleasedError):
                recipe = recipes.load(station.recipe)
                try:
                    for camera in station.cameras:
                        recipe.check_scale(camera.id, camera.mm_per_px)
                except RecipeMismatchError as error:
                    raise ConfigError(f"{plant.site.id}/{line.id}/{station.id}: {error}") from error
