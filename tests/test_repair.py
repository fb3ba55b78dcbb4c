"""The first twins: what they may change, what they must not, and how well they restore a part."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from inspector.errors import InputError
from inspector.generator.choose import RepairChoice, choose_repairer, find_model_problem, load_repairers
from inspector.generator.fill import fill_base
from inspector.generator.inpaint import NavierStokesRepairer, TeleaRepairer
from inspector.generator.light import weigh_references
from inspector.generator.mark import REACH_PX, mark_generated
from inspector.generator.paste import PasteRepairer, match_references
from inspector.generator.references import PlacedReferences
from inspector.generator.regions import split_mask
from inspector.generator.repairer import Repairer
from inspector.generator.view_images import PixelImages
from inspector.records import BgrImage

Mask = NDArray[np.bool_]
REPAIRERS: tuple[Repairer, ...] = (PasteRepairer(), TeleaRepairer(), NavierStokesRepairer())


def draw_board(height: int = 300, width: int = 400) -> BgrImage:
    """A part with edges, texture and lettering, the same each time."""
    rng = np.random.default_rng(5)
    board = np.full((height, width, 3), (90, 120, 60), np.uint8)
    for _ in range(40):
        x, y = int(rng.integers(0, width)), int(rng.integers(0, height))
        colour = [int(value) for value in rng.integers(40, 230, 3)]
        cv2.rectangle(board, (x, y), (x + int(rng.integers(8, 40)), y + int(rng.integers(6, 30))), colour, -1)
    return np.asarray(cv2.GaussianBlur(board, (0, 0), 0.8), np.uint8)


def make_mask(shape: tuple[int, int], *boxes: tuple[int, int, int, int]) -> Mask:
    mask = np.zeros(shape, np.bool_)
    for x0, y0, x1, y1 in boxes:
        mask[y0:y1, x0:x1] = True
    return mask


def in_other_light(board: BgrImage, gain: float = 0.8, offset: float = 8.0) -> BgrImage:
    """The same part a little darker, with the light falling off to one side and camera noise."""
    slope = np.linspace(0.9, 1.1, board.shape[1], dtype=np.float32)[None, :, None]
    noise = np.random.default_rng(6).normal(0, 2, board.shape)
    return np.asarray(np.clip(board * gain * slope + offset + noise, 0, 255), np.uint8)


def shift(board: BgrImage, dx: float, dy: float) -> BgrImage:
    matrix = np.array([[1, 0, dx], [0, 1, dy]], np.float64)
    size = (board.shape[1], board.shape[0])
    return np.asarray(cv2.warpAffine(board, matrix, size, borderMode=cv2.BORDER_REFLECT_101), np.uint8)


def place(*images: BgrImage) -> PlacedReferences:
    """Good images that lie in the frame as they are."""
    size = (images[0].shape[1], images[0].shape[0])
    return PlacedReferences(PixelImages(images), np.eye(2, 3), size, 1.0)


def psnr(one: BgrImage, other: BgrImage, mask: Mask) -> float:
    error = np.mean((one[mask].astype(np.float64) - other[mask]) ** 2)
    return float(10 * np.log10(255**2 / max(float(error), 1e-9)))


def distance_from(mask: Mask) -> NDArray[np.float32]:
    return np.asarray(cv2.distanceTransform((~mask).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE), np.float32)


@pytest.mark.parametrize("repairer", REPAIRERS, ids=lambda item: item.method)
@pytest.mark.parametrize(
    "boxes",
    [
        [(200, 150, 201, 151)],
        [(0, 0, 400, 300)],
        [(0, 0, 30, 20)],
        [(370, 280, 400, 300)],
        [(0, 100, 400, 140)],
        [(60, 60, 90, 100), (200, 150, 260, 190), (385, 5, 400, 60)],
        [(100, 100, 120, 120), (125, 100, 150, 120)],
    ],
    ids=["one_pixel", "whole_frame", "corner", "far_corner", "band", "three", "neighbours"],
)
def test_only_the_mask_and_its_feather_change(repairer: Repairer, boxes: list[tuple[int, int, int, int]]) -> None:
    """Outside `Twin.mask` every byte is the source's, and nothing is farther than 32 px from the repair mask."""
    source = draw_board()
    mask = make_mask(source.shape[:2], *boxes)
    before = source.copy()

    twin = repairer.repair(source, mask, place(in_other_light(shift(source, 2, -1)), shift(source, -3, 1)))

    changed = (twin.pixels != source).any(axis=2)
    assert not changed[~twin.mask].any()
    assert (twin.mask | ~mask).all()
    assert distance_from(mask)[twin.mask].max() <= 32
    assert np.array_equal(source, before)
    assert twin.method == repairer.method


@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_any_mask_on_any_frame_keeps_the_contract(data: st.DataObject) -> None:
    """Random frame sizes and random specks: the same contract, for all three methods."""
    height, width = data.draw(st.integers(1, 90)), data.draw(st.integers(1, 90))
    rng = np.random.default_rng(data.draw(st.integers(0, 1000)))
    source = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    reference = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    mask = rng.random((height, width)) < data.draw(st.sampled_from([0.002, 0.05, 0.6]))
    mask[rng.integers(0, height), rng.integers(0, width)] = True
    repairer = data.draw(st.sampled_from(REPAIRERS))

    twin = repairer.repair(source, mask, place(reference, source))

    assert np.array_equal(twin.pixels[~twin.mask], source[~twin.mask])
    assert twin.mask[mask].all()
    assert distance_from(mask)[twin.mask].max() <= 32
    assert twin.regions == len(split_mask(mask)) >= 1


@pytest.mark.parametrize("move", [(0.0, 0.0), (2.5, -1.5), (5.0, 4.0)])
def test_paste_restores_the_part_in_other_light(move: tuple[float, float]) -> None:
    """A darker, shifted, noisy reference still gives the good part back, far better than laying it on."""
    good = draw_board()
    mask = make_mask(good.shape[:2], (120, 90, 180, 140), (300, 200, 330, 250))
    source = good.copy()
    source[mask] = (20, 20, 220)
    reference = in_other_light(shift(good, *move))

    twin = PasteRepairer().repair(source, mask, place(reference))

    plain = psnr(reference, good, mask)
    assert psnr(twin.pixels, good, mask) >= max(28.0, plain + 6)


def test_several_references_are_better_than_one() -> None:
    """Five noisy good images, each in another place and light: their twin has less noise than any one of them."""
    good = draw_board()
    mask = make_mask(good.shape[:2], (120, 90, 200, 150))
    source = good.copy()
    source[mask] = (20, 20, 220)
    rng = np.random.default_rng(8)
    references = []
    for number in range(5):
        noisy = shift(good, number - 2.0, 0.4 * number) * rng.uniform(0.8, 1.1) + rng.normal(0, 8, good.shape)
        references.append(np.asarray(np.clip(noisy, 0, 255), np.uint8))

    alone = [psnr(PasteRepairer().repair(source, mask, place(item)).pixels, good, mask) for item in references]
    together = psnr(PasteRepairer().repair(source, mask, place(*references)).pixels, good, mask)

    assert together >= max(alone) + 3.0


def test_the_base_says_what_it_was_made_of() -> None:
    """A reference of the same part, three of another: the right one is chosen first and carries the weight."""
    good = draw_board()
    rng = np.random.default_rng(9)
    others = [np.asarray(np.roll(good, (40 * number, 70 * number), (0, 1)), np.uint8) for number in (1, 2, 3)]
    mask = make_mask(good.shape[:2], (120, 90, 200, 150))
    source = np.asarray(np.clip(good * 0.9 + rng.normal(0, 1, good.shape), 0, 255), np.uint8)
    (region,) = split_mask(mask)

    base = match_references(source, mask, region, place(*others, good))
    laid = base.lay((100, 80, 220, 170))

    assert laid.shape == (90, 120, 3) and laid.dtype == np.float32
    assert base.indices[0] == 3
    assert base.weights[0] > 0.9 and np.isclose(base.weights.sum(), 1.0)
    assert np.abs(laid - source[80:170, 100:220]).mean() < 2.5


def test_the_weights_leave_the_least_error() -> None:
    """The better of two independent references weighs more; one that is the other's double adds nothing."""
    rng = np.random.default_rng(4)
    good, bad = rng.normal(0, 1, 4000), rng.normal(0, 3, 4000)
    weights = weigh_references(np.stack([good, bad]).astype(np.float32))
    assert 0.75 < weights[0] < 0.95
    doubled = weigh_references(np.stack([good, bad, bad]).astype(np.float32))
    assert doubled[1] == pytest.approx(doubled[2], rel=1e-3)
    assert np.isclose(doubled.sum(), 1.0)


@pytest.mark.parametrize("box", [(0, 0, 60, 40), (200, 150, 201, 151), (100, 60, 300, 240), (0, 0, 400, 300)])
def test_the_fill_closes_smoothly_over_a_region(box: tuple[int, int, int, int]) -> None:
    """Without references the base follows the surroundings' slope and shows nothing of what was masked."""
    rows, columns = np.mgrid[0:300, 0:400]
    good = np.repeat((60 + rows * 0.2 + columns * 0.1)[..., None], 3, axis=2).astype(np.uint8)
    mask = make_mask((300, 400), box)
    source = good.copy()
    source[mask] = 255

    laid = fill_base(source, mask, box).lay(box)

    assert laid.shape == (box[3] - box[1], box[2] - box[0], 3)
    if mask.all():
        assert (laid == 128).all()
    else:
        assert np.abs(laid - good[box[1] : box[3], box[0] : box[2]]).max() <= 16


def test_paste_does_not_learn_from_the_other_defects() -> None:
    """A second defect beside a region is no part of the light that is matched there."""
    good = np.full((200, 200, 3), 100, np.uint8)
    mask = make_mask((200, 200), (90, 90, 110, 110), (150, 60, 195, 140))
    source = good.copy()
    source[mask] = 255

    twin = PasteRepairer().repair(source, mask, place(good))

    assert np.abs(twin.pixels.astype(int) - 100).max() <= 1


def test_paste_is_deterministic() -> None:
    """The same input gives the same bytes."""
    good = draw_board()
    mask = make_mask(good.shape[:2], (120, 90, 180, 140))
    reference = in_other_light(shift(good, 3, 3))

    first, second = (PasteRepairer().repair(good, mask, place(reference, good)) for _ in range(2))

    assert np.array_equal(first.pixels, second.pixels)


@pytest.mark.parametrize("repairer", [TeleaRepairer(), NavierStokesRepairer()], ids=lambda item: item.method)
@pytest.mark.parametrize(("size", "mean_error", "largest_error"), [(30, 3, 15), (260, 15, 60)])
def test_inpainting_removes_a_spot_on_a_smooth_part(
    repairer: Repairer, size: int, mean_error: float, largest_error: float
) -> None:
    """Without a reference a smooth surface closes over a spot, small or large."""
    rows, columns = np.mgrid[0:400, 0:400]
    good = np.repeat((60 + rows * 0.2 + columns * 0.1)[..., None], 3, axis=2).astype(np.uint8)
    start = 200 - size // 2
    mask = make_mask((400, 400), (start, start, start + size, start + size))
    source = good.copy()
    source[mask] = 255

    twin = repairer.repair(source, mask, None)

    error = np.abs(twin.pixels[mask].astype(int) - good[mask])
    assert error.mean() <= mean_error
    assert error.max() <= largest_error


@pytest.mark.parametrize("repairer", REPAIRERS, ids=lambda item: item.method)
def test_input_that_does_not_fit_is_refused(repairer: Repairer) -> None:
    """An empty mask, a mask of another size or type, a reference of another size: `ValueError`."""
    board = draw_board(60, 80)
    fitting = make_mask((60, 80), (10, 10, 20, 20))
    with pytest.raises(ValueError, match="empty"):
        repairer.repair(board, np.zeros((60, 80), np.bool_), place(board))
    with pytest.raises(ValueError, match="must be equal"):
        repairer.repair(board, np.ones((80, 60), np.bool_), place(board))
    with pytest.raises(ValueError, match="must be bool"):
        repairer.repair(board, fitting.astype(np.uint8), place(board))
    with pytest.raises(ValueError, match="references were placed"):
        repairer.repair(board, fitting, place(draw_board(61, 80)))
    with pytest.raises(ValueError, match="uint8"):
        repairer.repair(board.astype(np.uint16) * 256, fitting, None)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="uint8"):
        repairer.repair(board[..., 0], fitting, None)


def test_paste_without_a_reference_is_refused() -> None:
    """Paste cannot invent: no reference is a `ValueError`."""
    with pytest.raises(ValueError, match="reference"):
        PasteRepairer().repair(draw_board(60, 80), make_mask((60, 80), (1, 1, 5, 5)), None)


@pytest.mark.parametrize(
    ("method", "has_reference", "expected"),
    [
        ("auto", True, "paste"),
        ("auto", False, "texture"),
        ("paste", True, "paste"),
        ("telea", True, "telea"),
        ("ns", False, "ns"),
    ],
)
def test_the_method_is_chosen_by_name_and_reference(method: str, has_reference: bool, expected: str) -> None:
    """`auto` pastes where it can and inpaints where it cannot; a named method is taken."""
    assert choose_repairer(method, load_repairers(1), RepairChoice(), has_reference).method == expected


@pytest.mark.parametrize(
    ("method", "has_reference", "message"),
    [("net", True, "no trained repair model"), ("paste", False, "needs a reference"), ("magic", True, "unknown")],
)
def test_a_method_that_cannot_work_says_why(method: str, has_reference: bool, message: str, tmp_path: Path) -> None:
    """Without weights there is no net, paste needs a reference, unknown names are refused: each with a sentence."""
    with pytest.raises(InputError, match=message):
        choose_repairer(method, load_repairers(1, tmp_path), RepairChoice(), has_reference)


def test_the_shipped_weights_load() -> None:
    """The net is among the repairers of an installed package, and nothing is wrong with it."""
    assert find_model_problem() is None
    assert load_repairers(1)["net"].method == "net"


def test_missing_weights_are_said(tmp_path: Path) -> None:
    """The other methods stay."""
    assert "there are no weights here" in str(find_model_problem(tmp_path))
    assert set(load_repairers(1, tmp_path)) == {"paste", "texture", "telea", "ns"}


@pytest.mark.parametrize(
    ("choice", "has_reference", "expected"),
    [
        (RepairChoice("ns", "telea"), True, "ns"),
        (RepairChoice("paste", "ns"), False, "ns"),
        (RepairChoice("net", "net"), True, "paste"),
        (RepairChoice("net", "net"), False, "texture"),
    ],
)
def test_auto_takes_what_was_measured_best(
    choice: RepairChoice, has_reference: bool, expected: str, tmp_path: Path
) -> None:
    """The recipe's winner, with references and without; one that is not loaded gives way to the default."""
    assert choose_repairer("auto", load_repairers(1, tmp_path), choice, has_reference).method == expected


def test_regions_are_far_enough_apart_to_be_repaired_alone() -> None:
    """Specks closer than the feathers reach become one region; distant ones stay two; all pixels are kept."""
    mask = make_mask((500, 700), (10, 10, 12, 12), (40, 10, 44, 12), (400, 300, 420, 310), (699, 499, 700, 500))
    regions = split_mask(mask)
    rebuilt = np.zeros_like(mask)
    for region in regions:
        x0, y0, x1, y1 = region.box_xyxy_px
        rebuilt[y0:y1, x0:x1] |= region.mask
    assert [region.box_xyxy_px for region in regions] == [
        (10, 10, 44, 12),
        (400, 300, 420, 310),
        (699, 499, 700, 500),
    ]
    assert np.array_equal(rebuilt, mask)


@pytest.mark.parametrize(
    "box", [(200, 150, 201, 151), (0, 0, 60, 40), (390, 290, 400, 300), (100, 100, 300, 200), (0, 0, 400, 300)]
)
def test_the_mark_stays_where_a_twin_may_differ(box: tuple[int, int, int, int]) -> None:
    """The word GENERATED is painted within 32 px of the mask and leaves the repaired pixels alone if it can."""
    board = draw_board()
    mask = make_mask(board.shape[:2], box)

    marked = mark_generated(board, mask)

    changed = (marked != board).any(axis=2)
    assert changed.sum() >= 100
    assert distance_from(mask)[changed].max() <= REACH_PX
    if box != (0, 0, 400, 300):
        assert not changed[mask].any()


def test_a_picture_too_small_for_the_mark_is_left_alone() -> None:
    """8×8 px hold no word; nothing is drawn and nothing fails."""
    board = draw_board(8, 8)
    assert np.array_equal(mark_generated(board, make_mask((8, 8), (2, 2, 4, 4))), board)
