"""Registration: the part is found, its motion is recovered, and what cannot be matched says so."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from inspector.geometry.registration import (
    compose,
    fill_unknown,
    find_part,
    invert,
    make_reference,
    reduce_for_registration,
    reduce_known,
    register,
    scale_matrix,
    scaling,
    transform_points,
    warp_to_frame,
    warp_to_reference,
)
from inspector.records import BgrImage
from tests.part_images import HEIGHT, WIDTH, paint_board, paint_surface

CORNERS = np.array([[60.0, 50.0], [260.0, 50.0], [260.0, 190.0], [60.0, 190.0]])


def _moved(
    pixels: BgrImage, degrees: float, dx: float, dy: float
) -> tuple[BgrImage, np.ndarray[tuple[int, ...], np.dtype[np.float64]]]:
    height, width = pixels.shape[:2]
    matrix = np.asarray(cv2.getRotationMatrix2D((width / 2, height / 2), degrees, 1.0), np.float64)
    matrix[:, 2] += (dx, dy)
    return np.asarray(
        cv2.warpAffine(pixels, matrix, (width, height), borderMode=cv2.BORDER_REPLICATE), np.uint8
    ), matrix


@pytest.mark.parametrize("degrees", [-4.0, 0.0, 3.0])
@pytest.mark.parametrize(("dx", "dy"), [(0.0, 0.0), (18.0, -9.0), (-25.0, 12.0)])
@pytest.mark.parametrize("enlarged", [1, 4])
def test_a_known_motion_is_recovered(degrees: float, dx: float, dy: float, enlarged: int) -> None:
    """On a grid of turns and shifts the part's corners land within 0.35 registration pixels, at any resolution."""
    reference_pixels = np.asarray(cv2.resize(paint_board(1), None, fx=enlarged, fy=enlarged), np.uint8)
    frame, truth = _moved(reference_pixels, degrees, dx * enlarged, dy * enlarged)
    found = register(make_reference(reference_pixels, "rigid"), frame)
    reach = transform_points(found.matrix, CORNERS * enlarged) - transform_points(truth, CORNERS * enlarged)
    reduced_px = max(1.0, WIDTH * enlarged / 400)
    assert np.abs(reach).max() < 0.35 * reduced_px
    assert found.confidence > 0.97


@pytest.mark.parametrize("size", [(240, 320), (1333, 2001), (2160, 3840)])
def test_a_single_masked_pixel_is_unknown_after_reducing(size: tuple[int, int]) -> None:
    """At every size, in the middle and in the last row and column; the guard around it is a few pixels."""
    reduced = reduce_for_registration(np.zeros((*size, 3), np.uint8)).shape[1::-1]
    for row, column in ((size[0] // 3, size[1] // 3), (size[0] - 1, size[1] - 1), (0, 0)):
        masked = np.zeros(size, np.bool_)
        masked[row, column] = True
        known = reduce_known(masked, (reduced[0], reduced[1]))
        assert not known[row * reduced[1] // size[0], column * reduced[0] // size[1]]
        assert 0 < (~known).sum() <= 81
    assert reduce_known(np.zeros(size, np.bool_), (reduced[0], reduced[1])).all()


@pytest.mark.parametrize("any_angle", [False, True])
@pytest.mark.parametrize("model", ["shift", "rigid", "affine", "perspective"])
def test_everything_known_is_as_without_a_mask(model: str, any_angle: bool) -> None:
    """The same matrix and confidence."""
    reference = make_reference(paint_board(1), model, any_angle=any_angle)
    frame = paint_board(2)
    plain = register(reference, frame)
    known = register(reference, frame, np.ones((HEIGHT, WIDTH), np.bool_))
    assert np.array_equal(plain.matrix, known.matrix) and plain.confidence == known.confidence


def test_a_hole_is_closed_with_the_colour_around_it() -> None:
    """Nothing of what lay there is left, what is known stays as it is; a frame without anything known stays finite."""
    board = np.full((120, 160, 3), (200, 100, 50), np.uint8)
    known = np.ones((120, 160), np.bool_)
    known[40:80, 50:110] = False
    spoiled = board.copy()
    spoiled[~known] = 255
    assert np.array_equal(fill_unknown(spoiled, known), board)
    assert fill_unknown(board, np.zeros_like(known)).shape == board.shape


def test_a_fixed_background_does_not_outvote_the_part() -> None:
    """Printed marks that stay while the part moves do not hold the registration back."""
    table = np.full((HEIGHT, WIDTH, 3), (60, 100, 70), np.uint8)
    for x in range(6, WIDTH, 40):
        cv2.circle(table, (x, 8), 2, (90, 130, 100), -1)
        cv2.circle(table, (x, HEIGHT - 8), 2, (90, 130, 100), -1)
    board = paint_board(1)
    mask = find_part(board)
    frame, truth = _moved(board, 2.0, 14.0, 9.0)
    moved_mask = cv2.warpAffine(mask.astype(np.uint8), truth, (WIDTH, HEIGHT)) > 0
    reference = np.where(mask[..., None], board, table)
    found = register(make_reference(reference), np.where(moved_mask[..., None], frame, table))
    assert np.abs(transform_points(found.matrix, CORNERS) - transform_points(truth, CORNERS)).max() < 1.0


def test_the_part_is_what_differs_from_the_rim() -> None:
    """The mask covers the board and little of the table; an image without a table is all part."""
    mask = find_part(paint_board(1))
    assert mask[60:180, 70:250].mean() > 0.98
    assert mask[:20].mean() < 0.02 and mask[:, :20].mean() < 0.02
    assert find_part(np.random.default_rng(0).integers(0, 255, (120, 160, 3)).astype(np.uint8)).all()


@pytest.mark.parametrize("other", ["surface", "black", "white"])
def test_what_is_not_the_part_has_little_confidence(other: str) -> None:
    """A texture or an empty station never raises and is not taken for the part."""
    frames = {
        "surface": paint_surface(3),
        "black": np.zeros((HEIGHT, WIDTH, 3), np.uint8),
        "white": np.full((HEIGHT, WIDTH, 3), 255, np.uint8),
    }
    assert register(make_reference(paint_board(1)), frames[other]).confidence < 0.5


def test_constant_images_register_without_failing() -> None:
    """A reference without any structure gives a finite matrix and no confidence."""
    flat = np.full((60, 80, 3), 90, np.uint8)
    found = register(make_reference(flat), flat)
    assert np.isfinite(found.matrix).all() and found.confidence == 0.0


def test_matrices_compose_invert_and_rescale_consistently() -> None:
    """Estimating at a quarter of the size and scaling up equals the motion at full size, for pixel centres."""
    matrix = np.array([[1.01, 0.05, 12.0], [-0.04, 0.98, -7.0]])
    reduced = compose(compose(invert(scaling(4.0)), matrix), scaling(4.0))
    assert np.allclose(scale_matrix(reduced, 0.25), matrix)
    assert np.allclose(compose(matrix, invert(matrix)), np.eye(2, 3))


def test_warping_there_and_back_returns_the_part() -> None:
    """A frame laid on the reference and back differs only by resampling."""
    board = paint_board(1)
    matrix = np.array([[1.0, 0.0, 5.0], [0.0, 1.0, -3.0]])
    back = warp_to_frame(warp_to_reference(board, matrix, (WIDTH, HEIGHT)), matrix, (WIDTH, HEIGHT))
    assert np.array_equal(back[20:-20, 20:-20], board[20:-20, 20:-20])


@pytest.mark.parametrize("degrees", [*range(-170, 190, 20), 90, 7])
def test_a_part_is_found_at_any_angle(degrees: int) -> None:
    """All around the circle, moved too: the corners land within a pixel, and without the freedom they do not."""
    board = np.asarray(cv2.copyMakeBorder(paint_board(1), 60, 60, 20, 20, cv2.BORDER_REPLICATE), np.uint8)
    frame, truth = _moved(board, degrees, 12.0, -8.0)
    light = np.clip(frame * 1.05 + np.random.default_rng(degrees + 200).normal(0, 2, frame.shape), 0, 255)
    found = register(make_reference(board, "affine", any_angle=True), light.astype(np.uint8))
    corners = CORNERS + np.array([20.0, 60.0])
    assert np.abs(transform_points(found.matrix, corners) - transform_points(truth, corners)).max() < 1.0
    assert found.confidence > 0.95


@pytest.mark.parametrize("degrees", [35, 120, 205, 290])
def test_a_part_that_fills_the_frame_is_found_at_any_angle(degrees: int) -> None:
    """Without a background the middle of the reference is looked for at every angle."""
    texture = cv2.GaussianBlur(np.random.default_rng(5).normal(0, 1, (300, 300, 3)), (0, 0), 4)
    whole = np.clip(128 + 40 * texture / texture.std(), 0, 255).astype(np.uint8)
    frame, truth = _moved(whole, degrees, 6.0, -9.0)
    found = register(make_reference(whole, "affine", any_angle=True), frame)
    middle = np.array([[110.0, 110.0], [190.0, 110.0], [190.0, 190.0], [110.0, 190.0]])
    assert np.abs(transform_points(found.matrix, middle) - transform_points(truth, middle)).max() < 1.0


@pytest.mark.parametrize("degrees", [20, 110, 200, 290])
def test_a_nearly_symmetric_part_is_told_by_its_detail(degrees: int) -> None:
    """A square plate with four equal holes and one small mark: of four poses that look alike the mark tells one."""
    plate = np.full((300, 300, 3), 40, np.uint8)
    cv2.rectangle(plate, (90, 90), (210, 210), (170, 170, 170), -1)
    for x, y in ((115, 115), (185, 115), (115, 185), (185, 185)):
        cv2.circle(plate, (x, y), 10, (70, 70, 70), -1, cv2.LINE_AA)
    cv2.circle(plate, (150, 105), 5, (230, 230, 230), -1, cv2.LINE_AA)
    frame, truth = _moved(plate, degrees, 5.0, 9.0)
    found = register(make_reference(plate, "affine", any_angle=True), frame)
    corners = np.array([[90.0, 90.0], [210.0, 90.0], [210.0, 210.0], [90.0, 210.0]])
    assert np.abs(transform_points(found.matrix, corners) - transform_points(truth, corners)).max() < 1.0


def tilt(pixels: BgrImage, seed: int) -> tuple[BgrImage, np.ndarray[tuple[int, ...], np.dtype[np.float64]]]:
    """A frame seen from a little aside: its corners move by up to 3 % of the width, each by itself."""
    height, width = pixels.shape[:2]
    corners = np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float32)
    moved = corners + np.random.default_rng(seed).uniform(-0.03, 0.03, (4, 2)).astype(np.float32) * width
    matrix = np.asarray(cv2.getPerspectiveTransform(corners, moved), np.float64)
    seen = cv2.warpPerspective(pixels, matrix, (width, height), borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(seen, np.uint8), matrix


@pytest.mark.parametrize("seed", range(6))
def test_perspective_is_recovered(seed: int) -> None:
    """Seen from a little aside, the corners land within a tenth of a pixel, which no affine motion reaches."""
    board = paint_board(1)
    frame, truth = tilt(board, seed)
    expected = transform_points(truth, CORNERS)
    far = {}
    for model in ("affine", "perspective"):
        found = register(make_reference(board, model), frame)
        far[model] = float(np.abs(transform_points(found.matrix, CORNERS) - expected).max())
    assert far["perspective"] < 0.1 and far["affine"] > 4 * far["perspective"], far


def test_perspective_matrices_compose_and_invert() -> None:
    """A (3, 3) matrix keeps its meaning through scaling, composition and inversion; flat ones stay (2, 3)."""
    matrix = tilt(paint_board(1), 3)[1]
    assert transform_points(compose(invert(matrix), matrix), CORNERS) == pytest.approx(CORNERS)
    assert compose(invert(matrix), matrix).shape in ((2, 3), (3, 3)) and invert(scaling(2.0)).shape == (2, 3)
    doubled = scale_matrix(matrix, 0.5)
    assert transform_points(doubled, CORNERS * 2 + 0.5) == pytest.approx(transform_points(matrix, CORNERS) * 2 + 0.5)
