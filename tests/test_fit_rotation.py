"""Parts at any angle and in perspective: they are judged as in a fixed pose, or refused where that was not taught."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from inspector.detector.recipe_store import RecipeStore
from inspector.errors import FitError
from inspector.records import BgrImage, VerdictKind
from pipelines.fit import fit_recipe
from pipelines.inspect_frame import decide_verdict
from tests.part_images import paint_board, paint_surface, write_images
from tests.test_geometry_registration import tilt

SIDE = 400


def lay_down(seed: int, degrees: float, *, defect: bool = False) -> BgrImage:
    """A board on a table of 400x400 px, turned about the middle."""
    board = cv2.copyMakeBorder(paint_board(seed, defect=defect), 80, 80, 40, 40, cv2.BORDER_REPLICATE)
    turn = cv2.getRotationMatrix2D(((SIDE - 1) / 2, (SIDE - 1) / 2), degrees, 1.0)
    turned = cv2.warpAffine(
        board, turn, (SIDE, SIDE), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_CONSTANT, borderValue=(60, 100, 70)
    )
    return np.asarray(turned, np.uint8)


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("rotation")
    angles = np.random.default_rng(4).uniform(0, 360, 12)
    good = write_images(root / "good", [lay_down(seed, float(angle)) for seed, angle in enumerate(angles)])
    report = fit_recipe("free", good, root, rotation="free")
    assert report.mode == "located" and report.choices["rotation"] == "free"
    still = write_images(root / "still", [lay_down(seed, 0.0) for seed in range(8)])
    fit_recipe("small", still, root)
    return root


@pytest.mark.parametrize("degrees", [5.0, 73.0, 141.0, 209.0, 277.0, 345.0])
def test_a_part_is_judged_at_any_angle(data_dir: Path, degrees: float) -> None:
    """Good parts score below the NG threshold, defective ones are NG, and the defect's box is where it turned to."""
    recipe = RecipeStore(data_dir).load("free")
    scorer = recipe.scorer()
    seed = 100 + int(degrees)
    good = decide_verdict(scorer.score_frame(lay_down(seed, degrees)), recipe.thresholds)
    bad = decide_verdict(scorer.score_frame(lay_down(seed, degrees, defect=True)), recipe.thresholds)
    assert good.kind in (VerdictKind.OK, VerdictKind.REVIEW) and bad.kind is VerdictKind.NG
    assert good.score is not None and bad.score is not None and bad.score > 3 * good.score
    x0, y0, x1, y1 = bad.detections[0].box_xyxy_px
    assert x0 < SIDE / 2 < x1 and y0 < SIDE / 2 < y1, "the defect lies in the middle, whatever the angle"


def test_without_the_freedom_a_turned_part_is_refused(data_dir: Path) -> None:
    """REVIEW with the confidence as the reason, not a false NG."""
    recipe = RecipeStore(data_dir).load("small")
    verdict = decide_verdict(recipe.scorer().score_frame(lay_down(7, 120.0)), recipe.thresholds)
    assert verdict.kind is VerdictKind.REVIEW
    assert any("registration confidence" in reason for reason in verdict.reasons)


def test_what_cannot_be_turned_is_refused(tmp_path: Path) -> None:
    """A surface has no angle, and there are two kinds of rotation."""
    good = write_images(tmp_path / "good", [paint_surface(seed) for seed in range(8)])
    with pytest.raises(FitError, match="free rotation needs a part"):
        fit_recipe("x", good, tmp_path, rotation="free")
    with pytest.raises(FitError, match="rotation 'any' does not exist: small or free"):
        fit_recipe("x", good, tmp_path, rotation="any")


def test_perspective_is_chosen_where_the_good_images_show_it(tmp_path: Path) -> None:
    """Boards seen from a little aside are fitted with perspective, flat ones without; a defect is found in either."""
    tilted = [tilt(paint_board(seed), seed)[0] for seed in range(10)]
    deep = fit_recipe("deep", write_images(tmp_path / "tilted", tilted), tmp_path)
    flat = fit_recipe("flat", write_images(tmp_path / "flat", [paint_board(seed) for seed in range(10)]), tmp_path)
    assert (deep.choices["motion"], flat.choices["motion"]) == ("perspective", "affine"), deep.choices
    recipe = RecipeStore(tmp_path).load("deep")
    scorer = recipe.scorer()
    for seed in range(100, 106):
        good, bad = (tilt(paint_board(seed, defect=defect), seed)[0] for defect in (False, True))
        scoring = scorer.score_frame(bad)
        assert decide_verdict(scoring, recipe.thresholds).kind is VerdictKind.NG
        assert scoring.score > 2 * scorer.score_frame(good).score
        assert scoring.registration is not None and scoring.registration.matrix.shape == (3, 3)
        x0, y0, x1, y1 = scoring.detections[0].box_xyxy_px
        assert x0 < 168 and x1 > 152 and y0 < 128 and y1 > 112, "the defect lies in the middle of the frame"
