"""The compiled comparisons against slow references."""

from __future__ import annotations

import numpy as np
import pytest

from inspector.detector import comparison
from inspector.detector.comparison import LargestDeviation, LargestZ, PositionDistance


@pytest.mark.parametrize("tolerance", [0, 1, 2])
@pytest.mark.parametrize("strip_values", [1, 70, 10**6])
def test_distance_agrees_with_a_slow_reference(
    tolerance: int, strip_values: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Equal to looking at every cell and every shift one by one, however the rows are cut into strips."""
    monkeypatch.setattr(comparison, "STRIP_VALUES", strip_values)
    random = np.random.default_rng(4)
    rim = 2 * tolerance
    features = random.normal(size=(3, 15, 7)).astype(np.float32)
    mean = random.normal(size=(3, 15 + rim, 7 + rim)).astype(np.float16)
    inverse_sd = random.uniform(0.5, 2.0, (3, 15 + rim, 7 + rim)).astype(np.float16)
    expected = np.full((15, 7), np.inf)
    for row in range(15):
        for column in range(7):
            for y in range(row, row + rim + 1):
                for x in range(column, column + rim + 1):
                    z = (features[:, row, column] - mean[:, y, x]) * inverse_sd[:, y, x]
                    expected[row, column] = min(expected[row, column], np.sqrt(np.mean(z.astype(np.float64) ** 2)))
    found = PositionDistance(tolerance).compute(features, mean, inverse_sd)
    assert np.allclose(found, expected, atol=1e-3)


@pytest.mark.parametrize("strip_values", [1, 10**6])
def test_largest_deviation_agrees_with_numpy(strip_values: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The largest deviation of all channels from their position's mean, whichever its sign."""
    monkeypatch.setattr(comparison, "STRIP_VALUES", strip_values)
    random = np.random.default_rng(6)
    features = random.normal(1.0, 2.0, (5, 11, 9)).astype(np.float32)
    mean = random.normal(size=(5, 11, 9)).astype(np.float16)
    inverse_sd = random.uniform(0.5, 2.0, (5, 11, 9)).astype(np.float16)
    expected = (np.abs(features - mean) * inverse_sd).max(axis=0)
    assert np.allclose(LargestDeviation().compute(features, mean, inverse_sd), expected, atol=1e-4)


@pytest.mark.parametrize("strip_values", [1, 10**6])
def test_largest_z_agrees_with_numpy(strip_values: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The largest z of all channels, never below 0 and never above the limit."""
    monkeypatch.setattr(comparison, "STRIP_VALUES", strip_values)
    random = np.random.default_rng(5)
    features, gain, offset = random.normal(1.0, 2.0, (3, 6, 11, 9)).astype(np.float32)
    level = random.uniform(0.5, 2.0, 6).astype(np.float32)
    expected = np.clip((features / level[:, None, None] * gain - offset).max(axis=0), 0.0, 4.0)
    assert np.allclose(LargestZ(4.0).compute(features, level, gain, offset), expected, atol=1e-5)
