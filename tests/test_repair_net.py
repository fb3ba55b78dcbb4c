"""The repair net as it runs: what it may change, tiles without seams, cached features, files that are refused."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from inspector.errors import WeightsError
from inspector.generator import net as repair_net
from inspector.generator.feature_cache import BLOCK_PX, FeatureCache, ReferenceImage
from inspector.generator.net import NetRepairer, plan_tiles
from inspector.generator.references import PlacedReferences
from inspector.generator.repair_model import (
    FEATURE_CELL_PX,
    TRUNK_REACH_PX,
    Features,
    RepairModel,
    RepairTile,
    load_repair_model,
)
from inspector.generator.view_images import PixelImages
from inspector.images import is_grey
from inspector.records import BgrImage

pytest.importorskip("torch", reason="the net under test is built with PyTorch, the extra `train`")

from tests.tiny_repair_net import CHANNELS, build_tiny_net, export_tiny_net

SIZE = (400, 300)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("weights")
    export_tiny_net(folder, build_tiny_net())
    return folder


@pytest.fixture(scope="module")
def model(weights: Path) -> RepairModel:
    return load_repair_model(folder=weights)


def draw_part(width: int = SIZE[0], height: int = SIZE[1], seed: int = 5) -> BgrImage:
    rng = np.random.default_rng(seed)
    board = np.full((height, width, 3), (90, 120, 60), np.uint8)
    for _ in range(width * height // 3000):
        x, y = int(rng.integers(0, width)), int(rng.integers(0, height))
        colour = [int(value) for value in rng.integers(40, 230, 3)]
        cv2.rectangle(board, (x, y), (x + int(rng.integers(8, 40)), y + int(rng.integers(6, 30))), colour, -1)
    noisy = cv2.GaussianBlur(board, (0, 0), 0.8) + rng.normal(0.0, 2.0, board.shape)
    return np.clip(noisy, 0, 255).astype(np.uint8)


def place(*images: BgrImage, to_frame: NDArray[np.float64] | None = None) -> PlacedReferences:
    size = (images[0].shape[1], images[0].shape[0])
    matrix = np.eye(2, 3) if to_frame is None else to_frame
    return PlacedReferences(PixelImages(images), matrix, size, 1.0)


def mask_of(box: tuple[int, int, int, int], size: tuple[int, int] = SIZE) -> NDArray[np.bool_]:
    mask = np.zeros((size[1], size[0]), np.bool_)
    mask[box[1] : box[3], box[0] : box[2]] = True
    return mask


BOXES = {
    "inside": (150, 100, 260, 180),
    "one pixel": (200, 150, 201, 151),
    "corner": (0, 0, 40, 30),
    "last pixel": (399, 299, 400, 300),
    "right edge": (360, 20, 400, 290),
    "whole frame": (0, 0, 400, 300),
}


@pytest.mark.parametrize("with_references", [True, False], ids=["references", "surface"])
@pytest.mark.parametrize("box", BOXES.values(), ids=BOXES)
def test_nothing_changes_away_from_the_mask(
    model: RepairModel, box: tuple[int, int, int, int], with_references: bool
) -> None:
    """Every kind of region is painted; further than 32 px from it, and outside of `Twin.mask`, every byte is kept."""
    frame, mask = draw_part(), mask_of(box)
    turned = cv2.getRotationMatrix2D((200, 150), 1.5, 1.01).astype(np.float64)
    references = place(draw_part(), draw_part(seed=6), to_frame=turned) if with_references else None
    frame_before = frame.copy()

    twin = NetRepairer(model).repair(frame, mask, references)

    assert np.array_equal(frame, frame_before)
    assert twin.method == "net" and twin.mask[mask].all()
    assert np.array_equal(twin.pixels[~twin.mask], frame[~twin.mask])
    far = cv2.distanceTransform((~mask).view(np.uint8), cv2.DIST_L2, 5) > 32
    assert not twin.mask[far].any()
    assert (twin.pixels[mask] != frame[mask]).any()


def test_what_is_masked_does_not_show(model: RepairModel) -> None:
    """Whatever the defect looks like, the twin is the same."""
    mask = mask_of((150, 100, 260, 180))
    references = place(draw_part(), draw_part(seed=6))
    one, other = draw_part(), draw_part()
    one[mask], other[mask] = 255, 0
    repairer = NetRepairer(model)

    twins = [repairer.repair(frame, mask, references).pixels for frame in (one, other)]

    assert np.array_equal(twins[0][mask], twins[1][mask])


@pytest.mark.parametrize("with_references", [True, False], ids=["references", "surface"])
def test_the_twin_of_a_grey_frame_is_grey(model: RepairModel, with_references: bool) -> None:
    """A grey camera shows no colour, so neither does what is painted; one coloured pixel nearby, and it may."""
    grey = np.repeat(draw_part()[..., :1], 3, axis=2)
    mask, references = mask_of((150, 100, 260, 180)), place(grey) if with_references else None
    twin = NetRepairer(model).repair(grey, mask, references).pixels
    assert is_grey(grey) and is_grey(twin)
    coloured = grey.copy()
    coloured[95, 140] = (1, 2, 3)
    assert not is_grey(coloured)
    assert not is_grey(NetRepairer(model).repair(coloured, mask, references).pixels[100:180, 150:260])


def test_the_net_adds_to_the_base(model: RepairModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """The residual of the net is in the picture, and it depends on the references."""
    frame, mask = draw_part(), mask_of((150, 100, 260, 180))
    with_net = NetRepairer(model).repair(frame, mask, place(draw_part(), draw_part(seed=6))).pixels
    monkeypatch.setattr(model, "predict", lambda tiles: [np.zeros((*tile.hole.shape, 3), np.float32) for tile in tiles])
    base = NetRepairer(model).repair(frame, mask, place(draw_part(), draw_part(seed=6))).pixels

    assert np.abs(with_net[mask].astype(int) - base[mask]).max() > 3


def test_tiles_leave_no_seam(model: RepairModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """A region cut into several tiles is painted as in one, within a grey level."""
    size = (1000, 120)
    frame, mask = draw_part(*size), mask_of((60, 40, 940, 80), size)
    whole = NetRepairer(model).repair(frame, mask, None)
    monkeypatch.setattr(repair_net, "LARGEST_TILE_PX", 2 * TRUNK_REACH_PX + 128)
    assert len(plan_tiles((0, 0, *size), (1024, 128))) > 2

    cut = NetRepairer(model).repair(frame, mask, None)

    assert np.abs(whole.pixels.astype(int) - cut.pixels).max() <= 1


@pytest.mark.parametrize("wanted", [(-50, -50, 10, 10), (500, 500, 600, 600), (100, 40, 130, 50), (0, 0, 416, 320)])
def test_tiles_are_whole_strides_inside(wanted: tuple[int, int, int, int]) -> None:
    """There is always a tile, on the lattice of strides, inside of the view."""
    for x0, y0, x1, y1 in plan_tiles(wanted, (416, 320)):
        assert 0 <= x0 < x1 <= 416 and 0 <= y0 < y1 <= 320
        assert not any(edge % 32 for edge in (x0, y0, x1, y1))


def test_same_bytes_twice_and_with_more_threads(weights: Path, model: RepairModel) -> None:
    """The same input gives the same bytes; two threads differ by a grey level at most."""
    frame, mask = draw_part(), mask_of((150, 100, 260, 180))
    references = place(draw_part(), draw_part(seed=6))
    first, again = (NetRepairer(model).repair(frame, mask, references).pixels for _ in range(2))
    threaded = NetRepairer(load_repair_model(2, weights)).repair(frame, mask, references).pixels

    assert np.array_equal(first, again)
    assert np.abs(first.astype(int) - threaded).max() <= 1


def test_many_tiles_are_run_in_parts(model: RepairModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """What runs together has no say in the result, and is bounded."""
    rng = np.random.default_rng(2)
    tiles = [
        RepairTile(
            rng.integers(0, 256, (*shape, 3), np.uint8),
            rng.integers(0, 256, (*shape, 3), np.uint8),
            rng.random(shape) > 0.5,
            rng.random((CHANNELS, shape[0] // 8, shape[1] // 8), np.float32),
        )
        for shape in ((64, 64), (64, 96), (64, 64), (64, 64))
    ]
    together = model.predict(tiles)
    monkeypatch.setattr("inspector.generator.repair_model.MOST_PX_AT_ONCE", 64 * 64)

    alone = model.predict(tiles)

    assert all(np.array_equal(one, other) for one, other in zip(together, alone, strict=True))


# --- cached features --------------------------------------------------------------------------------


def encode_whole(model: RepairModel, image: BgrImage) -> Features:
    below, right = -image.shape[0] % 32, -image.shape[1] % 32
    return model.encode(np.asarray(cv2.copyMakeBorder(image, 0, below, 0, right, cv2.BORDER_REFLECT_101), np.uint8))


@pytest.mark.parametrize("size", [(700, 300), (257, 513), (40, 20)])
def test_cached_features_are_those_of_the_whole_image(model: RepairModel, size: tuple[int, int]) -> None:
    """Block by block, bit for bit, also at the borders and over them."""
    image = draw_part(*size)
    shown = ReferenceImage(PixelImages((image,)), 0, 0)
    whole = encode_whole(model, image)
    cache = FeatureCache(model.encode)
    height, width = (side * FEATURE_CELL_PX for side in whole.shape[1:])
    boxes = [(0, 0, width, height), (width - 32, height - 32, width, height), (0, 0, 32, 32)]
    for x0, y0, x1, y1 in boxes:
        found = cache.read(shown, (x0, y0, x1, y1))
        assert np.array_equal(found, whole[:, y0 // 8 : y1 // 8, x0 // 8 : x1 // 8])


def test_features_are_computed_once_in_bounded_memory(model: RepairModel) -> None:
    """What was read is not computed again, unless the least recently used block had to go."""
    image = ReferenceImage(PixelImages((draw_part(3 * BLOCK_PX, 64),)), 0, 0)
    block_bytes = CHANNELS * (64 // 8) * (BLOCK_PX // 8) * 4
    cache = FeatureCache(model.encode, limit_bytes=2 * block_bytes)
    first, second, third = ((BLOCK_PX * n, 0, BLOCK_PX * (n + 1), 64) for n in range(3))
    kept = cache.read(image, first).copy()
    cache.read(image, second)
    cache.read(image, first)
    assert cache.computed == 2
    cache.read(image, third)
    cache.read(image, first)
    assert cache.computed == 3 and cache.held_bytes <= 2 * block_bytes
    cache.read(image, second)
    assert cache.computed == 4
    cache.clear()
    assert cache.held_bytes == 0 and np.array_equal(cache.read(image, first), kept)


# --- files ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["repair.weights", "repair-trunk.onnx", "repair-encoder.onnx"])
@pytest.mark.parametrize("damage", ["missing", "truncated", "changed"])
def test_damaged_files_are_refused(weights: Path, tmp_path: Path, name: str, damage: str) -> None:
    """Missing, truncated and changed weights and graphs are a `WeightsError`."""
    shutil.copytree(weights, tmp_path / "w")
    path = tmp_path / "w" / name
    content = path.read_bytes()
    path.unlink()
    if damage == "truncated":
        path.write_bytes(content[: len(content) // 2])
    if damage == "changed":
        path.write_bytes(content[:-9] + bytes([content[-9] ^ 1]) + content[-8:])

    with pytest.raises(WeightsError):
        load_repair_model(folder=tmp_path / "w")


def test_graphs_that_changed_places_are_refused(weights: Path, tmp_path: Path) -> None:
    """Both graphs belong to the weights, but each has its place."""
    shutil.copytree(weights, tmp_path / "w")
    trunk, encoder = (tmp_path / "w" / f"repair-{part}.onnx" for part in ("trunk", "encoder"))
    content = trunk.read_bytes()
    trunk.write_bytes(encoder.read_bytes())
    encoder.write_bytes(content)

    with pytest.raises(WeightsError, match="encoder and trunk"):
        load_repair_model(folder=tmp_path / "w")


def test_the_service_needs_no_torch() -> None:
    """What paints twins runs where PyTorch is not installed, and never imports the training."""
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "import inspector.generator.net, inspector.generator.choose, pipelines.command_line\n"
        "assert not [name for name in sys.modules if name.startswith('inspector.generator.training')]"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
