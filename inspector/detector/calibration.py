"""Thresholds from the scores of good images that the statistics have not seen."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from inspector.errors import FitError
from inspector.records import Thresholds

NG_FALSE_ALARM_RATE = 0.001
ODD_P_VALUE = 0.02
LARGEST_ODD_SHARE = 0.1
FEWEST_FOR_ODD = 8
FEWEST_ABOVE = 5
CONFIDENCE = 0.95
FEWEST_CONFIRMED = 20
SMALLEST_UNIT = 0.25
"""In standard deviations: only good images that are all the same come near it."""
LEAST_STEP_TO_NG = 1.02
LOWEST_REVIEW = 1.0
"""A score of 1.0 is an ordinary good image: no threshold lies below."""


@dataclass(frozen=True, slots=True)
class Calibration:
    """Thresholds with what they promise.

    `interval` holds the 95 % confidence limits of the true false-alarm rate at the review threshold, `ng_interval`
    those of the rate at which good parts are called NG.
    `odd` are the indices of good images left out because their score fits no good image.
    """

    thresholds: Thresholds
    interval: tuple[float, float]
    ng_interval: tuple[float, float]
    odd: tuple[int, ...]
    promise: str


def calibrate(
    scores: list[float], false_alarm_target: float, real_images: int, *, keep_promise: bool = False
) -> Calibration:
    """Thresholds for held-out scores of good images.

    With images enough for the target, the review threshold is the conformal one (Vovk et al. 2005): the order
    statistic of the held-out scores that keeps the promise for the next good part. With fewer it is where the tail
    leaves `false_alarm_target`; while fewer than `FEWEST_ABOVE` good images lie above the conformal one, a single
    image sets it, and the tail's answer is taken when that is lower, unless `keep_promise`. The NG
    threshold is where the tail leaves `NG_FALSE_ALARM_RATE` (a tenth of the target when that is less). `real_images`
    is how many independent good images stand behind the scores: fewer than the scores when copies were made of too
    few images.
    """
    values = np.asarray(scores, np.float64)
    odd = find_odd(values)
    kept = np.delete(values, list(odd))
    middle, slope = _tail(kept)
    # A tail estimated from few images is uncertain itself: widen it as a prediction from few samples must be.
    slope *= 1.0 + 2.0 / max(1, real_images)
    ng_rate = min(NG_FALSE_ALARM_RATE, false_alarm_target / 10)
    rank = conformal_rank(len(kept), false_alarm_target)
    review = middle + slope * math.log(0.5 / min(0.5, false_alarm_target))
    if real_images == len(scores) and rank is not None:
        conformal = math.nextafter(float(np.sort(kept)[rank - 1]), math.inf)
        review = conformal if keep_promise or len(kept) - rank >= FEWEST_ABOVE else min(conformal, review)
    review = max(review, LOWEST_REVIEW)
    ng = max(review * LEAST_STEP_TO_NG, middle + slope * math.log(0.5 / ng_rate))
    thresholds = Thresholds(review, ng)
    interval, ng_interval = ((0.0, 1.0), (0.0, 1.0)) if real_images < 2 else alarm_intervals(kept, thresholds)
    return Calibration(thresholds, interval, ng_interval, odd, _promise(real_images, false_alarm_target))


def calibrate_confirmed(scores: list[float], false_alarm_target: float) -> Calibration:
    """`calibrate` for parts that a person confirmed good and that the fit has never seen.

    Odd ones still set no threshold, but they are false alarms: here the intervals count them. Raises `FitError` when
    the promise would be an extrapolation: see `fewest_confirmed`.
    """
    needed = fewest_confirmed(false_alarm_target)
    if len(scores) < needed:
        raise FitError(
            f"{len(scores)} confirmed good parts, at least {needed} are needed for a false-alarm target of "
            f"{false_alarm_target:.2g}"
        )
    found = calibrate(scores, false_alarm_target, len(scores), keep_promise=True)
    if conformal_rank(len(scores) - len(found.odd), false_alarm_target) is None:
        raise FitError(
            f"{len(found.odd)} of {len(scores)} confirmed good parts score like no other good part, too few are left "
            f"for a false-alarm target of {false_alarm_target:.2g}; look at them, and confirm more parts"
        )
    interval, ng_interval = alarm_intervals(np.asarray(scores, np.float64), found.thresholds)
    return replace(found, interval=interval, ng_interval=ng_interval)


def fewest_confirmed(false_alarm_target: float) -> int:
    """Parts without which the order statistic for a target does not exist, and never fewer than a first fit takes."""
    return max(FEWEST_CONFIRMED, math.ceil(1.0 / false_alarm_target - 1e-9) - 1)


def conformal_rank(count: int, false_alarm_target: float) -> int | None:
    """Which of `count` ascending scores keeps the promise (from 1); None: there are too few."""
    rank = math.ceil((count + 1) * (1.0 - false_alarm_target) - 1e-9)
    return rank if rank <= count else None


def score_unit(worst: list[float]) -> float:
    """The value that scores 1.0: what the worst place of a median good image shows; never so small as noise."""
    return max(SMALLEST_UNIT, float(np.median(worst)))


def find_odd(scores: NDArray[np.float64]) -> tuple[int, ...]:
    """Good images that are no good examples: their score is impossible under the tail of the others.

    At most a tenth of the images, but two of ten (two hide each other); none when there are fewer than
    `FEWEST_FOR_ODD`: an extreme quantile is set by one odd image, and half of the defects are lost with it.
    """
    count = len(scores)
    if count < FEWEST_FOR_ODD:
        return ()
    allowed = max(2 if count >= 10 else 1, int(LARGEST_ODD_SHARE * count))
    order = np.argsort(scores, kind="stable")
    middle, slope = _tail(scores[order[: count - allowed]])
    limit = middle + slope * math.log(0.5 * count / ODD_P_VALUE)
    return tuple(sorted(int(index) for index in order[count - allowed :] if scores[index] > limit))


def _tail(scores: NDArray[np.float64]) -> tuple[float, float]:
    """Median, and mean excess over it: the exponential tail's maximum-likelihood fit."""
    middle = float(np.median(scores))
    above = scores[scores > middle]
    slope = float((above - middle).mean()) if len(above) else 0.0
    return middle, max(slope, 0.02 * abs(middle), 1e-6)


def alarm_intervals(
    scores: NDArray[np.float64], thresholds: Thresholds
) -> tuple[tuple[float, float], tuple[float, float]]:
    """Confidence limits of the rates at which such scores reach the review and the NG threshold."""
    review, ng = (int((scores >= limit).sum()) for limit in (thresholds.review, thresholds.ng))
    return binomial_interval(review, len(scores)), binomial_interval(ng, len(scores))


def binomial_interval(hits: int, count: int, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Exact (Clopper-Pearson) confidence limits of a rate of which `hits` of `count` were seen."""
    tail = (1.0 - confidence) / 2.0
    lower = 0.0 if hits == 0 else _solve(lambda rate: 1.0 - _binomial_cdf(hits - 1, count, rate), tail)
    upper = 1.0 if hits == count else _solve(lambda rate: 1.0 - _binomial_cdf(hits, count, rate), 1.0 - tail)
    return lower, upper


def _binomial_cdf(hits: int, count: int, rate: float) -> float:
    # In logarithms: the binomial coefficients of some thousand production parts are larger than any float.
    full = math.lgamma(count + 1)
    return sum(
        math.exp(
            full
            - math.lgamma(k + 1)
            - math.lgamma(count - k + 1)
            + k * math.log(rate)
            + (count - k) * math.log1p(-rate)
        )
        for k in range(hits + 1)
    )


def _solve(rising: Callable[[float], float], value: float) -> float:
    """Where a function that rises with the rate reaches `value`: bisection on 0..1."""
    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2.0
        low, high = (middle, high) if rising(middle) < value else (low, middle)
    return (low + high) / 2.0


def _promise(real_images: int, target: float) -> str:
    smallest = 1.0 / (real_images + 1)
    if real_images < 2:
        return "one good image: no false-alarm rate can be promised"
    said = (
        f"with {real_images} good images the smallest rate that can be promised is 1/{real_images + 1} = {smallest:.1%}"
    )
    return said if target >= smallest else f"{said}; the target of {target:.1%} is an extrapolation"
