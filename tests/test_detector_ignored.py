"""Places that are never judged: the mask as a person draws it, and as cells of the detector."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from inspector.detector.ignore_mask import leave_out_ignored, load_ignore_mask, reduce_to_cells
from inspector.errors import DatasetError, FitError
from inspector.geometry.tiles import Tile


def write_mask(path: Path, mask: NDArray[np.uint8]) -> Path:
    assert cv2.imwrite(str(path), mask)
    return path


# --- ignore mask ------------------------------------------------------------------------------------


def test_white_is_ignored_and_soft_edges_are_halved(tmp_path: Path) -> None:
    """Grey and colour files alike; the middle grey divides."""
    drawn = np.zeros((60, 80), np.uint8)
    drawn[10:20, 30:50], drawn[10:20, 50], drawn[10:20, 51] = 255, 200, 60
    mask = load_ignore_mask(write_mask(tmp_path / "grey.png", drawn), (80, 60))
    assert mask.shape == (60, 80) and mask.sum() == 10 * 21 and mask[15, 50] and not mask[15, 51]
    coloured = cv2.cvtColor(drawn, cv2.COLOR_GRAY2BGR)
    assert np.array_equal(load_ignore_mask(write_mask(tmp_path / "c.png", np.asarray(coloured)), (80, 60)), mask)


def test_unusable_masks_are_named(tmp_path: Path) -> None:
    """Another size, no image, nothing ignored, everything ignored."""
    black, white = np.zeros((60, 80), np.uint8), np.full((60, 80), 255, np.uint8)
    with pytest.raises(DatasetError, match=r"small\.png is 80x60 px, the frames are 160x120 px"):
        load_ignore_mask(write_mask(tmp_path / "small.png", white), (160, 120))
    with pytest.raises(DatasetError, match=r"black\.png has no white pixel"):
        load_ignore_mask(write_mask(tmp_path / "black.png", black), (80, 60))
    with pytest.raises(DatasetError, match=r"white\.png is white all over"):
        load_ignore_mask(write_mask(tmp_path / "white.png", white), (80, 60))
    (tmp_path / "text.png").write_text("no image")
    with pytest.raises(DatasetError, match=r"text\.png"):
        load_ignore_mask(tmp_path / "text.png", (80, 60))


@pytest.mark.parametrize("cell_px", [1, 4, 12])
@pytest.mark.parametrize("grow", [0, 1, 3])
def test_cells_agree_with_a_slow_reference(cell_px: int, grow: int) -> None:
    """A cell is ignored when any pixel of it, or of a cell within `grow` of it, is white; edges included."""
    mask = np.random.default_rng(cell_px + grow).random((50, 70)) > 0.995
    cells = reduce_to_cells(mask, cell_px, grow)
    rows, columns = -(-50 // cell_px), -(-70 // cell_px)
    assert cells.shape == (rows, columns)
    for row in range(rows):
        for column in range(columns):
            y0, x0 = max(0, row - grow) * cell_px, max(0, column - grow) * cell_px
            near = mask[y0 : (row + grow + 1) * cell_px, x0 : (column + grow + 1) * cell_px]
            assert cells[row, column] == near.any()


def test_the_window_of_a_part_loses_its_ignored_cells() -> None:
    """Only cells of the part and not under the mask are judged; when none is left that is an error."""
    part = np.ones((4, 5), np.bool_)
    part[0] = False
    ignored = np.zeros((10, 10), np.bool_)
    ignored[4, 3:5] = True
    judged = leave_out_ignored(part, Tile(3, 2, 4, 5), ignored)
    expected = part.copy()
    expected[1, 1:3] = False
    assert np.array_equal(judged, expected) and part[1].all()
    with pytest.raises(FitError, match="nothing is left to judge"):
        leave_out_ignored(part, Tile(3, 2, 4, 5), np.ones((10, 10), np.bool_))
