"""The compiled banks: a tile gives exactly the cells that the whole frame gives there."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from inspector.detector.contrast_bank import build_contrast_bank
from inspector.detector.features import (
    CELL_PX,
    MARGIN_PX,
    PART_CHANNELS,
    FeatureBank,
    Whitening,
    build_part_bank,
    pad_to_cells,
)
from inspector.detector.surface_bank import build_surface_bank
from tests.part_images import paint_board

BANKS = {"part": build_part_bank, "surface": build_surface_bank, "contrast": build_contrast_bank}


@pytest.mark.parametrize("name", BANKS)
def test_a_tile_equals_the_same_cells_of_the_frame(name: str) -> None:
    """No operation of a bank pads, so cutting a frame into tiles changes nothing."""
    bank = FeatureBank(BANKS[name]())
    padded = pad_to_cells(paint_board(1))
    whole = bank.compute(padded)
    row, column, side = 13, 22, 16
    y, x, span = row * CELL_PX, column * CELL_PX, side * CELL_PX + 2 * MARGIN_PX
    tile = bank.compute(padded[y : y + span, x : x + span])
    assert np.allclose(tile, whole[:, row : row + side, column : column + side], atol=1e-6)


@pytest.mark.parametrize("size", [(240, 320), (61, 83), (5, 7)])
def test_cells_cover_frames_of_any_size(size: tuple[int, int]) -> None:
    """A frame of H x W gives ceil(H/4) x ceil(W/4) finite cells, also when it is smaller than a kernel."""
    pixels = np.random.default_rng(0).integers(0, 255, (*size, 3)).astype(np.uint8)
    for build in BANKS.values():
        features = FeatureBank(build()).compute(pad_to_cells(pixels))
        assert features.shape[1:] == (-(-size[0] // CELL_PX), -(-size[1] // CELL_PX))
        assert np.isfinite(features).all()


def test_scoring_side_by_side_changes_nothing() -> None:
    """One session used by four threads at once returns the same bits as alone."""
    bank = FeatureBank(build_part_bank())
    frames = [pad_to_cells(paint_board(seed)) for seed in range(4)]
    alone = [bank.compute(frame) for frame in frames]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(bank.compute, frames * 5))
    assert all(np.array_equal(one, alone[index % 4]) for index, one in enumerate(together))


def test_channels_mean_what_their_names_say() -> None:
    """Brightness raises luma alone; a vertical edge has energy along x and none along y."""
    bank = FeatureBank(build_part_bank())
    grey = {level: bank.compute(pad_to_cells(np.full((80, 80, 3), level, np.uint8)))[:, 10, 10] for level in (50, 101)}
    assert grey[101][0] - grey[50][0] == pytest.approx(51 / 255, abs=1e-5)
    assert np.allclose(grey[101][1:3], 0.0, atol=1e-5)
    edge = np.zeros((80, 80, 3), np.uint8)
    edge[:, 41:] = 255
    at_edge = bank.compute(pad_to_cells(edge))[:, 10, 10]
    assert at_edge[PART_CHANNELS.index("energy_x")] > 0.3
    assert at_edge[PART_CHANNELS.index("energy_y")] < 1e-3


def test_the_whitened_bank_equals_whitening_afterwards() -> None:
    """The mixing compiled into the graph is the one that was learned."""
    random = np.random.default_rng(2)
    count = len(PART_CHANNELS)
    whitening = Whitening(random.normal(size=(count, count)), random.normal(size=count))
    padded = pad_to_cells(paint_board(3))
    expected = whitening.apply(FeatureBank(build_part_bank()).compute(padded))
    assert np.allclose(FeatureBank(build_part_bank(whitening)).compute(padded), expected, atol=1e-3)


def test_a_mark_stands_out_alike_in_sun_and_shadow() -> None:
    """Half of the light is taken from a spot: its contrast is the same at grey level 200 and at 60."""
    bank = FeatureBank(build_contrast_bank())
    answers = []
    for level in (60.0, 200.0):
        grey = np.full((120, 160, 3), level, np.float32)
        grey[52:60, 72:80] *= 0.5
        answers.append(bank.compute(pad_to_cells(grey.astype(np.uint8))))
    assert np.allclose(answers[0].max(axis=(1, 2)), answers[1].max(axis=(1, 2)), rtol=0.15, atol=0.05)
    assert answers[1][:14].max() > 5.0
    assert answers[1][:, :8].max() < 0.05 and answers[1][14:].max() < 0.05
