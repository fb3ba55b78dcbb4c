"""The masks and the measures of the twin's trial: what is hidden, and how near a twin comes."""

from __future__ import annotations

import math

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inspector.records import AnomalyMap
from tests.part_images import paint_board
from tools.twin.masks import LARGEST_SHARE, SIDES_PX, Mask, SampledMask, sample_mask
from tools.twin.quality import MaskScore, map_ssim, mean_ssim, pool_psnr, score_mask
from tools.twin.real_defects import score_inside
from tools.twin.sets import spoil


def sample(seed: int, part: Mask) -> SampledMask:
    return sample_mask(np.random.default_rng(seed), part)


def test_masks_are_those_of_the_seed_and_differ_between_seeds() -> None:
    part = np.ones((700, 900), np.bool_)
    assert np.array_equal(sample(3, part).mask, sample(3, part).mask)
    assert len({sample(seed, part).box_xyxy_px for seed in range(30)}) == 30
    assert {sample(seed, part).shape for seed in range(30)} == {"rectangle", "ellipse", "blob"}


def test_sides_are_log_uniform_between_16_and_256_px() -> None:
    """As many longer sides below 64 px, the middle on a logarithmic scale, as above."""
    part = np.ones((700, 900), np.bool_)
    boxes = [sample(seed, part).box_xyxy_px for seed in range(200)]
    longer = np.array([max(x1 - x0, y1 - y0) for x0, y0, x1, y1 in boxes])
    assert longer.min() >= SIDES_PX[0] - 1 and longer.max() <= SIDES_PX[1]
    assert 0.4 < (longer < 64).mean() < 0.6


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10_000), height=st.integers(20, 400), width=st.integers(20, 400))
def test_a_mask_fits_its_box_and_leaves_something_to_see(seed: int, height: int, width: int) -> None:
    found = sample(seed, np.ones((height, width), np.bool_))
    x0, y0, x1, y1 = found.box_xyxy_px
    assert 0 <= x0 < x1 <= width and 0 <= y0 < y1 <= height
    assert x1 - x0 <= max(4, width * LARGEST_SHARE) and y1 - y0 <= max(4, height * LARGEST_SHARE)
    assert cv2.boundingRect(found.mask.astype(np.uint8)) == (x0, y0, x1 - x0, y1 - y0)


def test_masks_lie_on_the_part() -> None:
    """A part in one corner gets all the masks; where a large mask cannot fit, most of its middle is on it."""
    part = np.zeros((600, 800), np.bool_)
    part[50:350, 40:400] = True
    shares = [part[found.mask].mean() for found in (sample(seed, part) for seed in range(60))]
    assert np.median(shares) > 0.9 and min(shares) > 0.3
    with pytest.raises(ValueError, match="no part"):
        sample(1, np.zeros((50, 50), np.bool_))


def test_a_spoiled_frame_is_wrong_under_the_mask_and_the_same_elsewhere() -> None:
    pixels = paint_board(1)
    for seed in range(12):
        found = sample(seed, np.ones(pixels.shape[:2], np.bool_))
        spoiled = spoil(pixels, found)
        assert np.array_equal(spoiled[~found.mask], pixels[~found.mask])
        assert score_mask(spoiled, pixels, found.mask).psnr_db < 16


def test_psnr_of_a_known_error() -> None:
    """An error of 5 grey levels is 34.15 dB; pixels outside the mask do not count; none at all is 99 dB."""
    truth = np.full((60, 80, 3), 100, np.uint8)
    mask = np.zeros((60, 80), np.bool_)
    mask[20:40, 30:50] = True
    painted = truth.copy()
    painted[mask] += 5
    assert score_mask(painted, truth, mask).psnr_db == pytest.approx(10 * math.log10(255**2 / 25))
    painted[~mask] = 0
    assert score_mask(painted, truth, mask).values == 20 * 20 * 3
    assert score_mask(painted, truth, mask).psnr_db == pytest.approx(34.1514, abs=1e-4)
    assert score_mask(truth, truth, mask).psnr_db == 99.0
    with pytest.raises(ValueError, match="empty"):
        score_mask(truth, truth, np.zeros_like(mask))


def test_psnr_is_pooled_over_pixels_and_ssim_averaged_over_masks() -> None:
    """A large bad mask outweighs a small good one in decibels, not in SSIM."""
    small, large = MaskScore(0.0, 100, 1.0), MaskScore(25.0 * 9900, 9900, 0.5)
    assert pool_psnr([small, large]) == pytest.approx(10 * math.log10(255**2 / (25 * 0.99)))
    assert mean_ssim([small, large]) == 0.75


def test_ssim_of_flat_images_is_that_of_the_formula() -> None:
    """Without structure only the luminance term is left: (2ab + C1) / (a² + b² + C1)."""
    found = map_ssim(np.full((30, 30), 100.0), np.full((30, 30), 120.0))
    constant = (0.01 * 255) ** 2
    assert found == pytest.approx((2 * 100 * 120 + constant) / (100**2 + 120**2 + constant))


def test_ssim_is_that_of_the_definition() -> None:
    """Against the weighted means, variances and covariance of one window, computed one by one (Wang et al. 2004)."""
    dice = np.random.default_rng(5)
    one = cv2.GaussianBlur(dice.uniform(0, 255, (41, 41)), (0, 0), 2.0)
    other = one + dice.normal(0, 6, one.shape)
    weights = np.array([[math.exp(-(x * x + y * y) / (2 * 1.5**2)) for x in range(-5, 6)] for y in range(-5, 6)])
    weights /= weights.sum()
    a, b = one[12:23, 15:26], other[12:23, 15:26]
    mean_a, mean_b = (weights * a).sum(), (weights * b).sum()
    var_a, var_b = (weights * (a - mean_a) ** 2).sum(), (weights * (b - mean_b) ** 2).sum()
    both = (weights * (a - mean_a) * (b - mean_b)).sum()
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    expected = (2 * mean_a * mean_b + c1) * (2 * both + c2) / ((mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2))
    found = map_ssim(np.asarray(one, np.float64), np.asarray(other, np.float64))
    assert found[17, 20] == pytest.approx(expected, rel=1e-9)
    assert 0.2 < expected < 0.99


def test_ssim_counts_the_masked_pixels_alone() -> None:
    pixels = paint_board(1)
    mask = np.zeros(pixels.shape[:2], np.bool_)
    mask[100:140, 120:170] = True
    far = pixels.copy()
    far[:60] = 0
    assert score_mask(far, pixels, mask).ssim == pytest.approx(1.0)
    blurred = np.asarray(cv2.GaussianBlur(pixels, (0, 0), 4.0), np.uint8)
    assert score_mask(blurred, pixels, mask).ssim < 0.9


def test_the_score_inside_is_that_of_the_cells_a_mask_touches() -> None:
    scores = np.zeros((4, 5), np.float32)
    scores[1, 2], scores[3, 4] = 2.0, 9.0
    mask = np.zeros((64, 80), np.bool_)
    mask[31, 47] = True
    assert score_inside(AnomalyMap(scores, 16), mask) == 2.0
    mask[31, 47], mask[10, 10] = False, True
    assert score_inside(AnomalyMap(scores, 16), mask) == 0.0
