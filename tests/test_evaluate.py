"""`evaluate`: measures against hand-counted examples, and what a broken data set does."""

from __future__ import annotations

import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from inspector.errors import DatasetError
from inspector.records import AnomalyMap
from pipelines.dataset import open_test_set
from pipelines.evaluate import evaluate_recipe
from pipelines.fit import fit_recipe
from pipelines.metrics import PixelMeasures, count_in_cells, image_measures
from tests.part_images import HEIGHT, WIDTH, paint_board, write_images


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set in the MVTec convention with masks, and a recipe fitted on it, in one folder."""
    root = tmp_path_factory.mktemp("dataset")
    write_images(root / "train" / "good", [paint_board(seed) for seed in range(12)])
    write_images(root / "test" / "good", [paint_board(seed) for seed in range(50, 56)])
    write_images(root / "test" / "blob", [paint_board(seed, defect=True) for seed in range(60, 66)])
    masks = root / "ground_truth" / "blob"
    masks.mkdir(parents=True)
    for index in range(6):
        mask = np.zeros((HEIGHT, WIDTH), np.uint8)
        cv2.circle(mask, (WIDTH // 2, HEIGHT // 2), 20, 255, -1)
        cv2.imwrite(str(masks / f"{index:03d}_mask.png"), mask)
    fit_recipe("board", root / "train" / "good", root)
    return root


def test_a_good_recipe_scores_well_and_reports_every_field(dataset: Path) -> None:
    """Obvious blobs: separated without error at image level and located at pixel level."""
    report = evaluate_recipe("board", dataset, dataset).to_json()
    expected = {
        "images",
        "image_auroc",
        "image_ap",
        "image_f1_max",
        "pixel_auroc",
        "pixel_ap",
        "aupro",
        "review_threshold",
        "ng_threshold",
        "false_alarm_rate",
        "miss_rate",
        "latency_ms",
    }
    assert expected <= set(report)
    assert (report["images"], report["image_auroc"], report["miss_rate"]) == (12, 1.0, 0.0)
    assert report["pixel_auroc"] > 0.95 and report["aupro"] > 0.7
    assert set(report["latency_ms"]) == {"p50", "p95", "p99"}


def test_what_cannot_be_computed_is_null(dataset: Path, tmp_path: Path) -> None:
    """Only good images: no AUROC, no miss rate; defects without masks: no pixel measures."""
    shutil.copytree(dataset / "test" / "good", tmp_path / "only" / "test" / "good")
    only = evaluate_recipe("board", tmp_path / "only", dataset).to_json()
    assert only["image_auroc"] is None and only["miss_rate"] is None and only["pixel_ap"] is None
    assert only["false_alarm_rate"] is not None
    shutil.copytree(dataset / "test", tmp_path / "unmasked" / "test")
    unmasked = evaluate_recipe("board", tmp_path / "unmasked", dataset).to_json()
    assert unmasked["image_auroc"] == 1.0 and unmasked["pixel_auroc"] is None


def test_a_refused_image_is_an_alarm_above_all_scores(dataset: Path, tmp_path: Path) -> None:
    """A broken file and a frame of another size, labelled good, rank above every defect and count as false alarms."""
    root = Path(shutil.copytree(dataset / "test", tmp_path / "refused" / "test")).parent
    before = evaluate_recipe("board", root, dataset).to_json()
    (root / "test" / "good" / "900.png").write_bytes(b"broken")
    cv2.imwrite(str(root / "test" / "good" / "901.png"), np.zeros((100, 100, 3), np.uint8))
    after = evaluate_recipe("board", root, dataset).to_json()
    assert after["refused"] == before["refused"] + 2
    assert after["image_auroc"] == pytest.approx(before["image_auroc"] * 6 / 8)
    assert after["false_alarm_rate"] == pytest.approx((before["false_alarm_rate"] * 6 + 2) / 8)


def test_folders_that_are_not_data_sets_are_explained(dataset: Path, tmp_path: Path) -> None:
    """The sentence says what was expected; a mask of another size names its file."""
    with pytest.raises(DatasetError, match="no folder `test`"):
        open_test_set(tmp_path)
    (tmp_path / "test" / "good").mkdir(parents=True)
    with pytest.raises(DatasetError, match="holds no images"):
        open_test_set(tmp_path)
    root = tmp_path / "masked"
    shutil.copytree(dataset / "test", root / "test")
    shutil.copytree(dataset / "ground_truth", root / "ground_truth")
    cv2.imwrite(str(root / "ground_truth" / "blob" / "002_mask.png"), np.zeros((9, 9), np.uint8))
    with pytest.raises(DatasetError, match=r"002_mask\.png is 9x9 px"):
        evaluate_recipe("board", root, dataset)


def test_image_measures_agree_with_counting() -> None:
    """Four good and three defective images: AUROC is the share of ordered pairs, with ties as halves."""
    scores, defective = [0.1, 0.4, 0.4, 0.8, 0.4, 0.9, float("inf")], [False, False, False, False, True, True, True]
    pairs = [(bad > good) + 0.5 * (bad == good) for bad in scores[4:] for good in scores[:4]]
    found = image_measures(scores, defective)
    assert found["image_auroc"] == pytest.approx(np.mean(pairs))
    assert found["image_f1_max"] == pytest.approx(0.8)


def test_pixel_measures_agree_with_a_slow_reference() -> None:
    """Counting by cells and bins equals ranking all pixels of the enlarged maps; incomplete cells included."""
    random = np.random.default_rng(9)
    measures = PixelMeasures()
    all_scores, all_labels = [], []
    regions: list[np.ndarray[tuple[int, ...], np.dtype[np.float32]]] = []
    for index in range(3):
        scores = random.gamma(2.0, 0.5, (7, 9)).astype(np.float32)
        mask = np.zeros((26, 35), np.bool_)
        if index:
            mask[3:9, 4:15], mask[15:22, 20:30] = True, True
        measures.add(AnomalyMap(scores, 4), mask)
        enlarged = scores.repeat(4, axis=0).repeat(4, axis=1)[:26, :35]
        all_scores.append(enlarged.ravel())
        all_labels.append(mask.ravel())
        for region in (np.s_[3:9, 4:15], np.s_[15:22, 20:30]) if index else ():
            regions.append(enlarged[region].ravel())
    scores_flat, labels = np.concatenate(all_scores), np.concatenate(all_labels)
    found = measures.measures()
    assert found["pixel_auroc"] == pytest.approx(_auroc_slowly(scores_flat, labels), abs=1e-3)
    assert found["aupro"] == pytest.approx(_aupro_slowly(scores_flat, labels, regions), abs=5e-3)


def _auroc_slowly(
    scores: np.ndarray[tuple[int, ...], np.dtype[np.float32]], labels: np.ndarray[tuple[int, ...], np.dtype[np.bool_]]
) -> float:
    good, bad = scores[~labels], scores[labels]
    return float(np.mean([(value > good).mean() + 0.5 * (value == good).mean() for value in bad]))


def _aupro_slowly(
    scores: np.ndarray[tuple[int, ...], np.dtype[np.float32]],
    labels: np.ndarray[tuple[int, ...], np.dtype[np.bool_]],
    regions: list[np.ndarray[tuple[int, ...], np.dtype[np.float32]]],
) -> float:
    thresholds = np.unique(scores)[::-1]
    rates = np.array([0.0, *((scores[~labels] >= value).mean() for value in thresholds)])
    overlaps = np.array([0.0, *(np.mean([(part >= value).mean() for part in regions]) for value in thresholds)])
    grid = np.linspace(0.0, 0.3, 3001)
    return float(np.trapezoid(np.interp(grid, rates, overlaps), grid) / 0.3)


def test_cells_count_their_pixels() -> None:
    """Against summing slices, with a last row and column of incomplete cells."""
    mask = np.random.default_rng(1).random((11, 14)) > 0.5
    counted = count_in_cells(mask, 4, (3, 4))
    for row in range(3):
        for column in range(4):
            assert counted[row, column] == mask[row * 4 : row * 4 + 4, column * 4 : column * 4 + 4].sum()
