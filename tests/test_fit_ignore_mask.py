"""Places that are never judged: a mask drawn on the golden image, from the file to the verdict."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from inspector.detector.recipe_store import RecipeStore
from inspector.errors import DatasetError, FitError
from inspector.records import BgrImage, VerdictKind
from pipelines.fit import fit_recipe
from pipelines.inspect_frame import decide_verdict
from tests.small_line import HEIGHT_PX, WIDTH_PX, draw_part

SPOT = (195, 120)
"""Where `draw_part` puts its defect, but for the part's shift of up to 2 px."""


@pytest.fixture(scope="module")
def good(taught_plate: Path) -> Path:
    return taught_plate / "good"


def write_mask(path: Path, centre: tuple[int, int], radius: int) -> Path:
    mask = np.zeros((HEIGHT_PX, WIDTH_PX), np.uint8)
    cv2.circle(mask, centre, radius, 255, -1)
    cv2.imwrite(str(path), mask)
    return path


def verdict_of(data_dir: Path, name: str, frame: BgrImage) -> VerdictKind:
    recipe = RecipeStore(data_dir).load(name)
    return decide_verdict(recipe.scorer().score_frame(frame), recipe.thresholds).kind


def draw_spot(number: int, radius: int, at: tuple[int, int] = SPOT) -> BgrImage:
    frame = draw_part(number)
    cv2.circle(frame, at, radius, (30, 30, 35), -1, cv2.LINE_AA)
    return frame


def test_a_defect_under_the_mask_is_not_judged_and_one_beside_it_is(good: Path, tmp_path: Path) -> None:
    """The mask follows the part; it is recorded; without it the same part is NG."""
    mask = write_mask(tmp_path / "mask.png", SPOT, 18)
    fit_recipe("plain", good, tmp_path)
    report = fit_recipe("masked", good, tmp_path, ignore_mask=mask)
    assert report.choices["ignore_mask"] == "mask.png" and 0.01 < report.choices["ignored_share"] < 0.1
    for number in (1, 2, 3):
        hidden, seen = draw_spot(number, 5), draw_spot(number, 5, (110, 150))
        assert verdict_of(tmp_path, "plain", hidden) is VerdictKind.NG
        assert verdict_of(tmp_path, "masked", hidden) is VerdictKind.OK
        assert verdict_of(tmp_path, "masked", seen) is VerdictKind.NG
    moved = np.roll(draw_spot(4, 5), (-6, 9), axis=(0, 1))
    assert verdict_of(tmp_path, "masked", moved) is not VerdictKind.NG


def test_masks_and_sizes_that_cannot_be(good: Path, tmp_path: Path) -> None:
    """Each is refused with what is wrong, before anything is stored."""
    wrong = tmp_path / "wrong.png"
    cv2.imwrite(str(wrong), np.zeros((10, 10), np.uint8))
    with pytest.raises(DatasetError, match="is 10x10 px, the frames are 320x240 px"):
        fit_recipe("x", good, tmp_path, ignore_mask=wrong)
    with pytest.raises(DatasetError, match=r"nowhere\.png"):
        fit_recipe("x", good, tmp_path, ignore_mask=tmp_path / "nowhere.png")
    with pytest.raises(FitError, match="nothing is left to judge"):
        fit_recipe("x", good, tmp_path, ignore_mask=write_mask(tmp_path / "all.png", (160, 120), 150))
    assert not (tmp_path / "recipes" / "x").exists()


def test_a_surface_has_no_places_to_ignore(tmp_path: Path) -> None:
    """A mask is drawn on a pose, and a texture has none."""
    good = tmp_path / "good"
    good.mkdir()
    for number in range(8):
        noise = np.random.default_rng(number).normal(128, 20, (HEIGHT_PX, WIDTH_PX, 3))
        cv2.imwrite(str(good / f"{number}.png"), np.clip(noise, 0, 255).astype(np.uint8))
    with pytest.raises(FitError, match="needs a part in a fixed pose"):
        fit_recipe("x", good, tmp_path, ignore_mask=write_mask(tmp_path / "mask.png", SPOT, 20))
