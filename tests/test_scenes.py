"""The procedural line: reproducible parts, honest variation, defects that are where the truth says."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from inspector.images import decode_image
from inspector.scenes.defects import FAMILIES, change_canvas, kinds_of, plan_defects
from inspector.scenes.renderer import RenderedPart, SceneRenderer, render_part, write_good_images
from inspector.scenes.variation import MAX_ROTATION_DEG, MAX_SHIFT_AT_4K_PX, draw_lot, lot_number

WIDTH_PX, HEIGHT_PX = 960, 540
REACH_PX = 5
"""How far warp and blur carry a change beyond its mask."""
LEAST_CONTRAST = 12.0
"""Mean change of the strongest channel over a defect's mask, in grey levels."""
EVERY_KIND = [(scene, kind) for scene, kinds in FAMILIES.items() for kind in kinds]


@pytest.fixture(scope="module")
def renderers() -> Iterator[dict[str, SceneRenderer]]:
    """One renderer a scene; setting one up is the expensive part."""
    yield {scene: SceneRenderer(scene, 5, WIDTH_PX, HEIGHT_PX, defect_rate=1.0, lot_size=10) for scene in FAMILIES}


def render_with(renderers: dict[str, SceneRenderer], scene: str, kind: str, number: int) -> RenderedPart:
    renderer = renderers[scene]
    everything, renderer.kinds = renderer.kinds, (kind,)
    try:
        return renderer.render(number, defect_rate=1.0)
    finally:
        renderer.kinds = everything


def strongest_change(one: RenderedPart, other: RenderedPart) -> NDArray[np.uint8]:
    return np.asarray(cv2.absdiff(one.pixels, other.pixels).max(axis=2), np.uint8)


def near(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    side = 2 * REACH_PX + 1
    return np.asarray(cv2.dilate(mask.astype(np.uint8), np.ones((side, side), np.uint8)) > 0)


@pytest.mark.parametrize("scene", FAMILIES)
def test_same_seed_gives_the_same_bytes(scene: str, renderers: dict[str, SceneRenderer]) -> None:
    """Another renderer in another order makes the same picture and the same truth: parts are random access."""
    renderers[scene].render(1)
    sequential = [renderers[scene].render(number) for number in (2, 3)]
    jumped = render_part(scene, 5, 3, width_px=WIDTH_PX, height_px=HEIGHT_PX, defect_rate=1.0, lot_size=10)
    assert np.array_equal(jumped.pixels, sequential[1].pixels)
    assert np.array_equal(jumped.mask, sequential[1].mask)
    assert [defect.kind for defect in jumped.defects] == [defect.kind for defect in sequential[1].defects]
    assert not np.array_equal(sequential[0].pixels, sequential[1].pixels)


def test_another_seed_gives_another_part(renderers: dict[str, SceneRenderer]) -> None:
    """Pose, noise and defects follow the seed; the product does not change."""
    other = SceneRenderer("board", 6, WIDTH_PX, HEIGHT_PX, defect_rate=1.0, lot_size=10)
    assert not np.array_equal(other.render(1).pixels, renderers["board"].render(1).pixels)
    assert other.pose_of(1) != renderers["board"].pose_of(1)


def test_a_lot_change_does_not_change_a_part(renderers: dict[str, SceneRenderer]) -> None:
    """A part looks the same whether or not parts of other lots were rendered in between."""
    before = renderers["board"].render(4).pixels
    renderers["board"].render(44)
    assert np.array_equal(renderers["board"].render(4).pixels, before)


@pytest.mark.parametrize(("scene", "kind"), EVERY_KIND)
def test_mask_is_exact_and_defect_visible(scene: str, kind: str, renderers: dict[str, SceneRenderer]) -> None:
    """Away from the mask every pixel is that of the good part with the same noise; inside it differs visibly."""
    good = renderers[scene].render(11, defect_rate=0.0)
    bad = render_with(renderers, scene, kind, 11)
    change = strongest_change(good, bad)
    assert [defect.kind for defect in bad.defects] == [kind]
    assert not good.is_defective
    assert not good.mask.any()
    assert change[~near(bad.mask)].max() == 0
    assert change[bad.mask].mean() >= LEAST_CONTRAST


@pytest.mark.parametrize(("scene", "kind"), EVERY_KIND)
def test_boxes_enclose_masks(scene: str, kind: str, renderers: dict[str, SceneRenderer]) -> None:
    """Each box is the tightest around its mask, inside the frame, and the frame's mask is their union."""
    for number in (21, 22):
        part = render_with(renderers, scene, kind, number)
        union = np.zeros((HEIGHT_PX, WIDTH_PX), np.bool_)
        for defect in part.defects:
            x0, y0, x1, y1 = defect.box_xyxy_px
            assert 0 <= x0 < x1 <= WIDTH_PX
            assert 0 <= y0 < y1 <= HEIGHT_PX
            assert defect.mask.shape == (y1 - y0, x1 - x0)
            assert defect.mask[0].any() and defect.mask[-1].any()
            assert defect.mask[:, 0].any() and defect.mask[:, -1].any()
            assert 0.0 <= defect.severity <= 1.0
            union[y0:y1, x0:x1] |= defect.mask
        assert part.is_defective
        assert np.array_equal(union, part.mask)


def test_pose_stays_within_its_bounds(renderers: dict[str, SceneRenderer]) -> None:
    """Shift up to 40 px at 4K, rotation up to 2 degrees, hardly any scale, and all of it is used."""
    poses = [renderers["board"].pose_of(number) for number in range(1, 400)]
    reach = MAX_SHIFT_AT_4K_PX * WIDTH_PX / 3840
    shifts = np.abs([(pose.shift_x_px, pose.shift_y_px) for pose in poses])
    turns = np.abs([pose.rotation_deg for pose in poses])
    assert shifts.max() <= reach
    assert shifts.max() > 0.8 * reach
    assert turns.max() <= MAX_ROTATION_DEG
    assert turns.max() > 0.7 * MAX_ROTATION_DEG
    assert max(abs(pose.scale - 1.0) for pose in poses) <= 0.003


@pytest.mark.parametrize("scene", FAMILIES)
def test_good_parts_differ_like_photographs(scene: str, renderers: dict[str, SceneRenderer]) -> None:
    """Two good parts of a lot are never equal, yet both are the same product in the same light."""
    one, two = (renderers[scene].render(number, defect_rate=0.0) for number in (31, 32))
    assert not one.is_defective
    assert one.lot == two.lot
    assert strongest_change(one, two).mean() > 2.0
    assert abs(float(one.pixels.mean()) - float(two.pixels.mean())) < 12.0


def test_part_is_brighter_than_the_belt_and_nothing_is_clipped(renderers: dict[str, SceneRenderer]) -> None:
    """The picture is exposed as a photograph: hardly any pixel at either end of the scale."""
    for scene, renderer in renderers.items():
        frame = renderer.render(33, defect_rate=0.0).pixels
        belt = renderer.render_empty()
        assert frame.mean() > belt.mean() + 10, scene
        assert np.mean(frame == 255) < 0.01, scene
        assert np.mean(frame == 0) < 0.05, scene


def test_lots_change_every_lot_size_parts(renderers: dict[str, SceneRenderer]) -> None:
    """Ten parts a lot: part 10 is of the first lot, part 11 of the second; lots differ in balance and shade."""
    renderer = renderers["board"]
    assert renderer.lot_name(1) == renderer.lot_name(10) == "L0001"
    assert renderer.lot_name(11) == "L0002"
    assert lot_number(20, 10) == 2
    assert draw_lot(5, 1) == draw_lot(5, 1)
    assert len({draw_lot(5, number).gains_bgr for number in range(20)}) == 20


def test_the_share_of_defects_is_the_configured_rate() -> None:
    """At a rate of 0.2 about a fifth of the parts are planned defective, mostly with one defect."""
    rng = np.random.default_rng(1)
    plans = [plan_defects(rng, kinds_of("board"), 0.2) for _ in range(4000)]
    share = np.mean([bool(plan) for plan in plans])
    assert 0.17 < share < 0.23
    assert {kind for plan in plans for kind in (defect.kind for defect in plan)} == set(FAMILIES["board"])
    assert max(len(plan) for plan in plans) == 2
    assert plan_defects(rng, kinds_of("board"), 0.0) == ()


@pytest.mark.parametrize("scene", FAMILIES)
def test_families_are_split_for_training_and_judging(scene: str) -> None:
    """Every kind is for one use, both uses have some, and together they are all."""
    train, judge = kinds_of(scene, "train"), kinds_of(scene, "judge")
    assert train
    assert judge
    assert not set(train) & set(judge)
    assert set(train) | set(judge) == set(kinds_of(scene))


def test_unknown_scene_and_kind_are_refused() -> None:
    """A misspelt scene or kind is an error that names what there is."""
    with pytest.raises(ValueError, match="board, casting"):
        SceneRenderer("bord", 1, WIDTH_PX, HEIGHT_PX)
    with pytest.raises(ValueError, match="melted"):
        SceneRenderer("board", 1, WIDTH_PX, HEIGHT_PX, kinds=("melted",))


def test_other_frame_shapes_show_the_whole_part() -> None:
    """A square frame scales the part down instead of cutting it: the border shows only belt."""
    renderer = SceneRenderer("board", 3, 480, 480)
    frame, belt = renderer.render(1, defect_rate=0.0).pixels, renderer.render_empty()
    assert frame.shape == (480, 480, 3)
    rows = np.r_[0:60, 420:480]
    assert abs(float(frame[rows].mean()) - float(belt[rows].mean())) < 6
    assert float(frame[200:280, 100:380].mean()) > float(belt.mean()) + 10


def test_good_images_are_written_apart_from_production(tmp_path: Path) -> None:
    """Good images come from several lots, have no defect, and the next batch continues without repeating."""
    told: list[Path] = []
    first = write_good_images(tmp_path, "board", 5, 3, 480, 270, on_image=told.append)
    more = write_good_images(tmp_path, "board", 5, 2, 480, 270, first_part=3)
    assert [path.name for path in first] == ["good_000001.jpg", "good_000002.jpg", "good_000003.jpg"]
    assert [path.name for path in more] == ["good_000003.jpg", "good_000004.jpg"]
    assert told == list(first)
    assert len({path.read_bytes() for path in (*first, more[1])}) == 4
    production = SceneRenderer("board", 5, 480, 270).render(1, defect_rate=0.0).pixels
    assert not np.array_equal(decode_image(first[0].read_bytes(), expected_size=(480, 270)), production)


def test_a_change_too_faint_to_see_is_no_defect() -> None:
    """A change below the visible step leaves the canvas as it was; a visible one gives exactly its mask."""
    canvas = np.full((40, 40, 4), 100, np.uint8)

    def brighten(window: NDArray[np.uint8], by: int) -> None:
        window[10:20, 10:20, :3] += np.uint8(by)

    assert change_canvas(canvas, (0, 0, 40, 40), lambda window: brighten(window, 6)) is None
    assert (canvas == 100).all()
    made = change_canvas(canvas, (5, 5, 60, 60), lambda window: brighten(window, 60))
    assert made is not None
    assert made.origin_px == (5, 5)
    assert cv2.boundingRect(made.mask) == (10, 10, 10, 10)
