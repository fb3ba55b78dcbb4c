"""Measures against scikit-learn on every single pixel and against slow, obvious references."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, roc_auc_score

from inspector.records import AnomalyMap
from pipelines.metrics import AUPRO_LIMIT, PixelMeasures, count_in_cells, image_measures, score_bins

Mask = NDArray[np.bool_]
Scores = NDArray[np.float32]
NOTHING_AT_IMAGE_LEVEL = {"image_auroc": None, "image_ap": None, "image_f1_max": None}
NOTHING_AT_PIXEL_LEVEL = {"pixel_auroc": None, "pixel_ap": None, "aupro": None}


def slow_auroc(scores: list[float], defective: list[bool]) -> float:
    """The share of pairs in the right order; a tie is half right."""
    bad = [score for score, label in zip(scores, defective, strict=True) if label]
    good = [score for score, label in zip(scores, defective, strict=True) if not label]
    right = sum((b > g) + 0.5 * (b == g) for b in bad for g in good)
    return right / (len(bad) * len(good))


def slow_f1_max(scores: list[float], defective: list[bool]) -> float:
    """The best F1 over every threshold that can be told from another."""
    best = 0.0
    for limit in set(scores):
        called = [score >= limit for score in scores]
        hits = sum(c and d for c, d in zip(called, defective, strict=True))
        best = max(best, 2 * hits / (sum(called) + sum(defective)))
    return best


def find_regions(mask: Mask) -> list[Mask]:
    """The connected regions of a mask, corners touching, by flooding."""
    left = {(int(row), int(column)) for row, column in np.argwhere(mask)}
    regions = []
    while left:
        region, edge = np.zeros_like(mask), [left.pop()]
        while edge:
            row, column = edge.pop()
            region[row, column] = True
            around = {(row + dy, column + dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)} & left
            left -= around
            edge.extend(around)
        regions.append(region)
    return regions


def slow_aupro(images: list[tuple[Scores, Mask]], limit: float = AUPRO_LIMIT) -> float:
    """Bergmann et al. 2020 on full-resolution scores: one point for each threshold, trapezoids up to the limit."""
    good = np.concatenate([scores[~mask] for scores, mask in images])
    regions = [scores[region] for scores, mask in images for region in find_regions(mask)]
    area, x0, y0 = 0.0, 0.0, 0.0
    for threshold in sorted({float(score) for scores, _ in images for score in scores.ravel()}, reverse=True):
        x1 = float((good >= threshold).mean())
        y1 = float(np.mean([(region >= threshold).mean() for region in regions]))
        if x1 > limit:
            cut = y0 + (y1 - y0) * (limit - x0) / (x1 - x0)
            return (area + (limit - x0) * (y0 + cut) / 2) / limit
        area += (x1 - x0) * (y0 + y1) / 2
        x0, y0 = x1, y1
    return (area + (limit - x0) * y0) / limit


def enlarge(scores: Scores, cell_px: int, shape: tuple[int, ...]) -> Scores:
    """The score of every pixel."""
    return np.asarray(np.kron(scores, np.ones((cell_px, cell_px), np.float32))[: shape[0], : shape[1]], np.float32)


def draw_mask(rng: np.random.Generator, shape: tuple[int, int]) -> Mask:
    """Rectangles and single pixels that may touch at a corner, overlap or reach the border."""
    mask = np.zeros(shape, np.bool_)
    for _ in range(int(rng.integers(1, 4))):
        row, column = int(rng.integers(0, shape[0])), int(rng.integers(0, shape[1]))
        mask[row : row + int(rng.integers(1, 9)), column : column + int(rng.integers(1, 9))] = True
    return mask


def random_images(seed: int, cell_px: int, levels: int) -> Iterator[tuple[AnomalyMap, Mask]]:
    """Six frames of a size that is no multiple of the cell, two of them good; defects score higher on average."""
    rng = np.random.default_rng(seed)
    shape = (29, 37)
    grid = (math.ceil(shape[0] / cell_px), math.ceil(shape[1] / cell_px))
    for number in range(6):
        mask = np.zeros(shape, np.bool_) if number < 2 else draw_mask(rng, shape)
        lifted = count_in_cells(mask, cell_px, grid) / cell_px**2
        scores = rng.integers(0, levels, grid) / levels * 3.0 + np.round(lifted * 2.0, 1)
        yield AnomalyMap(scores.astype(np.float32), cell_px), mask


@pytest.mark.parametrize("seed", range(12))
def test_image_measures_agree_with_slow_references(seed: int) -> None:
    """AUROC, average precision and best F1 are those of the field, with many ties and with refused images."""
    rng = np.random.default_rng(seed)
    defective = [True, False, *(rng.random(38) < rng.uniform(0.1, 0.9)).tolist()]
    scores = [float(value) for value in rng.integers(0, 8, 40) / 4 + np.array(defective) * rng.uniform(0, 1.5)]
    scores[3] = scores[7] = math.inf
    finite = [min(score, 1e6) for score in scores]
    found = image_measures(scores, defective)
    assert found["image_auroc"] == pytest.approx(slow_auroc(finite, defective), abs=1e-12)
    assert found["image_ap"] == pytest.approx(float(average_precision_score(defective, finite)), abs=1e-12)
    assert found["image_f1_max"] == pytest.approx(slow_f1_max(finite, defective), abs=1e-9)


def test_neighbouring_scores_are_not_ties() -> None:
    """Scores that differ in the last bit keep their order."""
    low, high = 1.0, math.nextafter(1.0, 2.0)
    assert image_measures([low, high], [False, True])["image_auroc"] == 1.0
    assert image_measures([high, low], [False, True])["image_auroc"] == 0.0


@pytest.mark.parametrize(("scores", "defective"), [([], []), ([1.0, 2.0], [True, True]), ([1.0, 2.0], [False, False])])
def test_image_measures_need_both_kinds(scores: list[float], defective: list[bool]) -> None:
    """With one kind of image only, or none, nothing can be said."""
    assert image_measures(scores, defective) == NOTHING_AT_IMAGE_LEVEL


@pytest.mark.parametrize("cell_px", [1, 4, 7])
@pytest.mark.parametrize("levels", [3, 40])
@pytest.mark.parametrize("seed", range(4))
def test_pixel_measures_agree_with_every_single_pixel(seed: int, levels: int, cell_px: int) -> None:
    """Counting by cells and bins gives what scikit-learn and a slow AUPRO give on all pixels, ties included."""
    measures = PixelMeasures()
    images = []
    for anomaly_map, mask in random_images(seed, cell_px, levels):
        measures.add(anomaly_map, mask)
        images.append((enlarge(anomaly_map.scores, cell_px, mask.shape), mask))
    labels = np.concatenate([mask.ravel() for _, mask in images])
    scores = np.concatenate([scores.ravel() for scores, _ in images])
    found = measures.measures()
    assert found["pixel_auroc"] == pytest.approx(float(roc_auc_score(labels, scores)), abs=1e-9)
    assert found["pixel_ap"] == pytest.approx(float(average_precision_score(labels, scores)), abs=1e-9)
    assert found["aupro"] == pytest.approx(slow_aupro(images), abs=1e-9)


def test_continuous_scores_lose_less_than_the_third_decimal() -> None:
    """Scores that share a bin become ties; that moves no measure by 0.001, from tiny scores to huge ones."""
    rng = np.random.default_rng(5)
    measures, images = PixelMeasures(), []
    for _ in range(4):
        mask = draw_mask(rng, (48, 64))
        scores = (rng.lognormal(0.0, 2.0, mask.shape) * np.where(mask, 3.0, 1.0)).astype(np.float32)
        measures.add(AnomalyMap(scores, 1), mask)
        images.append((scores, mask))
    labels = np.concatenate([mask.ravel() for _, mask in images])
    scores = np.concatenate([scores.ravel() for scores, _ in images])
    found = measures.measures()
    assert found["pixel_auroc"] == pytest.approx(float(roc_auc_score(labels, scores)), abs=1e-3)
    assert found["pixel_ap"] == pytest.approx(float(average_precision_score(labels, scores)), abs=1e-3)
    assert found["aupro"] == pytest.approx(slow_aupro(images), abs=1e-3)


def test_aupro_counts_regions_alike_whatever_their_size() -> None:
    """A region of one pixel weighs as much as one of a hundred; pixels weigh in the pixel AUROC instead."""
    mask = np.zeros((40, 40), np.bool_)
    mask[2:12, 2:12] = mask[30, 30] = True
    scores = np.zeros((40, 40), np.float32)
    scores[2:12, 2:12] = 5.0
    measures = PixelMeasures()
    measures.add(AnomalyMap(scores, 1), mask)
    # Half of the regions found at no false positive, then on a line to all of both.
    assert measures.measures()["aupro"] == pytest.approx((0.5 + 0.5 + 0.5 * AUPRO_LIMIT) / 2)


def test_aupro_ends_at_the_limit_when_a_point_lies_on_it() -> None:
    """What is found only beyond the limit counts nothing, also when the curve has a step exactly at the limit."""
    mask = np.zeros((1, 12), np.bool_)
    mask[0, 0] = mask[0, 11] = True
    scores = np.array([[5, 4, 4, 4, 1, 1, 1, 1, 1, 1, 1, 3]], np.float32)
    measures = PixelMeasures()
    measures.add(AnomalyMap(scores, 1), mask)
    assert slow_aupro([(scores, mask)]) == pytest.approx(0.5)
    assert measures.measures()["aupro"] == pytest.approx(0.5)


@pytest.mark.parametrize("score", [0.0, 1.0, 1e30])
def test_a_map_that_says_nothing(score: float) -> None:
    """The same score everywhere is chance: AUROC a half, average precision the share of defective pixels."""
    mask = np.zeros((20, 20), np.bool_)
    mask[:5, :4] = True
    measures = PixelMeasures()
    measures.add(AnomalyMap(np.full((20, 20), score, np.float32), 1), mask)
    found = measures.measures()
    assert found["pixel_auroc"] == pytest.approx(0.5)
    assert found["pixel_ap"] == pytest.approx(20 / 400)
    assert found["aupro"] == pytest.approx(AUPRO_LIMIT / 2)


@pytest.mark.parametrize("filled", [True, False])
def test_pixel_measures_need_both_kinds(filled: bool) -> None:
    """With good or defective pixels only, nothing can be said; nor before the first image."""
    measures = PixelMeasures()
    assert measures.measures() == NOTHING_AT_PIXEL_LEVEL
    measures.add(AnomalyMap(np.ones((4, 4), np.float32), 8), np.full((32, 32), filled, np.bool_))
    assert measures.measures() == NOTHING_AT_PIXEL_LEVEL


def test_bins_keep_the_order_of_scores() -> None:
    """A higher score never falls into a lower bin, and the largest float is still in one."""
    scores = np.sort(np.random.default_rng(1).lognormal(0.0, 6.0, 5000)).astype(np.float32)
    bins = score_bins(np.append(scores, np.finfo(np.float32).max))
    assert (np.diff(bins) >= 0).all()
    assert bins[0] >= 0


@pytest.mark.parametrize("cell_px", [1, 3, 8, 64])
def test_pixels_are_counted_in_the_cell_they_lie_in(cell_px: int) -> None:
    """Counts agree with looking at every pixel, the incomplete cells at the end included."""
    mask = np.random.default_rng(cell_px).random((21, 34)) < 0.3
    grid = (math.ceil(21 / cell_px), math.ceil(34 / cell_px))
    expected = np.zeros(grid)
    for row, column in np.argwhere(mask):
        expected[row // cell_px, column // cell_px] += 1
    assert np.array_equal(count_in_cells(mask, cell_px, grid), expected)
