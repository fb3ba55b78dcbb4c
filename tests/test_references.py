"""The reference bank: which good images show one view, where it lies in a frame, and what is refused."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from inspector.errors import RecipeTamperedError
from inspector.generator import bank_building
from inspector.generator.bank_building import BuiltBank, Pose, build_bank
from inspector.generator.bank_file import unpack_bank
from inspector.generator.references import NotPlaced, PlacedReferences, ReferenceBank
from inspector.generator.view_images import DecodedTiles, StoredImages, reduce_by, tile_boxes
from inspector.geometry.registration import make_reference, transform_points, warp
from inspector.images import encode_jpeg
from inspector.records import BgrImage
from inspector.scenes.renderer import SceneRenderer
from tests.part_images import paint_board, paint_surface

SIZE = (320, 240)
CORNERS = np.array([[60.0, 50.0], [260.0, 50.0], [260.0, 190.0], [60.0, 190.0]])


class Images:
    """Good images in memory."""

    def __init__(self, images: list[BgrImage]) -> None:
        self._images = images

    def __len__(self) -> int:
        return len(self._images)

    def read(self, index: int) -> BgrImage:
        return self._images[index]


def turned(image: BgrImage) -> BgrImage:
    """The other side of the same part: mirrored, with an arm across it."""
    mirrored = np.ascontiguousarray(image[:, ::-1])
    mirrored[100:130, 40:280] = mirrored[100:130, 40:280] // 3
    return mirrored


@pytest.fixture(scope="module")
def boards() -> list[BgrImage]:
    return [paint_board(seed) for seed in range(8)]


@pytest.fixture(scope="module")
def built(boards: list[BgrImage]) -> BuiltBank:
    bank = build_bank(Images(boards))
    assert bank is not None
    return bank


@pytest.fixture(scope="module")
def bank(built: BuiltBank) -> ReferenceBank:
    return unpack_bank(built.content)


def place(bank: ReferenceBank, frame: BgrImage) -> PlacedReferences:
    placed = bank.place(frame)
    assert placed is not None
    return placed


def test_all_images_of_one_view_lie_in_its_pose(bank: ReferenceBank, built: BuiltBank, boards: list[BgrImage]) -> None:
    """Moved and turned boards are laid on the golden one; the golden image comes first."""
    assert [sorted(view) for view in built.views] == [list(range(8))]
    assert built.left_out == ()
    placed = place(bank, boards[built.views[0][0]])
    golden = placed.image(0)
    for image in placed.images():
        assert image.shape == (240, 320, 3)
        assert np.abs(image[60:180, 80:240].astype(int) - golden[60:180, 80:240]).mean() < 6


def test_references_are_laid_onto_a_frame(bank: ReferenceBank) -> None:
    """Every reference shows in a crop of a new frame what the frame shows there."""
    frame = paint_board(50)
    placed = place(bank, frame)
    crop = (90, 60, 230, 170)
    for index in range(len(placed)):
        laid = placed.lay(index, crop)
        assert laid.shape == (110, 140, 3)
        assert np.abs(laid.astype(int) - frame[60:170, 90:230]).mean() < 7


def test_a_reduced_crop_is_the_crop_reduced(bank: ReferenceBank) -> None:
    """Laid at a quarter of the size from the pyramid, and cut the same way as at full size."""
    placed = place(bank, paint_board(51))
    whole = placed.lay(2, (80, 60, 240, 180)).astype(np.float32)
    means = whole.reshape(30, 4, 40, 4, 3).mean(axis=(1, 3))
    assert np.abs(placed.lay_reduced(2, (80, 60, 240, 180), 2) - means).mean() < 4


@pytest.mark.parametrize("level", [0, 2])
def test_a_sum_of_references_is_that_of_each(bank: ReferenceBank, level: int) -> None:
    """Interpolated once, each with its gains, to the half level that every rounding may take; also moved, at a rim."""
    placed = place(bank, paint_board(52))
    gains = np.random.default_rng(4).uniform(0.2, 0.6, (3, 3)).astype(np.float32)
    offset = np.array([4.0, -3.0, 0.0], np.float32)
    crop, moved = (200, 150, 320, 240), np.array([[1.0, 0.01, 0.7], [-0.01, 1.0, -0.4]])

    laid = placed.lay_sum([4, 0, 2], gains, offset, crop, level, moved)

    each = [placed.lay_reduced(index, crop, level, moved) for index in (4, 0, 2)]
    expected = sum(gain * image.astype(np.float32) for gain, image in zip(gains, each, strict=True)) + offset
    assert laid.shape == each[0].shape
    assert np.abs(laid - expected).max() <= 0.55 * gains.sum(axis=0).max()


def test_several_views_are_told_apart(boards: list[BgrImage]) -> None:
    """Two sides of a part make two views; what fits nowhere is left out; a frame gets the side that it shows."""
    images = [*boards, *(turned(paint_board(seed)) for seed in range(20, 25)), paint_surface(3)]
    built = build_bank(Images(images))
    assert built is not None
    assert sorted(sorted(view) for view in built.views) == [list(range(8)), list(range(8, 13))]
    assert built.left_out == (13,)
    bank = unpack_bank(built.content)
    one, other = place(bank, paint_board(60)), place(bank, turned(paint_board(61)))
    assert set(built.views[one.view]) == set(range(8))
    assert set(built.views[other.view]) == set(range(8, 13))


def test_a_texture_has_no_bank() -> None:
    """Brushed metal shows the same structure nowhere twice."""
    assert build_bank(Images([paint_surface(seed) for seed in range(8)])) is None


def test_the_pose_of_the_recipe_is_the_first_view(boards: list[BgrImage]) -> None:
    """The golden image and the model of motion come from the fit, where it knows them."""
    built = build_bank(Images(boards), Pose(golden=5, model="rigid", any_angle=False))
    assert built is not None
    assert built.views[0][0] == 5
    assert unpack_bank(built.content).views[0].reference.model == "rigid"


def test_a_part_at_any_angle_is_placed(boards: list[BgrImage]) -> None:
    """With free rotation a frame turned by 140 degrees is found and its references turned with it."""
    built = build_bank(Images(boards), Pose(golden=0, model="affine", any_angle=True))
    assert built is not None
    turn = np.radians(140.0)
    linear = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    middle = np.array([159.5, 119.5])
    matrix = np.hstack([linear, (middle - linear @ middle)[:, None]])
    frame = np.asarray(warp(paint_board(70), matrix, SIZE, forward=True), np.uint8)
    placed = place(unpack_bank(built.content), frame)
    laid = placed.lay(0, (110, 80, 210, 160))
    assert np.abs(laid.astype(int) - frame[80:160, 110:210]).mean() < 12


def test_another_part_is_refused_with_the_reason(bank: ReferenceBank) -> None:
    """A surface, a negative and a frame of another size have no references here, and it is said why."""
    for frame, reason in (
        (paint_surface(4), "registration confidence"),
        (np.asarray(255 - paint_board(4), np.uint8), "registration confidence"),
        (paint_board(4, width=400, height=300), "the frame is 400x300 px"),
    ):
        found = bank.locate(frame)
        assert isinstance(found, NotPlaced)
        assert reason in found.reason
        assert bank.place(frame) is None


def test_another_product_is_refused() -> None:
    """Rendered boards and rendered castings of one frame size: each is placed in its own bank and in no other."""
    lines = [SceneRenderer(scene, 5, 640, 360, defect_rate=0.0) for scene in ("board", "casting")]
    banks = []
    for line in lines:
        built = build_bank(Images([line.render(number).pixels for number in range(1, 6)]))
        assert built is not None
        banks.append(unpack_bank(built.content))
    for own, line in enumerate(lines):
        for number in (7, 8):
            frame = line.render(number).pixels
            assert banks[own].place(frame) is not None
            assert isinstance(banks[1 - own].locate(frame), NotPlaced)


def hide(x0: int, y0: int, x1: int, y1: int) -> NDArray[np.bool_]:
    """A mask of one box."""
    mask = np.zeros((SIZE[1], SIZE[0]), np.bool_)
    mask[y0:y1, x0:x1] = True
    return mask


@pytest.mark.parametrize("box", [(50, 45, 170, 130), (150, 60, 200, 180), (100, 100, 104, 104)])
def test_a_good_part_lies_where_it_lay_before_it_was_hidden(bank: ReferenceBank, box: tuple[int, ...]) -> None:
    """The pose of the whole frame is kept to the bit, and the confidence is about as high beside a mask."""
    frame, mask = paint_board(52), hide(*box)
    whole, beside = place(bank, frame), bank.place(frame, mask)
    assert beside is not None and np.array_equal(beside.to_frame, whole.to_frame)
    assert 0.0 < abs(beside.confidence - whole.confidence) < 0.06


def test_what_is_hidden_hardly_moves_the_references(bank: ReferenceBank) -> None:
    """Whatever lies under the mask the part lies within half a pixel of where it lies when it is good."""
    frame, mask = paint_board(52), hide(50, 45, 170, 130)
    whole = place(bank, frame)
    for hidden in (0, 255, np.random.default_rng(3).integers(0, 255, (mask.sum(), 3)), 255 - frame[mask]):
        spoiled = frame.copy()
        spoiled[mask] = hidden
        placed = bank.place(spoiled, mask)
        assert placed is not None
        moved = transform_points(placed.to_frame, CORNERS) - transform_points(whole.to_frame, CORNERS)
        assert np.abs(moved).max() < 0.5


def test_a_part_is_recognised_beside_its_defect(bank: ReferenceBank) -> None:
    """A plate over half of the board: refused as a whole, placed by what is left of it."""
    frame, mask = paint_board(53), hide(40, 35, 160, 205)
    frame[mask] = np.kron(np.indices((170, 120)).sum(axis=0) // 10 % 2, np.ones(1, np.uint8)).ravel()[:, None] * 255
    assert isinstance(bank.locate(frame), NotPlaced)
    placed = bank.place(frame, mask)
    assert placed is not None
    good = place(bank, paint_board(53))
    assert np.abs(transform_points(placed.to_frame, CORNERS) - transform_points(good.to_frame, CORNERS)).max() < 0.5


@pytest.mark.parametrize("share", [0.3, 0.6, 0.9, 1.0])
def test_another_part_is_refused_however_much_of_it_is_hidden(bank: ReferenceBank, share: float) -> None:
    """A surface, a negative and a mirrored board under a mask in the middle: too little to tell by is a refusal too."""
    width, height = (round(side * share**0.5) for side in SIZE)
    x0, y0 = (SIZE[0] - width) // 2, (SIZE[1] - height) // 2
    mask = hide(x0, y0, x0 + width, y0 + height)
    for frame in (paint_surface(4), np.asarray(255 - paint_board(4), np.uint8), turned(paint_board(4))):
        assert isinstance(bank.locate(frame, mask), NotPlaced)


def test_a_good_part_is_placed_under_any_mask(bank: ReferenceBank) -> None:
    """Where too little is left the whole frame counts: a good board is placed even when all of it is to be repaired."""
    frame = paint_board(54)
    whole = place(bank, frame)
    for mask in (hide(0, 0, 320, 240), hide(30, 30, 290, 210), hide(0, 0, 1, 1)):
        placed = bank.place(frame, mask)
        assert placed is not None
        moved = transform_points(placed.to_frame, CORNERS) - transform_points(whole.to_frame, CORNERS)
        assert np.abs(moved).max() < 0.5


def test_the_view_is_chosen_beside_the_mask(boards: list[BgrImage]) -> None:
    """A board most of which is hidden under its other side: by what is left it is the side that it is."""
    built = build_bank(Images([*boards, *(turned(paint_board(seed)) for seed in range(20, 28))]))
    assert built is not None and len(built.views) == 2
    bank = unpack_bank(built.content)
    one, other = paint_board(60), turned(paint_board(61))
    mask = hide(40, 30, 190, 210)
    mixed = np.where(mask[..., None], other, one)
    chosen = bank.place(mixed, mask)
    assert chosen is not None and set(built.views[chosen.view]) <= set(range(8))


def test_the_nearest_are_chosen_by_the_ring(boards: list[BgrImage]) -> None:
    """Each board has a dot elsewhere: a new board finds the one whose dot is where its own is, in whatever light."""
    dotted = [
        np.asarray(cv2.circle(board.copy(), (96 + 18 * number, 96), 5, (30, 30, 220), -1), np.uint8)
        for number, board in enumerate(boards)
    ]
    built = build_bank(Images(dotted))
    assert built is not None
    bank = unpack_bank(built.content)
    for index in (1, 4):
        frame = np.asarray(dotted[index] * 0.7 + 20, np.uint8)
        placed = place(bank, frame)
        ring = np.ones((120, 160), np.bool_)
        ring[40:80, 60:100] = False
        nearest = placed.nearest((80, 60, 240, 180), ring, frame[60:180, 80:240], 3)
        assert len(nearest) == 3
        assert built.views[0][nearest[0]] == index
        left = placed.without(nearest[:1])
        assert len(left) == len(placed) - 1
        assert nearest[0] not in [placed_index(left, item, placed) for item in range(len(left))]


def placed_index(few: PlacedReferences, index: int, many: PlacedReferences) -> int:
    """Which of `many` the image `index` of `few` is."""
    return next(item for item in range(len(many)) if np.array_equal(many.image(item), few.image(index)))


def test_the_budget_keeps_the_most_varied(boards: list[BgrImage], monkeypatch: pytest.MonkeyPatch) -> None:
    """Of eight boards and four of another look as many are kept as fit, and the other look is among them."""
    other = [np.ascontiguousarray(paint_board(seed)) for seed in range(30, 34)]
    for image in other:
        image[80:160, 100:220] //= 2
    images = Images([*boards, *other])
    whole = build_bank(images)
    assert whole is not None and sum(map(len, whole.views)) == 12
    one_bytes = len(encode_jpeg(boards[0], bank_building.IMAGE_QUALITY, all_colours=True))
    built = build_bank(images, budget_bytes=4 * one_bytes)
    assert built is not None
    (kept,) = built.views
    assert 3 <= len(kept) <= 5
    assert any(index >= 8 for index in kept) and any(index < 8 for index in kept)
    monkeypatch.setattr(bank_building, "MOST_STORED", 3)
    fewer = build_bank(images)
    assert fewer is not None and sum(map(len, fewer.views)) == 3


def test_a_bank_of_the_golden_image_alone(boards: list[BgrImage]) -> None:
    """What an old recipe has: one image, placed like any other."""
    bank = ReferenceBank.of_one(boards[0], 0.5, make_reference(boards[0]))
    assert len(place(bank, boards[3])) == 1
    assert bank.place(paint_surface(5)) is None


def test_decoded_images_are_bounded(boards: list[BgrImage], built: BuiltBank) -> None:
    """No more is held than allowed, whatever is asked for, and what was forgotten is decoded again."""
    limit = 3 * boards[0].nbytes
    cache = DecodedTiles(limit)
    placed = place(unpack_bank(built.content, cache), boards[0])
    first = placed.image(0).copy()
    for index in range(len(placed)):
        placed.lay_reduced(index, (0, 0, 320, 240), 1)
        assert cache.held_bytes <= limit
    assert np.array_equal(placed.image(0), first)


@pytest.mark.parametrize("level", [0, 1, 2])
def test_tiles_are_reduced_as_the_whole_is(level: int) -> None:
    """A box over several tiles, up to an edge of odd size: to the bit what the whole image shows there."""
    size = (1203, 1111)
    tiles = []
    for x0, y0, x1, y1 in tile_boxes(size):
        noise = np.random.default_rng([x0, y0]).integers(0, 256, (y1 - y0, x1 - x0, 3), np.uint8)
        tiles.append(cv2.imencode(".jpg", noise)[1].tobytes())
    thumbnail = cv2.imencode(".jpg", np.zeros((size[1] >> 4, size[0] >> 4, 3), np.uint8))[1].tobytes()
    images = StoredImages((tuple(tiles),), (thumbnail,), size, DecodedTiles())
    images.thumbnail_level = 4
    whole = reduce_by(images.cut(0, 0, (0, 0, *size)), level)

    for box in ((0, 0, size[0] >> level, size[1] >> level), (100, 90, 257, 140), (130, 200, 200, 260)):
        x0, y0, x1, y1 = box
        assert np.array_equal(images.cut(0, level, box), whole[y0:y1, x0:x1])


@pytest.mark.parametrize("damage", ["cut", "foreign", "empty"])
def test_a_damaged_file_is_named(built: BuiltBank, damage: str) -> None:
    """A truncated, foreign or empty file is a `RecipeTamperedError` that names it."""
    content = {"cut": built.content[:-400], "foreign": b"PK\3\4 not a bank", "empty": b""}[damage]
    with pytest.raises(RecipeTamperedError, match=r"references\.npz"):
        unpack_bank(content)


def test_a_damaged_image_is_named() -> None:
    """An image that is no JPEG, or of another size than its view, is found when it is decoded."""
    for source in (b"\xff\xd8 no", encode_jpeg(paint_board(1, width=100, height=80))):
        images = StoredImages(((source,),), (source,), SIZE, DecodedTiles())
        with pytest.raises(RecipeTamperedError, match=r"references\.npz"):
            images.cut(0, 0, (0, 0, 10, 10))
        with pytest.raises(RecipeTamperedError, match=r"references\.npz"):
            images.thumbnails()
