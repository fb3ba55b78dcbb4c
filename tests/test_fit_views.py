"""Several views in one recipe: found in the images, each judged by its own, with one pair of thresholds for all."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest

from inspector.detector import views
from inspector.detector.manifest import PartSettings
from inspector.detector.mode import choose_mode
from inspector.detector.recipe import Recipe, encode_arrays
from inspector.detector.recipe_store import RecipeStore
from inspector.detector.views import FEWEST_TO_JUDGE
from inspector.errors import FitError, RecipeError, RecipeMismatchError, RecipeTamperedError
from inspector.geometry.registration import transform_points
from inspector.images import encode_jpeg
from inspector.records import BgrImage, Scoring, Verdict, VerdictKind
from inspector.scenes.renderer import SETUP_OFFSET, SceneRenderer
from pipelines.calibrate import calibrate_recipe
from pipelines.escalation_frames import QuestionMaterial
from pipelines.fit import fit_recipe
from pipelines.inspect_frame import decide_verdict
from pipelines.inspect_images import inspect_images
from pipelines.name import name_defects
from tests.part_images import paint_board, paint_surface, write_images
from tests.recipe_rig import change_one_byte, forge, overwrite
from tests.small_line import draw_part, folder_camera, small_plant
from tests.test_references import Images, turned

SIZE = (480, 270)
BOARDS, CASTINGS = 13, 11
SPOT_PX = 9


class Sides:
    """Two sides of one product: rendered boards and castings before one camera."""

    def __init__(self) -> None:
        self._lines = [SceneRenderer(scene, 3, *SIZE, defect_rate=0.0, lot_size=2) for scene in ("board", "casting")]

    def taught(self, view: int, count: int) -> list[BgrImage]:
        return [self._lines[view].render(SETUP_OFFSET + number).pixels for number in range(1, count + 1)]

    def good(self, view: int, number: int) -> BgrImage:
        return self._lines[view].render(number).pixels

    def spoilt(self, view: int, number: int) -> tuple[BgrImage, tuple[int, int]]:
        """A part with a bright spot, and where it is."""
        pixels, pose = self.good(view, number), self._lines[view].pose_of(number)
        x, y = round(SIZE[0] / 2 + pose.shift_x_px), round(SIZE[1] / 2 + pose.shift_y_px)
        return np.asarray(cv2.circle(pixels.copy(), (x, y), SPOT_PX, (235, 90, 235), -1, cv2.LINE_AA)), (x, y)


def shuffle(images: Sequence[BgrImage], seed: int = 1) -> list[BgrImage]:
    """So that neither names nor order say which side an image shows."""
    return [images[index] for index in np.random.default_rng(seed).permutation(len(images))]


@pytest.fixture(scope="module")
def sides() -> Sides:
    return Sides()


@pytest.fixture(scope="module")
def taught(sides: Sides, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data directory with a recipe of both sides, and one of the boards alone."""
    root = tmp_path_factory.mktemp("views")
    mixed = shuffle([*sides.taught(0, BOARDS), *sides.taught(1, CASTINGS)])
    report = fit_recipe("both", write_images(root / "both", mixed), root)
    assert report.mode == "located" and report.images == BOARDS + CASTINGS
    boards = root / "boards"
    boards.mkdir()
    for name in report.choices["views"][0]["images"]:
        shutil.copy(root / "both" / name, boards)
    fit_recipe("boards", boards, root)
    return root


@pytest.fixture(scope="module")
def recipe(taught: Path) -> Recipe:
    return RecipeStore(taught).load("both")


@pytest.fixture
def data_dir(taught: Path, tmp_path: Path) -> Path:
    """A data directory of its own with the recipe of both sides."""
    shutil.copytree(taught / "recipes" / "both", tmp_path / "recipes" / "both")
    return tmp_path


def judge(recipe: Recipe, frame: BgrImage) -> tuple[Verdict, Scoring]:
    scoring = recipe.scorer().score_frame(frame)
    return decide_verdict(scoring, recipe.thresholds), scoring


def test_the_views_are_found_without_names(recipe: Recipe) -> None:
    """Each side has its images, its golden one, its own graph and its own model; together they are all."""
    choices = recipe.manifest.choices
    assert [len(view["images"]) for view in choices["views"]] == [BOARDS, CASTINGS]
    assert choices["left_out"] == [] and "2 views, of 13 and 11 images" in choices["mode_reason"]
    assert all(view["golden"] in view["images"] for view in choices["views"])
    assert len({image for view in choices["views"] for image in view["images"]}) == BOARDS + CASTINGS
    assert recipe.manifest.format_version == 3 and len(recipe.goldens) == 2
    assert not np.array_equal(recipe.goldens[0], recipe.goldens[1])
    assert "with 13 good images" in recipe.manifest.promise and "with 11 good images" in recipe.manifest.promise


@pytest.mark.parametrize("view", [0, 1])
def test_each_view_is_judged_by_its_own(recipe: Recipe, sides: Sides, view: int) -> None:
    """Good parts of either side pass, spoilt ones do not, with the box where the spot is."""
    scorer = recipe.scorer()
    good = [scorer.score_frame(sides.good(view, number)) for number in range(100, 110)]
    assert {scoring.view for scoring in good} == {view}
    assert sum(scoring.score < recipe.thresholds.review and not scoring.oddities for scoring in good) >= 8
    for number in range(200, 204):
        frame, (x, y) = sides.spoilt(view, number)
        verdict, scoring = judge(recipe, frame)
        assert verdict.kind is VerdictKind.NG and scoring.view == view
        x0, y0, x1, y1 = verdict.detections[0].box_xyxy_px
        assert x0 <= x < x1 and y0 <= y < y1
        assert scoring.anomaly_map.scores.max() == pytest.approx(scoring.score)


def test_the_registration_is_that_of_the_view(recipe: Recipe, sides: Sides) -> None:
    """The golden image of a view, laid by it, shows what the frame shows."""
    for view in (0, 1):
        frame = sides.good(view, 120)
        scoring = recipe.scorer().score_frame(frame)
        assert scoring.registration is not None
        middle = transform_points(scoring.registration.matrix, np.array([[SIZE[0] / 2, SIZE[1] / 2]]))[0]
        laid = cv2.warpAffine(recipe.goldens[view], scoring.registration.matrix, SIZE)
        x, y = (int(edge) for edge in middle)
        window = np.s_[y - 50 : y + 50, x - 80 : x + 80]
        assert np.abs(laid[window].astype(int) - frame[window]).mean() < 12
        assert recipe.golden_for(frame) is recipe.goldens[view]


def test_the_most_frequent_view_scores_as_if_it_were_alone(taught: Path, recipe: Recipe, sides: Sides) -> None:
    """Its maps and thresholds are those of a recipe of that side only, to the last bit."""
    alone = RecipeStore(taught).load("boards")
    assert alone.thresholds == recipe.thresholds and alone.manifest.format_version == 2
    for number in (130, 131):
        one, several = (item.scorer().score_frame(sides.good(0, number)) for item in (alone, recipe))
        assert one.view is None and several.view == 0
        assert np.array_equal(one.anomaly_map.scores, several.anomaly_map.scores)


def test_the_scores_of_another_view_are_stretched_to_the_common_thresholds(recipe: Recipe) -> None:
    """A score at its own threshold becomes the common one."""
    (second,) = recipe.manifest.further_views
    own = recipe.manifest.choices["views"][1]
    assert second.settings.regions is not None
    (region,) = second.settings.regions.regions
    assert region.own.review == pytest.approx(own["own_review_threshold"], rel=1e-5)
    assert region.own.ng == pytest.approx(own["own_ng_threshold"], rel=1e-5)
    assert second.settings.regions.common == recipe.manifest.thresholds


def test_a_third_product_is_review_with_the_reason(recipe: Recipe) -> None:
    """What shows none of the views is not judged."""
    other = cv2.resize(draw_part(5), SIZE)
    verdict, _ = judge(recipe, np.asarray(other, np.uint8))
    assert verdict.kind is VerdictKind.REVIEW
    assert any(reason.startswith("registration confidence 0.") for reason in verdict.reasons)
    with pytest.raises(RecipeMismatchError, match="480x270"):
        recipe.scorer().score_frame(draw_part(5))


def test_inspect_and_its_visual_work_for_each_view(recipe: Recipe, sides: Sides, tmp_path: Path) -> None:
    """The JSON names the view from 1, and a visual with a twin is painted for a spoilt part of either side."""
    files = []
    for view in (0, 1):
        files.append(tmp_path / f"part{view}.jpg")
        files[-1].write_bytes(encode_jpeg(sides.spoilt(view, 210)[0], 95))
    found = [item.to_json() for item in inspect_images(recipe, files, tmp_path / "out")]
    assert [item["view"] for item in found] == [1, 2]
    for item in found:
        assert item["verdict"] == "NG" and Path(item["visual"]).stat().st_size > 10_000
    assert json.loads(json.dumps(found))[0]["recipe"] == "both@1"


def test_names_are_learned_with_the_golden_image_of_the_view(data_dir: Path, sides: Sides, tmp_path: Path) -> None:
    """Spots on both sides get one name, and a new one on either side gets it."""
    folder = tmp_path / "examples" / "spot"
    write_images(folder, [sides.spoilt(number % 2, 300 + number)[0] for number in range(6)])
    name_defects("both", data_dir, examples_dir=tmp_path / "examples")
    recipe = RecipeStore(data_dir).load("both@2")
    assert recipe.further_views and recipe.manifest.format_version == 3
    files = write_images(tmp_path / "new", [sides.spoilt(view, 320)[0] for view in (0, 1)])
    for item in inspect_images(recipe, sorted(files.iterdir()), None):
        assert item.names() == ("spot",)


def test_calibrate_estimates_the_common_thresholds(data_dir: Path, sides: Sides, tmp_path: Path) -> None:
    """From new good parts of both sides, whose files stay as they are; both views follow the new thresholds."""
    fresh = [sides.good(view, 400 + number) for view in (0, 1) for number in range(10)]
    report = calibrate_recipe("both", data_dir, good_dir=write_images(tmp_path / "fresh", fresh))
    old, new = (RecipeStore(data_dir).load(f"both@{version}", require_released=False) for version in (1, 2))
    assert report.ref.version == 2 and new.manifest.further_views == old.manifest.further_views
    assert new.thresholds != old.thresholds
    for view in (0, 1):
        frame = sides.good(view, 430)
        before, after = (item.scorer().score_frame(frame) for item in (old, new))
        assert before.score == after.score and new.scorer().thresholds == new.thresholds


def test_a_question_shows_the_golden_image_of_the_view(taught: Path, recipe: Recipe, sides: Sides) -> None:
    """What a cloud model may be shown beside a part is the same side of it."""
    facts = QuestionMaterial(small_plant(folder_camera(taught)), taught).read_recipe(recipe.ref)
    for view in (0, 1):
        assert np.array_equal(facts.golden_for(sides.spoilt(view, 230)[0]), recipe.goldens[view])


# --- the files --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["golden-2.png", "features-2.onnx", "arrays.npz"])
def test_a_changed_file_of_a_view_is_noticed(data_dir: Path, name: str) -> None:
    """As every file of a recipe; and one that is missing."""
    path = data_dir / "recipes" / "both" / "1" / name
    change_one_byte(path)
    with pytest.raises(RecipeTamperedError, match=f"{name} does not match its hash"):
        RecipeStore(data_dir).load("both")
    path.unlink()
    with pytest.raises(RecipeTamperedError, match=f"{name} cannot be read"):
        RecipeStore(data_dir).load("both")


def test_a_view_without_its_arrays_is_noticed(data_dir: Path, recipe: Recipe) -> None:
    """Forged files that agree with the manifest, but not with each other."""
    arrays = {name: array for name, array in recipe.arrays.items() if name != "view2_screen_mean"}
    folder = data_dir / "recipes" / "both" / "1"
    forge(folder, "arrays.npz", encode_arrays(arrays))
    with pytest.raises(RecipeTamperedError, match="'view2_screen_mean' is missing"):
        RecipeStore(data_dir).load("both@1", require_released=False).scorer()


@pytest.mark.parametrize("damage", ["format", "names", "golden", "scale", "head"])
def test_a_manifest_whose_views_do_not_fit(data_dir: Path, damage: str) -> None:
    """Views in the format of one view, another view's files or others elsewhere, another scale, a head without net."""
    folder = data_dir / "recipes" / "both" / "1"
    manifest = json.loads((folder / "manifest.json").read_bytes())
    if damage == "format":
        manifest["format_version"] = 2
    elif damage == "names":
        manifest["further_views"][0]["graph"] = "features-3.onnx"
    elif damage == "scale":
        manifest["further_views"][0]["settings"]["ratio"] = 2
    elif damage == "head":
        manifest["further_views"][0]["settings"]["heads"] = ["net"]
    else:
        manifest["further_views"][0]["golden"] = "../golden-2.png"
    overwrite(folder / "manifest.json", json.dumps(manifest).encode())
    (folder.parent / "released.json").unlink()
    with pytest.raises(RecipeTamperedError, match="is not a manifest"):
        RecipeStore(data_dir).load("both@1", require_released=False)


def test_a_later_format_says_so(data_dir: Path) -> None:
    """The sentence names the formats that are read."""
    folder = data_dir / "recipes" / "both" / "1"
    manifest = json.loads((folder / "manifest.json").read_bytes())
    overwrite(folder / "manifest.json", json.dumps(manifest | {"format_version": 4}).encode())
    (folder.parent / "released.json").unlink()
    with pytest.raises(RecipeError, match="recipe format 4, this version reads 2 and 3"):
        RecipeStore(data_dir).load("both@1", require_released=False)


# --- what is one view, what is several ----------------------------------------------------------------


def choose(images: list[BgrImage]) -> tuple[str, list[int] | None, int]:
    """The mode, the sizes of the views and how many images are left out, for shuffled images."""
    found = choose_mode(Images(shuffle(images)), {(images[0].shape[1], images[0].shape[0])})
    if found.groups is None:
        return found.mode, None, 0
    return found.mode, [len(view) for view in found.groups.views], len(found.groups.left_out)


def test_one_view_is_left_as_it_was(taught_plate: Path) -> None:
    """No view is recorded, and the manifest is what older programs read: they refuse fields that they do not know."""
    manifest = json.loads((taught_plate / "data" / "recipes" / "plate" / "1" / "manifest.json").read_bytes())
    assert "further_views" not in manifest and manifest["format_version"] == 2
    recipe = RecipeStore(taught_plate / "data").load("plate")
    assert recipe.manifest.format_version == 2 and recipe.manifest.further_views == ()
    assert isinstance(recipe.manifest.settings, PartSettings) and recipe.manifest.settings.regions is None
    assert {"views", "left_out"}.isdisjoint(recipe.manifest.choices)


def test_sides_of_one_outline_are_told_apart() -> None:
    """A plate with another face between the same edges and holes: its detail matches in part, and that is a gap."""
    images = [*(draw_part(seed) for seed in range(12)), *(draw_back(seed) for seed in range(50, 60))]
    assert choose(images) == ("located", [12, 10], 0)


def draw_back(number: int) -> BgrImage:
    """The plate of `draw_part` from behind: the same edges and holes, ribs where the letters are in front."""
    back = np.full((240, 320, 3), 45, np.uint8)
    cv2.rectangle(back, (60, 50), (260, 190), (170, 165, 160), -1)
    for x, y in ((90, 80), (230, 80), (90, 160), (230, 160)):
        cv2.circle(back, (x, y), 12, (60, 60, 60), -1, cv2.LINE_AA)
    for row in range(80, 180, 25):
        cv2.line(back, (110, row), (210, row), (60, 60, 70), 5)
    dice = np.random.default_rng([8, number])
    shift = np.array([[1, 0, dice.uniform(-2, 2)], [0, 1, dice.uniform(-2, 2)]])
    moved = cv2.warpAffine(back, shift, (320, 240), borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(np.clip(moved + dice.normal(0, 2, moved.shape), 0, 255).astype(np.uint8), np.uint8)


def test_an_odd_image_makes_no_view_of_its_own() -> None:
    """One image of another product among the boards: one view, as before."""
    assert choose([*(paint_board(seed) for seed in range(12)), draw_part(1)]) == ("located", None, 0)


def test_a_view_with_too_few_images_is_left_out_and_named(tmp_path: Path) -> None:
    """Three photographs of the other side cannot be judged by; the recipe is that of the first side."""
    images = [*(paint_board(seed) for seed in range(10)), *(draw_part(seed) for seed in range(3))]
    report = fit_recipe("board", write_images(tmp_path / "good", images), tmp_path)
    assert report.images == 10 and report.choices["left_out"] == ["010.png", "011.png", "012.png"]
    assert "2 views, of 10 and 3 images" in report.choices["mode_reason"]
    verdict, scoring = judge(RecipeStore(tmp_path).load("board"), draw_part(9))
    assert verdict.kind is VerdictKind.REVIEW and scoring.view is None


def test_views_without_enough_images_are_refused(tmp_path: Path) -> None:
    """The sentence says how many each has, and what is needed."""
    images = [*(paint_board(seed) for seed in range(6)), *(draw_part(seed) for seed in range(5))]
    good = write_images(tmp_path / "good", images)
    with pytest.raises(FitError, match=f"2 views, of 6 and 5 images; each view needs at least {FEWEST_TO_JUDGE}"):
        fit_recipe("few", good, tmp_path)


def test_textures_and_parts_at_any_angle_are_not_views() -> None:
    """A surface, a weave whose registration succeeds now and then, and boards that lie at any angle."""
    assert choose([paint_surface(seed) for seed in range(20)]) == ("surface", None, 0)
    assert choose([weave(seed) for seed in range(16)])[1] is None
    assert choose([spin(paint_board(seed), seed) for seed in range(16)])[1] is None


def test_three_views_with_a_stray() -> None:
    """Both sides of a board and another part, in any order; what shows none is left out."""
    images = [*(paint_board(seed) for seed in range(9)), *(turned(paint_board(seed)) for seed in range(20, 30))]
    assert choose([*images, *(draw_part(seed) for seed in range(8)), paint_surface(1)]) == ("located", [10, 9, 8], 1)


def weave(seed: int) -> BgrImage:
    """A fabric that lies a little differently each time: it fits on itself at every thread, or not at all."""
    dice = np.random.default_rng(seed)
    turn, phase = np.radians(dice.uniform(-3.0, 3.0)), dice.uniform(0.0, 18.0, 2)
    rows, columns = np.mgrid[0:180, 0:240]
    along = np.cos(turn) * columns + np.sin(turn) * rows + phase[0]
    across = -np.sin(turn) * columns + np.cos(turn) * rows + phase[1]
    grey = 128 + 55 * np.sin(along / 2.9) + 55 * np.sin(across / 2.9) + dice.normal(0, 6, along.shape)
    return np.asarray(cv2.cvtColor(np.clip(grey, 0, 255).astype(np.uint8), cv2.COLOR_GRAY2BGR), np.uint8)


def spin(image: BgrImage, seed: int) -> BgrImage:
    """The part at an angle of its own, on a larger table."""
    table = cv2.copyMakeBorder(image, 60, 60, 20, 20, cv2.BORDER_REPLICATE)
    size = (table.shape[1], table.shape[0])
    angle = float(np.random.default_rng(seed).uniform(0, 360))
    turn = cv2.getRotationMatrix2D((size[0] / 2, size[1] / 2), angle, 1.0)
    return np.asarray(cv2.warpAffine(table, turn, size, borderMode=cv2.BORDER_REPLICATE), np.uint8)


# --- what does not go together ------------------------------------------------------------------------


def test_options_for_one_view_are_refused_by_name(taught: Path, tmp_path: Path) -> None:
    """All that are given, in one sentence, before anything is learned."""
    mask = tmp_path / "mask.png"
    cv2.imwrite(str(mask), np.zeros((SIZE[1], SIZE[0]), np.uint8))
    with pytest.raises(FitError, match=r"^--ignore, --regions, --mm-per-px cannot be used with several views"):
        fit_recipe("refused", taught / "both", tmp_path, ignore_mask=mask, regions=mask, mm_per_px=0.1)
    assert RecipeStore(tmp_path).names() == ()


def test_views_at_any_angle_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also when the two parts may lie at any angle they are two, and that is not taught together."""
    monkeypatch.setattr(views, "CHECKED_AT", (0.5,))
    images = [*(paint_board(seed, width=160, height=120) for seed in range(8)), *(small_part(n) for n in range(8))]
    with pytest.raises(FitError, match=r"^--rotation free cannot be used with several views: the good images show 2"):
        fit_recipe("refused", write_images(tmp_path / "good", shuffle(images)), tmp_path, rotation="free")


def small_part(number: int) -> BgrImage:
    return draw_part(number, width_px=160, height_px=120)
