"""Thresholds from good scores: the promise is kept, odd images do not set them, and too few images say so."""

from __future__ import annotations

import numpy as np
import pytest

from inspector.detector.calibration import binomial_interval, calibrate, find_odd


def test_the_promised_false_alarm_rate_is_kept() -> None:
    """Over many draws of 40 good images, new good parts alarm at the target rate or less, on average."""
    random = np.random.default_rng(1)
    rates = []
    for _ in range(300):
        scores = 1.0 + random.gamma(9.0, 0.1, 40)
        review = calibrate(scores.tolist(), 0.05, 40).thresholds.review
        rates.append((1.0 + random.gamma(9.0, 0.1, 2000) >= review).mean())
    assert np.mean(rates) == pytest.approx(0.05, abs=0.02)


def test_few_images_extrapolate_and_say_so() -> None:
    """With 8 images a target of 5 % lies beyond 1/9: the threshold is above all scores and the promise says why."""
    scores = np.random.default_rng(2).normal(1.0, 0.1, 8).tolist()
    found = calibrate(scores, 0.05, 8)
    assert found.thresholds.review > max(scores)
    assert "1/9" in found.promise and "extrapolation" in found.promise


def test_one_image_promises_nothing() -> None:
    """The interval is all of 0..1 and the sentence says so."""
    found = calibrate([0.9, 1.0, 1.1, 1.0, 0.95, 1.05, 1.02, 0.98], 0.05, 1)
    assert found.interval == (0.0, 1.0)
    assert "no false-alarm rate" in found.promise


@pytest.mark.parametrize("odd", [1, 2])
def test_odd_good_images_do_not_set_the_threshold(odd: int) -> None:
    """One or two scores far from all others are named and left out; the threshold moves by little."""
    clean = np.random.default_rng(3).normal(1.0, 0.1, 30)
    spoiled = clean.copy()
    spoiled[[4, 17][:odd]] = [4.0, 7.0][:odd]
    found = calibrate(spoiled.tolist(), 0.05, 30)
    assert found.odd == (4, 17)[:odd]
    assert found.thresholds.review == pytest.approx(calibrate(clean.tolist(), 0.05, 30).thresholds.review, rel=0.1)


def test_ordinary_images_are_not_called_odd() -> None:
    """Over many draws of 20 good images hardly any is left out."""
    random = np.random.default_rng(4)
    named = [len(find_odd(random.gamma(20.0, 0.05, 20))) for _ in range(300)]
    assert np.mean(named) < 0.15


def test_thresholds_are_ordered_even_for_equal_scores() -> None:
    """Identical images give finite thresholds, review above every score and NG above review."""
    found = calibrate([1.0] * 12, 0.05, 12)
    assert 1.0 < found.thresholds.review < found.thresholds.ng < 2.0


@pytest.mark.parametrize(
    ("hits", "count", "expected"), [(0, 20, (0.0, 0.1684)), (1, 20, (0.0013, 0.2487)), (20, 20, (0.8316, 1.0))]
)
def test_the_interval_is_clopper_pearson(hits: int, count: int, expected: tuple[float, float]) -> None:
    """Against published values of the exact binomial interval."""
    assert binomial_interval(hits, count) == pytest.approx(expected, abs=1e-4)


def test_one_image_among_few_does_not_set_the_threshold_alone() -> None:
    """Of 29 images one lies far out: the tail's answer is taken; of 300 the conformal order statistic is."""
    dice = np.random.default_rng(4)
    few = [*(1.0 + dice.exponential(0.2, 28)), 2.4]
    assert 1.4 < calibrate(few, 0.05, 29).thresholds.review < 2.3
    many = sorted(1.0 + dice.exponential(0.2, 300))
    assert calibrate(many, 0.05, 300).thresholds.review in {np.nextafter(score, np.inf) for score in many[280:290]}
