"""The rendered board of the timed parts: its recipe, fitted once by the defaults, and a frame of it."""

from __future__ import annotations

from pathlib import Path

from inspector.records import BgrImage
from inspector.scenes.renderer import SceneRenderer, write_good_images
from pipelines.fit import fit_recipe
from tools.twin.judging import TrialSettings

BOARD = "trial-board"
SCENE = "board"
SEED = 20
GOOD_IMAGES = 20
FRAME_NUMBER = 500


def fit_board(settings: TrialSettings) -> Path:
    """The data directory with the board's recipe."""
    data_dir = settings.work / "board"
    if not data_dir.is_dir():
        settings.say(f"fitting a board of {settings.size[0]}x{settings.size[1]} px")
        write_good_images(settings.work / "board-good", SCENE, SEED, GOOD_IMAGES, *settings.size)
        fit_recipe(BOARD, settings.work / "board-good", data_dir)
    return data_dir


def render_board(settings: TrialSettings) -> BgrImage:
    """A good board that the recipe has not seen."""
    return SceneRenderer(SCENE, SEED, *settings.size).render(FRAME_NUMBER, defect_rate=0.0).pixels
