"""From good images to a recipe to its measures: what `evaluate` prints, and what `fit` makes of odd good images."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from inspector.detector.recipe_store import RecipeStore
from inspector.detector.scorer import Scorer
from inspector.errors import DatasetError, FitError, RecipeError, RecipeNotFoundError
from inspector.images import decode_image, encode_jpeg
from inspector.records import BgrImage, VerdictKind
from pipelines.dataset import TestImage
from pipelines.evaluate import evaluate_image, evaluate_recipe
from pipelines.fit import fit_recipe
from pipelines.inspect_frame import decide_verdict
from tests.small_line import HEIGHT_PX, RECIPE, WIDTH_PX, draw_part, jpeg_part

KEYS = {
    "images", "image_auroc", "image_ap", "image_f1_max", "pixel_auroc", "pixel_ap", "aupro", "review_threshold",
    "ng_threshold", "false_alarm_rate", "miss_rate", "latency_ms",
}  # fmt: skip
FIT_KEYS = {
    "recipe", "version", "images", "fit_s", "mode", "review_threshold", "ng_threshold", "false_alarm_target",
    "false_alarm_interval", "choices",
}  # fmt: skip


@pytest.fixture(scope="module")
def taught(taught_plate: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data directory with the small recipe, released."""
    return shutil.copytree(taught_plate / "data", tmp_path_factory.mktemp("taught") / "data")


@pytest.fixture(scope="module")
def scorer(taught: Path) -> Scorer:
    """A detector of the small recipe."""
    return RecipeStore(taught).load(RECIPE).scorer()


def write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def spot_mask() -> bytes:
    """Where `draw_part` puts its dark spot, with a margin for the part's shift."""
    mask = np.zeros((HEIGHT_PX, WIDTH_PX), np.uint8)
    cv2.circle(mask, (195, 120), 13, 255, -1)
    return bytes(cv2.imencode(".png", mask)[1])


@pytest.fixture
def data_set(tmp_path: Path) -> Path:
    """Four good parts and three with a spot, with masks."""
    root = tmp_path / "plate"
    for number in range(4):
        write(root / "test" / "good" / f"{number:03d}.jpg", jpeg_part(number))
    for number in range(3):
        write(root / "test" / "spot" / f"{number:03d}.jpg", jpeg_part(50 + number, defect=True))
        write(root / "ground_truth" / "spot" / f"{number:03d}_mask.png", spot_mask())
    return root


def write_good(folder: Path, images: list[BgrImage]) -> Path:
    """A folder of good images for `fit`."""
    for number, pixels in enumerate(images):
        write(folder / f"{number:03d}.jpg", encode_jpeg(pixels, 95))
    return folder


def verdict_of(scorer: Scorer, pixels: BgrImage) -> VerdictKind:
    return decide_verdict(scorer.score_frame(pixels), scorer.thresholds).kind


def test_every_key_of_the_design_is_printed(taught: Path, data_set: Path) -> None:
    """A clean set is separated at image and pixel level, and the result is valid JSON."""
    seen: list[float] = []
    report = evaluate_recipe(RECIPE, data_set, taught, progress=lambda _, share: seen.append(share))
    printed = json.loads(json.dumps(report.to_json(), allow_nan=False))
    assert set(printed) >= KEYS
    assert (printed["images"], printed["refused"]) == (7, 0)
    assert printed["image_auroc"] == printed["image_ap"] == printed["image_f1_max"] == pytest.approx(1.0)
    assert printed["pixel_auroc"] > 0.97
    assert printed["aupro"] > 0.85
    assert 0.3 < printed["pixel_ap"] <= 1.0
    assert (printed["miss_rate"], printed["miss_rate_by_defect"]) == (0.0, {"spot": 0.0})
    latency = printed["latency_ms"]
    assert set(latency) == {"p50", "p95", "p99"}
    assert 0 < latency["p50"] <= latency["p95"] <= latency["p99"]
    assert len(seen) == 7
    assert seen[-1] == 1.0


def test_thresholds_are_the_recipe_s(taught: Path, data_set: Path, scorer: Scorer) -> None:
    """Evaluating reports the thresholds that run, and fits nothing to the test set."""
    report = evaluate_recipe(f"{RECIPE}@1", data_set, taught)
    assert (report.review_threshold, report.ng_threshold) == (scorer.thresholds.review, scorer.thresholds.ng)
    assert (report.ref.name, report.ref.version) == (RECIPE, 1)


def test_measures_without_all_masks_are_null(taught: Path, data_set: Path) -> None:
    """One missing mask and the pixel measures cannot be computed; the others can."""
    (data_set / "ground_truth" / "spot" / "001_mask.png").unlink()
    printed = evaluate_recipe(RECIPE, data_set, taught).to_json()
    assert [printed[key] for key in ("pixel_auroc", "pixel_ap", "aupro")] == [None, None, None]
    assert printed["image_auroc"] == 1.0


@pytest.mark.parametrize(("kept", "missing"), [("good", "miss_rate"), ("spot", "false_alarm_rate")])
def test_one_kind_of_image_only(taught: Path, data_set: Path, kept: str, missing: str) -> None:
    """What needs the other kind is null, its rate included; the keys stay."""
    for folder in (data_set / "test").iterdir():
        if folder.name != kept:
            folder.rename(data_set / folder.name)
    printed = evaluate_recipe(RECIPE, data_set, taught).to_json()
    assert set(printed) >= KEYS
    assert [printed[key] for key in ("image_auroc", "image_ap", "image_f1_max", missing)] == [None] * 4


def test_refused_good_images_rank_above_every_defect(taught: Path, data_set: Path, scorer: Scorer) -> None:
    """Unreadable and wrong-size good parts stop the line: alarms, above all scores, and none of it a crash."""
    wide = np.asarray(cv2.resize(draw_part(1), (WIDTH_PX * 2, HEIGHT_PX)), np.uint8)
    write(data_set / "test" / "good" / "wide.jpg", encode_jpeg(wide, 95))
    write(data_set / "test" / "good" / "broken.jpg", jpeg_part(2)[:-300])
    write(data_set / "test" / "good" / "empty.jpg", b"")
    clean = [TestImage(data_set / "test" / "good" / f"{number:03d}.jpg", None, None) for number in range(4)]
    clean_alarms = sum(evaluate_image(image, scorer).alarm for image in clean)
    report = evaluate_recipe(RECIPE, data_set, taught)
    assert (report.images, report.refused) == (10, 3)
    # Three of seven good images are above each of the three defective ones, the other four below.
    assert report.image_auroc == pytest.approx(4 / 7)
    assert report.false_alarm_rate == pytest.approx((3 + clean_alarms) / 7)
    assert report.miss_rate == 0.0
    assert report.pixel_auroc is not None
    assert set(report.latency_ms) == {"p50", "p95", "p99"}


def test_refused_defective_images_are_caught(taught: Path, data_set: Path) -> None:
    """A defective part that cannot be judged is not passed: no miss, and it ranks first."""
    write(data_set / "test" / "spot" / "broken.jpg", jpeg_part(60, defect=True)[:-300])
    write(data_set / "ground_truth" / "spot" / "broken_mask.png", spot_mask())
    report = evaluate_recipe(RECIPE, data_set, taught)
    assert (report.refused, report.miss_rate, report.image_auroc) == (1, 0.0, 1.0)
    assert report.aupro is not None


def test_a_set_of_refused_images_only(taught: Path, tmp_path: Path) -> None:
    """Every key is still there; latencies of nothing are null."""
    write(tmp_path / "test" / "good" / "000.jpg", b"")
    write(tmp_path / "test" / "spot" / "000.jpg", b"")
    printed = json.loads(json.dumps(evaluate_recipe(RECIPE, tmp_path, taught).to_json(), allow_nan=False))
    assert set(printed) >= KEYS
    assert (printed["false_alarm_rate"], printed["miss_rate"], printed["refused"]) == (1.0, 0.0, 2)
    assert printed["latency_ms"] == {"p50": None, "p95": None, "p99": None}


def test_an_image_that_is_not_the_part_is_refused(scorer: Scorer, tmp_path: Path) -> None:
    """A frame that cannot be registered is an alarm with its reason, and ranks above all scores."""
    write(tmp_path / "odd.png", bytes(cv2.imencode(".png", np.full((HEIGHT_PX, WIDTH_PX, 3), 45, np.uint8))[1]))
    result = evaluate_image(TestImage(tmp_path / "odd.png", None, None), scorer)
    assert result.alarm
    assert result.score == math.inf
    assert result.refusal is not None
    assert "registration confidence" in result.refusal


@pytest.mark.parametrize("number", range(3))
def test_an_alarm_is_any_verdict_but_ok(scorer: Scorer, tmp_path: Path, number: int) -> None:
    """Alarm and verdict of the same file agree, for good and for defective parts."""
    for defect in (False, True):
        encoded = jpeg_part(number, defect=defect)
        write(tmp_path / "part.jpg", encoded)
        result = evaluate_image(TestImage(tmp_path / "part.jpg", None, None), scorer)
        verdict = verdict_of(scorer, decode_image(encoded))
        assert result.alarm == (verdict is not VerdictKind.OK)
        assert result.scoring is not None
        assert (result.score, result.refusal) == (result.scoring.score, None)
        assert verdict is VerdictKind.NG or not defect


def test_what_cannot_be_evaluated(taught: Path, tmp_path: Path, data_set: Path) -> None:
    """No recipe, no test folder, a mask of another size: each is named."""
    with pytest.raises(RecipeNotFoundError, match="no recipe named other"):
        evaluate_recipe("other", data_set, taught)
    with pytest.raises(DatasetError, match="no folder `test`"):
        evaluate_recipe(RECIPE, tmp_path / "nothing", taught)
    write(data_set / "ground_truth" / "spot" / "000_mask.png", bytes(cv2.imencode(".png", np.zeros((9, 9)))[1]))
    with pytest.raises(DatasetError, match=r"spot/000_mask\.png is 9x9 px, its image 320x240"):
        evaluate_recipe(RECIPE, data_set, taught)


def test_fit_with_one_good_image_promises_nothing(tmp_path: Path) -> None:
    """One image is accepted and says what it is worth; the taught part is OK, a clear defect is not."""
    good = write_good(tmp_path / "good", [draw_part(1000)])
    report = fit_recipe("single", good, tmp_path / "data")
    printed = json.loads(json.dumps(report.to_json(), allow_nan=False))
    assert set(printed) == FIT_KEYS
    assert (printed["images"], printed["false_alarm_interval"]) == (1, [0.0, 1.0])
    assert "no false-alarm rate can be promised" in printed["choices"]["promise"]
    scorer = RecipeStore(tmp_path / "data").load("single").scorer()
    assert verdict_of(scorer, decode_image((good / "000.jpg").read_bytes())) is VerdictKind.OK
    assert verdict_of(scorer, draw_part(1, defect=True)) is VerdictKind.NG
    scores = [scorer.score_frame(draw_part(number, defect=number >= 4)).score for number in range(8)]
    assert max(scores[:4]) < min(scores[4:])


def stained_parts(stains: int) -> list[BgrImage]:
    """Twelve good parts, the first one or two of which should not be among them."""
    parts = [draw_part(1000 + number).copy() for number in range(12)]
    cv2.rectangle(parts[0], (100, 90), (125, 140), (20, 20, 20), -1)
    if stains > 1:
        cv2.circle(parts[1], (170, 160), 18, (250, 250, 250), -1)
    return parts


def test_one_odd_good_image_is_left_out_and_named(tmp_path: Path) -> None:
    """It moves no threshold: good parts stay OK and a clear defect NG."""
    good = write_good(tmp_path / "good", stained_parts(1))
    report = fit_recipe("odd", good, tmp_path / "data")
    assert report.choices["odd_images"] == ["000.jpg"]
    scorer = RecipeStore(tmp_path / "data").load("odd").scorer()
    assert [verdict_of(scorer, draw_part(number)) for number in range(3)] == [VerdictKind.OK] * 3
    assert verdict_of(scorer, draw_part(4, defect=True)) is VerdictKind.NG


@pytest.fixture(scope="module")
def stained(tmp_path_factory: pytest.TempPathFactory) -> Scorer:
    """A detector taught with twelve images, two of which are odd."""
    root = tmp_path_factory.mktemp("stained")
    fit_recipe("odd", write_good(root / "good", stained_parts(2)), root / "data")
    return RecipeStore(root / "data").load("odd").scorer()


def test_good_parts_stay_ok_after_two_odd_good_images(stained: Scorer) -> None:
    """Two of twelve spoil nothing for the parts that are as they should be."""
    assert [verdict_of(stained, draw_part(number)) for number in range(6)] == [VerdictKind.OK] * 6


def test_a_clear_defect_stays_ng_after_two_odd_good_images(stained: Scorer) -> None:
    """Two of twelve do not lift the thresholds over a defect that everybody sees."""
    assert [verdict_of(stained, draw_part(number, defect=True)) for number in range(3)] == [VerdictKind.NG] * 3


@pytest.mark.parametrize("level", [0, 90, 255])
def test_constant_images_give_an_error_or_a_recipe_that_works(tmp_path: Path, level: int) -> None:
    """A lens cap, a saturated sensor: its own images may be odd but never NG; a part it never saw is not OK."""
    flat = np.full((HEIGHT_PX, WIDTH_PX, 3), level, np.uint8)
    good = write_good(tmp_path / "good", [flat] * 12)
    try:
        fit_recipe("flat", good, tmp_path / "data")
    except FitError:
        assert RecipeStore(tmp_path / "data").names() == ()
        return
    scorer = RecipeStore(tmp_path / "data").load("flat").scorer()
    assert verdict_of(scorer, decode_image((good / "000.jpg").read_bytes())) is not VerdictKind.NG
    assert verdict_of(scorer, draw_part(1)) is not VerdictKind.OK


@pytest.mark.parametrize("inside", ["nothing", "text", "missing"])
def test_fit_without_images(tmp_path: Path, inside: str) -> None:
    """The error names the folder, and no recipe appears."""
    good = tmp_path / "good"
    if inside != "missing":
        good.mkdir()
    if inside == "text":
        (good / "notes.txt").write_text("none")
    with pytest.raises(DatasetError, match=r"good (holds no images|is not a folder)"):
        fit_recipe("none", good, tmp_path / "data")
    assert not (tmp_path / "data").exists()


def test_fit_names_the_image_it_cannot_read(tmp_path: Path) -> None:
    """One broken file among the good images is named, and no recipe appears."""
    good = write_good(tmp_path / "good", [draw_part(1), draw_part(2), draw_part(3)])
    (good / "001.jpg").write_bytes(jpeg_part(2)[:-300])
    with pytest.raises(DatasetError, match=r"001\.jpg: .*not complete"):
        fit_recipe("broken", good, tmp_path / "data")
    assert RecipeStore(tmp_path / "data").names() == ()


def test_fit_refuses_impossible_wishes(tmp_path: Path) -> None:
    """Unknown modes, impossible targets and names that are none are refused, and no recipe appears."""
    good = write_good(tmp_path / "good", [draw_part(1)])
    with pytest.raises(FitError, match="mode 'magic'"):
        fit_recipe("plate", good, tmp_path / "data", mode="magic")
    for target in (0.0, 0.5, -1.0, math.nan):
        with pytest.raises(FitError, match="false alarm target"):
            fit_recipe("plate", good, tmp_path / "data", false_alarm_target=target)
    with pytest.raises(RecipeError, match="recipe name"):
        fit_recipe("../plate", good, tmp_path / "data")
    assert not list(tmp_path.rglob("manifest.json"))
