"""What is laid in parts, by any number of threads, is what is laid as a whole."""

from __future__ import annotations

import threading

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from inspector.generator.light import MixedLight
from inspector.generator.painting import COARSE_LEVEL, FINE_REGION_PX, LaidAhead, place_regions
from inspector.generator.paste import PasteRepairer
from inspector.generator.references import PlacedReferences
from inspector.generator.regions import feather_alpha, place_mask, split_mask
from inspector.generator.smooth import SmoothLayer, align_box, reduce_crop
from inspector.generator.surroundings import GUARD_PX, grow_mask
from inspector.generator.view_images import PixelImages
from inspector.generator.workers import Workers
from inspector.records import BgrImage, BoxPx

Mask = NDArray[np.bool_]


def draw_part(width: int, height: int, seed: int = 5) -> BgrImage:
    rng = np.random.default_rng(seed)
    board = np.full((height, width, 3), (90, 120, 60), np.uint8)
    for _ in range(width * height // 3000):
        x, y = int(rng.integers(0, width)), int(rng.integers(0, height))
        colour = [int(value) for value in rng.integers(40, 230, 3)]
        cv2.rectangle(board, (x, y), (x + int(rng.integers(8, 40)), y + int(rng.integers(6, 30))), colour, -1)
    return np.asarray(cv2.GaussianBlur(board, (0, 0), 0.8), np.uint8)


def place_references(*images: BgrImage) -> PlacedReferences:
    size = (images[0].shape[1], images[0].shape[0])
    return PlacedReferences(PixelImages(images), np.eye(2, 3), size, 1.0)


def mask_of(size: tuple[int, int], *boxes: BoxPx) -> Mask:
    mask = np.zeros((size[1], size[0]), np.bool_)
    for x0, y0, x1, y1 in boxes:
        mask[y0:y1, x0:x1] = True
    return mask


def cut(image: NDArray[np.float32], box: BoxPx, part: BoxPx) -> NDArray[np.float32]:
    x0, y0, x1, y1 = part
    return image[y0 - box[1] : y1 - box[1], x0 - box[0] : x1 - box[0]]


PARTS = [(40, 24, 44, 28), (40, 24, 120, 64), (96, 60, 177, 101), (172, 96, 177, 101), (40, 64, 177, 80)]


@pytest.mark.parametrize("level", [0, 1, 2])
@pytest.mark.parametrize("part", PARTS)
def test_a_smooth_layer_has_no_seams(level: int, part: BoxPx) -> None:
    """Any part of it that begins on the lattice is a part of the whole, to the bit."""
    box = (40, 24, 177, 101)
    rows, columns = -(-77 // 2**level), -(-137 // 2**level)
    values = np.random.default_rng(level).normal(0, 30, (rows, columns, 3)).astype(np.float32)
    layer = SmoothLayer(box, level, values)

    whole = layer.lay(box)

    assert whole.shape == (77, 137, 3)
    assert np.array_equal(layer.lay(part), cut(whole, box, part))


@pytest.mark.parametrize("part", PARTS)
def test_mixed_references_have_no_seams(part: BoxPx) -> None:
    """Their field is looked up at the same places whatever box is asked for."""
    rng = np.random.default_rng(3)
    box = (40, 24, 177, 101)
    images = [rng.integers(0, 256, (77, 137, 3), np.uint8) for _ in range(3)]
    light = MixedLight(
        rng.uniform(0.2, 0.5, (3, 3)).astype(np.float32),
        np.array([3.0, -2.0, 0.0], np.float32),
        rng.uniform(0.8, 1.2, (9, 13, 3)).astype(np.float32),
        (20, 10, 200, 120),
    )

    whole = light.mix(images, box)

    x0, y0, x1, y1 = (edge - box[axis % 2] for axis, edge in enumerate(part))
    assert np.array_equal(light.mix([image[y0:y1, x0:x1] for image in images], part), whole[y0:y1, x0:x1])


def test_an_even_light_is_gain_and_offset() -> None:
    """Two references under one field: the sum that the gains, the offset and the field say, also reduced."""
    images = [np.full((16, 24, 3), value, np.uint8) for value in (100, 50)]
    gains = np.array([[0.5, 0.5, 0.5], [1.0, 0.0, -0.2]], np.float32)
    light = MixedLight(gains, np.array([1, 2, 3], np.float32), np.full((4, 4, 3), 1.5, np.float32), (0, 0, 96, 64))
    expected = 1.5 * (np.array([50, 50, 50]) + np.array([50, 0, -10]) + np.array([1, 2, 3]))

    assert np.allclose(light.mix(images, (8, 16, 32, 32)), expected)
    assert np.allclose(light.mix(images, (0, 0, 96, 64), level=2), expected)


@pytest.mark.parametrize("size_px", [40, 300])
def test_the_feather_has_no_seams(size_px: int) -> None:
    """Block by block it is the feather of the whole place, and every pixel of the place is in one block."""
    size = (500, 420)
    mask = mask_of(size, (60, 50, 60 + size_px, 50 + size_px // 2), (60, 50, 80, 50 + size_px))
    (place,) = place_regions(mask)
    whole = feather_alpha(place_mask(place.region, place.inner), place.feather_px)
    seen = np.zeros(whole.shape, np.uint8)

    for block in place.blocks():
        assert np.array_equal(place.alpha(block), cut(whole, place.inner, block))
        x0, y0, x1, y1 = (edge - place.inner[axis % 2] for axis, edge in enumerate(block))
        seen[y0:y1, x0:x1] += 1

    assert (seen == 1).all()
    assert (cut(whole, place.inner, place.region.box_xyxy_px)[place.region.mask] == 1).all()


def test_large_regions_lie_on_the_lattice() -> None:
    """A region at the corners of a frame of odd size is painted within it, on multiples of the lattice."""
    mask = mask_of((403, 307), (0, 0, FINE_REGION_PX + 1, 40), (130, 290, 403, 307))

    places = place_regions(mask)

    assert [place.level for place in places] == [COARSE_LEVEL, COARSE_LEVEL]
    for place in places:
        x0, y0, x1, y1 = place.inner
        assert x0 % 4 == y0 % 4 == 0 and x1 <= 403 and y1 <= 307
        assert all((left - x0) % 4 == (top - y0) % 4 == 0 for left, top, _, _ in place.blocks())
    assert places[1].inner[2:] == (403, 307)


def test_what_is_reduced_is_known_only_where_all_of_it_is() -> None:
    """A cell that touches the mask, its guard or the outside of the box is a hole."""
    frame, mask = draw_part(203, 151), mask_of((203, 151), (100, 60, 101, 61))

    crop = reduce_crop(frame, mask, align_box((41, 33, 203, 151), 2, (203, 151)), 2)

    assert crop.box == (40, 32, 203, 151) and crop.frame.shape == (30, 41, 3)
    expected = np.zeros((30, 41), np.bool_)
    expected[(56 - 32) // 4 : (64 - 32) // 4 + 1, (96 - 40) // 4 : (104 - 40) // 4 + 1] = True
    expected[-1], expected[:, -1] = True, True
    assert np.array_equal(crop.hole, expected)


@pytest.mark.parametrize("level", [0, 1, 2, 3, 4])
def test_the_guard_around_a_mask_is_that_of_its_pixels(level: int) -> None:
    """Laid around cells or around pixels: a cell is a hole where any of its pixels is, or none of them exists."""
    rng, side = np.random.default_rng(level), 2**level
    for _ in range(40):
        mask = rng.random((int(rng.integers(30, 120)), int(rng.integers(30, 120)))) < rng.choice([0.0, 0.0005, 0.003])
        x0, y0 = (int(value) for value in rng.integers(0, 25, 2))
        x1, y1 = int(rng.integers(x0 + 1, mask.shape[1] + 1)), int(rng.integers(y0 + 1, mask.shape[0] + 1))
        rows, columns = -(-(y1 - y0) // side), -(-(x1 - x0) // side)
        pixels = np.ones((rows * side, columns * side), np.bool_)
        pixels[: y1 - y0, : x1 - x0] = False
        for row, column in np.argwhere(mask[y0:y1, x0:x1]):
            pixels[max(0, row - GUARD_PX) : row + GUARD_PX + 1, max(0, column - GUARD_PX) : column + GUARD_PX + 1] = (
                True
            )

        found = grow_mask(mask, (x0, y0, x1, y1), level)

        assert np.array_equal(found, pixels.reshape(rows, side, columns, side).any(axis=(1, 3)))


def test_threads_give_the_same_bytes() -> None:
    """Also where the boxes of two regions overlap: one is drawn around the other."""
    size = (900, 700)
    good = draw_part(*size)
    around = [(40, 40, 560, 90), (40, 90, 90, 480), (40, 480, 560, 530)]
    mask = mask_of(size, *around, (250, 200, 420, 380), (700, 100, 720, 130))
    assert len(split_mask(mask)) == 3
    frame = np.asarray(np.clip(good * 0.9 + 4, 0, 255), np.uint8)
    frame[mask] = 255
    references = place_references(good, draw_part(*size, seed=6))

    alone, together = (PasteRepairer(threads).repair(frame, mask, references) for threads in (1, 2))

    assert np.array_equal(alone.pixels, together.pixels) and np.array_equal(alone.mask, together.mask)
    assert np.abs(alone.pixels[mask].astype(int) - (good[mask] * 0.9 + 4)).mean() < 1.5


@pytest.mark.parametrize("box", [(100, 80, 140, 120), (60, 40, 760, 640)])
def test_threads_give_the_same_bytes_of_one_region(box: BoxPx) -> None:
    """What is laid beside the rest of the work, in one block or in several, is what is laid when it is painted."""
    size = (900, 700)
    good = draw_part(*size)
    frame, mask = good.copy(), mask_of(size, box)
    frame[mask] = 255
    shift = np.array([[1.0, 0.0, 1.3], [0.0, 1.0, -0.6]])
    moved = np.asarray(cv2.warpAffine(good, shift, size, borderMode=cv2.BORDER_REFLECT), np.uint8)
    references = place_references(good, moved, draw_part(*size, seed=6))

    alone, together = (PasteRepairer(threads).repair(frame, mask, references) for threads in (1, 2))

    assert np.array_equal(alone.pixels, together.pixels) and np.array_equal(alone.mask, together.mask)
    assert np.abs(alone.pixels[mask].astype(int) - good[mask]).mean() < 3


@pytest.mark.parametrize(("threads", "laid_ahead"), [(1, 0), (2, 3)])
def test_only_so_much_is_laid_ahead(threads: int, laid_ahead: int) -> None:
    """With one worker nothing, else as many blocks as may be held; the others when they are asked for, all once."""
    asked: list[tuple[BoxPx, str]] = []

    class Numbered:
        def lay(self, box: BoxPx, level: int = 0) -> NDArray[np.float32]:
            asked.append((box, threading.current_thread().name))
            return np.full((box[3] - box[1], box[2] - box[0], 3), box[0], np.float32)

    blocks = [(column * 512, 0, column * 512 + 512, 600) for column in range(5)]
    base = LaidAhead(Numbered(), blocks, Workers(threads))

    for box in blocks:
        assert (base.lay(box) == box[0]).all()
    assert sorted(box for box, _ in asked) == blocks
    assert sum("paint" in name for _, name in asked) == laid_ahead
    assert base.lay(blocks[0], 1).shape == (600, 512, 3)


@pytest.mark.parametrize("corner", [(0, 0), (101, 83), (299, 199)])
def test_a_large_region_is_as_good_as_a_small_one(corner: tuple[int, int]) -> None:
    """Where the smooth part is computed on a lattice the light is still met, up to the border of the frame."""
    size, side = (700, 600), 401
    good = draw_part(*size)
    slope = np.linspace(0.92, 1.05, size[0], dtype=np.float32)[None, :, None]
    frame = np.asarray(np.clip(good * slope, 0, 255), np.uint8)
    truth = frame.copy()
    mask = mask_of(size, (*corner, corner[0] + side, corner[1] + side))
    frame[mask] = (20, 20, 220)

    twin = PasteRepairer().repair(frame, mask, place_references(good))

    assert np.array_equal(twin.pixels[~twin.mask], frame[~twin.mask])
    assert np.abs(twin.pixels[mask].astype(int) - truth[mask]).mean() < 3


@pytest.mark.parametrize("side", [24, 90, 200, 400])
def test_what_is_masked_moves_nothing(side: int) -> None:
    """Where the references are shifted to is found from the surroundings alone, however close to the mask they look."""
    size = (700, 600)
    good = draw_part(*size)
    shifts = [np.array([[1.0, 0.0, x], [0.0, 1.0, y]]) for x, y in ((1.6, -0.7), (-2.3, 1.4))]
    references = place_references(
        *(np.asarray(cv2.warpAffine(good, shift, size, borderMode=cv2.BORDER_REFLECT), np.uint8) for shift in shifts)
    )
    mask = mask_of(size, (120, 90, 120 + side, 90 + side))
    frames = [good.copy(), good.copy()]
    frames[0][mask], frames[1][mask] = 255, 0

    one, other = (PasteRepairer().repair(frame, mask, references).pixels for frame in frames)

    assert np.array_equal(one[mask], other[mask])


@pytest.mark.parametrize("threads", [1, 2])
def test_workers_keep_the_order_and_hand_on_what_fails(threads: int) -> None:
    """Results come in the order of what was given; an error of a piece of work reaches the caller."""
    workers = Workers(threads)

    def invert(value: int) -> float:
        return 1 / value

    started = workers.start(lambda: 5)
    assert workers.each(invert, [1, 2, 4]) == [1.0, 0.5, 0.25]
    assert started.result() == 5
    with pytest.raises(ZeroDivisionError):
        workers.each(invert, [1, 0, 2])
