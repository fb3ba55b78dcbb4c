"""Defects painted on photographs: seen, exactly masked, reproducible, of every family."""

from __future__ import annotations

import numpy as np
import pytest

from inspector.scenes.overlays import FAMILIES, PAINTERS, paint_defect
from tests.small_line import draw_part


def test_every_family_has_a_painter_and_a_use() -> None:
    """What is kept for judging is never empty, nor is what may be taught."""
    assert set(FAMILIES) == set(PAINTERS)
    assert set(FAMILIES.values()) == {"train", "judge"}


@pytest.mark.parametrize("kind", sorted(PAINTERS))
def test_a_defect_is_where_its_mask_says_and_nowhere_else(kind: str) -> None:
    """Inside the mask the picture differs visibly, further than two pixels from it it is the source byte for byte."""
    pixels = draw_part(3, width_px=640, height_px=480)
    painted = [made for seed in range(6) if (made := paint_defect(pixels, kind, seed)) is not None]
    assert painted
    for canvas, mask in painted:
        step = np.abs(canvas.astype(int) - pixels.astype(int)).max(axis=2)
        assert mask.any() and step[mask].mean() >= 10
        near = np.zeros_like(mask)
        ys, xs = np.nonzero(mask)
        near[max(0, ys.min() - 2) : ys.max() + 3, max(0, xs.min() - 2) : xs.max() + 3] = True
        assert not step[~near].any()


def test_the_same_seed_paints_the_same_defect() -> None:
    """Reproducible from the seed; another seed gives another defect; the source is never changed."""
    pixels = draw_part(4, width_px=640, height_px=480)
    before = pixels.copy()
    first, again, other = (paint_defect(pixels, "spot", seed) for seed in (1, 1, 2))
    assert first is not None and again is not None and other is not None
    assert np.array_equal(first[0], again[0]) and not np.array_equal(first[0], other[0])
    assert np.array_equal(pixels, before)


def test_defects_are_centred_inside_the_part() -> None:
    """The part's mask decides where a defect may be; where there is no place there is no defect."""
    pixels = draw_part(5, width_px=640, height_px=480)
    inside = np.zeros(pixels.shape[:2], np.bool_)
    assert paint_defect(pixels, "spot", 1, inside) is None
    inside[200:280, 260:380] = True
    placed = [made[1] for seed in range(40) if (made := paint_defect(pixels, "spot", seed, inside)) is not None]
    assert placed
    for mask in placed:
        ys, xs = np.nonzero(mask)
        assert 180 <= ys.mean() < 300 and 240 <= xs.mean() < 400


def test_tiny_pictures_get_no_defect_or_a_small_one() -> None:
    """A picture smaller than the smallest defect is no error."""
    pixels = np.full((8, 8, 3), 120, np.uint8)
    for kind in PAINTERS:
        made = paint_defect(pixels, kind, 1)
        assert made is None or made[1].shape == (8, 8)
