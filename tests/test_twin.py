"""The twin in the product: what `fit` keeps and measures for it, what the painter takes, and what it says it did."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from inspector.detector.recipe import Recipe
from inspector.detector.recipe_store import REFERENCES, RecipeStore
from inspector.errors import InputError, RecipeMismatchError, RecipeTamperedError
from inspector.generator.bank_file import unpack_bank
from inspector.generator.choose import load_repairers
from inspector.generator.repairer import Twin
from inspector.images import sha256_hex
from inspector.records import BgrImage, Detection
from inspector.scenes.renderer import RenderedPart, SceneRenderer, write_good_images
from pipelines.fit import fit_recipe
from pipelines.repair import repair_image
from pipelines.twin import GAP_PX, RIM_PX, TwinPainter, mask_detections, read_bank
from reports.xmp import read_packet
from tests.part_images import paint_surface, write_images
from tests.small_line import SHIPPED_MASKS, call_inspector, measure_repairs_on

SIZE = (640, 360)
BOARD, SURFACE = "board", "surface"


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data directory with a recipe of rendered boards and one of brushed metal."""
    base = tmp_path_factory.mktemp("twins")
    write_good_images(base / BOARD, "board", 3, 9, *SIZE)
    write_images(base / SURFACE, [paint_surface(seed) for seed in range(6)])
    with measure_repairs_on(SHIPPED_MASKS):
        for name in (BOARD, SURFACE):
            fit_recipe(name, base / name, base / "data")
    return base / "data"


@pytest.fixture(scope="module")
def recipe(data_dir: Path) -> Recipe:
    return RecipeStore(data_dir).load(BOARD)


@pytest.fixture(scope="module")
def painter(recipe: Recipe) -> TwinPainter:
    return TwinPainter(recipe)


@pytest.fixture(scope="module")
def parts() -> list[tuple[RenderedPart, BgrImage]]:
    """Defective boards, each with the same board without its defects."""
    line = SceneRenderer("board", 3, *SIZE, defect_rate=1.0)
    found = [(line.render(number), line.render(number, defect_rate=0.0).pixels) for number in range(1, 7)]
    return [(part, good) for part, good in found if part.mask.any()]


def grow(mask: NDArray[np.bool_], by_px: int = 5) -> NDArray[np.bool_]:
    return np.asarray(cv2.dilate(mask.astype(np.uint8), np.ones((2 * by_px + 1, 2 * by_px + 1))) > 0, np.bool_)


def paint(painter: TwinPainter, pixels: BgrImage, mask: NDArray[np.bool_], method: str = "auto") -> Twin:
    twin = painter.paint(pixels, mask, method)
    assert twin is not None
    return twin


def error(one: BgrImage, other: BgrImage, mask: NDArray[np.bool_]) -> float:
    return float(((one[mask].astype(np.float64) - other[mask]) ** 2).mean())


def test_the_twin_of_a_defective_board_is_the_board_without_its_defects(
    painter: TwinPainter, parts: list[tuple[RenderedPart, BgrImage]]
) -> None:
    """Rendered defects of several kinds are gone, and nothing outside the feathered mask is touched."""
    assert len(parts) >= 4
    before, after = 0.0, 0.0
    for part, good in parts:
        mask = grow(part.mask)
        twin = paint(painter, part.pixels, mask)
        assert (twin.method, twin.fallback) == ("paste", None)
        assert np.array_equal(twin.pixels[~twin.mask], part.pixels[~twin.mask])
        before += error(part.pixels, good, part.mask)
        after += error(twin.pixels, good, part.mask)
    assert after < before / 4


def test_suspicious_places_are_repaired_with_a_rim_and_what_lies_between_them() -> None:
    """A narrow gap is closed, a wide one is not; nothing is repaired where nothing is suspicious."""
    pixels = np.zeros((400, 600, 3), np.uint8)
    boxes = (
        (100, 100, 140, 140),
        (140 + 2 * RIM_PX + GAP_PX - 2, 100, 240, 140),
        (400, 100, 440, 140),
        (0, 390, 5, 400),
    )
    mask = mask_detections(pixels, tuple(Detection(box, 2.0) for box in boxes))
    assert mask[100 - RIM_PX : 140 + RIM_PX, 100 - RIM_PX : 240 + RIM_PX].all()
    assert not mask[:, 240 + RIM_PX : 400 - RIM_PX].any() and mask[100:140, 400 - RIM_PX : 440 + RIM_PX].all()
    assert not mask[: 100 - RIM_PX].any() and not mask[140 + RIM_PX : 390 - RIM_PX].any()
    assert mask[390 - RIM_PX :, : 5 + RIM_PX].all()
    assert not mask_detections(pixels, ()).any()


def test_fit_keeps_the_good_images_and_says_which_method_won(recipe: Recipe) -> None:
    """The bank is a file of the recipe like the others; the choices hold the figures of every method."""
    manifest = recipe.manifest
    assert manifest.references is not None and recipe.references is not None
    assert manifest.files[REFERENCES] == sha256_hex(recipe.references)
    (view,) = manifest.references.views
    assert sorted(view) == [image.file for image in manifest.images]
    assert len(unpack_bank(recipe.references)) == 9
    measured = manifest.choices["repair"]
    assert measured["method"] in ("paste", "net") and measured["without_reference"] in ("net", "texture", "telea", "ns")
    assert measured["views"] == [9]
    assert set(measured["psnr_db"]) == set(load_repairers(1))
    assert measured["psnr_db"]["paste"] > max(measured["psnr_db"]["telea"], measured["psnr_db"]["ns"]) + 2.0
    assert set(measured["psnr_db_without_reference"]) == {"net", "texture", "telea", "ns"}
    assert measured["masks"] == 24


def test_a_surface_has_no_references_and_says_so(data_dir: Path) -> None:
    """Nothing is registered, the better of the fillings is taken, and that is no fallback."""
    recipe = RecipeStore(data_dir).load(SURFACE)
    assert recipe.references is None and recipe.manifest.references is None
    measured = recipe.manifest.choices["repair"]
    assert measured["psnr_db"]["paste"] is None
    without = measured["psnr_db_without_reference"]
    best = max(without, key=lambda name: without[name])
    assert measured["without_reference"] == measured["method"] == best
    painter = TwinPainter(recipe)
    pixels = paint_surface(40, defect=True)
    mask = np.zeros(pixels.shape[:2], np.bool_)
    mask[115:165, 155:175] = True
    twin = paint(painter, pixels, mask)
    assert (twin.method, twin.fallback) == (best, None)
    with pytest.raises(InputError, match="needs a reference"):
        painter.paint(pixels, mask, "paste")


def test_another_product_falls_back_and_is_marked(painter: TwinPainter) -> None:
    """A casting under the board's recipe: nothing of a board is painted into it, and why is said."""
    pixels = SceneRenderer("casting", 5, *SIZE, defect_rate=0.0).render(1).pixels
    mask = np.zeros((SIZE[1], SIZE[0]), np.bool_)
    mask[150:200, 300:360] = True
    twin = paint(painter, pixels, mask)
    assert twin.method in ("net", "texture", "telea", "ns")
    assert twin.fallback is not None and twin.fallback.startswith("no reference: ")
    with pytest.raises(InputError, match=r"\(no reference: "):
        painter.paint(pixels, mask, "paste")
    assert paint(painter, pixels, mask, "ns").fallback is None


def test_a_large_defect_does_not_refuse_its_references(
    painter: TwinPainter, parts: list[tuple[RenderedPart, BgrImage]]
) -> None:
    """A chequered plate over the middle of a good board: as a whole it is no board, beside the plate it is one."""
    _, good = parts[0]
    mask = np.zeros((SIZE[1], SIZE[0]), np.bool_)
    mask[70:290, 200:440] = True
    frame = good.copy()
    frame[mask] = (np.indices((220, 240)).sum(axis=0) // 12 % 2 * 255).astype(np.uint8).reshape(-1, 1)
    assert painter.place(frame)[1] is not None
    twin = paint(painter, frame, mask)
    assert (twin.method, twin.fallback) == ("paste", None)
    assert error(twin.pixels, good, mask) < 2.0 * error(paint(painter, good, mask).pixels, good, mask)


def test_an_older_recipe_has_its_golden_image(recipe: Recipe, parts: list[tuple[RenderedPart, BgrImage]]) -> None:
    """Without a bank and without measurements the golden image alone is pasted, as before."""
    choices = {key: value for key, value in recipe.manifest.choices.items() if key != "repair"}
    manifest = recipe.manifest.model_copy(update={"references": None, "choices": choices})
    old = Recipe(recipe.ref, manifest, recipe.golden, recipe.arrays, recipe.graph, recipe.contrast_graph)
    bank = read_bank(old)
    assert bank is not None and len(bank) == 1
    part, good = parts[0]
    twin = paint(TwinPainter(old), part.pixels, grow(part.mask))
    assert twin.method == "paste"
    assert error(twin.pixels, good, part.mask) < error(part.pixels, good, part.mask)


@pytest.mark.parametrize(
    "box",
    [(0, 0, 40, 30), (600, 340, 640, 360), (300, 180, 301, 181), (0, 0, 640, 360), (0, 100, 640, 140)],
    ids=["corner", "far_corner", "one_pixel", "whole_frame", "band"],
)
@pytest.mark.parametrize("method", ["auto", "telea"])
def test_regions_of_every_kind_are_painted(
    painter: TwinPainter, parts: list[tuple[RenderedPart, BgrImage]], box: tuple[int, int, int, int], method: str
) -> None:
    """At the border, of one pixel, as large as the frame: the contract holds, twice with the same bytes."""
    pixels = parts[0][0].pixels
    mask = np.zeros((SIZE[1], SIZE[0]), np.bool_)
    mask[box[1] : box[3], box[0] : box[2]] = True
    twin, again = (paint(painter, pixels, mask, method) for _ in range(2))
    assert np.array_equal(twin.pixels, again.pixels)
    assert np.array_equal(twin.pixels[~twin.mask], pixels[~twin.mask])
    assert twin.mask[mask].all()


def test_a_frame_sized_region_shows_a_whole_good_part(
    painter: TwinPainter, parts: list[tuple[RenderedPart, BgrImage]]
) -> None:
    """With nothing left to learn from, the golden image is laid where the part lies."""
    part, good = parts[0]
    twin = paint(painter, part.pixels, np.ones((SIZE[1], SIZE[0]), np.bool_))
    assert np.abs(twin.pixels.astype(int) - good).mean() < 12


def test_input_that_does_not_fit(painter: TwinPainter) -> None:
    """A mask of another size, a frame of another size, an unknown method, an empty mask."""
    pixels = np.zeros((SIZE[1], SIZE[0], 3), np.uint8)
    mask = np.ones((SIZE[1], SIZE[0]), np.bool_)
    with pytest.raises(ValueError, match="must be equal"):
        painter.paint(pixels, mask[:-1])
    with pytest.raises(RecipeMismatchError, match="fitted on 640x360"):
        painter.paint(pixels[:-2], mask[:-2])
    with pytest.raises(InputError, match="unknown"):
        painter.paint(pixels, mask, "magic")
    assert painter.paint(pixels, ~mask) is None


def test_grey_and_16_bit_images_are_repaired(
    data_dir: Path, parts: list[tuple[RenderedPart, BgrImage]], tmp_path: Path
) -> None:
    """A grey and a 16-bit PNG of a part are read as frames are; their twins are 8-bit pictures of the same size."""
    part = parts[0][0]
    cv2.imwrite(str(tmp_path / "mask.png"), grow(part.mask).astype(np.uint8) * 255)
    grey = cv2.cvtColor(part.pixels, cv2.COLOR_BGR2GRAY)
    for name, pixels in (
        ("grey", grey),
        ("deep", part.pixels.astype(np.uint16) * 257),
        ("deep_grey", grey.astype(np.uint16) * 257),
    ):
        image, out = tmp_path / f"{name}.png", tmp_path / f"{name}-twin.png"
        cv2.imwrite(str(image), pixels)
        report = repair_image(BOARD, image, tmp_path / "mask.png", "auto", out, data_dir)
        assert (report.method, report.generated, report.fallback) == ("paste", True, None)
        with Image.open(out) as twin:
            assert twin.size == SIZE


def test_repair_says_why_it_fell_back(data_dir: Path, tmp_path: Path) -> None:
    """In the report, in the file's metadata and in the log of the command."""
    image, mask, out = (tmp_path / name for name in ("casting.png", "mask.png", "twin.png"))
    cv2.imwrite(str(image), SceneRenderer("casting", 5, *SIZE, defect_rate=0.0).render(2).pixels)
    white = np.zeros((SIZE[1], SIZE[0]), np.uint8)
    white[150:200, 300:360] = 255
    cv2.imwrite(str(mask), white)
    done = call_inspector(
        "repair", BOARD, image, "--mask", mask, "--out", out, "--data-dir", data_dir, "--json"
    )  # fmt: skip
    report = json.loads(done.stdout)
    assert report["fallback"].startswith("no reference: ")
    assert report["method"] in ("net", "texture", "telea", "ns")
    assert report["fallback"] in done.stderr
    with Image.open(out) as written:
        assert read_packet(written.info["xmp"])["insp:twinFallback"] == report["fallback"]


def test_a_tampered_bank_is_refused(data_dir: Path, tmp_path: Path, recipe: Recipe) -> None:
    """A changed byte is found by its hash; a bank of another frame size when the painter is made."""
    path = data_dir / "recipes" / BOARD / "1" / REFERENCES
    original = path.read_bytes()
    path.chmod(0o644)
    try:
        path.write_bytes(original[:-1] + bytes([original[-1] ^ 1]))
        with pytest.raises(RecipeTamperedError, match=r"references\.npz does not match its hash"):
            RecipeStore(data_dir).load(BOARD)
        path.unlink()
        with pytest.raises(RecipeTamperedError, match=r"references\.npz"):
            RecipeStore(data_dir).load(BOARD)
    finally:
        path.write_bytes(original)
    foreign = recipe.manifest.model_copy(update={"frame_size": (320, 180)})
    other = Recipe(
        recipe.ref, foreign, recipe.golden, recipe.arrays, recipe.graph, recipe.contrast_graph, None, original
    )
    with pytest.raises(RecipeTamperedError, match="another frame size"):
        TwinPainter(other)
