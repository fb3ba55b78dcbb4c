"""`fit`: from a folder of good images to a released recipe that tells good from bad."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pytest

from inspector.detector.manifest import PartSettings
from inspector.detector.recipe import Recipe
from inspector.detector.recipe_store import RecipeStore
from inspector.errors import DatasetError, FitError, RecipeMismatchError
from inspector.records import Scoring, VerdictKind
from pipelines.fit import FitReport, fit_recipe
from pipelines.inspect_frame import decide_verdict
from tests.part_images import HEIGHT, WIDTH, paint_board, paint_surface, write_images


@pytest.fixture(scope="module")
def board(tmp_path_factory: pytest.TempPathFactory) -> tuple[FitReport, Recipe]:
    """A recipe of 20 good boards."""
    root = tmp_path_factory.mktemp("board")
    good = write_images(root / "good", [paint_board(seed) for seed in range(20)])
    report = fit_recipe("board", good, root / "data")
    return report, RecipeStore(root / "data").load("board")


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Recipe:
    """A recipe of frames so large that they are screened at a reduced scale and looked at closely in tiles."""
    root = tmp_path_factory.mktemp("large")
    good = write_images(root / "good", [_large_board(seed) for seed in range(8)])
    fit_recipe("large", good, root / "data")
    return RecipeStore(root / "data").load("large")


def _large_board(seed: int) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    return paint_board(seed, width=1500, height=900)


def _verdict(recipe: Recipe, scoring: Scoring) -> VerdictKind:
    return decide_verdict(scoring, recipe.thresholds).kind


def test_the_report_has_the_fields_of_the_command_line(board: tuple[FitReport, Recipe]) -> None:
    """`fit --json` prints these names; the mode and its reason are recorded in the recipe too."""
    report, recipe = board
    assert set(report.to_json()) == {
        "recipe",
        "version",
        "images",
        "fit_s",
        "mode",
        "review_threshold",
        "ng_threshold",
        "false_alarm_target",
        "false_alarm_interval",
        "choices",
    }
    assert (report.mode, report.images, report.version) == ("located", 20, 1)
    assert recipe.manifest.choices["mode_reason"].startswith("the detail of registered good images matches")
    compared = recipe.manifest.choices["candidates"]
    # Both banks, each alone, and both with the general net.
    assert recipe.manifest.choices["painted_defects"] > 0 and len(compared) == 4
    assert isinstance(recipe.manifest.settings, PartSettings)
    assert recipe.manifest.choices["heads"] == list(recipe.manifest.settings.heads)
    assert "1/21" in recipe.manifest.promise


def test_good_boards_pass_and_defects_alarm(board: tuple[FitReport, Recipe]) -> None:
    """Unseen good boards are mostly OK, every board with a blob is not, and its worst box lies on the blob."""
    _, recipe = board
    scorer = recipe.scorer()
    good = [_verdict(recipe, scorer.score_frame(paint_board(seed))) for seed in range(100, 116)]
    assert good.count(VerdictKind.OK) >= 13
    for seed in range(200, 206):
        scoring = scorer.score_frame(paint_board(seed, defect=True))
        assert _verdict(recipe, scoring) is not VerdictKind.OK
        x0, y0, x1, y1 = scoring.detections[0].box_xyxy_px
        assert x0 <= WIDTH / 2 < x1 and y0 <= HEIGHT / 2 < y1
        assert scoring.score == pytest.approx(scoring.detections[0].score)


def test_scores_are_reproducible_and_thread_safe(board: tuple[FitReport, Recipe]) -> None:
    """The same pixels give the same score and map, alone or beside others, from one scorer or another."""
    _, recipe = board
    frames = [paint_board(seed) for seed in range(300, 304)]
    scorer = recipe.scorer()
    alone = [scorer.score_frame(frame) for frame in frames]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(scorer.score_frame, frames * 3))
    again = recipe.scorer(threads=2).score_frame(frames[0])
    assert all(one.score == alone[index % 4].score for index, one in enumerate(together))
    assert np.allclose(again.anomaly_map.scores, alone[0].anomaly_map.scores)


def test_a_frame_of_another_size_is_refused(board: tuple[FitReport, Recipe]) -> None:
    """A located recipe says both sizes."""
    _, recipe = board
    with pytest.raises(RecipeMismatchError, match=f"320x200 px, the recipe was fitted on {WIDTH}x{HEIGHT}"):
        recipe.scorer().score_frame(np.zeros((200, 320, 3), np.uint8))


def test_an_empty_station_is_odd(board: tuple[FitReport, Recipe]) -> None:
    """Nothing to register: the reason names the confidence and its limit, and the verdict is REVIEW."""
    _, recipe = board
    scoring = recipe.scorer().score_frame(np.full((HEIGHT, WIDTH, 3), (60, 100, 70), np.uint8))
    assert scoring.oddities[-1].startswith("registration confidence 0.")
    assert _verdict(recipe, scoring) is VerdictKind.REVIEW


def test_too_little_or_too_much_light_is_odd(board: tuple[FitReport, Recipe]) -> None:
    """A frame far darker or brighter than any good one says so; an ordinary change of light does not."""
    scorer = board[1].scorer()
    frame = paint_board(1).astype(np.float64)
    for gain, odd in ((0.2, True), (0.9, False), (1.1, False), (2.4, True)):
        scoring = scorer.score_frame(np.clip(frame * gain, 0, 255).astype(np.uint8))
        assert any(text.startswith("mean level") for text in scoring.oddities) is odd


def test_a_frame_out_of_focus_is_odd(board: tuple[FitReport, Recipe]) -> None:
    """A blurred frame goes to review with the reason, whatever its score; an empty station too; a sharp one not."""
    scorer = board[1].scorer()
    frame = paint_board(3)
    assert not any(text.startswith("sharpness") for text in scorer.score_frame(frame).oddities)
    blurred = scorer.score_frame(np.asarray(cv2.GaussianBlur(frame, (0, 0), 3.0), np.uint8))
    assert any("out of focus" in text for text in blurred.oddities)
    assert _verdict(board[1], blurred) is VerdictKind.REVIEW
    empty = scorer.score_frame(np.full_like(frame, 90))
    assert empty.oddities and _verdict(board[1], empty) is VerdictKind.REVIEW


def test_the_map_covers_the_frame(board: tuple[FitReport, Recipe], large: Recipe) -> None:
    """Cells times their size reach the frame's edges, at full and at reduced scale."""
    for recipe, frame in ((board[1], paint_board(1)), (large, _large_board(1))):
        anomaly_map = recipe.scorer().score_frame(frame).anomaly_map
        rows, columns = anomaly_map.scores.shape
        assert 0 <= rows * anomaly_map.cell_px - frame.shape[0] < anomaly_map.cell_px
        assert 0 <= columns * anomaly_map.cell_px - frame.shape[1] < anomaly_map.cell_px


def test_small_defects_on_large_frames_are_found_at_full_resolution(large: Recipe) -> None:
    """A thin scratch that the reduced screen hardly shows raises the score and is boxed where it is."""
    scorer = large.scorer()
    frame = _large_board(50)
    clean = scorer.score_frame(frame)
    scratched = frame.copy()
    cv2.line(scratched, (700, 420), (730, 440), (250, 250, 250), 2)
    scoring = scorer.score_frame(scratched)
    assert scoring.score > max(1.2 * clean.score, large.thresholds.review)
    x0, y0, x1, y1 = scoring.detections[0].box_xyxy_px
    assert x0 < 730 and x1 > 700 and y0 < 440 and y1 > 420


def test_surfaces_are_recognised_and_take_any_size(tmp_path: Path) -> None:
    """Images without common structure give a position-free recipe that finds a scratch on a frame of another size."""
    good = write_images(tmp_path / "good", [paint_surface(seed) for seed in range(16)])
    report = fit_recipe("metal", good, tmp_path)
    recipe = RecipeStore(tmp_path).load("metal")
    assert report.mode == "surface" and recipe.frame_size is None
    scorer = recipe.scorer()
    fine = scorer.score_frame(paint_surface(90, width=400, height=300))
    bad = scorer.score_frame(paint_surface(91, width=400, height=300, defect=True))
    assert _verdict(recipe, bad) is not VerdictKind.OK and bad.score > 1.5 * fine.score
    x0, y0, x1, y1 = bad.detections[0].box_xyxy_px
    assert x0 < 210 and x1 > 200 and y0 < 190 and y1 > 150


def test_images_of_different_sizes_are_a_surface(tmp_path: Path) -> None:
    """The reason is recorded."""
    sizes = [(200, 160), (240, 180), (180, 200)]
    images = [paint_surface(seed, width=sizes[seed % 3][0], height=sizes[seed % 3][1]) for seed in range(9)]
    report = fit_recipe("mixed", write_images(tmp_path / "good", images), tmp_path)
    assert report.mode == "surface" and "3 different sizes" in report.choices["mode_reason"]


def test_one_good_image_is_accepted_without_a_promise(tmp_path: Path) -> None:
    """It passes itself, an obvious defect alarms, and the interval says that nothing is promised."""
    report = fit_recipe("one", write_images(tmp_path / "good", [paint_board(5)]), tmp_path)
    recipe = RecipeStore(tmp_path).load("one")
    assert report.false_alarm_interval == (0.0, 1.0) and "no false-alarm rate" in report.choices["promise"]
    scorer = recipe.scorer()
    assert _verdict(recipe, scorer.score_frame(paint_board(5))) is VerdictKind.OK
    assert _verdict(recipe, scorer.score_frame(paint_board(5, defect=True))) is not VerdictKind.OK


def test_two_odd_good_images_are_named_and_do_not_blind_the_recipe(tmp_path: Path) -> None:
    """Two defective boards among the good ones: both are named, and such a defect still alarms."""
    images = [paint_board(seed, defect=seed in (3, 11)) for seed in range(24)]
    report = fit_recipe("odd", write_images(tmp_path / "good", images), tmp_path)
    recipe = RecipeStore(tmp_path).load("odd")
    assert report.choices["odd_images"] == ["003.png", "011.png"]
    scoring = recipe.scorer().score_frame(paint_board(400, defect=True))
    assert _verdict(recipe, scoring) is not VerdictKind.OK


def test_constant_images_can_be_fitted(tmp_path: Path) -> None:
    """Without any structure or variation the recipe is finite, passes its own images and notices a spot."""
    flat = np.full((120, 160, 3), 128, np.uint8)
    fit_recipe("flat", write_images(tmp_path / "good", [flat] * 8), tmp_path)
    recipe = RecipeStore(tmp_path).load("flat")
    spot = flat.copy()
    cv2.circle(spot, (80, 60), 8, (20, 20, 20), -1)
    scorer = recipe.scorer()
    assert np.isfinite(scorer.score_frame(flat).score)
    assert scorer.score_frame(flat).score < recipe.thresholds.review < scorer.score_frame(spot).score


def test_folders_without_images_and_broken_images_are_named(tmp_path: Path) -> None:
    """The sentence names the folder or the file."""
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(DatasetError, match="empty holds no images"):
        fit_recipe("none", empty, tmp_path)
    with pytest.raises(DatasetError, match="missing is not a folder"):
        fit_recipe("none", tmp_path / "missing", tmp_path)
    good = write_images(tmp_path / "good", [paint_board(seed) for seed in range(3)])
    (good / "001.png").write_bytes(b"not an image")
    with pytest.raises(DatasetError, match=r"001\.png"):
        fit_recipe("broken", good, tmp_path)


def test_modes_and_targets_that_do_not_exist_are_refused(tmp_path: Path) -> None:
    """Template mode belongs to a later version; a target must be a rate."""
    good = write_images(tmp_path / "good", [paint_board(1)])
    with pytest.raises(FitError, match="template"):
        fit_recipe("board", good, tmp_path, mode="template")
    with pytest.raises(FitError, match="between 0 and"):
        fit_recipe("board", good, tmp_path, false_alarm_target=0.9)


def test_progress_is_reported(tmp_path: Path) -> None:
    """Each stage ends with everything done."""
    heard: list[tuple[str, float]] = []
    good = write_images(tmp_path / "good", [paint_board(seed) for seed in range(4)])
    fit_recipe("board", good, tmp_path, progress=lambda stage, done: heard.append((stage, done)))
    assert heard[-1][1] == 1.0 and all(0.0 <= done <= 1.0 for _, done in heard)
