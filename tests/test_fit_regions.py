"""Regions with thresholds and least sizes of their own: from the file a person writes to the verdict."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from inspector.detector.defect_size import measure_size_px
from inspector.detector.judged_regions import TOO_SMALL_SCORE, JudgedRegions, Region, stretch_scores
from inspector.detector.recipe_store import RecipeStore
from inspector.detector.region_calibration import calibrate_regions
from inspector.detector.region_file import ELSEWHERE, RegionEntry, RegionPlan, load_regions, reduce_labels
from inspector.errors import ConfigError, DatasetError, FitError, RecipeMismatchError
from inspector.geometry.boxes import clip_box
from inspector.records import BgrImage, Scoring, Thresholds, VerdictKind
from inspector.scenes.overlays import paint_defect
from pipelines.fit import fit_recipe
from pipelines.inspect_frame import decide_verdict
from pipelines.station_recipe import ActiveRecipe
from tests.part_images import paint_board
from tests.small_line import HEIGHT_PX, WIDTH_PX, call_inspector, draw_part, folder_camera, small_plant

FRAME = (WIDTH_PX, HEIGHT_PX)
SPOT = (195, 120)
MM_PER_PX = 0.1


@pytest.fixture(scope="module")
def good(taught_plate: Path) -> Path:
    return taught_plate / "good"


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def draw_spot(number: int, radius: float, at: tuple[int, int] = SPOT) -> BgrImage:
    frame = draw_part(number)
    cv2.circle(frame, (at[0] * 16, at[1] * 16), round(radius * 16), (30, 30, 35), -1, cv2.LINE_AA, 4)
    return frame


def score(data_dir: Path, name: str, frame: BgrImage) -> tuple[VerdictKind, Scoring]:
    recipe = RecipeStore(data_dir).load(name)
    scoring = recipe.scorer().score_frame(frame)
    return decide_verdict(scoring, recipe.thresholds).kind, scoring


# --- the file ---------------------------------------------------------------------------------------


def test_later_regions_lie_on_top_and_json_is_read(tmp_path: Path) -> None:
    """Boxes, polygons and masks fill the same picture; the last one that covers a pixel owns it."""
    mask = np.zeros((HEIGHT_PX, WIDTH_PX), np.uint8)
    mask[:10, :10] = 255
    cv2.imwrite(str(tmp_path / "corner.png"), mask)
    regions = [
        {"name": "box", "boxes": [[20, 20, 60, 60], [100, 20, 120, 30]]},
        {"name": "polygon", "polygon": [[50, 50], [90, 50], [50, 90]], "sensitivity": 2},
        {"name": "mask", "mask": "corner.png", "min_defect_mm": 0.5},
    ]
    plan = load_regions(write(tmp_path / "regions.json", json.dumps({"regions": regions})), FRAME, 0.1)
    at = {"box": (30, 30), "second": (110, 25), "shared": (55, 55), "mask": (5, 5), "none": (200, 200)}
    found = {name: int(plan.labels[y, x]) for name, (x, y) in at.items()}
    assert found == {"box": 1, "second": 1, "shared": 2, "mask": 3, "none": 0}
    cells = reduce_labels(plan.labels, 12)
    assert cells.shape == (20, 27) and cells[2, 2] == 1 and cells[0, 0] == 3 and cells[19, 26] == 0


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("regions: [{name: a, boxes: [[0, 0, 9, 9]], polygon: [[0, 0], [9, 0], [0, 9]]}]", "exactly one of boxes"),
        ("regions: [{name: a}]", "exactly one of boxes"),
        ("regions:\n  - name: a\n    boxs: [[0, 0, 9, 9]]", r"regions.yaml:3: .*boxs: unknown key; did you mean boxes"),
        ("regions: [{name: a, boxes: [[9, 0, 0, 9]]}]", "x1 > x0"),
        ("regions: [{name: a, polygon: [[0, 0], [9, 0]]}]", "at least 3 points"),
        ("regions: [{name: a, boxes: [[0, 0, 9, 9]], sensitivity: 2, false_alarm_target: 0.01}]", "either"),
        ("regions: [{name: a, boxes: [[0, 0, 9, 9]], false_alarm_target: 0.7}]", "less than 0.5"),
        ("regions: [{name: a, boxes: [[0, 0, 9, 9]]}, {name: a, boxes: [[0, 0, 9, 9]]}]", "'a' appears twice"),
        ("regions: [{name: elsewhere, boxes: [[0, 0, 9, 9]]}]", "lies in no region"),
        ("min_defect_mm: -1", "greater than 0"),
        ("{}", "says nothing"),
        ("", "expected keys such as regions"),
    ],
)
def test_a_file_that_is_wrong_is_refused_with_its_line(tmp_path: Path, text: str, said: str) -> None:
    """Every mistake has a sentence that names the file."""
    with pytest.raises(ConfigError, match=said) as found:
        load_regions(write(tmp_path / "regions.yaml", text), FRAME, 0.1)
    assert "regions.yaml:" in str(found.value)


def test_regions_that_cannot_be(good: Path, tmp_path: Path) -> None:
    """Outside the image or the part, a size without a scale, more false alarms than there are: nothing is stored."""
    outside = write(tmp_path / "outside.yaml", "regions: [{name: far, boxes: [[900, 900, 950, 950]]}]")
    with pytest.raises(FitError, match="'far' lies outside the golden image of 320x240 px"):
        fit_recipe("x", good, tmp_path, regions=outside)
    table = write(tmp_path / "table.yaml", "regions: [{name: table, boxes: [[0, 0, 8, 8]]}]")
    with pytest.raises(FitError, match="'table' lies outside the part"):
        fit_recipe("x", good, tmp_path, regions=table)
    with pytest.raises(FitError, match="fit with --mm-per-px"):
        fit_recipe("x", good, tmp_path, regions=write(tmp_path / "size.yaml", "min_defect_mm: 1"))
    greedy = write(
        tmp_path / "greedy.yaml", "regions: [{name: a, boxes: [[100, 80, 160, 130]], false_alarm_target: 0.05}]"
    )
    with pytest.raises(FitError, match=r"nothing is left of the recipe's 0\.05"):
        fit_recipe("x", good, tmp_path, regions=greedy)
    masked = write(tmp_path / "masked.yaml", "regions: [{name: a, mask: nowhere.png}]")
    with pytest.raises(DatasetError, match=r"nowhere\.png"):
        fit_recipe("x", good, tmp_path, regions=masked)
    assert not (tmp_path / "recipes" / "x").exists()


def test_a_surface_has_no_regions(tmp_path: Path) -> None:
    """Regions are drawn on a pose, and a texture has none."""
    (tmp_path / "good").mkdir()
    for number in range(8):
        noise = np.random.default_rng(number).normal(128, 20, (HEIGHT_PX, WIDTH_PX, 3))
        cv2.imwrite(str(tmp_path / "good" / f"{number}.png"), np.clip(noise, 0, 255).astype(np.uint8))
    with pytest.raises(FitError, match="need a part in a fixed pose"):
        fit_recipe("x", tmp_path / "good", tmp_path, mm_per_px=0.1)


# --- thresholds -------------------------------------------------------------------------------------


def test_stretched_scores_keep_their_order_and_meet_the_thresholds() -> None:
    """A region's own thresholds fall on the common ones; below, between and above nothing changes places."""
    own, common = Thresholds(0.4, 0.6), Thresholds(1.2, 2.0)
    scores = np.array([0.0, 0.2, 0.4, 0.5, 0.6, 6.0], np.float32)
    assert stretch_scores(scores, own, common) == pytest.approx([0.0, 0.6, 1.2, 1.6, 2.0, 20.0], rel=1e-6)
    many = np.sort(np.random.default_rng(1).uniform(0, 2, 500).astype(np.float32))
    assert (np.diff(stretch_scores(many, own, common)) >= 0).all()


def worst_places(rng: np.random.Generator, images: int) -> list[NDArray[np.float32]]:
    """Maps of good parts: the left half loud, the right half quiet, one column a region."""
    return [rng.exponential([1.0, 0.2], (6, 2)).astype(np.float32) for _ in range(images)]


def test_the_sum_of_the_targets_bounds_the_false_alarms_of_the_part() -> None:
    """99 good images, 5 % in all, 2 % of it for a quiet region: over many trials the whole part keeps 5 %."""
    labels = np.array([[0, 1]] * 6, np.uint8)
    entry = RegionEntry(name="quiet", boxes=((0, 0, 1, 1),), false_alarm_target=0.02)
    plan = RegionPlan(labels, (entry,), None, None)
    alarms, own_alarms = [], []
    for trial in range(150):
        rng = np.random.default_rng(trial)
        found = calibrate_regions(worst_places(rng, 99), labels, plan, 0.05, 99)
        fresh = [found.regions.stretch(image) for image in worst_places(rng, 60)]
        review = found.calibration.thresholds.review
        alarms += [float(image.max()) >= review for image in fresh]
        own_alarms += [float(image[:, 1].max()) >= review for image in fresh]
    spread = 3 * np.sqrt(0.05 * 0.95 / len(alarms) * 10)  # images of one trial share its thresholds
    assert 0.01 < np.mean(alarms) <= 0.05 + spread
    assert 0.002 < np.mean(own_alarms) <= 0.02 + spread


def test_a_quiet_region_with_its_own_target_sees_what_the_whole_part_would_hide() -> None:
    """Its threshold follows what is usual in it; with no more than a sensitivity it is that many times stricter."""
    labels = np.array([[0, 1]] * 6, np.uint8)
    held_out = worst_places(np.random.default_rng(3), 99)
    place = ((0, 0, 1, 1),)
    own = RegionEntry(name="quiet", boxes=place, false_alarm_target=0.02)
    twice = RegionEntry(name="quiet", boxes=place, sensitivity=2.0)
    alone = calibrate_regions(held_out, labels, RegionPlan(labels, (own,), None, None), 0.05, 99).regions.regions
    factor = calibrate_regions(held_out, labels, RegionPlan(labels, (twice,), None, None), 0.05, 99).regions.regions
    assert alone[1].own.review < 0.4 * alone[0].own.review
    assert factor[1].own.review == pytest.approx(factor[0].own.review / 2)
    assert [region.name for region in alone] == [ELSEWHERE, "quiet"]


# --- sizes ------------------------------------------------------------------------------------------


def test_only_what_measures_clearly_less_than_the_minimum_is_too_small() -> None:
    """The size decides, not the score; what cannot be measured and what is wide on the map counts as large."""
    labels = np.zeros((40, 40), np.uint8)
    judged = JudgedRegions(labels, (Region(ELSEWHERE, Thresholds(1, 2), 30.0),), Thresholds(1, 2), 0.1)
    scores = np.zeros((40, 40), np.float32)
    scores[2:5, 2:5], scores[20:36, 3:6] = 9.0, 3.0
    sizes: list[tuple[float | None, float]] = [(19.0, TOO_SMALL_SCORE), (21.0, 9.0), (None, 9.0)]
    for size, worst in sizes:

        def measure(box: tuple[int, int, int, int], size: float | None = size) -> float | None:
            return size

        lowered = judged.lower_small_marks(scores, 1.0, 12, measure)
        assert float(lowered[:10].max()) == worst
        assert float(lowered[20:].max()) == 3.0, "16 cells less 12 of spread are 48 px: more than the minimum"


def test_painted_defects_are_measured_well_enough_to_tell_small_from_large() -> None:
    """Spots, pits, scratches and cracks on another photograph of a board: their size within a factor, rarely less."""
    golden, shares = paint_board(1, width=960, height=720), []
    for kind in ("spot", "pit", "scratch", "crack"):
        for seed in range(12):
            painted = paint_defect(golden, kind, seed)
            assert painted is not None
            noise = np.random.default_rng(seed).normal(0, 2, golden.shape)
            frame = np.clip(painted[0] * 1.03 + noise, 0, 255).astype(np.uint8)
            ys, xs = np.nonzero(painted[1])
            true = max(cv2.minAreaRect(np.stack([xs, ys], axis=1).astype(np.float32))[1]) + 1
            box = (int(xs.min()) - 12, int(ys.min()) - 12, int(xs.max()) + 12, int(ys.max()) + 12)
            size = measure_size_px(frame, golden, np.eye(2, 3), clip_box(box, (960, 720)) or box)
            shares.append((size or 0.0) / true)
    low, middle, high = np.quantile(shares, [0.05, 0.5, 0.95])
    assert low > 0.6 and 0.8 < middle < 1.2 and high < 1.5, (low, middle, high)


def test_small_marks_raise_no_verdict_and_larger_ones_do(good: Path, tmp_path: Path) -> None:
    """A speck of 0.4 mm is OK with a minimum of 1.5 mm and NG without; 2.4 mm is NG; the size is in the detection."""
    fit_recipe("plain", good, tmp_path, mm_per_px=MM_PER_PX)
    minimum = write(tmp_path / "size.yaml", "min_defect_mm: 1.5")
    fit_recipe("sized", good, tmp_path, regions=minimum, mm_per_px=MM_PER_PX)
    for number in (1, 2, 3):
        speck, hole = draw_spot(number, 2.0), draw_spot(number, 12.0)
        assert score(tmp_path, "plain", speck)[0] is VerdictKind.NG
        kind, scoring = score(tmp_path, "sized", speck)
        assert kind is VerdictKind.OK and scoring.detections == ()
        kind, scoring = score(tmp_path, "sized", hole)
        assert kind is VerdictKind.NG
        assert scoring.detections[0].size_px == pytest.approx(24.0, rel=0.25)


def test_a_region_has_its_own_verdict_and_name(good: Path, tmp_path: Path) -> None:
    """A mark in a region that is told to be insensitive is OK there and NG elsewhere; the detection says where."""
    lenient = "regions: [{name: stamp, boxes: [[155, 80, 235, 160]], sensitivity: 0.01}]"
    fit_recipe("x", good, tmp_path, regions=write(tmp_path / "regions.yaml", lenient))
    inside, beside = score(tmp_path, "x", draw_spot(1, 3.0)), score(tmp_path, "x", draw_spot(1, 3.0, (110, 155)))
    assert inside[0] is VerdictKind.OK and beside[0] is VerdictKind.NG
    assert beside[1].detections[0].region == ELSEWHERE
    strict = "regions: [{name: stamp, boxes: [[165, 90, 225, 150]], sensitivity: 2}]"
    fit_recipe("y", good, tmp_path, regions=write(tmp_path / "regions.yaml", strict))
    assert score(tmp_path, "y", draw_spot(1, 6.0))[1].detections[0].region == "stamp"


def test_a_recipe_that_measures_needs_a_camera_with_its_scale(good: Path, tmp_path: Path) -> None:
    """A camera without mm_per_px, or with another, is refused by `run` and by `check`; a fitting one is not."""
    minimum = write(tmp_path / "size.yaml", "min_defect_mm: 1.5")
    fit_recipe("plate", good, tmp_path / "data", regions=minimum, mm_per_px=MM_PER_PX)
    recipes = RecipeStore(tmp_path / "data")
    for scale, said in ((None, "camera top has no mm_per_px"), (0.2, "camera top says 0.2"), (0.1005, None)):
        plant = small_plant(folder_camera(tmp_path, mm_per_px=scale))
        active = ActiveRecipe(recipes, "plate", plant.lines[0].stations[0].cameras)
        assert active.try_load_wanted() is (said is None)
        if said is not None:
            assert said in str(active.problem)
            with pytest.raises(RecipeMismatchError, match=said):
                active.preload("plate")
        config = plant.model_dump(mode="json", exclude_none=True)
        path = write(tmp_path / "plant.yaml", json.dumps(config))
        done = call_inspector("check", path, "--data-dir", tmp_path / "data", "--json")
        assert (done.returncode == 0) is (said is None), done.stderr
        assert said is None or (said in done.stderr and "ConfigError" in done.stderr)
