"""Smooth fills and random masks: what is known is kept, what is unknown follows it, masks fit their frames."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inspector.generator.harmonic import extend_smoothly
from inspector.generator.masks import SHARE_OF_SIDE, draw_mask


@pytest.mark.parametrize("box", [(60, 50, 160, 130), (100, 80, 101, 81), (0, 40, 30, 90), (31, 31, 95, 63)])
def test_a_slope_is_continued(box: tuple[int, int, int, int]) -> None:
    """A linear ramp inside of its frame is restored nearly exactly; towards a border it goes flat."""
    rows, columns = np.mgrid[0:180, 0:240].astype(np.float32)
    ramp = np.stack([rows, columns, 0.5 * rows + columns], axis=2)
    known = np.ones((180, 240), np.bool_)
    known[box[1] : box[3], box[0] : box[2]] = False
    broken = ramp.copy()
    broken[~known] = 9999.0

    filled = extend_smoothly(broken, known)

    assert np.array_equal(filled[known], ramp[known])
    error = np.abs(filled - ramp)[~known].max()
    assert error <= (40.0 if box[0] == 0 else 6.0)


def test_nothing_known_is_said() -> None:
    """Where nothing is known it is what the caller asked for; where all is, nothing changes."""
    values = np.random.default_rng(1).random((20, 30, 3), np.float32)
    assert (extend_smoothly(values, np.zeros((20, 30), np.bool_), 128.0) == 128.0).all()
    assert np.array_equal(extend_smoothly(values, np.ones((20, 30), np.bool_)), values)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 70), st.integers(1, 70), st.integers(0, 2**31), st.floats(0.02, 0.98))
def test_a_fill_stays_within_what_is_known(height: int, width: int, seed: int, share: float) -> None:
    """Any shape, any holes: known pixels are kept, the others lie between the lowest and the highest known."""
    rng = np.random.default_rng(seed)
    values = rng.uniform(10.0, 200.0, (height, width, 3)).astype(np.float32)
    known = rng.random((height, width)) < share
    known[rng.integers(0, height), rng.integers(0, width)] = True
    hidden = values.copy()
    hidden[~known] = np.float32(1e6)

    filled = extend_smoothly(hidden, known)

    assert np.array_equal(filled[known], values[known])
    assert (filled >= values[known].min(axis=0) - 1e-2).all() and (filled <= values[known].max(axis=0) + 1e-2).all()


@settings(max_examples=120, deadline=None)
@given(st.integers(1, 600), st.integers(1, 600), st.integers(0, 2**31))
def test_masks_hide_something_and_leave_something(height: int, width: int, seed: int) -> None:
    """One region in every frame, never more than its share of a side beyond a stroke's width."""
    mask = draw_mask(np.random.default_rng(seed), height, width)
    assert mask.shape == (height, width) and mask.any()
    if min(height, width) >= 40:
        assert np.count_nonzero(mask.any(axis=0)) <= max(SHARE_OF_SIDE * width, 8) + 34
        assert not mask.all()
    assert np.array_equal(mask, draw_mask(np.random.default_rng(seed), height, width))


def test_masks_differ_in_size_and_shape() -> None:
    """From the smallest to the largest, boxes and others."""
    rng = np.random.default_rng(1)
    masks = [draw_mask(rng, 512, 512) for _ in range(100)]
    sides = [max(np.count_nonzero(mask.any(axis=axis)) for axis in (0, 1)) for mask in masks]
    assert min(sides) < 30 and 180 < max(sides) <= 300
    full = [mask.sum() == np.prod([np.count_nonzero(mask.any(axis=axis)) for axis in (0, 1)]) for mask in masks]
    assert 10 < sum(full) < 60
