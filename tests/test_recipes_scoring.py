"""A loaded recipe: scores that never drift, whatever was scored before or beside."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pytest

from inspector.detector.recipe import Recipe
from inspector.detector.recipe_store import RecipeStore
from inspector.errors import RecipeMismatchError
from inspector.geometry.registration import make_reference, register
from inspector.records import Scoring
from tests.small_line import HEIGHT_PX, RECIPE, WIDTH_PX, draw_part


@pytest.fixture(scope="module")
def taught(taught_plate: Path) -> Path:
    """A data directory with one small released recipe; nobody changes it."""
    return taught_plate / "data"


@pytest.fixture(scope="module")
def recipe(taught: Path) -> Recipe:
    """The recipe as it was taught."""
    return RecipeStore(taught).load(RECIPE)


def facts(scoring: Scoring) -> tuple[object, ...]:
    """Everything a scoring says, exactly."""
    registration = scoring.registration
    assert registration is not None
    return (
        scoring.score,
        scoring.anomaly_map.scores.tobytes(),
        scoring.detections,
        registration.matrix.tobytes(),
        registration.confidence,
    )


@pytest.mark.parametrize("size", [(WIDTH_PX * 2, HEIGHT_PX), (WIDTH_PX, HEIGHT_PX - 1), (HEIGHT_PX, WIDTH_PX)])
def test_a_frame_of_another_size_is_refused(recipe: Recipe, size: tuple[int, int]) -> None:
    """A recipe for another camera size gives no verdict; both sizes are named."""
    frame = np.asarray(cv2.resize(draw_part(1), size), np.uint8)
    with pytest.raises(RecipeMismatchError, match=rf"{size[0]}x{size[1]} px.*{WIDTH_PX}x{HEIGHT_PX}"):
        recipe.scorer().score_frame(frame)


def test_loading_twice_gives_the_same_scores(taught: Path) -> None:
    """The same pixels give the same score, map, detections and registration, to the last bit."""
    first, second = (RecipeStore(taught).load(RECIPE).scorer() for _ in range(2))
    for number, defect in ((1, False), (2, True)):
        frame = draw_part(number, defect=defect)
        assert facts(first.score_frame(frame)) == facts(second.score_frame(frame))


def test_scores_do_not_depend_on_what_was_scored_before(recipe: Recipe) -> None:
    """The reference once faded from frame to frame: after many others a frame still scores what it did first."""
    scorer = recipe.scorer()
    frame = draw_part(3, defect=True)
    before, arrays = frame.copy(), {name: array.copy() for name, array in recipe.arrays.items()}
    first = facts(scorer.score_frame(frame))
    for number in range(10, 22):
        scorer.score_frame(draw_part(number, defect=number % 2 == 0))
    scorer.score_frame(np.zeros_like(frame))
    assert facts(scorer.score_frame(frame)) == first
    assert np.array_equal(frame, before)
    assert all(np.array_equal(array, arrays[name]) for name, array in recipe.arrays.items())


def test_frames_scored_side_by_side_do_not_touch_each_other(recipe: Recipe) -> None:
    """One scorer in two threads, and two scorers of one recipe, say what one thread alone says."""
    frames = [draw_part(number, defect=number % 3 == 0) for number in range(6)] * 3
    shared, other = recipe.scorer(), recipe.scorer()
    alone = [facts(recipe.scorer().score_frame(frame)) for frame in frames[:6]] * 3
    with ThreadPoolExecutor(2) as pool:
        together = list(pool.map(lambda frame: facts(shared.score_frame(frame)), frames))
        apart = list(pool.map(lambda job: facts((shared, other)[job[0] % 2].score_frame(job[1])), enumerate(frames)))
    assert together == alone
    assert apart == alone


@pytest.mark.parametrize("model", ["shift", "rigid", "affine"])
@pytest.mark.parametrize("width_px", [320, 1280])
def test_registration_leaves_its_reference_alone(model: str, width_px: int) -> None:
    """Registering changes neither the reference nor the frame, and twice gives the same matrix."""
    height_px = width_px * 3 // 4
    reference = make_reference(draw_part(1, width_px=width_px, height_px=height_px), model)
    frame = draw_part(2, width_px=width_px, height_px=height_px)
    grey, part, pixels = reference.grey.copy(), reference.part.copy(), frame.copy()
    first, second = register(reference, frame), register(reference, frame)
    assert np.array_equal(reference.grey, grey)
    assert np.array_equal(reference.part, part)
    assert np.array_equal(frame, pixels)
    assert np.array_equal(first.matrix, second.matrix)
    assert first.confidence == second.confidence > 0.9
